"""A run from Python: its folder holds a recipe, and loads, evaluates and reports by it."""

import json
import tomllib

import pytest
import torch
from torch import nn

import sparring
from sparring.attacks import PGD
from sparring.config.recipe import load_recipe
from sparring.methods import MART, TRADES, Method
from sparring.objective import Objective
from sparring.risks import KL, Mean
from sparring.threats import Linf
from sparring.training import Trainer, read_weights
from sparring.weights import AWP, EMA
from tests.training.small import equal, finish, network, trainer


class Own(Method):
    """A method from outside."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def loss(self, model, batch):
        return MART().loss(model, batch)


@pytest.fixture(scope="module")
def digits():
    return sparring.data.load("digits", val=100)


def python_run(out, digits, net, *, method=None, **more):
    attack = PGD(Linf(0.1, init="noise"), steps=1, size=0.1, best=False)
    goal = Objective(attack, method or TRADES(beta=3.0), KL(radius=0.05), natural=0.2)
    options = {
        "epochs": 1,
        "batch_size": 500,
        "optimizer": {"name": "SGD", "lr": 0.1},
        "schedule": [{"path": "lr", "name": "cosine"}],
        "climb": AWP(gamma=0.001),
        "ema": EMA(decay=0.5),
        "validation": PGD(Linf(0.05), steps=2),
        "rows": 50,
    }
    run = Trainer(net, goal, digits, out=out, **{**options, **more})
    finish(run)
    return run


def mlp(**more) -> nn.Module:
    return sparring.models.build("mlp", shape=(1, 8, 8), classes=10, hidden=[8], **more)


def test_a_run_of_named_pieces_loads_evaluates_and_reports(tmp_path, digits):
    out = tmp_path / "my run"
    run = python_run(out, digits, mlp(mean=0.5))
    recipe = load_recipe(out)
    assert recipe.name == "my-run"
    assert recipe.tables["data"]["val"] == 100
    assert recipe.tables["method"] == {"name": "TRADES", "beta": 3.0}
    assert recipe.tables["objective"] == {"natural": 0.2}
    assert recipe.tables["validation"]["threat"]["eps"] == 0.05
    weights = read_weights(out)
    assert equal(dict(sparring.load(out).state_dict()), weights)
    result = sparring.evaluate(out, n=20, eps=[0.05], device="cpu")
    assert result.n == 20
    assert (out / "results" / "pgd-test.json").exists()
    sparring.report([out], out=tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()
    assert json.loads((out / "data.json").read_text())["sha256"] == digits.sha256
    assert run.recipe is None


def test_the_recorded_recipe_trains_the_same_weights(tmp_path, digits):
    torch.manual_seed(0)  # the recipe draws the first weights so
    python_run(tmp_path / "a", digits, mlp(), seed=0)
    sparring.train(tmp_path / "a" / "recipe.toml", out=tmp_path / "b")
    assert equal(read_weights(tmp_path / "a"), read_weights(tmp_path / "b"))


def test_a_network_without_a_name_is_asked_for(tmp_path, digits):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    python_run(tmp_path / "run", digits, net)
    tables = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert "model" not in tables
    assert tables["data"]["name"] == "digits"
    for use in (sparring.load, sparring.evaluate):
        with pytest.raises(ValueError, match=r"on network that no recipe can name: load .*model="):
            use(tmp_path / "run")
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model = sparring.load(tmp_path / "run", model=fresh)
    assert model is fresh
    assert not model.training
    assert equal(dict(model.state_dict()), read_weights(tmp_path / "run"))
    result = sparring.evaluate(model, data=digits, eps=0.05, n=20, suite="pgd", device="cpu")
    assert result.n == 20
    with pytest.raises(ValueError, match="does not fit the model"):
        sparring.load(tmp_path / "run", model=mlp())


def test_a_network_that_was_changed_after_it_was_built_is_not_named(tmp_path, digits):
    net = mlp()
    net.relu = nn.Tanh()
    assert sparring.models.table_of(net) is None
    python_run(tmp_path / "run", digits, net)
    assert "model" not in tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())


def test_data_without_a_name_are_asked_for(tmp_path):
    finish(trainer(tmp_path / "run", epochs=1))
    with pytest.raises(ValueError, match="network and data that no recipe can name"):
        sparring.load(tmp_path / "run")
    assert sparring.load(tmp_path / "run", model=network()).training is False
    assert not (tmp_path / "run" / "data.json").exists()


def test_pieces_from_outside_are_named_and_need_trust(tmp_path, digits):
    python_run(tmp_path / "run", digits, mlp(), method=Own(weight=2.0))
    table = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())["method"]
    assert table == {"name": "tests.training.test_record:Own", "weight": 2.0}
    with pytest.raises(ValueError, match="trust"):
        sparring.load(tmp_path / "run")
    assert sparring.load(tmp_path / "run", trust=True)


def test_a_run_from_python_still_resumes(tmp_path):
    whole = finish(trainer(tmp_path / "whole"))
    next(iter(trainer(tmp_path / "run")))
    text = (tmp_path / "run" / "recipe.toml").read_bytes()
    assert equal(finish(trainer(tmp_path / "run", resume=True)), whole)
    assert (tmp_path / "run" / "recipe.toml").read_bytes() == text


def test_resuming_a_run_from_python_by_its_recipe_names_the_call(tmp_path, digits):
    python_run(tmp_path / "run", digits, mlp())
    with pytest.raises(ValueError, match=r"was trained from Python: go on there.*resume=True"):
        sparring.train(tmp_path / "run", resume=True)


def test_standard_training_is_recorded_without_attack(tmp_path, digits):
    from sparring.methods import Standard

    goal = Objective(None, Standard(), Mean())
    finish(Trainer(mlp(), goal, digits, out=tmp_path / "run", epochs=1, batch_size=500))
    assert load_recipe(tmp_path / "run").objective().attack is None
