"""A `Recipe` takes changes and trust wherever the name of a recipe does."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from sparring.commands import search, show, subject, train
from sparring.config.recipe import load_recipe
from tests.config.test_recipes import SMALL

CHANGES = ["train.epochs=7", "data.limit=60"]


def test_a_recipe_is_loaded_with_changes():
    given = load_recipe(SMALL)
    assert load_recipe(given, set=CHANGES) == load_recipe(SMALL, set=CHANGES)
    assert load_recipe(given, set=iter(CHANGES)) == load_recipe(SMALL, set=CHANGES)
    assert load_recipe(given) is given
    trusted = load_recipe(given, trust=True)
    assert trusted.trust
    assert not given.trust
    assert load_recipe(trusted, set=CHANGES).trust


def test_a_training_and_its_summary_take_changes_of_a_recipe(tmp_path: Path):
    given = load_recipe(SMALL)
    planned = train.plan(given, out=tmp_path / "run", set=CHANGES)
    assert planned.recipe == load_recipe(SMALL, set=CHANGES)
    assert "7 epochs" in show.show(given, set=CHANGES, timed=False).facts
    assert "7 epochs" in show.rehearse(given, out=tmp_path / "run", set=CHANGES)[1].facts


def test_an_evaluation_takes_changes_of_a_recipe(tmp_path: Path):
    given, weights = load_recipe(SMALL), tmp_path / "w.safetensors"
    save_file(given.with_data(given.source()).network().state_dict(), weights)
    target = subject.recipe_target(weights, given, set=CHANGES)
    assert target.recipe["data"]["limit"] == 60


def test_a_search_takes_changes_of_a_recipe(tmp_path: Path):
    given, changes = load_recipe(SMALL), [*CHANGES, "validation.attack=FGSM", "train.epochs=1"]
    done = search.search(given, {"method.beta": [1.0, 2.0]}, trials=1, set=changes, out=tmp_path)
    assert done.record.recipe["data"]["limit"] == 60
    with pytest.raises(ValueError, match=r"'train\.epoch' does not exist"):
        search.search(given, {"method.beta": [1.0, 2.0]}, set=["train.epoch=1"], out=tmp_path)


def test_the_threat_of_validation_has_the_bounds_of_the_data():
    """Else it would choose weights by points that are no inputs."""
    threat = {"name": "Only", "of": {"name": "Linf", "eps": 0.1, "low": -1.0}, "classes": [1]}
    around = load_recipe(SMALL, set={"validation": {"attack": "FGSM", "threat": threat}})
    source = around.source()
    with pytest.raises(ValueError, match=r"validation\.threat\.of\.low = -1\.0 is not allowed"):
        around.build(source)
    assert around.with_data(source, "evaluation")  # weights that are trained can be measured
