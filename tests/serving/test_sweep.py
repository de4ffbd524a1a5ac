"""The attack of a page: exact on a linear model, on the grid of 8 bits, and never less for more."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.evaluation.budget import Budget, BudgetSpent
from sparring.runtime.workload import Workload
from sparring.serving.choices import attacks_for, menu, setting
from sparring.serving.png import address, difference, png
from sparring.serving.served import ServedAnswer
from sparring.serving.sweep import Bout, WorstPoint, raised, sweep
from sparring.threats import NORMS
from tests.serving.made import Brightness, pixels, served

DARK = torch.full((1, 8, 8), 102 / 255)  # 0.4: class 0


def run(eps, *, threat="Linf", attack="quick", one=None, x=DARK, label=0):
    one = served() if one is None else one
    plan = setting(threat, eps, attack, [one])
    budget, workload = Budget(), Workload()
    return list(sweep([Bout(0, one, x, label)], plan, budget=budget, workload=workload)), workload


def last_by_eps(points):
    return dict(sorted({p.eps: p for p in points}.items()))


def test_the_curve_is_that_of_the_linear_model():
    """In Linf the mean rises by the levels of 1/255 that fit into eps."""
    points, workload = run(0.2)
    curve = last_by_eps(points)
    assert len(curve) == 9
    for eps, point in curve.items():
        rise = math.floor(255 * eps + 1e-6) / 255
        score = 2 * 40 * (102 / 255 + rise - 0.5)
        assert point.confidence == pytest.approx(1 / (1 + math.exp(score)), abs=1e-4)
        assert point.is_adversarial == (score > 0)
    assert workload.share() == pytest.approx(1)


@pytest.mark.parametrize(("threat", "eps"), [("Linf", "8/255"), ("L2", 1.0), ("L1", 6), ("L0", 9)])
def test_points_are_those_of_a_file_inside_the_ball(threat, eps):
    points, _ = run(eps, threat=threat)
    for point in points:
        levels = 255 * point.x_adv
        assert (levels - levels.round()).abs().max() < 1e-4
        assert (pixels(png(point.x_adv)) == levels[0].round().numpy()).all()
        moved = (point.x_adv - DARK).double()
        p = NORMS[threat].p
        length = (moved != 0).sum() if p == 0 else torch.linalg.vector_norm(moved, p)
        assert length <= point.eps + 1e-5


def test_the_largest_radius_comes_first_and_confidence_falls():
    points, _ = run(0.2)
    assert [p.eps for p in points[:2]] == [0.0, 0.2]
    confidences = [p.confidence for p in last_by_eps(points).values()]
    assert confidences == sorted(confidences, reverse=True)


def test_an_attack_that_failed_is_not_tried_at_smaller_radii():
    points, _ = run(0.05, attack="Square")
    assert [(p.eps, p.is_adversarial) for p in points] == [(0.0, False), (0.05, False)]


def test_a_wrong_answer_needs_no_attack():
    points, _ = run(0.1, label=1)
    assert points[0].is_adversarial
    assert {p.attack for p in points} <= {"", "lowest confidence"}
    points, _ = run(0.1, label=1, attack="Square")  # without gradients, too, at every radius
    assert max(p.eps for p in points) == 0.1
    assert len(points) == 9


def test_models_without_gradient_are_searched_by_outputs_alone():
    class Steps(Brightness):
        def forward(self, x):
            return super().forward((8 * x).round() / 8).detach()

    points, _ = run(0.3, attack="Square", one=served(model=Steps()))
    assert points[1].is_adversarial
    with pytest.raises(ValueError, match="gradient"):
        run(0.3, one=served(model=Steps()))


def test_a_stopped_budget_ends_the_attack():
    one, budget = served(), Budget()
    plan = setting("Linf", 0.2, "quick", [one])
    steps = sweep([Bout(0, one, DARK, 0)], plan, budget=budget, workload=Workload())
    assert next(steps).eps == 0
    budget.stop("cancelled")
    with pytest.raises(BudgetSpent):
        next(steps)


def test_a_smaller_radius_counts_at_a_larger_one():
    known = ServedAnswer(0, torch.tensor([0.5, 0.5]))

    def point(eps, confidence, wrong=False):
        return WorstPoint(0, eps, DARK, known, confidence, wrong)

    rising = [point(1.0, 0.6), point(2.0, 0.4, True), point(3.0, 0.5), point(4.0, 0.3, True)]
    assert [(p.eps, p.confidence) for p in raised(rising)] == [(3.0, 0.4)]
    assert list(raised([])) == []


@pytest.mark.parametrize("norm", NORMS)
def test_every_offered_attack_can_be_built(norm):
    for name, suite in attacks_for(norm).items():
        plan = setting(norm, 3 if norm == "L0" else 0.05, name, [served()])
        for entry in suite.entries_for(plan.threat(plan.eps)):
            entry.make(plan.threat(plan.eps))
    assert {row["name"] for row in menu(norm)} == set(attacks_for(norm))
    assert all(row["about"] for row in menu(norm))


@pytest.mark.parametrize(
    ("threat", "eps", "attack", "message"),
    [
        ("Linv", 0.1, "quick", "threat = 'Linv' does not exist; did you mean 'Linf'"),
        (None, 0.1, "quick", "threat = 'None' does not exist"),
        ("Linf", 0.1, "quik", "attack = 'quik' does not exist; did you mean 'quick'"),
        ("L1", 1, "Sparse-RS", "attack = 'Sparse-RS' does not exist"),
        ("Linf", 0, "quick", "eps = 0 is not allowed"),
        ("Linf", -0.1, "quick", "eps = -0.1 is not allowed"),
        ("Linf", float("nan"), "quick", "eps = nan is not allowed"),
        ("Linf", "nan", "quick", "eps = 'nan' is not allowed"),
        ("Linf", "inf", "quick", "eps = 'inf' is not allowed"),
        ("Linf", True, "quick", "eps = True is not allowed"),
        ("Linf", [0.1], "quick", "eps = .* is not allowed"),
        ("Linf", "1/0", "quick", "eps = '1/0' is not allowed"),
        ("Linf", 8, "quick", "at most 1, the width of the box"),
        ("L0", 2.5, "quick", "a whole number of locations"),
        ("Linf", "0." + "1" * 100, "quick", "eps = .* is not allowed"),
        ("Linf", 10**400, "quick", "eps = .* is not allowed"),
    ],
)
def test_a_choice_that_is_not_allowed_is_refused(threat, eps, attack, message):
    with pytest.raises(ValueError, match=message):
        setting(threat, eps, attack, [served()])


def test_the_difference_is_ten_times_as_large_around_grey():
    shown = difference(DARK + 0.01, DARK)
    assert torch.allclose(shown, torch.full_like(shown, 0.6), atol=1e-6)
    assert address(shown).startswith("data:image/png;base64,")
    assert pixels(png(torch.zeros(3, 4, 5))).shape == (4, 5, 3)
