"""Rounding inside the ball: against all grid points of small problems, and through every attack."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sparring import attacks
from sparring.attacks.base import ActiveSet, Search, run_restarts
from sparring.batch import Batch
from sparring.evaluation.judge import feasible, judge
from sparring.functional.rounding import level_values, round_inside_ball
from sparring.threats import L0, L1, L2, Linf, Only, Rounded, Threat

LEVELS = 5
NORMS = {math.inf: 0.33, 2: 0.41, 1: 0.7, 0: 2}


def size(d: torch.Tensor, p: float) -> float:
    return float((d.abs() > 1e-6).sum()) if p == 0 else float(torch.linalg.vector_norm(d, ord=p))


@pytest.mark.parametrize("p", list(NORMS))
def test_the_end_is_a_level_in_the_ball_and_the_nearest_where_that_is_inside(p):
    draw = torch.Generator().manual_seed(1)
    eps = NORMS[p]
    for _ in range(60):
        x = torch.randint(0, LEVELS + 1, (1, 3), generator=draw).double() / LEVELS
        threat = {math.inf: Linf, 2: L2, 1: L1, 0: L0}[p](eps)
        batch = Batch(x, torch.zeros(1, dtype=torch.long))
        z = threat.project(x + 0.4 * torch.randn(1, 3, generator=draw).double(), batch)
        end = round_inside_ball(z, x, eps, p, low=0.0, high=1.0, levels=LEVELS)
        k = (end * LEVELS).round()
        assert torch.equal(end, level_values(k, levels=LEVELS))
        assert size(end - x, p) <= eps + 1e-9
        nearest = (z * LEVELS).round() / LEVELS
        if size(nearest - x, p) <= eps + 1e-9:
            assert torch.allclose(end, nearest)
        if p == math.inf:  # coordinates are independent: the nearest of all grid points inside
            grid = itertools.product(range(LEVELS + 1), repeat=3)
            inside = [
                torch.tensor(g).double() / LEVELS
                for g in grid
                if size(torch.tensor(g).double() / LEVELS - x[0], p) <= eps + 1e-9
            ]
            best = min(float((g - z[0]).square().sum()) for g in inside)
            assert float((end - z).square().sum()) == pytest.approx(best, abs=1e-9)


def test_a_radius_of_whole_levels_is_reached_in_float32():
    x = torch.arange(256, dtype=torch.uint8).to(torch.float32)[None] / 255
    batch = Batch(x, torch.zeros(1, dtype=torch.long))
    for k in range(1, 33):
        threat = Rounded(Linf(k / 255))
        for side in (1, -1):
            end = threat.discretize(threat.project(x + side, batch), batch)
            levels = torch.arange(256) + side * k
            expected = levels.clamp(0, 255).to(torch.uint8).to(torch.float32) / 255
            assert torch.equal(end[0], expected)


def test_an_l2_ball_is_spent_on_the_coordinates_nearest_to_the_level_behind():
    x, z = torch.zeros(1, 3), torch.tensor([[0.9, 0.8, 0.7]])
    rounded = [
        round_inside_ball(z, x, eps, 2, low=0.0, high=4.0, levels=4).tolist()[0]
        for eps in (0.5, 1.0, 1.5, 1.8)
    ]
    assert rounded == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_coordinates_between_levels_stay_until_a_move_reaches_one():
    x = torch.tensor([[0.5, 0.5, 0.5]])
    z = torch.tensor([[0.55, 0.62, 0.35]])
    end = round_inside_ball(z, x, 0.2, math.inf, low=0.0, high=1.0, levels=5)
    assert torch.allclose(end, torch.tensor([[0.6, 0.6, 0.4]]))
    end = round_inside_ball(z, x, 0.09, math.inf, low=0.0, high=1.0, levels=5)
    assert torch.equal(end[0, 0], x[0, 0])  # 0.6 is too far


def problem() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    linear = torch.nn.Linear(48, 4)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(4, 48, generator=draw))
        linear.bias.zero_()
    model = torch.nn.Sequential(torch.nn.Flatten(), linear)
    x = torch.randint(0, 256, (12, 3, 4, 4), generator=draw).to(torch.uint8).float() / 255
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize(
    ("name", "ball"),
    [
        ("PGD", Linf(6 / 255)),
        ("APGD", Linf(6 / 255)),
        ("APGD", L2(0.2)),
        ("APGDT", Linf(6 / 255)),
        ("FAB", L2(0.2)),
        ("Square", Linf(6 / 255)),
        ("Square", L2(0.2)),
        ("CW", L2(0.3)),
        ("DeepFool", Linf(8 / 255)),
        ("MIFGSM", Linf(6 / 255)),
        ("SPSA", Linf(6 / 255)),
        ("Noise", Linf(20 / 255)),
        ("HopSkipJump", L2(0.3)),
    ],
)
def test_every_attack_ends_at_bytes_inside_the_ball(name, ball):
    model, x, y = problem()
    threat = Rounded(ball)
    little = {"queries": 300} if name in ("Square", "HopSkipJump") else {}
    x_adv = getattr(attacks, name)(threat, **little)(model, x, y)
    as_bytes = (x_adv * 255).round().to(torch.uint8)
    assert torch.equal(as_bytes.to(torch.float32) / 255, x_adv)
    assert feasible(threat, x_adv, x, y).all()


def test_a_search_that_sees_the_rounding_keeps_its_successes():
    """Without it, most successes of a small ball are lost on the way to the file."""
    model, x, y = problem()
    eps = 1.6 / 255
    inside = attacks.APGD(Rounded(Linf(eps)))(model, x, y)
    within = attacks.APGD(Linf(1 / 255))(model, x, y)  # the largest whole level
    assert torch.equal(model(inside).argmax(1) != y, model(within).argmax(1) != y)


def near_the_boundary(on_levels: bool) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A linear model, and samples that a few levels suffice to break."""
    draw = torch.Generator().manual_seed(3)
    w, x = torch.randn(20, generator=draw), 0.3 + 0.4 * torch.rand(200, 20, generator=draw)
    w = w - w.mean()
    x = x - ((x @ w) - torch.linspace(0.0005, 0.05, 200))[:, None] * w / w.norm() ** 2
    if on_levels:
        x = (x * 255).round().to(torch.uint8).float() / 255
    model = torch.nn.Linear(20, 2)
    with torch.no_grad():
        model.weight.copy_(torch.stack([w, 0 * w]))
        model.bias.zero_()
    return model, x, model(x).argmax(1)


def search_and_judge(attack: Search | attacks.PGD, model, x, y) -> tuple[ActiveSet, torch.Tensor]:
    """The rows at the end of a search, and which of its points the judge counts."""
    seen: list[ActiveSet] = []

    def search(active: ActiveSet, round_index: int) -> None:
        seen.append(active)
        attack.search(active, round_index)

    x_adv = run_restarts(attack, model, x, y, search)
    return seen[-1], judge(model, attack.threat, x_adv, x, y, name="A").is_adversarial(y)


BALLS = {"Linf": Linf(2 / 255), "L2": L2(3 / 255), "L1": L1(6 / 255)}


SEARCHES = [(name, ball) for name in ("PGD", "APGD", "Square", "FAB") for ball in BALLS]


@pytest.mark.parametrize("on_levels", [False, True])
@pytest.mark.parametrize(("name", "ball"), [*SEARCHES, ("CW", "L2"), ("MIFGSM", "Linf")])
def test_what_a_search_counts_as_broken_the_judge_does_too(name, ball, on_levels):
    """The end lay elsewhere than the search saw: such samples left, and counted as robust."""
    little = {"queries": 200} if name == "Square" else {}
    attack = getattr(attacks, name)(Rounded(BALLS[ball]), **little)
    active, adversarial = search_and_judge(attack, *near_the_boundary(on_levels))
    assert active.broken.any()
    assert adversarial[active.broken].float().mean() > 0.99  # of sums in L1, a rounding is outside
    if ball == "Linf":
        assert adversarial[active.broken].all()


@pytest.mark.parametrize("name", ["PGD", "APGD", "MIFGSM", "Square"])
def test_a_sample_that_rounding_itself_breaks_is_searched_on(name):
    """Right at 0.24 and wrong at 0.2: the nearest of ten levels, and one in the ball."""
    model = lambda x: torch.stack([x.sum(1) - 0.21, 0 * x[:, 0]], 1)  # noqa: E731
    x, y = torch.full((3, 1), 0.24), torch.zeros(3, dtype=torch.long)
    little = {"queries": 100} if name == "Square" else {}
    attack = getattr(attacks, name)(Rounded(Linf(0.1), levels=10), **little)
    assert attack(model, x, y).tolist() == [[pytest.approx(0.2)]] * 3


def test_a_resting_sample_between_levels_stays_what_it_is():
    model = lambda x: torch.stack([x.sum(1) - 0.21, 0 * x[:, 0]], 1)  # noqa: E731
    x, y = torch.full((3, 1), 0.24), torch.zeros(3, dtype=torch.long)
    threat = Only(Rounded(Linf(0.1), levels=10), classes=[1])  # type: ignore[arg-type]
    active, adversarial = search_and_judge(attacks.PGD(threat), model, x, y)
    assert not active.broken.any()
    assert not adversarial.any()


@pytest.mark.parametrize("p", list(NORMS))
def test_ends_around_any_picture_are_inside(p):
    """Rounding forgives a thousandth of a level: each picture had a coordinate that far outside."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(20, 3, 32, 32, generator=draw), torch.zeros(20, dtype=torch.long)
    threat = Rounded({math.inf: Linf(8 / 255), 2: L2(0.5), 1: L1(12.0), 0: L0(20)}[p])
    batch = Batch(x, y)
    z = threat.project(x + torch.randn(x.shape, generator=draw), batch)
    end = threat.discretize(z, batch)
    assert feasible(threat, end, x, y).all()
    assert (end != x).any()


def test_pictures_on_their_levels_cost_no_more_passes_in_linf():
    model, x, y = near_the_boundary(on_levels=True)
    ends: list[tuple[Threat, bool]] = [
        (Rounded(Linf(2 / 255)), True),
        (Only(Rounded(Linf(2 / 255)), classes=[0]), True),
        (Rounded(L2(3 / 255)), False),
    ]
    for threat, as_searched in ends:
        assert threat.ends_as_searched(x) == as_searched
        assert not threat.ends_as_searched(x + 1e-4)
        assert ActiveSet(model, x, y, threat=threat).lower_precision != as_searched
    assert Linf(0.1).ends_as_searched(x + 1e-4)


def test_in_linf_a_radius_is_that_of_whole_levels():
    assert Rounded(Linf(8 / 255)).eps == 8 / 255
    assert Rounded(Linf(2.6 / 255)).eps == 2 / 255
    assert Rounded(Linf(0.9 / 255)).eps == 0
    assert Rounded(L2(0.5)).eps == 0.5
    threat = Rounded(Linf(1 / 255))
    threat.eps = 3.5 / 255  # as a schedule does
    assert (threat.eps, threat.of.eps) == (3 / 255, 3.5 / 255)


@pytest.mark.parametrize("of", [None, "Linf"])
def test_only_a_ball_is_rounded(of):
    with pytest.raises(ValueError, match="of"):
        Rounded(of)  # type: ignore[arg-type]


def test_in_l0_a_pixel_counts_once():
    """Two pixels of three channels fill a ball of two: their channels may take any level."""
    x = torch.full((1, 3, 2, 2), 100 / 255)
    batch, z = Batch(x, torch.zeros(1, dtype=torch.long)), x.clone()
    z[0, :, 0, :] = 200.9 / 255
    end = (Rounded(L0(2)).discretize(z, batch) * 255).round()
    assert end[0, :, 0].eq(201).all()
    assert end[0, :, 1].eq(100).all()
    z[0, 0, 1, 0] = 100.9 / 255  # a third pixel: nothing is left for it
    assert ((Rounded(L0(2)).discretize(z, batch) * 255).round() == end).all()


@pytest.mark.parametrize("eps", [0, 1, 2, 3])
def test_in_l0_rounding_takes_the_nearest_pixels(eps):
    """Against all choices of pixels: those at x pay, in order of their smallest gap."""
    draw = torch.Generator().manual_seed(2)
    for _ in range(40):
        k = torch.randint(0, LEVELS + 1, (1, 2, 2, 2), generator=draw).double()
        u = (torch.rand(k.shape, generator=draw).double() * 2 - 1) * 0.98
        u[:, :, 0, 0] *= 2
        level = (k + u).clamp(0, LEVELS)
        inner = torch.where(level >= k, level.floor(), level.ceil())
        used = (inner != k).any(1)
        gap = torch.where((level.round() - inner).abs() > 0, (level.round() - level).abs(), 9.0)
        paid = sorted((gap.amin(1)[0][i].item(), i) for i in free(used, gap))
        left = max(eps - int(used.sum()), 0)
        allowed = used.clone()
        for _, i in paid[:left]:
            allowed[0][i] = True
        expected = torch.where(allowed[:, None], level.round(), inner) / LEVELS
        args = {"low": 0.0, "high": 1.0, "levels": LEVELS}
        end = round_inside_ball(level / LEVELS, k / LEVELS, eps, 0, **args)
        assert torch.allclose(end, expected)


def free(used: torch.Tensor, gap: torch.Tensor) -> list[tuple[int, int]]:
    """The pixels at x that would move."""
    at = itertools.product(range(2), repeat=2)
    return [i for i in at if not used[0][i] and gap[0, :, i[0], i[1]].min() < 9]
