"""Where a training is, the summary of an epoch, and the checks that numbers are finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from ..batch import Loss
from ..component import require
from ..runtime import distributed
from ..runtime.training_progress import digits


class NonFiniteLoss(ValueError, ArithmeticError):
    """The loss became infinite or NaN; the last good checkpoint stays."""


@dataclass
class Epoch:
    """Summary of one epoch: a line of `log.jsonl`.

    Arguments:
        number: from 1.
        step: optimizer steps since the beginning.
        loss, terms: means over the epoch's samples.
        clean, robust, ema_clean, ema_robust: accuracies on the validation split, None where not
            measured.
        lr, eps: at the epoch's last step.
        seconds: of training since the beginning, validation left out; val_seconds: of validation.
        best: these weights, or their average, are the best so far.
        at_chance: the weights predict no better than chance; None where not measured.
        progress, epochs: of a training by the clock: where its schedules are, in [0, 1], and how
            many epochs are expected in all; None where not known.
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
    at_chance: bool | None = None
    progress: float | None = None
    epochs: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the line as plain values; the log keeps the keys `epoch` and `parts`.

        It has `at_chance` for an epoch at chance alone, and the numbers of a training by the clock
        for such a training: other lines are as those of older runs.
        """
        keys = {"number": "epoch", "terms": "parts"}
        values = {keys.get(key, key): value for key, value in asdict(self).items()}
        absent = [key for key in ("progress", "epochs") if values[key] is None]
        absent += [] if self.at_chance else ["at_chance"]
        return {key: value for key, value in values.items() if key not in absent}

    def cells(self) -> dict[str, str]:
        """Return the epoch as texts of a table's cells, by column; "" where not measured.

        `averaged` is of the averaged weights: their robust accuracy, else their clean one.
        """
        averaged = self.ema_clean if self.ema_robust is None else self.ema_robust
        shares = {"clean": self.clean, "robust": self.robust, "averaged": averaged}
        return {
            "epoch": str(self.number),
            "loss": digits(self.loss),
            **{name: "" if s is None else f"{100 * s:.1f}" for name, s in shares.items()},
            "s": f"{self.seconds:.1f}",
            "best": "best" if self.best else "",
        }


SAVED_KEYS = {"batch_index": "batch", "terms": "parts"}  # of `Position` in checkpoints


@dataclass
class Position:
    """Where a training is, and the sums of the epoch it is in.

    Arguments:
        epoch: complete epochs.
        batch_index: batches done in the epoch after them.
        step: optimizer steps since the beginning.
        samples, epoch_seconds, loss, terms: sums over this epoch; the last two weighted by samples.
        best: of the best weights so far: epoch, which ("weights" or "ema"), accuracies, score.
        by_clock: what `TimeLength` must know of earlier sessions; empty for a number of epochs.
    """

    epoch: int = 0
    batch_index: int = 0
    step: int = 0
    seconds: float = 0.0
    val_seconds: float = 0.0
    samples: int = 0
    epoch_seconds: float = 0.0
    loss: float = 0.0
    terms: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    by_clock: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Samples per second in this epoch."""
        return self.samples / max(self.epoch_seconds, 1e-9)

    def progress(self, epochs: int, batches: int) -> float:
        """Return the share of the training that is done, given batches per epoch.

        >>> Position(epoch=1, batch_index=5).progress(4, 10)
        0.375
        """
        return (self.epoch * batches + self.batch_index) / (epochs * batches)

    def add_seconds(self, seconds: float) -> None:
        """Add the time of a batch."""
        self.seconds += seconds
        self.epoch_seconds += seconds

    def add(self, total: float, loss: Loss, samples: int) -> None:
        """Add one step's loss over the joint batch."""
        self.step += 1
        self.samples += samples
        self.loss += total * samples
        for key, value in loss.terms.items():
            # Kept on the device: `.item()` here would wait for the GPU once per term and step.
            # In float64, since float32 loses digits over the thousands of samples of an epoch.
            share = torch.as_tensor(value).detach().double() * samples
            self.terms[key] = self.terms[key] + share if key in self.terms else share

    def all_reduce(self) -> None:
        """Average the sums over the processes; `loss` is averaged at each step already."""
        self.terms = {key: distributed.mean(value) for key, value in self.terms.items()}

    def means(self) -> tuple[float, dict[str, float]]:
        """Return the loss and its terms, averaged over the samples so far."""
        n = max(self.samples, 1)
        return self.loss / n, {key: float(value) / n for key, value in self.terms.items()}

    def next_epoch(self) -> None:
        """Count the epoch as complete, and start the sums of the next."""
        self.epoch, self.batch_index, self.samples = self.epoch + 1, 0, 0
        self.epoch_seconds, self.loss, self.terms = 0.0, 0.0, {}

    def state_dict(self) -> dict[str, Any]:
        """Return the position as a checkpoint holds it."""
        state = {SAVED_KEYS.get(key, key): value for key, value in asdict(self).items()}
        if not self.by_clock:
            del state["by_clock"]  # as in checkpoints from before it existed
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the position that a checkpoint holds.

        Raises:
            ValueError: for a key, a count or a number of seconds that no training writes.
        """
        names = {saved: name for name, saved in SAVED_KEYS.items()}
        position = cls()
        for key, value in state.items():
            name = names.get(key, key)
            require(name in vars(position), "position", key, f"one of {', '.join(vars(position))}")
            kind = type(getattr(position, name))
            ok = type(value) is kind or (kind is float and type(value) is int)
            require(ok, f"position.{key}", value, f"of type {kind.__name__}")
            if isinstance(value, int | float):
                ok = math.isfinite(value) and (value >= 0 or name == "loss")
                require(ok, f"position.{key}", value, "a finite number ≥ 0")
            setattr(position, name, value)
        ok = all(isinstance(term, Tensor) and term.ndim == 0 for term in position.terms.values())
        require(ok, "position.parts", position.terms, "tensors of one number")
        score = position.best.get("score", [0.0])
        ok = isinstance(score, list) and score and all(isinstance(v, int | float) for v in score)
        require(ok, "position.best.score", score, "a list of numbers")
        ok = all(isinstance(v, float) and 0 <= v < math.inf for v in position.by_clock.values())
        require(ok, "position.by_clock", position.by_clock, "finite numbers ≥ 0")
        return position


def check_finite(
    total: float, loss: Loss, *, epoch: int, step: int, causes: Callable[[], str] | None = None
) -> None:
    """Raise `NonFiniteLoss` with the loss's terms and what to try, unless the loss is finite.

    Arguments:
        causes: returns what usually causes it, with the values of this training.
    """
    if total - total == 0:
        return
    terms = {**loss.terms, "penalty": loss.penalty}
    means = {key: torch.as_tensor(value).detach().float().mean() for key, value in terms.items()}
    text = ", ".join(f"{key} {float(value):.4g}" for key, value in means.items())
    bad = int((~torch.isfinite(loss.per_sample)).sum())
    usual = f"; usual causes: {causes()}" if causes else ""
    raise NonFiniteLoss(
        f"the loss is {total} at step {step}, in epoch {epoch} ({text}; of "
        f"{len(loss.per_sample)} samples {bad} have no finite loss): try a lower lr, a warm-up, "
        f"clip = 1.0 or amp = 'float32'; the last good checkpoint stays{usual}"
    )


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether no tensor holds NaN or infinity.

    >>> all_finite({"w": torch.tensor([1.0, float("nan")])})
    False
    """
    return all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point())
