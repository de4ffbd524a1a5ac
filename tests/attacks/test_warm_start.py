"""The warm start is the paper's algorithm, goes on after a resume, and refuses moved pixels."""

from __future__ import annotations

import pytest
import torch

from sparring.attacks import WarmStart
from sparring.batch import Batch
from sparring.config.recipe import load_recipe
from sparring.data import Cutout, Flip, GaussianNoise, Shift
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import L2, Joint, Linf
from sparring.training import Trainer
from sparring.training.checkpoint import load_last
from tests.oracles import problem
from tests.reference import training
from tests.training.small import equal, finish, network, source

EPOCHS = [[[0, 3, 5], [1, 2]], [[5, 1, 2], [0, 3]], [[2, 3, 0], [5, 1]], [[0, 1, 2], [3, 5]]]


@pytest.mark.parametrize("prepared", [0, 6])
def test_the_literal_algorithm(prepared):
    model, x, y = problem()
    options = {"steps": 2, "size": 0.03, "reset": 3}
    attack = WarmStart(Linf(0.1), storage="float32", **options)
    attack.prepare(prepared)
    objective, threat, found, epochs = Objective(attack, AT(), Mean()), Linf(0.1), [], []
    for number, batches in enumerate(EPOCHS):
        epochs.append([])
        for k, rows in enumerate(batches):
            index = torch.tensor(rows)
            batch = Batch(x[index], y[index], index=index)
            seed = 10 * number + k
            starts = threat.random_start(batch, torch.Generator().manual_seed(seed))
            epochs[-1].append((rows, starts))
            attack.reseed(seed)
            batch = objective.maximize(model, batch)
            found.append(batch.x_adv)
            objective.update(model, batch)
    expected = training.atta(model, epochs, x, y, eps=0.1, **options)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_step_that_is_not_taken_keeps_nothing():
    """`maximize` alone, as of AWP or a search for the learning rate, moves no state."""
    model, x, y = problem()
    attack = WarmStart(Linf(0.1))
    Objective(attack, AT(), Mean()).maximize(model, Batch(x, y))
    assert attack.get_extra_state() is None


def test_half_precision_stays_in_the_ball():
    model, x, y = problem(dtype=torch.float32)
    attack = WarmStart(Linf(0.1), reset=None)
    objective = Objective(attack, AT(), Mean())
    for _ in range(4):
        batch = objective.maximize(model, Batch(x, y))
        assert ((batch.x_adv - x).abs() <= 0.1 + 1e-6).all()
        objective.update(model, batch)
    assert attack.get_extra_state()["delta"].dtype == torch.float16
    assert attack.get_extra_state()["uses"].tolist() == [4] * 8 + [0]


def test_it_climbs_over_the_epochs():
    model, x, y = problem(b=40)
    attack = WarmStart(Linf(0.2, init="zero"), steps=1, size=0.02, reset=None, storage="float32")
    objective, losses = Objective(attack, AT(), Mean()), []
    for _ in range(8):
        batch = objective.maximize(model, Batch(x, y))
        losses.append(objective.minimize(model, batch).total.item())
        objective.update(model, batch)
    assert losses == sorted(losses)
    assert losses[-1] > losses[0]


def test_rows_of_no_data_set_start_at_random():
    model, x, y = problem()
    attack = WarmStart(Linf(0.1, init="zero"), steps=1, size=0.01, reset=None, storage="float32")
    objective = Objective(attack, AT(), Mean())
    index = torch.tensor([0, 1, 2, 3, -1, -1, -1, -1])
    for _ in range(2):
        batch = objective.maximize(model, Batch(x, y, index=index))
        objective.update(model, batch)
    distance = (batch.x_adv - x).abs().amax(1)
    assert (distance[4:] <= 0.01 + 1e-9).all()
    assert (distance[:4] > 0.015).all()


def run(out, **more) -> Trainer:
    goal = Objective(WarmStart(Linf(0.1), steps=1, reset=2), AT(), Mean())
    options = {"epochs": 3, "batch_size": 16, "augment": [GaussianNoise(std=0.01)]} | more
    return Trainer(network(), goal, source(), out=out, **options)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_goes_on_from_the_same_points(tmp_path, stop):
    for epoch in run(tmp_path / "a"):
        if epoch.number == stop:
            break
    state = load_last(tmp_path / "a")["objective"]["attack._extra_state"]
    assert state["delta"].shape == (65, 6)
    assert (state["delta"][:64].abs().amax(1) > 0).all()
    assert equal(finish(run(tmp_path / "a", resume=True)), finish(run(tmp_path / "b")))


@pytest.mark.parametrize("piece", [Flip(), Shift(), GaussianNoise(), Cutout()])
def test_augmentations_that_move_pixels_are_refused(tmp_path, piece):
    assert piece.moves_pixels == isinstance(piece, Flip | Shift)
    if piece.moves_pixels:
        message = r"augment has (Flip|Shift)\(\), which may move pixels, and WarmStart keeps"
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", augment=[piece])
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps = 0 is not allowed"),
        ({"size": 0.0}, r"size = 0\.0 is not allowed: size must be a length > 0"),
        ({"reset": 0}, "reset = 0 is not allowed"),
        ({"storage": "int8"}, "storage = 'int8' is not allowed: storage must be one of float16"),
        (
            {"threat": Joint(L2(0.3), scale=0.5, delta=0.4, classes=3)},
            "threat must be a threat without labels for WarmStart",
        ),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        WarmStart(**{"threat": Linf(0.1), **options})


def test_a_recipe_names_it():
    changes = {"attack": {"name": "WarmStart", "steps": 1}, "data.augment": []}
    objective = load_recipe("digits-pgd-at", set=changes).objective()
    assert isinstance(objective.attack, WarmStart)
    assert objective.attack.steps == 1
