"""Make any optimizer of PyTorch by its name, with other keywords for some of the weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from ..component import did_you_mean, require
from ..introspect.patterns import select
from .ranges import POSITIVE, check_optimizer, is_number

Group = dict[str, Any]  # of parameters
# LBFGS calls the loss several times a step, which the trainer's step does not offer; SparseAdam
# takes sparse gradients alone, which no layer of a classifier gives.
UNUSABLE = {"LBFGS", "SparseAdam"}
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")  # they can step all weights in one kernel
WAYS = ("foreach", "fused", "differentiable")  # keywords that choose among equal ways to step
GROUP_KEYS = ("modules", "lr_scale")  # of a group, beside the optimizer's


class OptimizerTable(NamedTuple):
    """Hold a checked configuration of an optimizer: its class, its keywords, and its groups."""

    kind: type[Optimizer]
    keywords: dict[str, Any]
    groups: list[Group]


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
    """Return the optimizer `{name, lr, …, groups}` over the weights of the model and of the
    objective.

    Arguments:
        config: `groups` are tables of `modules`, names or patterns such as `["head*"]`, with the
            keywords that differ for their weights; `lr_scale` stands for that many times the
            optimizer's `lr`. A weight belongs to the first group that matches it.
        objective: its parameters form the last group, without weight decay.
        decay_norm: let weight decay act on biases and normalisation too (tensors of one dimension).

    On CUDA, SGD, Adam, AdamW and Adagrad take the `fused` step unless the table chooses another.
    On a CPU it is a choice, `fused = true`: it is faster there too, and rounds otherwise.

    Raises:
        ValueError: for a name or keyword that does not exist, a number out of its range, or a group
            without weights.

    >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> table = {"name": "SGD", "lr": 0.1, "groups": [{"modules": ["1"], "lr_scale": 5}]}
    >>> [group["lr"] for group in make_optimizer(table, net).param_groups]
    [0.1, 0.5]
    """
    kind, keywords, groups = read_optimizer(config)
    tables = [*_groups(model, groups, decay_norm), *_duals(objective)]
    if _fuses(kind, [keywords, *tables], model):  # not on a CPU: recorded runs must come out again
        keywords["fused"] = True
    try:
        return kind(tables, **keywords)  # type: ignore[call-arg]
    except TypeError as error:
        raise ValueError(f"optimizer = {config!r} is not allowed: {error}") from error


def read_optimizer(config: str | Mapping[str, Any]) -> OptimizerTable:
    """Check what needs no network of an optimizer's table: name, keywords, ranges, groups.

    Raises:
        ValueError: as `make_optimizer`.
    """
    known_form = isinstance(config, str | Mapping)
    require(known_form, "optimizer", config, 'a name, or a table as {name = "SGD", lr = 0.1}')
    table: dict[str, Any] = {"name": config} if isinstance(config, str) else dict(config)
    name, groups = table.pop("name", None), table.pop("groups", None) or []
    if name not in optimizer_names():
        raise ValueError(did_you_mean("optimizer.name", str(name), optimizer_names()))
    kind = getattr(torch.optim, name)
    keywords = _keywords(kind, table, "optimizer")
    is_list = isinstance(groups, list | tuple) and all(isinstance(g, Mapping) for g in groups)
    require(is_list, "optimizer.groups", groups, 'tables, as [{modules = ["head"], lr = 1.0}]')
    lr = keywords.get("lr", inspect.signature(kind).parameters["lr"].default)
    return OptimizerTable(
        kind, keywords, [_read_group(kind, g, lr, f"groups.{k}") for k, g in enumerate(groups)]
    )


def _fuses(kind: type, groups: Sequence[Group], model: nn.Module) -> bool:
    """Return whether to choose the fused step for groups that all may have their own keywords."""
    chosen = any(group.get(way) is not None for group in groups for way in WAYS)
    sparse = any(getattr(module, "sparse", False) for module in model.modules())  # of embeddings
    if kind.__name__ not in FUSED or chosen or sparse:
        return False
    if "fused" not in inspect.signature(kind).parameters:
        return False
    weights = [p for group in groups for p in group.get("params", ())]
    return all(p.is_cuda and p.is_floating_point() for p in weights)


def _keywords(kind: type, table: Mapping[str, Any], path: str, also: Sequence[str] = ()) -> Group:
    known = [k for k in inspect.signature(kind).parameters if k != "params"]
    for key in table:
        if key not in known:
            raise ValueError(did_you_mean(f"{path} key", key, [*known, *also]))
    keywords = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    check_optimizer(kind, keywords, path)
    return keywords


def _read_group(kind: type, group: Mapping[str, Any], lr: float, name: str) -> Group:
    """Return a group's modules and keywords, checked, with `lr_scale` as a rate."""
    path, table = f"optimizer.{name}", dict(group)
    modules, scale = table.pop("modules", None), table.pop("lr_scale", None)
    is_list = isinstance(modules, list | tuple) and modules
    require(is_list, f"{path}.modules", modules, 'a list of names or patterns, as ["head*"]')
    keywords = _keywords(kind, table, path, GROUP_KEYS)
    if scale is not None:
        ok = is_number(scale) and POSITIVE[0](scale)
        require(ok, f"{path}.lr_scale", scale, POSITIVE[1])
        require("lr" not in keywords, f"{path}.lr_scale", scale, "left out where lr is set")
        keywords["lr"] = scale * lr
    return {"modules": list(modules), **keywords}


def _groups(model: nn.Module, groups: Sequence[Group], decay_norm: bool) -> list[Group]:
    """Return the parameter groups of the model: the weights of no group come first."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        none = "it has no parameters" if not [*model.parameters()] else "none has requires_grad"
        raise ValueError(f"the model has no weights to train: {none}")
    number = _group_numbers(model, groups)
    out: list[Group] = []
    for k, group in enumerate([{}, *groups], -1):
        members = [p for p in weights if number.get(id(p), -1) == k]
        decayed = [p for p in members if decay_norm or p.ndim > 1]
        undecayed = [p for p in members if not decay_norm and p.ndim <= 1]
        keywords = {key: value for key, value in group.items() if key != "modules"}
        out += [{"params": decayed, **keywords}]
        out += [{"params": undecayed, **keywords, "weight_decay": 0.0}]
    return [group for group in out if group["params"]]


def _group_numbers(model: nn.Module, groups: Sequence[Group]) -> dict[int, int]:
    """Return the number of the group of each weight, by its id.

    Raises:
        ValueError: for a pattern that matches nothing, and for a group that no weight is left for.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    numbers: dict[int, int] = {}
    for k, group in enumerate(groups):
        key = f"optimizer.groups.{k}.modules"
        chosen = [named[n] for n in select(named, group["modules"], key=key)]
        trained = [p for p in chosen if p.requires_grad]
        require(trained, key, group["modules"], "names of weights that are not frozen")
        left = [p for p in trained if id(p) not in numbers]
        require(left, key, group["modules"], "names of weights that no group before has")
        numbers |= {id(p): k for p in left}
    return numbers


def _duals(objective: nn.Module | None) -> list[Group]:
    # Weight decay would pull a multiplier (λ, a dual variable) to 0, which has nothing to do with
    # the size of the network's weights.
    duals = [p for p in objective.parameters() if p.requires_grad] if objective is not None else []
    return [{"params": duals, "weight_decay": 0.0}] if duals else []
