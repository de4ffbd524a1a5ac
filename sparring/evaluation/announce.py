"""Announce the attacks of an evaluation with their expected passes: for the time left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..runtime.workload import Task
from ..threats.base import Threat
from .radii import norms_of
from .sampling import nearest
from .session import AttackRunner, attack_title
from .suites import Suite

# Forward passes per sample that an attack does not break, by its label, as results count them.
# They weigh attacks against each other until the first radius has shown their seconds.
PASSES = {
    "FGSM": 2,
    "PGD-20": 21,
    "PGD-40 from x": 41,
    "PGD-100": 101,
    "PGD-50×10 margin": 510,
    "APGD-PM-30": 32,
    "APGD-DLR-50": 52,
    "APGD-T-50×3": 160,
    "Square-500 nearest": 500,
    "APGD-CE": 102,
    "APGD-CE×5": 506,
    "APGD-DLR×5": 506,
    "APGD-CE EOT-20": 2021,
    "APGD-DLR EOT-20": 2021,
    "APGD-T": 920,
    "APGD-T again": 920,
    "FAB-T": 1900,
    "FAB×5": 9300,
    "Square": 5000,
    "Square again": 5000,
    "Sparse-RS": 5000,
    "SPSA": 5160,
    "MI-FGSM": 12,
    "DeepFool": 53,
    "CW": 111,
    "dFGSM-50": 51,
    "rFGSM-50": 51,
    "BGA-50": 50,
    "BCA-50": 50,
    "Grosse-50": 50,
    "BitSearch": 500,
}


def announced(runner: AttackRunner, suite: Suite, threats: Sequence[Threat]) -> list[Task]:
    """Return every attack at every radius with the samples it will have at most, in order."""
    correct = np.flatnonzero(runner.correct_clean)
    margins = np.zeros(len(runner.y))
    return [
        Task(
            title=attack_title(entry.label, threat, norm.name),
            label=entry.label,
            group=attack_title("", threat, norm.name),
            samples=len(nearest(correct, margins, entry.near_share)),
            passes=PASSES.get(entry.label, 0),
        )
        for threat, norm in zip(threats, norms_of(threats), strict=True)
        for entry in suite.entries_for(threat)
    ]
