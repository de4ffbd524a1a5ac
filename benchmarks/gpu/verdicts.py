"""The verdicts of `autoattack`, sample by sample: this GPU against the CPU, from equal weights.

The five evaluations run side by side, each in a process of its own. Devices draw other random
numbers, so two runs on the CPU with different seeds say how much of a difference is chance. A
point that the GPU found is judged again on the CPU, in float32: one that breaks nothing there was
rounding.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import sparring
from sparring import data
from sparring.evaluation import evaluate
from sparring.evaluation.kept_points import judge_again
from sparring.results.result import Result

from . import tools
from .parts import Setting, free

RECIPE, EPS = "digits-pgd-at", 0.2  # at twice the trained radius the suite breaks many, not all
BASE = "cpu float32"


class Run(NamedTuple):
    """Name an evaluation: device, precision, TF32 and seed."""

    device: str
    precision: str = "float32"
    tf32: bool = False
    seed: int = 0


def runs(device: str) -> dict[str, Run]:
    """Return the evaluations by name; the first is what the others are compared with."""
    on = "gpu" if device == "cuda" else f"{device} again"
    return {
        BASE: Run("cpu"),
        "cpu float32, other seed": Run("cpu", seed=1),
        "cpu bfloat16": Run("cpu", "bfloat16"),
        f"{on} float32": Run(device),
        f"{on} float32, TF32": Run(device, tf32=True),
        f"{on} bfloat16": Run(device, "bfloat16", tf32=True),
    }


def compare(setting: Setting) -> dict[str, Any]:
    """Train digits, evaluate it in all ways at once, and compare each with the CPU in float32."""
    # In a process of its own, as CUDA cannot be used on both sides of a fork.
    folder, fork = free(setting.work / "verdicts"), multiprocessing.get_context("fork")
    began = time.perf_counter()
    training = fork.Process(target=_train, args=(setting, folder))
    training.start()
    training.join()
    if training.exitcode:
        raise RuntimeError("the training of digits failed: see the log")
    setting.note(train_seconds=time.perf_counter() - began)
    ways = runs(setting.device)
    processes = {
        name: fork.Process(target=_evaluate, args=(setting, folder, name, way))
        for name, way in ways.items()
    }
    for process in processes.values():
        process.start()
    for process in processes.values():
        process.join()
    results = {name: _result(folder, name) for name in ways if _file(folder, name).exists()}
    if BASE not in results:
        raise RuntimeError("the evaluation on the CPU failed: see the log")
    rows = {name: _row(setting, folder, name, results) for name in results}
    setting.note(recipe=RECIPE, eps=EPS, rows=rows)
    if failed := [name for name in ways if name not in results]:
        raise RuntimeError(f"evaluations that failed, see the log: {', '.join(failed)}")
    return {}


def _train(setting: Setting, folder: Path) -> None:
    epochs = setting.small(1, 15)
    at = str(tools.device(setting))
    sparring.train(
        RECIPE, out=folder / "run", set={"train.epochs": epochs}, device=at, progress=False
    )


def _samples(setting: Setting) -> Any:
    return data.load("digits").test.subset(setting.small(8, 128), 0)


def _evaluate(setting: Setting, folder: Path, name: str, way: Run) -> None:
    """Run one evaluation, and keep its result with all points."""
    torch.set_num_threads(max(1, torch.get_num_threads() // 4))
    model = sparring.load(folder / "run").to(way.device)
    with tools.tf32(way.tf32):
        result = evaluate(
            model,
            _samples(setting),
            "Linf",
            setting.small("quick", "autoattack"),
            eps=EPS,
            precision=way.precision,
            seed=way.seed,
            keep="float32",
            progress=False,
        )
    result.save(_file(folder, name))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-').replace(',', '')}.json"


def _result(folder: Path, name: str) -> Result:
    return Result.load(_file(folder, name))


def robust(result: Result) -> np.ndarray:
    """Return which samples withstood `(n,)`, in the data's order."""
    key = next(k for k in result.arrays if k.startswith("correct_"))
    return result.arrays[key][np.argsort(result.arrays["index"])]


def _row(setting: Setting, folder: Path, name: str, results: dict[str, Result]) -> dict[str, Any]:
    """Compare a result with the CPU's: `kinder` are samples that only the CPU broke."""
    mine, base = robust(results[name]), robust(results[BASE])
    again = judge_again(
        results[name], sparring.load(folder / "run"), _samples(setting), device="cpu"
    )
    return {
        "robust": int(mine.sum()),
        "of": len(mine),
        "kinder": np.flatnonzero(mine & ~base).tolist(),
        "stricter": np.flatnonzero(~mine & base).tolist(),
        "changed_on_the_cpu": again.changed,
        "seconds": round(results[name].seconds, 2),
    }
