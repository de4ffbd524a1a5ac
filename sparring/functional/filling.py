"""Ways to fill the room of coordinates until a plane is reached: see `step_to_hyperplane`."""

from __future__ import annotations

import torch
from torch import Tensor

GPU_ROUNDS = 12  # of a Newton method on a GPU: to stop early, the host would wait in each


def fill_evenly(size: Tensor, rate: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Return u = min(s·rate, room) with Σ size·u = need, or all the room.

    Σ size·u grows in s in ever flatter straight pieces: Newton's method from s = 0 never overshoots
    and ends, exactly, after at most d pieces; some six in practice. A row that takes more than 12
    on a GPU ends before the plane.
    """
    tiny, most = torch.finfo(size.dtype).tiny, torch.finfo(size.dtype).max
    speed, full, end = size * rate, size * room, room / rate
    s = (need / speed.sum(-1, keepdim=True).clamp_min(tiny)).clamp_max(most)
    # a fixed count on a GPU, as in `geometry.project_l2`
    for _ in range(min(GPU_ROUNDS, size.shape[-1]) if size.is_cuda else size.shape[-1]):
        free = (end > s).to(size.dtype)
        rest = need - ((1 - free) * full).sum(-1, keepdim=True)
        more = rest / (free * speed).sum(-1, keepdim=True)
        grows = (more > s) & (more < torch.inf)
        if not size.is_cuda and not grows.any():
            break
        s = torch.where(grows, more, s)
    return torch.minimum(s * rate, room)


def fill_largest_first(size: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Return u = room for the largest sizes, until Σ size·u = need."""
    size, order = size.sort(-1, descending=True)
    order = order.expand_as(room)
    room = room.gather(-1, order)
    done = (size * room).cumsum(-1) - size * room
    u = ((need - done) / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_min(0)
    return torch.zeros_like(room).scatter(-1, order, torch.minimum(u, room))
