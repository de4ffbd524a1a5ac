"""Trace a network into a list of operations that bounds support, or refuse it by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..introspect import graph
from .ops import (
    AddOp,
    ConvOp,
    CurveOp,
    DenseOp,
    JoinOp,
    MaxOp,
    MeanOp,
    Op,
    ReluOp,
    ReshapeOp,
    ScaleOp,
)

OPERATIONS: dict[str, Callable[..., Op]] = {
    "add": AddOp,
    "conv": ConvOp,
    "curve": CurveOp,
    "dense": DenseOp,
    "join": JoinOp,
    "max": MaxOp,
    "mean": MeanOp,
    "relu": ReluOp,
    "reshape": ReshapeOp,
    "scale": ScaleOp,
}


@dataclass
class Node:
    """Hold an operation (None: the input), its inputs' positions, and its output's sample shape."""

    op: Op | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


def trace_network(model: object, x: Tensor) -> list[Node]:
    """Return the network's operations in order, as bounds propagate through them; arguments and
    errors as of `graph.read_network`."""
    return [
        Node(None if n.op is None else OPERATIONS[n.op.kind](*n.op.arguments), n.inputs, n.shape)
        for n in graph.read_network(model, x)
    ]
