"""The plain expectation."""

from __future__ import annotations

import pytest
import torch

from sparring.batch import Batch
from sparring.risks import Mean


def test_the_weighted_mean_of_loss_minus_multiplier_times_cost():
    loss, cost = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.0, 0.5, 1.0])
    batch = Batch(
        torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), weight=torch.tensor([1.0, 1.0, 2.0])
    )
    expected = (1 * 1.0 + 1 * (2 - 3 * 0.5) + 2 * (6 - 3 * 1.0)) / 4
    assert Mean(multiplier=3.0)(loss, cost, batch).item() == pytest.approx(expected)


def test_a_negative_multiplier_is_refused():
    with pytest.raises(
        ValueError, match=r"multiplier = -1\.0 is not allowed: multiplier must be a number ≥ 0"
    ):
        Mean(multiplier=-1.0)
