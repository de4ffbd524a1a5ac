"""Two processes agree with one that has the joint batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparring.runtime import distributed
from tests import processes, ranks

DRAWN = ["uniform", "normal", "exponential", *map(repr, ranks.THREATS)]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, Tensor]]:
    """The tensors of each of two gloo processes."""
    return processes.run("tests.ranks", tmp_path_factory.mktemp("ranks"), ranks.WORLD)


@pytest.fixture(scope="module")
def one() -> dict[str, Tensor]:
    return ranks.everything(slice(None))


def test_who_is_who(two):
    assert [int(r["rank"]) for r in two] == [0, 1]
    assert [int(r["world"]) for r in two] == [2, 2]
    assert (distributed.rank(), distributed.world()) == (0, 1)


def test_gather_has_the_rows_of_all_in_order(one, two):
    for results in two:
        assert torch.equal(results["gather"], one["gather"])


@pytest.mark.parametrize("name", ["logsumexp", "mean"])
def test_a_risk_of_the_joint_batch_and_its_gradient(name, one, two):
    for results in two:
        assert torch.allclose(results[name], one[name], rtol=1e-12)
        assert torch.allclose(results[f"{name} gradient"], one[f"{name} gradient"], rtol=1e-10)


@pytest.mark.parametrize("name", ranks.UADS)
def test_statistics_of_features_are_those_of_the_joint_batch(name, one, two):
    for results in two:
        assert torch.allclose(results[name], one[name], rtol=1e-10)
        assert torch.allclose(results[f"{name} gradient"], one[f"{name} gradient"], rtol=1e-8)


def test_the_seed_is_the_first_one_s(one, two):
    assert [int(results["seed"]) for results in two] == [int(one["seed"])] * 2


def test_mean_is_that_of_both(two):
    x = ranks.joint()[0]
    for results in two:
        assert torch.allclose(results["first"], (x[0] + x[ranks.ROWS]) / 2)


@pytest.mark.parametrize("name", DRAWN)
def test_each_has_its_rows_of_the_joint_draw(name, one, two):
    assert torch.equal(torch.cat([results[name] for results in two]), one[name])


class TestOneProcess:
    def test_gather_and_mean_are_the_identity(self):
        u = torch.rand(3, requires_grad=True)
        assert distributed.gather(u) is u
        assert distributed.mean(u.detach()).equal(u)

    def test_draws_have_the_shape_dtype_and_law_asked_for(self):
        like = torch.zeros(4000, 2, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        means = {"uniform": 0.5, "normal": 0.0, "exponential": 1.0}
        for kind, mean in means.items():
            drawn = distributed.draw(kind, like, generator)
            assert drawn.shape == like.shape
            assert drawn.dtype == like.dtype
            assert drawn.mean().item() == pytest.approx(mean, abs=0.05)

    def test_without_a_generator_the_global_one_is_used(self):
        torch.manual_seed(1)
        first = distributed.draw("normal", torch.zeros(3))
        torch.manual_seed(1)
        assert torch.equal(distributed.draw("normal", torch.zeros(3)), first)

    def test_an_unknown_law(self):
        with pytest.raises(
            ValueError,
            match="kind = 'cauchy' is not allowed: kind must be uniform, normal or exponential",
        ):
            distributed.draw("cauchy", torch.zeros(1))
