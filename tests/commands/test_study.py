"""Studies: what is checked before, what is kept, what the table says."""

import json
from dataclasses import replace

import pytest

from sparring import reporting
from sparring.commands import study, study_jobs
from sparring.reporting.digits import decimals, fixed
from sparring.results.collapsed import SUFFIX
from tests.command import call

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
batch_size = 500
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
    assert [[n for n, _ in plan.tables_for(job, plan.evaluations)] for job in plan.jobs] == [
        ["weak", "val"],
        ["weak", "val"],
        ["weak"],
    ]


def test_an_evaluation_may_be_for_one_seed_of_a_run(file):
    file.write_text(TEXT.replace('only = ["plain"]', 'only = ["plain-seed1", "wide"]'))
    plan = study.load(file)
    made = [[n for n, _ in plan.tables_for(job, plan.evaluations)] for job in plan.jobs]
    assert made == [["weak"], ["weak", "val"], ["weak", "val"]]
    file.write_text(TEXT.replace('only = ["plain"]', 'only = ["plain-seed2"]'))
    with pytest.raises(ValueError, match=r"evaluations\.val\.only = 'plain-seed2' .* 'plain-seed"):
        study.load(file)


def test_a_grid_makes_every_combination(file):
    text = TEXT.replace("seeds = [1]", 'grid = { B = "method=TRADES", C = "train.batch_size=100" }')
    file.write_text(text.replace('only = ["plain"]', 'only = ["wide-B-C"]'))
    plan = study.load(file)
    wide = [job for job in plan.jobs if job.seed == 1 and job.run != "plain"]
    assert [job.run for job in wide] == ["wide", "wide-C", "wide-B", "wide-B-C"]
    assert wide[3].set[-3:] == ("method=TRADES", "train.batch_size=100", "recipe.seed=1")
    assert [n for n, _ in plan.tables_for(wide[3], plan.evaluations)] == ["weak", "val"]
    file.write_text(TEXT.replace("seeds = [1]", 'grid = { B = "method=TRADE" }'))
    with pytest.raises(ValueError, match="did you mean 'TRADES'"):
        study.load(file)


def test_each_value_makes_a_run(file):
    values = 'values = { "objective.natural" = [0.1, 1e-3], method = ["AT", "MART"] }'
    grid = 'grid = { small = "train.batch_size=100" }'
    text = TEXT.replace("seeds = [1]", f'seeds = [1]\nlabel = "Wide"\n{values}\n{grid}')
    file.write_text(text.replace('only = ["plain"]', 'only = ["wide-natural-0.1-method-MART"]'))
    plan = study.load(file)
    wide = [job for job in plan.jobs if job.run != "plain"]
    assert [job.run for job in wide] == [
        f"wide-natural-{natural}-method-{method}{small}"
        for natural in ("0.1", "0.001")
        for method in ("AT", "MART")
        for small in ("", "-small")
    ]
    assert wide[2].label == "Wide (natural 0.1, method MART)"
    assert wide[7].label == "Wide (natural 0.001, method MART, small)"
    changes = ("objective.natural=0.001", "method=MART", "train.batch_size=100", "recipe.seed=1")
    assert wide[7].set[-4:] == changes
    file.write_text(TEXT.replace("seeds = [1]", 'values = { "threat.eps" = ["8/255"] }'))
    assert study.load(file).jobs[-1].run == "wide-eps-8-255"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ('{ "train.epochs" = [] }', r"runs\.wide\.values\.train\.epochs = \[\] .* one at least"),
        ('{ "train.epochs" = 3 }', r"runs\.wide\.values\.train\.epochs = 3 .* a list"),
        ('{ "train.epochs" = [1, 1] }', r"a list of different values"),
        ('{ "train.epochs" = [{ a = 1 }] }', r"a list of values"),
        ('{ "train.epoch" = [1, 2] }', r"did you mean 'train.epochs'"),
        ('{ "train.epochs" = [1, 0] }', r"runs\.wide-epochs-0"),
        ('{ "../x" = [1, 2] }', r"runs\.wide"),
        ('{ method = ["MART", "a/b"] }', r"plain file name"),
        ("{ train.epochs = [1, 2] }", r"runs\.wide\.values\.train .* a list"),
        ('{ "recipe.seed" = [0, 1] }', r"recipe\.seed = \[0, 1\] .* replaced by seeds = "),
    ],
)
def test_a_slip_in_values(file, values, message):
    file.write_text(TEXT.replace("[runs.wide]\n", f"[runs.wide]\nvalues = {values}\n"))
    with pytest.raises(ValueError, match=message):
        study.load(file)


def test_values_count_before_they_are_expanded(file):
    many = ", ".join(f'"a.b{k}" = [1, 2, 3]' for k in range(40))
    file.write_text(TEXT.replace("[runs.wide]\n", f"[runs.wide]\nvalues = {{ {many} }}\n"))
    with pytest.raises(ValueError, match="at most 1000 are allowed"):
        study.load(file)


def test_a_study_has_a_title_a_question_and_readable_names(file):
    assert study.load(file).title == "Study both"
    assert study.load(file).labels == {"plain": "plain", "wide": "wide"}
    grid = 'label = "Wide net"\ngrid = { two = "attack.steps=2", m = "method=MART" }\n'
    text = TEXT.replace("[runs.wide]\n", "[runs.wide]\n" + grid + 'labels = { two = "2 steps" }\n')
    file.write_text('title = "Width"\nquestion = "Does width help?"\n' + text)
    plan = study.load(file)
    assert (plan.title, plan.question) == ("Width", "Does width help?")
    assert plan.labels == {
        "plain": "plain",
        "wide": "Wide net",
        "wide-two": "Wide net (2 steps)",
        "wide-m": "Wide net (m)",
        "wide-two-m": "Wide net (2 steps, m)",
    }


def test_work_is_done_once_and_goes_on(file, tmp_path):
    plan, places = study.load(file), {"runs": tmp_path / "r", "results": tmp_path / "out"}
    first = study.run(plan, only=["plain-seed0"], **places)
    assert {name: [r.name for r in rs] for name, rs in first.results.items()} == {
        "weak": ["plain-seed0"],
        "val": ["plain-seed0"],
    }
    weights = tmp_path / "r" / "plain-seed0" / "best.safetensors"
    result = tmp_path / "out" / "weak" / "plain-seed0.json"
    before = weights.stat().st_mtime_ns, result.stat().st_mtime_ns
    found = study.run(plan, **places).results
    assert (weights.stat().st_mtime_ns, result.stat().st_mtime_ns) == before
    assert [r.name for r in found["weak"]] == ["plain-seed0", "plain-seed1", "wide-seed1"]
    assert [r.n for r in found["val"]] == [10, 10]
    assert json.loads(result.read_text())["recipe"]["recipe"]["seed"] == 0
    file.write_text(TEXT.replace('"train.epochs=1"', '"train.epochs=1", "train.compile=true"'))
    again = study.run(study.load(file), only=["plain-seed0"], **places)
    assert again.results["weak"] == found["weak"][:1]
    file.write_text(TEXT.replace("train.epochs=1", "train.epochs=2"))
    with pytest.raises(ValueError, match=r"plain-seed0\.json is of a run whose \[train\] is not"):
        study.run(study.load(file), only=["plain-seed0"], **places)
    weights.unlink()
    result.unlink()
    with pytest.raises(study.FailedRuns, match=r"1 of 1 runs failed.*\nplain-seed0: .*best"):
        study.run(plan, only=["plain-seed0"], **places)


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("risk=KL", "risk"),
        ("attack.steps=3", "attack"),
        ("threat.eps=0.05", "threat"),
        ("data.limit=600", "data"),
        ("data.label_noise=0.1", "data"),
        ("model.hidden=[9]", "model"),
        ("weights.ema.decay=0.9", "weights"),
    ],
)
@pytest.mark.parametrize("evaluated", [True, False], ids=["evaluated", "trained"])
def test_work_of_another_version_of_the_study_is_not_taken_for_this_one(
    file, tmp_path, monkeypatch, change, table, evaluated
):
    """Neither its results, nor a run that waits for its evaluation."""
    places = {"runs": tmp_path / "r", "results": tmp_path / "out", "only": ["plain-seed0"]}
    if not evaluated:
        monkeypatch.setattr(study_jobs.evaluate, "evaluate", lambda *args, **options: None)
    study.run(study.load(file), **places)
    assert (tmp_path / "out" / "weak" / "plain-seed0.json").is_file() == evaluated
    file.write_text(TEXT.replace('=[8]"', f'=[8]", "{change}"'))
    with pytest.raises(ValueError, match=rf"plain-seed0.* is of a run whose \[{table}\] is not"):
        study.run(study.load(file), **places)


def test_an_infinite_number_is_no_other_setting(file, tmp_path):
    """A result writes it as null, a recipe as inf."""
    ball = 'name = "Linf"\neps = 0.1'
    cost = 'name = "Transport"\nscale = 0.1\np = inf'
    judged = '[evaluation]\nthreat = { name = "Linf" }\neps = [0.1]\n[validation]\nrows = 20\n'
    attack = 'attack = { name = "PGD", steps = 1 }\nthreat = { name = "Linf", eps = 0.1 }\n'
    (tmp_path / "own.toml").write_text(OWN.replace(ball, cost) + judged + attack)
    places = {"runs": tmp_path / "r", "results": tmp_path / "out", "only": ["plain-seed0"]}
    first, again = (study.run(study.load(file), **places) for _ in range(2))
    assert first.results["weak"] == again.results["weak"]
    (tmp_path / "out" / "weak" / "plain-seed0.json").unlink()
    assert len(study.run(study.load(file), **places).results["weak"]) == 1


def panel(plan, found):
    """A row per run, a point per seed, an interval over samples where there is one seed."""
    (weak, *_) = reporting.study_page(plan, found).panels
    points = {row.run: row.points for row in weak.rows}
    robust = [r.robust for r in found["weak"]]
    # one epoch of so small a network is at chance, which the names say
    assert points == {
        "plain" + SUFFIX: [i.accuracy for i in robust[:2]],
        "wide" + SUFFIX: [robust[2].accuracy],
    }
    (wide,) = [row for row in weak.rows if row.run == "wide" + SUFFIX]
    assert (wide.low, wide.high) == (robust[2].low, robust[2].high)


def test_table_and_picture_have_a_row_a_run(file, tmp_path):
    file.write_text(TEXT.replace("[evaluations.val]", "[evaluations.val]\neps = [0.05, 0.1]"))
    plan = study.load(file)
    found = study.run(plan, runs=tmp_path / "r", results=tmp_path / "out").results
    head, _, plain, wide = reporting.study_markdown(found, {}).splitlines()
    assert head == "| run | clean | weak | val 0.05 | val 0.1 | minutes |"
    assert plain.startswith("| `plain, did not learn` | ")
    assert plain.count("± ") == 4
    assert plain.count("(2)") == 4
    accuracy = 100 * found["weak"][2].robust.accuracy
    assert f"{accuracy:.2f} [" in wide
    assert wide.count("| – |") == 1
    assert "| – | – |" in wide
    assert study.collect(plan, results=tmp_path / "out").results == found
    assert study.collect(plan, results=tmp_path / "none").results == {"weak": [], "val": []}
    panel(plan, found)
    plain = [replace(r, verdict="look") for r in found["weak"][:2]]
    assert "†" not in reporting.study_markdown({"weak": plain}, {})
    plain[1] = replace(plain[1], verdict="not sound")
    assert reporting.study_markdown({"weak": plain}, {}).count("† ± ") == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "seed = [0, 1]", "'study.seed' does not exist"),
        ("seeds = [1]", 'seeds = ["a"]', r"runs\.wide\.seeds\.0"),
        ("n = 10", "m = 10", r"'evaluations\.val\.m' does not exist"),
        ('only = ["plain"]', 'only = ["plane"]', "did you mean 'plain'"),
        ("attack.steps=2", "attack.stps=2", r"runs\.wide\.key = 'attack\.stps' does not exist"),
        ('recipe = "own.toml"\nset', 'recipe = "mnist-mrt"\nset', "did you mean 'mnist-mart'"),
        ("[runs.plain]", "[runs", "is not TOML"),
        ("n = 10", "n = 10\n[metrics.val]", r"metrics\.val: there are evaluations of this name"),
        ("n = 10", 'n = 10\n[metrics.far]\nnames = ["edb"]', r"metrics\.far\.metric = 'edb'"),
        ('"plain"]', '"plain"]\n[metrics.far]\nonly = ["plane"]', r"metrics\.far\.only = 'plane'"),
        (
            "seeds = [0, 1]",
            'title = "a\\u001b"',
            "title = .*one line of at most 300 pr",
        ),
        ("seeds = [1]", 'label = "a\\nb"', r"runs\.wide\.label = .*one line"),
        ("seeds = [1]", 'labels = { a = "b" }', r"runs\.wide\.labels = 'a'"),
    ],
)
def test_mistakes_are_told_with_their_path(file, old, new, message):
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=message):
        study.load(file)


def test_a_study_without_runs_or_of_unknown_ones_is_told(file):
    with pytest.raises(ValueError, match="did you mean 'wide'"):
        study.run(study.load(file), only=["wid"])
    file.write_text("seeds = [0]\n")
    with pytest.raises(ValueError, match="runs is missing"):
        study.load(file)


def test_the_command_prints_the_table_and_writes_the_page(file, tmp_path, capsys):
    file.write_text(TEXT + FAR)
    places = ["--runs", tmp_path / "r", "--results", tmp_path / "out"]
    page = tmp_path / "pages" / "both.html"
    chosen = ["--only", "plain-seed0", "--report", page]
    message = call("study", file, *places, *chosen, capsys=capsys)
    assert "| run | clean | weak | val | minutes |" in message
    assert str(page) in message
    html = page.read_text(encoding="utf-8")
    for shown in (
        "Study both",
        "Under weak at Linf eps 0.1, plain, did not learn withstands",
        "plain-seed0",
        "loss-sensitivity",
    ):
        assert shown in html


FAR = """
[metrics.far]
names = ["loss-sensitivity", "entropy"]
off = ["digits"]
n = 20
only = ["plain"]
"""


def test_metrics_are_measured_once_and_shown(file, tmp_path):
    file.write_text(TEXT.replace("seeds = [0, 1]", "seeds = [0]", 1) + FAR)
    plan, places = study.load(file), {"runs": tmp_path / "r", "results": tmp_path / "out"}
    found = study.run(plan, only=["plain"], **places)
    (measured,) = found.metric_reports["far"]
    assert measured.n == 20
    assert {row.name for row in measured.rows} == {"loss-sensitivity", "entropy"}
    (tmp_path / "r").rename(tmp_path / "gone")
    assert study.run(plan, only=["plain"], **places) == found
    _, metrics = reporting.study_markdown(found.results, found.metric_reports).split("\n\n")
    head, _, line = metrics.splitlines()
    assert head.startswith("| run | loss-sensitivity ↓ | entropy ↑ |")
    value = measured.rows[0].value
    assert line.startswith(f"| `plain, did not learn` | {fixed(value, decimals([value]))} [")
    (tmp_path / "gone").rename(tmp_path / "r")
    file.write_text(file.read_text().replace('"entropy"]', '"entropy", "max-softmax"]'))
    more = study.run(study.load(file), only=["plain"], **places).metric_reports["far"][0]
    assert more.rows[: len(measured.rows)] == measured.rows
    assert {row.name for row in more.rows} == {"loss-sensitivity", "entropy", "max-softmax"}
    there = tmp_path / "out" / "far" / "plain-seed0.json"
    table = {"names": ["entropy"], "off": ["digits"]}
    assert study_jobs.are_complete(there, table)
    assert not study_jobs.are_complete(there, {**table, "off": ["mnist"]})


PSEUDO = """
seeds = [3]
[runs.teacher]
recipe = "own.toml"
set = ["train.epochs=1", "data.labels=100", "method=Standard"]
[runs.student]
recipe = "own.toml"
set = ["train.epochs=1", "data.labels=100", "data.mix.0.name=Unlabelled"]
pseudo = { "data.mix.0.labels" = "teacher" }
[evaluations.weak]
n = 10
"""


def test_a_run_is_taught_by_another_of_its_seed(file, tmp_path):
    file.write_text(PSEUDO)
    own = OWN.replace('name = "digits"', 'name = "digits"\nmix = [{ name = "Unlabelled" }]')
    (tmp_path / "own.toml").write_text(own)
    plan, places = study.load(file), {"runs": tmp_path / "r", "results": tmp_path / "out"}
    found = study.run(plan, only=["student"], **places)
    assert [r.name for r in found.results["weak"]] == ["student-seed3"]
    labels = tmp_path / "r" / "teacher-seed3" / "pseudo-labels.npz"
    mix = found.results["weak"][0].recipe["data"]["mix"]
    assert labels.is_file()
    assert mix[0]["labels"] == str(labels)
    (tmp_path / "r" / "teacher-seed3").rename(tmp_path / "gone")
    (tmp_path / "out" / "weak" / "student-seed3.json").unlink()
    study.run(plan, only=["student"], **places)  # it is trained: its teacher is not missed
    assert not labels.exists()
    for old, new, message in (
        ("0.labels", "0.label", r"runs\.student\.key = 'data\.mix\.0\.label' does not exist"),
        (
            '= "teacher" }',
            '= "teach" }',
            r"'teach-seed3' does not exist; did you mean 'teacher-seed3'",
        ),
        ('= "teacher" }', '= "student" }', "'student-seed3' does not exist"),  # not its own
    ):
        file.write_text(PSEUDO.replace(old, new))
        with pytest.raises(ValueError, match=message):
            study.load(file)
