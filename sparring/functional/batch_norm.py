"""Batch norm with a fast second derivative, and the context that puts it and convolutions in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..runtime import torch_private
from . import convolution

Sums = tuple[Tensor, Tensor, Tensor]


@contextmanager
def double_backward() -> Iterator[None]:
    """Make a second derivative cost what two backward passes do, in passes inside.

    It acts on convolutions, as `convolution.convolve` says, and on batch norm with batch statistics
    on a CPU; on a GPU or with running statistics batch norm stays PyTorch's. PyTorch's own second
    derivative of batch norm is many sums over the batch, which on a CPU take as long as the
    convolutions. Here both halves of it are again batch norm's backward pass. Values, gradients and
    second derivatives are the same. There is no third derivative, and no second one of gradients
    taken in batches. In a torch that cannot tell such gradients, PyTorch's own second derivative is
    used.

    Attention runs in plain operations inside: PyTorch's fused kernels have no second derivative.

    >>> norm, x = torch.nn.BatchNorm1d(2), torch.rand(4, 2, requires_grad=True)
    >>> with double_backward():
    ...     y = norm(x)
    >>> (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    >>> torch.autograd.grad(g.square().sum(), x)[0].shape
    torch.Size([4, 2])
    """
    # without the check, batched gradients would lose their second derivative in silence
    fast = nullcontext() if torch_private.batched_tensor_check() is None else _Fast()
    with sdpa_kernel(SDPBackend.MATH), fast:
        yield


class _Fast(TorchFunctionMode):
    """Run `_Norm` wherever `F.batch_norm` is called for batch statistics, and `convolve`."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func in convolution.DIMENSIONS:
            return convolution.convolve(func, *args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    # one value per channel has no variance: PyTorch refuses it before it spoils the running one
    several = input.numel() > input.shape[1]
    if training and several and input.is_cpu and torch.is_grad_enabled():
        return _Norm.apply(input, weight, bias, running_mean, running_var, momentum, eps)
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, stats: Sequence[Tensor], eps: float
) -> Sums:
    """Run batch norm's backward pass: a projection of `grad (b, c, *)`, Σ grad·x̂ `(c,)`, Σ grad."""
    return torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, None, None, *stats, True, eps, [True, True, True]
    )


class _Norm(Function):
    """γ·x̂ + β, x̂ = (x − μ)/σ over all but the channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, *rest: Any) -> Tensor:
        mean, var, momentum, ctx.eps = rest
        ctx.affine = weight is not None, bias is not None
        y, *stats = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, ctx.eps)
        ctx.save_for_backward(x, weight, *stats)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        is_batched = torch_private.batched_tensor_check()
        if torch.is_grad_enabled() and is_batched is not None and is_batched(grads[0]):
            raise RuntimeError(
                "batched gradients (is_grads_batched) would lose their second derivative: "
                "take them one after the other, or leave double_backward out"
            )
        by_x, by_weight, by_bias = _NormBackward.apply(*grads, *ctx.saved_tensors, ctx.eps)
        weighted, shifted = ctx.affine
        rest = (None, None, None, None)
        return by_x, by_weight if weighted else None, by_bias if shifted else None, *rest


class _NormBackward(Function):
    """P g, Σ g·x̂ and Σ g, where P g = γ/σ·(g − mean g − x̂·mean(g·x̂)) is symmetric in the batch."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Any, mean: Tensor, inv: Tensor, eps: float
    ) -> Sums:
        sums = _norm_backward(g, x, weight, (mean, inv), eps)
        ctx.save_for_backward(g, x, weight, mean, inv, *sums)
        ctx.eps = eps
        # None for an unused output, so that its part below is left out
        ctx.set_materialize_grads(False)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients in g, x and γ.

        With a for ∂/∂(P g) and S = Σ g·a − Σ g·Σ a/m − Σ g·x̂·Σ a·x̂/m: ∂g is P a, ∂γ is S/σ, and
        ∂x is −1/(mσ)·(γ/σ·S·x̂ + Σ g·x̂·P a + Σ a·x̂·P g).
        """
        a, by_weight, by_bias = grads
        g, x, weight, mean, inv, pg, gx, g1 = ctx.saved_tensors
        m, over = x.numel() // x.shape[1], [0, *range(2, x.ndim)]
        scale = inv if weight is None else inv * weight

        def c(t: Tensor) -> Tensor:
            return t.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))

        to_g, to_x, to_weight = torch.zeros_like(g), torch.zeros_like(x), None
        if a is not None:
            a = torch.empty_like(x, dtype=a.dtype).copy_(a)  # in the layout of x
            to_g, ax, a1 = _norm_backward(a, x, weight, (mean, inv), ctx.eps)
            s = (g * a).sum(over, dtype=inv.dtype) - (g1 * a1 + gx * ax) / m
            to_weight = None if weight is None else s * inv
            by_xhat, k = -inv / m * scale * s * inv, -inv / m
            to_x = torch.addcmul(x * c(by_xhat) - c(by_xhat * mean), to_g, c(k * gx))
            to_x = torch.addcmul(to_x, pg, c(k * ax))
        if by_weight is not None:
            xhat = (x - c(mean)) * c(inv)
            to_g = to_g + c(by_weight) * xhat
            to_x = to_x + c(by_weight * inv) * (g - c(g1 / m) - xhat * c(gx / m))
        if by_bias is not None:
            to_g = to_g + c(by_bias)
        return to_g, to_x, to_weight, None, None, None
