"""A model compiled for a few batch sizes: attacks on it then run fixed shapes, on a GPU as CUDA
graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Model
from ..component import require

PIECE = 64  # rows that the compiled passes over a small convolutional net fit the caches with
LIMIT = 256  # programs that one process may hold: precisions × with and without gradient × sizes


class Static(nn.Module):
    """A model whose batches are cut and padded to the sizes it was compiled for.

    A batch gives as many of the largest size as it holds; the rest is padded to the least size
    that holds it, or, where that would be filled by less than half, runs as it is. A pass has
    logits and input gradients as the model's own, up to rounding. On a GPU the programs are CUDA
    graphs, one replay a pass; what comes out is copied, since the next replay writes over it.

    In train mode, where rows depend on each other through batch statistics, the model itself runs.
    There is no second derivative.

    Arguments:
        model: inputs `(b, *d)` to logits `(b, k)`; its weights are shared.
        sizes: batch sizes, in any order.

    Raises:
        ValueError: for a model that is no `nn.Module`, or no sizes ≥ 1.
        RuntimeError: at the first pass, where nothing can be compiled: no C++ compiler, say.

    >>> net = nn.Linear(2, 3)
    >>> Static(net, [8]).pieces(17), Static(net, [8, 2]).pieces(10)
    ([8, 8], [8, 2])
    """

    _run: Callable[[Tensor], Tensor]

    def __init__(self, model: Model, sizes: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"a {type(model).__name__} cannot be compiled: compile = true needs an nn.Module"
            )
        require(sizes and min(sizes) >= 1, "sizes", sizes, "integers ≥ 1")
        self.model, self.sizes = model, sorted(set(sizes))
        self.training = model.training
        self.graphs = next((p.is_cuda for p in model.parameters()), False)
        object.__setattr__(self, "_run", _compiled(model, graphs=self.graphs))

    def pieces(self, rows: int) -> list[int]:
        """The sizes that a batch of so many rows runs in; rows beyond their sum run as they are."""
        most = self.sizes[-1]
        whole, rest = divmod(rows, most)
        fits = next(size for size in self.sizes if size >= rest)
        return [most] * whole + ([fits] if 2 * rest > fits else [])

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.model(x)
        at, parts = 0, []
        for size in self.pieces(len(x)):
            part = x[at : at + size]
            parts.append(self._static(part, size)[: len(part)])
            at += size
        if at < len(x) or not parts:
            parts.append(self.model(x[at:]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _static(self, x: Tensor, size: int) -> Tensor:
        """The compiled pass over `x (r, *d)`, r ≤ size, its last row repeated."""
        if len(x) < size:
            x = torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])
        if x.ndim == 4 and not x.is_contiguous():
            x = x.contiguous(memory_format=torch.channels_last)
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
            x = _Copied.apply(x)
        out = self._run(x)
        return out.clone() if self.graphs else out


def _compiled(model: nn.Module, *, graphs: bool) -> Callable[[Tensor], Tensor]:
    """The model's program for each shape it meets; without warnings, which clean passes show."""
    from torch._dynamo import config  # here, since it takes a second
    from torch._dynamo.exc import TorchDynamoException

    def call(x: Tensor) -> Tensor:  # its programs count against its own limit, no other model's
        return model(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(call, dynamic=False, mode="reduce-overhead" if graphs else None)

    def run(x: Tensor) -> Tensor:
        with config.patch(recompile_limit=LIMIT), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return compiled(x)
            except TorchDynamoException as error:
                raise RuntimeError(
                    f"the model cannot be compiled here ({_first(error)}): evaluate with "
                    "compile = false, or see that a C++ compiler is installed"
                ) from error

    return run


class _Copied(torch.autograd.Function):
    """The identity, whose gradient is a copy: a graph's own is overwritten by its next replay."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clone()


def _first(error: Exception) -> str:
    """The first line of a compiler's error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def sizes(batch: int, place: torch.device) -> list[int]:
    """What to compile for: on a GPU the batch and its halves, on a CPU what fits its caches.

    >>> sizes(250, torch.device("cpu")), sizes(250, torch.device("cuda"))
    ([64], [250, 125, 63, 32])
    """
    if place.type != "cuda":
        return [min(batch, PIECE)]
    return sorted({-(-batch // part) for part in (1, 2, 4, 8)}, reverse=True)
