"""Columns of bits that move together: of a group, as the one-hot columns of a word, at most one is
present, and another may take its place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Groups = Sequence[Sequence[int]]


def check_groups(groups: Groups | None) -> None:
    """Raise `ValueError` unless these are lists of two or more columns, each in one list only."""
    group_of: dict[int, int] = {}
    for k, columns in enumerate(groups or ()):
        good = len(columns) > 1 and all(type(j) is int and j >= 0 for j in columns)
        if not good:
            shown = f"{list(columns)[:8]}"
            raise ValueError(
                f"groups.{k} = {shown} is not allowed: it must be two or more column numbers ≥ 0"
            )
        for j in columns:
            if j in group_of:
                other = "twice" if group_of[j] == k else f"and groups.{group_of[j]} has it too"
                raise ValueError(f"groups.{k} has column {j} {other}: groups must not overlap")
            group_of[j] = k


def group_numbers(groups: Groups | None, d: int, device: torch.device | None = None) -> Tensor:
    """Return the group of each of d columns `(d,)`, −1 for a column that moves alone.

    Raises:
        ValueError: for a column that is not there.

    >>> group_numbers([[1, 2]], 4)
    tensor([-1,  0,  0, -1])
    """
    number = torch.full((d,), -1)
    for k, columns in enumerate(groups or ()):
        if max(columns) >= d:
            raise ValueError(f"groups names column {max(columns)} and x has {d} features")
        number[list(columns)] = k
    return number.to(device)


def total(value: Tensor, number: Tensor) -> Tensor:
    """Return the sums of `value (b, d)` over each group `(b, g)`."""
    count = int(number.max()) + 1 if len(number) else 0
    inside = number >= 0
    out = value.new_zeros(len(value), max(count, 0))
    return out.index_add(1, number[inside], value[:, inside])


def spread(value: Tensor, number: Tensor, alone: float | bool) -> Tensor:
    """Return each column's value of its group `(b, d)`; `alone` for a column without a group."""
    wide = value[:, number.clamp_min(0)] if value.shape[1] else value.new_zeros(len(value), 1)
    return torch.where(number >= 0, wide, torch.as_tensor(alone, dtype=value.dtype))


def distance(moved: Tensor, number: Tensor) -> Tensor:
    """Return Σ|m_j| over columns alone plus Σ max(Σ m₊, Σ m₋) over groups, of `moved (b, d)`.

    >>> distance(torch.tensor([[1.0, 1.0, -1.0, 0.0]]), torch.tensor([-1, 0, 0, -1]))
    tensor([2.])
    """
    alone = moved[:, number < 0].abs().sum(1)
    up, down = total(moved.clamp_min(0), number), total(-moved.clamp_max(0), number)
    return alone + torch.maximum(up, down).sum(1)


def first_highest(value: Tensor, number: Tensor) -> Tensor:
    """Return the mask `(b, d)` of the first highest column of each group; none where that is −inf.

    >>> first_highest(torch.tensor([[9.0, 1.0, 3.0, 3.0]]), torch.tensor([-1, 0, 0, 0]))
    tensor([[False, False,  True, False]])
    """
    count, inside = int(number.max()) + 1 if len(number) else 0, number >= 0
    if count < 1 or not len(value):
        return torch.zeros_like(value, dtype=torch.bool)
    index = number[inside].expand(len(value), -1)
    top = value.new_full((len(value), count), -torch.inf)
    top = top.scatter_reduce(1, index, value[:, inside], "amax")
    ties = (value == spread(top, number, torch.inf)) & (value > -torch.inf) & inside
    column = torch.arange(len(number), device=value.device).expand_as(value)
    last = torch.where(ties, column, len(number))
    first = torch.full((len(value), count), len(number), device=value.device)
    first = first.scatter_reduce(1, index, last[:, inside], "amin")
    return ties & (column == spread(first, number, -1))
