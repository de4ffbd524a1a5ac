"""Convolution with a fast second derivative, for penalties on input gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function
from torch.nn import functional as F

from ..runtime import torch_private

DIMENSIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
Sizes = int | Sequence[int]


class Form(NamedTuple):
    """The numbers of a convolution, one for each dimension of space."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the convolution of `x (b, c, *)`."""
        zeros = [0] * len(self.stride)
        return torch.convolution(
            x, weight, bias, self.stride, self.padding, self.dilation, False, zeros, self.groups
        )

    def backward(
        self, g: Tensor, x: Tensor, weight: Tensor, mask: list[bool], bias: list[int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients in x, weight and bias, those of `mask`, for `g` in the output."""
        zeros = [0] * len(self.stride)
        rest = (self.stride, self.padding, self.dilation, False, zeros, self.groups)
        return torch.ops.aten.convolution_backward(g, x, weight, bias, *rest, mask)


def convolve(
    function: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Return `function(input, weight, …)`, one of `F.conv1d`, `F.conv2d`, `F.conv3d`, whose second
    derivative costs two passes.

    PyTorch's own takes the weights' part from a convolution with a kernel as large as the image.
    Here it is the backward pass to the weights. Values and derivatives are the same.

    Raises:
        RuntimeError: in a backward pass that keeps a graph of the weights' gradients.

    >>> x, w = torch.ones(1, 1, 3, 3, requires_grad=True), torch.ones(1, 1, 2, 2)
    >>> convolve(F.conv2d, x, w).sum()
    tensor(16., grad_fn=<SumBackward0>)
    """
    n, x = DIMENSIONS[function], input
    # a compiled model refuses a second derivative, so it needs none of this
    graph = torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling()
    if isinstance(padding, str) or x.ndim != n + 2 or not graph:
        return function(x, weight, bias, stride, padding, dilation, groups)
    # as PyTorch casts before it convolves: all but float64
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    form = Form(_each(stride, n), _each(padding, n), _each(dilation, n), groups)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        y = form.run(x, weight, bias)
    to_input = _ToInput.apply(x, weight, y, form)
    to_weights = _ToWeights.apply(weight, bias, x.detach(), y, form, x.requires_grad)
    return _Output.apply([y], to_input, to_weights)


def _each(size: Sizes, n: int) -> list[int]:
    """Return a size for each of n dimensions."""
    if not isinstance(size, Sequence):  # NumPy's integers are no `int`
        return [int(size)] * n
    return list(size) * (n if len(size) == 1 else 1)


class _Output(Function):
    """Return what was computed; the gradient goes both ways.

    Two ways, so that a pass to the inputs alone, as an input gradient is, leaves out the weights:
    PyTorch runs the nodes that a pass needs, and a node of both would compute both.
    """

    @staticmethod
    def forward(ctx: Any, output: list[Tensor], to_input: Tensor, to_weights: Tensor) -> Tensor:
        return output[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, grads[0], grads[0]


def _placeholder(y: Tensor) -> Tensor:
    """Return zeros of the shape of y, of one number in memory."""
    return y.new_zeros(()).expand(y.shape)


class _ToInput(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, y: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.form = form
        return _placeholder(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if _is_batched(grads[0]) or not torch.is_grad_enabled():
            by_x = ctx.form.backward(grads[0], x, weight, [True, False, False])[0]
        else:
            by_x = _InputGradient.apply(grads[0], weight, x.detach(), ctx.form)
        return by_x, None, None, None


class _ToWeights(Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Any, x: Tensor, y: Tensor, form: Form, has_graph: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.form, ctx.has_graph = form, has_graph
        ctx.bias = None if bias is None else list(bias.shape)
        return _placeholder(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and ctx.has_graph:
            raise RuntimeError(
                "the gradients of weights would lose their own derivative (create_graph) inside "
                "double_backward: leave it out"
            )
        x, weight = ctx.saved_tensors
        mask = [False, ctx.needs_input_grad[0], ctx.needs_input_grad[1]]
        _, by_weight, by_bias = ctx.form.backward(grads[0], x, weight, mask, ctx.bias)
        return by_weight, by_bias, None, None, None, None


class _InputGradient(Function):
    """The gradient in x, bilinear in `g` and the weights."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, x: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.form = form
        return form.backward(g, x, weight, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (a,), (g, weight) = grads, ctx.saved_tensors
        by_g = ctx.form.run(a, weight) if ctx.needs_input_grad[0] else None
        by_weight = None
        if ctx.needs_input_grad[1]:
            by_weight = ctx.form.backward(g, a, weight, [False, True, False])[1]
        return by_g, by_weight, None, None


def _is_batched(g: Tensor) -> bool:
    check = torch_private.batched_tensor_check()
    return check is not None and check(g)
