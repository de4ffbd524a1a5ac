"""Fold a network of convolutions into few layers that run channels last, frozen in eval mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .graph import Operation, Step, read_network

Pair = tuple[int, int]


@dataclass
class Window:
    """Hold how a layer slides over an image; pairs are of height and width.

    Arguments:
        run: the layer on inputs that have their border already, with no padding of its own.
        fill: what the border counts as.
    """

    run: Callable[[Tensor], Tensor]
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    fill: float = 0.0

    def reach(self, axis: int) -> int:
        """Return how many pixels of an axis one output sees."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1


@dataclass
class Layer:
    """Hold one step of a folded network.

    Arguments:
        kind: as of `graph.Operation`, or `"input"`.
        inputs: numbers of the layers that it reads.
        shape: of one sample's output.
        run: whole inputs `(b, *d)` to the output.
        window: None for a layer that does not slide over an image.
        pointwise: an output pixel depends on the same pixel of the inputs only.
        macs: multiplications of one sample.
        dtype: of the output.
    """

    kind: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    run: Callable[..., Tensor]
    window: Window | None = None
    pointwise: bool = False
    macs: int = 0
    dtype: torch.dtype = torch.float32


class Folded:
    """Run a network in eval mode, with norms folded into convolutions and weights as they are now.

    Convolutions and linear layers run in `dtype`, what comes before them in float32, as under
    autocast.

    Raises:
        ValueError: for a network that `read_network` refuses.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
    >>> folded = Folded(net.eval(), torch.rand(1, 1, 4, 4))
    >>> [layer.kind for layer in folded.layers], folded(torch.rand(5, 1, 4, 4)).shape
    (['input', 'conv', 'reshape'], torch.Size([5, 8]))
    """

    def __init__(self, model: object, x: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.layers = list[Layer]()
        for draft in _flatten_last(_fold_steps(read_network(model, x))):
            layer = _BUILD[draft.kind](draft, dtype)
            before = {self.layers[i].dtype for i in draft.inputs}
            narrow = draft.kind in ("conv", "dense")
            layer.dtype = dtype if narrow or before == {dtype} else torch.float32
            self.layers.append(layer)
        self._last_use = {i: n for n, layer in enumerate(self.layers) for i in layer.inputs}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits `(b, k)` in float32, without gradient."""
        return self.values(x)[-1].float()

    def values(self, x: Tensor, keep: Collection[int] = ()) -> list[Tensor]:
        """Return the outputs of the layers in `keep` and of the last, the others without rows."""
        values: list[Tensor] = []
        for n, layer in enumerate(self.layers):
            values.append(layer.run(*[values[i] for i in layer.inputs] or [x]))
            for i in layer.inputs:
                if self._last_use[i] == n and i not in keep:
                    values[i] = values[i][:0]
        return values


def _channels_last(x: Tensor) -> Tensor:
    """Return images `(b, c, h, w)` with their channels last in memory, also a single one."""
    b, c, h, w = x.shape
    last = x.reshape(b, h, w, 1) if c == 1 else x.permute(0, 2, 3, 1).contiguous()
    return last.permute(0, 3, 1, 2)


@dataclass
class _Draft:
    """Hold a step while others are folded into it."""

    kind: str
    arguments: tuple[Any, ...]
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    relu: bool = False
    users: list[_Draft] = field(default_factory=list)


def _fold_steps(steps: list[Step]) -> list[_Draft]:
    """Return drafts with scales and ReLUs folded into the convolution or linear layer before."""
    drafts, number, uses = list[_Draft](), list[int](), [0] * len(steps)
    for step in steps:
        for i in step.inputs:
            uses[i] += 1
    for step in steps:
        op = step.op or Operation("input")
        first = step.inputs[0] if step.inputs else -1
        if len(step.inputs) == 1 and uses[first] == 1 and _fold(drafts[number[first]], op):
            number.append(number[first])
            continue
        number.append(len(drafts))
        inputs = tuple(number[i] for i in step.inputs)
        drafts.append(_Draft(op.kind, op.arguments, inputs, step.shape))
        for i in inputs:
            drafts[i].users.append(drafts[-1])
    return drafts


def _fold(before: _Draft, op: Operation) -> bool:
    """Take an operation into the one before it, and say whether that can be done."""
    if before.kind not in ("conv", "dense") or before.relu or op.kind not in ("relu", "scale"):
        return False
    if op.kind == "relu":
        before.relu = True
        return True
    weight, bias, *rest = before.arguments
    scale, shift = (_by_channel(t, before.shape) for t in op.arguments[:2])
    if scale is None or shift is None or (before.kind == "dense" and len(before.shape) > 1):
        return False
    weight = weight * scale.expand(len(weight)).view(-1, *[1] * (weight.ndim - 1))
    shift = shift.expand(len(weight))
    before.arguments = (weight, shift if bias is None else bias * scale + shift, *rest)
    return True


def _by_channel(t: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return a constant of one sample as one number per channel, `(c,)` or `(1,)`, if it is one."""
    t = t.reshape(*[1] * (len(shape) - t.ndim), *t.shape)
    return t.flatten() if t.numel() == t.shape[0] else None


def _flatten_last(drafts: list[_Draft]) -> list[_Draft]:
    """Turn the columns of linear layers so that they take an image flattened channels last."""
    for draft in drafts:
        image = draft.kind == "reshape" and len(drafts[draft.inputs[0]].shape) == 3
        if not image or len(draft.shape) != 1 or {user.kind for user in draft.users} != {"dense"}:
            continue
        draft.kind = "flatten"
        for user in draft.users:
            weight, bias = user.arguments
            turned = weight.view(-1, *drafts[draft.inputs[0]].shape).permute(0, 2, 3, 1)
            user.arguments = (turned.flatten(1), bias)
    return drafts


def _layer(draft: _Draft, run: Callable[..., Tensor], **known: Any) -> Layer:
    return Layer(draft.kind, draft.inputs, draft.shape, run, **known)


def _conv(draft: _Draft, dtype: torch.dtype) -> Layer:
    weight, bias, stride, padding, dilation, groups = draft.arguments
    stride, padding, dilation = (_pair(v) for v in (stride, padding, dilation))
    macs, kernel = weight.numel() * math.prod(draft.shape[1:]), tuple(weight.shape[2:])
    weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.to(dtype)

    one_channel = weight.shape[1] == groups == 1

    def run(h: Tensor, padding: Pair = padding) -> Tensor:
        if one_channel and h.requires_grad and torch.is_grad_enabled():
            out = _OneChannel.apply(h.to(dtype), weight, bias, stride, padding, dilation)
        else:
            out = F.conv2d(h.to(dtype), weight, bias, stride, padding, dilation, groups)
        return out.relu_() if draft.relu else out

    window = Window(lambda h: run(h, (0, 0)), kernel, stride, padding, dilation)
    return _layer(draft, run, window=window, macs=macs)


class _OneChannel(torch.autograd.Function):
    """Convolve an image of one channel, with a gradient to it that is a matrix product.

    The library's own gradient has one channel to fill its registers with: a third of the time of a
    whole backward pass of a small network.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.sizes = {"output_size": x.shape[2:], "kernel_size": weight.shape[2:]}
        ctx.sizes |= {"stride": stride, "padding": padding, "dilation": dilation}
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (grad,) = ctx.saved_tensors, grads
        taps = weight.flatten(1).T @ grad.flatten(2)  # (b, pixels of the kernel, of the output)
        return F.fold(taps, **ctx.sizes), None, None, None, None, None


def _dense(draft: _Draft, dtype: torch.dtype) -> Layer:
    weight, bias = draft.arguments
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)

    def run(h: Tensor) -> Tensor:
        out = F.linear(h.to(dtype), weight, bias)
        return out.relu_() if draft.relu else out

    return _layer(draft, run, macs=weight.numel() * math.prod(draft.shape[:-1]))


def _scale(draft: _Draft, dtype: torch.dtype) -> Layer:
    scale, shift = (t.float() for t in draft.arguments[:2])
    pointwise = all(_by_channel(t, draft.shape) is not None for t in (scale, shift))
    return _layer(draft, lambda h: (h * scale + shift).to(h.dtype), pointwise=pointwise)


def _mean(draft: _Draft, dtype: torch.dtype) -> Layer:
    pool = draft.arguments[0]
    window = None
    if isinstance(pool, nn.AvgPool2d) and not pool.ceil_mode and pool.divisor_override is None:
        sizes = [_pair(v) for v in (pool.kernel_size, pool.stride, pool.padding)]
        if pool.count_include_pad or sizes[2] == (0, 0):
            kernel, stride, padding = sizes
            window = Window(lambda h: F.avg_pool2d(h, kernel, stride), kernel, stride, padding)
    return _layer(draft, pool, window=window)


def _max(draft: _Draft, dtype: torch.dtype) -> Layer:
    kernel, stride, padding = draft.arguments

    def run(h: Tensor, padding: Pair = padding) -> Tensor:
        return F.max_pool2d(h, kernel, stride, padding)

    window = Window(lambda h: run(h, (0, 0)), kernel, stride, padding, fill=-math.inf)
    return _layer(draft, run, window=window)


def _plain(run: Callable[[_Draft], Callable[..., Tensor]], *, pointwise: bool = False) -> Any:
    return lambda draft, dtype: _layer(draft, run(draft), pointwise=pointwise)


def _join(draft: _Draft, dtype: torch.dtype) -> Layer:
    dim = draft.arguments[0]
    pointwise = dim == 1 and len(draft.shape) == 3
    return _layer(draft, lambda *h: torch.cat(h, dim), pointwise=pointwise)


def _pair(v: int | Sequence[int]) -> Pair:
    return (v, v) if isinstance(v, int) else (int(v[0]), int(v[-1]))


_BUILD: dict[str, Callable[[_Draft, torch.dtype], Layer]] = {
    "add": _plain(lambda draft: torch.add, pointwise=True),
    "conv": _conv,
    "curve": _plain(lambda draft: draft.arguments[0], pointwise=True),
    "dense": _dense,
    "flatten": _plain(lambda draft: lambda h: h.permute(0, 2, 3, 1).flatten(1)),
    "input": _plain(lambda draft: lambda x: _channels_last(x) if x.ndim == 4 else x),
    "join": _join,
    "max": _max,
    "mean": _mean,
    "relu": _plain(lambda draft: torch.relu, pointwise=True),
    "reshape": _plain(lambda draft: lambda h: h.reshape(len(h), *draft.shape)),
    "scale": _scale,
}
