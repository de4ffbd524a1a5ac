"""What every metric owes, by its name in the table."""

import copy

import pytest
import torch
from torch import nn

from sparring.metrics import METRICS, metric_named
from tests.oracles import NormedNet, problem

SMALL = {
    "ebd": {"directions": 3, "step": 0.05, "most": 0.5},
    "ebd2": {"size": 0.02, "cap": 20},
    "clever": {"batches": 4, "samples": 4, "radius": 0.5},
    "thickness": {"eps": 1.0, "steps": 5, "size": 0.3},
}
GRADIENT_FREE = {"ebd", "eni", "entropy", "max-softmax"}
EVERY = pytest.mark.parametrize("name", list(METRICS))


def make(name):
    return metric_named(name)(**SMALL.get(name, {}))


@EVERY
def test_a_number_a_sample_and_the_same_again(name):
    model, x, y = problem(b=10)
    found = make(name)(model, x, y)
    assert found.shape == (10,)
    assert found.dtype == x.dtype
    assert not found.requires_grad
    assert found[torch.isfinite(found)].ge(0).all()
    assert torch.isfinite(found).any()
    torch.testing.assert_close(make(name)(model, x, y), found, equal_nan=True, rtol=0, atol=0)


@EVERY
def test_it_leaves_model_and_random_state(name):
    model = NormedNet()
    model[1].train()
    model[3].eval()
    x = torch.rand(6, 1, 4, 4)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    make(name)(model, x, torch.arange(6) % 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@EVERY
def test_an_empty_batch_and_an_image(name):
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    x, y = torch.rand(2, 2, 2, 2), torch.tensor([0, 1])
    assert make(name)(model, x[:0], y[:0]).shape == (0,)
    assert make(name)(model, x[:1], y[:1]).shape == (1,)


@EVERY
def test_draws_follow_the_seed(name):
    model, x, y = problem(b=10)
    metric = make(name)
    first = metric(model, x, y)
    metric.reseed(5)
    other = metric(model, x, y)
    metric.reseed(0)
    torch.testing.assert_close(metric(model, x, y), first, equal_nan=True, rtol=0, atol=0)
    if name in ("ebd", "eni", "thickness", "lipschitz"):
        assert not torch.equal(other, first)


@EVERY
def test_a_model_without_gradients_is_told_so(name):
    model, x, y = problem(b=4)

    def closed(z):
        with torch.no_grad():
            return model(z)

    y = closed(x).argmax(1)
    if name in GRADIENT_FREE:
        assert torch.isfinite(make(name)(closed, x, y)).all()
    else:
        with pytest.raises(ValueError, match=r"has no gradient|needs gradients"):
            make(name)(closed, x, y)


@EVERY
def test_it_says_what_it_is(name):
    metric = make(name)
    assert metric.unit
    assert metric.better in ("higher", "lower")
    assert "Source:" in (type(metric).__doc__ or "")
    assert {"low", "high"} <= set(metric.config())


def test_mistakes_are_told():
    model, x, y = problem(b=4)
    with pytest.raises(ValueError, match="did you mean 'clever'"):
        metric_named("clevr")
    with pytest.raises(ValueError, match="the box of EBD is"):
        make("ebd")(model, x + 2, y)
    with pytest.raises(ValueError, match="y holds -1, an unlabelled sample"):
        make("ebd")(model, x, torch.full_like(y, -1))
    with pytest.raises(ValueError, match="y is missing: ENI needs labels"):
        make("eni")(model, x)
    with pytest.raises(ValueError, match="they must be equal"):
        make("ebd")(model, x, y[:2])
    with pytest.raises(ValueError, match="needs floats"):
        make("ebd")(model, x.long(), y)
    with pytest.raises(ValueError, match="the box of EBD is"):
        make("ebd")(model, x * torch.nan, y)
