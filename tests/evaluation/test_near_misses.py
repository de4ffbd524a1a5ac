"""An attack of a suite may take only the samples that the attacks before nearly broke."""

import numpy as np
import pytest

from sparring.attacks import PGD, Noise
from sparring.evaluation import Suite, evaluate
from sparring.evaluation.sampling import NEAR_ROWS, nearest
from sparring.evaluation.suites import Entry


def second_draw(make, share):
    """A suite whose second attack sees near misses only."""
    return Suite("twice", 1, (Entry("first", make), Entry("again", make, near_share=share)))


@pytest.mark.parametrize("cascade", [True, False])
def test_the_second_draw_sees_the_samples_nearest_to_the_boundary(problem, cascade):
    seen = []

    def recording(threat):
        attack = Noise(threat)

        def run(model, x, y):
            seen.append(x)
            return attack(model, x, y)

        return run

    options = {"eps": 0.02, "cascade": cascade, "progress": False}
    result = evaluate(
        problem.model, (problem.x, problem.y), "Linf", second_draw(recording, 0.01), **options
    )
    robust = result.attacks[0].accuracy * result.n
    assert result.attacks[1].attacked == min(NEAR_ROWS, round(robust)) == len(seen[-1])
    # margins of a linear model: its distance to the boundary ranks the samples but for the noise
    taken = [i for i, x in enumerate(problem.x) if any((x == row).all() for row in seen[-1])]
    left = [i for i in np.flatnonzero(problem.robust("Linf", 0.02)) if i not in taken]
    assert problem.signed[taken].mean() < problem.signed[left].mean()
    assert result.attacks[1].accuracy <= result.attacks[0].accuracy


def test_a_second_draw_breaks_what_the_first_missed_by_a_hair():
    rows, margin = np.arange(200), np.linspace(-9.0, -1.0, 200)
    assert nearest(rows, margin, 0.25).tolist() == list(range(150, 200))
    assert nearest(rows, margin, 0.01).tolist() == list(range(200 - NEAR_ROWS, 200))
    assert nearest(rows[:5], margin, 0.5).tolist() == list(range(5))
    missing = np.where(rows < 100, np.nan, margin)  # logits that are not finite come last
    assert nearest(rows, missing, 0.25).min() >= 100


def test_a_suite_without_near_misses_is_as_before(problem):
    both = (problem.model, (problem.x, problem.y), "Linf")
    options = {"eps": 0.05, "progress": False}
    plain = Suite("one", 1, (Entry("first", PGD),))
    once, twice = (evaluate(*both, s, **options) for s in (plain, second_draw(PGD, 0.5)))
    assert np.array_equal(once.arrays["correct_0.05"], twice.arrays["correct_0.05"])
    assert once.attacks[0].accuracy == twice.attacks[0].accuracy
