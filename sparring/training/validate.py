"""Accuracy on the validation split, clean and under attack: what decides which weights are best."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..attacks.base import Attack
from ..data import Split
from ..introspect import freeze
from ..runtime import distributed

ROWS = 500


class Score(NamedTuple):
    """What decides (robust accuracy, clean where there is no attack), then clean accuracy."""

    first: float
    clean: float
    attacked: bool = False

    @property
    def robust(self) -> float | None:
        """Accuracy under the attack, if there was one."""
        return self.first if self.attacked else None

    def named(self) -> dict[str, Any]:
        """The two accuracies.

        >>> Score(0.5, 0.9, True).named()
        {'clean': 0.9, 'robust': 0.5}
        """
        return {"clean": self.clean, "robust": self.robust}


def measure(
    model: nn.Module, split: Split, attack: Attack | None, *, device: torch.device
) -> Score:
    """Accuracies on a split under its weights, predictions in float32; processes share the rows.

    The attack begins from its own seed, so that two calls compare.
    """
    counts = torch.zeros(3, dtype=torch.float64, device=device)
    if attack is not None:
        attack.reseed(attack.seed)
    for rows in torch.arange(distributed.rank(), len(split), distributed.world()).split(ROWS):
        part = split.take(rows.to(split.x.device)).to(device)
        x, y = part.float(), part.y
        weight = torch.ones_like(y) if part.weight is None else part.weight
        weight = weight.to(counts)
        counts[0] += weight.sum()
        counts[1] += weight[_right(model, x, y)].sum()
        if attack is not None:
            counts[2] += weight[_right(model, attack(model, x, y), y)].sum()
    total, clean, robust = (distributed.mean(counts) * distributed.world()).tolist()
    clean, robust = clean / total, robust / total
    return Score(clean, clean) if attack is None else Score(robust, clean, True)


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which samples the model gets right `(b,)`."""
    with freeze.frozen(model, "eval"), torch.no_grad():
        return model(x).argmax(1) == y


def check_output(model: nn.Module, split: Split, classes: int, device: torch.device) -> None:
    """Raise a clear `ValueError` unless the model gives one logit a class."""
    with freeze.frozen(model, "eval"), torch.no_grad():
        shape = tuple(model(split.float(slice(0, 2)).to(device)).shape[1:])
    if shape != (classes,):
        said = ", ".join(map(str, ("b", *shape)))
        raise ValueError(f"the model's output is ({said}), the data ask for (b, {classes}) logits")
