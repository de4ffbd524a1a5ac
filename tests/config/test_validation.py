"""Pieces inside pieces: a table in a table, checked, completed and built, with its dotted path."""

from __future__ import annotations

import copy
import json
import tomllib
from typing import Any

import pytest
import torch

from sparring.attacks import APGD, PGD
from sparring.batch import Batch
from sparring.component import assign_at
from sparring.config import recipe, registry
from sparring.risks import Risk
from sparring.threats import Bits, Joint, Linf, Only

SMALL: dict[str, Any] = {
    "recipe": {"name": "small"},
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [8]},
    "threat": {"name": "Only", "of": {"name": "Linf", "eps": 0.1}, "classes": [1]},
    "attack": {"name": "PGD", "steps": 1, "size": 0.1},
    "method": "AT",
    "train": {"epochs": 1, "batch_size": 500},
}
TWICE = {
    "name": "Only",
    "of": {
        "name": "Joint",
        "of": {"name": "Bits", "eps": 3},
        "scale": 1,
        "delta": 0.3,
        "classes": 10,
    },
    "classes": [1, 2],
}


def around(threat: Any) -> dict[str, Any]:
    return {**SMALL, "threat": threat}


def test_a_nested_table_is_completed_with_its_defaults():
    found = registry.complete("threat", SMALL["threat"], "threat")
    assert found == {
        "name": "Only",
        "of": registry.complete("threat", {"name": "Linf", "eps": 0.1}, "threat.of"),
        "classes": [1],
    }
    assert found["of"]["init"] == "uniform"
    assert registry.complete("threat", found, "threat") == found


def test_a_name_alone_is_a_table_of_defaults():
    bare = registry.complete("threat", {"name": "Only", "of": "Box", "classes": [0]}, "threat")
    assert bare["of"] == {"name": "Box", "low": 0.0, "high": 1.0}


def test_a_piece_of_a_narrower_kind_is_a_table_too():
    """`Rounded` takes no threat but a ball."""
    table = {"name": "Rounded", "of": {"name": "L2", "eps": 0.5}, "levels": 15}
    threat = registry.make("threat", registry.complete("threat", table, "threat"), "threat")
    assert repr(threat) == "Rounded(L2(0.5), levels=15)"
    around = registry.complete("threat", {"name": "Rounded", "of": "Box"}, "threat")
    with pytest.raises(ValueError, match="of must be a Ball"):
        registry.make("threat", around, "threat")


def test_it_is_built_as_it_says():
    threat = recipe.load_recipe(around(TWICE)).threat("threat")
    assert isinstance(threat, Only)
    assert isinstance(threat.of, Joint)
    assert isinstance(threat.of.of, Bits)
    assert (threat.classes, threat.of.classes, threat.of.of.eps) == ([1, 2], 10, 3)
    assign_at(recipe.load_recipe(around(TWICE)).objective(), "attack.threat.of.of.eps", 4)


@pytest.mark.parametrize("threat", [SMALL["threat"], TWICE], ids=["once", "twice"])
def test_a_resolved_recipe_resolves_to_itself(threat):
    plan = recipe.load_recipe(around(threat))
    assert recipe.load_recipe(plan.tables) == plan
    assert recipe.load_recipe(tomllib.loads(plan.toml())) == plan


def test_the_tables_that_were_given_stay_as_they_were():
    tables = around(copy.deepcopy(TWICE))
    before = copy.deepcopy(tables)
    recipe.load_recipe(tables)
    assert tables == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("threat.of.dlta=1", "key = 'threat.of.dlta' does not exist; did you mean 'threat.of.del"),
        ("threat.of.of.ep=1", "key = 'threat.of.of.ep' does not exist; did you mean"),
        ("threat.of.name=Jont", "threat.of.name = 'Jont' does not exist; did you mean 'Joint'"),
        ("threat.of.of=Bots", "threat.of.of.name = 'Bots' does not exist; did you mean 'Bits'"),
        ("threat.of.delta=0.7", "threat.of.delta = 0.7 is not allowed: delta must be in (0, 0.5)"),
        ("attack.threat.of.of.eps=-1", "threat.of.of.eps = -1.0 is not allowed: eps must be a"),
        ("threat.of.of.eps='a'", "threat.of.of.eps = 'a' is not allowed: threat.of.of.eps must be"),
        ("threat.of.of=3", "threat.of.of = 3 is not allowed: threat.of.of must be a table with a"),
        ("threat.of=[]", "threat.of = [] is not allowed: threat.of must be a table with a name"),
        ("threat.of={eps=1}", "threat.of = {'eps': 1} is not allowed: threat.of must be a table"),
        ("threat.classes=1", "threat.classes = 1 is not allowed: threat.classes must be"),
        ("threat.classes=[-1]", "threat.classes = [-1] is not allowed: classes must be one or"),
        ("threat.of={name='Joint'}", "threat.of.of is missing, and has no default"),
        ("threat.of.of.name=os:remove", "threat.of.of.name = 'os:remove' is code from outside"),
        ("threat={name='Only', classes=[1]}", "threat.of is missing, and has no default"),
    ],
)
def test_a_mistake_is_told_with_its_path(change, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        recipe.load_recipe(around(TWICE), set=[change])
    assert said in str(error.value)


def test_a_change_by_its_path_reaches_the_inner_piece():
    plan = recipe.load_recipe(around(TWICE), set=["threat.of.of.eps=7", "attack.threat.of.scale=2"])
    assert plan.tables["threat"]["of"]["of"]["eps"] == 7
    assert plan.tables["threat"]["of"]["scale"] == 2
    short = recipe.load_recipe(SMALL, set=["threat.of=Box", "threat.of.high=1"])
    assert short.tables["threat"]["of"] == {"name": "Box", "low": 0.0, "high": 1.0}


def test_evaluation_measures_inputs_at_the_inner_radius():
    measured = recipe.load_recipe(around(TWICE)).tables["evaluation"]
    assert measured["threat"]["of"]["name"] == "Bits"  # a label is no part of what is measured
    assert measured["eps"] == [3.0]
    assert recipe.load_recipe(SMALL).tables["evaluation"]["eps"] == [0.1]
    more = recipe.load_recipe(SMALL, set=["evaluation.eps=[0.1, 0.2]"]).tables["evaluation"]
    assert more["eps"] == [0.1, 0.2]
    assert more["threat"]["of"]["eps"] == 0.2
    named = {"name": "Only", "of": "Linf", "classes": [1]}
    own = recipe.load_recipe({**SMALL, "evaluation": {"threat": named, "eps": 0.3}}).tables[
        "evaluation"
    ]
    assert own["threat"]["of"]["eps"] == 0.3
    noisy = around({**SMALL["threat"], "of": {"name": "Linf", "eps": 0.1, "init": "noise"}})
    assert recipe.load_recipe(noisy).tables["evaluation"]["threat"]["of"]["init"] == "uniform"


@pytest.mark.parametrize("threat", [{"name": "Bits"}, {"name": "Transport", "scale": 1.0}])
def test_without_a_radius_or_with_an_endless_one_there_is_no_eps(threat):
    plan = recipe.load_recipe(around(threat))
    assert plan.tables["evaluation"]["eps"] == []
    assert recipe.load_recipe(tomllib.loads(plan.toml())) == plan


def test_a_recipe_trains_against_a_nested_threat():
    inner = {**TWICE["of"], "of": {"name": "Linf", "eps": 0.2}}
    model = {**SMALL["model"], "shape": [1, 8, 8], "classes": 10}
    plan = recipe.load_recipe({**around({**TWICE, "of": inner}), "model": model})
    objective, net = plan.objective(), plan.network()
    x, y = (
        torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.arange(20) % 10,
    )
    batch = objective.maximize(net, Batch(x, y))
    still = (y != 1) & (y != 2)
    assert torch.equal(batch.x_adv[still], x[still])
    assert (batch.x_adv != x).flatten(1).any(1)[~still].all()
    assert objective.minimize(net, batch).total.isfinite()


def test_pieces_in_a_list_and_what_they_are_handed():
    table = {"name": "Transfer", "attack": ["PGD", {"name": "APGD", "steps": 3}]}
    found = registry._inner(
        registry.pieces("attack")["Transfer"],
        table,
        lambda room, t, path: registry.complete(room, t, path),
        "attack",
    )
    assert [t["name"] for t in found["attack"]] == ["PGD", "APGD"]
    made = registry.make(
        "attack", {**table, **found}, "attack", threat=Linf(0.1), surrogate=torch.nn.Identity()
    )
    assert [type(a) for a in made.attack] == [PGD, APGD]
    assert all(a.threat is made.threat for a in made.attack)
    bad = {**table, "attack": [found["attack"][0], {**found["attack"][1], "steps": 0}]}
    with pytest.raises(ValueError, match=r"attack\.attack\.1\.steps = 0 is not allowed"):
        registry.make("attack", bad, "attack", threat=Linf(0.1), surrogate=torch.nn.Identity())


def test_a_risk_around_a_risk():
    table = {"name": "PerClass", "of": {"name": "KL", "radius": 0.1}, "classes": [1]}
    found = registry.complete("risk", table, "risk")
    assert found["of"]["name"] == "KL"
    made = registry.make("risk", found, "risk")
    assert isinstance(made.of, Risk)
    with pytest.raises(ValueError, match=r"risk\.of\.radius = -1\.0 is not allowed"):
        registry.make("risk", {**found, "of": {**found["of"], "radius": -1.0}}, "risk")


def test_a_piece_tells_its_table():
    threat = recipe.load_recipe(around(TWICE)).threat("threat")
    told = threat.table()
    assert told["of"]["of"]["name"] == "Bits"
    for key in ("mutable", "groups"):  # None is what no recipe says
        assert told["of"]["of"].pop(key) is None
    assert told == recipe.load_recipe(around(TWICE)).tables["threat"]
    assert json.dumps(told)
