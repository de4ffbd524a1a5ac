"""Notice a training at chance level, and name what usually causes it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..objective import Objective
from ..risks import Mean
from ..runtime import distributed
from ..runtime.warning import SparringWarning
from .state import Epoch

LEAST = 3  # validations in a row at chance that mean something
LEAST_STEPS = 200  # after which one validation at chance does too
FAR = 1.2  # times ln k: a loss that no network gets which is only unsure


def epochs_at_chance(rows: Iterable[Mapping[str, Any]]) -> int:
    """Count how many of the last validations in a log were at chance, without a better one between.

    >>> bad, good, not_measured = {"clean": 0.1, "at_chance": True}, {"clean": 0.9}, {"clean": None}
    >>> epochs_at_chance([bad, good, bad, not_measured])
    1
    """
    count = 0
    for row in rows:
        if row.get("clean") is not None:
            count = count + 1 if row.get("at_chance") else 0
    return count


def patience(epochs: int) -> int:
    """Return for how many validations in a row a healthy training may be at chance.

    With a warm-up, small data and a strong adversary the shipped recipes take up to two epochs of
    forty to rise above it.

    >>> patience(3), patience(40), patience(200)
    (3, 5, 10)
    """
    return max(LEAST, min(10, epochs // 8))


def is_due(at_chance: int, *, epoch: int, epochs: int, steps: int) -> bool:
    """Return whether to warn now: once when `patience` ends, and at the end of the training.

    Arguments:
        at_chance: validations in a row.
        steps: of the optimizer so far; a trial of a few steps has not collapsed, but not begun.

    >>> is_due(1, epoch=1, epochs=1, steps=14), is_due(1, epoch=1, epochs=1, steps=400)
    (False, True)
    """
    ends = epoch == epochs and at_chance > 0 and (at_chance >= LEAST or steps >= LEAST_STEPS)
    return ends or at_chance == patience(epochs)


def likely_causes(
    objective: Objective, *, lr: float, loss: float | None = None, classes: int = 0
) -> str:
    """Return what usually makes a training diverge or collapse, with the values of this one.

    Arguments:
        lr: of the optimizer, before schedules.
        loss: mean of an epoch; one far above ln k, the loss of a constant guess, speaks for lr.
        classes: k.
    """
    too_large = loss is not None and loss > FAR * math.log(max(classes, 2))
    causes = [f"lr = {lr:g}{' (the loss is far above a constant guess)' if too_large else ''}"]
    eps = getattr(getattr(objective.attack, "threat", None), "eps", None)
    if eps:
        causes.append(f"eps = {float(eps):g} from the first step (try a ramp)")
    if not isinstance(objective.risk, Mean):
        causes.append(f"the re-weighting of {type(objective.risk).__name__} from the first step")
    causes.append("inputs that the model does not normalise")
    return "; ".join(causes)


class Trained(Protocol):
    """Training whose collapse is watched: `Stepper`."""

    classes: int

    def likely_causes(self, loss: float | None = None) -> str: ...


class Watch:
    """Count validations at chance, and warn once: after some of them, and at the end."""

    def __init__(self) -> None:
        self._at_chance = 0

    def resume(self, log: Iterable[Mapping[str, Any]]) -> None:
        """Go on after the epochs in a log."""
        self._at_chance = epochs_at_chance(log)

    def notice(self, epoch: Epoch, epochs: int, trained: Trained, *, rows: int) -> None:
        """Count an epoch, and warn if it is due; the first process alone does.

        Arguments:
            epochs: of the training in all.
            rows: of the validation split.
        """
        if epoch.at_chance is None or epoch.clean is None or distributed.rank():
            return
        self._at_chance = self._at_chance + 1 if epoch.at_chance else 0
        if is_due(self._at_chance, epoch=epoch.number, epochs=epochs, steps=epoch.step):
            warn_at_chance(
                epoch=epoch.number,
                epochs=epochs,
                clean=epoch.clean,
                rows=rows,
                loss=epoch.loss,
                classes=trained.classes,
                causes=trained.likely_causes(epoch.loss),
            )


def warn_at_chance(
    *, epoch: int, epochs: int, clean: float, rows: int, loss: float, classes: int, causes: str
) -> None:
    """Warn that a network predicts no better than chance (`SparringWarning`)."""
    guess = f"a constant guess has {math.log(classes):.3g}"
    warnings.warn(
        f"after epoch {epoch} of {epochs} the network predicts no better than chance: clean "
        f"accuracy {100 * clean:.1f} % of {rows} rows, loss {loss:.3g} ({guess}). "
        f"Usual causes: {causes}",
        SparringWarning,
        stacklevel=2,
    )
