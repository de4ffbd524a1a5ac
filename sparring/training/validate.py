"""Accuracy on the validation split, clean and under attack, judged in float32."""

from __future__ import annotations

import torch
from torch import nn

from .. import probe
from ..attacks.base import Attack
from ..data.source import Split


def accuracy(model: nn.Module, split: Split, attack: Attack | None, *, batch: int) -> tuple[float, float | None]:
    """Shares of right predictions on x, and on the attack's points (None without one)."""
    clean = robust = 0
    if attack is not None:
        attack.reseed(attack.seed)
    for start in range(0, len(split), batch):
        rows = slice(start, start + batch)
        x, y = split.float(rows), split.y[rows]
        with probe.hold(model, "eval"), torch.no_grad():
            right = model(x).argmax(1) == y
            clean += int(right.sum())
            if attack is None or not right.any():
                continue
        x, y = x[right], y[right]
        x_adv = attack(model, x, y)
        with probe.hold(model, "eval"), torch.no_grad():
            robust += int((model(x_adv).argmax(1) == y).sum())
    n = len(split)
    return clean / n, None if attack is None else robust / n
