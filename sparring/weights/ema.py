"""Exponential moving average of the weights, kept beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..batch import Batch
from ..component import Component, require
from ..runtime.torch_private import lerp_all

NOT_ATTACHED = "EMA has no model yet: call attach(model) first"


@contextmanager
def _without_graphs(model: nn.Module) -> Iterator[None]:
    """Let a model be copied after a pass: detach the tensors that modules computed as attributes.

    `nn.utils.weight_norm` keeps the weight of the last pass so, and PyTorch copies no tensor
    with a graph behind it.
    """
    computed = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    try:
        for module, name, value in computed:
            vars(module)[name] = value.detach()
        yield
    finally:
        for module, name, value in computed:
            vars(module)[name] = value


class EMA(Component):
    """Average weights and buffers over the steps t: θ̄ ← d·θ̄ + (1 − d)·θ.

    Arguments:
        decay: d, in [0, 1).
        warmup: d = min(decay, (1 + t)/(10 + t)), which forgets the first steps faster.

    The first step copies the weights. A step waits for no device: t is counted in Python.

    Source: Izmailov et al. 2018 (averaging). Differs: `torch.optim.swa_utils.AveragedModel` holds
    the average, and the update is our own.

    >>> ema = EMA(decay=0.9).attach(nn.Linear(1, 1))
    >>> ema.module
    Linear(in_features=1, out_features=1, bias=True)
    """

    paper = "izmailov2018swa"

    def __init__(self, *, decay: float = 0.999, warmup: bool = True) -> None:
        super().__init__()
        require(0 <= decay < 1, "decay", decay, "in [0, 1)")
        self.decay, self.warmup = decay, warmup
        self.averaged: AveragedModel | None = None
        self._count: int | None = 0  # None: to be read from a state that was loaded

    def attach(self, model: nn.Module) -> EMA:
        """Start from a copy of the model's weights; return itself."""
        with _without_graphs(model):
            self.averaged = AveragedModel(model, use_buffers=True)
        self.averaged.requires_grad_(False).eval()  # nothing trains the average
        self.averaged.register_load_state_dict_post_hook(self._forget_count)
        self._count = 0
        return self

    def _forget_count(self, *_: object) -> None:
        self._count = None

    @property
    def module(self) -> nn.Module:
        """Return the averaged model."""
        if self.averaged is None:
            raise ValueError(NOT_ATTACHED)
        return self.averaged.module

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch | None = None) -> None:
        """Average the model's present weights in; call it after the optimizer's step."""
        if self.averaged is None:
            raise ValueError(NOT_ATTACHED)
        count = int(self.averaged.n_averaged) if self._count is None else self._count
        average = self.averaged.module
        floats: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        pairs = (chain(m.parameters(), m.buffers()) for m in (average, model))
        for a, c in zip(*pairs, strict=True):
            c = c.detach().to(a.device)
            # counters, as of batch norm, are integers: they are copied
            if count and a.is_floating_point():
                old, new = floats.setdefault(a.dtype, ([], []))
                old.append(a)
                new.append(c)
            else:
                a.copy_(c)
        for old, new in floats.values():
            lerp_all(old, new, 1 - self._decay(count))
        # a mask holds −inf, whose average with itself is NaN: such entries are copied
        for a, c in zip(average.buffers(), model.buffers(), strict=True):
            if count and a.is_floating_point():
                a.copy_(torch.where(a.isfinite(), a, c.detach().to(a.device)))
        self._count = count + 1
        self.averaged.n_averaged.fill_(self._count)

    def _decay(self, count: int) -> float:
        """Return d of a step, after `count` steps."""
        return min(self.decay, (1 + count) / (10 + count)) if self.warmup else self.decay
