import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.evaluation.judge import feasible, finite_margin, judge
from sparring.functional import geometry
from sparring.introspect.predict import predict, predicted_class
from sparring.threats import L0, L1, L2, Bits, Box, Linf

THREATS = [Linf(0.1), L2(0.5), L1(1.0), Linf(8 / 255), L2(3.0), L1(12.0), Box()]


@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_honest_points_are_never_refused(threat):
    """3072 entries in float32: sums round, and still nothing is out."""
    x = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    y = torch.zeros(20, dtype=torch.long)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    x_adv = PGD(threat, steps=3, loss="margin")(model, x, y)
    assert feasible(threat, x_adv, x, y).all()


COARSE = [((0.0, 1000.0), (2e-4, 0.05), ball) for ball in (Linf, L2, L1)]
COARSE += [((-1000.7, 300.0), (2e-4, 0.05), ball) for ball in (Linf, L2, L1)]
# not L1: in a box this far from 0, the roundings of hundreds of coordinates add up to more
COARSE += [((1000.0, 1001.0), (0.02, 0.1), ball) for ball in (Linf, L2)]


@pytest.mark.parametrize(("box", "shares", "ball"), COARSE)
def test_nor_in_boxes_where_float32_is_coarse(box, shares, ball):
    low, high = box
    width, d = high - low, 3 * 16 * 16
    x = low + width * torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(20, dtype=torch.long)
    weight = torch.randn(4, d, generator=torch.Generator().manual_seed(1))
    model = lambda x: (x - low).flatten(1) @ weight.T / width  # noqa: E731
    for share in shares:
        eps = share * width * {torch.inf: 1, 2: d**0.5, 1: d}[ball.p]
        threat = ball(eps, low=low, high=high)
        x_adv = PGD(threat, steps=3, loss="margin")(model, x, y)
        assert feasible(threat, x_adv, x, y).all()
        assert not feasible(threat, x + 1.1 * eps, x, y).any()


def test_the_nearest_float32_of_the_edge_is_allowed():
    x, y = torch.tensor([[700.3]]), torch.zeros(1, dtype=torch.long)
    threat = Linf(0.2, low=0, high=1000)
    assert (x + 0.2 - x).item() == pytest.approx(0.20001221)
    assert feasible(threat, x + 0.2, x, y).all()
    assert not feasible(threat, x + 0.202, x, y).any()
    at_the_bound = torch.tensor([[1000.7]])
    threat = Linf(0.2, low=0, high=1000.7)
    assert at_the_bound.item() > threat.high
    assert feasible(threat, at_the_bound, at_the_bound, y).all()
    assert not feasible(threat, at_the_bound + 0.01, at_the_bound, y).any()


def test_a_count_forgives_no_flip_in_the_widest_box():
    x, y = torch.zeros(1, 4), torch.zeros(1, dtype=torch.long)
    one, two = torch.tensor([[3e6, 0, 0, 0]]), torch.tensor([[3e6, 1.0, 0, 0]])
    threat = L0(1, low=0.0, high=3e6)
    assert feasible(threat, one, x, y).all()
    assert not feasible(threat, two, x, y).any()
    threat = Bits(1, low=0.0, high=3e6)
    assert not feasible(threat, torch.tensor([[3e6, 3e6, 0, 0]]), x, y).any()


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=repr)
def test_a_thousandth_too_far_is_refused(threat):
    x = torch.full((4, 10), 0.5)
    delta = geometry.normalize(
        torch.randn(4, 10, generator=torch.Generator().manual_seed(0)), threat.p
    )
    y = torch.zeros(4, dtype=torch.long)
    length = threat.distance(x + delta, x)[:, None]
    assert feasible(threat, x + delta / length * threat.eps, x, y).all()
    assert not feasible(threat, x + delta / length * threat.eps * 1.001, x, y).any()


def test_a_point_that_is_not_allowed_gains_nothing():
    x = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    y = torch.zeros(3, dtype=torch.long)
    found = judge(
        lambda x: x, Linf(0.2), torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]]), x, y, name="A"
    )
    assert found.allowed.tolist() == [False, True, True]
    assert found.pred.tolist() == [0, 0, 1]
    assert torch.equal(found.point[0], x[0])


def test_judged_in_eval_mode_and_float32_whatever_is_around():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.99)).train()
    seen = []
    model[0].register_forward_hook(lambda m, i, o: seen.append((o.dtype, model[1].training)))
    with torch.autocast("cpu", torch.bfloat16):
        predict(model, torch.rand(2, 4))
    assert seen == [(torch.float32, False)]
    assert model[1].training


def test_an_empty_batch():
    assert feasible(
        Linf(0.1), torch.rand(0, 3), torch.rand(0, 3), torch.zeros(0, dtype=torch.long)
    ).shape == (0,)


INF, NAN = torch.inf, torch.nan


@pytest.mark.parametrize(
    ("z", "pred", "margins"),
    [
        ([2.0, 1.0, -INF], 0, [-1, 1, INF]),
        ([2.0, -INF, -INF], 0, [-INF, INF, INF]),
        ([-INF, -INF, -INF], -1, [NAN] * 3),
        ([2.0, NAN, -INF], -1, [NAN] * 3),
        ([2.0, INF, 1.0], -1, [NAN] * 3),
    ],
)
def test_a_masked_class_is_never_predicted_and_nan_is_no_class(z, pred, margins):
    logits = torch.tensor([z] * 3)
    assert predicted_class(logits).tolist() == [pred] * 3
    margin, expected = finite_margin(logits, torch.arange(3)), torch.tensor(margins)
    assert torch.equal(margin.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_the_judge_leaves_the_points_to_a_model_that_writes():
    model = nn.Sequential(nn.Hardtanh(0.4, 0.6, inplace=True), nn.Linear(4, 3))
    x = torch.rand(5, 4)
    judgement = judge(model, Linf(0.1), x.clone(), x, torch.zeros(5, dtype=torch.long), name="A")
    assert torch.equal(judgement.point, x)
