"""Bound the margin over a whole Linf or L2 ball: by intervals, and by CROWN on top of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..batch import Model
from ..component import did_you_mean
from ..functional.geometry import SLACK
from ..introspect import predict
from ..introspect.graph import readable
from ..runtime.allocator import retry_smaller_batch
from ..threats.base import Threat
from .class_gaps import FIRST_CLASSES, LogitRows, elided, least_gaps, logit_rows
from .graph import Node, trace_network
from .ops import Bounds, ConvOp, DenseOp, ReluOp, ReshapeOp, ScaleOp, product
from .region import Region, minimum, region

METHODS = ("ibp", "crown-ibp", "crown")
CHECKED_SAMPLES = 8  # on which the traced network must agree with the model
CPU_CROWN_SAMPLES = 4  # at once: a neuron that is unstable in any of them is bounded in all
Errors = list[Tensor | None]  # rounding error of each operation's output; None: it is exact
Step = Callable[[int, int], None]  # is handed the numbers of samples finished and proven
MAX_COEFFICIENTS = 2**23  # numbers in the largest tensor of coefficients


def interval_bounds(
    nodes: list[Node], inputs: Region, errors: Errors | None = None
) -> list[Bounds]:
    """Return the bounds of each activation, by interval arithmetic.

    Arguments:
        errors: to be filled with the rounding error of each operation in float32; the bounds then
            hold for the numbers that the model computes. None: in exact arithmetic.

    In an L2 ball, the first linear layer W·D·x of scaled inputs moves by eps·‖row of W·D‖₂ at most.

    Source: Gowal et al. 2018, eq. 6; the dual norm at the first layer as in their section 3.
    """
    bounds = [Bounds(inputs.low, inputs.high)]
    # Value and D of each node up to which the network only scales and reshapes the input.
    scaled = {0: (inputs.x, torch.ones_like(inputs.x[:1]), torch.zeros_like(inputs.x))}
    if errors is not None:
        errors[:] = [None]
    for i, node in enumerate(nodes[1:], 1):
        op = node.op
        assert op is not None
        parents = [bounds[j] for j in node.inputs]
        output, error = op.interval(*parents), None if errors is None else op.rounding(*parents)
        before = scaled.get(node.inputs[0]) if inputs.p == 2 else None
        if before is not None and isinstance(op, ScaleOp):
            wrong = op.scale.abs() * before[2] + (0 if error is None else error)
            scaled[i] = (op.apply(before[0]), op.scale.abs() * before[1], wrong)
        elif before is not None and isinstance(op, ReshapeOp):
            scaled[i] = (op.apply(before[0]), op.apply(before[1]), op.apply(before[2]))
        elif before is not None and isinstance(op, DenseOp | ConvOp):
            centre = op.apply(before[0])
            radius = inputs.eps * op.apply_abs(before[1] ** 2, 2).sqrt()
            if errors is not None:
                radius = radius + op.apply_abs(before[2], 1)
            output = intersection(output, Bounds(centre - radius, centre + radius))
        bounds.append(widened(output, error))
        if errors is not None:
            errors.append(error)
    return bounds


def widened(bounds: Bounds, error: Tensor | None) -> Bounds:
    """Return the bounds, each side further out by an error."""
    return bounds if error is None else Bounds(bounds.low - error, bounds.high + error)


def intersection(a: Bounds, b: Bounds) -> Bounds:
    """Return the values within both bounds."""
    low, high = torch.maximum(a.low, b.low), torch.minimum(a.high, b.high)
    # Rounding may let the two sides cross: then they change places.
    return Bounds(torch.minimum(low, high), torch.maximum(low, high))


def linear_lower_bound(
    nodes: list[Node],
    bounds: list[Bounds],
    inputs: Region,
    a: Tensor,
    *,
    relax: bool,
    errors: Errors | None = None,
) -> Tensor:
    """Return a lower bound `(b, m)` of Σ a·h over the region, h the last node, `a (b, m, *s)`.

    Arguments:
        a: b may be 1, for the same rows of all samples.
        relax: go back to the input, through linear relaxations of other operations (CROWN). False
            goes back through affine operations only, and takes each other activation at the worst
            end of its bounds: IBP with the last layers elided.
        errors: rounding errors of the operations, which the bound then allows for.

    Source: Zhang et al. 2018, theorem 3.2, on a graph as in Xu et al. 2020.
    """
    coefficients = {len(nodes) - 1: a}
    bound = a.new_zeros(len(inputs.x), a.shape[1])
    for i in reversed(range(len(nodes))):
        if (rows := coefficients.pop(i, None)) is None:
            continue
        op, parents = nodes[i].op, nodes[i].inputs
        if op is None:
            bound = bound + inputs.minimum(rows)
        elif not op.affine and not relax:
            bound = bound + minimum(rows, bounds[i])
        else:
            if errors is not None and (error := errors[i]) is not None:
                bound = bound - product(rows.abs(), error.expand(len(bound), *rows.shape[2:]))
            parts, constant = op.backward(rows, *(bounds[j] for j in parents))
            bound = bound + constant
            for j, part in zip(parents, parts, strict=True):
                coefficients[j] = coefficients[j] + part if j in coefficients else part
    return bound


def crown_bounds(
    nodes: list[Node], bounds: list[Bounds], inputs: Region, errors: Errors | None = None
) -> list[Bounds]:
    """Return tighter bounds, by CROWN at the input of every non-linear operation.

    It costs a backward pass per neuron; at a ReLU, only for inputs that can change sign. Rounding
    errors get smaller in `errors` as the bounds do.
    """
    bounds = list(bounds)
    for i, node in enumerate(nodes[1:], 1):
        assert node.op is not None
        j = node.inputs[0]
        # CROWN adds nothing where only scaling and reshaping come before.
        mixes = any(not isinstance(n.op, ScaleOp | ReshapeOp) for n in nodes[1:j])
        if not node.op.affine and mixes:
            relu = isinstance(node.op, ReluOp)
            bounds[j] = _crown_at_last(nodes[: j + 1], bounds, inputs, errors, relu)
        parents = [bounds[j] for j in node.inputs]
        error = None
        if errors is not None:
            error = errors[i] = node.op.rounding(*parents)
        interval = widened(node.op.interval(*parents), error)
        bounds[i] = intersection(bounds[i], interval)
    return bounds


def _crown_at_last(
    nodes: list[Node], bounds: list[Bounds], inputs: Region, errors: Errors | None, relu: bool
) -> Bounds:
    old, shape = bounds[len(nodes) - 1], nodes[-1].shape
    low, high = (side.flatten(1).clone() for side in old)
    unstable = ((low < 0) & (high > 0)).any(0) if relu else (high > low).any(0)
    least = low.new_zeros(len(low), 1)
    for rows in unstable.nonzero().flatten().split(_max_rows(nodes, len(low))):
        a = low.new_zeros(len(rows), low.shape[1]).scatter(1, rows[:, None], 1.0)
        a = a.reshape(1, len(rows), *shape)
        # Affine operations at the end are the same for all samples, and for both sides.
        last, constant, error = len(nodes) - 1, least, least
        while (op := nodes[last].op) is not None and op.affine and len(nodes[last].inputs) == 1:
            if errors is not None and (wrong := errors[last]) is not None:
                error = error + product(a.abs(), wrong.expand(len(low), *a.shape[2:]))
            (j,) = nodes[last].inputs
            (a,), more = op.backward(a, bounds[j])
            last, constant = j, constant + more
        rest = {"relax": True, "errors": errors}
        front, side = nodes[: last + 1], (bounds, inputs)
        low[:, rows] = linear_lower_bound(front, *side, a, **rest) + constant - error
        high[:, rows] = constant + error - linear_lower_bound(front, *side, -a, **rest)
    return intersection(old, Bounds(low.reshape(old.low.shape), high.reshape(old.high.shape)))


def _max_rows(nodes: list[Node], samples: int) -> int:
    return max(1, MAX_COEFFICIENTS // (samples * max(math.prod(n.shape) for n in nodes)))


def margin_upper_bounds(
    model: Model, x: Tensor, y: Tensor, *, threat: Threat, method: str = "crown-ibp"
) -> Tensor:
    """Return an upper bound `(b,)` of the margin max_{k≠y} z_k − z_y over the ball, in float64.

    Where it is negative, no point of the ball is adversarial, in exact arithmetic.

    Raises:
        ValueError: for another threat than Linf and L2, or a model that bounds can't read.

    >>> from torch import nn
    >>> from sparring.threats import Linf
    >>> model = nn.Linear(2, 2, bias=False)
    >>> model.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> x, y = torch.tensor([[0.8, 0.2]]), torch.tensor([0])
    >>> margin_upper_bounds(model, x, y, threat=Linf(0.1)).round(decimals=3)
    tensor([-0.4000], dtype=torch.float64)
    """
    bounded = _bounds(model, x, y, threat, method, rounding=False)
    return torch.cat([margin for margin, _ in bounded] or [_none(x)])


def certify(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    method: str = "crown-ibp",
    progress: Step | None = None,
) -> Tensor:
    """Return which samples the model provably gets right in the whole ball and box: bool `(b,)`.

    `"ibp"` is fast, and loose for a model that was not trained for it. `"crown-ibp"` costs at
    most a backward pass per class; `"crown"` one per neuron, for small networks. Classes that can
    not change a sample's answer cost none, and memory does not grow with the classes' square.

    Bounds are computed in float64, and hold for a model that rounds to float32 in each operation:
    its errors are bounded layer by layer, from the magnitudes of the activations. The margin must
    be below −1e-6 times the largest logit (or 1) besides. The ball is as large as in judging:
    eps·(1 + 1e-5) + 1e-6·max(1, |low|, |high|); at eps = 0 it is the sample itself, and its
    rounding that of the model.

    Arguments:
        x: `(b, *d)` within the threat's bounds.
        y: labels `(b,)`.
        progress: is called with the numbers of samples finished and proven.

    Raises:
        ValueError: for another threat than Linf and L2, or a model that bounds can't read.
    """
    proven = [torch.zeros(0, dtype=torch.bool, device=x.device)]

    def needed(rows: slice) -> Tensor:
        """Return the gap to every other class that proves a sample; inf where nothing would."""
        with torch.no_grad():
            z = predict.logits(model, x[rows])
        right = predict.predicted_class(z) == y[rows].to(z.device)
        return torch.where(right, SLACK * z.abs().amax(1).clamp_min(1), torch.inf)

    bounded = _bounds(model, x, y, threat, method, rounding=bool(threat.eps), needed=needed)
    for margin, enough in bounded:
        proven.append((margin < -enough.to(margin.device)).to(x.device))
        if progress is not None:
            progress(len(margin), int(proven[-1].sum()))
    return torch.cat(proven)


def _bounds(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    method: str,
    *,
    rounding: bool,
    needed: Callable[[slice], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield upper bounds of the margin and the gap needed, by chunks; half as large ones when
    memory runs out.

    Arguments:
        needed: gives that gap `(b,)` for some rows: a bound only has to be on its right side.
            Default: inf, and every bound is right.
    """
    if method not in METHODS:
        raise ValueError(did_you_mean("method", method, METHODS))
    if len(x) == 0:
        return
    nodes = trace_network(model, x)
    inputs = region(x.cpu() if x.device.type == "mps" else x, threat)  # mps has no float64
    with torch.no_grad():
        _require_same_function(nodes, readable(model, x), x[:CHECKED_SAMPLES], inputs)
        size = _max_rows(nodes, min(nodes[-1].shape[0] - 1, FIRST_CLASSES))
        if method == "crown" and inputs.x.device.type == "cpu":
            size = min(size, CPU_CROWN_SAMPLES)
    start = 0
    while start < len(x):

        def run(size: int, start: int = start) -> tuple[Tensor, Tensor]:
            rows = slice(start, start + size)
            some, labels = inputs.take(rows), y[rows].to(inputs.x.device)
            enough = some.x.new_full((len(labels),), torch.inf)
            enough = enough if needed is None else needed(rows).to(enough)
            options = {"rounding": rounding, "enough": None if needed is None else enough}
            with torch.no_grad():
                return _margins(nodes, some, labels, method, **options), enough

        margin, enough = retry_smaller_batch(run, size)
        size, start = min(size, len(margin)), start + len(margin)
        yield margin if x.device.type == "mps" else margin.to(x.device), enough


def _none(x: Tensor) -> Tensor:
    return torch.zeros(0, dtype=torch.float64, device=x.device if x.device.type != "mps" else "cpu")


def _margins(
    nodes: list[Node],
    inputs: Region,
    y: Tensor,
    method: str,
    *,
    rounding: bool,
    enough: Tensor | None = None,
) -> Tensor:
    """Return IBP's bound of the margin; with CROWN the better of both, class by class.

    Arguments:
        enough: `(b,)`; of a gap to the nearest class only whether it is larger has to be right.
    """
    errors: Errors | None = [] if rounding else None
    bounds = interval_bounds(nodes, inputs, errors)
    logits = logit_rows(nodes, errors)
    cheap = _interval_gaps(logits, bounds, inputs, y, errors)
    least = cheap.amin(1)
    decided = enough is not None and bool(((least > enough) | enough.isinf()).all())
    if method == "ibp" or decided:
        return -least
    if method == "crown":
        bounds = crown_bounds(nodes, bounds, inputs, errors)
        logits = logit_rows(nodes, errors)

    def refine(rows: Tensor, classes: Tensor) -> Tensor:
        some = slice(None) if len(rows) == len(y) else rows
        within = [Bounds(*(side[some] for side in bound)) for bound in bounds]
        wrong = None if errors is None else [_take(error, some, len(y)) for error in errors]
        part = logits._replace(error=_take(logits.error, some, len(y)))
        a, constant = part.differences(y[some], classes)
        front = (part.nodes, within, inputs.take(some))
        return linear_lower_bound(*front, a, relax=True, errors=wrong) + constant

    most = lambda samples: _max_rows(nodes, samples)  # noqa: E731
    return -least_gaps(cheap, refine, most=most, enough=enough)


def _interval_gaps(
    logits: LogitRows, bounds: list[Bounds], inputs: Region, y: Tensor, errors: Errors | None
) -> Tensor:
    """Return lower bounds `(b, k)` of the label's logit minus each, by IBP; inf at the label."""
    every = torch.arange(len(logits.constant), device=y.device)
    parts = []
    for classes in every.split(_max_rows(elided(logits.nodes), len(y))):
        a, constant = logits.differences(y, classes.expand(len(y), -1))
        front = (logits.nodes, bounds, inputs)
        parts.append(linear_lower_bound(*front, a, relax=False, errors=errors) + constant)
    return torch.cat(parts, 1).scatter(1, y[:, None], torch.inf)


def _take(t: Any, rows: slice | Tensor, samples: int) -> Any:
    """Return these samples' rows; all of what is the same for every sample, or None."""
    return t if t is None or len(t) != samples else t[rows]


def _require_same_function(nodes: list[Node], model: Any, x: Tensor, inputs: Region) -> None:
    """Raise unless the traced operations compute the model's logits."""
    point = inputs.take(slice(len(x)))
    point = replace(point, low=point.x, high=point.x, eps=0.0)
    # Intervals around a point run the traced network; hooks and in-place changes are not traced.
    # They are as wide as the model's rounding, which is large where large activations cancel.
    low, high = interval_bounds(nodes, point, [])[-1]
    wanted = predict.logits(model, x).to(low.device).double()
    finite = torch.isfinite(wanted).all(1)
    error = (wanted - torch.minimum(torch.maximum(wanted, low), high))[finite].abs()
    if not (error <= 1e-3 * wanted[finite].abs().amax(1, keepdim=True).clamp_min(1)).all():
        raise ValueError(
            f"the traced network differs from the model (logits {error.max():.3g} apart): it "
            "changes values in place, has hooks or draws random numbers"
        )
