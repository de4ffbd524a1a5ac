"""The only file that knows about ranks: gather, mean, draw and a common generator, each the plain
thing on one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as td
from torch import Tensor

_ALONE = ContextVar("alone", default=False)


def world() -> int:
    """How many processes share the batch."""
    together = td.is_available() and td.is_initialized() and not _ALONE.get()
    return td.get_world_size() if together else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return td.get_rank() if world() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works for itself, on a batch that the others do not share.

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
    """Concatenate over ranks. Every rank computes the same function of the result, so its gradient
    is the same everywhere; the factor `world` undoes the averaging that DDP does afterwards."""

    @staticmethod
    def forward(ctx, u: Tensor) -> Tensor:  # type: ignore[override]
        ctx.rows = len(u)
        parts = [torch.empty_like(u) for _ in range(world())]
        td.all_gather(parts, u.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        start = rank() * ctx.rows
        return grad[start : start + ctx.rows] * world()


def gather(u: Tensor) -> Tensor:
    """All ranks' rows `(w·b, ...)` in rank order, with gradient; needs the same b on every rank.

    >>> gather(torch.ones(2))
    tensor([1., 1.])
    """
    return _Gather.apply(u) if world() > 1 else u


def mean(t: Tensor) -> Tensor:
    """Average of `t` over ranks, without gradient.

    >>> mean(torch.tensor(3.0))
    tensor(3.)
    """
    if world() == 1:
        return t
    t = t.detach().clone()
    td.all_reduce(t)
    return t / world()


def share(mine: dict[Any, Any]) -> dict[Any, Any]:
    """The entries of all ranks together; keys are each on one rank only.

    >>> share({"a": 1})
    {'a': 1}
    """
    if world() == 1:
        return mine
    parts: list[dict[Any, Any] | None] = [None] * world()
    td.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in (part or {}).items()}


def draw(kind: str, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Random numbers of the shape, dtype and device of `like`, drawn so that ranks agree with one
    process.

    Every rank draws the joint batch `(w·b, ...)` from the same generator and keeps its own rows.

    Arguments:
        kind: `"uniform"` on [0, 1), `"normal"`, or `"exponential"` with rate 1.
        generator: on the device of `like`; the global one when omitted.
    """
    full = torch.empty((world() * len(like), *like.shape[1:]), dtype=like.dtype, device=like.device)
    match kind:
        case "uniform":
            full.uniform_(generator=generator)
        case "normal":
            full.normal_(generator=generator)
        case "exponential":
            full.exponential_(generator=generator)
        case _:
            raise ValueError(
                f"kind = {kind!r} is not allowed: kind must be uniform, normal or exponential"
            )
    start = rank() * len(like)
    return full[start : start + len(like)]


def generator(device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that stands alike on every process: seeded by the next number of the first one's
    global generator.

    >>> torch.rand(2, generator=generator()).shape
    torch.Size([2])
    """
    seed = torch.randint(2**62, (1,))
    if world() > 1:
        seed = gather(seed.to(device))[:1]
    return torch.Generator(device).manual_seed(int(seed))
