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
LEAST_ROWS = 50
DEVIATIONS = 2.0  # above chance that random predictions pass in 2 of 100 epochs


class Score(NamedTuple):
    """Accuracies of a model, ordered by what selects the best: robust if attacked, then clean.

    Arguments:
        at_chance: the clean predictions agree with the labels no better than random ones would.
    """

    selection: float
    clean: float
    attacked: bool = False
    at_chance: bool = False

    @property
    def robust(self) -> float | None:
        """Accuracy under the attack, None without one."""
        return self.selection if self.attacked else None

    @property
    def rank(self) -> tuple[float, float, bool]:
        """Return what selects the best."""
        return self.selection, self.clean, self.attacked

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
    counts = torch.zeros(4, dtype=torch.float64, device=device)
    shares: Tensor | None = None  # by class: of the predictions, and of the labels
    if attack is not None:
        # The same random starts at each call, so that epochs, and weights and their average, differ
        # by the model alone; else the best epoch would partly be the one with the weakest draw.
        attack.reseed(attack.seed)
    for rows in torch.arange(distributed.rank(), len(split), distributed.world()).split(ROWS):
        chunk = split.take(rows.to(split.x.device)).to(device)
        x, y = chunk.float(), chunk.y.long()
        weight = (torch.ones_like(y) if chunk.weight is None else chunk.weight).to(counts)
        logits = _logits(model, x)
        predicted = logits.argmax(1)
        if shares is None:
            shares = counts.new_zeros(2, logits.shape[1])
        shares[0].index_add_(0, predicted, weight)
        shares[1].index_add_(0, y.clamp_min(0), weight * (y >= 0))
        counts[0] += weight.sum()
        counts[1] += weight[predicted == y].sum()
        counts[3] += weight.square().sum()
        if attack is not None:
            counts[2] += weight[_logits(model, attack(model, x, y)).argmax(1) == y].sum()
    total, clean, robust, squares = (distributed.mean(counts) * distributed.world()).tolist()
    assert shares is not None  # an empty range splits into one empty part
    predictions, labels = (distributed.mean(shares) * distributed.world() / total).tolist()
    expected = sum(p * q for p, q in zip(predictions, labels, strict=True))
    clean, robust = clean / total, robust / total
    at_chance = is_at_chance(clean, expected, total**2 / squares)
    selection = clean if attack is None else robust
    return Score(selection, clean, attack is not None, at_chance)


def is_at_chance(accuracy: float, expected: float, rows: float) -> bool:
    """Return whether an accuracy is what predictions give that know nothing of the labels.

    Arguments:
        expected: Σ_k p_k·q_k, with p and q the shares of class k among predictions and labels. It
            is the accuracy itself where all predictions are one class.
        rows: that were measured; of fewer than 50 nothing is concluded.

    >>> is_at_chance(0.13, 0.1, 150), is_at_chance(0.3, 0.1, 150), is_at_chance(0.1, 0.1, 20)
    (True, False, False)
    """
    deviation = (max(expected * (1 - expected), 0.0) / rows) ** 0.5
    return rows >= LEAST_ROWS and accuracy <= expected + DEVIATIONS * deviation + 1e-9


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    with freeze.frozen(model, "eval") as run, torch.no_grad():
        return run(x)
