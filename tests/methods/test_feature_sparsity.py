"""Noise in feature space: at the input it is the method in input space; distances are features'."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.batch import Batch
from sparring.introspect import freeze
from sparring.methods import FeatureSparsity, Sparsity
from tests.oracles import problem

N_N, N_U = 2, 3


def noted(x: torch.Tensor, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    sizes = {"xi": (N_U,), "zeta": (1 + N_U, N_N)}
    return {
        key: torch.randn(len(x), *size, *shape, generator=draw, dtype=x.dtype)
        for key, size in sizes.items()
    }


def method(site: str, **more) -> FeatureSparsity:
    arguments = {"beta": 2.0, "unlabelled": N_U, "neighbours": N_N, "sigma_u": 0.3, "sigma_n": 0.1}
    return FeatureSparsity(site=site, **(arguments | more))


def test_at_the_input_it_is_sparsity_on_rows_and_their_shell():
    """The mean over the 1 + N_u anchors of each row, labelled ones first."""
    inner, x, y = problem()
    y[2] = -1
    model, notes = nn.Sequential(nn.Identity(), inner), noted(x, (6,))
    result = method("0").loss(model, Batch(x, y, extra=notes)).per_sample
    anchors = torch.cat([x[:, None], x[:, None] + 0.3 * notes["xi"]], 1).flatten(0, 1)
    labels = torch.full((8, 1 + N_U), -1)
    labels[:, 0] = y
    batch = Batch(anchors, labels.flatten(), extra={"zeta": notes["zeta"].flatten(0, 1)})
    plain = Sparsity(beta=2.0, neighbours=N_N, sigma_n=0.1).loss(inner, batch).per_sample
    assert torch.allclose(result, plain.reshape(8, 1 + N_U).mean(1), rtol=1e-10)


def test_behind_a_layer_it_is_sparsity_of_the_rest_on_its_features():
    model, x, y = problem()
    notes = noted(x, (12,))
    result = method("1").loss(model, Batch(x, y, extra=notes)).per_sample
    head, rest = nn.Sequential(model[0], model[1]), model[2]
    with torch.no_grad():
        h = head(x)
    again = method("0").loss(nn.Sequential(nn.Identity(), rest), Batch(h, y, extra=notes))
    assert torch.allclose(result, again.per_sample, rtol=1e-10)


def test_the_head_runs_once_on_each_row():
    inner, x, y = problem()
    seen = []
    inner[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    method("1").loss(inner, Batch(x, y))
    assert seen == [8]


def test_none_unlabelled_keeps_labels_and_slope_at_the_features():
    model, x, y = problem()
    result = method("1", unlabelled=0, beta=0.0).loss(model, Batch(x, y)).per_sample
    assert torch.allclose(result, nn.functional.cross_entropy(model(x), y, reduction="none"))


@pytest.mark.parametrize("amp", ["float32", "bfloat16"])
def test_it_runs_on_images_inside_a_view(amp):
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.ReLU())
    model = nn.Sequential(conv, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    view = freeze.ModelView(model, amp=amp, channels_last=True)
    x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, -1, -1])
    loss = FeatureSparsity(site="1", beta=10.0).loss(view, Batch(x, y)).per_sample
    loss.mean().backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    weight = conv[0].weight.grad
    assert weight is not None
    assert weight.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_n": 0.0}, "sigma_n = 0.0 is not allowed"),
        ({"sigma_u": 0.0}, "sigma_u = 0.0 is not allowed"),
        ({"unlabelled": -1}, "unlabelled = -1 is not allowed"),
        ({"neighbours": 0}, "neighbours = 0 is not allowed"),
        ({"beta": -1.0}, "beta = -1.0 is not allowed"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        method("1", **arguments)


def test_a_site_that_does_not_exist_is_told():
    model, x, y = problem()
    with pytest.raises(ValueError, match="submodule = 'pool' does not exist"):
        method("pool").loss(model, Batch(x, y))
