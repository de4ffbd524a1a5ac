"""Look inside a model, or hold it still, without changing it.

Names are dotted names of submodules, as `model.named_modules()` gives them, of the bare model:
a `ModelView`, an average (`AveragedModel`) or a DDP wrapper around it is looked through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Model
from ..component import require

MODES = ("eval", "train", "keep")


PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _batchnorms(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def frozen(model: nn.Module | Callable[[Tensor], Tensor], mode: str = "eval") -> Iterator[None]:
    """Freeze the weights and put every module in `mode`; restore each module's own mode and flag on
    the way out.

    Arguments:
        mode: `"eval"`, `"train"` (batch statistics, running ones untouched) or `"keep"`.
    """
    require(mode in MODES, "mode", mode, "one of " + ", ".join(MODES))
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(m, m.training) for m in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        if mode != "keep":
            model.train(mode == "train")
        model.requires_grad_(False)
        with frozen_bn(model):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def frozen_bn(model: nn.Module) -> Iterator[None]:
    """Running batch-norm statistics and counters stay as they are, whatever the mode."""
    saved = [(m, m.momentum, m.num_batches_tracked) for m in _batchnorms(model)]
    try:
        for module, _, count in saved:
            module.momentum = 0.0
            if count is not None:
                module.num_batches_tracked = count.clone()
        yield
    finally:
        for module, momentum, count in saved:
            module.momentum = momentum
            module.num_batches_tracked = count


@contextmanager
def channels_last(model: nn.Module | Callable[[Tensor], Tensor], on: bool = True) -> Iterator[None]:
    """Convolution weights stand in channels-last layout inside; values and the tensors themselves
    come back after."""
    weights = (
        [p for p in model.parameters() if p.ndim == 4]
        if on and isinstance(model, nn.Module)
        else []
    )
    saved = [p.data for p in weights]
    try:
        for p in weights:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for p, data in zip(weights, saved, strict=True):
            p.data = data


class ModelView(nn.Module):
    """A way of running a model: precision inside, memory layout, compiled or not. Shares its
    weights.

    Inputs and outputs stay float32 (or wider): bf16 spacing just below 1 is 1/256, an 8/255 ball
    would have 8 levels.

    Arguments:
        amp: None, `"bfloat16"` or `"float16"`: autocast inside the model only.
        channels_last: hand images to the model in that layout.
        compile: run `torch.compile(model)`; it refuses double backward.
    """

    _run: Callable[[Tensor], Tensor]

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
        *,
        amp: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        amp = amp or "float32"
        require(amp in PRECISIONS, "amp", amp, "one of " + ", ".join(PRECISIONS))
        self.model = model
        self.dtype = PRECISIONS[amp]
        self.channels_last = channels_last
        run = torch.compile(model) if compile else model
        object.__setattr__(self, "_run", run)

    @property
    def compiled(self) -> bool:
        """Whether a compiled form is run, not the model itself."""
        return self._run is not self.model

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(self._run, x)

    def inside(self, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`run(x)` in this view's precision and layout."""
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.dtype is None:
            return run(x)
        with torch.autocast(x.device.type, self.dtype):
            return run(x).float()


def bare(model: nn.Module) -> nn.Module:
    """The network inside views, averages and DDP wrappers.

    Raises:
        ValueError: for a compiled model: its submodules are not run one by one, so that nothing can
            be seen or replaced there.
    """
    while True:
        compiled = isinstance(model, ModelView) and model.compiled
        if compiled or hasattr(model, "_orig_mod"):
            raise ValueError(
                "model is compiled: its submodules are not run one by one; give the model itself, "
                "as ModelView(model) or compile = false"
            )
        if isinstance(model, ModelView) and isinstance(model.model, nn.Module):
            model = model.model
        elif isinstance(
            model,
            nn.parallel.DistributedDataParallel
            | nn.DataParallel
            | torch.optim.swa_utils.AveragedModel,
        ):
            model = model.module
        else:
            return model


@contextmanager
def preserve_grads(model: Model) -> Iterator[None]:
    """The parameters' `.grad` is set aside, and put back on the way out."""
    saved = [(p, p.grad) for p in model.parameters()] if isinstance(model, nn.Module) else []
    try:
        for p, _ in saved:
            p.grad = None
        yield
    finally:
        for p, grad in saved:
            p.grad = grad
