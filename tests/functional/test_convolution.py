"""Convolution to be differentiated twice: the same numbers as PyTorch's own, in fewer passes."""

from contextlib import nullcontext as null

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sparring.functional.batch_norm import double_backward

FORMS = [
    (F.conv1d, (3, 4, 9), (6, 2, 3), {"padding": 1, "groups": 2}),
    (F.conv2d, (3, 4, 8, 7), (6, 4, 3, 3), {"stride": 2, "padding": (1, 0)}),
    (F.conv2d, (3, 4, 8, 7), (8, 1, 2, 3), {"dilation": (2, 1), "groups": 4, "stride": (1, 2)}),
    (F.conv2d, (3, 4, 8, 7), (2, 4, 1, 1), {"padding": "same"}),
    (F.conv3d, (2, 2, 4, 4, 3), (3, 2, 2, 2, 2), {"padding": 1}),
]


class Count(TorchDispatchMode):
    """Counts backward passes of convolutions, by what they compute."""

    def __init__(self):
        super().__init__()
        self.inputs = self.weights = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.inputs += args[-1][0]
            self.weights += args[-1][1]
        return func(*args, **(kwargs or {}))


def problem(shape, size, bias):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(size, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(size[0], dtype=torch.float64, requires_grad=True) if bias else None
    return x, weight, bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("function", "shape", "size", "more"), FORMS)
def test_values_gradients_and_second_derivatives(function, shape, size, more, bias):
    results = []
    for context in (null, double_backward):
        inputs = [t for t in problem(shape, size, bias) if t is not None]
        with context():
            y = function(*inputs, **more)
        torch.manual_seed(1)
        upstream = torch.randn_like(y, requires_grad=True)
        (g,) = torch.autograd.grad(y, inputs[0], upstream, create_graph=True)
        total = (g**3).sum() + y.square().sum()
        results.append([y, g, *torch.autograd.grad(total, [*inputs, upstream])])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_finite_differences_agree():
    x, weight, _ = problem((2, 2, 4, 3), (2, 2, 2, 2), False)

    def gradient(x, weight):
        with double_backward():
            y = F.conv2d(x, weight, None, 1, 1)
        return torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, (x, weight))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("amp", [False, True])
def test_a_net_with_activations_in_place_in_any_layout_and_precision(layout, amp):
    results = []
    for context in (null, double_backward):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, groups=2, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8 * 16, 4),
        ).to(memory_format=layout)
        x = torch.rand(5, 3, 12, 12).contiguous(memory_format=layout).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp), context():
            z = net(x)
        (g,) = torch.autograd.grad(z.float().square().sum(), x, create_graph=True)
        (g.square().sum() + z.float().sum()).backward()
        results.append([z, g, x.grad, *(p.grad for p in net.parameters())])
    for theirs, ours in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.02 if amp else 1e-5, atol=1e-5)


def test_sizes_of_numpy_and_float64_under_autocast_are_taken_as_pytorch_takes_them():
    x, weight, _ = problem((2, 3, 7, 7), (4, 3, 3, 3), False)
    results = []
    for context in (null, double_backward):
        with torch.autocast("cpu", torch.bfloat16), context():
            results.append(F.conv2d(x, weight, stride=np.int64(2), padding=np.int64(1)))
    theirs, ours = results
    assert ours.dtype == theirs.dtype == torch.float64
    assert torch.equal(ours, theirs)


def test_an_input_gradient_leaves_the_weights_out_and_a_penalty_on_it_costs_two_passes():
    net, x = nn.Conv2d(2, 3, 3), torch.rand(2, 2, 6, 6, requires_grad=True)
    with double_backward():
        y = net(x)
    with Count() as first:
        (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert (first.inputs, first.weights) == (1, 0)
    with Count() as second:
        torch.autograd.grad(g.square().sum(), net.weight)
    assert second.weights == 2  # through the gradient, and through y


def test_a_gradient_of_weights_with_a_graph_is_refused():
    net, x = nn.Conv2d(2, 3, 3), torch.rand(2, 2, 6, 6, requires_grad=True)
    with double_backward():
        y = net(x)
    with pytest.raises(RuntimeError, match="leave it out"):
        torch.autograd.grad(y.square().sum(), net.weight, create_graph=True)


def test_an_input_written_to_afterwards_is_told():
    x = torch.rand(2, 2, 6, 6, requires_grad=True)
    h = x * 1
    with double_backward():
        y = nn.Conv2d(2, 3, 3)(h)
    h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_in_batches():
    net, x = nn.Conv2d(2, 3, 3), torch.rand(2, 2, 6, 6, requires_grad=True)
    rows = torch.rand(4, 2, 3, 4, 4)
    with double_backward():
        y = net(x)
    (together,) = torch.autograd.grad(y, x, rows, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(y, x, row, retain_graph=True)[0] for row in rows]
    torch.testing.assert_close(together, torch.stack(single))
