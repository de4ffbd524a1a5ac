"""Accuracy on the validation split, clean and under attack: it decides which weights are best."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..attacks.base import Attack
from ..data import Split
from ..introspect import freeze
from ..runtime import distributed

ROWS = 500  # per batch


class Score(NamedTuple):
    """Accuracies of a model, ordered by what selects the best: robust if attacked, then clean."""

    selection: float
    clean: float
    attacked: bool = False

    @property
    def robust(self) -> float | None:
        """Accuracy under the attack, None without one."""
        return self.selection if self.attacked else None

    def accuracies(self) -> dict[str, Any]:
        """Return the two accuracies by name.

        >>> Score(0.5, 0.9, True).accuracies()
        {'clean': 0.9, 'robust': 0.5}
        """
        return {"clean": self.clean, "robust": self.robust}


def score(model: nn.Module, split: Split, attack: Attack | None, *, device: torch.device) -> Score:
    """Return a model's accuracies on a split, each sample counted by its weight.

    Predictions are in float32; processes share the rows.
    """
    counts = torch.zeros(3, dtype=torch.float64, device=device)
    if attack is not None:
        # The same random starts at each call, so that epochs, and weights and their average, differ
        # by the model alone; else the best epoch would partly be the one with the weakest draw.
        attack.reseed(attack.seed)
    for rows in torch.arange(distributed.rank(), len(split), distributed.world()).split(ROWS):
        chunk = split.take(rows.to(split.x.device)).to(device)
        x, y = chunk.float(), chunk.y
        weight = (torch.ones_like(y) if chunk.weight is None else chunk.weight).to(counts)
        counts[0] += weight.sum()
        counts[1] += weight[_is_correct(model, x, y)].sum()
        if attack is not None:
            counts[2] += weight[_is_correct(model, attack(model, x, y), y)].sum()
    total, clean, robust = (distributed.mean(counts) * distributed.world()).tolist()
    clean, robust = clean / total, robust / total
    return Score(clean, clean) if attack is None else Score(robust, clean, True)


def _is_correct(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with freeze.frozen(model, "eval"), torch.no_grad():
        return model(x).argmax(1) == y


def check_output(model: nn.Module, split: Split, classes: int, device: torch.device) -> None:
    """Raise a clear `ValueError` unless the model gives one logit per class."""
    with freeze.frozen(model, "eval"), torch.no_grad():
        shape = tuple(model(split.float(slice(0, 2)).to(device)).shape[1:])
    if shape != (classes,):
        output = ", ".join(map(str, ("b", *shape)))
        message = f"the model returns ({output}); it must return logits (b, {classes})"
        raise ValueError(message)
