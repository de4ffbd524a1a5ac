"""Find the model, data and threat of a run folder, a recipe or a model from elsewhere."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .. import models
from ..config.overrides import Overrides
from ..config.recipe import Recipe, load_recipe
from ..data import Source, Split, load
from ..evaluation import EvaluationProtocol
from ..introspect import freeze
from ..models import load_weights
from ..runtime.importing import import_object
from ..training.run_folder import BEST, MACHINE, RECIPE, read_log, refuse_links
from . import run_data


def existing_run(run: str | Path) -> Path:
    """Return `run` as a path, or raise `FileNotFoundError` if it is not a run folder, and
    `ValueError` if it holds links."""
    path = Path(run)
    refuse_links(path)
    if not (path / RECIPE).is_file():
        raise FileNotFoundError(f"{path} is not a run folder: it has no recipe.toml")
    return path


def network_with_weights(recipe: Recipe, weights: Path) -> nn.Module:
    """Return the network of a recipe with the weights of a file, in eval mode."""
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} does not exist: a run writes its weights after the first epoch"
        )
    model = recipe.network()
    load_weights(model, weights)
    return model.eval()


class EvaluationTarget(NamedTuple):
    """Hold a model with the data, threat and protocol of its evaluation."""

    model: nn.Module
    data: Any
    threat: Any
    name: str
    protocol: EvaluationProtocol = EvaluationProtocol()
    seed: int = 0
    recipe: Mapping[str, Any] = {}
    run: Path | None = None


def surrogate_model(surrogate: Any, *, trust: bool = False) -> Any:
    """Return the model of a run folder; a model as it is."""
    if not isinstance(surrogate, str | Path):
        return surrogate
    return recipe_target(surrogate, None, trust=trust).model


def recipe_target(
    model: Any, recipe: str | Path | Recipe | None, *, set: Overrides = (), trust: bool = False
) -> EvaluationTarget:
    """Return the target of a run; or, with a recipe, of a weights file or an external model."""
    path = Path(model) if isinstance(model, str | Path) else None
    run = None if path is None or path.is_file() else existing_run(path)
    origin = run if recipe is None else recipe
    assert origin is not None
    recipe = origin if isinstance(origin, Recipe) else load_recipe(origin, set=set, trust=trust)
    options = {k: v for k, v in recipe.tables["evaluation"].items() if k != "threat"}
    options["eps"] = options.get("eps") or None  # [] in a recipe whose threat has no radius
    source = recipe.source() if run is None else run_data.source_of(recipe, run)
    recipe = recipe.with_data(source, "evaluation")
    if path is not None:
        network = network_with_weights(recipe, run / BEST if run else path)
    else:
        network = model if isinstance(model, nn.Module) else models.wrap_model(model)
    return EvaluationTarget(
        network,
        source,
        recipe.threat() or "Linf",
        run.resolve().name if run else recipe.name,
        protocol=EvaluationProtocol(**options),
        seed=recipe.seed,
        recipe=recipe.tables,
        run=run,
    )


def external_target(
    model: Any,
    data: Any,
    preprocessing: Mapping[str, Any],
    *,
    eps: Any = None,
    threat: Any = None,
    trust: bool = False,
    device: str = "cpu",
) -> EvaluationTarget:
    """Return the target of a model without recipe, with its preprocessing inside.

    Raises:
        ValueError: if data or eps are missing, or the model does not take the data's samples.
    """
    if data is None:
        raise ValueError(
            "data is missing: a model without recipe needs --data, a name (sparring list data) or "
            "a file, and --eps; bare weights need --recipe instead"
        )
    if eps is None and (threat is None or isinstance(threat, str)):
        raise ValueError(
            f"eps is missing: a model without recipe needs --eps, the radius of the "
            f"{threat or 'Linf'} ball in the data's units"
        )
    if isinstance(model, str | Path) and Path(model).is_file():
        loaded, name = models.load_program(model, trust=trust, device=device), Path(model).stem
    elif isinstance(model, str):
        loaded = instantiate(import_object(model, key="model", trust=trust))
        name = model.partition(":")[2]
    else:
        loaded, name = model, type(model).__name__
    source = load(data) if isinstance(data, str | Path) else data
    if isinstance(source, Source) and (labels := getattr(loaded, "classes_", None)) is not None:
        # scikit-learn orders its outputs by label: by name if it was trained on names.
        by_name = all(isinstance(label, str) for label in labels)
        classes = source.class_names if by_name else source.classes
        preprocessing = {**preprocessing, "classes": classes}
    wrapped = models.wrap_model(loaded, **preprocessing)
    wrapped = wrapped if loaded is model else wrapped.to(device)
    _check_forward(wrapped, source)
    return EvaluationTarget(wrapped, source, "Linf", name)


def instantiate(target: Any) -> Any:
    """Return the model that "module:Class" names: call a class, or a function without arguments,
    and return any other object as it is."""
    if isinstance(target, nn.Module) or not callable(target):
        return target
    try:
        inspect.signature(target).bind()
    except TypeError:
        if isinstance(target, type):
            raise ValueError(
                f"model = {target.__name__} takes arguments: name a function without, which makes "
                "and loads it"
            ) from None
        return target
    except ValueError:  # a builtin without a signature
        return target
    return target()


def is_program(path: Path) -> bool:
    """Return whether a path is a file or "module:Class", not a run folder."""
    return path.is_file() or (":" in str(path) and not path.exists())


def _check_forward(model: nn.Module, data: Any) -> None:
    """Raise a `ValueError` unless the model takes two samples of the data's shape."""
    rows = data.test if isinstance(data, Source) else data
    x = rows.x if isinstance(rows, Split) else torch.as_tensor(rows[0])
    low = data.bounds[0] if isinstance(data, Source) else 0.0
    # `wrap_model` put its numbers, as `mean`, on the device where the model runs.
    samples = torch.full((2, *x.shape[1:]), low, device=model.get_buffer("mean").device)
    try:
        with torch.no_grad(), freeze.frozen(model):
            model(samples)
    except Exception as error:  # foreign code may raise anything
        last = [line for line in str(error).splitlines() if line.strip()][-1:]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"the model does not take the data's samples of shape {tuple(x.shape[1:])}: "
            f"{kind}{' '.join(last).strip()}"
        ) from error


def training_history(run: Path) -> dict[str, Any]:
    """Return what a run folder records of its training: seconds, epochs, device and log rows."""
    log, machine = read_log(run), run / MACHINE
    about = json.loads(machine.read_text(encoding="utf-8")) if machine.is_file() else {}
    return {"seconds": log[-1]["seconds"] if log else 0.0, "epochs": len(log), **about, "log": log}
