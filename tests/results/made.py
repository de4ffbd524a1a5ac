"""Results made by hand, whose arrays agree with their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparring.results.intervals import wilson
from sparring.results.result import EpsRow, Result

N = 100


def result(name: str, broken: list[int], **changes: Any) -> Result:
    """A result of 100 samples, 5 of them wrong unattacked, and these broken at eps 0.2 (half of
    them at 0.1)."""
    y = np.arange(N) % 2
    clean, adv, near = y.copy(), y.copy(), np.ones(N, dtype=bool)
    clean[:5] = adv[:5] = 1 - y[:5]
    near[:5] = False
    adv[broken], near[broken[::2]] = 1 - y[broken], False
    rows = [
        EpsRow(eps, wilson(int(ok.sum()), N), int(ok.sum()), [], "Linf")
        for eps, ok in ((0.1, near), (0.2, adv == y))
    ]
    arrays = {"index": np.arange(N), "y": y, "clean_pred": clean, "adv_pred": adv}
    arrays |= {"correct_0.1": near, "correct_0.2": adv == y}
    made: dict[str, Any] = {
        "name": name,
        "recipe": {},
        "dataset": "toy",
        "split": "test",
        "n": N,
        "threat": {"name": "Linf", "eps": 0.2},
        "seed": 0,
        "clean": wilson(95, N),
        "robust": rows[-1].robust,
        "by_eps": rows,
        "attacks": [],
        "checks": [],
        "train": {},
        "versions": {},
        "commit": "",
        "data_sha256": "00",
        "suite": "quick",
        "suite_version": 1,
        "precision": "float32",
        "device": "cpu",
        "seconds": 1.0,
        "class_names": ["a", "b"],
        "arrays": arrays,
    }
    return Result(**{**made, **changes})
