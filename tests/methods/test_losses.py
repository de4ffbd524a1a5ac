"""MART and TRADES: golden values, literal twins, exact gradients, and the identities that join the
methods."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparring.batch import Batch
from sparring.functional.losses import boosted_ce, cross_entropy, kl, misclassification_weight
from sparring.methods import AT, MART, TRADES, Standard
from sparring.methods.mart import mart, mart_compat
from tests.oracles import problem
from tests.reference import losses as literal

Z_ADV = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
Z = torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.5, 2.0]], dtype=torch.float64)
Y = torch.tensor([0, 2])
EXACT = {"rtol": 0.0, "atol": 6e-7}  # the golden values have seven digits


def close(found: Tensor, value: float | list[list[float]]) -> bool:
    return torch.allclose(found, torch.tensor(value, dtype=found.dtype), **EXACT)


def random_pair(b: int = 20, k: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    clean, adversarial = 2 * torch.randn(2, b, k, generator=draw, dtype=torch.float64)
    return clean, adversarial, torch.arange(b) % k


class Fixed(nn.Module):
    """A model that gives the logits it is handed."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def through(method, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
    """A method's per-sample loss at given logits."""
    return method.loss(Fixed(), Batch(clean, y, x_adv=adversarial, y_adv=y)).per_sample


class TestGolden:
    """Two samples, three classes, worked out by hand for the paper's loss and for the authors'
    code."""

    def test_terms(self):
        assert close(cross_entropy(Z_ADV, Y).mean(), 1.2887260)
        assert close((boosted_ce(Z_ADV, Y) - cross_entropy(Z_ADV, Y)).mean(), 1.0686311)
        assert close((kl(Z, Z_ADV) * misclassification_weight(Z, Y)).mean(), 0.3414292)

    def test_totals(self):
        assert close(mart(Z, Z_ADV, Y, 5.0).mean(), 4.0645029)
        assert close(through(MART(beta=5.0), Z, Z_ADV, Y).mean(), 4.0645029)

    def test_terms_and_total_of_the_authors(self):
        alone = mart_compat(Z, Z_ADV, Y, 0.0)
        assert close((alone - cross_entropy(Z_ADV, Y)).mean(), 1.0682448)
        assert close((mart_compat(Z, Z_ADV, Y, 1.0) - alone).mean(), 0.3414292)
        assert close(through(MART(beta=5.0, compat=True), Z, Z_ADV, Y).mean(), 4.0641170)

    def test_exact_gradients(self):
        clean, adversarial = Z.clone().requires_grad_(), Z_ADV.clone().requires_grad_()
        grads = torch.autograd.grad(mart(clean, adversarial, Y, 5.0).mean(), (adversarial, clean))
        assert close(grads[0], [[0.518845, -0.549274, 0.030429], [-0.179067, 1.375688, -1.196622]])
        assert close(grads[1], [[-0.850721, 0.899043, -0.048322], [0.329630, -0.027408, -0.302222]])


class TestTwins:
    @pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
    def test_mart(self, beta):
        clean, adversarial, y = random_pair()
        rows = zip(clean.tolist(), adversarial.tolist(), y.tolist(), strict=True)
        twin = torch.tensor([literal.mart(*row, beta) for row in rows], dtype=clean.dtype)
        assert torch.allclose(through(MART(beta=beta), clean, adversarial, y), twin, rtol=1e-10)

    @pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
    def test_mart_of_the_authors(self, beta):
        clean, adversarial, y = random_pair()
        rows = zip(clean.tolist(), adversarial.tolist(), y.tolist(), strict=True)
        twin = torch.tensor([literal.mart_authors(*row, beta) for row in rows], dtype=clean.dtype)
        assert torch.allclose(
            through(MART(beta=beta, compat=True), clean, adversarial, y), twin, rtol=1e-10
        )

    @pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
    def test_trades(self, beta):
        clean, adversarial, y = random_pair()
        rows = zip(clean.tolist(), adversarial.tolist(), y.tolist(), strict=True)
        twin = torch.tensor([literal.trades(*row, beta) for row in rows], dtype=clean.dtype)
        assert torch.allclose(through(TRADES(beta=beta), clean, adversarial, y), twin, rtol=1e-10)

    @pytest.mark.parametrize("method", [MART(), MART(compat=True), TRADES()], ids=repr)
    def test_nothing_is_detached(self, method):
        """Numerical derivatives in both logits agree: weight and target carry their gradients."""
        clean, adversarial, y = random_pair(5)
        pair = (clean.requires_grad_(), adversarial.requires_grad_())
        assert torch.autograd.gradcheck(lambda a, b: through(method, a, b, y), pair)

    def test_the_authors_cap_the_margin_term_and_the_exact_form_does_not(self):
        clean, y = torch.zeros(1, 3), torch.tensor([0])
        adversarial = torch.tensor([[0.0, 30.0, 0.0]])
        far = {
            compat: through(MART(beta=0.0, compat=compat), clean, adversarial, y) - 30
            for compat in (True, False)
        }
        assert far[True].item() == pytest.approx(9.21034, abs=1e-3)
        assert far[False].item() == pytest.approx(30 - 0.6931472, abs=1e-4)


class TestIdentities:
    def test_mart_without_its_second_term_is_boosted_cross_entropy(self):
        clean, adversarial, y = random_pair()
        assert torch.equal(
            through(MART(beta=0.0), clean, adversarial, y), boosted_ce(adversarial, y)
        )

    def test_mart_without_margin_and_second_term_is_adversarial_training(self):
        clean, adversarial, y = random_pair()
        far = boosted_ce(adversarial, y) - cross_entropy(adversarial, y)
        left = through(MART(beta=0.0), clean, adversarial, y) - far
        assert torch.allclose(left, through(AT(), clean, adversarial, y), rtol=1e-12)

    def test_mart_with_weight_one_and_clean_cross_entropy_is_trades(self):
        clean, adversarial, y = random_pair()
        moved = through(MART(beta=6.0), clean, adversarial, y) - through(
            MART(beta=0.0), clean, adversarial, y
        )
        joined = cross_entropy(clean, y) + moved / misclassification_weight(clean, y)
        assert torch.allclose(joined, through(TRADES(beta=6.0), clean, adversarial, y), rtol=1e-10)

    def test_trades_without_its_second_term_is_standard_training(self):
        clean, adversarial, y = random_pair()
        expected = through(Standard(), clean, adversarial, y)
        assert torch.equal(through(TRADES(beta=0.0), clean, adversarial, y), expected)

    def test_at_on_the_clean_points_is_standard_training(self):
        clean, _, y = random_pair()
        assert torch.equal(through(AT(), clean, clean, y), through(Standard(), clean, clean, y))

    def test_a_sure_clean_prediction_has_no_second_term(self):
        sure, adversarial, y = (
            torch.tensor([[900.0, 0.0, 0.0]]),
            torch.tensor([[0.0, 1.0, 2.0]]),
            torch.tensor([0]),
        )
        assert torch.equal(
            through(MART(beta=5.0), sure, adversarial, y), boosted_ce(adversarial, y)
        )

    def test_soft_adversarial_labels_are_those_that_at_learns(self):
        clean, adversarial, _ = random_pair()
        soft = clean.softmax(1)
        batch = Batch(clean, torch.zeros(20, dtype=torch.long), x_adv=adversarial, y_adv=soft)
        assert torch.equal(AT().loss(Fixed(), batch).per_sample, cross_entropy(adversarial, soft))


class TestGains:
    def test_what_each_adversary_climbs(self):
        model, x, y = problem()
        batch, x_adv = Batch(x, y), (x + 0.1).clamp(0, 1)
        with torch.no_grad():
            clean, adversarial = model(x), model(x_adv)
            own = MART(beta=3.0, inner="self").gain(model, batch)(x_adv, y)
            assert torch.equal(own, mart(clean, adversarial, y, 3.0))
            for method in (AT(), Standard(), MART()):
                assert torch.equal(
                    method.gain(model, batch)(x_adv, y), cross_entropy(adversarial, y)
                )
            value = TRADES().gain(model, batch)(x_adv, y)
        entropy = cross_entropy(clean, clean.softmax(1))
        assert torch.allclose(value - entropy, kl(clean, adversarial))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MART(beta=-1.0), r"beta = -1\.0 is not allowed: beta must be a weight ≥ 0"),
        (lambda: TRADES(beta=-1.0), r"beta = -1\.0 is not allowed: beta must be a weight ≥ 0"),
        (lambda: MART(inner="kl"), r"inner = 'kl' is not allowed: inner must be one of ce, self"),
    ],
)
def test_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
