"""Which recipe and folder a training takes: of a name, a file, or a run that goes on."""

from __future__ import annotations

import pytest

from sparring.commands import train
from sparring.config.recipe import load_recipe
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
