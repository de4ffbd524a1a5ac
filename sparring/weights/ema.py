"""Exponential moving average of the weights, kept beside the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..batch import Batch
from ..component import Component, require


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
        self.averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)
        self.averaged.requires_grad_(False)
        return self

    @property
    def module(self) -> nn.Module:
        """Return the averaged model."""
        if self.averaged is None:
            raise ValueError("EMA has no model yet: call attach(model) first")
        return self.averaged.module

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch | None = None) -> None:
        """Average the model's present weights in; call it after the optimizer's step."""
        assert self.averaged is not None, "call attach(model) first"
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
