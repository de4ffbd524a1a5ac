"""The space of a search: what its texts mean, and that mistakes are told before the first trial."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.commands.search_space import read_space, rehearse, with_values
from sparring.config.recipe import load_recipe
from sparring.data import Source

BASE = load_recipe("digits-mart", set=["train.epochs=2"])


def one(text: str) -> tuple[Any, ...]:
    (dimension,) = read_space([f"method.beta={text}"])
    return dimension.ends


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("1..10", (1, 10)),
        ("1..10:log", (1, 10)),
        ("0.1..1", (0.1, 1.0)),
        ("1e-3..1", (0.001, 1.0)),
        ("-1..1", (-1, 1)),
        ("1/255..8/255", (1 / 255, 8 / 255)),
        ("true,false", ("true", "false")),
        ("1, 2,5", ("1", "2", "5")),
        ("[32],[64, 64]", ("[32]", "[64, 64]")),
        ('"a,b",c', ('"a,b"', "c")),
    ],
)
def test_a_text_is_a_range_or_choices(text, ends):
    assert one(text) == ends
    assert all(type(a) is type(b) for a, b in zip(one(text), ends, strict=True))


def test_a_mapping_is_the_same_space():
    texts = read_space(["method.beta=1..10:log", "model.name=mlp,lenet", "train.epochs=1,2"])
    pairs = {"method.beta": "1..10:log", "model.name": ["mlp", "lenet"], "train.epochs": [1, 2]}
    assert [(d.path, d.low, d.high, d.log) for d in read_space(pairs)] == [
        (d.path, d.low, d.high, d.log) for d in texts
    ]
    base = with_values(BASE, (), {"model.name": '"mlp"', "train.epochs": "2"})
    assert base.tables["model"]["name"] == "mlp"


def test_tables_are_replaced_before_their_keys():
    space = read_space(["method.beta=1..2", "method.name=MART,TRADES", "threat=Linf,L2"])
    assert [d.path for d in space] == ["threat", "method.name", "method.beta"]


def test_another_name_replaces_the_table_and_the_same_keeps_it():
    base = load_recipe("digits-mart", set=["method.inner=self"])
    same = with_values(base, (), {"method.name": "MART", "method.beta": 2})
    assert (same.tables["method"]["inner"], same.tables["method"]["beta"]) == ("self", 2.0)
    other = with_values(base, (), {"method.name": "TRADES", "method.beta": 2})
    assert other.tables["method"] == {"name": "TRADES", "beta": 2.0}


def test_the_measure_stays_whatever_the_training_changes():
    changed = with_values(BASE, (), {"threat.eps": 0.01})
    assert changed.tables["threat"]["eps"] == 0.01
    for table in ("validation", "evaluation"):
        assert changed.tables[table] == BASE.tables[table]


def test_fidelity_is_of_the_trials_alone():
    cheap = with_values(BASE, ["train.epochs=1"], {"method.beta": 2})
    assert cheap.tables["train"]["epochs"] == 1
    assert with_values(BASE, (), {"method.beta": 2}).tables["train"]["epochs"] == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "space = None is not allowed: space must be one path or more"),
        ("method.beta", r"space.method.beta = .* must be PATH=VALUES"),
        ("=1..2", "space = .* must be PATH=VALUES"),
        ("method.beta=3", "two different choices or more"),
        ("method.beta=3,3", "two different choices or more"),
        ("method.beta=3,,4", "two different choices or more"),
        ("method.beta=10..1", "low end is below its high end"),
        ("method.beta=0..1:log", "above 0 at its low end"),
        ("method.beta=1..x", r"must be 1..10 \(whole numbers\)"),
        ("method.beta=1..inf", "a range of finite numbers"),
        ("method.beta=a,b:log", "a range where it ends in :log"),
        ("validation.attack.steps=1..10", "the measure of all trials must be one and the same"),
        ("evaluation.eps=0.1,0.2", "the measure of all trials must be one and the same"),
    ],
)
def test_a_text_of_another_form_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        read_space([text] if text else [])


def test_a_path_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match=r"method.beta.* must be a path that is there once"):
        read_space(["method.beta=1..2", "method.beta=3..4"])


@pytest.fixture(scope="module")
def source() -> Source:
    return BASE.source()


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (["method.bta=1..2"], r"space.method.bta.*did you mean 'method.beta'"),
        (["method.name=MART,TRADS"], r"space.method.name.* did you mean 'TRADES'"),
        (
            ["attack.steps=-1..4", "method.beta=1..2"],
            r"space.attack.steps=-1..4.*attack.steps = -1",
        ),
        (["train.optimizer.lr=-1..0.1"], r"space.train.optimizer.lr=-1.*lr = -1"),
        (["train.epochs=0.5..2.0"], r"space.train.epochs=.*epochs = 0.5"),
        (
            ["method.name=MART,AT", "method.beta=1..2"],
            r"space at method.name = AT, method.beta = 1.*method.beta",
        ),
        (["model.name=mlp,resnet99"], r"space.model.name.*resnet99"),
    ],
)
def test_both_ends_are_rehearsed(space, told, source):
    with pytest.raises(ValueError, match=told):
        rehearse(BASE, read_space(space), (), lambda recipe: source)


def test_a_space_that_fits_passes(source):
    space = ["method.name=MART,TRADES", "method.beta=1..10:log", "data.augment=[],[{name='Shift'}]"]
    rehearse(BASE, read_space(space), ["train.epochs=1"], lambda recipe: source)
