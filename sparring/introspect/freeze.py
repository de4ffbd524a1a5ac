"""Freeze a model for a while, or run it in another precision, layout or form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..batch import Model
from ..component import require
from ..runtime.torch_private import BATCH_NORM
from .cast_weights import cast_weights
from .float32 import Float32Model
from .forward import SafeForward

MODES = ("eval", "train", "keep")
_LAYOUTS: ContextVar[dict[nn.Parameter, Tensor] | None] = ContextVar("layouts", default=None)
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def frozen(model: Model, mode: str = "eval") -> Iterator[SafeForward]:
    """Freeze the weights, put every module in `mode`, and yield the model's `SafeForward`; restore
    each module's own mode, each weight's flag and each buffer on the way out.

    Arguments:
        mode: `"eval"`, `"train"` (batch statistics, running ones untouched) or `"keep"`.

    Raises:
        ValueError: for another mode, or weights made in `torch.inference_mode`.
    """
    require(mode in MODES, "mode", mode, "one of " + ", ".join(MODES))
    if not isinstance(model, nn.Module):
        yield SafeForward(model)
        return
    modes = [(m, m.training) for m in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    if any(p.is_inference() for p, _ in flags):
        raise ValueError(
            "the model's weights were made in torch.inference_mode, so nothing has a gradient "
            "through them: build or load the model outside of it"
        )
    try:
        if mode != "keep":
            model.train(mode == "train")
        for parameter, _ in flags:  # one by one: a ScriptModule has no requires_grad_
            parameter.requires_grad_(False)
        with frozen_buffers(model), frozen_bn(model):
            yield SafeForward(model)
    finally:
        # Module by module: `model.train()` would overwrite a submodule that is in another mode.
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def frozen_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the buffers that modules in train mode change, as the vectors of spectral norms.

    Running batch-norm statistics are left to `frozen_bn`, which needs no copies.
    """
    saved = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        if module.training and not isinstance(module, BATCH_NORM)
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, content in saved:
            # past the count of writes: a graph made before may need the buffer, as it is again
            buffer.data.copy_(content)
            if getattr(module, name, None) is not buffer:
                setattr(module, name, buffer)


@contextmanager
def frozen_bn(model: nn.Module) -> Iterator[None]:
    """Keep running batch-norm statistics and counters as they are, in any mode."""
    norms: list[Any] = [m for m in model.modules() if isinstance(m, BATCH_NORM)]
    saved = [(m, m.momentum, m.track_running_stats, m.num_batches_tracked) for m in norms]
    try:
        for module, _, _, count in saved:
            # Momentum 0 keeps the running statistics of finite batches, and writes 0·inf of others:
            # so train mode leaves them out, without tracking. Eval mode uses those that are there,
            # but in a forward of another's own, which may take the batch's for want of tracking.
            # The counter, a buffer, counts on in a copy.
            module.momentum = 0.0
            if type(module).forward.__module__.startswith("torch.nn.modules."):
                module.track_running_stats = False
            if count is not None:
                module.num_batches_tracked = count.clone()
        yield
    finally:
        for module, momentum, track, count in saved:
            module.momentum = momentum
            module.track_running_stats = track
            module.num_batches_tracked = count


@contextmanager
def kept_layouts(copies: dict[nn.Parameter, Tensor]) -> Iterator[None]:
    """Let `channels_last` put its copies of weights here, and use those that are here already.

    A recorded CUDA graph knows its weights by their address: with other copies in each call, every
    call would record it again. The weights must not change while the copies are kept.
    """
    token = _LAYOUTS.set(copies)
    try:
        yield
    finally:
        _LAYOUTS.reset(token)


@contextmanager
def channels_last(model: Model, on: bool = True) -> Iterator[None]:
    """Put convolution weights in channels-last layout; restore the tensors themselves on exit.
    Weights in that layout stay as they are."""
    weights = (
        [p for p in model.parameters() if p.ndim == 4]
        if on and isinstance(model, nn.Module)
        else []
    )
    saved = [p.data for p in weights]
    try:
        copies = _LAYOUTS.get()
        copies = {} if copies is None else copies
        for p, data in zip(weights, saved, strict=True):
            if p not in copies:
                copies[p] = data.contiguous(memory_format=torch.channels_last)
            p.data = copies[p]
        yield
    finally:
        for p, data in zip(weights, saved, strict=True):
            p.data = data


class ModelView(nn.Module):
    """Run a model in another precision or memory layout, or compiled; the weights are shared.

    Inputs and outputs stay float32 (or wider): just below 1 the spacing of bfloat16 is 1/256, which
    would leave an 8/255 ball 8 levels. The model cannot change its caller's input: `SafeForward`.

    Arguments:
        amp: None, `"bfloat16"` or `"float16"`: autocast inside the model only.
        channels_last: hand images to the model in that layout.
        compile: run `torch.compile(model)`, which refuses double backward. Batches of fewer rows
            than the largest seen run as they are: each size would compile a program of its own.
        kept_in_eval: modules inside that stay in eval mode when this view is put in train mode.
    """

    _run: Callable[[Tensor], Tensor]

    def __init__(
        self,
        model: Model,
        *,
        amp: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
        kept_in_eval: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        amp = amp or "float32"
        require(amp in PRECISIONS, "amp", amp, "one of " + ", ".join(PRECISIONS))
        self.model = model
        self.dtype = PRECISIONS[amp]
        self.channels_last = channels_last
        run = torch.compile(model) if compile else model
        # Past nn.Module: a compiled model is a module, and would double every key of state_dict.
        object.__setattr__(self, "_run", run)
        self._safe_run = SafeForward(run)
        self._safe_eager = SafeForward(model)
        self._rows = 0  # of the largest batch, where compiled
        self.kept_in_eval = tuple(kept_in_eval)

    def train(self, mode: bool = True) -> Self:
        """Put the model in train or eval mode, but for the modules that stay in eval mode."""
        super().train(mode)
        for module in self.kept_in_eval:
            module.eval()
        return self

    @property
    def compiled(self) -> bool:
        """Return whether a compiled form is run instead of the model itself."""
        return self._run is not self.model

    def cast_once(self) -> AbstractContextManager[None]:
        """Return a context in which frozen weights are cast to this view's precision once, not in
        each pass: see `cast_weights`. They must not change inside.
        """
        if self.dtype is None or self.compiled or not isinstance(self.model, nn.Module):
            return nullcontext()
        return cast_weights(self.model, self.dtype)

    # Any: what is no tensor passes through, for the caller's own sentence about it
    def forward(self, x: Tensor) -> Any:
        if self.compiled and x.ndim:
            self._rows = max(self._rows, len(x))
            if len(x) < self._rows:
                return self.call(self._safe_eager, x)
        return self.call(self._safe_run, x)

    def call(self, run: Callable[[Tensor], Any], x: Tensor) -> Any:
        """Return `run(x)`, computed in this view's precision and layout."""
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.dtype is None:
            return run(x)
        with torch.autocast(x.device.type, self.dtype):
            logits = run(x)
            return logits.float() if isinstance(logits, Tensor) else logits


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside views, averages and DDP wrappers.

    Raises:
        ValueError: for a compiled model, whose submodules do not run one by one.
    """
    while True:
        compiled = isinstance(model, ModelView) and model.compiled
        if compiled or hasattr(model, "_orig_mod"):
            raise ValueError(
                "model is compiled: its submodules are not run one by one; give the model itself, "
                "as ModelView(model) or compile = false"
            )
        if isinstance(model, ModelView | Float32Model) and isinstance(model.model, nn.Module):
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
    """Set the parameters' `.grad` aside, and put it back on the way out."""
    saved = [(p, p.grad) for p in model.parameters()] if isinstance(model, nn.Module) else []
    try:
        for p, _ in saved:
            p.grad = None
        yield
    finally:
        for p, grad in saved:
            p.grad = grad
