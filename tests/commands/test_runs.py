"""The list of runs: states, best epochs, results; and folders that are damaged or a stranger's."""

from __future__ import annotations

import json
import os
import platform

import pytest
import torch

from sparring.commands.runs import runs
from sparring.evaluation import evaluate
from tests.commands.folders import fake_run

SHORT = ["train.epochs=3"]


def test_states_and_best_epochs(tmp_path):
    fake_run(tmp_path / "done", done=3, changes=SHORT)
    fake_run(tmp_path / "study" / "stopped-seed0", done=2, changes=SHORT)
    fake_run(tmp_path / "new", changes=SHORT)
    busy = fake_run(tmp_path / "busy", done=1, changes=SHORT)
    owner = {"process": os.getpid(), "machine": platform.node(), "doing": "training", "since": ""}
    (busy / ".lock").write_text(json.dumps(owner))
    (tmp_path / "empty").mkdir()
    rows = {row.run: row for row in runs(tmp_path)}
    assert {name: row.state for name, row in rows.items()} == {
        "busy": "training now",
        "done": "finished",
        "new": "interrupted before an epoch",
        "study/stopped-seed0": "interrupted at epoch 2",
    }
    done = rows["done"]
    assert (done.recipe, done.epochs, done.best) == (
        "digits-mart",
        "3 of 3",
        "62.5 robust (1)",
    )
    assert (done.results, rows["new"].results) == ("never evaluated", "")
    assert [row.path for row in runs(tmp_path / "done")] == [tmp_path / "done"]


def test_a_run_by_the_clock_has_the_epochs_that_its_log_expects(tmp_path):
    changes = ["train.seconds=60", *SHORT]
    for name, expected in (("done", 4), ("stopped", 9), ("early", None)):
        run = fake_run(tmp_path / name, done=4, changes=changes)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        rows[-1] |= {} if expected is None else {"epochs": expected}
        (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = {row.run: (row.state, row.epochs) for row in runs(tmp_path)}
    assert rows == {
        "done": ("finished", "4 of 4"),
        "stopped": ("interrupted at epoch 4", "4 of 9"),
        "early": ("interrupted at epoch 4", "4 of ?"),
    }


def test_results_have_their_headline(tmp_path):
    run = fake_run(tmp_path / "run", done=1)
    x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    (run / "results").mkdir()
    file = run / "results" / "quick-test.json"
    evaluate(lambda x: x, (x, y), "Linf", eps=[0.2], progress=False, out=file)
    (run / "results" / "cut.json").write_text('{"schema"')
    (row,) = runs(tmp_path)
    assert row.results == "quick 50.0 at 0.2"
    assert row.note == "cut.json is damaged"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: (run / "recipe.toml").write_text("a = ["),
        lambda run: (run / "recipe.toml").write_bytes(b"\xff\xfe"),
        lambda run: (run / "recipe.toml").unlink(),
        lambda run: (run / "data.json").symlink_to("/nowhere"),
        lambda run: ((run / "log.jsonl").unlink(), (run / "log.jsonl").mkdir()),
    ],
    ids=["toml", "bytes", "missing", "link", "folder"],
)
def test_a_damaged_run_has_a_row_that_says_so(tmp_path, spoil):
    run = fake_run(tmp_path / "a\x1b[2Jb", done=1)
    spoil(run)
    (row,) = runs(tmp_path)
    assert row.state == "damaged"
    assert row.note
    assert "\x1b" not in repr(runs(tmp_path)) + runs(tmp_path)._repr_html_()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        "recipe = 3\ntrain = []",
        'recipe = {name = "\\u001b[2J"}\ntrain = {epochs = "9"}',
    ],
)
def test_a_stranger_s_recipe_raises_nothing(tmp_path, text):
    run = fake_run(tmp_path / "run", done=1)
    (run / "recipe.toml").write_text(text)
    (run / "log.jsonl").write_text('{"epoch": 1, "best": true, "robust": "high"}\n[1]\n')
    (row,) = runs(tmp_path)
    assert row.epochs == "1 of ?"
    assert "\x1b" not in repr(runs(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "state"),
    [
        ("log.jsonl", f'{{"epoch": 1, "best": true, "robust": {"9" * 400}}}', "damaged"),
        (".lock", '{"process": 1e999, "machine": "", "doing": "", "since": ""}', "interrupted"),
    ],
)
def test_a_number_without_end_does_not_hide_the_other_runs(tmp_path, name, text, state):
    fake_run(tmp_path / "a", done=1)
    (fake_run(tmp_path / "b", done=1) / name).write_text(text)
    first, second = runs(tmp_path)
    assert first.state == "interrupted at epoch 1"
    assert second.state.startswith(state)


def test_folders_without_runs(tmp_path):
    assert repr(runs(tmp_path)) == f"no runs in {tmp_path}"
    with pytest.raises(FileNotFoundError, match=r"no folder .*gone here: sparring train"):
        runs(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        runs(tmp_path / "file")
