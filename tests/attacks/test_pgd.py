"""PGD against a literal loop and against problems with a known answer."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import BIM, FGSM, FGSM_RS, PGD
from sparring.attacks.base import value_and_grad
from sparring.batch import Batch
from sparring.functional.losses import cross_entropy, margin
from sparring.threats import L1, L2, Box, Linf
from tests.oracles import Linear, gain_in_ball, gain_in_linf_and_box, problem
from tests.reference import search

LOOPS = {"Linf": (Linf(0.1), search.pgd_linf), "L2": (L2(0.3), search.pgd_l2)}
EVERY_LOOP = pytest.mark.parametrize("norm", list(LOOPS))


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def literal_paths(
    norm: str, model: nn.Module, x: Tensor, y: Tensor, steps: int
) -> list[list[Tensor]]:
    """Every iterate of every sample, searched one by one, from the starts of a PGD with seed 0."""
    threat, loop = LOOPS[norm]
    starts = threat.random_start(Batch(x, y), torch.Generator().manual_seed(0))
    paths = []
    for i in range(len(x)):
        loss = loss_at(model, y[i : i + 1])
        paths.append(loop(loss, x[i], starts[i], eps=threat.eps, size=0.03, steps=steps))
    return paths


def classify(model: nn.Module, y: Tensor):
    """The gain of a trainer that fights over cross-entropy."""

    def f(z: Tensor) -> Tensor:
        logits = model(z)
        return cross_entropy(logits, y)

    return f


def loss_at(model: nn.Module, y: Tensor):
    return lambda z: cross_entropy(model(z), y)


class TestLiteralLoop:
    @EVERY_LOOP
    def test_the_last_iterate(self, norm):
        model, x, y = problem()
        attack = PGD(LOOPS[norm][0], steps=5, size=0.03, best=False)
        x_adv = attack.maximize(classify(model, y), Batch(x, y))
        last = torch.stack([path[-1] for path in literal_paths(norm, model, x, y, 5)])
        assert torch.allclose(x_adv, last, rtol=0, atol=1e-7)

    @EVERY_LOOP
    def test_the_best_iterate(self, norm):
        model, x, y = problem()
        attack = PGD(LOOPS[norm][0], steps=5, size=0.03, best=True)
        x_adv = attack.maximize(classify(model, y), Batch(x, y))
        for i, path in enumerate(literal_paths(norm, model, x, y, 5)):
            best = search.attack(path, loss_at(model, y[i : i + 1]), lambda _: False)
            assert torch.allclose(x_adv[i], best, rtol=0, atol=1e-7)

    @EVERY_LOOP
    def test_a_call_is_a_search_sample_by_sample(self, norm):
        """Broken samples leave the batch; that changes nothing for the others."""
        model, x, y = problem(b=12)
        x_adv = PGD(LOOPS[norm][0], steps=5, size=0.03)(model, x, y)
        for i, path in enumerate(literal_paths(norm, model, x, y, 5)):
            label = y[i : i + 1]
            expected = search.attack(
                path, loss_at(model, label), lambda z, t=label: bool(wrong(model, z[None], t))
            )
            assert torch.allclose(x_adv[i], expected, rtol=0, atol=1e-7)


class TestLinearModel:
    """What an adversary gains on a linear margin is eps·‖w‖ in the dual norm."""

    w = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)

    def gained(self, attack: PGD, x: Tensor) -> Tensor:
        model, y = Linear(self.w), torch.zeros(len(x), dtype=torch.long)
        with torch.no_grad():
            return margin(model(attack(model, x, y)), y) - margin(model(x), y)

    def middle(self) -> Tensor:
        return torch.full((3, 6), 0.5, dtype=torch.float64)

    @pytest.mark.parametrize("loss", ["ce", "margin"])
    @pytest.mark.parametrize("start", [True, False])
    @pytest.mark.parametrize(
        ("threat", "p"), [(Linf(0.1), math.inf), (L2(0.3), 2.0), (L1(0.4), 1.0)]
    )
    def test_pgd(self, threat, p, loss, start):
        attack = PGD(threat, steps=60, size=threat.eps, loss=loss, random_start=start)
        exact = gain_in_ball(self.w, threat.eps, p)
        assert torch.allclose(
            self.gained(attack, self.middle()), torch.tensor(exact, dtype=self.w.dtype), rtol=1e-4
        )

    @pytest.mark.parametrize(
        ("threat", "p"), [(Linf(0.1), math.inf), (L2(0.3), 2.0), (L1(0.4), 1.0)]
    )
    def test_one_step_is_enough(self, threat, p):
        exact = torch.tensor(gain_in_ball(self.w, threat.eps, p), dtype=self.w.dtype)
        assert torch.allclose(self.gained(FGSM(threat), self.middle()), exact)

    def test_the_box_bounds_the_linf_ball(self):
        x = torch.rand(20, 6, dtype=torch.float64)
        exact = gain_in_linf_and_box(self.w, x, 0.3)
        for attack in (FGSM(Linf(0.3)), BIM(Linf(0.3)), PGD(Linf(0.3), steps=20)):
            assert torch.allclose(self.gained(attack, x), exact)

    def test_the_whole_box(self):
        x = torch.rand(20, 6, dtype=torch.float64)
        exact = gain_in_linf_and_box(self.w, x, 1.0)
        assert torch.allclose(self.gained(PGD(Box(), steps=20), x), exact)

    def test_robust_accuracy_is_a_threshold_on_the_margin(self):
        model = Linear(self.w, b=-1.6)
        x = torch.rand(400, 6, dtype=torch.float64)
        y = model(x).argmax(1)
        side = torch.where(y == 0, 1.0, -1.0) * (model(x)[:, 0] - model(x)[:, 1])
        room = torch.where((self.w > 0) == (y == 0)[:, None], 1 - x, x)
        breaks = (self.w.abs() * room.clamp_max(0.1)).sum(1) > side
        assert 0.2 < breaks.double().mean() < 0.8
        assert torch.equal(wrong(model, PGD(Linf(0.1), steps=10)(model, x, y), y), breaks)


class TestKeywords:
    def test_the_step_length(self):
        attack = PGD(Linf(0.3), steps=10)
        assert attack.step_size == pytest.approx(0.075)
        attack.threat.eps = 0.1  # as a schedule does
        assert attack.step_size == pytest.approx(0.025)
        assert PGD(Linf(0.3), size=0.01).step_size == 0.01
        assert PGD(Box(low=0.0, high=2.0), steps=5).step_size == pytest.approx(1.0)
        assert FGSM_RS(Linf(0.2)).step_size == pytest.approx(0.25)
        assert FGSM_RS(Linf(0.0)).step_size == 0

    def test_the_ratio_of_fgsm_rs_follows_eps(self):
        attack = FGSM_RS(Linf(0.2), ratio=1.5)
        assert repr(attack) == "PGD(Linf(0.2), steps=1, size=0.30000000000000004, best=False)"
        attack.threat.eps = 0.1  # as a schedule does
        assert attack.step_size == pytest.approx(0.15)
        assert copy.deepcopy(attack).config()["size"] == attack.step_size
        attack.size = 0.02
        assert attack.step_size == 0.02
        assert PGD(**attack.config()).step_size == 0.02

    def test_fgsm_is_x_plus_eps_sign(self):
        model, x, y = problem()
        _, grad = value_and_grad(classify(model, y), x)
        still = ~wrong(model, x, y)
        x_adv = FGSM(Linf(0.1))(model, x, y)
        assert torch.allclose(x_adv[still], (x + 0.1 * grad.sign()).clamp(0, 1)[still])
        assert torch.equal(x_adv[~still], x[~still])

    def test_bim_starts_at_x(self):
        model, x, y = problem()
        expected = PGD(Linf(0.1), steps=3, random_start=False)(model, x, y)
        assert torch.equal(BIM(Linf(0.1), steps=3)(model, x, y), expected)

    @pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
    def test_losses(self, loss):
        model, x, y = problem(b=40)
        x_adv = PGD(Linf(0.2), steps=10, loss=loss)(model, x, y)
        assert wrong(model, x_adv, y).sum() > 1.5 * wrong(model, x, y).sum()

    def test_the_seed_decides_and_moves_on(self):
        model, x, y = problem()
        attack = PGD(Linf(0.02), steps=1, size=1e-3, seed=3)
        first, second = attack(model, x, y), attack(model, x, y)
        assert not torch.equal(first, second)
        attack.reseed(3)
        assert torch.equal(attack(model, x, y), first)

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"steps": 0}, "steps = 0 is not allowed: steps must be an integer ≥ 1"),
            ({"size": 0.0}, r"size = 0\.0 is not allowed"),
            ({"restarts": 0}, "restarts = 0 is not allowed"),
            ({"loss": "margn"}, "loss = 'margn' does not exist; did you mean 'margin'"),
            (
                {"mode": "test"},
                "mode = 'test' is not allowed: mode must be one of eval, train, keep",
            ),
            (
                {"precision": "int8"},
                "precision = 'int8' is not allowed: precision must be one of float32, bfloat16",
            ),
        ],
    )
    def test_values_out_of_range(self, keywords, message):
        with pytest.raises(ValueError, match=message):
            PGD(Linf(0.1), **keywords)


class TestRestartsAndTargets:
    def test_restarts_break_more_and_lose_nothing(self):
        model, x, y = problem(b=60)
        one = wrong(model, PGD(Linf(0.05), steps=2, size=0.01)(model, x, y), y)
        many = wrong(model, PGD(Linf(0.05), steps=2, size=0.01, restarts=20)(model, x, y), y)
        assert many[one].all()
        assert many.sum() > one.sum()

    def test_the_highest_loss_of_an_unbroken_sample_is_kept(self):
        model, x, y = problem(b=30)
        kept = []
        for restarts in (1, 5, 10):
            x_adv = PGD(Linf(0.03), steps=2, size=0.005, restarts=restarts)(model, x, y)
            kept.append(
                torch.where(
                    wrong(model, x_adv, y), torch.inf, cross_entropy(model(x_adv), y).detach()
                )
            )
        assert (kept[1] >= kept[0]).all()
        assert (kept[2] >= kept[1]).all()

    def test_restarts_in_training_keep_the_highest(self):
        model, x, y = problem()
        f = classify(model, y)
        one = f(PGD(Linf(0.1), steps=2, best=False).maximize(f, Batch(x, y)))
        five = f(PGD(Linf(0.1), steps=2, best=False, restarts=5).maximize(f, Batch(x, y)))
        assert (five >= one).all()
        assert (five > one).any()

    def test_targeted_reaches_its_class(self):
        model, x, _ = problem(b=40)
        target = (model(x).argmax(1) + 1) % 4
        x_adv = PGD(Linf(0.6), steps=30, targeted=True, random_start=False)(model, x, target)
        reached = model(x_adv).argmax(1) == target
        assert reached.double().mean() > 0.7
        nearer = cross_entropy(model(x_adv), target) < cross_entropy(model(x), target)
        assert nearer[~reached].all()

    def test_targeted_leaves_what_is_already_there(self):
        model, x, _ = problem()
        there = model(x).argmax(1)
        attack = PGD(Linf(0.1), targeted=True, random_start=False)
        assert torch.equal(attack(model, x, there), x)


def test_a_model_without_a_gradient_raises():
    _, x, y = problem()
    with pytest.raises(
        ValueError, match="no gradient with respect to its input: it detaches or leaves torch"
    ):
        PGD(Linf(0.1))(lambda z: torch.eye(4, dtype=z.dtype)[y] + 0 * z.detach().sum(), x, y)


def test_a_function_is_a_model():
    model, x, y = problem()
    attack = PGD(Linf(0.1), seed=1)
    expected = attack(model, x, y)
    attack.reseed(1)
    assert torch.equal(attack(lambda z: model(z), x, y), expected)


def test_called_without_gradients_it_takes_its_own():
    model, x, y = problem()
    expected = PGD(Linf(0.1))(model, x, y)
    with torch.no_grad():
        assert torch.equal(PGD(Linf(0.1))(model, x, y), expected)


def test_passes_are_those_that_are_needed():
    """steps forwards and backwards, and one look at the last point; nothing for samples that are
    broken."""
    w = torch.ones(6, dtype=torch.float64)
    model, x = Linear(w), torch.full((3, 6), 0.5, dtype=torch.float64)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    PGD(Linf(0.1), steps=4)(model, x, torch.zeros(3, dtype=torch.long))
    assert seen == [3] * 5
    seen.clear()
    PGD(Linf(0.1), steps=4, restarts=3)(
        model, x, torch.tensor([0, 1, 1])
    )  # class 1 is wrong from the start
    assert seen == [3] + [1] * 4 + [1] * 10
