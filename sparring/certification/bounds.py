"""Lower bounds on the margin over a whole Linf or L2 ball: intervals, and CROWN on top of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import Model
from ..component import did_you_mean
from ..evaluation import judge
from ..functional.geometry import SLACK
from ..introspect import predict
from ..threats.base import Threat
from ..threats.l2 import L2
from ..threats.linf import Linf
from .graph import Node, read
from .ops import Box, Conv, Dense, Relu, Reshape, Scale, total

METHODS = ("ibp", "crown-ibp", "crown")
CHECKED = 8  # samples on which the graph that was read must agree with the model
FEW = 4  # samples at once for CROWN on a CPU: neurons that are open in any of them are bounded
MEMORY = 2**23  # numbers in the largest tensor of coefficients


@dataclass(frozen=True)
class Region:
    """Where inputs may be: the box `low..high (b, *d)`, and, where p = 2, the ball around `x`."""

    x: Tensor
    low: Tensor
    high: Tensor
    eps: float
    p: float

    def least(self, a: Tensor) -> Tensor:
        """min Σ a·x' for `a (b, m, *d)`, or a lower bound where box and ball cut: `(b, m)`.

        The larger of Σ a⁺·low + a⁻·high and a·x − eps·‖a‖₂.
        """
        inside = least(a, Box(self.low, self.high))
        if self.p != 2:
            return inside
        flat = a.flatten(2)
        centre = total(a * self.x[:, None])
        return torch.maximum(inside, centre - self.eps * flat.norm(dim=2))


def region(x: Tensor, threat: Threat) -> Region:
    """The threat's ball around each `x (b, *d)` in float64, with what judging forgives.

    Raises:
        ValueError: for a threat that is neither Linf nor L2.
    """
    if type(threat) not in (Linf, L2):
        raise ValueError(
            f"threat = {type(threat).__name__} is not allowed: bounds are over Linf or L2 balls"
        )
    x, eps = x.double(), float(threat.eps)  # type: ignore[arg-type]
    eps = eps * (1 + judge.OUTSIDE) + SLACK if eps > 0 else 0.0
    low, high = (x - eps).clamp_min(threat.low), (x + eps).clamp_max(threat.high)
    return Region(x, torch.minimum(low, x), torch.maximum(high, x), eps, threat.p)  # type: ignore


def least(a: Tensor, box: Box) -> Tensor:
    """min Σ a·h for h in the box: Σ a⁺·low + a⁻·high, `(b, m)`."""
    return total(a.clamp_min(0) * box.low[:, None] + a.clamp_max(0) * box.high[:, None])


def intervals(nodes: list[Node], inside: Region) -> list[Box]:
    """What each activation may be, by interval arithmetic.

    In an L2 ball the first linear layer W·D·x of scaled inputs moves by eps·‖row of W·D‖₂ at most.

    Source: Gowal et al. 2018, eq. 6; the dual norm at the first layer as in their section 3.
    """
    boxes = [Box(inside.low, inside.high)]
    still = {0: (inside.x, torch.ones_like(inside.x[:1]))}  # value and D, while D is diagonal
    for i, node in enumerate(nodes[1:], 1):
        op = node.op
        assert op is not None
        box = op.interval(*(boxes[j] for j in node.inputs))
        before = still.get(node.inputs[0]) if inside.p == 2 else None
        if before is not None and isinstance(op, Scale):
            still[i] = (op.apply(before[0]), op.scale.abs() * before[1])
        elif before is not None and isinstance(op, Reshape):
            still[i] = (op.apply(before[0]), op.apply(before[1]))
        elif before is not None and isinstance(op, Dense | Conv):
            centre = op.apply(before[0])
            reach = inside.eps * op.spread(before[1] ** 2, 2).sqrt()
            box = cut(box, Box(centre - reach, centre + reach))
        boxes.append(box)
    return boxes


def cut(one: Box, other: Box) -> Box:
    """What is in both boxes; bounds that cross by rounding meet in the middle of the crossing."""
    low, high = torch.maximum(one.low, other.low), torch.minimum(one.high, other.high)
    return Box(torch.minimum(low, high), torch.maximum(low, high))


def lower(nodes: list[Node], boxes: list[Box], inside: Region, a: Tensor, *, deep: bool) -> Tensor:
    """A lower bound `(b, m)` of Σ a·h over the region, h the last node, `a (b, m, *s)`.

    Arguments:
        deep: back to the input through linear relaxations (CROWN); else back through affine
            operations only, and each other activation at the worst end of its box (IBP with the
            last layers elided).

    Source: Zhang et al. 2018, theorem 3.2, on a graph as in Xu et al. 2020.
    """
    waiting = {len(nodes) - 1: a}
    found = a.new_zeros(a.shape[:2])
    for i in reversed(range(len(nodes))):
        if (rows := waiting.pop(i, None)) is None:
            continue
        op, inputs = nodes[i].op, nodes[i].inputs
        if op is None:
            found = found + inside.least(rows)
        elif not op.affine and not deep:
            found = found + least(rows, boxes[i])
        else:
            parts, constant = op.back(rows, *(boxes[j] for j in inputs))
            found = found + constant
            for j, part in zip(inputs, parts, strict=True):
                waiting[j] = waiting[j] + part if j in waiting else part
    return found


def tighten(nodes: list[Node], boxes: list[Box], inside: Region) -> list[Box]:
    """Boxes in which the input of every non-linear operation is bounded by CROWN too.

    Of a ReLU's input, only what can change sign is bounded anew. Costs a backward pass a neuron.
    """
    boxes = list(boxes)
    for i, node in enumerate(nodes[1:], 1):
        assert node.op is not None
        j = node.inputs[0]
        if not node.op.affine and any(not isinstance(n.op, Scale | Reshape) for n in nodes[1:j]):
            boxes[j] = _by_crown(nodes[: j + 1], boxes, inside, isinstance(node.op, Relu))
        again = node.op.interval(*(boxes[j] for j in node.inputs))
        boxes[i] = cut(boxes[i], again)
    return boxes


def _by_crown(nodes: list[Node], boxes: list[Box], inside: Region, relu: bool) -> Box:
    old, shape = boxes[len(nodes) - 1], nodes[-1].shape
    low, high = (side.flatten(1).clone() for side in old)
    open_ = ((low < 0) & (high > 0)).any(0) if relu else (high > low).any(0)
    for rows in open_.nonzero().flatten().split(_room(nodes, len(low))):
        a = torch.zeros(len(rows), low.shape[1], dtype=low.dtype, device=low.device)
        a = a.scatter(1, rows[:, None], 1.0).reshape(1, len(rows), *shape)
        a = a.expand(len(low), *a.shape[1:])
        low[:, rows] = lower(nodes, boxes, inside, a, deep=True)
        high[:, rows] = -lower(nodes, boxes, inside, -a, deep=True)
    return cut(old, Box(low.reshape(old.low.shape), high.reshape(old.high.shape)))


def _room(nodes: list[Node], rows: int) -> int:
    """How many rows of coefficients fit into memory at once."""
    return max(1, MEMORY // (rows * max(math.prod(n.shape) for n in nodes)))


def margins(
    model: Model, x: Tensor, y: Tensor, *, threat: Threat, method: str = "crown-ibp"
) -> Tensor:
    """A lower bound of min over the ball of z_y − max_{k≠y} z_k, the logits z; float64 `(b,)`.

    Raises:
        ValueError: for another threat than Linf and L2, or a model that bounds can't read.

    >>> from torch import nn
    >>> model = nn.Linear(2, 2, bias=False)
    >>> model.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> x, y = torch.tensor([[0.8, 0.2]]), torch.tensor([0])
    >>> margins(model, x, y, threat=Linf(0.1)).round(decimals=3)
    tensor([0.4000], dtype=torch.float64)
    """
    if method not in METHODS:
        raise ValueError(did_you_mean("method", method, METHODS))
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.float64, device=x.device)
    nodes = read(model, x)
    whole = region(x.cpu() if x.device.type == "mps" else x, threat)
    with torch.no_grad():
        _agree(nodes, model, x[:CHECKED], whole)
        size = _room(nodes, nodes[-1].shape[0] - 1)
        if method == "crown" and whole.x.device.type == "cpu":
            size = min(size, FEW)
        parts = [
            _margins(nodes, _rows(whole, start, size), y[start : start + size], method)
            for start in range(0, len(x), size)
        ]
    return torch.cat(parts).to(x.device) if x.device.type != "mps" else torch.cat(parts)


def certify(
    model: Model, x: Tensor, y: Tensor, *, threat: Threat, method: str = "crown-ibp"
) -> Tensor:
    """Which samples are right, and proven right in the whole ball and box: bool `(b,)`.

    `"ibp"` is fast and says little of a model that was not trained for it; `"crown-ibp"` costs a
    backward pass a class; `"crown"` one a neuron, for small networks.

    Bounds are those of the network in exact arithmetic, computed in float64; the margin must be
    above 1e-6 times the largest logit (or 1), which stands for the model's own rounding. The ball
    is as large as judging allows: eps·(1 + 1e-5) + 1e-6; at eps = 0 it is the sample itself.

    Arguments:
        x, y: `(b, *d)` within the threat's bounds, `(b,)`.

    Raises:
        ValueError: for another threat than Linf and L2, or a model that bounds can't read.
    """
    bound = margins(model, x, y, threat=threat, method=method)
    with torch.no_grad():
        z = predict.logits(model, x).to(bound.device)
    right = torch.isfinite(z).all(1) & (z.argmax(1) == y.to(bound.device)) if len(x) else bound > 0
    scale = z.abs().amax(1).clamp_min(1) if len(x) else bound
    return (right & (bound > SLACK * scale)).to(x.device)


def _margins(nodes: list[Node], inside: Region, y: Tensor, method: str) -> Tensor:
    """IBP's bound; with CROWN the better of both, class by class."""
    k = nodes[-1].shape[0]
    a = against(y.to(inside.x.device), k)
    boxes = intervals(nodes, inside)
    found = lower(nodes, boxes, inside, a, deep=False)
    if method != "ibp":
        if method == "crown":
            boxes = tighten(nodes, boxes, inside)
        found = torch.maximum(found, lower(nodes, boxes, inside, a, deep=True))
    return found.amin(1)


def against(y: Tensor, k: int) -> Tensor:
    """The rows e_y − e_j for every other class j, float64 `(b, k − 1, k)`.

    >>> against(torch.tensor([1]), 3).tolist()
    [[[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]]
    """
    one = torch.eye(k, dtype=torch.float64, device=y.device)
    others = (one[y] == 0).nonzero()[:, 1].reshape(len(y), k - 1)
    return one[y][:, None] - one[others]


def _rows(whole: Region, start: int, size: int) -> Region:
    part = slice(start, start + size)
    return replace(whole, x=whole.x[part], low=whole.low[part], high=whole.high[part])


def _agree(nodes: list[Node], model: Model, x: Tensor, whole: Region) -> None:
    """Raise unless the list of operations says what the model says."""
    point = _rows(whole, 0, len(x))
    point = replace(point, low=point.x, high=point.x, eps=0.0)
    said, wanted = intervals(nodes, point)[-1], predict.logits(model, x).double()
    wanted = wanted.to(said.low.device)
    finite = torch.isfinite(wanted).all(1)
    off = (said.low - wanted)[finite].abs()
    if not (off <= 1e-3 * wanted[finite].abs().amax(1, keepdim=True).clamp_min(1)).all():
        raise ValueError(
            f"bounds read another function than the model computes (logits {off.max():.3g} apart): "
            "it changes a value in place, or has hooks or random steps"
        )
