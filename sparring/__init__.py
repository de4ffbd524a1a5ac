"""Train classifiers against an adversary, and measure honestly what that bought.

>>> import sparring
>>> run = sparring.train("digits-mart", out="runs/digits-mart")  # doctest: +SKIP
>>> result = sparring.evaluate(run, suite="quick", eps=[0.1])  # doctest: +SKIP
>>> model = sparring.load(run)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import (
        attacks,
        certification,
        data,
        evaluation,
        losses,
        methods,
        metrics,
        models,
        results,
        risks,
        sklearn,
        threats,
        training,
        weights,
    )
    from .commands.attack import attack
    from .commands.attack_pictures import attack_pictures
    from .commands.card import card
    from .commands.compare import compare
    from .commands.evaluate import evaluate
    from .commands.export import export
    from .commands.list import recipes
    from .commands.push import push
    from .commands.report import report
    from .commands.runs import runs
    from .commands.search import search
    from .commands.show import show
    from .commands.train import load, train
    from .config.recipe import Recipe
    from .results.result import Result

__version__ = "0.2.0.dev0"
__all__ = [
    "Recipe",
    "Result",
    "__version__",
    "attack",
    "attack_pictures",
    "attacks",
    "card",
    "certification",
    "compare",
    "data",
    "evaluate",
    "evaluation",
    "export",
    "load",
    "losses",
    "methods",
    "metrics",
    "models",
    "push",
    "recipes",
    "report",
    "results",
    "risks",
    "runs",
    "search",
    "show",
    "sklearn",
    "threats",
    "train",
    "training",
    "weights",
]

HOMES = {  # of the names that are no rooms
    "Recipe": "config.recipe",
    "Result": "results.result",
    "attack": "commands.attack",
    "attack_pictures": "commands.attack_pictures",
    "card": "commands.card",
    "compare": "commands.compare",
    "evaluate": "commands.evaluate",
    "export": "commands.export",
    "load": "commands.train",
    "push": "commands.push",
    "recipes": "commands.list",
    "report": "commands.report",
    "runs": "commands.runs",
    "search": "commands.search",
    "show": "commands.show",
    "train": "commands.train",
}

# Type checkers read the imports above, so that they refuse a name that does not exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what is asked for, when it is, so that the command line starts at once."""
        if name in HOMES:
            return getattr(import_module(f".{HOMES[name]}", __name__), name)
        if name in __all__:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
