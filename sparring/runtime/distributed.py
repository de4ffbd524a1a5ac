"""Compute across processes: ranks, gather, mean and joint random draws.

The rest of the library does not know about ranks. On one process each function is the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as td
from torch import Tensor

from ..component import require

_ALONE = ContextVar("alone", default=False)


def world() -> int:
    """Return the number of processes that share the batch."""
    joined = td.is_available() and td.is_initialized() and not _ALONE.get()
    return td.get_world_size() if joined else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return td.get_rank() if world() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """Treat this process as the only one inside the context.

    >>> with alone():
    ...     world()
    1
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


class _Gather(torch.autograd.Function):
    """Concatenate over ranks; all compute the same of it, so each knows its whole gradient."""

    @staticmethod
    def forward(ctx, u: Tensor) -> Tensor:  # type: ignore[override]
        ctx.rows = len(u)
        parts = [torch.empty_like(u) for _ in range(world())]
        td.all_gather(parts, u.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        start = rank() * ctx.rows
        # DDP averages gradients over the ranks afterwards, where the joint batch needs their sum.
        return grad[start : start + ctx.rows] * world()


def gather(u: Tensor) -> Tensor:
    """Return all ranks' rows `(w·b, ...)` in rank order, with gradient; b must be equal on all.

    >>> gather(torch.ones(2))
    tensor([1., 1.])
    """
    return _Gather.apply(u) if world() > 1 else u


def mean(t: Tensor) -> Tensor:
    """Return the average of `t` over ranks, without gradient.

    >>> mean(torch.tensor(3.0))
    tensor(3.)
    """
    if world() == 1:
        return t
    t = t.detach().clone()
    td.all_reduce(t)
    return t / world()


def of_first(value: float, device: torch.device | str = "cpu") -> float:
    """Return the number that the first rank has, on every rank.

    Arguments:
        device: of the message, one that the process group can send from.

    >>> of_first(3.0)
    3.0
    """
    if world() == 1:
        return value
    t = torch.tensor(value, dtype=torch.float64, device=device)
    td.broadcast(t, 0)
    return float(t)


def gather_dict(local: dict[Any, Any]) -> dict[Any, Any]:
    """Return the entries of all ranks' dicts; each key is on one rank only.

    >>> gather_dict({"a": 1})
    {'a': 1}
    """
    if world() == 1:
        return local
    parts: list[dict[Any, Any] | None] = [None] * world()
    td.all_gather_object(parts, local)
    return {key: value for part in parts for key, value in (part or {}).items()}


def draw(kind: str, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw random numbers of the shape, dtype and device of `like`, equal on any number of ranks.

    Arguments:
        kind: `"uniform"` on [0, 1), `"normal"`, or `"exponential"` with rate 1.
        generator: on the device of `like`, in one state on all ranks; default: the global one.
    """
    known = kind in ("uniform", "normal", "exponential")
    require(known, "kind", kind, "uniform, normal or exponential")
    # Every rank draws the joint batch and keeps its rows: the draws, and the state afterwards, are
    # those of one process.
    full = torch.empty((world() * len(like), *like.shape[1:]), dtype=like.dtype, device=like.device)
    getattr(full, f"{kind}_")(generator=generator)
    start = rank() * len(like)
    return full[start : start + len(like)]


def generator(device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator in the same state on every rank, seeded from the first rank's global one.

    >>> torch.rand(2, generator=generator()).shape
    torch.Size([2])
    """
    seed = torch.randint(2**62, (1,))
    if world() > 1:
        seed = gather(seed.to(device))[:1]
    return torch.Generator(device).manual_seed(int(seed))
