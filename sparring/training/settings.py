"""The settings of a run that its numbers depend on: flatten, hash and compare them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..data import Source

# Keys that change no number: where a run is written, how it is shown and how it is evaluated.
NOT_COMPARED = {"out", "device", "evaluation", "progress", "resume", "log"}
NOT_COMPARED |= {"save_every", "save_seconds"}
NOT_COMPARED.add("tensorboard")  # of sparring 0.1, in place of `log`


def run_settings(
    recipe: Mapping[str, Any] | None, arguments: Mapping[str, Any], source: Source
) -> dict[str, Any]:
    """Return the settings that change a training's numbers, by dotted path.

    Arguments:
        recipe: the resolved recipe; without one, `arguments` (of `Trainer`, by name) count.
    """
    flat = flatten(arguments if recipe is None else recipe) | {"data": source.sha256}
    return json.loads(json.dumps(flat, sort_keys=True, default=repr))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a configuration by dotted path, without the keys in `NOT_COMPARED`.

    >>> flatten({"train": {"epochs": 3, "device": "cpu"}})
    {'train.epochs': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key not in NOT_COMPARED:
            path, is_table = f"{prefix}{key}", isinstance(value, Mapping)
            flat |= flatten(value, f"{path}.") if is_table else {path: value}
    return flat


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return the sha256 of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a text that lists where settings differ from earlier ones.

    >>> describe_changes({"epochs": 2}, {"epochs": 3})
    'epochs was 2 and is 3 now'
    """
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return "; ".join(f"{key} was {before.get(key)} and is {now.get(key)} now" for key in keys)
