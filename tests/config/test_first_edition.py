"""Recipes and command lines of the first edition: `train.batch` is today's `train.batch_size`."""

import pytest

from sparring.config.recipe import load_recipe
from sparring.runtime.first_edition import upgrade

OLD = {
    "recipe": {"name": "old"},
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "method": {"name": "Standard"},
}
BASED = {"recipe": {"base": "digits-mart"}, "train": {"batch": 50}}


@pytest.mark.parametrize(
    ("recipe", "changes", "size"),
    [
        ("digits-mart", ["train.batch=3"], 3),
        ("digits-mart", {"train.batch": 3}, 3),
        ("digits-mart", ["train.batch=3", "train.batch_size=4"], 4),
        (OLD | {"train": {"batch": 50}}, [], 50),
        (OLD | {"train": {"batch": 50}}, ["train.batch_size=4"], 4),
        (OLD | {"train": {"batch": 50}}, ["train.batch=4"], 4),
        (BASED, [], 50),
        (BASED, ["train.batch_size=4"], 4),
        (BASED, ["train.batch=4"], 4),
    ],
)
def test_the_last_word_on_the_batch_size_counts_whatever_its_name(recipe, changes, size):
    table = load_recipe(recipe, set=changes).tables["train"]
    assert table["batch_size"] == size
    assert "batch" not in table


def test_an_upgraded_recipe_stays_as_it_is():
    tables = load_recipe("digits-mart").tables
    assert upgrade(tables) == tables
