"""Which recipe and folder a training takes: of a name, a file, or a run that goes on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from sparring.commands import train
from sparring.commands.runs import runs
from sparring.config.recipe import load_recipe
from sparring.training import read_weights
from sparring.training.run_folder import read_log
from tests.command import call
from tests.commands.folders import fake_run

SHORT = ["train.epochs=3"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An interrupted run in a folder of another name than its recipe's."""
    monkeypatch.chdir(tmp_path)
    return fake_run(tmp_path / "runs" / "t 80", done=2, changes=SHORT)


def epochs(planned: train.PlannedRun) -> int:
    return planned.recipe.tables["train"]["epochs"]


def test_a_run_folder_goes_on_by_its_own_recipe(run):
    planned = train.plan("runs/t 80", resume=True)
    assert (str(planned.run), epochs(planned)) == ("runs/t 80", 3)
    assert epochs(train.plan("digits-mart", out=run, resume=True)) == 3
    assert epochs(train.plan("digits-mart", out=run, resume=True, set=SHORT)) == 3
    # The trainer compares this with the checkpoint, and names the key.
    assert epochs(train.plan("digits-mart", out=run, resume=True, set=["train.epochs=5"])) == 5


def test_a_run_without_checkpoint_begins_again_by_what_is_asked(run):
    (run / "last.pt").unlink()
    assert epochs(train.plan("digits-mart", out=run, resume=True)) == 40
    assert epochs(train.plan(run, resume=True)) == 3


def test_an_edited_file_does_not_go_unseen(run, tmp_path):
    file = tmp_path / "digits-mart.toml"
    file.write_text(load_recipe("digits-mart", set=["train.epochs=9"]).toml(), encoding="utf-8")
    assert epochs(train.plan(file, out=run, resume=True)) == 9


def test_a_run_of_another_recipe_is_refused(run):
    with pytest.raises(
        ValueError, match=r"of recipe digits-mart, not of digits-trades: train .*80"
    ):
        train.plan("digits-trades", out=run, resume=True)
    with pytest.raises(FileExistsError, match=r"is a run: continue it with resume \(--resume\)"):
        train.plan(run)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "stopped; to go on: sparring train 'runs/t 80' --resume"),
        (("--device", "cpu"), "to go on: sparring train 'runs/t 80' --resume --device cpu"),
    ],
)
def test_ctrl_c_prints_the_command_that_goes_on(run, monkeypatch, capsys, argv, message):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train", stop)
    text = call("train", "runs/t 80", "--resume", *argv, capsys=capsys, code=130)
    assert message in " ".join(text.split())
    text = call("train", "digits-trades", capsys=capsys, code=130)
    assert "stopped; nothing was written yet" in text


TINY = ["train.epochs=1", "model={name='mlp', hidden=[8]}", "validation.rows=50"]


def words(*changes: str) -> list[str]:
    return [word for change in (*TINY, *changes) for word in ("--set", change)]


def test_a_training_starts_from_a_run_and_freezes_modules(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = ["train", "digits-standard", "--out", "2024", *words()]
    call(*first, capsys=capsys)
    tuned = ["train", "digits-pgd-at", "--start", "2024", "--out", "tuned"]
    frozen = words("attack.steps=1", "train.freeze=['linear']", "weights.ema.decay=0")
    call(*tuned, *frozen, capsys=capsys)
    before, after = read_weights("2024"), read_weights("tuned")
    assert {key for key in before if not torch.equal(before[key], after[key])} == {
        "linear1.weight",
        "linear1.bias",
    }
    assert load_recipe("tuned").tables["train"]["start"] == "2024"
    shutil.rmtree("2024")
    call("train", "tuned", "--resume", capsys=capsys)


# a fifth of a second may teach the network nothing yet
@pytest.mark.filterwarnings("ignore:after epoch")
def test_a_training_by_the_clock_is_finished_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call("train", "digits-standard", "--seconds", "0.2", *words(), capsys=capsys)
    run = tmp_path / "runs" / "digits-standard"
    assert load_recipe(run).tables["train"]["seconds"] == 0.2
    assert json.loads((run / "machine.json").read_text())["repeatable"] is False
    rows = read_log(run)
    assert rows[-1]["epochs"] == rows[-1]["epoch"]
    row = next(row for row in runs(tmp_path) if row.run.endswith("digits-standard"))
    assert (row.state, row.epochs) == ("finished", f"{len(rows)} of {len(rows)}")
    text = call("train", run, "--resume", capsys=capsys)
    assert f"finished already: {len(rows)} of {len(rows)} epochs" in text
    text = call("train", "digits-standard", "--seconds", "0", *words(), capsys=capsys, code=2)
    assert "train.seconds = 0.0 is not allowed" in text
    text = call("train", "digits-mart", "--seconds", "90", *words(), "--dry-run", capsys=capsys)
    assert "90 s by the clock" in text
    assert "about 2 min" in text


def test_a_start_that_does_not_fit_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    for start, line in {
        "w.safetensors": "these are the weights of another network",
        "nowhere": "start: there is no file or run folder at nowhere",
        "läufe/🥊": "start: there is no file or run folder at läufe/🥊",
    }.items():
        command = ["train", "digits-pgd-at", "--start", start, *words(), "--dry-run"]
        assert line in " ".join(call(*command, capsys=capsys, code=2).split())
