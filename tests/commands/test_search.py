"""A search: the same after a kill, blind to the test split, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparring.commands import search as module
from sparring.commands.search import SearchInterrupted, search
from sparring.commands.train import train
from sparring.config.recipe import load_recipe
from sparring.data import Source
from sparring.results.trials import FAILED, PRUNED, SearchRecord
from sparring.runtime.lock import Locked, locked

TABLES = {
    "recipe": {"name": "tiny"},
    "data": {"name": "moons", "limit": 60, "val": 20, "test": 40},
    "model": {"name": "mlp", "hidden": [8]},
    "threat": {"name": "Linf", "eps": 0.05},
    "attack": {"name": "PGD", "steps": 2, "size": 0.02},
    "method": {"name": "TRADES", "beta": 3.0},
    "train": {"epochs": 2, "batch_size": 20},
    "validation": {"attack": {"name": "PGD", "steps": 2}},
}
SPACE = ["method.beta=1..10:log", "train.optimizer.lr=0.001..0.3:log"]


def tiny(**train_table):
    return load_recipe({**TABLES, "train": {**TABLES["train"], **train_table}})


def results(record: SearchRecord) -> list:
    """What must not depend on the clock."""
    return [replace(trial, seconds=0.0) for trial in record.trials]


class Untouchable:
    """A test split that only says how many rows it has, and which: no sample, no label."""

    def __init__(self, split):
        self.index, self._count = split.index, len(split)

    def __len__(self):
        return self._count


def test_a_search_never_reads_the_test_split(tmp_path, monkeypatch):
    read = module.Recipe.source
    blind = lambda recipe: replace(read(recipe), test=Untouchable(read(recipe).test))  # noqa: E731
    monkeypatch.setattr(module.Recipe, "source", blind)
    with pytest.raises(AttributeError):
        _ = tiny().source().test.x
    done = search(tiny(), SPACE, trials=2, out=tmp_path)
    assert [trial.state for trial in done.record.trials] == ["complete"] * 2


def test_what_a_search_leaves(tmp_path, capsys):
    done = search(tiny(), SPACE, trials=3, out=tmp_path / "s", progress=False)
    assert capsys.readouterr() == ("", "")
    best = done.best
    assert best.robust == max(trial.robust for trial in done.record.trials)
    recipe = load_recipe(done.recipe)
    assert recipe.name == "tiny-best"
    assert recipe.tables["method"]["beta"] == best.parameters["method.beta"]
    run = train(done.recipe, out=tmp_path / "best")
    logs = [path / "log.jsonl" for path in (run, tmp_path / "s" / f"trial-{best.number:03d}")]
    first, again = (
        [json.loads(text)["robust"] for text in log.read_text().splitlines()] for log in logs
    )
    assert first == again  # the best recipe trains what the trial has trained
    page = done.page.read_text()
    assert f"Trial {best.number} has the best robust accuracy" in page
    assert "train.optimizer.lr" in page
    assert SearchRecord.load(tmp_path / "s" / "search.json") == done.record


def test_a_search_that_goes_on_equals_one_that_was_not_interrupted(tmp_path):
    whole = search(tiny(), SPACE, trials=4, out=tmp_path / "whole")
    search(tiny(), SPACE, trials=2, out=tmp_path / "parts")
    parts = search(tiny(), SPACE, trials=4, out=tmp_path / "parts")
    assert results(parts.record) == results(whole.record)
    other = search(tiny(), SPACE, trials=1, out=tmp_path / "other", seed=1)
    assert other.record.trials[0].parameters != whole.record.trials[0].parameters


def test_ctrl_c_keeps_the_trials_and_the_epochs(tmp_path, monkeypatch):
    whole = search(tiny(), SPACE, trials=3, out=tmp_path / "whole")
    follow, count = module.train.epochs, []

    def interrupted(*args, **options):
        for epoch in follow(*args, **options):
            count.append(epoch)
            if len(count) == 4:  # after the last epoch of the second trial
                raise KeyboardInterrupt
            yield epoch

    monkeypatch.setattr(module.train, "epochs", interrupted)
    with pytest.raises(SearchInterrupted) as stop:
        search(tiny(), SPACE, trials=3, out=tmp_path / "s")
    assert stop.value.out == tmp_path / "s"
    assert len(SearchRecord.load(tmp_path / "s" / "search.json").trials) == 1
    monkeypatch.setattr(module.train, "epochs", follow)
    assert results(search(tiny(), SPACE, trials=3, out=tmp_path / "s").record) == results(
        whole.record
    )


def test_trials_that_fall_behind_end_early(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMPARED", 1)
    space = {"train.optimizer.lr": [0.1, 1e-9]}
    done = search(tiny(epochs=4), space, trials=6, out=tmp_path)
    pruned = [trial for trial in done.record.trials if trial.state == PRUNED]
    assert pruned
    assert all(t.parameters["train.optimizer.lr"] == "1e-09" and t.epochs < 4 for t in pruned)
    kept = search(tiny(epochs=4), space, trials=6, out=tmp_path / "kept", prune=False)
    assert all(trial.epochs == 4 for trial in kept.record.trials)


@pytest.mark.parametrize(
    ("fidelity", "space", "expected", "least"),
    [
        ([], {}, {}, 13),
        (["train.epochs=12"], {}, {}, 4),
        (["train.epochs=3"], {}, {}, 2),
        ([], {"train.epochs": "18..19"}, {}, 6),
        (["train.epochs=12"], {"train.epochs": "18..19"}, {}, 6),
        (["train.passes=99"], {}, {"epochs": 24}, 8),  # the log says how many there will be
    ],
)
def test_a_trial_ends_after_a_third_of_its_own_epochs(
    tmp_path, monkeypatch, fidelity, space, expected, least
):
    def epochs(recipe, run, *args, **options):
        facts = {"robust": float(run.name == "trial-000"), "clean": 1.0} | expected
        facts |= {"seconds": 1.0, "val_seconds": 0.0}
        for number in range(1, 1 + expected.get("epochs", recipe.tables["train"]["epochs"])):
            row = {"epoch": number, **facts}
            yield SimpleNamespace(number=number, row=lambda row=row: row)

    monkeypatch.setattr(module, "COMPARED", 1)
    monkeypatch.setattr(module.train, "epochs", epochs)
    space = {"method.beta": "1..10", **space}
    first, second = search(
        tiny(epochs=40), space, trials=2, out=tmp_path, fidelity=fidelity
    ).record.trials
    assert (first.state, second.state) == ("complete", PRUNED)
    assert second.epochs == least


def test_a_trial_that_fails_does_not_end_the_search(tmp_path):
    space = {"train.optimizer.lr": [0.01, 1e30], "method.beta": "1..2"}
    done = search(tiny(), space, trials=5, out=tmp_path)
    failed = [trial for trial in done.record.trials if trial.state == FAILED]
    assert failed
    assert all("NonFiniteLoss" in trial.reason for trial in failed)
    assert done.best.parameters["train.optimizer.lr"] == "0.01"
    assert "Trials that failed" in done.page.read_text()


def test_a_search_without_hope_ends(tmp_path):
    with pytest.raises(ValueError, match="the first 3 trials failed, the last because"):
        search(tiny(), {"train.optimizer.lr": [1e30, 1e31]}, trials=9, out=tmp_path)


def test_fidelity_is_of_the_trials_alone(tmp_path):
    done = search(tiny(), SPACE, trials=2, out=tmp_path, fidelity=["train.epochs=1"])
    assert [trial.epochs for trial in done.record.trials] == [1, 1]
    assert load_recipe(done.recipe).tables["train"]["epochs"] == 2


def test_tables_are_fidelity_and_choices_too(tmp_path):
    tables = ['attack={name="FGSM"}', 'data.augment=[{name = "GaussianNoise", std = 0.1}]']
    space = {"method": [{"name": "MART", "beta": 2.0}, "AT"]}
    done = search(tiny(), space, trials=3, out=tmp_path, fidelity=tables)
    assert {trial.state for trial in done.record.trials} == {"complete"}
    methods = [trial.parameters["method"] for trial in done.record.trials]
    assert set(methods) <= {'{"name" = "MART", "beta" = 2.0}', '"AT"'}
    for trial, method in enumerate(methods):
        of_trial = load_recipe(tmp_path / f"trial-{trial:03d}").tables
        assert of_trial["attack"]["name"] == "FGSM"
        assert [table["std"] for table in of_trial["data"]["augment"]] == [0.1]
        assert of_trial["method"].get("beta") == (2.0 if "MART" in method else None)
    again = search(tiny(), space, trials=3, out=tmp_path, fidelity=tables)
    assert again.record == done.record


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"space": ["method.beta=1..9:log", SPACE[1]]}, "another space"),
        ({"seed": 1}, r"another seed \(0, and 1 now\)"),
        ({"recipe": tiny(epochs=3)}, "another recipe"),
        ({"fidelity": ["train.epochs=1"]}, "another fidelity"),
    ],
)
def test_a_folder_keeps_one_search(tmp_path, options, told):
    search(tiny(), SPACE, trials=1, out=tmp_path)
    before = (tmp_path / "search.json").read_bytes()
    arguments = {"recipe": tiny(), "space": SPACE, **options}
    with pytest.raises(ValueError, match=told):
        search(arguments.pop("recipe"), arguments.pop("space"), trials=2, out=tmp_path, **arguments)
    assert (tmp_path / "search.json").read_bytes() == before


def test_mistakes_are_told_before_anything_is_written(tmp_path, monkeypatch):
    out = tmp_path / "s"
    with pytest.raises(ValueError, match=r"did you mean 'method.beta'"):
        search(tiny(), ["method.bta=1..2"], out=out)
    with pytest.raises(ValueError, match="trials = 0 is not allowed"):
        search(tiny(), SPACE, trials=0, out=out)
    plain = load_recipe({**TABLES, "validation": {}})
    with pytest.raises(ValueError, match=r"validation.attack is missing in tiny"):
        search(plain, SPACE, out=out)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"sparring search needs the package optuna: .*\[search\]"):
        search(tiny(), SPACE, out=out)
    assert not out.exists()


def test_two_searches_in_a_folder_are_refused(tmp_path):
    with locked(tmp_path / ".lock", "searching"), pytest.raises(Locked, match="searching"):
        search(tiny(), SPACE, trials=1, out=tmp_path)


def test_a_trial_is_no_link_to_another_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "trial-001").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"trial-001 is a symbolic link"):
        search(tiny(), SPACE, trials=2, out=tmp_path / "s")
    assert not [*(tmp_path / "elsewhere").iterdir()]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 2, "name": 3}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(ValueError, match=r"search\.json"):
        search(tiny(), SPACE, trials=1, out=tmp_path)


CODE = """
import sys, warnings
warnings.simplefilter("error")
from tests.commands.test_search import SPACE, tiny
from sparring.commands.search import search
search(tiny(epochs=3, save_every=1), SPACE, trials=12, out=sys.argv[1])
"""


@pytest.mark.slow
def test_12_trials_with_kills_equal_12_without(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", CODE, str(out)], env=environment)

    assert start(tmp_path / "whole").wait() == 0
    whole = SearchRecord.load(tmp_path / "whole" / "search.json")
    assert len(whole.trials) == 12
    killed = tmp_path / "killed"
    for wanted in (1, 4, 9):  # trials that are begun when the process dies
        process = start(killed)
        while not (killed / f"trial-{wanted:03d}" / "log.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(killed).wait() == 0
    record = SearchRecord.load(killed / "search.json")
    assert results(record) == results(whole)
    weights = [
        (p / "trial-009" / "best.safetensors").read_bytes() for p in (killed, tmp_path / "whole")
    ]
    assert weights[0] == weights[1]


def test_the_source_of_the_trials_has_no_test_rows():
    sources = module._Sources()
    source: Source = sources(tiny())
    assert len(source.test) == 0
    assert (source.shape, len(source.val)) == ((2,), 20)
