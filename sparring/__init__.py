"""Train classifiers against an adversary, and measure honestly what that bought.

>>> import sparring
>>> run = sparring.train("digits-mart", out="runs/digits-mart")  # doctest: +SKIP
>>> result = sparring.evaluate(run, suite="quick", eps=[0.1])  # doctest: +SKIP
>>> model = sparring.load(run)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands.evaluate import evaluate
    from .commands.report import report
    from .commands.train import load, train
    from .config.recipe import Recipe

__version__ = "0.2.0.dev0"
__all__ = ["Recipe", "__version__", "evaluate", "load", "report", "train"]

HOMES = {
    "train": "commands.train",
    "load": "commands.train",
    "evaluate": "commands.evaluate",
    "report": "commands.report",
    "Recipe": "config.recipe",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is, so that the command line starts at once."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
