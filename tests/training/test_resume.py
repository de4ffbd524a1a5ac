"""A run that was stopped anywhere goes on as if nothing had been."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sparring.attacks import Free
from sparring.data import Source, Split
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from sparring.training import Trainer
from sparring.training.checkpoint import load_last, read_weights
from sparring.training.run_folder import read_log
from tests.training.small import (
    equal,
    finish,
    network,
    objective,
    read_metadata,
    source,
    tensors,
    trainer,
)

TIMES = {"seconds", "val_seconds", "samples_per_second"}
KILLED = """
import os, signal, sys
from sparring.attacks import PGD
from tests.training.small import trainer

class Deadly(PGD):
    calls = 0
    def maximize(self, f, batch):
        Deadly.calls += 1
        if Deadly.calls == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().maximize(f, batch)

run = trainer(sys.argv[1], save_every=2)
run.stepper.objective.attack.__class__ = Deadly
for _ in run:
    pass
"""


def rows(out: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_log(out)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run: its folder, and everything that moved."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, finish(trainer(out))


def check(out: Path, moved: dict, whole) -> None:
    """The two runs are one, but for the clock."""
    assert equal(moved, whole[1])
    assert rows(out) == rows(whole[0])
    assert equal(read_weights(out), read_weights(whole[0]))
    assert read_metadata(out) == read_metadata(whole[0])
    states = [tensors(load_last(folder)) for folder in (out, whole[0])]
    free = [k for k in states[0] if "seconds" in k]
    assert equal(*({k: v for k, v in state.items() if k not in free} for state in states))


def test_the_random_state_of_the_caller_neither_matters_nor_moves(tmp_path, whole):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    moved = finish(trainer(tmp_path / "run"))
    assert torch.equal(torch.get_rng_state(), before)
    check(tmp_path / "run", moved, whole)


@pytest.mark.parametrize("epochs", [1, 2])
def test_stopped_between_epochs(tmp_path, whole, epochs):
    out = tmp_path / "run"
    for epoch in trainer(out):
        if epoch.number == epochs:
            break
    check(out, finish(trainer(out, resume=True)), whole)


@pytest.mark.parametrize("batch", [2, 5, 11])
def test_stopped_in_mid_epoch_with_and_without_a_checkpoint_there(
    tmp_path, whole, batch, monkeypatch
):
    out = tmp_path / "run"
    run = trainer(out, save_every=1 + batch % 2)
    step, calls = run.stepper.step, []

    def fail(*args, **keywords):
        calls.append(1)
        if len(calls) == batch:
            raise KeyboardInterrupt
        return step(*args, **keywords)

    monkeypatch.setattr(run.stepper, "step", fail)
    with pytest.raises(KeyboardInterrupt):
        finish(run)
    check(out, finish(trainer(out, resume=True)), whole)


def test_killed_in_mid_epoch(tmp_path, whole):
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = load_last(out)
    assert (state["position"]["epoch"], state["position"]["batch"]) == (1, 2)
    (out / "last.pt.123.writing").write_bytes(b"half")
    with (out / "log.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')
    check(out, finish(trainer(out, resume=True)), whole)
    assert not list(out.glob("*.writing"))


def test_killed_between_the_log_and_the_checkpoint(tmp_path, whole, monkeypatch):
    out = tmp_path / "run"
    run = trainer(out)
    save = run._save
    monkeypatch.setattr(run, "_save", lambda: save() if run.position.epoch < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        finish(run)
    assert [row["epoch"] for row in read_log(out)] == [1, 2]
    check(out, finish(trainer(out, resume=True)), whole)


def image_trainer(out: Path, **more) -> Trainer:
    """Convolutions in bfloat16 and channels-last, by Adam."""
    data = source()
    shaped = (
        Split(s.x.repeat(1, 6).reshape(-1, 1, 6, 6), s.y) for s in (data.train, data.val, data.test)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = [nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
        net = nn.Sequential(nn.Conv2d(1, 4, 3), *head)
    options = {
        "epochs": 2,
        "batch_size": 16,
        "amp": "bfloat16",
        "channels_last": True,
        "optimizer": "AdamW",
    }
    return Trainer(
        net, objective(), Source("images", *shaped, data.class_names), out=out, **options, **more
    )


def test_bfloat16_and_channels_last(tmp_path):
    for _ in image_trainer(tmp_path / "a"):
        break
    run = image_trainer(tmp_path / "a", resume=True)
    assert equal(finish(run), finish(image_trainer(tmp_path / "b")))
    assert run.model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert read_weights(tmp_path / "a")["0.weight"].is_contiguous()


def test_resume_begins_where_nothing_is_and_ends_where_all_is_done(tmp_path, whole):
    out = tmp_path / "run"
    check(out, finish(trainer(out, resume=True)), whole)
    before = (out / "last.pt").read_bytes()
    assert list(trainer(out, resume=True)) == []
    assert (out / "last.pt").read_bytes() == before


def test_a_run_is_never_overwritten(whole):
    before = {path: path.read_bytes() for path in whole[0].iterdir()}
    with pytest.raises(FileExistsError, match="resume"):
        trainer(whole[0])
    assert {path: path.read_bytes() for path in whole[0].iterdir()} == before


def test_other_settings_do_not_resume(whole):
    with pytest.raises(ValueError, match="epochs was 3 and is 4 now"):
        trainer(whole[0], resume=True, epochs=4)
    recipe = {"recipe": {"name": "a"}, "method": {"beta": 5.0}}
    with pytest.raises(ValueError, match="trained from Python: go on there"):
        trainer(whole[0], resume=True, recipe=recipe)


def test_how_it_is_shown_and_saved_may_change(whole):
    trainer(whole[0], resume=True, save_every=1, device="cpu")


def test_the_log_has_a_line_an_epoch(whole):
    lines = (whole[0] / "log.jsonl").read_text().splitlines()
    rows_logged = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows_logged] == [1, 2, 3]
    assert [row["step"] for row in rows_logged] == [4, 8, 12]
    keys = [
        "epoch",
        "step",
        "loss",
        "parts",
        "clean",
        "robust",
        "ema_clean",
        "ema_robust",
        "lr",
        "eps",
    ]
    assert list(rows_logged[0]) == [*keys, "seconds", "val_seconds", "samples_per_second", "best"]
    assert [row["seconds"] for row in rows_logged] == sorted(row["seconds"] for row in rows_logged)
    assert rows_logged[0]["best"]


def test_free_goes_on_in_mid_epoch(tmp_path):
    def run(out, **more):
        goal = Objective(Free(Linf(0.1), replays=2), AT(), Mean())
        return Trainer(
            network(), goal, source(), out=out, epochs=2, batch_size=16, save_every=1, **more
        )

    stopped = run(tmp_path / "a")
    for batch in stopped.loader.epoch(1):
        stopped._train_batch(batch)
        if stopped.position.batch_index == 3:
            break
    stopped._save()
    assert equal(finish(run(tmp_path / "a", resume=True)), finish(run(tmp_path / "b")))


def test_factored_moments_go_on(tmp_path):
    """Adafactor keeps means of a weight's rows and columns: other shapes than the weight's."""
    more = {"optimizer": {"name": "Adafactor", "lr": 0.01}}
    next(iter(trainer(tmp_path / "a", **more)))
    moments = load_last(tmp_path / "a")["optimizer"]["state"][0]
    assert (moments["row_var"].shape, moments["col_var"].shape) == ((16, 1), (1, 6))
    resumed = finish(trainer(tmp_path / "a", resume=True, **more))
    assert equal(resumed, finish(trainer(tmp_path / "b", **more)))


def test_factored_moments_of_another_weight_are_refused(tmp_path):
    more = {"optimizer": {"name": "Adafactor", "lr": 0.01}}
    next(iter(trainer(tmp_path, **more)))
    state = load_last(tmp_path)
    state["optimizer"]["state"][0]["row_var"] = torch.ones(15, 1)
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"row_var of the optimizer has shape \(15, 1\)"):
        trainer(tmp_path, resume=True, **more)
