"""Load a network of RobustBench's model zoo, through its own package."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ..component import did_you_mean
from ..runtime.importing import reason
from ..runtime.text import printable

DATASETS = ("cifar10", "cifar100", "imagenet")
THREATS = ("Linf", "L2", "corruptions")
INSTALL = "pip install git+https://github.com/RobustBench/robustbench"
UNSAFE_LOAD = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # an environment variable of torch


def load(name: str, *, model_dir: str | Path = "./models") -> nn.Module:
    """Return a network of the zoo, for inputs in [0, 1], in eval mode; the caller trusts its files.

    The package downloads missing weights to `model_dir`. They may be pickles.

    Arguments:
        name: `NAME`, trained on CIFAR-10 against Linf; else `DATASET/THREAT/NAME`.

    Raises:
        ValueError: for a missing package, an unknown name, or weights that can't be loaded.
    """
    dataset, threat, name = split_name(name)
    zoo = _zoo()
    known = _names(zoo, dataset, threat)
    if known and name not in known:
        raise ValueError(did_you_mean("model", name, known))
    try:
        with _pickles_allowed():
            where = {"model_dir": str(model_dir), "dataset": dataset, "threat_model": threat}
            model = zoo.load_model(name, **where)
    except (Exception, SystemExit) as error:  # a download, pickles and foreign code
        raise ValueError(
            f"model = 'robustbench:{printable(name, 100)}' can't be loaded: {reason(error)}"
        ) from error
    return model.eval()


def split_name(text: str) -> tuple[str, str, str]:
    """Return data set, threat and name of `NAME`, `THREAT/NAME` or `DATASET/THREAT/NAME`.

    >>> split_name("Carmon2019Unlabeled"), split_name("cifar100/L2/Rice2020Overfitting")
    (('cifar10', 'Linf', 'Carmon2019Unlabeled'), ('cifar100', 'L2', 'Rice2020Overfitting'))
    """
    *options, name = text.split("/")
    dataset, threat = [*DATASETS[:1], *THREATS[:1]]
    if len(options) > 2 or not name:
        raise ValueError(
            f"model = 'robustbench:{printable(text, 100)}' is not allowed: it must be "
            "robustbench:NAME or robustbench:DATASET/THREAT/NAME"
        )
    if options:
        *first, threat = options
        dataset = first[0] if first else dataset
    for key, value, allowed in (("dataset", dataset, DATASETS), ("threat", threat, THREATS)):
        if value not in allowed:
            raise ValueError(did_you_mean(key, value, allowed))
    return dataset, threat, name


def _zoo() -> Any:
    """Return the package's module of loaders."""
    try:
        return importlib.import_module("robustbench.utils")
    except ModuleNotFoundError as error:
        missing = error.name or "robustbench"
        part = "" if missing.partition(".")[0] == "robustbench" else f", whose {missing} is missing"
        raise ValueError(
            f"robustbench:NAME needs the package robustbench{part}: {INSTALL}"
        ) from None
    except Exception as error:
        text = "robustbench:NAME needs the package robustbench, which fails to import"
        raise ValueError(f"{text}: {reason(error)}") from error


def _names(zoo: Any, dataset: str, threat: str) -> list[str]:
    """Return the names that the zoo has, [] where this version does not list them."""
    for kind, by_threat in getattr(zoo, "all_models", {}).items():
        for norm, models in by_threat.items():
            if (getattr(kind, "value", kind), getattr(norm, "value", norm)) == (dataset, threat):
                return [str(name) for name in models]
    return []


@contextlib.contextmanager
def _pickles_allowed() -> Iterator[None]:
    """Let `torch.load` without arguments, as the package calls it, read pickles inside."""
    before = os.environ.get(UNSAFE_LOAD)
    os.environ[UNSAFE_LOAD] = "1"
    try:
        yield
    finally:
        os.environ.pop(UNSAFE_LOAD, None)
        if before is not None:
            os.environ[UNSAFE_LOAD] = before
