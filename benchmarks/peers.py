"""Other implementations of AutoAttack; every point they return is judged in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import seconds
from torch import Tensor, nn

from sparring.evaluation import Guard


@dataclass
class Judged:
    """Which samples withstand one implementation, its time, and its passes per sample."""

    robust: np.ndarray
    seconds: float
    forwards: float
    backwards: float


Peer = Callable[[nn.Module, Tensor, Tensor, float, int, int], Judged]


def reference(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, batch_size: int, seed: int = 0
) -> Judged:
    """Run the authors' AutoAttack, version standard."""
    from pyautoattack import AutoAttack

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    guard = Guard(model, strict=False).eval()
    attack = AutoAttack(guard, norm="Linf", eps=eps, version="standard", seed=seed)
    points: list[Tensor] = []
    took = seconds(
        lambda: points.append(_points(attack.run_standard_evaluation(x, y, batch_size=batch_size)))
    )
    return judged(model, x, y, points[0], eps, took, guard)


def torchattacks_aa(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, batch_size: int, seed: int = 0
) -> Judged:
    """Run torchattacks' AutoAttack, which attacks whole batches to the end."""
    import torchattacks

    guard = Guard(model, strict=False).eval()
    options = {"norm": "Linf", "eps": eps, "version": "standard", "n_classes": 10, "seed": seed}
    attack = torchattacks.AutoAttack(guard, **options)
    parts: list[Tensor] = []
    took = seconds(
        lambda: parts.extend(
            attack(a, b) for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True)
        )
    )
    return judged(model, x, y, torch.cat(parts), eps, took, guard)


PEERS: dict[str, Peer] = {"pyautoattack": reference, "torchattacks": torchattacks_aa}


def _points(output: object) -> Tensor:
    if isinstance(output, dict):
        return output["x_adv"] if "x_adv" in output else next(iter(output.values()))
    return output[0] if isinstance(output, tuple | list) else output  # type: ignore[return-value]


def judged(
    model: nn.Module, x: Tensor, y: Tensor, z: Tensor, eps: float, took: float, guard: Guard
) -> Judged:
    """Judge returned points `z (n, *d)`; one outside the ball counts as a failed attack."""
    inside = ((z - x).abs().flatten(1).amax(1) <= eps + 1e-5) & (z >= 0).flatten(1).all(1)
    inside &= (z <= 1).flatten(1).all(1)
    with torch.no_grad():
        robust = (model(x).argmax(1) == y) & ((model(z).argmax(1) == y) | ~inside)
    return Judged(robust.numpy(), took, guard.forwards / len(x), guard.backwards / len(x))


def kept(path: Path | None, run: Callable[[], Judged]) -> Judged:
    """Return what `run` gives, from a file if it exists, and write that file."""
    if path is None:
        return run()
    if not path.exists():
        one = run()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **vars(one))
    with np.load(path) as file:
        passes = [float(file[key]) for key in ("seconds", "forwards", "backwards")]
        return Judged(file["robust"], *passes)


def majority(runs: list[Judged]) -> np.ndarray:
    """Return which samples are robust `(n,)`: those that at most half of the runs broke."""
    return np.mean([~one.robust for one in runs], axis=0) <= 0.5
