"""Compile a model for a few batch sizes, so that attacks run fixed shapes; on a GPU, CUDA graphs.

The compiler's private names (`torch._dynamo`) are used only here, and only if they exist.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Model
from ..component import require
from . import exact_float32

CPU_ROWS = 64  # with more, passes over a small convolutional net no longer fit a CPU's caches
PROGRAM_LIMIT = 256  # per process: precisions × with and without gradient × sizes, with room


class CompiledModel(nn.Module):
    """Run a model compiled for fixed batch sizes; batches are cut and padded to those sizes.

    A batch is cut into chunks of the largest size. The rest is padded to the smallest size that
    holds it; where it fills less than half of that, it runs through the model itself, as all
    rows do in train mode, where they depend on each other through batch statistics, and on a GPU
    where exact float32 is asked for. Logits and
    input gradients are the model's own up to rounding; there is no second derivative. On a GPU the
    programs are CUDA graphs, one replay per pass.

    Arguments:
        model: inputs `(b, *d)` to logits `(b, k)`; its weights are shared.
        sizes: batch sizes, in any order.

    Raises:
        ValueError: for a model that is not an `nn.Module`, or sizes below 1.
        RuntimeError: at the first pass, if compilation fails, as without a C++ compiler.

    >>> net = nn.Linear(2, 3)
    >>> CompiledModel(net, [8]).chunks(17), CompiledModel(net, [8, 2]).chunks(10)
    ([8, 8], [8, 2])
    """

    _run: Callable[[Tensor], Tensor]

    def __init__(self, model: Model, sizes: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise ValueError(f"a {kind} cannot be compiled: compile = true needs an nn.Module")
        require(sizes and min(sizes) >= 1, "sizes", sizes, "integers ≥ 1")
        self.model, self.sizes = model, sorted(set(sizes))
        self.training = model.training
        self.graphs = next((p.is_cuda for p in model.parameters()), False)
        object.__setattr__(self, "_run", _compiled(model, graphs=self.graphs))

    def chunks(self, rows: int) -> list[int]:
        """Return the sizes that a batch of n rows runs in; rows beyond their sum run uncompiled."""
        largest = self.sizes[-1]
        whole, rest = divmod(rows, largest)
        padded = next(size for size in self.sizes if size >= rest)
        return [largest] * whole + ([padded] if 2 * rest > padded else [])

    def forward(self, x: Tensor) -> Tensor:
        # a CUDA graph keeps the precision that it was recorded in
        if self.training or (self.graphs and exact_float32.is_requested()):
            return self.model(x)
        start, logits = 0, []
        for size in self.chunks(len(x)):
            chunk = x[start : start + size]
            logits.append(self._padded(chunk, size)[: len(chunk)])
            start += size
        if start < len(x) or not logits:
            logits.append(self.model(x[start:]))
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _padded(self, x: Tensor, size: int) -> Tensor:
        """Return the logits of `x (r, *d)`, r ≤ size, padded by copies of its last row."""
        if len(x) < size:
            x = torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])
        if x.ndim == 4 and not x.is_contiguous():
            # One layout: each set of strides would compile a program of its own.
            x = x.contiguous(memory_format=torch.channels_last)
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
            x = _CopyGradient.apply(x)
        out = self._run(x)
        # The next replay of a CUDA graph writes over its outputs.
        return out.clone() if self.graphs else out


def _compiled(model: nn.Module, *, graphs: bool) -> Callable[[Tensor], Tensor]:
    """Return the model as a function that compiles a program for each shape it meets."""
    # The compiler's warnings are dropped: uncompiled passes show those that concern the model.
    errors, raised_limit = _dynamo()

    def call(x: Tensor) -> Tensor:  # its programs count against its own limit, no other model's
        return model(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(call, dynamic=False, mode="reduce-overhead" if graphs else None)

    def run(x: Tensor) -> Tensor:
        with raised_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return compiled(x)
            except errors as error:
                raise RuntimeError(
                    f"the model cannot be compiled here ({_first_line(error)}): evaluate with "
                    "compile = false, or see that a C++ compiler is installed"
                ) from error

    return run


def _dynamo() -> tuple[tuple[type[Exception], ...], Callable[[], AbstractContextManager[Any]]]:
    """Return the compiler's errors, and a context that raises its limit of programs.

    Without the private names, errors stay the compiler's own, and past PyTorch's limit (8 shapes)
    models run uncompiled: slower, with equal results.
    """
    try:  # here, since importing it takes a second
        from torch._dynamo import config
        from torch._dynamo.exc import TorchDynamoException
    except ImportError:
        return (), nullcontext
    if not hasattr(config, "recompile_limit"):
        return (TorchDynamoException,), nullcontext
    return (TorchDynamoException,), lambda: config.patch(recompile_limit=PROGRAM_LIMIT)


class _CopyGradient(torch.autograd.Function):
    """The identity with a copied gradient: a CUDA graph's next replay overwrites its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clone()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def compile_sizes(batch_size: int, device: torch.device) -> list[int]:
    """Return the batch sizes to compile for: on a CPU one size that fits its caches.

    On a GPU the batch, its half, quarter and eighth, since attacks run ever fewer samples.

    >>> compile_sizes(250, torch.device("cpu")), compile_sizes(250, torch.device("cuda"))
    ([64], [250, 125, 63, 32])
    """
    if device.type != "cuda":
        return [min(batch_size, CPU_ROWS)]
    return sorted({-(-batch_size // part) for part in (1, 2, 4, 8)}, reverse=True)
