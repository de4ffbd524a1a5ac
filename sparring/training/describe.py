"""Say in a few words what a training does: for the line above its table of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.hubs import is_hub_name
from ..objective import Objective
from ..runtime.fractions import with_radius


def run_name(recipe: Mapping[str, Any] | None, out: Path) -> str:
    """Return the name of the recipe, else that of the run folder."""
    return str(_entry(recipe, "recipe") or out.absolute().name)


def facts(
    objective: Objective,
    model: nn.Module,
    recipe: Mapping[str, Any] | None,
    *,
    length: str,
    epochs_done: int,
    device: torch.device,
) -> list[str]:
    """Return method, threat, network with its size, length and device in words.

    Arguments:
        length: as `length_text` says it.
    """
    attack = objective.attack
    adversary = "no adversary"
    if attack is not None:
        eps = getattr(attack.threat, "eps", None)
        adversary = with_radius(type(attack.threat).__name__, eps)
    network = _entry(recipe, "model") or type(model).__name__
    done = f" ({epochs_done} done)" if epochs_done else ""
    return [
        type(objective.method).__name__,
        adversary,
        f"{network}, {_parameters_text(model)}{_normalization_text(recipe)}",
        f"{length}{done}",
        str(device),
    ]


def length_text(train: Mapping[str, Any]) -> str:
    """Return how long a training is in words, from its settings.

    >>> length_text({"epochs": 40}), length_text({"epochs": 40, "seconds": 320.0})
    ('40 epochs', '320 s by the clock')
    """
    if train.get("seconds") is not None:
        return f"{train['seconds']:g} s by the clock"
    passes = train.get("passes")
    return f"{train['epochs']} epochs" if passes is None else f"{passes:g} passes"


def _normalization_text(recipe: Mapping[str, Any] | None) -> str:
    """Return the normalisation that a hub's network brought, which no recipe names; "" if none."""
    table = (recipe or {}).get("model") or {}
    if not is_hub_name(table.get("name")) or "mean" not in table:
        return ""
    mean, std = (" ".join(f"{v:.3g}" for v in table[key]) for key in ("mean", "std"))
    return f", (x − {mean}) / {std} inside"


def _parameters_text(model: nn.Module) -> str:
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = "" if trained == count else f" ({size_text(trained)} trained)"
    return f"{size_text(count)} parameters{frozen}"


def size_text(count: int) -> str:
    """Return a number of parameters in three digits.

    >>> size_text(812), size_text(92_345), size_text(11_200_000)
    ('812', '92.3k', '11.2M')
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


def _entry(recipe: Mapping[str, Any] | None, table: str) -> Any:
    value = (recipe or {}).get(table)
    return value.get("name") if isinstance(value, Mapping) else None
