"""A network as a list of operations that bounds know, read by tracing; or a refusal by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from ..introspect import freeze
from .ops import Add, Conv, Curve, Dense, Max, Mean, Op, Relu, Reshape, Scale

OURS = "sparring.models.normalize.Normalize"
SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
CURVES = (nn.Tanh, nn.Sigmoid, nn.LeakyReLU)
MEANS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
SHAPES = {torch.flatten, "flatten", "view", "reshape", "squeeze"}
RELUS = {F.relu, torch.relu, "relu", "relu_"}
KNOWN = (
    "Linear, Conv2d, BatchNorm, Normalize, ReLU, LeakyReLU, Tanh, Sigmoid, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, Flatten, view, Dropout, sums, and + − × ÷ with constants"
)


@dataclass
class Node:
    """One operation, the places of its inputs in the list, and the shape of one sample after it."""

    op: Op | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


def read(model: object, x: Tensor) -> list[Node]:
    """The network's operations in order, the input first; `x (b, *d)`, b ≥ 1, shows the shapes.

    Raises:
        ValueError: for what is no module, has steps that depend on the data, or an operation that
            bounds do not know.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model is a {type(model).__name__}: bounds read a torch.nn.Module; "
            "smoothing takes any function"
        )
    place = torch.device("cpu") if x.device.type == "mps" else x.device  # it has no float64
    with freeze.frozen(model, "eval"), torch.no_grad():
        tracer = _Tracer()
        try:
            graph = tracer.trace(nn.Sequential(model))  # a bare layer is not taken apart
            reader = _Reader(fx.GraphModule(tracer.root, graph), place)
            reader.run(x[[0, 0]])
        except (TypeError, AttributeError, RuntimeError, TraceError) as error:
            raise ValueError(f"bounds can't read {type(model).__name__}: {error}") from None
    return reader.nodes


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _name(m) == OURS or super().is_leaf_module(m, module_qualified_name)


class _Reader(fx.Interpreter):
    """Runs the graph once; each value that depends on the input leaves a node."""

    def __init__(self, module: fx.GraphModule, place: torch.device) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.place, self.nodes = place, list[Node]()
        self.at: dict[fx.Node, int] = {}
        self.values: dict[fx.Node, Any] = {}
        self.sizes: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        value = self.values[n] = super().run_node(n)
        if n.op == "placeholder":
            self._add(n, None, (), value)
        elif n.op == "output":
            if n.all_input_nodes[0] not in self.at or value.ndim != 2:
                raise ValueError("bounds need a model that returns logits (b, k)")
            self._last(self.at[n.all_input_nodes[0]])
        elif any(a in self.at or a in self.sizes for a in n.all_input_nodes):
            if not isinstance(value, Tensor):
                self._size(n)
            elif any(a in self.at for a in n.all_input_nodes):
                self._read(n, value)
        return value

    def _size(self, n: fx.Node) -> None:
        """What is no tensor must be a size: a number read from the input would pass as constant."""
        asked = n.args[1] if n.target is getattr else n.target
        if asked not in ("size", "dim", "shape", "ndim") and n.all_input_nodes[0] not in self.sizes:
            raise ValueError(f"bounds can't read a number taken from the input (at {n.name!r})")
        self.sizes.add(n)

    def _last(self, place: int) -> None:
        """The output's node stands last."""
        del self.nodes[place + 1 :]

    def _add(self, n: fx.Node, op: Op | None, inputs: tuple[int, ...], value: Tensor) -> None:
        self.at[n] = len(self.nodes)
        self.nodes.append(Node(op, inputs, tuple(value.shape[1:])))

    def _read(self, n: fx.Node, value: Tensor) -> None:
        parents = [a for a in n.args if isinstance(a, fx.Node) and a in self.at]
        parents = parents or [a for a in n.all_input_nodes if a in self.at]
        before = self.values[parents[0]]
        what: Any = self.fetch_attr(str(n.target)) if n.op == "call_module" else n.target
        op = self._module(what, before, value) if n.op == "call_module" else None
        if n.op != "call_module":
            op = self._function(n, what, parents, before, value)
        if op is None or value.shape[0] != 2:
            name = type(what).__name__ if n.op == "call_module" else _named(what)
            raise ValueError(
                f"bounds do not know {name} (at {n.name!r}): supported are {KNOWN}. For other "
                "models there is smoothing"
            )
        if op == "same":
            self.at[n] = self.at[parents[0]]
        else:
            self._add(n, op, tuple(self.at[a] for a in parents), value)

    def _tensor(self, t: Any) -> Tensor:
        return torch.as_tensor(t).detach().to(self.place, torch.float64)

    def _module(self, m: nn.Module, before: Tensor, value: Tensor) -> Any:
        kind = type(m)
        if kind in SAME:
            return "same"
        if kind is nn.Flatten:
            return _reshaped(before, value)
        if kind is nn.ReLU:
            return Relu()
        if kind in CURVES:
            return _curve(m)
        if kind in MEANS:
            return Mean(m)
        if isinstance(m, nn.Linear) and kind is nn.Linear:
            return Dense(self._tensor(m.weight), self._bias(m))
        if isinstance(m, nn.Conv2d) and kind is nn.Conv2d:
            plain = m.padding_mode == "zeros" and not isinstance(m.padding, str)
            rest = (m.stride, m.padding, m.dilation, m.groups)
            return Conv(self._tensor(m.weight), self._bias(m), *rest) if plain else None  # type: ignore
        if isinstance(m, nn.MaxPool2d) and kind is nn.MaxPool2d:
            return _pool(m)
        if isinstance(m, NORMS) and kind in NORMS and m.running_var is not None:
            return self._batch_norm(m, before.ndim)
        if _name(m) == OURS:
            tail = [-1, *[1] * (before.ndim - 2)]
            mean, std = (self._tensor(t).view(tail) for t in (m.mean, m.std))
            return Scale(1 / std, -mean / std)
        return None

    def _bias(self, m: nn.Linear | nn.Conv2d) -> Tensor | None:
        return None if m.bias is None else self._tensor(m.bias)

    def _batch_norm(self, m: Any, ndim: int) -> Scale:
        scale = (self._tensor(m.running_var) + m.eps).rsqrt()
        if m.affine:
            scale = scale * self._tensor(m.weight)
        shift = (self._tensor(m.bias) if m.affine else 0) - self._tensor(m.running_mean) * scale
        tail = [-1, *[1] * (ndim - 2)]
        return Scale(scale.view(tail), shift.view(tail))

    def _function(
        self, n: fx.Node, what: Any, parents: list[fx.Node], before: Tensor, value: Tensor
    ) -> Any:
        if what in SHAPES:
            return _reshaped(before, value)
        if what in RELUS:
            return Relu()
        if what in (torch.tanh, F.tanh, "tanh", torch.sigmoid, F.sigmoid, "sigmoid"):
            return Curve(torch.tanh if "tanh" in _named(what) else torch.sigmoid)
        if what in (operator.add, operator.iadd, torch.add, "add", "add_") and len(parents) == 2:
            same = all(self.values[a].shape == value.shape for a in parents)
            return Add() if same and len(n.args) == 2 and not n.kwargs else None
        alone = len(parents) == 1 and parents == n.all_input_nodes[:1]
        if what in SIMPLE and len(n.args) == 2 and alone and not n.kwargs:
            return self._constant(SIMPLE[what], n, value)
        return None

    def _constant(self, function: Callable[..., Tensor], n: fx.Node, value: Tensor) -> Any:
        """h + c, h − c, c − h, h·c or h/c; c a number or a tensor that fits one sample."""
        first, second = (self.values[a] if isinstance(a, fx.Node) else a for a in n.args)
        left = isinstance(n.args[0], fx.Node) and n.args[0] in self.at
        if function is torch.div and not left:
            return None
        other = self._tensor(second if left else first)
        if other.ndim == value.ndim and len(other) == 1:
            other = other[0]
        if other.ndim >= value.ndim:
            return None
        zero, one = torch.zeros_like(other), torch.ones_like(other)
        if torch.broadcast_shapes(other.shape, value.shape[1:]) != value.shape[1:]:
            return None
        if (first if left else second).shape != value.shape:  # type: ignore[union-attr]
            return None
        if function is torch.add:
            return Scale(one, other)
        if function is torch.sub:
            return Scale(one, -other) if left else Scale(-one, other)
        return Scale(other if function is torch.mul else 1 / other, zero)


SIMPLE: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((operator.add, torch.add, "add"), torch.add),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), torch.sub),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), torch.mul),
    **dict.fromkeys((operator.truediv, torch.div, "div"), torch.div),
}


def _reshaped(before: Tensor, value: Tensor) -> Reshape | None:
    whole = before.shape[0] == value.shape[0] and before.numel() == value.numel()
    return Reshape(value.shape[1:]) if whole else None


def _curve(m: nn.Module) -> Curve | None:
    if isinstance(m, nn.LeakyReLU):
        slope = m.negative_slope
        leaks = 0 <= slope <= 1
        return Curve(lambda h: F.leaky_relu(h, slope)) if leaks else None
    return Curve(torch.tanh if isinstance(m, nn.Tanh) else torch.sigmoid)


def _pool(m: nn.MaxPool2d) -> Max | None:
    sides = [
        (v, v) if isinstance(v, int) else tuple(v) for v in (m.kernel_size, m.stride, m.padding)
    ]
    plain = m.dilation in (1, (1, 1)) and not m.ceil_mode and not m.return_indices
    return Max(*sides) if plain else None


def _named(what: Any) -> str:
    return what if isinstance(what, str) else getattr(what, "__name__", str(what))


def _name(m: nn.Module) -> str:
    return f"{type(m).__module__}.{type(m).__qualname__}"
