"""For every test: one thread, known seeds, and the annotations of the pure core and of the five rooms checked."""

from __future__ import annotations

import pytest
import torch
from beartype import BeartypeConf
from beartype.claw import beartype_packages
from hypothesis import settings

PURE = ("losses", "geometry", "dist", "probe", "objective")
ROOMS = ("threats", "attacks", "methods", "risks", "weights")

beartype_packages(
    [f"sparring.{name}" for name in (*PURE, *ROOMS)],
    conf=BeartypeConf(is_pep484_tower=True),  # an int is a float
)
torch.set_num_threads(1)
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The global generator stands at 0 when a test begins."""
    torch.manual_seed(0)
