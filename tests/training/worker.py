"""What each process runs in `test_distributed.py`: trainings, and what came out of them."""

import sys
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from sparring.attacks import PGD, Free
from sparring.methods import AT, TRADES
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime import distributed
from sparring.threats import Linf
from sparring.training import Trainer, parallel
from tests.training.small import (
    Unused,
    finish,
    network,
    objective,
    source,
    tensors,
    trainer,
    tuned,
)


def train(out: Path, *, noisy: bool, stop: int = 0) -> dict:
    """Go on with the run in `out`; everything that has moved, and how far processes differ."""
    run = trainer(out, noisy=noisy, resume=True)
    for epoch in run:
        if epoch.number == stop:
            break
    state = {key: value.double() for key, value in tensors(run.stepper.state_dict()).items()}
    spread = max(float((distributed.mean(value) - value).abs().max()) for value in state.values())
    return {"state": state, "spread": spread, "world": distributed.world()}


def train_partly(out: Path) -> dict:
    """Train a network whose logits do not depend on all of its parameters."""
    goal = Objective(PGD(Linf(0.1), steps=1), TRADES(), Mean())
    torch.manual_seed(1)
    state = finish(Trainer(Unused(), goal, source(), out=out, epochs=2, batch_size=16))
    return {key: value.double() for key, value in state.items()}


def tune(out: Path) -> dict:
    """Start from other weights, freeze a layer, and train another one faster."""
    run = trainer(out, noisy=False, resume=True, **tuned())
    state = {key: value.double() for key, value in finish(run).items()}
    spread = max(float((distributed.mean(value) - value).abs().max()) for value in state.values())
    return {"state": state, "spread": spread}


def free(out: Path, *, stop: int = 0) -> dict:
    """Train by an attack whose perturbation goes on from batch to batch."""
    goal = Objective(Free(Linf(0.1), replays=2), AT(), Mean())
    options = {"epochs": 2, "batch_size": 16, "resume": True}
    run = Trainer(network(noisy=False), goal, source(), out=out, **options)
    for epoch in run:
        if epoch.number == stop:
            break
    return {key: value.double() for key, value in tensors(run.stepper.state_dict()).items()}


def stop_in_mid_epoch(out: Path, *, stop: int = 0) -> dict:
    """Train with a checkpoint every second batch, and stop before step number `stop`."""
    run, steps = trainer(out, resume=True, save_every=2), []
    step = run.stepper.step

    def step_or_stop(*args, **keywords):
        steps.append(1)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return step(*args, **keywords)

    run.stepper.step = step_or_stop
    with suppress(KeyboardInterrupt):
        finish(run)
    return {key: value.double() for key, value in tensors(run.stepper.state_dict()).items()}


def train_by_the_clock(out: Path) -> dict:
    """Train for half a second; how far the processes differ in weights and time."""
    run = trainer(out, noisy=False, seconds=0.5)
    state = {key: value.double() for key, value in finish(run).items()}
    position = run.position
    times = [float(position.step), position.seconds, position.val_seconds]
    state["times"] = torch.tensor([*times, *position.by_clock.values()], dtype=torch.float64)
    spread = max(float((distributed.mean(value) - value).abs().max()) for value in state.values())
    return {"spread": spread, "steps": position.step}


def refusal(out: Path) -> str:
    """Return the message for a network without parameters."""
    try:
        Trainer(torch.nn.Linear(6, 3).requires_grad_(False), objective(), source(), out=out)
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    runs = {"two": train(folder / "two", noisy=False)}
    train(folder / "resumed", noisy=True, stop=1)
    runs["resumed"] = train(folder / "resumed", noisy=True)
    runs["whole"] = train(folder / "whole", noisy=True)
    runs["unused"] = train_partly(folder / "unused")
    runs["tuned"] = tune(folder / "tuned")
    runs["free"] = free(folder / "free")
    free(folder / "free-resumed", stop=1)
    runs["free-resumed"] = free(folder / "free-resumed")
    runs["mid"] = stop_in_mid_epoch(folder / "mid")
    stop_in_mid_epoch(folder / "mid-resumed", stop=7)
    runs["mid-resumed"] = stop_in_mid_epoch(folder / "mid-resumed")
    runs["clock"] = train_by_the_clock(folder / "clock")
    runs["refusal"] = refusal(folder / "frozen")
    if parallel.is_main():
        torch.save(runs, folder / "runs.pt")
    parallel.barrier()
    parallel.leave_process_group()
