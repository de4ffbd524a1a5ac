"""Bound the margin over a whole Linf or L2 ball: by intervals, and by CROWN on top of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import Model
from ..component import did_you_mean
from ..functional.geometry import RELATIVE_SLACK, SLACK
from ..introspect import predict
from ..threats.base import Threat
from ..threats.l2 import L2
from ..threats.linf import Linf
from .graph import Node, trace_network
from .ops import Bounds, ConvOp, DenseOp, ReluOp, ReshapeOp, ScaleOp, sum_units

METHODS = ("ibp", "crown-ibp", "crown")
CHECKED_SAMPLES = 8  # on which the traced network must agree with the model
CPU_CROWN_SAMPLES = 4  # at once: a neuron that is unstable in any of them is bounded in all
MAX_COEFFICIENTS = 2**23  # numbers in the largest tensor of coefficients


@dataclass(frozen=True)
class Region:
    """Hold where inputs may be: the box `low..high (b, *d)`, and for p = 2 the ball around `x`."""

    x: Tensor
    low: Tensor
    high: Tensor
    eps: float
    p: float

    def minimum(self, a: Tensor) -> Tensor:
        """Return a lower bound `(b, m)` of Σ a·x' over the region, for `a (b, m, *d)`.

        It is the larger of Σ a⁺·low + a⁻·high and a·x − eps·‖a‖₂: exact, unless box and ball cut.
        """
        in_box = minimum(a, Bounds(self.low, self.high))
        if self.p != 2:
            return in_box
        in_ball = sum_units(a * self.x[:, None]) - self.eps * a.flatten(2).norm(dim=2)
        return torch.maximum(in_box, in_ball)

    def take(self, rows: slice) -> Region:
        """Return the region of these samples."""
        return replace(self, x=self.x[rows], low=self.low[rows], high=self.high[rows])


def region(x: Tensor, threat: Threat) -> Region:
    """Return the threat's ball around each `x (b, *d)` in float64, with the slack of judging.

    Raises:
        ValueError: for a threat that is neither Linf nor L2.
    """
    if type(threat) not in (Linf, L2):
        raise ValueError(
            f"threat = {type(threat).__name__} is not allowed: bounds are over Linf or L2 balls"
        )
    x, eps = x.double(), float(threat.eps)  # type: ignore[arg-type]
    # As large as the ball in which judging accepts points, so that no attack breaks a certificate.
    eps = eps * (1 + RELATIVE_SLACK) + SLACK if eps > 0 else 0.0
    low, high = (x - eps).clamp_min(threat.low), (x + eps).clamp_max(threat.high)
    return Region(x, torch.minimum(low, x), torch.maximum(high, x), eps, threat.p)  # type: ignore


def minimum(a: Tensor, bounds: Bounds) -> Tensor:
    """Return min Σ a·h `(b, m)` over h within the bounds: Σ a⁺·low + a⁻·high."""
    return sum_units(a.clamp_min(0) * bounds.low[:, None] + a.clamp_max(0) * bounds.high[:, None])


def interval_bounds(nodes: list[Node], inputs: Region) -> list[Bounds]:
    """Return the bounds of each activation, by interval arithmetic.

    In an L2 ball, the first linear layer W·D·x of scaled inputs moves by eps·‖row of W·D‖₂ at most.

    Source: Gowal et al. 2018, eq. 6; the dual norm at the first layer as in their section 3.
    """
    bounds = [Bounds(inputs.low, inputs.high)]
    # Value and D of each node up to which the network only scales and reshapes the input.
    scaled = {0: (inputs.x, torch.ones_like(inputs.x[:1]))}
    for i, node in enumerate(nodes[1:], 1):
        op = node.op
        assert op is not None
        output = op.interval(*(bounds[j] for j in node.inputs))
        before = scaled.get(node.inputs[0]) if inputs.p == 2 else None
        if before is not None and isinstance(op, ScaleOp):
            scaled[i] = (op.apply(before[0]), op.scale.abs() * before[1])
        elif before is not None and isinstance(op, ReshapeOp):
            scaled[i] = (op.apply(before[0]), op.apply(before[1]))
        elif before is not None and isinstance(op, DenseOp | ConvOp):
            centre = op.apply(before[0])
            radius = inputs.eps * op.apply_abs(before[1] ** 2, 2).sqrt()
            output = intersection(output, Bounds(centre - radius, centre + radius))
        bounds.append(output)
    return bounds


def intersection(a: Bounds, b: Bounds) -> Bounds:
    """Return the values within both bounds."""
    low, high = torch.maximum(a.low, b.low), torch.minimum(a.high, b.high)
    # Rounding may let the two sides cross: then they change places.
    return Bounds(torch.minimum(low, high), torch.maximum(low, high))


def linear_lower_bound(
    nodes: list[Node], bounds: list[Bounds], inputs: Region, a: Tensor, *, relax: bool
) -> Tensor:
    """Return a lower bound `(b, m)` of Σ a·h over the region, h the last node, `a (b, m, *s)`.

    Arguments:
        relax: go back to the input, through linear relaxations of other operations (CROWN). False
            goes back through affine operations only, and takes each other activation at the worst
            end of its bounds: IBP with the last layers elided.

    Source: Zhang et al. 2018, theorem 3.2, on a graph as in Xu et al. 2020.
    """
    coefficients = {len(nodes) - 1: a}
    bound = a.new_zeros(a.shape[:2])
    for i in reversed(range(len(nodes))):
        if (rows := coefficients.pop(i, None)) is None:
            continue
        op, parents = nodes[i].op, nodes[i].inputs
        if op is None:
            bound = bound + inputs.minimum(rows)
        elif not op.affine and not relax:
            bound = bound + minimum(rows, bounds[i])
        else:
            parts, constant = op.backward(rows, *(bounds[j] for j in parents))
            bound = bound + constant
            for j, part in zip(parents, parts, strict=True):
                coefficients[j] = coefficients[j] + part if j in coefficients else part
    return bound


def crown_bounds(nodes: list[Node], bounds: list[Bounds], inputs: Region) -> list[Bounds]:
    """Return tighter bounds, by CROWN at the input of every non-linear operation.

    It costs a backward pass per neuron; at a ReLU, only for inputs that can change sign.
    """
    bounds = list(bounds)
    for i, node in enumerate(nodes[1:], 1):
        assert node.op is not None
        j = node.inputs[0]
        # CROWN adds nothing where only scaling and reshaping come before.
        mixes = any(not isinstance(n.op, ScaleOp | ReshapeOp) for n in nodes[1:j])
        if not node.op.affine and mixes:
            bounds[j] = _crown_at_last(nodes[: j + 1], bounds, inputs, isinstance(node.op, ReluOp))
        interval = node.op.interval(*(bounds[j] for j in node.inputs))
        bounds[i] = intersection(bounds[i], interval)
    return bounds


def _crown_at_last(nodes: list[Node], bounds: list[Bounds], inputs: Region, relu: bool) -> Bounds:
    old, shape = bounds[len(nodes) - 1], nodes[-1].shape
    low, high = (side.flatten(1).clone() for side in old)
    unstable = ((low < 0) & (high > 0)).any(0) if relu else (high > low).any(0)
    for rows in unstable.nonzero().flatten().split(_max_rows(nodes, len(low))):
        a = low.new_zeros(len(rows), low.shape[1]).scatter(1, rows[:, None], 1.0)
        a = a.reshape(1, len(rows), *shape).expand(len(low), -1, *shape)
        low[:, rows] = linear_lower_bound(nodes, bounds, inputs, a, relax=True)
        high[:, rows] = -linear_lower_bound(nodes, bounds, inputs, -a, relax=True)
    return intersection(old, Bounds(low.reshape(old.low.shape), high.reshape(old.high.shape)))


def _max_rows(nodes: list[Node], samples: int) -> int:
    return max(1, MAX_COEFFICIENTS // (samples * max(math.prod(n.shape) for n in nodes)))


def margin_upper_bounds(
    model: Model, x: Tensor, y: Tensor, *, threat: Threat, method: str = "crown-ibp"
) -> Tensor:
    """Return an upper bound `(b,)` of the margin max_{k≠y} z_k − z_y over the ball, in float64.

    Where it is negative, no point of the ball is adversarial.

    Raises:
        ValueError: for another threat than Linf and L2, or a model that bounds can't read.

    >>> from torch import nn
    >>> model = nn.Linear(2, 2, bias=False)
    >>> model.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> x, y = torch.tensor([[0.8, 0.2]]), torch.tensor([0])
    >>> margin_upper_bounds(model, x, y, threat=Linf(0.1)).round(decimals=3)
    tensor([-0.4000], dtype=torch.float64)
    """
    if method not in METHODS:
        raise ValueError(did_you_mean("method", method, METHODS))
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.float64, device=x.device)
    nodes = trace_network(model, x)
    inputs = region(x.cpu() if x.device.type == "mps" else x, threat)  # mps has no float64
    with torch.no_grad():
        _require_same_function(nodes, model, x[:CHECKED_SAMPLES], inputs)
        size = _max_rows(nodes, nodes[-1].shape[0] - 1)
        if method == "crown" and inputs.x.device.type == "cpu":
            size = min(size, CPU_CROWN_SAMPLES)
        chunks = [slice(start, start + size) for start in range(0, len(x), size)]
        parts = [_margins(nodes, inputs.take(rows), y[rows], method) for rows in chunks]
    return torch.cat(parts).to(x.device) if x.device.type != "mps" else torch.cat(parts)


def certify(
    model: Model, x: Tensor, y: Tensor, *, threat: Threat, method: str = "crown-ibp"
) -> Tensor:
    """Return which samples the model provably gets right in the whole ball and box: bool `(b,)`.

    `"ibp"` is fast, and loose for a model that was not trained for it. `"crown-ibp"` costs a
    backward pass per class; `"crown"` one per neuron, for small networks.

    Bounds are those of the network in exact arithmetic, computed in float64. The margin must be
    below −1e-6 times the largest logit (or 1), which covers the model's own rounding. The ball is
    as large as in judging: eps·(1 + 1e-5) + 1e-6; at eps = 0 it is the sample itself.

    Arguments:
        x: `(b, *d)` within the threat's bounds.
        y: labels `(b,)`.

    Raises:
        ValueError: for another threat than Linf and L2, or a model that bounds can't read.
    """
    margin = margin_upper_bounds(model, x, y, threat=threat, method=method)
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.bool, device=x.device)
    with torch.no_grad():
        z = predict.logits(model, x).to(margin.device)
    right = predict.predicted_class(z) == y.to(margin.device)
    scale = z.abs().amax(1).clamp_min(1)
    return (right & (margin < -SLACK * scale)).to(x.device)


def _margins(nodes: list[Node], inputs: Region, y: Tensor, method: str) -> Tensor:
    """Return IBP's bound of the margin; with CROWN the better of both, class by class."""
    a = label_minus_others(y.to(inputs.x.device), nodes[-1].shape[0])
    bounds = interval_bounds(nodes, inputs)
    label_gap = linear_lower_bound(nodes, bounds, inputs, a, relax=False)
    if method == "crown":
        bounds = crown_bounds(nodes, bounds, inputs)
    if method != "ibp":
        label_gap = label_gap.maximum(linear_lower_bound(nodes, bounds, inputs, a, relax=True))
    return -label_gap.amin(1)


def label_minus_others(y: Tensor, k: int) -> Tensor:
    """Return the rows e_y − e_j for every other class j, float64 `(b, k − 1, k)`.

    >>> label_minus_others(torch.tensor([1]), 3).tolist()
    [[[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]]
    """
    one_hot = torch.eye(k, dtype=torch.float64, device=y.device)
    others = (one_hot[y] == 0).nonzero()[:, 1].reshape(len(y), k - 1)
    return one_hot[y][:, None] - one_hot[others]


def _require_same_function(nodes: list[Node], model: Model, x: Tensor, inputs: Region) -> None:
    """Raise unless the traced operations compute the model's logits."""
    point = inputs.take(slice(len(x)))
    point = replace(point, low=point.x, high=point.x, eps=0.0)
    # Intervals of width 0 run the traced network; hooks and in-place changes are not traced.
    traced = interval_bounds(nodes, point)[-1].low
    wanted = predict.logits(model, x).to(traced.device).double()
    finite = torch.isfinite(wanted).all(1)
    error = (traced - wanted)[finite].abs()
    if not (error <= 1e-3 * wanted[finite].abs().amax(1, keepdim=True).clamp_min(1)).all():
        raise ValueError(
            f"the traced network differs from the model (logits {error.max():.3g} apart): it "
            "changes values in place, has hooks or draws random numbers"
        )
