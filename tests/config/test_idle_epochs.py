"""`--set train.epochs` on a recipe with a budget of seconds or passes: a warning, as it ends
nothing."""

import warnings
from typing import Any

import pytest

from sparring.config import recipe
from sparring.runtime.warning import SparringWarning


def small(**train: Any) -> dict[str, Any]:
    return {
        "recipe": {"name": "small"},
        "data": {"name": "digits"},
        "model": {"name": "mlp", "hidden": [8]},
        "threat": {"name": "Linf", "eps": 0.1},
        "attack": {"name": "PGD", "steps": 1, "size": 0.1},
        "method": {"name": "AT"},
        "train": {**train, "batch_size": 500},
    }


@pytest.mark.parametrize("budget", ["passes", "seconds"])
def test_epochs_that_a_budget_leaves_idle_are_told(budget):
    with pytest.warns(SparringWarning, match=rf"train\.epochs = 3 .* train\.{budget} = 40 does"):
        recipe.load_recipe(small(epochs=1, **{budget: 40}), set=["train.epochs=3"])


@pytest.mark.parametrize(
    ("train", "changes"),
    [
        ({"epochs": 2}, ["train.epochs=3"]),
        ({"epochs": 2, "passes": 40}, ["train.passes=60"]),
        ({"epochs": 2, "passes": 40}, {"train.epochs": 3, "train.passes": 60}),
        ({"epochs": 2, "seconds": 40}, []),
    ],
)
def test_epochs_that_count_are_no_warning(train, changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe.load_recipe(small(**train), set=changes)
