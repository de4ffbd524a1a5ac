"""One validation for Python, recipes and the command line: what a number, a text, a piece is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sparring import attacks, data, methods, metrics, risks, threats, weights
from sparring.attacks import PGD
from sparring.component import Component, arguments, check_arguments
from sparring.config import recipe
from sparring.evaluation import EvaluationProtocol, evaluate
from sparring.methods import MART
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime.annotations import shortened
from sparring.threats import Linf

ROOMS = (threats, attacks, methods, risks, weights, data)
ENDLESS = 10**400
WRONG = {
    int: [True, "3", 2.5, 1e300, math.nan, ENDLESS, -ENDLESS, None, [1], torch.ones(2), object()],
    float: [True, "0.3", "much", math.nan, math.inf, ENDLESS, None, [0.1], 1j, np.array(True)],
    bool: [1, 0, 0.0, "true", None, []],
    str: [1, None, True, ["a"], b"a", 0.5],
}


def pieces() -> list[type[Component]]:
    public = [getattr(room, name) for room in ROOMS for name in room.__all__]
    return [p for p in public if inspect.isclass(p) and issubclass(p, Component)]


def plain_arguments() -> list[tuple[type[Component], str, type]]:
    """(piece, argument, kind) of every argument of a single number, text or switch."""
    return [
        (piece, name, parameter.annotation)
        for piece in pieces()
        for name, parameter in arguments(piece).items()
        if parameter.annotation in WRONG
    ]


def infinite(piece: type, name: str) -> bool:
    default = arguments(piece)[name].default
    return isinstance(default, float) and math.isinf(default)


@pytest.mark.parametrize(
    ("piece", "name", "kind"), plain_arguments(), ids=lambda v: getattr(v, "__name__", v)
)
def test_every_argument_of_every_piece_refuses_what_it_is_not(piece, name, kind):
    """At once, before anything runs, by a ValueError with the argument's name and its value."""
    for value in WRONG[kind]:
        if infinite(piece, name) and isinstance(value, float) and not math.isfinite(value):
            continue
        with pytest.raises(ValueError, match=rf"^{name} = .* is not allowed: {name} must be "):
            piece(**{name: value})


@pytest.mark.parametrize(
    "value",
    [0.25, np.float64(0.25), np.float32(0.25), np.array(0.25), torch.tensor(0.25), Fraction(1, 4)],
    ids=lambda v: type(v).__name__,
)
def test_numbers_of_other_libraries_are_pythons(value):
    assert type(Linf(value).eps) is float
    assert Linf(value).eps == 0.25
    assert type(MART(beta=value).beta) is float


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)])
def test_integers_of_other_libraries_are_pythons(value):
    attack = PGD(Linf(0.1), steps=value)
    assert type(attack.steps) is int
    assert attack.steps == 3
    assert EvaluationProtocol(n=value).n == 3


def test_a_whole_float_is_an_integer_in_python_and_not_in_toml():
    assert PGD(Linf(0.1), steps=1e2).steps == 100
    assert type(EvaluationProtocol(n=1e3).n) is int
    with pytest.raises(ValueError, match=r"attack\.steps = 3\.0 is not allowed"):
        recipe.load_recipe("digits-mart", set={"attack.steps": 3.0})


def test_a_fraction_is_a_number_wherever_one_is_wanted():
    assert Linf("8/255").eps == 8 / 255
    assert EvaluationProtocol(eps="8/255").eps == 8 / 255
    assert EvaluationProtocol(eps=["8/255", 0.1]).eps == [8 / 255, 0.1]
    assert check_arguments(data.load, {"val": "1/4", "bounds": ["0/1", 1]}) == {
        "val": 0.25,
        "bounds": (0.0, 1),
    }
    with pytest.raises(ValueError, match="steps = '8/2' is not allowed"):
        PGD(Linf(0.1), steps="8/2")


def test_a_valid_number_stays_as_it_was_written():
    assert type(Linf(1).eps) is int
    assert repr(MART(beta=6)) == "MART(beta=6)"


def test_arrays_are_lists_of_numbers():
    for values in (np.array([1, 2]), torch.tensor([1, 2])):
        assert threats.Only(Linf(0.1), classes=values).classes == [1, 2]
    assert EvaluationProtocol(eps=np.array([0.1, 0.2])).eps == [0.1, 0.2]
    assert threats.Only(Linf(0.1), classes=(1, 2)).classes == (1, 2)
    with pytest.raises(ValueError, match=r"classes\.1 = 2\.5 is not allowed"):
        threats.Only(Linf(0.1), classes=[1, 2.5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD("Linf"), r"threat = 'Linf' is not allowed: threat must be a Threat"),
        (lambda: PGD(MART()), r"threat = MART\(.*\) is not allowed: threat must be a Threat"),
        (lambda: Objective(None, "MART", Mean()), r"method = 'MART' is not allowed"),
        (lambda: Objective(PGD, MART(), Mean()), r"attack = <class .*> is not allowed"),
        (lambda: threats.Only(0.1, classes=[1]), r"of = 0.1 is not allowed: of must be a Threat"),
    ],
)
def test_a_piece_is_a_piece(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def net(x: torch.Tensor) -> torch.Tensor:
    return x


X, Y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, "ten") for key in ("n", "eps", "batch_size", "seconds", "queries", "seed")],
        *[(key, 2.5) for key in ("n", "batch_size", "queries", "seed", "split", "certify")],
        *[(key, True) for key in ("n", "batch_size", "seconds", "queries", "seed")],
        *[(key, math.nan) for key in ("n", "batch_size", "seconds", "queries", "seed")],
        *[(key, math.inf) for key in ("n", "seconds", "queries")],
        ("compile", "yes"),
        ("cascade", 1),
        ("precision", 32),
        ("seed", ENDLESS),
        ("name", 3),
    ],
)
def test_evaluate_refuses_what_is_no_value_of_an_option(key, value):
    options = {"eps": 0.1, "progress": False, key: value}
    with pytest.raises(ValueError, match=rf"^{key} = .* is not allowed: {key} must be "):
        evaluate(net, (X, Y), "Linf", **options)


@pytest.mark.parametrize(
    ("key", "value"),
    [("n", "ten"), ("batch_size", 2.5), ("seed", True), ("split", 3), ("metrics", "ebd")],
)
def test_metrics_refuse_what_is_no_value_of_an_option(key, value):
    options = {"progress": False, "metrics": ["max-softmax"], key: value}
    with pytest.raises(ValueError, match=rf"^{key} = .* is not allowed: {key} must be "):
        metrics.run(net, (X, Y), **options)


@pytest.mark.parametrize(
    ("key", "value"),
    [("val", "many"), ("val", True), ("seed", 1.5), ("limit", "10"), ("unique", 1), ("bounds", 1)],
)
def test_data_refuse_what_is_no_value_of_an_option(key, value):
    with pytest.raises(ValueError, match=rf"^{key} = .* is not allowed: {key} must be "):
        data.load("digits", **{key: value})


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": True},
        {"epochs": "3"},
        {"batch_size": 1.5},
        {"clip": math.nan},
        {"amp": 16},
        {"compile": 1},
        {"seed": ENDLESS},
        {"schedule": {"path": "lr"}},
        {"validation": "PGD"},
        {"out": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_trainer_refuses_what_is_no_value_of_an_option(change, tmp_path):
    from sparring.training import Trainer

    source, goal = data.load("digits"), Objective(None, methods.Standard(), Mean())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (key,) = change
    with pytest.raises(ValueError, match=rf"^{key} = .* is not allowed: {key} must be "):
        Trainer(model, goal, source, **{"out": tmp_path / "run", **change})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("attack.steps", True),
        ("attack.steps", "3"),
        ("attack.steps", ENDLESS),
        ("method.beta", math.nan),
        ("method.beta", math.inf),
        ("threat.eps", False),
        ("threat.eps", ENDLESS),
        ("train.clip", math.inf),
        ("recipe.seed", 0.5),
        ("train.optimizer.lr", math.nan),
    ],
)
def test_a_recipe_refuses_the_same(path, value):
    tables = recipe.load_recipe("digits-mart").tables
    with pytest.raises(ValueError, match=rf"{path} = .* is not allowed: {path} must be "):
        recipe.load_recipe(tables, set={path: value})


def test_a_recipe_takes_the_numbers_that_python_takes():
    tables = recipe.load_recipe(
        "digits-mart",
        set={"threat.eps": np.float32(0.25), "attack.steps": torch.tensor(2), "method.beta": 6},
    ).tables
    assert tables["threat"]["eps"] == 0.25
    assert (tables["attack"]["steps"], tables["method"]["beta"]) == (2, 6.0)
    assert type(tables["method"]["beta"]) is float  # TOML tells 6 from 6.0


class Scaled(Component):
    """A stranger's piece, whose annotations we have not seen."""

    def __init__(self, *, by: float | Sequence[float] = 1.0, like: nn.Module | None = None) -> None:
        super().__init__()
        self.by, self.like = by, like


def test_a_piece_from_outside_is_checked_too():
    assert Scaled(by=[1, np.float64(0.5)]).config()["by"] == [1, 0.5]
    assert Scaled(like=nn.Identity()).like is not None
    with pytest.raises(ValueError, match=r"by = 'x' is not allowed: by must be a valid number or"):
        Scaled(by="x")
    assert list(inspect.signature(Scaled).parameters) == ["by", "like"]


@pytest.mark.parametrize(
    "value",
    [
        "a" * 5000,
        list(range(10**6)),
        {"a": "b" * 9000},
        ENDLESS,
        torch.zeros(500, 500),
        b"\x1b" * 999,
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_value_in_a_message_is_short_and_in_one_line(value):
    text = shortened(value)
    assert len(text) <= 101
    assert "\n" not in text
    assert "\x1b" not in text
    with pytest.raises(ValueError, match="beta = ") as error:
        MART(beta=value)
    assert len(str(error.value)) < 250
