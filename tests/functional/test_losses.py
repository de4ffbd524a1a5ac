"""Per-sample losses against their literal twins, and at logits where softmax underflows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparring.functional import losses
from sparring.methods.mart import mart
from sparring.methods.trades import TRADES
from tests.reference import losses as literal

LABELLED = {
    "cross_entropy": losses.cross_entropy,
    "margin": losses.margin,
    "dlr": losses.dlr,
    "boosted_ce": losses.boosted_ce,
    "probability_margin": losses.probability_margin,
}
HARD = list(LABELLED)


def logits(
    b: int = 20, k: int = 5, *, seed: int = 0, scale: float = 2.0, dtype=torch.float64
) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(b, k, generator=draw, dtype=dtype)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("k", [3, 10])
def test_hard_labels_are_the_literal_formula(name, k):
    z, y = logits(k=k), torch.arange(20) % k
    twin = [
        getattr(literal, name)(row.tolist(), int(label)) for row, label in zip(z, y, strict=True)
    ]
    assert torch.allclose(
        LABELLED[name](z, y), torch.tensor(twin, dtype=z.dtype), rtol=1e-10, atol=1e-12
    )


def test_soft_labels_are_the_literal_formula():
    z, q = logits(), logits(seed=1).softmax(1)
    twin = [
        literal.cross_entropy(row.tolist(), soft.tolist()) for row, soft in zip(z, q, strict=True)
    ]
    assert torch.allclose(losses.cross_entropy(z, q), torch.tensor(twin, dtype=z.dtype))


def test_one_hot_labels_are_integer_labels():
    z, y = logits(), torch.arange(20) % 5
    one_hot = torch.nn.functional.one_hot(y, 5).to(z.dtype)
    assert torch.allclose(losses.cross_entropy(z, one_hot), losses.cross_entropy(z, y))


def test_kl_is_the_literal_formula():
    z, other = logits(), logits(seed=1)
    twin = [literal.kl(a.tolist(), b.tolist()) for a, b in zip(z, other, strict=True)]
    assert torch.allclose(losses.kl(z, other), torch.tensor(twin, dtype=z.dtype))


def test_not_confident_is_one_minus_p():
    z, y = logits(), torch.arange(20) % 5
    twin = [
        1 - literal.softmax(row.tolist())[label] for row, label in zip(z, y.tolist(), strict=True)
    ]
    assert torch.allclose(losses.misclassification_weight(z, y), torch.tensor(twin, dtype=z.dtype))
    sure = torch.tensor([[10.0, 0.0]])
    result = losses.misclassification_weight(sure, torch.tensor([0]))
    assert result.item() == pytest.approx(4.539787e-5, abs=1e-7)  # a float32 step below 1 is 6e-8


@pytest.mark.parametrize("name", [*HARD, "misclassification_weight"])
def test_gradients_are_those_of_the_formula(name):
    z, y = logits(6).requires_grad_(), torch.arange(6) % 5
    assert torch.autograd.gradcheck(lambda z: getattr(losses, name)(z, y), (z,))


def test_kl_differentiates_both_arguments():
    pair = (logits(6).requires_grad_(), logits(6, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(losses.kl, pair)


@pytest.mark.parametrize(
    "name",
    ["cross_entropy", "margin", "probability_margin", "boosted_ce", "misclassification_weight"],
)
def test_unlabeled_rows_count_nothing(name):
    z, y = logits(3).requires_grad_(), torch.tensor([-1, 2, -1])
    loss = getattr(losses, name)(z, y)
    assert torch.equal(loss == 0, y == -1)
    (grad,) = torch.autograd.grad(loss.sum(), z)
    assert torch.equal(grad.abs().sum(1) == 0, y == -1)


@given(scale=st.floats(0.1, 10.0), shift=st.floats(-50.0, 50.0), seed=st.integers(0, 99))
def test_dlr_does_not_see_scale_and_shift(scale, shift, seed):
    z, y = logits(seed=seed), torch.arange(20) % 5
    assert torch.allclose(losses.dlr(scale * z + shift, y), losses.dlr(z, y))


@given(shift=st.floats(-100.0, 100.0), seed=st.integers(0, 99))
def test_a_shift_of_the_logits_changes_no_loss(shift, seed):
    z, y = logits(seed=seed), torch.arange(20) % 5
    for loss in LABELLED.values():
        assert torch.allclose(loss(z + shift, y), loss(z, y), atol=1e-9)


@given(seed=st.integers(0, 99))
def test_classes_may_be_renamed(seed):
    z, y = logits(seed=seed), torch.arange(20) % 5
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    for loss in LABELLED.values():
        assert torch.allclose(loss(z[:, order], order.argsort()[y]), loss(z, y))


def test_dlr_needs_three_classes():
    with pytest.raises(
        ValueError, match="needs at least 3 classes, this model has 2: use 'margin'"
    ):
        losses.dlr(torch.zeros(1, 2), torch.tensor([0]))


def test_two_classes():
    z, y = logits(k=2), torch.arange(20) % 2
    assert torch.allclose(
        losses.boosted_ce(z, y), 2 * losses.cross_entropy(z, y)
    )  # 1 − p_other = p_y


def test_ties():
    z, y = torch.zeros(3, 4), torch.arange(3)
    assert losses.margin(z, y).eq(0).all()
    assert losses.dlr(z, y).eq(0).all()
    assert torch.allclose(
        losses.boosted_ce(z, y), torch.full((3,), 4.0).log() - torch.tensor(0.75).log()
    )


class TestLargeLogits:
    """Float32 at scales where softmax underflows to 0 and 1 − p to 0."""

    y = torch.arange(64) % 5
    extreme = torch.tensor(
        [[200.0, -200, 0, 1, 2], [-200.0, 200, 0, 1, 2], [200.0, 200, 200, 200, 200]]
    )

    def points(self, scale: float, seed: int) -> Tensor:
        z = logits(64 - len(self.extreme), seed=seed, scale=scale, dtype=torch.float32)
        return torch.cat([z, self.extreme.roll(seed, 1)]).requires_grad_()

    @pytest.mark.parametrize("scale", [20.0, 60.0, 200.0])
    @pytest.mark.parametrize("name", [*HARD, "misclassification_weight", "kl", "mart", "trades"])
    def test_values_and_gradients_are_finite(self, name, scale):
        z, other, y = self.points(scale, 0), self.points(scale, 1), self.y
        value = {
            "kl": lambda: losses.kl(z, other),
            "mart": lambda: mart(z, other, y, 5.0),
            "trades": lambda: losses.cross_entropy(z, y) + TRADES().beta * losses.kl(z, other),
        }.get(name, lambda: getattr(losses, name)(z, y) + 0 * other.sum())()
        grads = torch.autograd.grad(value.sum(), (z, other))
        assert value.isfinite().all()
        assert all(grad.isfinite().all() for grad in grads)

    @pytest.mark.parametrize("scale", [20.0, 60.0])
    def test_float32_agrees_with_float64(self, scale):
        z, other, y = self.points(scale, 0).detach(), self.points(scale, 1).detach(), self.y
        exact = mart(z.double(), other.double(), y, 5.0)
        assert torch.allclose(mart(z, other, y, 5.0).double(), exact, rtol=1e-4, atol=1e-4)
        exact = losses.boosted_ce(z.double(), y)
        assert torch.allclose(losses.boosted_ce(z, y).double(), exact, rtol=1e-5, atol=1e-5)

    def test_the_margin_term_is_exact_where_one_minus_p_underflows(self):
        z = torch.tensor([[0.0, 100.0, -5.0]])
        assert torch.allclose(
            losses.boosted_ce(z, torch.tensor([0])), torch.tensor([200.0 - 0.0067153])
        )


class TestMaskedClasses:
    """A class of logit −inf has probability 0, and 0·log 0 = 0."""

    z, other = torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([[2.0, 1.5, -1.0]])

    def pair(self, *, masked: bool) -> list[Tensor]:
        """The two rows with the last class masked, or without it."""
        ends = torch.full((1, 1), -torch.inf)
        rows = [t[:, :2] for t in (self.z, self.other)]
        rows = [torch.cat([t, ends], 1) for t in rows] if masked else rows
        return [t.clone().requires_grad_() for t in rows]

    def test_kl_is_that_of_the_other_classes(self):
        masked, plain = self.pair(masked=True), self.pair(masked=False)
        found, exact = losses.kl(*masked), losses.kl(*plain)
        assert found.item() == pytest.approx(0.0263, abs=1e-4)
        assert torch.allclose(found, exact)
        grads = torch.autograd.grad(found.sum(), masked)
        expected = torch.autograd.grad(exact.sum(), plain)
        for a, b in zip(grads, expected, strict=True):
            assert torch.allclose(a[:, :2], b, atol=1e-7)
            assert a[0, 2] == 0

    def test_a_class_that_only_the_second_masks_is_infinitely_far(self):
        z, other = self.z, self.pair(masked=True)[1]
        assert losses.kl(z, other).item() == torch.inf

    def test_soft_labels_that_leave_a_masked_class_out(self):
        z, q = self.pair(masked=True)[0], torch.tensor([[0.3, 0.7, 0.0]])
        short = self.pair(masked=False)[0]
        found, exact = losses.cross_entropy(z, q), losses.cross_entropy(short, q[:, :2])
        assert torch.allclose(found, exact)
        (grad,) = torch.autograd.grad(found.sum(), z)
        (expected,) = torch.autograd.grad(exact.sum(), short)
        assert torch.allclose(grad[:, :2], expected)
        assert grad[0, 2] == 0

    def test_a_label_on_a_masked_class_costs_inf_soft_or_hard(self):
        z = self.pair(masked=True)[0]
        for y in (torch.tensor([2]), torch.tensor([[0.0, 0.0, 1.0]])):
            assert losses.cross_entropy(z, y).item() == torch.inf
