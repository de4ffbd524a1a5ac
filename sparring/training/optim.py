"""Any optimizer of PyTorch by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..part import nearest


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Those of `torch.optim` that take parameters and need no closure."""
    found = {n: c for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)}
    return {n: c for n, c in found.items() if n not in ("Optimizer", "LBFGS")}


def build(table: Mapping[str, Any], model: nn.Module, objective: nn.Module, *, decay_norm: bool) -> torch.optim.Optimizer:
    """The optimizer `{name, lr, …}` over the model's weights, and over what the objective learns, without decay.

    Arguments:
        decay_norm: False leaves biases and normalisation (tensors of fewer than two dimensions) out of weight decay.

    Raises:
        ValueError: for an unknown name or argument; it says what there is.
    """
    values = dict(table)
    name = values.pop("name", "SGD")
    known = optimizers()
    if name not in known:
        raise ValueError(nearest("optimizer.name", str(name), known))
    weights = [p for p in model.parameters() if p.requires_grad]
    plain = [] if decay_norm else [p for p in weights if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": [p for p in weights if decay_norm or p.ndim >= 2]}]
    duals = [p for p in objective.parameters() if p.requires_grad]
    for more in (plain, duals):
        if more:
            groups.append({"params": more, "weight_decay": 0.0})
    try:
        return known[name](groups, **values)
    except TypeError as error:
        allowed = [n for n in inspect.signature(known[name]).parameters if n != "params"]
        wrong = [k for k in values if k not in allowed]
        raise ValueError(nearest("key", f"optimizer.{wrong[0]}", [f"optimizer.{a}" for a in allowed]) if wrong else f"optimizer: {error}") from None
    except ValueError as error:
        raise ValueError(f"optimizer {name}: {error}") from None
