"""Trace a network into a list of operations, or refuse it by name, in the words of bounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from ..runtime.allocator import out_of_memory
from . import freeze
from .adapted import readable
from .trace import has_hooks, is_normalize, trace

IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
CURVES = {nn.Tanh: torch.tanh, nn.Sigmoid: torch.sigmoid}
MEAN_POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
RESHAPES = {torch.flatten, "flatten", "view", "reshape", "squeeze"}
SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
SAME = {"contiguous", "clone", "float", "double", "to"}
MEANS = {torch.mean, "mean"}
JOINS = {torch.cat, torch.concat}
LINEAR = {F.linear}
WEIGHTED = {*LINEAR, F.conv2d, torch.conv2d}
MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
LAYERS: dict[Any, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {  # of a function
    F.max_pool2d: (nn.MaxPool2d, MAX_POOL),
    torch.max_pool2d: (nn.MaxPool2d, MAX_POOL[:-1]),
    F.avg_pool2d: (nn.AvgPool2d, AVERAGE),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    F.leaky_relu: (nn.LeakyReLU, ("negative_slope", "inplace")),
    F.dropout: (nn.Dropout, ("p", "training", "inplace")),
}
RELUS = {F.relu, torch.relu, "relu", "relu_"}
SUPPORTED = (
    "Linear, Conv2d, BatchNorm, Normalize, ReLU, LeakyReLU, Tanh, Sigmoid, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, Flatten, view, Dropout, mean, cat, sums, and + − × ÷ with constants"
)


class Operation(NamedTuple):
    """Hold what a step computes, tensors in float64.

    dense (weight, bias), conv (weight, bias, stride, padding, dilation, groups), scale (scale,
    shift, magnitudes of the shift's parts), reshape (shape), mean (function, most terms), add (),
    join (dimension), relu (), curve (function), max (kernel, stride, padding).
    """

    kind: str
    arguments: tuple[Any, ...] = ()


@dataclass
class Step:
    """Hold an operation (None: the input), its inputs' positions, its output's sample shape."""

    op: Operation | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


def read_network(model: object, x: Tensor) -> list[Step]:
    """Return the network's operations in order, the input first.

    Arguments:
        x: samples `(b, *d)`, b ≥ 1, for the shapes.

    Raises:
        ValueError: for anything but a module, for control flow that depends on the data, and for an
            operation that bounds do not support.
    """
    model = readable(model, x)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model is a {type(model).__name__}: bounds read a torch.nn.Module; "
            "smoothing takes any function"
        )
    device = torch.device("cpu") if x.device.type == "mps" else x.device  # mps has no float64
    with freeze.frozen(model, "eval"), torch.no_grad():
        try:
            reader = _Reader(trace(model), device)
            # Two samples: a step that mixes or drops samples changes the first dimension.
            reader.run(x[[0, 0]])
        except Exception as error:  # the model's own code runs on stand-ins for tensors
            refused = isinstance(error, ValueError) and not isinstance(error, TraceError)
            if refused or out_of_memory(error):
                raise
            lines = [line for line in str(error).splitlines() if line.strip()]
            reason = (lines[-1].strip() if lines else type(error).__name__)[:200]
            raise ValueError(
                f"bounds can't read {type(model).__name__}: {reason}. They read the network itself "
                "in PyTorch, no program from a file; smoothing takes any model"
            ) from None
    return reader.steps


class _Reader(fx.Interpreter):
    """Run the graph once, and append a step for each value that depends on the input."""

    def __init__(self, module: fx.GraphModule, device: torch.device) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.device, self.steps = device, list[Step]()
        self.positions: dict[fx.Node, int] = {}
        self.values: dict[fx.Node, Any] = {}
        self.sizes: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        value = self.values[n] = super().run_node(n)
        if n.op == "placeholder":
            self._append(n, None, (), value)
        elif n.op == "output":
            if n.all_input_nodes[0] not in self.positions or not _are_logits(value):
                raise ValueError("bounds need a model that returns logits (b, k), k ≥ 2")
            # Operations after the output are dropped: the last node is the logits.
            del self.steps[self.positions[n.all_input_nodes[0]] + 1 :]
        elif any(a in self.positions or a in self.sizes for a in n.all_input_nodes):
            if not isinstance(value, Tensor):
                self._add_size(n)
            elif any(a in self.positions for a in n.all_input_nodes):
                self._add_operation(n, value)
        return value

    def _add_size(self, n: fx.Node) -> None:
        """Accept sizes only: another number taken from the input would pass as a constant."""
        attribute = n.args[1] if n.target is getattr else n.target
        is_size = attribute in ("size", "dim", "shape", "ndim")
        if not is_size and n.all_input_nodes[0] not in self.sizes:
            raise ValueError(f"bounds can't read a number taken from the input (at {n.name!r})")
        self.sizes.add(n)

    def _append(
        self, n: fx.Node, op: Operation | None, inputs: tuple[int, ...], value: Tensor
    ) -> None:
        self.positions[n] = len(self.steps)
        self.steps.append(Step(op, inputs, tuple(value.shape[1:])))

    def _add_operation(self, n: fx.Node, value: Tensor) -> None:
        several: Any = _joined(n).get("tensors", ()) if n.target in JOINS else n.args
        parents = [a for a in several if isinstance(a, fx.Node) and a in self.positions]
        parents = parents or [a for a in n.all_input_nodes if a in self.positions]
        before = self.values[parents[0]]
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            name, op = type(module).__name__, self._module(module, before, value)
            if has_hooks(module):  # they may change what it gives: its type no longer says it
                name, op = f"{name} with hooks", None
        else:
            name, op = _function_name(n.target), self._function(n, parents, before, value)
        if op is None or value.shape[0] != 2:
            raise ValueError(
                f"bounds do not know {name} (at {n.name!r}): supported are {SUPPORTED}. For other "
                "models there is smoothing"
            )
        if op == "same":
            self.positions[n] = self.positions[parents[0]]
        else:
            self._append(n, op, tuple(self.positions[a] for a in parents), value)

    def _tensor(self, t: Any) -> Tensor:
        return torch.as_tensor(t).detach().to(self.device, torch.float64)

    def _module(self, m: nn.Module, before: Tensor, value: Tensor) -> Any:
        kind = type(m)
        if kind in IDENTITIES:
            return "same"
        if kind is nn.Flatten:
            return _reshaped(before, value)
        if kind is nn.ReLU:
            return Operation("relu")
        if kind in CURVES:
            return Operation("curve", (CURVES[kind],))
        if isinstance(m, nn.LeakyReLU) and kind is nn.LeakyReLU:
            slope = m.negative_slope
            leaky = Operation("curve", (lambda h: F.leaky_relu(h, slope),))
            return leaky if 0 <= slope <= 1 else None
        if kind in MEAN_POOLS:
            return Operation("mean", (m, _window(m, before)))
        if isinstance(m, nn.Linear) and kind is nn.Linear:
            return Operation("dense", (self._tensor(m.weight), self._bias(m)))
        if isinstance(m, nn.Conv2d) and kind is nn.Conv2d:
            plain = m.padding_mode == "zeros" and not isinstance(m.padding, str)
            rest = (m.stride, m.padding, m.dilation, m.groups)
            weights = self._tensor(m.weight), self._bias(m)
            return Operation("conv", (*weights, *rest)) if plain else None
        if isinstance(m, nn.MaxPool2d) and kind is nn.MaxPool2d:
            sizes = (m.kernel_size, m.stride, m.padding)
            sides = [(v, v) if isinstance(v, int) else tuple(v) for v in sizes]
            plain = m.dilation in (1, (1, 1)) and not m.ceil_mode and not m.return_indices
            return Operation("max", (*sides,)) if plain else None
        if isinstance(m, BATCH_NORMS) and kind in BATCH_NORMS and m.running_var is not None:
            return self._batch_norm(m, before.ndim)
        if is_normalize(m):
            tail = [-1, *[1] * (before.ndim - 2)]
            mean, std = (self._tensor(t).view(tail) for t in (m.mean, m.std))
            return Operation("scale", (1 / std, -mean / std))
        return None

    def _bias(self, m: nn.Linear | nn.Conv2d) -> Tensor | None:
        return None if m.bias is None else self._tensor(m.bias)

    def _batch_norm(self, m: Any, ndim: int) -> Operation:
        scale = (self._tensor(m.running_var) + m.eps).rsqrt()
        if m.affine:
            scale = scale * self._tensor(m.weight)
        mean = self._tensor(m.running_mean) * scale
        bias = self._tensor(m.bias) if m.affine else torch.zeros_like(mean)
        tail = [-1, *[1] * (ndim - 2)]
        parts = (scale, bias - mean, bias.abs() + mean.abs())
        return Operation("scale", tuple(t.view(tail) for t in parts))

    def _function(self, n: fx.Node, parents: list[fx.Node], before: Tensor, value: Tensor) -> Any:
        function: Any = n.target
        if function in RESHAPES:
            return _reshaped(before, value)
        if function in SAME and {before.dtype, value.dtype} <= {torch.float32, torch.float64}:
            return "same"
        if function in LAYERS and len(parents) == 1:
            layer = _as_layer(n)
            return None if layer is None else self._module(layer, before, value)
        if function in WEIGHTED and parents == [n.args[0]]:
            return self._weighted(n)
        if function in MEANS:
            return _mean(n, before)
        if function in JOINS:
            given = _joined(n)
            known = given.keys() == {"tensors", "dim"} and isinstance(given["dim"], int)
            if not known or len(parents) < len(given["tensors"]):  # a constant among them
                return None
            return Operation("join", (given["dim"] % value.ndim,))
        if function in RELUS:
            return Operation("relu")
        if function in (torch.tanh, F.tanh, "tanh", torch.sigmoid, F.sigmoid, "sigmoid"):
            curve = torch.tanh if "tanh" in _function_name(function) else torch.sigmoid
            return Operation("curve", (curve,))
        if function in SUMS and len(parents) == 2:
            same = all(self.values[a].shape == value.shape for a in parents)
            return Operation("add") if same and len(n.args) == 2 and not n.kwargs else None
        with_constant = len(parents) == 1 and parents == n.all_input_nodes[:1]
        if function in ARITHMETIC and len(n.args) == 2 and with_constant and not n.kwargs:
            return self._constant(ARITHMETIC[function], n, value)
        return None

    def _weighted(self, n: fx.Node) -> Operation | None:
        """Return the operation of F.linear or F.conv2d, with a weight that is no activation."""
        values = [self.values.get(a) if isinstance(a, fx.Node) else a for a in n.args[1:]]
        names = ("weight", "bias", "stride", "padding", "dilation", "groups")
        given = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        given |= dict(zip(names, values, strict=False))
        for key, a in n.kwargs.items():
            given[key] = self.values.get(a) if isinstance(a, fx.Node) else a
        if not isinstance(given["weight"], Tensor) or isinstance(given["padding"], str):
            return None
        weight, bias = self._tensor(given["weight"]), given["bias"]
        bias = None if bias is None else self._tensor(bias)
        rest: Any = [given[key] for key in names[2:]]
        if n.target in LINEAR:
            return Operation("dense", (weight, bias))
        return Operation("conv", (weight, bias, *rest))

    def _constant(self, function: Callable[..., Tensor], n: fx.Node, value: Tensor) -> Any:
        """Return h + c, h − c, c − h, h·c or h/c, for a number or one sample's tensor c."""
        first, second = (self.values[a] if isinstance(a, fx.Node) else a for a in n.args)
        left = isinstance(n.args[0], fx.Node) and n.args[0] in self.positions
        if function is torch.div and not left:
            return None
        other = self._tensor(second if left else first)
        if other.ndim == value.ndim and len(other) == 1:
            other = other[0]
        shape = value.shape[1:]
        if other.ndim > len(shape) or torch.broadcast_shapes(other.shape, shape) != shape:
            return None
        if (first if left else second).shape != value.shape:  # type: ignore[union-attr]
            return None
        zero, one = torch.zeros_like(other), torch.ones_like(other)
        if function is torch.add:
            return Operation("scale", (one, other))
        if function is torch.sub:
            return Operation("scale", (one, -other) if left else (-one, other))
        return Operation("scale", (other if function is torch.mul else 1 / other, zero))


ARITHMETIC: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((operator.add, torch.add, "add"), torch.add),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), torch.sub),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), torch.mul),
    **dict.fromkeys((operator.truediv, torch.div, "div"), torch.div),
}


def _as_layer(n: fx.Node) -> nn.Module | None:
    """Return the layer that computes what a function does; None in training mode."""
    make, names = LAYERS[n.target]
    given = {**dict(zip(names, n.args[1:], strict=False)), **n.kwargs}
    if given.pop("training", False) or any(isinstance(v, fx.Node) for v in given.values()):
        return None
    return make(**given)


def _joined(n: fx.Node) -> dict[str, Any]:
    """Return the tensors and the dimension that `torch.cat` was given, in either form."""
    return {"dim": 0, **dict(zip(("tensors", "dim"), n.args, strict=False)), **n.kwargs}


def _mean(n: fx.Node, before: Tensor) -> Operation | None:
    """Return the mean over some dimensions of each sample."""
    given: Any = {**dict(zip(("dim", "keepdim"), n.args[1:], strict=False)), **n.kwargs}
    dims = given.get("dim")
    dims = [dims] if isinstance(dims, int) else [*(dims or ())]
    dims = [d % before.ndim for d in dims]
    if not dims or 0 in dims or set(given) - {"dim", "keepdim"}:
        return None
    keep = bool(given.get("keepdim", False))
    terms = math.prod(before.shape[d] for d in dims)
    return Operation("mean", (lambda h: h.mean(dims, keepdim=keep), terms))


def _reshaped(before: Tensor, value: Tensor) -> Operation | None:
    keeps_samples = before.shape[0] == value.shape[0] and before.numel() == value.numel()
    return Operation("reshape", (value.shape[1:],)) if keeps_samples else None


def _window(pool: Any, before: Tensor) -> int:
    """Return the largest number of values that average pooling adds up."""
    size = getattr(pool, "kernel_size", None)
    if size is None:  # adaptive: at most all
        return before[0, 0].numel()
    return size**2 if isinstance(size, int) else math.prod(size)


def _are_logits(value: Tensor) -> bool:
    return value.ndim == 2 and value.shape[1] >= 2


def _function_name(function: Any) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", str(function))
