"""Data that were put together by hand: labels, shapes and sizes are checked before a training."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from sparring.attacks import PGD
from sparring.data import Flip, Source, Split
from sparring.methods import AT, TRADES, UAT, SemiSupervised
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf
from sparring.training import Trainer
from sparring.weights import EMA
from tests.training.small import D, equal, finish, network, source


def training(data: Source, out, **more) -> Trainer:
    goal = Objective(PGD(Linf(0.1), steps=2), TRADES(), Mean())
    options = {"epochs": 1, "batch_size": 16, "validation": PGD(Linf(0.1), steps=2)}
    return Trainer(network(), goal, data, out=out, **{**options, **more})


def labelled(name: str, y: torch.Tensor) -> Source:
    split = getattr(source(), name)
    return replace(source(), **{name: replace(split, y=y)})


def changed(name: str, *, rows: slice = slice(None), **fields) -> Source:
    split = replace(getattr(source(), name), **fields)
    return replace(source(), **{name: split.take(rows)})


WRONG = {  # how the data are made: some mistakes are found there, others by the trainer
    "one-hot": (
        lambda: labelled("train", torch.eye(3)[torch.arange(64) % 3]),
        "labels of shape (64, 3), float32: labels must be integers",
    ),
    "floats": (
        lambda: labelled("train", torch.rand(64)),
        "labels of shape (64,), float32: labels must be integers",
    ),
    "too large": (
        lambda: labelled("train", torch.arange(64) % 4),
        "labels from 0 to 3: with 3 classes",
    ),
    "below -1": (lambda: labelled("val", torch.arange(16) - 5), "val has labels from -5"),
    "too few": (lambda: labelled("train", torch.arange(60) % 3), "64 samples and 60 labels"),
    "none": (
        lambda: labelled("train", torch.full((64,), -1)),
        "train has no labels: all of its 64 rows",
    ),
    "none to validate": (lambda: labelled("val", torch.full((16,), -1)), "val has no labels"),
    "no rows": (lambda: changed("train", rows=slice(0, 0)), "train has no rows"),
    "no val": (lambda: changed("val", rows=slice(0, 0)), "corners val has no rows"),
    "other shape": (lambda: changed("train", x=torch.rand(64, D + 1)), "shape (7,), val of (6,)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_data_are_refused_before_the_first_epoch(kind, tmp_path):
    make, message = WRONG[kind]
    with pytest.raises(ValueError, match=re.escape(message)):
        training(make(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_truth_values_train_as_the_labels_0_and_1(tmp_path):
    def data(kind: torch.dtype) -> Source:
        splits = {name: getattr(source(), name) for name in ("train", "val", "test")}
        halves = {n: replace(split, y=(split.y == 0).to(kind)) for n, split in splits.items()}
        return replace(source(), **halves)

    twin = finish(training(data(torch.int64), tmp_path / "twin"))
    assert equal(finish(training(data(torch.bool), tmp_path / "run")), twin)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("objective", TRADES()),
        ("objective", None),
        ("validation", Linf(0.1)),
        ("climb", "AWP"),
        ("climb", EMA()),
        ("ema", 0.99),
        ("augment", Flip()),
        ("augment", ["Flip"]),
        ("mix", [Flip()]),
        ("schedule", {"path": "lr", "name": "cosine"}),
        ("schedule", ["cosine"]),
        ("schedule", "cosine"),
        ("resume", "yes"),
        ("compile", 1),
    ],
    ids=str,
)
def test_arguments_of_another_type_are_refused(key, value, tmp_path):
    pieces = {"objective": Objective(None, TRADES(), Mean()), key: value}
    with pytest.raises(ValueError, match=rf"^{key}(\.0)? = .* is not allowed"):
        Trainer(network(), source=source(), out=tmp_path / "run", **pieces)


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source = 'tuple' is not allowed"):
        training((torch.rand(4, D), torch.zeros(4)), tmp_path / "run")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_train_alike(dtype, tmp_path):
    twin = finish(training(source(), tmp_path / "twin"))
    splits = {
        name: replace(getattr(source(), name), y=getattr(source(), name).y.to(dtype))
        for name in ("train", "val", "test")
    }
    assert equal(finish(training(replace(source(), **splits), tmp_path / "run")), twin)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_inputs_of_any_float_type_train(dtype, tmp_path):
    splits = {
        name: replace(getattr(source(), name), x=getattr(source(), name).x.to(dtype))
        for name in ("train", "val", "test")
    }
    finish(training(replace(source(), **splits), tmp_path / "run"))


def test_a_class_that_train_lacks_is_named(tmp_path):
    train = source().train
    data = replace(source(), train=train.take(train.y != 1))
    with pytest.warns(
        SparringWarning, match="corners train has no rows of 'b', which are measured"
    ):
        finish(training(data, tmp_path / "run"))


def test_one_row_of_validation_and_a_large_batch(tmp_path):
    data = replace(source(), val=source().val.take(slice(0, 1)))
    run = training(data, tmp_path / "run", batch_size=1000)
    finish(run)
    assert [len(batch) for batch in run.loader.epoch(1)] == [64]


def test_one_row_to_train_on(tmp_path):
    split = Split(torch.rand(1, D), torch.tensor([0]))
    data = replace(source(), train=split, val=split, test=split)
    goal = Objective(PGD(Linf(0.1), steps=2), TRADES(), Mean())
    finish(Trainer(network(noisy=False), goal, data, out=tmp_path / "run", epochs=2))


@pytest.mark.parametrize("single", ["labelled", "unlabelled"])
def test_one_row_of_its_kind_in_a_batch_trains_under_batch_norm(single, tmp_path):
    train = source().train
    alone = torch.arange(64) % 16 == 3
    y = torch.where(alone if single == "unlabelled" else ~alone, -1, train.y)
    method = SemiSupervised(of=AT(), unlabelled=UAT(fixed=0.0))
    goal = Objective(PGD(Linf(0.1), steps=2), method, Mean())
    data = replace(source(), train=replace(train, y=y))
    net = network()
    finish(Trainer(net, goal, data, out=tmp_path / "run", epochs=2, batch_size=8))
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_a_short_last_batch_is_told_where_it_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    message = r"last batch .* has 4 rows in place of 20, .*: batch_size = 16 divides the 64 rows"
    with pytest.warns(SparringWarning, match=message):
        training(source(), tmp_path / "short", compile=True, batch_size=20)
    training(source(), tmp_path / "whole", compile=True, batch_size=16)  # warnings are errors
    training(source(), tmp_path / "eager", batch_size=20)
