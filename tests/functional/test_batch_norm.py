"""Batch norm to be differentiated twice: the same numbers as PyTorch's own."""

from contextlib import nullcontext as null

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparring.functional.batch_norm import double_backward
from sparring.introspect.jacobian import squared_vjp_norm


def problem(shape, affine, dtype=torch.float64, zero=False):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    if not affine:
        return x, None, None
    weight = torch.zeros(shape[1], dtype=dtype) if zero else torch.rand(shape[1], dtype=dtype)
    return x, weight.requires_grad_(), torch.rand(shape[1], dtype=dtype, requires_grad=True)


def everything(x, weight, bias, wrt):
    """Value, gradients, and the gradients of a function of those in `wrt`."""
    inputs = [t for t in (x, weight, bias) if t is not None]
    torch.manual_seed(1)
    y = F.batch_norm(x, None, None, weight, bias, True)
    upstream = torch.randn_like(x, requires_grad=True)
    grads = torch.autograd.grad(y, inputs, upstream, create_graph=True)
    total = sum((grads[i] * torch.randn_like(grads[i])).sum() for i in wrt if i < len(grads))
    total = total + (grads[0] ** 3).sum() + y.square().sum()
    second = torch.autograd.grad(total, [*inputs, upstream])
    return [y.detach(), *(g.detach() for g in grads), *second]


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6), (3, 2, 4, 5)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("wrt", [[0], [0, 1], [0, 2], [1, 2]])
def test_values_gradients_and_second_derivatives(shape, affine, wrt):
    theirs = everything(*problem(shape, affine), wrt)
    with double_backward():
        ours = everything(*problem(shape, affine), wrt)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_weight_of_0():
    theirs = everything(*problem((4, 3, 2, 2), True, zero=True), [0, 1, 2])
    with double_backward():
        ours = everything(*problem((4, 3, 2, 2), True, zero=True), [0, 1, 2])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_finite_differences_agree():
    x, weight, bias = problem((4, 2, 3), True)

    def run(*t):
        with double_backward():
            return F.batch_norm(t[0], None, None, t[1], t[2], True)

    assert torch.autograd.gradcheck(run, (x, weight, bias))
    assert torch.autograd.gradgradcheck(run, (x, weight, bias))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_net_of_any_modules(momentum, layout):
    results = []
    for context in (null, double_backward):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.Tanh())
        net = net.double().to(memory_format=layout)
        x = torch.rand(5, 3, 6, 6).double().contiguous(memory_format=layout).requires_grad_()
        with context():
            y = net(x)
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        g.square().sum().backward()
        results.append([y, g, *(p.grad for p in net.parameters()), *net[1].buffers()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def second(net, x, *, amp, quick):
    """Gradients of ‖∂(y²)/∂x‖² in the weights, all in one vector."""
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp), double_backward() if quick else null():
        y = net(x)
    (g,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    g.square().sum().backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def test_bfloat16_inside_is_as_near_to_float32():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    x = torch.rand(6, 3, 8, 8, requires_grad=True)
    exact = second(net, x, amp=False, quick=False)
    theirs, ours = ((second(net, x, amp=True, quick=q) - exact).norm() for q in (False, True))
    assert 0 < ours < 1.2 * theirs + 0.01 * exact.norm()


def test_nothing_changes_elsewhere():
    norm, x = nn.BatchNorm1d(3).eval(), torch.rand(4, 3, requires_grad=True)
    with double_backward():
        assert norm(x).grad_fn.name() == "NativeBatchNormBackward0"
        with torch.no_grad():
            assert norm.train()(x).grad_fn is None
        assert norm(x).grad_fn.name() == "_NormBackward"
    assert norm(x).grad_fn.name() == "NativeBatchNormBackward0"


def test_there_is_no_third_derivative():
    x, weight, bias = problem((4, 2), True)
    with double_backward():
        y = F.batch_norm(x, None, None, weight, bias, True)
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        h.sum().backward()


def test_batched_gradients_are_refused_where_they_would_be_lost():
    x, weight, bias = problem((4, 2), True)
    with double_backward():
        y = F.batch_norm(x, None, None, weight, bias, True)
    v = torch.randn(3, 4, 2).double()
    one = torch.autograd.grad(y, x, v, is_grads_batched=True, retain_graph=True)[0]
    assert one.shape == (3, 4, 2)
    with pytest.raises(RuntimeError, match="take them one after the other"):
        torch.autograd.grad(y, x, v, is_grads_batched=True, create_graph=True)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_jacobian_norms_keep_their_gradient(count):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten()).double()
    x, results = torch.rand(6, 3, 6, 6).double().requires_grad_(), []
    v = torch.randn(*[count] * (count > 0), 6, 64).double()
    for context in (null, double_backward):
        net.zero_grad()
        with context():
            y = net(x)
        norm = squared_vjp_norm(y, x, v)
        assert norm.shape == v.shape[:-1]
        norm.sum().backward()
        results.append([norm.detach(), *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) == 5
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_attention_has_a_second_derivative():
    q = torch.rand(1, 2, 4, 8, requires_grad=True)
    plain = torch.softmax(q @ q.transpose(2, 3) / 8**0.5, -1) @ q
    with double_backward():
        fused = F.scaled_dot_product_attention(q, q, q)
    second = []
    for z in (plain, fused):
        (g,) = torch.autograd.grad(z.square().sum(), q, create_graph=True)
        second.append(torch.autograd.grad(g.square().sum(), q)[0])
    assert torch.allclose(*second, rtol=1e-3)


@pytest.mark.parametrize("quick", [False, True])
def test_a_batch_of_one_is_refused_before_it_spoils_the_running_statistics(quick):
    norm = nn.BatchNorm1d(3)
    with (
        double_backward() if quick else null(),
        pytest.raises(ValueError, match="more than 1 value per channel"),
    ):
        norm(torch.rand(1, 3, requires_grad=True))
    assert norm.running_var.isfinite().all()
    assert norm.running_mean.isfinite().all()
