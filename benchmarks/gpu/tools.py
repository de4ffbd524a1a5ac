"""Shared by the parts: the machine, random data, trainings of a few steps, and waits counted."""

from __future__ import annotations

import linecache
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparring import models
from sparring.config.recipe import load_recipe
from sparring.introspect import freeze
from sparring.training import Trainer

from .parts import NotRun, Setting, free

WAITED = "synchronizing CUDA operation"
HELD_OUT = 20  # rows of random data for validation


def device(setting: Setting) -> torch.device:
    """Return the device to measure on.

    Raises:
        NotRun: where CUDA is asked for, and there is none.
    """
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise NotRun("PyTorch finds no CUDA device here")
    return torch.device(setting.device)


def wait(at: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if at.type == "cuda":
        torch.cuda.synchronize(at)


def seconds(at: torch.device, f: Callable[[], object]) -> float:
    """Return the wall time of a call, the device's work included."""
    wait(at)
    began = time.perf_counter()
    f()
    wait(at)
    return time.perf_counter() - began


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Let float32 products and convolutions on CUDA round to TF32, or not."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32" if on else "ieee"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def net(setting: Setting, at: torch.device) -> nn.Module:
    """Return an untrained ResNet-18 in eval mode; two layers in a rehearsal."""
    torch.manual_seed(0)
    name, options = setting.small(("mlp", {"hidden": [16]}), ("resnet18", {}))
    return models.build(name, shape=(3, 32, 32), classes=10, **options).to(at).eval()


def samples(model: nn.Module, rows: int, at: torch.device) -> tuple[Tensor, Tensor]:
    """Return random pictures that the model is right on: `(n, 3, 32, 32)`, labels `(n,)`."""
    x = torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(at)
    with torch.no_grad(), freeze.frozen(model) as run:
        return x, run(x).argmax(1)


def random_data(work: Path, rows: int, shape: tuple[int, ...]) -> Path:
    """Return an npz of random uint8 pictures of ten classes; times do not depend on what they show.

    Arguments:
        rows: of train, beside twenty for validation; test has twenty.
    """
    path = work / f"random-{rows}-{'x'.join(map(str, shape))}.npz"
    if not path.exists():
        draw, arrays = np.random.default_rng(0), {}
        for split, n in (("train", rows + HELD_OUT), ("test", HELD_OUT)):
            arrays[f"x_{split}"] = draw.integers(0, 256, (n, *shape), dtype=np.uint8)
            arrays[f"y_{split}"] = np.arange(n) % 10
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    return path


def trainer(
    setting: Setting, recipe: str, changes: dict[str, Any], out: Path, *, resume: bool = False
) -> Trainer:
    """Return the trainer of a recipe with some values changed, on the device to measure on."""
    built = load_recipe(recipe, set=changes).build()
    options = built.trainer | {"device": str(device(setting))}
    return Trainer(built.model, built.objective, built.source, out=out, resume=resume, **options)


def step_seconds(
    setting: Setting,
    recipe: str,
    changes: dict[str, Any],
    *,
    batch: int,
    attack_steps: tuple[int, ...] = (),
    shape: tuple[int, ...] = (3, 32, 32),
    count: int | None = None,
) -> list[float]:
    """Return the seconds of a training step, for each number of attack steps.

    Each number has two epochs of `count` steps; the first warms up and compiles, the second counts.
    """
    count = count or setting.small(2, 10)
    data = random_data(setting.work, batch * count, shape)
    small = {"data.name": str(data), "train.batch_size": batch, "validation.every": 1000}
    small |= setting.small({"model": {"name": "mlp", "hidden": [16]}}, {})
    small |= {"data.val": HELD_OUT, "train.epochs": 2 * max(1, len(attack_steps))}
    run = trainer(setting, recipe, small | changes, free(setting.work / "steps"))
    times, steps = [0.0], list(attack_steps) or [None]
    if steps[0] is not None:
        run.stepper.objective.attack.steps = steps[0]
    for epoch in run:
        times.append(epoch.seconds)
        following = epoch.number // 2
        if following < len(steps) and steps[following] is not None:
            run.stepper.objective.attack.steps = steps[following]
    return [(b - a) / count for a, b in zip(times[1::2], times[2::2], strict=True)]


def waits(f: Callable[[], object]) -> Counter[str]:
    """Return how often the host waited for the GPU in a call, by the line that made it wait."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            f()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(_line(w) for w in seen if WAITED in str(w.message))


def _line(warned: warnings.WarningMessage) -> str:
    path = Path(warned.filename)
    text = linecache.getline(warned.filename, warned.lineno).strip()
    return f"{path.parent.name}/{path.name}:{warned.lineno} {text}"[:120]
