"""Numbers out of their range are refused before anything is written; those of numpy work."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.config.recipe import load_recipe, names
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import L1, L2, Bits, Joint, Linf, Only, SoftLinf
from sparring.training import Trainer
from sparring.training.optimizer import make_optimizer, optimizer_names
from sparring.training.schedule import bind_schedules
from sparring.weights import EMA
from tests.training.small import D, K, equal, finish, network, source, trainer

NOT_COUNTS = (0, -1, 2.7, True, math.nan, math.inf, "3", [3], np.float64(2.5))


@pytest.mark.parametrize("key", ["epochs", "batch_size", "every", "rows", "save_every"])
@pytest.mark.parametrize("value", NOT_COUNTS, ids=repr)
def test_counts_are_whole_numbers_above_0(key, value, tmp_path):
    with pytest.raises(
        ValueError, match=rf"^{key} = .* is not allowed: .* (an integer ≥ 1|a valid integer)"
    ):
        trainer(tmp_path / "run", **{key: value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [0.5, True, math.nan, "0", None], ids=repr)
def test_the_seed_is_a_whole_number(value, tmp_path):
    with pytest.raises(ValueError, match=r"^seed = .* is not allowed"):
        trainer(tmp_path / "run", seed=value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1"], ids=repr)
def test_clip_is_a_finite_norm(value, tmp_path):
    with pytest.raises(
        ValueError, match=r"^clip = .* must be a (finite norm > 0,|valid number) or None"
    ):
        trainer(tmp_path / "run", clip=value)


@pytest.mark.parametrize("value", ["none", "attack", 2, None], ids=repr)
def test_compile_is_off_for_the_attack_or_for_all(value, tmp_path):
    with pytest.raises(ValueError, match=r"^compile = .* is not allowed: compile must be "):
        trainer(tmp_path / "run", compile=value)
    assert load_recipe("digits-mart", set=["train.compile=all"]).tables["train"]["compile"] == "all"
    assert load_recipe("digits-mart").tables["train"]["compile"] is False
    with pytest.raises(ValueError, match=r"train\.compile = 'al' is not allowed: .*\"all\""):
        load_recipe("digits-mart", set=["train.compile=al"])


def test_numbers_of_numpy_and_whole_floats_train_and_resume_as_integers(tmp_path):
    options = {"epochs": 2, "batch_size": 16, "every": 1, "rows": 12, "seed": 3, "save_every": 2}
    twin = finish(trainer(tmp_path / "twin", **options, clip=1.0))
    for kind in (np.int64, np.float64, float):  # 2.0 is a whole number too
        out = tmp_path / kind.__name__
        given = {key: kind(value) for key, value in options.items()}
        assert equal(finish(trainer(out, **given, clip=np.float64(1.0))), twin)
        finish(trainer(out, **options, clip=1.0, resume=True))


def defaults(name: str) -> dict[str, object]:
    return make_optimizer(name, nn.Linear(2, 2, bias=False)).defaults


OPTIMIZERS = [
    (name, key)
    for name in optimizer_names()
    for key in ("lr", "momentum", "weight_decay", "betas", "alpha", "rho", "eps", "dampening")
    if key in defaults(name)
]


@pytest.mark.parametrize(("name", "key"), OPTIMIZERS, ids="-".join)
def test_numbers_of_every_optimizer(name, key):
    several = isinstance(defaults(name)[key], tuple)
    wrong = [math.nan, math.inf, True, "1", None, [0.9], {}]
    wrong += [] if key == "dampening" else [-0.5]
    wrong += [0, 0.0] if key == "lr" else []
    wrong += [1.0, 2] if key in ("betas", "momentum") else []
    for value in wrong:
        table = {"name": name, key: [value, value] if several else value}
        with pytest.raises(ValueError, match=rf"^optimizer\.{key} = .* is not allowed"):
            make_optimizer(table, nn.Linear(2, 2, bias=False))
    good = defaults(name)[key]
    make_optimizer({"name": name, key: good}, nn.Linear(2, 2, bias=False))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, "optimizer = 3 is not allowed"),
        (None, "optimizer = None"),
        ({"name": "SGD", "nesterov": 1}, r"optimizer\.nesterov = 1 is not allowed.*true or false"),
        ({"name": "SGD", "nesterov": True}, "Nesterov"),
        ("SparseAdam", "does not exist"),
    ],
)
def test_what_is_no_optimizer(config, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(config, network())


SCHEDULES = {
    "up beyond the end": ({"name": "one-cycle", "up": 7}, r"schedule\.up = 7 .* 3 epochs"),
    "warm-up beyond the end": ({"name": "cosine", "warmup": 4}, r"schedule\.warmup = 4"),
    "since beyond the end": ({"name": "cosine", "since": 4}, r"schedule\.since = 4"),
    "negative": ({"name": "cosine", "warmup": -0.1}, r"schedule\.warmup = -0\.1"),
    "nan position": ({"name": "warmup", "until": math.nan}, r"schedule\.until = nan"),
    "infinite position": ({"name": "warmup", "until": math.inf}, r"schedule\.until = inf"),
    "truth value": ({"name": "warmup", "until": True}, r"schedule\.until = True"),
    "text": ({"name": "piecewise", "at": ["1"]}, r"schedule\.at = '1'"),
    "one number": ({"name": "piecewise", "at": 0.5}, r"schedule\.at = 0\.5 .* a list"),
    "unsorted": ({"name": "piecewise", "at": [0.7, 0.5]}, "in rising order"),
    "unsorted, with epochs": ({"name": "piecewise", "at": [2, 0.5]}, "in rising order"),
    "until before since": ({"name": "ramp", "since": 0.5, "until": 0.2}, "at least since = 0.5"),
    "nan": ({"name": "ramp", "start": math.nan}, r"schedule\.start = nan .* finite"),
    "infinite": ({"name": "constant", "value": math.inf}, r"schedule\.value = inf .* finite"),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules(kind, tmp_path):
    table, message = SCHEDULES[kind]
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run", schedule=[{"path": "lr", **table}])
    assert not (tmp_path / "run").exists()


OUT_OF_RANGE = {
    "lr": ({"path": "lr", "name": "ramp", "start": -1}, "schedule of lr: lr = -1"),
    "end of a cosine": ({"path": "lr", "name": "cosine", "end": -0.5}, "schedule of lr: lr = -0"),
    "momentum": ({"path": "optimizer.momentum", "name": "ramp", "end": 1.5}, "momentum = 1.5"),
    "eps": (
        {"path": "threat.eps", "name": "ramp", "start": -1},
        "of threat.eps: eps = -1",
    ),
    "gamma": ({"path": "weights.climb.gamma", "name": "ramp", "start": -1}, "gamma = -1"),
    "decay": ({"path": "weights.ema.decay", "name": "ramp", "end": 1}, "decay = 1"),
    "beta": ({"path": "method.beta", "name": "ramp", "start": -2}, "beta = -2"),
    "natural": ({"path": "natural", "name": "ramp", "end": 3}, "natural = 3"),
}


@pytest.mark.parametrize("kind", OUT_OF_RANGE)
def test_a_schedule_keeps_to_the_range_of_its_number(kind, tmp_path):
    table, message = OUT_OF_RANGE[kind]
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer(tmp_path / "run", schedule=[table])


@pytest.mark.parametrize("name", names())
def test_the_schedules_of_shipped_recipes_are_in_range(name):
    recipe = load_recipe(name)
    settings, model = recipe.trainer(), network()
    bind_schedules(
        settings["schedule"],
        optimizer=make_optimizer(settings["optimizer"], model),
        objective=recipe.objective(),
        epochs=settings["epochs"],
        climb=settings.get("climb"),
        ema=settings.get("ema"),
    )


@pytest.mark.parametrize(
    "table",
    [
        {"name": "piecewise", "at": [1, 2, 200]},
        {"name": "ramp", "until": 30},
        {"name": "one-cycle", "up": 3},
        {"name": "ramp", "since": 0.3, "until": 0.3},
    ],
)
def test_schedules_that_a_shorter_trial_cuts_are_allowed(table, tmp_path):
    trainer(tmp_path / "run", schedule=[{"path": "lr", **table}])


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
def test_the_decay_of_an_average(decay):
    with pytest.raises(ValueError, match="decay"):
        EMA(decay=decay)


def wide(low: float = 0.0) -> Linf:
    """A radius that its constructor refuses, set afterwards."""
    threat = Linf(1.0, low=low)
    threat.eps = 8.0
    return threat


TOO_LARGE = {
    "Linf": wide(),
    "Linf in another box": wide(low=-1.0),
    "L2": L2(3.0),
    "L1": L1(7.0),
    "only": Only(wide(), classes=[1]),
    "joint": Joint(wide(), scale=1.0, delta=0.4, classes=K),
    "both": Joint(Only(wide(), classes=[1]), scale=1.0, delta=0.4, classes=K),
    "soft": SoftLinf(8.0),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_radius_that_holds_the_whole_box_is_refused(kind, tmp_path):
    goal = Objective(PGD(TOO_LARGE[kind], steps=1), AT(), Mean())
    with pytest.raises(ValueError, match="the width of the box"):
        Trainer(network(), goal, source(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_so_it_is_by_the_objective_in_a_loop_without_the_trainer(kind):
    goal = Objective(PGD(TOO_LARGE[kind], steps=1), AT(), Mean())
    with pytest.raises(ValueError, match="the width of the box"):
        goal.maximize(network().eval(), Batch(torch.rand(4, D), torch.arange(4) % K))


def test_so_is_that_of_the_validation(tmp_path):
    with pytest.raises(ValueError, match=r"eps = 8\.0 is not allowed.*\(8/255\?\)"):
        trainer(tmp_path / "run", validation=PGD(wide()))


@pytest.mark.parametrize(
    "table",
    [
        {"name": "ramp", "end": 8},
        {"name": "ramp", "start": 8},
        {"name": "constant", "value": 8},
        {"name": "piecewise", "at": [0.5], "factor": 100},
    ],
)
@pytest.mark.parametrize("path", ["attack.threat.eps", "threat.eps"])
def test_so_is_one_that_a_schedule_reaches(table, path, tmp_path):
    with pytest.raises(ValueError, match=rf"^schedule of {path}(, at .*)?: eps = .* is not"):
        trainer(tmp_path / "run", schedule=[{"path": path, **table}])


def test_the_check_of_a_schedule_leaves_the_number(tmp_path):
    run = trainer(tmp_path / "run")
    assert run.stepper.objective.attack.threat.eps == 0.1


@pytest.mark.parametrize("threat", [Linf(1.0), L2(D**0.5 - 1e-6), Bits(D + 9), SoftLinf(1.0)])
def test_the_largest_radius_is_allowed(threat, tmp_path):
    goal = Objective(PGD(threat, steps=1), AT(), Mean())
    data = source()
    if isinstance(threat, Bits):
        data.train.x.round_()
        data.val.x.round_()
    finish(Trainer(network(), goal, data, out=tmp_path / "run", epochs=1, batch_size=16))
