"""UAT, and methods for rows with and without labels: golden values, identities, composition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.batch import Batch, Loss
from sparring.functional.losses import cross_entropy, kl
from sparring.methods import AT, MART, TRADES, UAT, Method, SemiSupervised
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from tests.oracles import problem

NONE = torch.tensor([1, 4, 5])


def few(y: Tensor) -> Tensor:
    return y.clone().index_fill_(0, NONE, -1)


def moved(y_of=few) -> tuple[nn.Module, Batch]:
    model, x, y = problem()
    x_adv, y = (x + 0.1 * torch.sign(x - 0.4)).clamp(0, 1), y_of(y)
    return model, Batch(x, y, x_adv=x_adv, y_adv=y, cost=torch.zeros(8, dtype=x.dtype))


def same(y: Tensor) -> Tensor:
    return y


class TestUAT:
    def test_its_terms(self):
        model, batch = moved()
        clean, adversarial = model(batch.x), model(batch.x_adv)
        result = UAT(online=2.0, fixed=3.0).loss(model, batch).per_sample
        terms = 2 * kl(clean, adversarial) + 3 * cross_entropy(adversarial, batch.y)
        assert torch.allclose(result, terms)

    def test_online_targets_have_no_gradient(self):
        """Of KL(stop(p) ‖ q) the gradient in q's logits is q − p; none comes through p."""
        model, batch = moved(lambda y: torch.full_like(y, -1))
        loss = UAT(online=1.0).loss(model, batch).per_sample.sum()
        grads = torch.autograd.grad(loss, list(model.parameters()))
        logits = model(batch.x_adv)
        with torch.no_grad():
            pull = logits.softmax(1) - model(batch.x).softmax(1)
        wanted = torch.autograd.grad(logits, list(model.parameters()), pull)
        assert all(torch.allclose(a, b) for a, b in zip(grads, wanted, strict=True))

    def test_fixed_targets_alone_are_adversarial_training(self):
        model, batch = moved()
        one = UAT(online=0.0, fixed=1.0)
        result = one.loss(model, batch).per_sample
        assert torch.equal(result, AT().loss(model, batch).per_sample)
        gains = [m.gain(model, batch)(batch.x_adv, batch.y) for m in (one, AT())]
        assert torch.equal(*gains)

    def test_the_adversary_climbs_the_loss(self):
        """Gain and loss differ by the entropy of the clean prediction."""
        model, batch = moved()
        method = UAT(online=2.0, fixed=3.0)
        value = method.gain(model, batch)(batch.x_adv, batch.y)
        p = model(batch.x)
        entropy = cross_entropy(p, p.softmax(1))
        assert torch.allclose(value - 2 * entropy, method.loss(model, batch).per_sample)

    @pytest.mark.parametrize("key", ["online", "fixed"])
    def test_mistakes(self, key):
        with pytest.raises(ValueError, match=f"{key} = -1.0 is not allowed"):
            UAT(**{key: -1.0})


class Noting(Method):
    """Takes a note in `gain` and returns it as the loss."""

    def gain(self, model, batch):
        batch.extra["note"] = batch.x.flatten(1).sum(1)
        return super().gain(model, batch)

    def loss(self, model, batch):
        return Loss(batch.extra["note"] + 0 * model(batch.x).sum(1), penalty=torch.tensor(2.0))


class TestSemiSupervised:
    def test_each_row_has_the_loss_of_its_method(self):
        model, batch = moved()
        mart, trades = MART(beta=5.0), TRADES(beta=3.0)
        result = SemiSupervised(of=mart, unlabelled=trades).loss(model, batch)
        one, other = (m.loss(model, batch).per_sample for m in (mart, trades))
        assert torch.allclose(result.per_sample, torch.where(batch.y >= 0, one, other))
        assert {"boosted_ce", "weight", "unlabelled natural", "unlabelled kl"} == set(result.terms)

    def test_and_its_adversary_the_gain_of_its_method(self):
        model, batch = moved()
        objective = {
            name: Objective(PGD(Linf(0.1), steps=3), method, Mean())
            for name, method in (
                ("both", SemiSupervised(of=MART(), unlabelled=TRADES())),
                ("mart", MART()),
                ("trades", TRADES()),
            )
        }
        plain = Batch(batch.x, batch.y)
        x_adv = {name: o.maximize(model, plain).x_adv for name, o in objective.items()}
        known = (batch.y >= 0)[:, None]
        assert torch.equal(x_adv["both"], torch.where(known, x_adv["mart"], x_adv["trades"]))

    def test_with_all_labels_it_is_its_first_method_and_with_none_its_second(self):
        for y_of, method in ((same, MART()), (lambda y: torch.full_like(y, -1), TRADES())):
            model, batch = moved(y_of)
            result = SemiSupervised(of=MART(), unlabelled=TRADES()).loss(model, batch)
            assert torch.equal(result.per_sample, method.loss(model, batch).per_sample)

    def test_notes_go_from_gain_to_loss_and_penalties_add_up(self):
        model, batch = moved()
        method = SemiSupervised(of=Noting(), unlabelled=Noting())
        clean = replace(batch, extra={})
        method.gain(model, clean)
        result = method.loss(model, clean)
        assert torch.allclose(result.per_sample, batch.x.flatten(1).sum(1))
        assert result.penalty == 4

    def test_gamma_is_the_weight_of_the_rows(self):
        """Mean over w of l: a row of weight γ counts γ times."""
        model, batch = moved()
        weight = torch.where(batch.y >= 0, 1.0, 0.25).double()
        method = SemiSupervised(of=MART(), unlabelled=TRADES())
        loss = method.loss(model, batch).per_sample
        result = Objective(None, method, Mean()).minimize(model, replace(batch, weight=weight))
        assert torch.allclose(result.total, (weight * loss).sum() / weight.sum())

    def test_updates_see_only_their_rows(self):
        seen = []

        class Counting(AT):
            def update(self, model, batch):
                seen.append(len(batch))

        model, batch = moved()
        SemiSupervised(of=Counting(), unlabelled=Counting()).update(model, batch)
        assert seen == [5, 3]


class TestPseudoLabels:
    """RST and MART with pseudo-labels are TRADES and MART: such a row has a label."""

    def test_trades_on_a_row_without_a_label_is_stability_alone(self):
        model, batch = moved()
        result = TRADES(beta=6.0).loss(model, batch).per_sample[NONE]
        assert torch.allclose(result, 6 * kl(model(batch.x), model(batch.x_adv))[NONE])
