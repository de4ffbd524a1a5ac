"""Train by a recipe in a folder that is not kept."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any, NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from ..config.recipe import Recipe
from ..data import Source
from ..models import load_weights
from ..runtime.warning import SparringWarning
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
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # said once, below, as scikit-learn says it
        warnings.filterwarnings("ignore", "after epoch .* no better than chance", SparringWarning)
        settings = {**filled.trainer(), "recipe": None, "progress": verbose}
        trainer = Trainer(model, filled.objective(), source, out=folder, **settings)
        epochs, model = list(trainer), trainer.model
        load_weights(model, read_weights(folder))
    if epochs[-1].at_chance:
        text = f"the network predicts no better than chance after {len(epochs)} epochs: try a "
        text += "smaller eps, another lr, or more epochs"
        warnings.warn(text, ConvergenceWarning, stacklevel=3)
    return TrainedNetwork(model.cpu().eval().requires_grad_(True), epochs, trainer.position.best)
