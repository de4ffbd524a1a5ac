"""Before the work: where files may go, and what of a study would fail after its trainings."""

from __future__ import annotations

import os
import time

import pytest

from sparring.commands import evaluate, metrics, rehearsal, report, study, train
from tests.command import call

OWN = """
[data]
name = "digits"
[model]
name = "mlp"
hidden = [8]
[threat]
name = "Linf"
eps = 0.1
[attack]
name = "PGD"
steps = 1
[method]
name = "AT"
[train]
epochs = 1
batch_size = 500
"""
STUDY = """
seeds = [0]
[runs.plain]
recipe = "own.toml"
[evaluations.weak]
suite = "quick"
n = 10
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(OWN)
    return tmp_path / "mine.toml"


def bad_targets(tmp_path) -> dict[str, str]:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    return {
        "device": "/dev/null",
        "pipe": str(tmp_path / "pipe"),
        "folder": str(tmp_path / "folder"),
        "link": str(tmp_path / "link"),
        "below a file": str(tmp_path / "file" / "out.json"),
        "long": "x" * 5000,
        "long folder": f"{'x' * 300}/out.json",
        "empty": "",
        "blank": " ",
        "nul": "a\0b",
        "escape": "a\x1b[2J",
        "turned": "\u202eabc",
        "root": "/",
        "above": "..",
    }


KINDS = [*("device", "pipe", "folder", "link", "below a file", "long", "long folder", "empty")]
KINDS += [*("blank", "nul", "escape", "turned", "root", "above")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_new_or_a_regular_file(kind, tmp_path):
    """At once, by every command that takes one, and nothing is touched."""
    target = bad_targets(tmp_path)[kind]
    for refuse in (
        lambda: rehearsal.new_file(target),
        lambda: evaluate.evaluate("nowhere", out=target),
        lambda: metrics.metrics("nowhere", ["ebd"], out=target),
        lambda: report.report([tmp_path / "nowhere"], out=target),
    ):
        with pytest.raises((ValueError, NotADirectoryError), match="out") as error:
            refuse()
        assert len(str(error.value)) < 600
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "kind", ["device", "pipe", "below a file", "long", "empty", "nul", "escape"]
)
def test_a_run_folder_is_new_or_a_folder(kind, tmp_path):
    target = bad_targets(tmp_path)[kind]
    with pytest.raises((ValueError, NotADirectoryError), match="out") as error:
        train.train("digits-standard", out=target)
    assert len(str(error.value)) < 600


def test_a_free_name_a_file_and_a_folder_are_taken(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert rehearsal.new_file(tmp_path / "file") == tmp_path / "file"
    assert rehearsal.new_file(tmp_path / "a" / "b.json") == tmp_path / "a" / "b.json"
    assert rehearsal.new_folder(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "digits-standard", "--out", "/dev/null"],
        ["evaluate", "nowhere", "--out", "/dev/null"],
        ["evaluate", "nowhere", "--robustbench", "/dev/null"],
        ["metrics", "nowhere", "--out", "x" * 5000],
        ["report", "nowhere", "--out", "/"],
        ["plane", "moons", "plane-trades", "--out", "/dev/null"],
        ["plane", "moons", "plane-trades", "--table", "/dev/null"],
        ["pseudo-label", "nowhere", "--out", " "],
        ["study", "mine.toml", "--report", "/dev/null"],
    ],
    ids=" ".join,
)
def test_the_command_line_refuses_it_in_one_line(argv, file, capsys):
    file.write_text(STUDY)
    out = call(*argv, capsys=capsys, code=2)
    assert out.count("\n") == 1
    assert len(out) < 700


NAMES = ["../x", "a/b", ".x", "", "x\x1b[2J", "x" * 101, "a:b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("table", ["runs.plain", "evaluations.weak", "metrics.far"])
def test_names_in_a_study_are_plain_file_names(name, table, file):
    quoted = name.replace("\x1b", "\\u001b")
    text = STUDY + '[metrics.far]\nnames = ["ebd"]\n'
    kind, _, old = table.partition(".")
    file.write_text(text.replace(f"[{kind}.{old}]", f'[{kind}."{quoted}"]'))
    with pytest.raises(ValueError, match="is not allowed: it must be a plain file name"):
        study.load(file)


def test_the_name_of_a_grid_is_part_of_a_file_name(file):
    file.write_text(STUDY.replace('"own.toml"', '"own.toml"\ngrid = { "/../x" = "method=AT" }'))
    with pytest.raises(ValueError, match=r"runs\.plain = 'plain-/../x' is not allowed"):
        study.load(file)
    odd = file.with_name("-x.toml")
    odd.write_text(STUDY)
    with pytest.raises(ValueError, match="study = '-x' is not allowed"):
        study.load(odd)


def test_a_grid_is_bounded_before_it_is_expanded(file):
    grid = ", ".join(f'a{k} = "train.epochs=1"' for k in range(30))
    file.write_text(STUDY.replace('"own.toml"', f'"own.toml"\ngrid = {{ {grid} }}'))
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"has 1073741824 jobs or more, and at most 1000 are"):
        study.load(file)
    assert time.perf_counter() - start < 2
    seeds = ", ".join(map(str, range(12)))
    file.write_text(STUDY.replace("seeds = [0]", f"seeds = [{seeds}]\njobs = 11"))
    with pytest.raises(ValueError, match=r"has 12 jobs or more, and at most 11 .* jobs = 12 at"):
        study.load(file)
    file.write_text(STUDY.replace("seeds = [0]", f"seeds = [{seeds}]\njobs = 12"))
    assert len(study.load(file).jobs) == 12


@pytest.mark.parametrize(
    "text",
    [
        STUDY.replace("seeds = [0]", "seeds = [0, 0]"),
        STUDY.replace('"own.toml"', '"own.toml"\ngrid = { b = "method=AT" }')
        + '[runs.plain-b]\nrecipe = "own.toml"\n',
    ],
    ids=["seeds", "grid"],
)
def test_two_jobs_of_one_name_are_refused(text, file):
    file.write_text(text)
    with pytest.raises(ValueError, match="is there twice at seed 0"):
        study.load(file)


LOADED = {  # what needs no data
    "train.epochs=0": "train.epochs = 0 is not allowed",
    "train.clip=-1": "train.clip = -1.0 is not allowed",
    "train.amp=float8": "train.amp = 'float8' is not allowed",
    "method=MRT": "did you mean 'MART'",
    "threat.eps=nan": "threat.eps = nan",
    "train.optimizer={name='SGD', lr=-1}": "-1.0",
    "train.optimizer={name='SGD', lr='x'}": "train.optimizer.lr = 'x' is not allowed",
    "train.schedule=[{path='lr', name='cosin'}]": "did you mean 'cosine'",
    "train.schedule=[{path='threat.ep', name='cosine'}]": "no 'ep'",
    "train.schedule=[{path='lr', name='cosine', warmup=-1}]": "schedule.warmup = -1.0",
}


@pytest.mark.parametrize("change", LOADED)
def test_a_mistake_in_a_cell_of_a_grid_is_found_when_it_is_read(change, file):
    file.write_text(STUDY.replace('"own.toml"', f'"own.toml"\ngrid = {{ b = "{change}" }}'))
    with pytest.raises(ValueError, match=r"runs\.plain-b: ") as error:
        study.load(file)
    assert LOADED[change] in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n = 10", "n = 0", r"n = 0 is not allowed"),
        ("n = 10", "n = 10\nsplit = 'tst'", "did you mean 'test'"),
        ("n = 10", "n = 10\nbatch_size = 0", "batch_size = 0 is not allowed"),
        ("n = 10", "n = 10\nprobes = ['x']", "x"),
    ],
)
def test_a_mistake_in_an_evaluation_is_found_when_it_is_read(old, new, message, file):
    file.write_text(STUDY.replace(old, new))
    with pytest.raises(ValueError, match=message):
        study.load(file)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("off = ['fashon-mnist']", "did you mean 'fashion-mnist'"),
        ("n = 0", "n = 0 is not allowed"),
        ("split = 'all'", "split = 'all' does not exist"),
        ("set = ['ebd.directions=0.5']", "directions = 0.5 is not allowed"),
    ],
)
def test_a_mistake_in_metrics_is_found_when_it_is_read(key, message, file):
    file.write_text(STUDY + f'[metrics.far]\nnames = ["ebd"]\n{key}\n')
    with pytest.raises(ValueError, match=message):
        study.load(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n = 10", "n = 10\neps = 8", r"evaluations\.weak.*eps = 8.0 is not allowed"),
        ("n = 10", "n = 10\ncertify = ['crwn']", "did you mean 'crown'"),
        ("n = 10", "n = 10\nset = ['evaluation.threat=Linv']", "did you mean 'Linf'"),
        ("n = 10", "n = 10\nset = ['data.name=digts']", "did you mean 'digits'"),
        ('suite = "quick"', 'suite = "bits"', "suite = 'bits' has no attack for Linf"),
        ('"own.toml"', '"own.toml"\nset = ["model.classes=3"]', "model.classes = 3 is not allowed"),
        ('"own.toml"', '"own.toml"\nset = ["data.val=5000"]', "val"),
    ],
)
def test_a_mistake_that_only_the_data_show_is_found_before_the_first_training(
    old, new, message, file, monkeypatch
):
    monkeypatch.setattr(train, "train", None)  # would fail
    file.write_text(STUDY.replace(old, new))
    plan = study.load(file)
    with pytest.raises(ValueError, match=message):
        study.run(plan)
    assert not (file.parent / "runs").exists()


@pytest.mark.parametrize("target", ["results/mine/weak/plain-seed0.json", "runs/mine/plain-seed0"])
def test_a_target_that_is_no_file_is_found_before_the_first_training(target, file, monkeypatch):
    monkeypatch.setattr(train, "train", None)
    path = file.parent / target
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    file.write_text(STUDY)
    with pytest.raises((ValueError, NotADirectoryError), match="plain-seed0"):
        study.run(study.load(file))
