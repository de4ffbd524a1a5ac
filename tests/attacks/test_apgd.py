"""APGD against a literal loop, its schedule by hand, and problems with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import APGD, APGDT, Attack
from sparring.attacks.apgd import dlr_targeted
from sparring.attacks.ascent import MomentumAscent, checkpoints
from sparring.attacks.base import ActiveSet
from sparring.batch import Model
from sparring.functional.losses import cross_entropy, dlr, margin
from sparring.threats import L1, L2, Box, Linf
from tests.oracles import Linear, Net, gain_in_ball, gain_in_linf_and_box, problem
from tests.reference import apgd, search

BALLS = {"Linf": Linf(0.06), "L2": L2(0.12)}
NORM = {"Linf": math.inf, "L2": 2, "L1": 1}


def wrong(model: Model, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def noise(x: Tensor, p: float, seed: int = 0) -> Tensor:
    """What the attack draws for its start."""
    generator, t = torch.Generator().manual_seed(seed), torch.empty_like(x)
    return (
        2 * t.uniform_(generator=generator) - 1 if p == math.inf else t.normal_(generator=generator)
    )


def literal(name: str, threat, model: nn.Module, x: Tensor, y: Tensor, steps: int, **kw) -> Tensor:
    """What the search returns, sample by sample; those wrong at x stay there."""
    p, loss = NORM[type(threat).__name__], {"ce": cross_entropy, "dlr": dlr}[name]
    out, still = x.clone(), ~wrong(model, x, y)
    for t, i in zip(noise(x[still], p), still.nonzero()[:, 0].tolist(), strict=True):
        label = y[i : i + 1]
        f = lambda z, label=label: loss(model(z), label)  # noqa: E731
        if p == 1:
            trace = apgd.climb_l1(f, x[i], t, eps=threat.eps, steps=steps, **kw)
        else:
            trace = apgd.climb(f, x[i], t, eps=threat.eps, p=p, steps=steps, **kw)
        points = [torch.tensor(point, dtype=x.dtype) for point in trace.points]
        out[i] = search.attack(points, f, lambda z, label=label: bool(wrong(model, z[None], label)))
    return out


class TestLiteralLoop:
    @pytest.mark.parametrize("name", ["ce", "dlr"])
    @pytest.mark.parametrize("norm", list(BALLS))
    def test_the_returned_points(self, norm, name):
        """Some rows break on the way and leave; that changes nothing for the others. Once a row has
        converged rounding decides what counts as a rise: no more than 20 steps."""
        model, x, y = problem(b=10)
        x_adv = APGD(BALLS[norm], steps=20, loss=name)(model, x, y)
        expected = literal(name, BALLS[norm], model, x, y, 20)
        broken = wrong(model, x_adv, y) & ~wrong(model, x, y)
        assert 0 < broken.sum() < (~wrong(model, x, y)).sum()
        assert torch.allclose(x_adv, expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("name", ["ce", "dlr"])
    @pytest.mark.parametrize("norm", list(BALLS))
    def test_where_nothing_breaks(self, norm, name):
        model, x, y = problem(b=6, seed=3)
        y = model(x).argmax(1)
        threat = type(BALLS[norm])(0.01)
        x_adv = APGD(threat, steps=24, loss=name)(model, x, y)
        expected = literal(name, threat, model, x, y, 24)
        assert not wrong(model, x_adv, y).any()
        assert torch.allclose(x_adv, expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("steps", [8, 60])
    def test_l1(self, steps):
        model, x, y = problem(b=10, d=12, seed=1)
        x_adv = APGD(L1(0.3), steps=steps)(model, x, y)
        expected = literal("ce", L1(0.3), model, x, y, steps)
        broken = wrong(model, x_adv, y) & ~wrong(model, x, y)
        assert 0 < broken.sum() < (~wrong(model, x, y)).sum()
        assert torch.allclose(x_adv, expected, rtol=0, atol=1e-9)

    def test_large_balls_first(self):
        """Three searches in shrinking balls; only the last can break a sample."""
        model, x, y = problem(b=8, d=12, seed=2)
        y = model(x).argmax(1)
        x_adv = APGD(L1(0.2), steps=20, largereps=True)(model, x, y)
        for i, t in enumerate(noise(x, 1)):
            label = y[i : i + 1]
            f = lambda z, label=label: cross_entropy(model(z), label)  # noqa: E731
            point, points = (x[i] + t).tolist(), []
            for eps, steps in ((0.6, 6), (0.4, 6), (0.2, 8)):
                trace = apgd.climb_l1(f, x[i], t, eps=eps, steps=steps, given=point)
                point, points = trace.best, trace.points
            expected = search.attack(
                [torch.tensor(v, dtype=x.dtype) for v in points],
                f,
                lambda z, label=label: bool(wrong(model, z[None], label)),
            )
            assert torch.allclose(x_adv[i], expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("rho", [0.0, 0.75, 1.0])
    def test_the_state_after_each_step(self, rho):
        """Step lengths and points, also where a row was halved and taken back."""
        model, x, y = problem(b=5, seed=1)
        f = lambda z: cross_entropy(model(z), y)  # noqa: E731
        steps, t, eps = 40, noise(x, math.inf), 0.3
        twins = [
            apgd.climb(
                lambda z, i=i: cross_entropy(model(z), y[i : i + 1]),
                x[i],
                t[i],
                eps=eps,
                p=math.inf,
                steps=steps,
                rho=rho,
            )
            for i in range(len(x))
        ]
        attack = APGD(Linf(eps), steps=steps, rho=rho)
        active = ActiveSet(model, x, y)
        project = attack._project(eps)
        start = attack._start(active, project)
        ascent = MomentumAscent(project, x, start, y, 2 * eps, steps, math.inf, rho)
        for step in range(steps + 1):
            if step:
                ascent.move(step)
            seen = torch.tensor([twin.points[step] for twin in twins], dtype=x.dtype)
            assert torch.allclose(ascent.z, seen, rtol=0, atol=1e-9)
            value, grad, _ = active.value_and_grad(lambda out: cross_entropy(out, y), ascent.z)
            ascent.update(value, grad)
            ascent.adapt(step)
            if step:
                sizes = [twin.sizes[step - 1] for twin in twins]
                assert ascent.step_size.tolist() == pytest.approx(sizes)
        assert torch.allclose(ascent.best_value, f(ascent.best), rtol=0, atol=1e-12)
        halved = ascent.step_size < 2 * eps
        assert halved.any()


class TestSchedule:
    @pytest.mark.parametrize(
        ("steps", "marks"),
        [
            (1, [1]),
            (5, [1, 2, 3, 4, 5]),
            (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]),
            (20, [4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
            (50, [11, 21, 30, 38, 45]),
            (100, [22, 41, 57, 70, 80, 87, 93, 99]),
            (200, [44, 82, 114, 140, 160, 174, 186, 198]),
        ],
    )
    def test_checkpoints(self, steps, marks):
        windows = checkpoints(steps)
        assert list(windows) == marks
        assert list(windows.values()) == [b - a for a, b in zip([0, *marks], marks, strict=False)]
        assert [w for w in apgd.looks(steps) if w <= steps] == marks

    @pytest.mark.parametrize(
        ("steps", "counts"),
        [(100, [30, 30, 40]), (50, [15, 15, 20]), (7, [3, 3, 1]), (1, [1, 1, 0])],
    )
    def test_large_balls(self, steps, counts):
        phases = APGD(L1(1.0), steps=steps, largereps=True).phases
        assert phases == list(zip((3, 2, 1), counts, strict=True))

    @pytest.mark.parametrize("threat", [Linf(1e-3), L2(1e-3), L1(1e-3)], ids=["Linf", "L2", "L1"])
    def test_passes(self, threat):
        """One at x, one at the start and one a step; the last point needs no gradient."""
        assert count(APGD(threat, steps=10)) == (1 + 11, 10)

    def test_passes_of_the_variants(self):
        assert count(APGD(L1(1e-3), steps=10, largereps=True)) == (1 + 3 + 10, 10)
        assert count(APGD(Linf(1e-3), steps=4, eot=3)) == (1 + 3 * 5, 3 * 4)
        assert count(APGD(Linf(1e-3), steps=4, restarts=3)) == (1 + 3 * 5, 3 * 4)
        assert count(APGDT(Linf(1e-3), steps=4, targets=2)) == (1 + 1 + 2 * 5, 2 * 4)
        assert count(APGDT(Linf(1e-3), steps=4)) == (1 + 1 + 3 * 5, 3 * 4)


def count(attack: Attack) -> tuple[int, int]:
    """Forward and backward passes of an attack that breaks nothing."""
    model, x, _ = problem()
    passes = {"forward": 0, "backward": 0}

    def counted(z: Tensor) -> Tensor:
        passes["forward"] += 1
        if z.requires_grad:
            z.register_hook(lambda g: passes.update(backward=passes["backward"] + 1))
        return model(z)

    attack(counted, x, model(x).argmax(1))
    return passes["forward"], passes["backward"]


class TestLinearModel:
    """What an adversary gains on a linear margin is eps·‖w‖ in the dual norm."""

    w = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.8, 1.2], dtype=torch.float64)

    def gained(self, attack: Attack, x: Tensor) -> Tensor:
        model, y = Linear(self.w), torch.zeros(len(x), dtype=torch.long)
        with torch.no_grad():
            return margin(model(attack(model, x, y)), y) - margin(model(x), y)

    @pytest.mark.parametrize("loss", ["ce", "margin", "dlr", "dlr-targeted"])
    @pytest.mark.parametrize(
        ("threat", "p"), [(Linf(0.1), math.inf), (L2(0.3), 2.0), (L1(0.4), 1.0)]
    )
    def test_away_from_the_box(self, threat, p, loss):
        x = torch.full((3, 6), 0.5, dtype=torch.float64)
        exact = torch.tensor(gain_in_ball(self.w, threat.eps, p), dtype=x.dtype)
        gained = self.gained(APGD(threat, steps=60, loss=loss), x)
        assert torch.allclose(gained, exact, rtol=2e-3)

    def test_large_balls_first(self):
        x = torch.full((3, 6), 0.5, dtype=torch.float64)
        gained = self.gained(APGD(L1(0.1), steps=60, largereps=True), x)
        exact = torch.tensor(gain_in_ball(self.w, 0.1, 1.0), dtype=x.dtype)
        assert torch.allclose(gained, exact, rtol=2e-3)

    def test_the_box_bounds_the_linf_ball(self):
        x = torch.rand(20, 6, dtype=torch.float64)
        gained = self.gained(APGD(Linf(0.3), steps=40), x)
        assert torch.allclose(gained, gain_in_linf_and_box(self.w, x, 0.3))


class TestLosses:
    def test_the_targeted_one(self):
        logits = torch.randn(30, 6, dtype=torch.float64)
        y, t = torch.arange(30) % 6, (torch.arange(30) + 1 + torch.arange(30) % 5) % 6
        value = dlr_targeted(logits, y, t)
        for i in range(30):
            expected = apgd.dlr_targeted(logits[i].tolist(), int(y[i]), int(t[i]))
            assert value[i].item() == pytest.approx(expected)

    @pytest.mark.parametrize("k", [2, 3])
    def test_the_targeted_one_of_few_classes(self, k):
        logits, y = torch.randn(5, k), torch.zeros(5, dtype=torch.long)
        difference = logits[:, 1] - logits[:, 0]
        assert torch.equal(dlr_targeted(logits, y, torch.ones_like(y)), difference)

    @pytest.mark.parametrize("loss", ["ce", "dlr", "dlr-targeted"])
    @pytest.mark.parametrize("k", [2, 3, 4])
    def test_few_classes(self, k, loss):
        model, x, y = problem(b=40, k=k)
        x_adv = APGD(Linf(0.2), steps=10, loss=loss)(model, x, y)
        assert wrong(model, x_adv, y).sum() > 1.5 * wrong(model, x, y).sum()

    def test_dlr_of_two_classes_is_the_margin(self):
        model, x, y = problem(k=2)
        x_adv = APGD(L2(0.05), steps=10, loss="dlr")(model, x, y)
        assert torch.equal(x_adv, APGD(L2(0.05), steps=10, loss="margin")(model, x, y))


class TestTargets:
    def test_they_come_by_their_logit_at_x(self):
        model, x, y = problem(b=12)
        y = model(x).argmax(1)
        attack, active = APGDT(Linf(0.01)), ActiveSet(model, x, y)
        assert attack.num_rounds(active) == 3
        order = model(x).argsort(1, descending=True)
        for turn in range(3):
            assert torch.equal(attack._target(active, turn), order[:, turn + 1])

    def test_later_targets_only_add(self):
        model, x, y = problem(b=60)
        broken = [
            wrong(model, APGDT(Linf(0.07), steps=10, targets=n)(model, x, y), y) for n in (1, 3)
        ]
        assert broken[1][broken[0]].all()

    def test_a_class_that_is_far_at_x_can_be_the_near_one(self):
        """Logits (5, 4.9, 4, 10·x, 0): class 1 is the nearer at x, and never wins; class 3 can."""

        def model(x: Tensor) -> Tensor:
            flat = [5.0, 4.9, 4.0, 0.0]
            return torch.cat([torch.tensor(flat).repeat(len(x), 1) + 0 * x, 10 * x], 1)

        x, y = torch.full((4, 1), 0.3), torch.zeros(4, dtype=torch.long)
        one, three = (APGDT(Linf(0.25), steps=5, targets=n, seed=2)(model, x, y) for n in (1, 3))
        assert (model(three).argmax(1) == 4).all()
        assert wrong(model, three, y)[wrong(model, one, y)].all()

    def test_the_factory(self):
        attack = APGDT(L1(0.3), steps=7, targets=3, restarts=2, eot=2, largereps=True, seed=4)
        kept = {"steps": 7, "targets": 3, "restarts": 2, "eot": 2, "largereps": True, "seed": 4}
        assert kept.items() <= attack.config().items()
        assert attack.loss == "dlr-targeted"


class TestRandomModels:
    def test_the_mean_of_passes(self):
        """A model whose logits swing by ±noise in turn: two passes cancel it exactly."""
        net = Net(scale=2.0).double()
        _, x, _ = problem()
        y, passes = net(x).argmax(1), [0]

        def swinging(z: Tensor) -> Tensor:
            passes[0] += 1
            tilt = torch.zeros(4, dtype=z.dtype)
            tilt[0] = 3.0 if passes[0] % 2 else -3.0
            return net(z) + tilt * z.sum(1, keepdim=True) * (passes[0] > 1)  # the pass at x is calm

        attack = APGD(Linf(0.01), steps=9, loss="margin", eot=2)
        active, f = ActiveSet(swinging, x, y), lambda z: margin(net(z), y)
        passes[0] = 1
        ascent = MomentumAscent(attack._project(0.01), x, x, y, 0.02, 9, math.inf, 0.75)
        value, grad, logits = attack._evaluate(active, ascent, with_grad=True)
        assert torch.allclose(logits, net(x))
        assert passes[0] == 3
        assert value.shape == (8,)
        assert grad.shape == x.shape
        assert (value >= f(x) - 1e-12).all()  # a maximum is convex: its mean is above

    def test_it_changes_nothing_for_a_fixed_model(self):
        model, x, y = problem()
        one, many = (APGD(L2(0.1), steps=12, eot=n)(model, x, y) for n in (1, 4))
        assert torch.allclose(one, many, rtol=0, atol=1e-9)


class TestRows:
    def test_nan_stays_in_its_row(self):
        net = Net(scale=2.0).double()
        _, x, _ = problem()
        x[:, 0] *= 0.8
        x[3, 0] = 0.987654
        y = net(x).argmax(1)

        def broken(z: Tensor) -> Tensor:
            hole = torch.where((z[:, :1] - 0.987654).abs() < 0.05, torch.nan, 0.0)
            return net(z) + hole * z[:, :1]

        for threat in (Linf(0.01), L2(0.02), L1(0.05)):
            for loss in ("ce", "dlr", "dlr-targeted"):
                x_adv = APGD(threat, steps=12, loss=loss)(broken, x, y)
                assert x_adv.isfinite().all()
                moved = (x_adv != x).any(1)
                moved[3] = True
                assert moved.all()

    @pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(2.0)], ids=["Linf", "L2", "L1"])
    def test_images(self, threat):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
        x = torch.rand(9, 2, 6, 6)
        y = model(x).argmax(1)
        for more in ({}, {"precision": "bfloat16", "channels_last": True}):
            x_adv = APGD(threat, steps=10, **more)(model, x, y)
            assert x_adv.dtype == torch.float32
            assert wrong(model, x_adv, y).sum() > 3
            assert (threat.distance(x_adv, x) <= threat.eps * (1 + 1e-5)).all()

    def test_restarts_lose_nothing(self):
        model, x, y = problem(b=60)
        one, many = (APGD(Linf(0.06), steps=3, restarts=n)(model, x, y) for n in (1, 8))
        assert wrong(model, many, y)[wrong(model, one, y)].all()

    def test_a_constant_model_is_left_alone(self):
        model = lambda x: 0 * x.sum(1, keepdim=True) + torch.tensor([1.0, 0.0, 0.0, 0.0])  # noqa: E731
        x, y = torch.rand(3, 5), torch.zeros(3, dtype=torch.long)
        for threat in (Linf(0.1), L2(0.1), L1(0.1)):
            x_adv = APGD(threat, steps=6, loss="dlr")(model, x, y)
            assert x_adv.isfinite().all()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"steps": 0}, "steps = 0 is not allowed: steps must be an integer ≥ 1"),
        ({"targets": 0}, "targets = 0 is not allowed"),
        ({"order": "malt"}, "order = 'malt' is not allowed: order must be one of logits, linea"),
        ({"restarts": 0}, "restarts = 0 is not allowed"),
        ({"eot": 0}, "eot = 0 is not allowed"),
        ({"rho": 1.5}, r"rho = 1\.5 is not allowed: rho must be a share in \[0, 1\]"),
        ({"loss": "dlr-targetd"}, "did you mean 'dlr-targeted'"),
        ({"largereps": True}, "largereps = True is not allowed: largereps must be False unless"),
        ({"threat": Box()}, "threat must be a ball of Linf or L2 or L1 for APGD"),
    ],
    ids=lambda v: str(v) if isinstance(v, str) else next(iter(v)),
)
def test_values_out_of_range(keywords, message):
    with pytest.raises(ValueError, match=message):
        APGD(**{"threat": Linf(0.1), **keywords})
