"""Studies: what is checked before, what is kept, what the table says."""

import json

import pytest

from sparring import study

TEXT = """
seeds = [0, 1]
set = ["train.epochs=1", "model.hidden=[8]"]

[runs.plain]
recipe = "own.toml"

[runs.wide]
recipe = "own.toml"
set = ["attack.steps=2"]
seeds = [1]

[evaluations.weak]
suite = "quick"
n = 20

[evaluations.val]
split = "val"
suite = "quick"
n = 10
only = ["plain"]
"""
OWN = """
[data]
name = "digits"
[model]
name = "mlp"
[threat]
name = "Linf"
eps = 0.1
[attack]
name = "PGD"
steps = 1
size = 0.1
[method]
name = "AT"
[train]
epochs = 3
batch = 500
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    path = tmp_path / "both.toml"
    path.write_text(TEXT)
    return path


def test_jobs_are_checked_and_go_seed_by_seed(file):
    plan = study.load(file)
    assert plan.name == "both"
    assert [job.name for job in plan.jobs] == ["plain-seed0", "plain-seed1", "wide-seed1"]
    assert [[n for n, _ in plan.measures(job)] for job in plan.jobs] == [
        ["weak", "val"],
        ["weak", "val"],
        ["weak"],
    ]


def test_a_grid_makes_every_combination(file):
    text = TEXT.replace("seeds = [1]", 'grid = { B = "method=TRADES", C = "train.batch=100" }')
    file.write_text(text.replace('only = ["plain"]', 'only = ["wide-B-C"]'))
    plan = study.load(file)
    wide = [job for job in plan.jobs if job.seed == 1 and job.run != "plain"]
    assert [job.run for job in wide] == ["wide", "wide-C", "wide-B", "wide-B-C"]
    assert wide[3].set[-3:] == ("method=TRADES", "train.batch=100", "recipe.seed=1")
    assert [n for n, _ in plan.measures(wide[3])] == ["weak", "val"]
    file.write_text(TEXT.replace("seeds = [1]", 'grid = { B = "method=TRADE" }'))
    with pytest.raises(ValueError, match="did you mean 'TRADES'"):
        study.load(file)


def test_work_is_done_once_and_goes_on(file, tmp_path):
    plan, places = study.load(file), {"runs": tmp_path / "r", "results": tmp_path / "out"}
    first = study.work(plan, only=["plain-seed0"], **places)
    assert {name: [r.name for r in rs] for name, rs in first.items()} == {
        "weak": ["plain-seed0"],
        "val": ["plain-seed0"],
    }
    weights = tmp_path / "r" / "plain-seed0" / "best.safetensors"
    result = tmp_path / "out" / "weak" / "plain-seed0.json"
    before = weights.stat().st_mtime_ns, result.stat().st_mtime_ns
    found = study.work(plan, **places)
    assert (weights.stat().st_mtime_ns, result.stat().st_mtime_ns) == before
    assert [r.name for r in found["weak"]] == ["plain-seed0", "plain-seed1", "wide-seed1"]
    assert [r.n for r in found["val"]] == [10, 10]
    assert json.loads(result.read_text())["recipe"]["recipe"]["seed"] == 0
    file.write_text(TEXT.replace('"train.epochs=1"', '"train.epochs=1", "train.compile=true"'))
    assert study.work(study.load(file), only=["plain-seed0"], **places)["weak"] == found["weak"][:1]
    file.write_text(TEXT.replace("train.epochs=1", "train.epochs=2"))
    with pytest.raises(ValueError, match=r"plain-seed0\.json is of a run whose \[train\] is not"):
        study.work(study.load(file), only=["plain-seed0"], **places)
    weights.unlink()
    result.unlink()
    with pytest.raises(FileNotFoundError):
        study.work(plan, only=["plain-seed0"], **places)


def test_the_table_has_a_row_a_run_and_a_column_an_evaluation(file, tmp_path):
    found = study.work(study.load(file), runs=tmp_path / "r", results=tmp_path / "out")
    head, _, plain, wide = study.table(found).splitlines()
    assert head == "| run | clean | weak | val | minutes |"
    assert plain.startswith("| `plain` | ")
    assert plain.count("± ") == 3
    assert plain.count("(2)") == 3
    accuracy = 100 * found["weak"][2].robust.accuracy
    assert f"{accuracy:.2f} [" in wide
    assert "| – |" in wide


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = [0, 1]", "seed = [0, 1]", "'study.seed' does not exist"),
        ("seeds = [1]", 'seeds = ["a"]', r"runs\.wide\.seeds\.0"),
        ("n = 10", "m = 10", r"'evaluations\.val\.m' does not exist"),
        ('only = ["plain"]', 'only = ["plane"]', "did you mean 'plain'"),
        ("attack.steps=2", "attack.stps=2", r"runs\.wide\.key = 'attack\.stps' does not exist"),
        ('recipe = "own.toml"\nset', 'recipe = "mnist-mrt"\nset', "did you mean 'mnist-mart'"),
        ("[runs.plain]", "[runs", "is not TOML"),
    ],
)
def test_mistakes_are_told_with_their_path(file, old, new, said):
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=said):
        study.load(file)


def test_a_study_without_runs_or_of_unknown_ones_is_told(file):
    with pytest.raises(ValueError, match="did you mean 'wide'"):
        study.work(study.load(file), only=["wid"])
    file.write_text("seeds = [0]\n")
    with pytest.raises(ValueError, match="runs is missing"):
        study.load(file)
