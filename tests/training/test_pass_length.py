"""A budget of passes: what a step costs, where a training ends, and going on."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.commands.timing import training_seconds
from sparring.commands.train import train
from sparring.config.recipe import load_recipe
from sparring.methods import ALP, AT, JR, MART, OTJR, TRADES, Standard
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from sparring.training import Trainer, describe
from sparring.training.checkpoint import load_last
from sparring.training.length import is_complete
from sparring.training.pass_length import PassLength, pass_operations
from sparring.training.run_folder import read_log
from sparring.training.state import Position
from tests.training.small import D, K, equal, finish, source, trainer

PLAIN = {"climb": None, "ema": None, "schedule": [], "augment": [], "clip": None}
ROWS, BATCHES = 64, 4


def wide() -> nn.Module:
    """Layers whose backward passes cost what their forward passes cost, but for the first."""
    torch.manual_seed(0)
    widths = [D, 40, 40, 40, 40, K]
    layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(widths)]
    return nn.Sequential(*layers)


def cost(method, steps: int, **more) -> float:
    """Passes of a step, as the trainer counts them."""
    attack = None if steps == 0 else PGD(Linf(0.1), steps=steps, best=False)
    goal = Objective(attack, method, Mean())
    options = {"batch_size": 16, "passes": 100.0, "validation": None, **PLAIN, **more}
    run = Trainer(wide(), goal, source(), out=options.pop("out"), **options)
    batch = next(iter(run.loader.epoch(1)))
    run.stepper.train()
    run.stepper.begin_batch(epoch=1, index=0, progress=0.0)
    with run.length.counting(run.position, len(batch)):
        run.stepper.step(batch, epoch=1, number=1)
    return run.position.by_clock["batch_passes"]


@pytest.mark.parametrize(
    ("method", "steps", "units"),
    [
        (Standard(), 0, 3),
        (AT(), 1, 5),
        (AT(), 10, 23),
        (TRADES(), 10, 27),
        (MART(), 10, 26),
        (ALP(), 10, 26),
        (OTJR(jac=0.0), 10, 26),
        (OTJR(), 10, 29),
        (JR(), 0, 6),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else str(v),
)
def test_a_step_costs_what_the_table_of_methods_says(tmp_path, method, steps, units):
    """But for the first layer: the weights need no gradient in the inputs."""
    assert cost(method, steps, out=tmp_path) == pytest.approx(units, rel=0.06)


def test_the_unit_is_a_forward_pass_of_a_sample():
    net = wide()
    pairs = D * 40 + 3 * 40 * 40 + 40 * K
    assert pass_operations(net, torch.rand(5, D)) == 2 * pairs
    assert net.training
    with pytest.raises(ValueError, match="products: this model has none"):
        pass_operations(nn.Flatten(), torch.rand(2, D))


def test_a_training_ends_where_its_passes_do(tmp_path):
    """A method of twice the cost takes half of the steps, and its schedule runs to its end."""
    rates, steps = [], {}
    for name, k in (("few", 1), ("many", 7)):
        goal = Objective(PGD(Linf(0.1), steps=k, best=False), AT(), Mean())
        schedule = [{"path": "lr", "name": "ramp", "start": 0.0, "end": 1.0}]
        options = PLAIN | {"schedule": schedule, "optimizer": {"name": "SGD", "lr": 0.1}}
        out = tmp_path / name
        run = Trainer(
            wide(), goal, source(), out=out, passes=60.0, batch_size=16, validation=None, **options
        )
        epochs = list(run)
        steps[name] = epochs[-1].step
        rates.append(epochs[-1].lr)
        log = read_log(out)
        assert [row["epoch"] for row in log] == list(range(1, len(epochs) + 1))
        assert log[-1]["epochs"] == len(epochs)
        assert log[-1]["progress"] == pytest.approx(1, abs=0.05)
        assert is_complete(log, {"passes": 60.0, "epochs": 10})
        assert not is_complete(log[:-1], {"passes": 60.0, "epochs": 1})
        spent = load_last(out)["position"]["by_clock"]["passes"]
        assert spent == pytest.approx(60, abs=17 / BATCHES / 2 + 1e-6)
    assert steps["few"] / steps["many"] == pytest.approx(17 / 5, rel=0.06)
    assert min(rates) > 0.9, "the ramp reaches its end in both"


@pytest.mark.parametrize("joint", [1, 2], ids=["rows", "with as many of a mix"])
@pytest.mark.parametrize(
    "passes", [5.0, 10.0, 19.9, 20.0, 21.0, 24.0, 29.0, 30.0, 41.0, 44.0, 65.0]
)
def test_no_epoch_but_the_last_says_that_it_is_the_last(passes, joint):
    """A remainder of any share of an epoch makes one more, and the log announces it."""
    batches, rows, cost = 10, 100, 20.0
    length, position = PassLength(passes, rows=rows, batches=batches, unit=1.0), Position()
    length.begin()
    spent = position.by_clock
    spent |= {"batch_passes": cost, "batch_rows": joint * rows / batches, "passes": 0.0}
    announced = []
    while not length.is_over(position):
        for _ in range(batches):
            spent["passes"] += cost * joint / batches
            position.batch_index += 1
            if length.stops_epoch(position):
                break
        if length.is_last(position):
            length.finish(position)
        announced.append(length.expected(position))
        position.epoch, position.batch_index = position.epoch + 1, 0
    assert announced[-1] == len(announced)
    assert announced == [len(announced)] * len(announced)
    assert spent["passes"] == pytest.approx(passes, abs=cost * joint / batches / 2 + 1e-9)


def test_awp_that_begins_late_is_counted_from_then_on(tmp_path):
    run = trainer(tmp_path, passes=80.0, ema=None, validation=None)
    list(run)
    late = run.position.by_clock["batch_passes"]
    assert late > cost(MART(), 2, out=tmp_path / "other") + 2


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, stop):
    options = {"passes": 30.0, "save_every": 1}
    whole = finish(trainer(tmp_path / "whole", **options))
    first = trainer(tmp_path / "two", **options)
    step, done = first.stepper.step, []

    def limited(*args, **keywords):
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(1)
        return step(*args, **keywords)

    first.stepper.step = limited
    with pytest.raises(KeyboardInterrupt):
        list(first)
    second = trainer(tmp_path / "two", resume=True, **options)
    assert equal(finish(second), whole)
    assert read_log(tmp_path / "two")[-1]["step"] == read_log(tmp_path / "whole")[-1]["step"]


def test_a_recipe_with_passes(tmp_path):
    changes = {"train.passes": 40.0, "data.limit": 400, "validation.rows": 50}
    recipe = load_recipe("digits-pgd-at", set=changes)
    assert describe.length_text(recipe.tables["train"]) == "40 passes"
    assert training_seconds(recipe.build()) > 0
    run = train(recipe, out=tmp_path / "run")
    log = read_log(run)
    assert is_complete(log, recipe.tables["train"])
    assert log[-1]["epochs"] == len(log)


def test_refusals(tmp_path):
    for value in (0, -1.0, float("inf"), float("nan"), True):
        with pytest.raises(ValueError, match=r"passes = .* is not allowed: passes must be"):
            trainer(tmp_path / "a", passes=value)
    with pytest.raises(ValueError, match="passes must be left out beside seconds"):
        trainer(tmp_path / "a", passes=9.0, seconds=9.0)
    with pytest.raises(ValueError, match="passes must be left out beside compile"):
        trainer(tmp_path / "a", passes=9.0, compile=True)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match=r"passes = 0\.5 is not allowed: passes must be at least"):
        list(trainer(tmp_path / "b", passes=0.5))
