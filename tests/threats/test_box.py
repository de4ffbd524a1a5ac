"""Boxes whose bounds differ between coordinates and samples."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from sparring.attacks import BIM, MIFGSM, PGD, SPSA, Noise
from sparring.batch import Batch
from sparring.config import registry
from sparring.data import Split
from sparring.evaluation import evaluate
from sparring.evaluation.judge import feasible
from sparring.threats import L0, L1, L2, Box, Linf, Only, norm_ball, norm_name
from sparring.threats.base import check_bounds
from tests.contract.pieces import make, takes
from tests.oracles import Linear

LOWER, UPPER = [0.1, 0.4, 0.0], [0.3, 0.4, 1.0]


def batch(b: int = 5) -> Batch:
    x = torch.tensor([[0.2, 0.4, 0.5]]).repeat(b, 1)
    return Batch(x, torch.zeros(b, dtype=torch.long))


class TestBox:
    @pytest.mark.parametrize("make", [list, np.array, torch.tensor, lambda v: np.array([v])])
    def test_bounds_of_each_coordinate(self, make):
        threat, low, high = (
            Box(lower=make(LOWER), upper=make(UPPER)),
            *map(torch.tensor, (LOWER, UPPER)),
        )
        start = threat.random_start(batch(), torch.Generator().manual_seed(0))
        assert start.dtype == torch.float32
        for z in (start, threat.project(torch.randn(5, 3), batch())):
            assert (z >= low).all()
            assert (z <= high).all()
        assert torch.equal(threat.project(start, batch()), start)

    def test_a_step_is_a_share_of_each_side(self):
        threat, z = Box(low=-1, high=1, lower=LOWER, upper=UPPER), batch().x
        moved = threat.step(z, torch.tensor([[1.0, 1.0, -1.0]]).expand(5, 3), 0.5, batch())
        assert torch.allclose(moved - z, torch.tensor([0.05, 0.0, -0.25]))

    @pytest.mark.parametrize("bound", ["lower", "upper"])
    def test_one_bound_alone(self, bound):
        threat = Box(**{bound: LOWER})
        z = threat.project(torch.tensor([[-1.0, 0.4, 2.0]]), batch(1))
        assert torch.allclose(
            z, torch.tensor([[0.1, 0.4, 1.0] if bound == "lower" else [0, 0.4, 0]])
        )

    def test_bounds_beyond_the_valid_inputs_do_not_widen_them(self):
        z = Box(lower=-math.inf, upper=[2.0, 0.5, 2.0]).project(torch.full((1, 3), 3.0), batch(1))
        assert z.tolist() == [[1.0, 0.5, 1.0]]

    def test_rows_follow_the_index_of_the_batch(self):
        high = torch.linspace(0.5, 1, 4)[:, None].expand(4, 3)
        threat, x = Box(upper=high), torch.zeros(2, 3)
        rows = Batch(x, torch.zeros(2, dtype=torch.long), index=torch.tensor([3, 1]))
        assert torch.allclose(threat.project(x + 5, rows), high[[3, 1]])
        with pytest.raises(ValueError, match=r"4 rows.* must be bounds of every sample"):
            threat.project(x, Batch(x, rows.y, index=torch.tensor([0, 4])))

    @pytest.mark.parametrize(
        ("bounds", "message"),
        [
            ({"lower": [0.5], "upper": [0.4]}, "lower = .*must be at most upper"),
            ({"lower": [math.nan]}, "lower = 'list' is not allowed: lower must be a number"),
            ({"lower": "low"}, "lower = 'str'"),
            ({"lower": []}, "lower = 'list'"),
            ({"lower": [[0.1], [0.2, 0.3]]}, "lower = 'list'"),
            ({"upper": object()}, "upper = 'object'"),
            ({"lower": [1.5, 0.0]}, "leave no input within low = 0.0 and high = 1.0"),
            ({"lower": [0.0, 0.0], "upper": [1.0, 1.0, 1.0]}, r"lower has shape \(2,\), and upper"),
        ],
    )
    def test_bounds_that_are_none(self, bounds, message):
        with pytest.raises(ValueError, match=message):
            Box(**bounds)

    def test_bounds_of_other_samples(self):
        with pytest.raises(ValueError, match=r"lower has shape \(2,\), and the batch has shape"):
            Box(lower=[0.1, 0.2]).project(batch().x, batch())

    def test_a_result_holds_the_bounds_or_a_hash_of_them(self):
        few, many = Box(lower=torch.tensor(LOWER)), Box(lower=torch.zeros(2000))
        assert few.table()["lower"] == pytest.approx(LOWER)
        assert "(2000,) numbers, sha256" in many.table()["lower"]
        assert len(repr(many)) < 200
        assert many.table() != Box(lower=torch.full((2000,), 0.1)).table()
        json.dumps([few.table(), many.table(), Box().table()])

    def test_the_judge_refuses_a_point_outside(self):
        x, y = batch(4).x, batch(4).y
        points = x + torch.tensor([[0.0, 0, 0], [0.1, 0, 0.5], [0.11, 0, 0], [0, 0.01, 0]])
        threat = Box(lower=LOWER, upper=UPPER)
        assert feasible(threat, points, x, y).tolist() == [True, True, False, False]
        each = Box(lower=x - 0.1, upper=x + torch.tensor([[0.0], [0.5], [0.2], [0.1]]))
        assert feasible(each, points, x, y).tolist() == [True, True, True, True]


@pytest.mark.parametrize("attack", [PGD, BIM, MIFGSM, Noise, SPSA])
def test_attacks_stay_in_the_box_of_each_sample(attack):
    """Some samples break at once and leave: the others keep their own bounds."""
    draw = torch.Generator().manual_seed(0)
    x = 0.2 + 0.6 * torch.rand(40, 6, generator=draw)
    width = 0.2 * torch.rand(40, 6, generator=draw)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    threat = Box(lower=x - width, upper=x + width)
    points = attack(threat)(model, x, model(x).argmax(1))
    assert (points >= x - width - 1e-6).all()
    assert (points <= x + width + 1e-6).all()
    assert not torch.equal(points, x)


def test_pgd_reaches_the_corner_that_a_linear_model_fears():
    w = torch.tensor([1.0, -2.0, 0.5])
    threat = Box(lower=LOWER, upper=UPPER)
    points = PGD(threat, steps=20, random_start=False)(Linear(w), batch(1).x, batch(1).y)
    assert torch.allclose(points, torch.tensor([[0.3, 0.4, 1.0]]))


def test_an_evaluation_takes_one_box_for_all_samples():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 2), batch(20).x
    y = model(x).argmax(1)
    options = {"suite": "pgd", "progress": False}
    within = evaluate(model, (x, y), Box(lower=LOWER, upper=UPPER), **options)
    whole = evaluate(model, (x, y), Box(), **options)
    assert within.robust.accuracy >= whole.robust.accuracy
    assert within.threat["upper"] == pytest.approx(UPPER)


class Boxes(NamedTuple):
    """Verification instances of a linear model, and which of them hold, in closed form."""

    model: Linear
    x: torch.Tensor
    y: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor
    holds: torch.Tensor


@torch.no_grad()
def instances(n: int = 60, d: int = 5) -> Boxes:
    draw = torch.Generator().manual_seed(3)
    w, x = torch.randn(d, generator=draw), 0.3 + 0.4 * torch.rand(n, d, generator=draw)
    below, above = 0.2 * torch.rand(2, n, 1, generator=draw) * torch.rand(2, n, d, generator=draw)
    lower, upper = x - below, x + above
    model = Linear(w, -float(x.mean(0) @ w))
    y, up, down = model(x).argmax(1), w.clamp_min(0), w.clamp_max(0)
    most, least = upper @ up + lower @ down + model.b, lower @ up + upper @ down + model.b
    return Boxes(model, x, y, lower, upper, torch.where(y == 1, least > 0, most < 0))


def of_boxes(at: Boxes, threat=None, **options):
    options = {"batch_size": 25, "suite": "quick", "progress": False, **options}
    threat = Box(lower=at.lower, upper=at.upper) if threat is None else threat
    return evaluate(at.model, (at.x, at.y), threat, **options)


@pytest.mark.parametrize("suite", ["quick", "pgd", "from-x"])
@pytest.mark.parametrize("options", [{}, {"cascade": True}, {"n": 40}, {"precision": "bfloat16"}])
def test_an_evaluation_counts_the_boxes_of_its_samples_that_hold(suite, options):
    at = instances()
    result = of_boxes(at, suite=suite, **options)
    rows = torch.from_numpy(result.arrays["index"])
    assert 10 < int(at.holds.sum()) < 50
    assert np.array_equal(result.arrays["correct"], at.holds[rows].numpy())
    assert not any(row.infeasible for row in result.attacks)
    # the checks too see each sample in its own box, or they would find weak attacks
    assert [check.name for check in result.checks if check.fired] == ["input range"]


def test_samples_of_a_wrapped_box_and_of_other_rows():
    """Rows are those of the data as given, also of a part of it and of a part of the classes."""
    at = instances()
    box, rows = Box(lower=at.lower, upper=at.upper), torch.tensor([50, 3, 17, 59, 4, 5, 6, 21])
    part = Split(at.x, at.y).take(rows)
    options = {"suite": "quick", "progress": False, "batch_size": 3}
    result = evaluate(at.model, part, box, **options)
    assert np.array_equal(result.arrays["correct"], at.holds[rows].numpy())
    wrapped = of_boxes(at, Only(box, classes=[1])).arrays["correct"]
    assert np.array_equal(wrapped, (at.holds | (at.y == 0)).numpy())


def test_a_surrogate_and_probes_see_each_sample_in_its_box():
    at = instances()
    kinds = {"surrogate": at.model, "probes": ["masking", "jacobian"], "suite": "quick"}
    result = of_boxes(at, **kinds)
    assert np.array_equal(result.arrays["correct"], at.holds.numpy())
    share = pytest.approx(at.holds.double().mean().item())
    transfer = [row.accuracy for row in result.attacks if row.name.startswith("PGD-40")]
    assert transfer == [share, share]  # on the surrogate
    assert [p.adversarial for p in result.probes if p.probe == "masking"] == [share] * 7


def test_an_interrupted_evaluation_of_boxes_resumes(tmp_path):
    at, out = instances(), tmp_path / "r.json"
    first = of_boxes(at, out=out, queries=500)
    assert first.early
    again = of_boxes(at, out=out)
    assert any("continued from" in note for note in again.notes)
    assert np.array_equal(again.arrays["correct"], at.holds.numpy())
    of_boxes(at, out=out, queries=500)
    at.upper[30] = at.x[30]  # another box: nothing is continued
    assert not any("continued" in note for note in of_boxes(at, out=out).notes)


def test_a_box_that_does_not_hold_its_sample_or_is_missing():
    at = instances()
    at.upper[41, 2] = at.x[41, 2] - 0.01
    with pytest.raises(ValueError, match=r"x lies outside its box in row 41: coordinate 2 is 0"):
        of_boxes(at)
    with pytest.raises(ValueError, match=r"59 rows.* must be bounds of every sample"):
        of_boxes(at, Box(lower=at.lower[:59]))
    with pytest.raises(ValueError, match=r"lower has shape .* one box is for samples of"):
        of_boxes(at, Box(lower=at.lower[:, :2]))


@pytest.mark.parametrize("bound", [torch.zeros(3), np.ones(3), [0.0], "1", None, math.nan])
@pytest.mark.parametrize("key", ["low", "high"])
def test_bounds_of_the_valid_inputs_are_one_number_each(key, bound):
    """The one check of all threats; in tests, annotations stop such an argument before it."""
    with pytest.raises(ValueError, match=rf"{key} = .* {key} must be one finite number"):
        check_bounds(**({"low": 0.0, "high": 1.0} | {key: bound}))


@pytest.mark.parametrize("bounds", [{"low": math.nan}, {"high": math.inf}, {"low": 1.0}])
@pytest.mark.parametrize("name", list(registry.pieces("threat")))
def test_every_threat_checks_its_bounds(name, bounds):
    (key,) = bounds
    with pytest.raises(ValueError, match=rf"{key} = .* {key} must be "):
        make("threat", name, **bounds) if takes("threat", name, key) else Linf(0.1, **bounds)


@pytest.mark.parametrize("eps", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("ball", [Linf, L2, L1, L0])
def test_radii_that_are_none(ball, eps):
    with pytest.raises(ValueError, match=r"eps = .* is not allowed: eps must be"):
        ball(eps)


@pytest.mark.parametrize(
    ("norm", "name"),
    [
        *zip(("Linf", "inf", math.inf, np.inf), ["Linf"] * 4, strict=True),
        *zip(("L2", "2", 2, 2.0, np.int64(2)), ["L2"] * 5, strict=True),
        *[(1, "L1"), (0, "L0")],
    ],
)
def test_norms_by_number(norm, name):
    assert norm_name(norm) == name
    assert type(norm_ball(name, eps=1)).__name__ == name


@pytest.mark.parametrize("norm", [3, -1, True, math.nan, "Linv", None, [2]])
def test_norms_there_are_not(norm):
    with pytest.raises(ValueError, match=r"threat = .* does not exist.*L0, L1, L2, Linf"):
        norm_name(norm)
