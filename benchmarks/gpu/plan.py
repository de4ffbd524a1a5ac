"""How many attack steps a training by the clock can afford, from the steps that stage a timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LOSS_UNITS = {"Standard": 3, "AT": 3, "TRADES": 7, "MART": 6, "OTJR": 9, "UAD": 10}
CLIMB_UNITS = {"AT": 3, "TRADES": 6, "MART": 6}  # of AWP, in the steps that have it
CLIMBED = 0.6  # AWP begins at 40 % of the training
EPOCHS = 40  # below this, a smaller number of attack steps pays more than a better attack
MOST, LEAST = 10, 2
USED = 0.9  # of the time: the rest validates, writes and compiles


class Chosen(NamedTuple):
    """Hold the attack steps of a training, their size, and the epochs that fit."""

    steps: int
    size: float
    epochs: float


def seconds_of_step(row: Mapping[str, Any], method: str, steps: int, *, climbs: bool) -> float:
    """Return the seconds of a training step, from a timed one of adversarial training.

    An attack step has two units, forward and backward; a loss has its own, AWP some more.
    """
    unit = row["attack_step"] / 2
    more = LOSS_UNITS.get(method, 10) - LOSS_UNITS["AT"]
    more += CLIMBED * CLIMB_UNITS.get(method, 6) * climbs
    return row["rest_of_step"] + unit * more + row["attack_step"] * steps


def choose(
    rows: Sequence[Mapping[str, Any]],
    *,
    method: str,
    climbs: bool,
    batch: int,
    train_rows: int,
    seconds: float,
) -> Chosen | None:
    """Return the most attack steps with which 40 epochs fit, from 10 down to 2; None if untimed.

    A compiled step is preferred, as the recipes compile; a batch size that was not timed takes the
    nearest one's time per row.

    >>> row = {"batch": 250, "compiled": True, "attack_step": 0.004, "rest_of_step": 0.01}
    >>> options = {"climbs": False, "batch": 250, "train_rows": 49_000, "seconds": 320}
    >>> choose([row], method="AT", **options).steps
    6
    >>> choose([], method="AT", **options)
    """
    timed = [row for row in rows if "attack_step" in row]
    if not timed:
        return None
    row = min(timed, key=lambda row: (not row["compiled"], abs(row["batch"] - batch)))
    per_epoch = train_rows / row["batch"]
    for steps in range(MOST, LEAST - 1, -1):
        step = seconds_of_step(row, method, steps, climbs=climbs)
        epochs = USED * seconds / (step * per_epoch)
        if epochs >= EPOCHS:
            break
    return Chosen(steps, round(max(2.0, 10 / steps) / 255, 6), round(epochs, 1))
