"""Label smoothing: one number of the objective, for every method, against literal twins."""

import pytest
import torch
from torch import nn

from sparring import methods
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.config.recipe import load_recipe
from sparring.functional.losses import cross_entropy, hard_labels, smoothed_labels
from sparring.methods import MART
from sparring.objective import Objective
from sparring.risks import KL, Mean, PerClass
from sparring.threats import Linf
from tests.reference import losses as twin
from tests.training.small import finish, trainer

K, S = 4, 0.2
METHODS = {
    "Standard": methods.Standard(),
    "AT": methods.AT(),
    "TRADES": methods.TRADES(beta=2.0),
    "MART": methods.MART(beta=2.0),
    "MART as its authors": methods.MART(beta=2.0, compat=True),
    "MART, inner": methods.MART(inner="self"),
    "ALP": methods.ALP(),
    "UAT": methods.UAT(),
    "OTJR": methods.OTJR(),
    "JR": methods.JR(),
    "SAT": methods.SAT(),
    "UAD": methods.UAD(sites=["body"], reference="body"),
    "Sparsity": methods.Sparsity(),
    "semi": methods.SemiSupervised(of=methods.MART(), unlabelled=methods.UAT(fixed=0.0)),
}
# the share of the smoothed cross-entropies in the loss: (of x, of x')
SHARES = {
    "Standard": (1.0, 0.0),
    "AT": (0.0, 1.0),
    "TRADES": (1.0, 0.0),
    "MART": (0.0, 1.0),
    "MART as its authors": (0.0, 1.0),
    "ALP": (0.5, 0.5),
    "UAT": (0.0, 5.0),
}


class Grid(nn.Module):
    """Features with channels, then logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(48, K)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def batch(*, unlabelled: bool = False) -> Batch:
    draw = torch.Generator().manual_seed(2)
    y = torch.tensor([0, 3, 1, -1 if unlabelled else 2, 0])
    return Batch(torch.rand(5, 1, 4, 4, generator=draw), y)


def losses(method, smoothing, *, unlabelled=False):
    """The loss of an objective, and the logits of x and x'."""
    model = Grid()
    goal = Objective(PGD(Linf(0.1), steps=2, best=False), method, Mean(), smoothing=smoothing)
    full = goal.maximize(model, batch(unlabelled=unlabelled))
    torch.manual_seed(3)
    return goal.minimize(model, full), model(full.x), model(full.x_adv), full


def test_smoothed_labels_are_the_formula_s():
    y = torch.tensor([2, 0, -1])
    soft = smoothed_labels(y, 3, 0.3)
    torch.testing.assert_close(
        soft, torch.tensor([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.0, 0.0, 0.0]])
    )
    torch.testing.assert_close(smoothed_labels(soft[:2], 3, 0.3), 0.7 * soft[:2] + 0.1)
    assert torch.equal(hard_labels(soft), y)
    logits = torch.randn(3, 3)
    torch.testing.assert_close(
        cross_entropy(logits[:2], soft[:2]),
        torch.nn.functional.cross_entropy(logits[:2], y[:2], label_smoothing=0.3, reduction="none"),
    )


@pytest.mark.parametrize("name", SHARES)
def test_every_cross_entropy_of_a_method_is_smoothed_and_nothing_else(name):
    method, (clean_share, share) = METHODS[name], SHARES[name]
    hard, clean, adversarial, full = losses(method, None)
    soft, *_ = losses(method, S)
    for k, (y, u) in enumerate(zip(full.y.tolist(), soft.per_sample, strict=True)):
        q = [(1 - S) * (j == y) + S / K for j in range(K)]
        moved = sum(
            w * (twin.cross_entropy(z[k].tolist(), q) - twin.cross_entropy(z[k].tolist(), y))
            for w, z in ((clean_share, clean), (share, adversarial))
        )
        assert u.item() == pytest.approx(hard.per_sample[k].item() + moved, abs=2e-5)


def test_mart_against_its_literal_twin():
    loss, clean, adversarial, full = losses(MART(beta=2.0), S)
    for z, other, y, u in zip(clean, adversarial, full.y.tolist(), loss.per_sample, strict=True):
        q = [(1 - S) * (j == y) + S / K for j in range(K)]
        far = twin.boosted_ce(other.tolist(), y) - twin.cross_entropy(other.tolist(), y)
        weight = 1 - twin.softmax(z.tolist())[y]
        stable = 2.0 * twin.kl(z.tolist(), other.tolist()) * weight
        value = twin.cross_entropy(other.tolist(), q) + far + stable
        assert u.item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_it_and_the_adversary_does_not_see_it(name):
    unlabelled = name in ("Sparsity", "semi", "UAT")
    hard, *_, full = losses(METHODS[name], None, unlabelled=unlabelled)
    soft, *_, other = losses(METHODS[name], S, unlabelled=unlabelled)
    assert torch.equal(full.x_adv, other.x_adv)
    assert soft.total.isfinite()
    assert soft.per_sample.shape == (5,)
    assert not torch.equal(soft.total, hard.total)
    torch.testing.assert_close(soft.penalty, hard.penalty) if name in ("OTJR", "SAT") else None


def test_zero_and_none_change_nothing():
    for method in (METHODS["TRADES"], METHODS["MART"]):
        values = [losses(method, s)[0].total for s in (None, 0.0)]
        assert torch.equal(*values)


def test_unlabelled_rows_have_no_label_loss():
    for smoothing in (None, S):
        loss = losses(METHODS["AT"], smoothing, unlabelled=True)[0]
        assert loss.per_sample[3] == 0


def test_the_clean_part_is_smoothed_and_the_risk_keeps_the_labels():
    model, risk = Grid(), PerClass(of=KL(radius=0.1), classes=[0])
    goal = Objective(None, methods.Standard(), risk, natural=0.5, smoothing=S)
    full = goal.maximize(model, batch())
    loss = goal.minimize(model, full)
    q = smoothed_labels(full.y, K, S)
    clean = cross_entropy(model(full.x), q)
    torch.testing.assert_close(loss.terms["clean"], clean.mean().detach())
    torch.testing.assert_close(loss.total, 0.5 * risk(clean, full.cost, full) + 0.5 * clean.mean())


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), "much"])
def test_values_that_are_not_allowed(value):
    with pytest.raises(ValueError, match="smoothing"):
        Objective(None, methods.Standard(), Mean(), smoothing=value)
    with pytest.raises(ValueError, match=r"objective\.smoothing = "):
        load_recipe("digits-mart", set={"objective.smoothing": value})


def test_a_recipe_names_it_and_older_recipes_do_not():
    tables = load_recipe("digits-mart", set=["objective.smoothing=0.1"]).tables
    assert tables["objective"]["smoothing"] == 0.1
    assert "smoothing" not in load_recipe("digits-mart").tables["objective"]
    assert load_recipe(tables).objective().smoothing == 0.1


def test_a_training_with_it_learns_and_differs(tmp_path):
    plain = finish(trainer(tmp_path / "a", epochs=1))
    run = trainer(tmp_path / "b", epochs=1)
    run.stepper.objective.smoothing = 0.1
    assert not torch.equal(plain[".model.0.weight"], finish(run)[".model.0.weight"])
