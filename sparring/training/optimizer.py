"""Make any optimizer of PyTorch by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..component import did_you_mean, require
from .ranges import check_optimizer

Group = dict[str, Any]  # of parameters
# LBFGS calls the loss several times a step, which the trainer's step does not offer; SparseAdam
# takes sparse gradients alone, which no layer of a classifier gives.
UNUSABLE = {"LBFGS", "SparseAdam"}


def optimizer_names() -> list[str]:
    """Return the names of PyTorch's optimizers that the trainer can use."""
    known = vars(torch.optim).items()
    names = {k for k, v in known if inspect.isclass(v) and issubclass(v, Optimizer)}
    return sorted(names - {"Optimizer"} - UNUSABLE)


def make_optimizer(
    config: str | Mapping[str, Any],
    model: nn.Module,
    objective: nn.Module | None = None,
    *,
    decay_norm: bool = True,
) -> Optimizer:
    """Return the optimizer `{name, lr, …}` over the weights of the model and of the objective.

    Arguments:
        objective: its parameters form the last group, without weight decay.
        decay_norm: let weight decay act on biases and normalisation too (tensors of one dimension).

    Raises:
        ValueError: for a name or keyword that does not exist, or a number out of its range.

    >>> make_optimizer({"name": "SGD", "lr": 0.1}, nn.Linear(1, 1)).param_groups[0]["lr"]
    0.1
    """
    known_form = isinstance(config, str | Mapping)
    require(known_form, "optimizer", config, 'a name, or a table as {name = "SGD", lr = 0.1}')
    table: dict[str, Any] = {"name": config} if isinstance(config, str) else dict(config)
    name = table.pop("name", None)
    if name not in optimizer_names():
        raise ValueError(did_you_mean("optimizer.name", str(name), optimizer_names()))
    kind = getattr(torch.optim, name)
    known = [k for k in inspect.signature(kind).parameters if k != "params"]
    for key, value in table.items():
        if key not in known:
            raise ValueError(did_you_mean("optimizer key", key, known))
        table[key] = tuple(value) if isinstance(value, list) else value
    check_optimizer(kind, table)
    try:
        return kind(_groups(model, objective, decay_norm), **table)
    except TypeError as error:
        raise ValueError(f"optimizer = {config!r} is not allowed: {error}") from error


def _groups(model: nn.Module, objective: nn.Module | None, decay_norm: bool) -> list[Group]:
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        none = "it has no parameters" if not [*model.parameters()] else "none has requires_grad"
        raise ValueError(f"the model has no weights to train: {none}")
    decayed = [p for p in weights if decay_norm or p.ndim > 1]
    undecayed = [p for p in weights if not decay_norm and p.ndim <= 1]
    # Weight decay would pull a multiplier (λ, a dual variable) to 0, which has nothing to do with
    # the size of the network's weights.
    duals = [p for p in objective.parameters() if p.requires_grad] if objective is not None else []
    groups: list[Group] = [{"params": decayed}]
    groups += [{"params": tensors, "weight_decay": 0.0} for tensors in (undecayed, duals)]
    return [group for group in groups if group["params"]]
