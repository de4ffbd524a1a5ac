"""Methods that need the joint batch: two processes agree with one that has it."""

from __future__ import annotations

import pytest
import torch

from tests import processes

from . import ranks


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What each of two gloo processes found."""
    return processes.run("tests.methods.ranks", tmp_path_factory.mktemp("ranks"), ranks.WORLD)


def test_two_processes_give_the_loss_and_gradient_of_one(two):
    one = ranks.gradients(slice(None))
    for result in two:
        assert result.pop("world") == ranks.WORLD
        assert result.keys() == one.keys()
        for key, value in one.items():
            assert value.abs().sum() > 0
            torch.testing.assert_close(result[key], value, rtol=1e-9, atol=1e-12, msg=key)
