"""How long a training takes on this machine: from a few steps that leave nothing behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from ..batch import Batch
from ..config.recipe import BuiltRecipe
from ..runtime import allocator
from ..training import Trainer
from ..training.pass_length import PassLength
from ..training.state import Position
from ..training.validate import score

FEW, SOME, GROWTH = 2, 32, 4  # rows that are timed first, and next; how many times more then
ENOUGH, TOO_LONG = 1.0, 1.5  # seconds that are measured well enough; that few rows take at most
MOST = 5.0  # seconds of work that is repeated
ROWS = 500  # of the validation split


def training_seconds(built: BuiltRecipe, *, device: str | None = None, done: int = 0) -> float:
    """Return how many seconds a training takes here, from timed steps and a timed validation.

    The steps change the weights of `built.model`; nothing else is left of them.

    Arguments:
        device: default: the recipe's.
        done: epochs that are trained already.

    Raises:
        ValueError: for a training that could not begin.
    """
    settings: dict[str, Any] = built.trainer | ({} if device is None else {"device": device})
    settings |= {"log": None, "compile": False}  # they change little, and leave files
    settings |= {"start": None} if done else {}  # a run that goes on needs its start no more
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.random.fork_rng(),
        allocator.keep_freed_memory(),
    ):
        trainer = Trainer(built.model, built.objective, built.source, out=folder, **settings)
        if trainer.seconds is not None:
            return trainer.seconds
        left = max(0, _epochs(trainer) - done)
        validations = -(-left // trainer.every)
        return left * trainer.batches * _batch_seconds(trainer) + (
            validations * _validation_seconds(trainer) if validations else 0.0
        )


def _epochs(trainer: Trainer) -> int:
    """Return how many epochs a training has; one of a number of passes counts those of a step."""
    if not isinstance(trainer.length, PassLength):
        return trainer.epochs
    position, batch = Position(), next(iter(trainer.loader.epoch(1)))
    trainer.stepper.train()
    with trainer.length.counting(position, len(batch)):
        _step(trainer, batch)
    return trainer.length.expected(position) or trainer.epochs


def _step(trainer: Trainer, batch: Batch) -> None:
    """Take a batch in the middle of the schedules: an eps that grows is 0 at their start."""
    for _ in range(trainer.stepper.begin_batch(epoch=1, index=0, progress=0.5)):
        trainer.stepper.step(batch, epoch=1, number=1)


def _batch_seconds(trainer: Trainer) -> float:
    """Return the seconds of one batch, replays and all."""
    batch = next(iter(trainer.loader.epoch(1)))
    trainer.stepper.train()

    def step(rows: int) -> None:
        _step(trainer, batch.take(torch.arange(rows, device=batch.x.device)))

    return _seconds(trainer, step, len(batch))


def _validation_seconds(trainer: Trainer) -> float:
    """Return the seconds of one validation of the weights, and of their average."""
    models = [m for m in (trainer.model, trainer.averaged) if m is not None]
    trainer.model.eval()

    def validate(rows: int) -> None:
        part = trainer.val.take(slice(0, rows))
        score(trainer.model, part, trainer.validation, device=trainer.device)

    rows = min(len(trainer.val), ROWS)
    return _seconds(trainer, validate, rows) * len(models) * len(trainer.val) / rows


def _seconds(trainer: Trainer, work: Callable[[int], None], rows: int) -> float:
    """Return the seconds of work on n rows, from as many of them as take long enough to measure.

    It begins with few: a network may be so large that a whole batch takes minutes here.
    """
    size = min(FEW, rows)
    seconds = _timed(trainer, work, size)  # more than later: memory, kernels, the optimizer's state
    if seconds >= TOO_LONG:
        return seconds * rows / size
    # On a processor PyTorch computes small batches by other, slower code.
    size = min(SOME, rows)
    while (seconds := _timed(trainer, work, size)) < MOST:
        # The first of a size prepares its kernels.
        seconds = min(seconds, _timed(trainer, work, size))
        if seconds >= ENOUGH or size == rows:
            break
        size = min(rows, GROWTH * size)
    return seconds * rows / size


def _timed(trainer: Trainer, work: Callable[[int], None], size: int) -> float:
    began = time.perf_counter()
    work(size)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return time.perf_counter() - began
