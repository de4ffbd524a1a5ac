"""Train by a recipe in a folder that is not kept."""

from __future__ import annotations

import tempfile
from typing import Any, NamedTuple

import torch
from torch import nn

from ..config.recipe import Recipe
from ..data import Source
from ..models import load_weights
from ..training import Epoch, Trainer, read_weights


class TrainedNetwork(NamedTuple):
    """Hold a network with its best weights, on the CPU and in eval mode, and its epochs."""

    network: nn.Module
    epochs: list[Epoch]
    best: dict[str, Any]


def trained(recipe: Recipe, source: Source, network: Any, *, verbose: bool) -> TrainedNetwork:
    """Train a network by a recipe on a source.

    Arguments:
        network: makes it from `shape` and `classes`; None: the recipe's.
    """
    filled = recipe.with_data(source)
    if network is None:
        model = filled.network()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = network(shape=source.shape, classes=source.classes)
    with tempfile.TemporaryDirectory() as folder:
        settings = {**filled.trainer(), "recipe": None, "progress": verbose}
        trainer = Trainer(model, filled.objective(), source, out=folder, **settings)
        epochs, model = list(trainer), trainer.model
        load_weights(model, read_weights(folder))
    return TrainedNetwork(model.cpu().eval().requires_grad_(True), epochs, trainer.position.best)
