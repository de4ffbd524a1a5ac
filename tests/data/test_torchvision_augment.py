"""Transforms of torchvision: draws of their own, labels mixed, on one process or two."""

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from sparring.config.recipe import load_recipe
from sparring.data import Flip, Loader, Source, Split, Torchvision, load
from sparring.training import Trainer
from tests.torchvision_on_cpu import declare_operators

SHAPE = (3, 12, 12)
KEEPING = ["TrivialAugmentWide", "RandAugment", "AugMix", "RandomHorizontalFlip"]
KEEPING += ["RandomErasing", "RandomResizedCrop", "RandomAutocontrast", "GaussianNoise"]


@pytest.fixture(autouse=True, scope="module")
def torchvision():
    declare_operators()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def source(n=12):
    split = Split(torch.rand(n, *SHAPE), torch.arange(n) % 3)
    return Source("made", split, split, split, ["a", "b", "c"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", KEEPING)
def test_keeps_shape_bounds_and_the_global_state(name, channels):
    torch.manual_seed(5)
    x, state = torch.rand(6, channels, 12, 12), torch.get_rng_state()
    kept, piece = x.clone(), Torchvision(transform=name)
    first, again, other = (piece(x, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, kept)
    assert first.shape == x.shape
    assert first.dtype == x.dtype
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other) or name == "RandomAutocontrast"


def test_each_sample_gets_draws_of_its_own():
    x = torch.rand(1, *SHAPE).expand(20, *SHAPE)
    out = Torchvision(transform="TrivialAugmentWide")(x, generator())
    assert len({tuple(row.flatten().tolist()) for row in out}) > 5


def test_resized_crop_gets_the_size_of_the_data():
    out = Torchvision(transform="RandomResizedCrop", arguments={"scale": [0.2, 0.5]})(
        torch.rand(2, *SHAPE), generator()
    )
    assert out.shape == (2, *SHAPE)


@pytest.mark.parametrize("name", ["CutMix", "MixUp"])
def test_mixing_gives_probabilities(name):
    piece = Torchvision(transform=name)
    piece.prepare(source())
    x, y = torch.rand(6, *SHAPE), torch.tensor([0, 1, 2, 0, 1, 2])
    state = torch.get_rng_state()
    x_mixed, y_mixed = piece.apply_to(x, y, generator())
    again = piece.apply_to(x, y, generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x_mixed, again[0])
    assert y_mixed.shape == (6, 3)
    assert torch.allclose(y_mixed.sum(1), torch.ones(6))
    assert (y_mixed.gather(1, y[:, None]) > 0).all()
    # the label's share is the share of the pixels: MixUp's on each pixel, CutMix's as area
    own = y_mixed[0, 0].item()
    if name == "MixUp":
        assert torch.allclose(x_mixed[0], own * x[0] + (1 - own) * x[-1], atol=1e-6)
    else:
        kept = (x_mixed[0] == x[0]).all(0).float().mean().item()
        assert own == pytest.approx(kept, abs=1e-6)


def test_mixing_twice_and_a_batch_of_one():
    cut, mix = Torchvision(transform="CutMix"), Torchvision(transform="MixUp")
    for piece in (cut, mix):
        piece.prepare(source())
    x, y = cut.apply_to(torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 0]), generator())
    x, y = mix.apply_to(x, y, generator())
    assert torch.allclose(y.sum(1), torch.ones(4))
    _, y = cut.apply_to(torch.rand(1, *SHAPE), torch.tensor([2]), generator())
    assert y.tolist() == [[0, 0, 1]]


def test_mixing_refuses_rows_without_label():
    piece = Torchvision(transform="CutMix")
    piece.prepare(source())
    with pytest.raises(ValueError, match=r"CutMix mixes labels, and some rows have none"):
        piece.apply_to(torch.rand(2, *SHAPE), torch.tensor([0, -1]), generator())
    with pytest.raises(ValueError, match="it needs them beside the inputs"):
        piece(torch.rand(2, *SHAPE))


def test_the_loader_replays_an_epoch():
    pieces = [Torchvision(transform="TrivialAugmentWide"), Flip(), Torchvision(transform="CutMix")]
    for piece in pieces:
        piece.prepare(source())
    loader = Loader(source().train, batch_size=6, shuffle=True, augment=pieces)
    first, again, next_one = (list(loader.epoch(k)) for k in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert a.y.shape == (6, 3)
    assert not torch.equal(first[0].x, next_one[0].x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transform": "TrivialAugment"}, "did you mean 'TrivialAugmentWide'"),
        ({"transform": "ColorJitter", "arguments": {"bright": 1}}, "arguments = 'bright' is not"),
        ({"transform": "ColorJitter", "arguments": {"brightness": -3}}, "cannot be made"),
        ({"transform": "Resize", "arguments": {"size": [5, 5]}}, "must keep the shape"),
        ({"transform": "Lambda", "arguments": {"lambd": "os.remove"}}, "Lambda' fails"),
    ],
)
def test_what_is_no_augmentation(arguments, message):
    with pytest.raises(ValueError, match=message):
        Torchvision(**arguments)(torch.rand(2, *SHAPE), generator())


def test_images_alone_are_changed():
    with pytest.raises(ValueError, match=r"changes images \(b, c, h, w\)"):
        Torchvision(transform="ColorJitter")(torch.rand(2, 5))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(ValueError, match=r"Torchvision needs the package torchvision.*\[timm\]"):
        Torchvision(transform="CutMix").prepare(load("digits"))


def recipe(*augment: Any, **tables: Any) -> Any:
    base: dict[str, Any] = {
        "recipe": {"name": "run"},
        "data": {"name": "digits", "limit": 60, "val": 20, "augment": list(augment)},
        "model": {"name": "mlp", "hidden": [16]},
        "threat": {"name": "Linf", "eps": 0.1},
        "attack": {"name": "PGD", "steps": 2},
        "method": "AT",
        "train": {"epochs": 2, "batch_size": 20},
    }
    return load_recipe({**base, **tables})


CUTMIX = {"name": "Torchvision", "transform": "CutMix"}
TRIVIAL = {"name": "Torchvision", "transform": "TrivialAugmentWide"}


def trainer(loaded, out, **options):
    built = loaded.build()
    return Trainer(built.model, built.objective, built.source, **built.trainer, out=out, **options)


@pytest.mark.parametrize("method", ["AT", "TRADES", "ALP", "MART", "OTJR", "Sparsity", "Standard"])
def test_methods_train_on_mixed_labels(method, tmp_path):
    tables: dict[str, Any] = {"method": method}
    assert len(list(trainer(recipe(TRIVIAL, CUTMIX, **tables), tmp_path / "run"))) == 2


@pytest.mark.parametrize(
    "tables",
    [
        {"risk": {"name": "PerClass", "of": "Mean", "classes": [1]}},
        {"threat": {"name": "Only", "of": {"name": "Linf", "eps": 0.1}, "classes": [1]}},
    ],
)
def test_pieces_that_need_one_class_refuse_mixed_labels(tables, tmp_path):
    with pytest.raises(ValueError, match=r"CutMix.*needs one class per sample"):
        trainer(recipe(CUTMIX, **tables), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_added_rows_refuse_mixed_labels(tmp_path):
    loaded = recipe(CUTMIX)
    loaded.tables["data"]["mix"] = [{"name": "GaussianShell"}]
    built = loaded.build()
    with pytest.raises(ValueError, match="mixed labels need batches without mix"):
        Trainer(built.model, built.objective, built.source, **built.trainer, out=tmp_path / "run")


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    loaded = recipe(TRIVIAL, CUTMIX)
    whole = trainer(loaded, tmp_path / "whole")
    list(whole)
    next(iter(trainer(loaded, tmp_path / "cut")))
    resumed = trainer(loaded, tmp_path / "cut", resume=True)
    list(resumed)
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_resolved_recipe_holds_the_arguments():
    piece = {"name": "Torchvision", "transform": "ColorJitter", "arguments": {"brightness": 0.3}}
    loaded = recipe(piece)
    assert loaded.tables["data"]["augment"] == [piece]
    assert load_recipe(loaded.tables) == loaded


def test_data_with_other_bounds_are_refused():
    split = Split(torch.zeros(4, *SHAPE) - 1, torch.arange(4) % 2)
    source = Source("mine", split, split, split, ["a", "b"], bounds=(-1.0, 1.0))
    with pytest.raises(ValueError, match=r"bounds of mine = \(-1\.0, 1\.0\).* must be \[0, 1\]"):
        Torchvision(transform="ColorJitter").prepare(source)
    Torchvision(transform="ColorJitter").prepare(replace(source, bounds=(0.0, 1.0)))
