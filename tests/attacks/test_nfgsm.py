"""N-FGSM is the paper's algorithm: noise beyond the ball, one step, and only the box clips."""

from __future__ import annotations

import pytest
import torch

from sparring.attacks import NFGSM
from sparring.batch import Batch
from sparring.functional.losses import cross_entropy
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import L2, Linf
from tests.oracles import problem
from tests.reference import training


@pytest.mark.parametrize(("noise", "ratio"), [(2.0, 1.0), (0.5, 1.25), (0.0, 1.0)])
def test_the_literal_algorithm(noise, ratio):
    model, x, y = problem()
    attack = NFGSM(Linf(0.1), noise=noise, ratio=ratio, seed=3)
    objective = Objective(attack, AT(), Mean())
    found = objective.maximize(model, Batch(x, y)).x_adv
    draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    eta = (2 * draw - 1) * noise * 0.1
    assert torch.allclose(
        found, training.n_fgsm(model, x, y, eta, eps=0.1, ratio=ratio), atol=1e-12
    )


def test_its_points_leave_the_ball_and_say_how_far():
    x = torch.full((64, 30), 0.5)
    attack = NFGSM(Linf(0.1))
    z = attack.maximize(lambda z: z.sum(1), Batch(x, torch.zeros(64).long()))
    distance = (z - x).abs().amax(1)
    assert attack.num_radii == 3.0
    assert (distance <= 0.3 + 1e-6).all()
    assert (distance > 0.2).all()


def test_one_pass_with_a_gradient():
    calls = []
    model, x, y = problem()

    def gain(z):
        calls.append(z.requires_grad)
        return cross_entropy(model(z), y)

    NFGSM(Linf(0.1)).maximize(gain, Batch(x, y))
    assert calls == [True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -1.0}, r"noise = -1\.0 is not allowed: noise must be a noise ≥ 0"),
        ({"ratio": 0.0}, r"ratio = 0\.0 is not allowed: ratio must be a step > 0"),
        ({"threat": L2(1.0)}, r"threat = L2\(1\.0\) is not allowed: threat must be a ball of Linf"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        NFGSM(**{"threat": Linf(0.1), **options})


def test_it_trains_and_does_not_evaluate():
    model, x, y = problem()
    with pytest.raises(NotImplementedError, match="attacks in training only"):
        NFGSM(Linf(0.1))(model, x, y)
