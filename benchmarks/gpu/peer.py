"""AutoAttack's own code beside ours, on the same model, samples, radius and precision."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparring.evaluation import evaluate
from sparring.introspect.predict import predict

from . import tools
from .parts import Setting


def compare(setting: Setting, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> dict[str, Any]:
    """Return which samples withstand each, and the times; every point is judged in float32."""
    result = evaluate(
        model,
        (x, y),
        "Linf",
        setting.small("quick", "autoattack"),
        eps=eps,
        batch_size=len(x),
        progress=False,
    )
    key = next(k for k in result.arrays if k.startswith("correct_"))
    mine = result.arrays[key][np.argsort(result.arrays["index"])]
    found: dict[str, Any] = {"n": len(x), "ours": int(mine.sum()), "ours_seconds": result.seconds}
    setting.note(**found)
    points: list[Tensor] = []
    took = tools.seconds(x.device, lambda: points.append(_their_points(setting, model, x, y, eps)))
    theirs = _robust(model, x, y, points[0], eps)
    found |= {"theirs": int(theirs.sum()), "theirs_seconds": took, "ratio": result.seconds / took}
    found["agreement"] = float((mine == theirs).mean())
    found["kinder"] = np.flatnonzero(mine & ~theirs).tolist()
    found["stricter"] = np.flatnonzero(~mine & theirs).tolist()
    return found


def _their_points(setting: Setting, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    from pyautoattack import AutoAttack

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    quick = {"version": "custom", "attacks": ["apgd-ce"]}
    options = setting.small(quick, {"version": "standard"})
    theirs = AutoAttack(model, norm="Linf", eps=eps, seed=0, device=x.device, **options)
    output = theirs.run_standard_evaluation(x, y, batch_size=len(x))
    if isinstance(output, dict):
        return output["x_adv"] if "x_adv" in output else next(iter(output.values()))
    return output[0] if isinstance(output, tuple | list) else output


def _robust(model: nn.Module, x: Tensor, y: Tensor, z: Tensor, eps: float) -> np.ndarray:
    """Return which samples withstand `(n,)`; a point outside the ball counts as a failed attack."""
    z = z.to(x.device)
    inside = ((z - x).abs().flatten(1).amax(1) <= eps + 1e-5) & (z >= 0).flatten(1).all(1)
    inside &= (z <= 1).flatten(1).all(1)
    with torch.no_grad():
        right = (predict(model, x) == y) & ((predict(model, z) == y) | ~inside)
    return right.cpu().numpy()
