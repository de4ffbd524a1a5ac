"""The warm start is the paper's algorithm, goes on after a resume, and refuses moved pixels."""

from __future__ import annotations

import pytest
import torch

from sparring.attacks import WarmStart
from sparring.attacks.warm_start import moved, placed
from sparring.batch import Batch
from sparring.config.recipe import load_recipe
from sparring.data import Augment, Crop, Cutout, Flip, GaussianNoise, Loader, Shift, Source, Split
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import L2, Joint, Linf
from sparring.training import Trainer, checks
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


@pytest.mark.parametrize("damage", [{"delta": torch.zeros(3, 6)}, {"uses": torch.zeros(65)}])
def test_a_damaged_state_is_refused(tmp_path, damage):
    next(iter(run(tmp_path / "a")))
    attack = WarmStart(Linf(0.1))
    state = load_last(tmp_path / "a")["objective"]["attack._extra_state"]
    attack.set_extra_state(state)
    with pytest.raises(ValueError, match="perturbations of WarmStart are damaged"):
        attack.set_extra_state(state | damage)


class Blurred(Augment):
    """A piece that says nothing of pixels."""

    def forward(self, x, generator=None):
        return x


def test_augmentations_that_cannot_be_followed_are_refused(tmp_path):
    message = r"augment has Blurred\(\), which may change where pixels are in a way that WarmStart"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", augment=[GaussianNoise(), Blurred()])
    with pytest.raises(ValueError, match=r"augment has Shift\(\), which may change where pixels"):
        checks.prepare_warm_start(WarmStart(Linf(0.1)), source().train, [Shift()], mixed=True)
    assert not (tmp_path / "run").exists()
    kinds = [piece.places for piece in (Flip(), Shift(), Crop(), Cutout(), GaussianNoise())]
    assert kinds == ["moved"] * 3 + ["kept"] * 2


PIECES = [Shift(pixels=2), GaussianNoise(std=0.01), Flip(), Crop(pad=1), Cutout(size=2)]


def loader(augment, **more) -> Loader:
    draw = torch.Generator().manual_seed(1)
    split = Split(torch.rand(6, 2, 5, 4, generator=draw), torch.arange(6) % 3)
    return Loader(split, batch_size=3, shuffle=True, augment=augment, **more)


def test_following_pixels_changes_no_batch():
    pairs = zip(loader(PIECES).epoch(2), loader(PIECES, follow_pixels=True).epoch(2), strict=True)
    for plain, followed in pairs:
        assert torch.equal(plain.x, followed.x)
        assert followed.x.is_contiguous()
        assert torch.equal(plain.index, followed.index)
        assert followed.extra["pixel"].shape == (3, 5, 4)
    assert "pixel" not in next(loader([GaussianNoise()], follow_pixels=True).epoch(1)).extra


def test_a_perturbation_moves_with_its_pixels():
    """Moved and placed are what the augmentation itself does to an image of perturbations."""
    moving = [Shift(pixels=2), Flip(), Crop(pad=1)]
    delta = torch.randn(6, 2, 5, 4, generator=torch.Generator().manual_seed(2))
    of_delta = Loader(
        Split(delta, torch.zeros(6).long()), batch_size=3, shuffle=True, augment=moving
    )
    for batch, image in zip(
        loader(moving, follow_pixels=True).epoch(3), of_delta.epoch(3), strict=True
    ):
        pixel = batch.extra["pixel"]
        assert torch.equal(moved(delta[batch.index], pixel), image.x)
        back = placed(image.x, pixel, torch.zeros_like(image.x))
        seen = placed(torch.ones_like(image.x), pixel, torch.zeros_like(image.x)) > 0
        assert torch.equal(back, delta[batch.index] * seen)
        assert not seen.all()


def test_through_augmentation_an_epoch_starts_at_the_moved_points():
    data = loader([Shift(pixels=1), Flip()], follow_pixels=True)
    attack = WarmStart(Linf(0.2), steps=1, size=0.05, reset=None, storage="float32")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40, 3))
    objective = Objective(attack, AT(), Mean())
    for batch in data.epoch(1):
        objective.update(model, objective.maximize(model, batch))
    delta = attack.get_extra_state()["delta"].clone()
    for batch in data.epoch(2):
        start = moved(delta[batch.index], batch.extra["pixel"])
        assert torch.equal(attack._start(batch), Linf(0.2).project(batch.x + start, batch))
        assert (start != 0).any()


def test_images_with_crops_and_flips_resume_bit_for_bit(tmp_path):
    draw = torch.Generator().manual_seed(3)
    x, y = torch.rand(24, 1, 6, 6, generator=draw), torch.arange(24) % 3
    parts = [Split(x, y), Split(x[:8], y[:8]), Split(x[:8], y[:8])]
    data = Source("images", *parts, list("abc"), sha256="images")

    def images(out, **more):
        with torch.random.fork_rng():
            torch.manual_seed(4)
            net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
        goal = Objective(WarmStart(Linf(0.1), steps=1), AT(), Mean())
        options = {"epochs": 3, "batch_size": 8, "augment": [Crop(pad=1), Flip()]} | more
        return Trainer(net, goal, data, out=out, **options)

    next(iter(images(tmp_path / "a")))
    assert equal(finish(images(tmp_path / "a", resume=True)), finish(images(tmp_path / "b")))


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
