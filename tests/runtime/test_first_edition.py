"""What sparring 0.1 wrote keeps loading: its recipes, settings and tensors, under today's names."""

import pytest
import torch

from sparring import models
from sparring.config.recipe import load_recipe
from sparring.evaluation.protocol import resolve_protocol
from sparring.objective import Objective
from sparring.risks import Alpha, Mean
from sparring.runtime import first_edition

OLD_KL = {"name": "KL", "radius": 0.1, "initial": 1.0, "floor": 0.0, "mode": "exact", "lr": 0.001}
NEW_KL = {
    "name": "KL",
    "radius": 0.1,
    "initial_multiplier": 1.0,
    "min_multiplier": 0.0,
    "mode": "exact",
    "lr": 0.001,
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD_KL, NEW_KL),
        ({**OLD_KL, "name": "Renyi", "alpha": 2.0}, {**NEW_KL, "name": "Renyi", "alpha": 2.0}),
        ({"name": "Alpha", "floor": 0.1}, {"name": "Alpha", "min_multiplier": 0.1}),
        ({"name": "Mean", "price": 1.0}, {"name": "Mean", "multiplier": 1.0}),
        (
            {"name": "CVaR", "price": 2.0, "level": 0.5},
            {"name": "CVaR", "multiplier": 2.0, "level": 0.5},
        ),
        ({"name": "PerClass", "of": OLD_KL}, {"name": "PerClass", "of": NEW_KL}),
    ],
)
def test_an_old_risk_is_upgraded_and_todays_stays(old, new):
    assert first_edition.upgrade({"risk": old}) == {"risk": new}
    assert first_edition.upgrade({"risk": new}) == {"risk": new}


def test_an_argument_of_another_piece_keeps_its_name():
    table = {"method": {"name": "MART", "initial": 1.0}, "attack": {"name": "PGD", "floor": 2}}
    assert first_edition.upgrade(table) == table


def test_the_later_of_an_old_and_a_new_name_wins():
    """As where an old recipe stands on a shipped one, or a change on the command line on an old."""
    table = {"name": "KL", "min_multiplier": 0.1, "floor": 0.2}
    assert first_edition.upgrade({"risk": table})["risk"]["min_multiplier"] == 0.2
    table = {"name": "KL", "floor": 0.2, "min_multiplier": 0.1}
    assert first_edition.upgrade({"risk": table})["risk"]["min_multiplier"] == 0.1


def test_the_path_of_a_schedule_is_upgraded():
    old = {"train": {"schedule": [{"path": "risk.price", "name": "cosine"}, {"path": "lr"}]}}
    new = {"train": {"schedule": [{"path": "risk.multiplier", "name": "cosine"}, {"path": "lr"}]}}
    assert first_edition.upgrade(old) == new


def test_flat_settings_of_a_checkpoint_are_upgraded():
    old = {
        "risk.name": "PerClass",
        "risk.classes": [1],
        **{f"risk.of.{key}": value for key, value in OLD_KL.items()},
        "train.schedule": [{"path": "risk.of.price", "name": "cosine"}],
        "data": "3f",
    }
    new = {
        "risk.name": "PerClass",
        "risk.classes": [1],
        **{f"risk.of.{key}": value for key, value in NEW_KL.items()},
        "train.schedule": [{"path": "risk.of.multiplier", "name": "cosine"}],
        "data": "3f",
    }
    assert first_edition.upgrade_settings(old) == new
    assert first_edition.upgrade_settings(new) == new


def test_a_fixed_argument_is_dropped_at_its_value_and_refused_at_another(monkeypatch):
    monkeypatch.setitem(first_edition.FIXED, "Old", {"clamp": True})
    table = {"method": {"name": "Old", "clamp": True, "beta": 2.0}}
    assert first_edition.upgrade(table) == {"method": {"name": "Old", "beta": 2.0}}
    flat = {"method.name": "Old", "method.clamp": True, "method.beta": 2.0}
    assert first_edition.upgrade_settings(flat) == {"method.name": "Old", "method.beta": 2.0}
    with pytest.raises(ValueError, match=r"Old\.clamp = False was written by sparring 0\.1"):
        first_edition.upgrade({"method": {"name": "Old", "clamp": False}})
    with pytest.raises(ValueError, match=r"Old\.clamp = False was written by sparring 0\.1"):
        first_edition.upgrade_settings({**flat, "method.clamp": False})


def test_tensors_of_a_checkpoint_are_renamed():
    objective = Objective(None, load_recipe("mnist-standard").objective().method, Alpha())
    state = objective.state_dict()
    old = {key.replace("multiplier", "price"): value for key, value in state.items()}
    assert "risk.price" in old
    assert first_edition.upgrade_state(old).keys() == state.keys()
    objective.load_state_dict(first_edition.upgrade_state(old | {"risk.price": torch.tensor(3.0)}))
    assert objective.risk.multiplier == 3.0
    for path in ("attack.threat.", "attack.threat.of."):
        key = next(iter(first_edition.upgrade_state({f"{path}pull": torch.tensor(1.0)})))
        assert key == f"{path}current_multiplier"


def test_an_old_recipe_builds_todays_pieces():
    recipe = load_recipe("mnist-standard", set={"risk": OLD_KL | {"floor": 0.3}})
    assert recipe.objective().risk.min_multiplier == 0.3
    recipe = load_recipe("mnist-standard", set={"risk": {"name": "Mean", "price": 2.0}})
    assert isinstance(recipe.objective().risk, Mean)
    assert recipe.tables["risk"]["multiplier"] == 2.0


def test_public_names_of_the_first_edition_still_work_with_a_warning():
    with pytest.warns(DeprecationWarning, match="adapt is wrap_model since 0.2"):
        assert models.adapt is models.wrap_model
    with pytest.raises(AttributeError, match="has no attribute 'adpt'"):
        _ = models.adpt
    with pytest.warns(DeprecationWarning, match="batch is batch_size since 0.2"):
        assert resolve_protocol(None, {"batch": 100}).batch_size == 100
