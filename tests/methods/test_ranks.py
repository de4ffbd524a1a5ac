"""Methods that need the joint batch: two processes agree with one that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import ranks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What each of two gloo processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    outs = [folder / f"{r}.pt" for r in range(ranks.WORLD)]
    command = [sys.executable, "-m", "tests.methods.ranks"]
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [*command, str(r), str(folder / "store"), str(out)],
            cwd=ROOT,
            env=os.environ | more,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r, out in enumerate(outs)
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(out, weights_only=True) for out in outs]


def test_two_processes_give_the_loss_and_gradient_of_one(two):
    one = ranks.gradients(slice(None))
    for found in two:
        assert found.pop("world") == ranks.WORLD
        assert found.keys() == one.keys()
        for key, value in one.items():
            assert value.abs().sum() > 0
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12, msg=key)
