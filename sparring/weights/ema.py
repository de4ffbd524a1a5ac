"""Exponential moving average of the weights, kept beside the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..batch import Batch
from ..component import Component, require

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

    Source: Izmailov et al. 2018 (averaging); `torch.optim.swa_utils.AveragedModel` does the work.

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

    def attach(self, model: nn.Module) -> EMA:
        """Start from a copy of the model's weights; return itself."""
        with _without_graphs(model):
            self.averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)
        self.averaged.requires_grad_(False)
        return self

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
        self.averaged.update_parameters(model)

    def _average(
        self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int
    ) -> None:
        decay = (
            min(self.decay, (1 + float(count)) / (10 + float(count))) if self.warmup else self.decay
        )
        for a, c in zip(averaged, current, strict=True):
            # counters, as of batch norm, are integers: they are copied
            a.lerp_(c, 1 - decay) if a.is_floating_point() else a.copy_(c)
