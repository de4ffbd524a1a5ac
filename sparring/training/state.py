"""Where a training stands, what an epoch gave, and where randomness comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..batch import Loss
from ..data import Source
from ..runtime import distributed

FREE = {"out", "device", "evaluation", "progress", "resume", "save_every", "tensorboard"}


class NonFiniteLoss(ValueError, ArithmeticError):
    """The loss became infinite or NaN; the last good checkpoint stays."""


@dataclass
class Epoch:
    """What one epoch gave: a line of `log.jsonl`.

    Arguments:
        number: from 1.
        step: optimizer steps since the beginning.
        loss, terms: means over the epoch's samples.
        clean, robust, ema_clean, ema_robust: accuracies on the validation split, None where not
            measured.
        lr, eps: at the epoch's last step.
        seconds: of training since the beginning, validation left out; val_seconds: of validation.
        best: these weights, or their average, are the best so far.
    """

    number: int
    step: int
    loss: float
    terms: dict[str, float]
    clean: float | None
    robust: float | None
    ema_clean: float | None
    ema_robust: float | None
    lr: float
    eps: float | None
    seconds: float
    val_seconds: float
    samples_per_second: float
    best: bool

    def row(self) -> dict[str, Any]:
        """The line, as plain values; the log keeps the keys `epoch` and `parts`."""
        keys = {"number": "epoch", "terms": "parts"}
        return {keys.get(key, key): value for key, value in asdict(self).items()}


@dataclass
class Position:
    """Complete epochs, batches into the next one, and what has been added up there."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    val_seconds: float = 0.0
    samples: int = 0
    epoch_seconds: float = 0.0
    loss: float = 0.0
    parts: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Samples a second in this epoch."""
        return self.samples / max(self.epoch_seconds, 1e-9)

    def progress(self, epochs: int, batches: int) -> float:
        """The share of the training that is done.

        >>> Position(epoch=1, batch=5).progress(4, 10)
        0.375
        """
        return (self.epoch * batches + self.batch) / (epochs * batches)

    def add(self, total: float, loss: Loss, n: int) -> None:
        """One step's loss over n samples."""
        self.step += 1
        self.samples += n
        self.loss += total * n
        for key, value in loss.terms.items():
            share = torch.as_tensor(value).detach().double() * n
            self.parts[key] = self.parts[key] + share if key in self.parts else share

    def settle(self) -> None:
        """Make every process's sums those of all."""
        self.parts = {key: distributed.mean(value) for key, value in self.parts.items()}

    def means(self) -> tuple[float, dict[str, float]]:
        """Loss and parts, averaged over the samples so far."""
        n = max(self.samples, 1)
        return self.loss / n, {key: float(value) / n for key, value in self.parts.items()}

    def turn(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.batch, self.samples, self.epoch_seconds = self.epoch + 1, 0, 0, 0.0
        self.loss, self.parts = 0.0, {}


def settings(
    recipe: Mapping[str, Any] | None, given: Mapping[str, Any], source: Source
) -> dict[str, Any]:
    """What moves a training's numbers, flat: the recipe, or without one the trainer's arguments."""
    found = moving(given if recipe is None else recipe) | {"data": source.sha256}
    return json.loads(json.dumps(found, sort_keys=True, default=repr))


def moving(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration by dotted path, without what does not move the numbers.

    >>> moving({"train": {"epochs": 3, "device": "cpu"}})
    {'train.epochs': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key not in FREE:
            path, table = f"{prefix}{key}", isinstance(value, Mapping)
            flat |= moving(value, f"{path}.") if table else {path: value}
    return flat


def fingerprint(settings: Mapping[str, Any]) -> str:
    """sha256 of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, where settings depart from earlier ones.

    >>> differences({"epochs": 2}, {"epochs": 3})
    'epochs was 2 and is 3 now'
    """
    keys = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    return "; ".join(f"{key} was {then.get(key)} and is {now.get(key)} now" for key in keys)


def check_finite(total: float, loss: Loss, *, epoch: int, step: int) -> None:
    """Raise `NonFiniteLoss` with the parts and what to try, unless the loss is finite."""
    if total - total == 0:
        return
    parts = {
        k: torch.as_tensor(v).detach().float().mean()
        for k, v in {**loss.terms, "penalty": loss.penalty}.items()
    }
    said = ", ".join(f"{key} {float(value):.4g}" for key, value in parts.items())
    bad = int((~torch.isfinite(loss.per_sample)).sum())
    raise NonFiniteLoss(
        f"the loss is {total} at step {step}, in epoch {epoch} ({said}; of {len(loss.per_sample)} "
        f"samples {bad} have no finite loss): try a lower lr, a warm-up, clip = 1.0 or "
        "amp = 'float32'; the last good checkpoint stays"
    )


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity.

    >>> all_finite({"w": torch.tensor([1.0, float("nan")])})
    False
    """
    return all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point())
