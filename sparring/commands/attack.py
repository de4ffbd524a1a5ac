"""Attack a batch by the names of an attack and of a threat, and return the adversarial inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..attacks import Attack
from ..batch import Model
from ..component import did_you_mean
from ..config.registry import pieces
from ..evaluation import SUITES
from ..threats import Threat
from .train import load


def attack(
    name: str,
    model: Model | str | Path,
    x: Any,
    y: Any,
    *,
    eps: float | str | None = None,
    threat: str | Threat = "Linf",
    low: float = 0.0,
    high: float = 1.0,
    **options: Any,
) -> Tensor:
    """Return adversarial inputs `(b, *d)` of one attack, without judging them.

    `sparring.evaluate` runs a suite of attacks, checks every point, and gives accuracies.

    Arguments:
        name: of the attack, as `"pgd"`: `sparring list attacks` has all.
        model: a module, a function of a batch, or a run folder.
        x, y: inputs `(b, *d)` in [low, high], and labels `(b,)`.
        eps: radius in input units, as 0.1 or "8/255"; a threat that is given has its own.
        threat: a name, as `"L2"`, or a threat.
        low, high: bounds of the inputs.
        options: of the attack, as `steps=20, restarts=2, seed=1`.

    Raises:
        ValueError: for a name, number or input that does not fit.
        TypeError: for an option that the attack does not take.

    >>> x, y = torch.tensor([[0.5, 0.4]]), torch.tensor([0])
    >>> attack("pgd", lambda x: x, x, y, eps=0.1, steps=3, size=0.1)
    tensor([[0.4000, 0.5000]])
    """
    maker = named_piece("attack", name)
    if isinstance(threat, Threat):
        if eps is not None:
            raise ValueError(f"eps = {eps!r} is not allowed: {threat!r} has its own")
    else:
        bounds = {"low": low, "high": high}
        radius = {} if eps is None else {"eps": eps}
        threat = named_piece("threat", threat)(**radius, **bounds)
    adversary: Attack = maker(threat, **options)
    network = load(model) if isinstance(model, str | Path) else model
    return adversary(network, torch.as_tensor(x), torch.as_tensor(y))


def named_piece(room: str, name: str) -> Callable[..., Any]:
    """Return the maker of a piece by its name, in letters of any case, with or without hyphens."""
    known = pieces(room)
    by_letters: Mapping[str, str] = {_letters(k): k for k in known}
    if _letters(name) in by_letters:
        return known[by_letters[_letters(name)]]
    hint = ""
    if room == "attack" and _letters(name) in map(_letters, SUITES):
        hint = (
            f". {name!r} is a suite: sparring.evaluate(model, data=(x, y), eps=…, suite={name!r})"
        )
    raise ValueError(did_you_mean(room, name, known) + hint)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
