"""When a training writes its checkpoint and its best weights, so that the two always fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..runtime import distributed
from . import checkpoint, parallel
from .state import Position
from .validate import Score


class Saver:
    """Write `last.pt` and `best.safetensors`, by the first process while the others wait.

    With `seconds`, best weights are kept in memory until the next checkpoint. Those of an epoch
    that no checkpoint knows would be others than the resumed run's, wherever it does not repeat
    its numbers bit for bit.

    Arguments:
        folder: of the run.
        settings: of the run, kept in its checkpoints.
        seconds: between two checkpoints at the end of an epoch; None: one per epoch.
        device: of the messages between processes.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        seconds: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder, self.settings = folder, settings
        self.seconds, self.device = seconds, device
        self.behind = False  # an epoch has ended since the last checkpoint
        self._written: float | None = None  # when; None before the first
        self._best: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def resumed(self) -> None:
        """Note that the folder has a checkpoint."""
        self._written = time.monotonic()

    def choose(
        self, position: Position, candidates: Mapping[str, tuple[Score | None, nn.Module | None]]
    ) -> bool:
        """Keep the best of the candidates, if it is the best so far; return whether it is.

        Robust accuracy selects, not clean accuracy or the loss: it falls again after the learning
        rate has dropped while clean accuracy still rises (Rice et al. 2020, robust overfitting).

        Arguments:
            candidates: `"weights"` and `"ema"`, each with its score (None: not measured) and model.
        """
        which = max(candidates, key=lambda name: (candidates[name][0] or Score(-1.0, -1.0)).rank)
        candidate, model = candidates[which]
        best = position.best
        if candidate is None or model is None or (best and candidate.rank <= tuple(best["score"])):
            return False
        about = {"epoch": position.epoch + 1, "which": which, **candidate.accuracies()}
        position.best = {**about, "score": list(candidate.rank)}
        about |= {"at_chance": True} if candidate.at_chance else {}
        if parallel.is_main():
            self.keep_best(model.state_dict(), **about)
        return True

    def keep_best(self, weights: Mapping[str, Tensor], **about: Any) -> None:
        """Write the best weights so far, or keep a copy until the next checkpoint."""
        if self.seconds is None:
            checkpoint.save_best(self.folder, weights, **about)
        else:
            self._best = {k: v.detach().clone() for k, v in weights.items()}, about

    def is_due(self) -> bool:
        """Return whether the end of an epoch writes a checkpoint; all processes agree."""
        if self.seconds is None or self._written is None:
            return True
        since = distributed.of_first(time.monotonic() - self._written, self.device)
        return since >= self.seconds

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Write the best weights that are kept, then the checkpoint of what `state` returns."""
        if parallel.is_main():
            if self._best is not None:
                weights, about = self._best
                checkpoint.save_best(self.folder, weights, **about)
                self._best = None
            checkpoint.save_last(self.folder, state(), self.settings)
        parallel.barrier()
        self._written, self.behind = time.monotonic(), False
