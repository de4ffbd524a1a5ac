"""Lazy layers are shaped once, by samples or by the shape in a recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring import models
from sparring.introspect.lazy import shape_lazy_layers


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))


class NotRun(nn.Linear):
    def forward(self, x):
        raise AssertionError("a network without lazy layers is not run")


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_statistics_stay(training):
    model = lazy().train(training)
    shape_lazy_layers(model, torch.rand(2, 1, 5, 5))
    assert [m.training for m in model.modules()] == [training] * 5
    assert all(p.requires_grad for p in model.parameters())
    assert model[1].num_batches_tracked == 0
    assert model[3].weight.shape == (3, 36)


def test_a_network_without_lazy_layers_is_not_run():
    shape_lazy_layers(NotRun(2, 2), torch.rand(2, 2))


def test_a_network_of_a_recipe_is_shaped_and_takes_its_weights():
    options = {"shape": (1, 5, 5), "classes": 3, "trust": True}
    first, second = (models.build(f"{__name__}:lazy", **options) for _ in range(2))
    second.load_state_dict(first.state_dict())
    x = torch.rand(2, 1, 5, 5)
    assert torch.equal(first.eval()(x), second.eval()(x))
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        models.build(f"{__name__}:lazy", **{**options, "shape": (5,)})
