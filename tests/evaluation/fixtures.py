"""Linear models in the interior of the box: their robust accuracy is known in closed form."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring.evaluation import Suite
from sparring.evaluation.cache import CONTINUED
from sparring.threats import Threat

DUAL = {"Linf": 1.0, "L2": 2.0, "L1": math.inf}


class Linear(nn.Module):
    """Logits (s, −s) with s = w·x + b: right under eps iff ±s > eps·‖w‖_dual."""

    def __init__(self, d: int = 6, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(d, generator=generator))
        self.b = nn.Parameter(-0.5 * self.w.detach().sum())

    def forward(self, x: Tensor) -> Tensor:
        s = x.flatten(1) @ self.w + self.b
        return torch.stack([s, -s], 1)


class Problem:
    """A linear model, samples around the middle of [0, 1] and labels, a tenth of them wrong."""

    def __init__(self, n: int = 60, d: int = 6) -> None:
        self.model = Linear(d).eval()
        generator = torch.Generator().manual_seed(1)
        x = 0.5 + 0.29 * (2 * torch.rand(4 * n, d, generator=generator) - 1)
        with torch.no_grad():
            score = self.model(x)[:, 0]
        clear = self._clear(score)
        self.x, score = x[clear][:n], score[clear][:n]
        self.y = (score < 0).long()
        self.y[::10] = 1 - self.y[::10]
        self.signed = torch.where(self.y == 0, score, -score)

    def _clear(self, score: Tensor) -> Tensor:
        """Samples that are not on the edge at any radius used here."""
        keep = torch.ones(len(score), dtype=torch.bool)
        for p in DUAL.values():
            for eps in (0.0, 0.02, 0.05, 0.1):
                keep &= (score.abs() - eps * self.model.w.detach().norm(p)).abs() > 5e-3
        return keep

    def robust(self, norm: str, eps: float) -> Tensor:
        """Which samples are right for every point of the ball."""
        return self.signed > eps * self.model.w.detach().norm(DUAL[norm])


@pytest.fixture
def problem() -> Problem:
    return Problem()


@pytest.fixture
def suite_of():
    """A suite of one attack, from a function (model, x, y, threat) -> x_adv."""

    class Foreign:
        def __init__(self, run, threat: Threat) -> None:
            self.run, self.threat = run, threat

        def __call__(self, model, x, y):
            return self.run(model, x, y, self.threat)

    def make(*runs, label: str = "foreign") -> Suite:
        labels = [label, *(f"{label} {i}" for i in range(1, len(runs)))]
        return Suite(
            "own",
            1,
            tuple(
                (name, lambda t, r=r: Foreign(r, t)) for name, r in zip(labels, runs, strict=True)
            ),
        )

    return make


@pytest.fixture
def same():
    """Asserts that two results are equal but for the time they took."""

    def timeless(result):
        rows = [
            dataclasses.replace(
                row, attacks=[dataclasses.replace(a, seconds=0) for a in row.attacks]
            )
            for row in result.by_eps
        ]
        again = {
            "notes": [note for note in result.notes if not note.startswith(CONTINUED)],
            "seconds": 0,
            "by_eps": rows,
            "attacks": rows[-1].attacks,
            "arrays_sha256": "",
        }
        return dataclasses.replace(result, **again)

    def check(a, b) -> None:
        assert timeless(a) == timeless(b)
        assert a.arrays.keys() == b.arrays.keys()
        for key in a.arrays:
            np.testing.assert_array_equal(a.arrays[key], b.arrays[key], key)

    return check
