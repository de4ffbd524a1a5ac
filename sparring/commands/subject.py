"""From a recipe to a run, from a run to its model."""

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
from ..introspect import freeze
from ..models import load_weights
from ..runtime.importing import import_object
from ..training.run_folder import BEST, MACHINE, RECIPE, read_log


def folder(run: str | Path) -> Path:
    """`run` as a path, if it is a run folder."""
    path = Path(run)
    if not (path / RECIPE).is_file():
        raise FileNotFoundError(f"{path} is no run folder: it has no recipe.toml")
    return path


def weighted(plan: Recipe, weights: Path) -> nn.Module:
    """The network of a recipe with the weights of a file, in eval mode."""
    if not weights.is_file():
        raise FileNotFoundError(
            f"there are no weights at {weights}: the run may not have ended its first epoch"
        )
    model = plan.network()
    load_weights(model, weights)
    return model.eval()


class Subject(NamedTuple):
    """What is evaluated, on what, and what its recipe says of how; None where nobody does."""

    model: nn.Module
    data: Any
    threat: Any
    name: str
    suite: str = "quick"
    eps: Any = None
    n: int | None = None
    seed: int = 0
    recipe: Mapping[str, Any] = {}
    run: Path | None = None


def other(surrogate: Any, *, trust: bool = False) -> Any:
    """The model that a run folder holds, or the model itself."""
    if not isinstance(surrogate, str | Path):
        return surrogate
    return trained(surrogate, None, trust=trust).model


def trained(
    model: Any, recipe: str | Path | Recipe | None, *, set: Overrides = (), trust: bool = False
) -> Subject:
    """A run; or a file of weights, or a model trained elsewhere, with its recipe."""
    path = Path(model) if isinstance(model, str | Path) else None
    run = None if path is None or path.is_file() else folder(path)
    origin = run if recipe is None else recipe
    assert origin is not None
    plan = origin if isinstance(origin, Recipe) else load_recipe(origin, set=set, trust=trust)
    asked = plan.tables["evaluation"]
    source = plan.source()
    plan = plan.fitted(source, "evaluation")
    if path is not None:
        network = weighted(plan, run / BEST if run else path)
    else:
        network = model if isinstance(model, nn.Module) else models.wrap_model(model)
    return Subject(
        network,
        source,
        plan.threat() or "Linf",
        run.resolve().name if run else plan.name,
        suite=asked["suite"],
        eps=asked.get("eps") or None,
        n=asked.get("n"),
        seed=plan.seed,
        recipe=plan.tables,
        run=run,
    )


def stranger(
    model: Any,
    data: Any,
    how: Mapping[str, Any],
    *,
    eps: Any = None,
    threat: Any = None,
    trust: bool = False,
    device: str = "cpu",
) -> Subject:
    """A model that came without recipe, with its preprocessing inside, tried on a sample.

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
        loaded, name = made(import_object(model, key="model", trust=trust)), model.partition(":")[2]
    else:
        loaded, name = model, type(model).__name__
    source = load(data) if isinstance(data, str | Path) else data
    if isinstance(source, Source) and (labels := getattr(loaded, "classes_", None)) is not None:
        words = all(isinstance(label, str) for label in labels)
        how = {**how, "classes": source.class_names if words else source.classes}
    adapted = models.wrap_model(loaded, **how)
    adapted = adapted if loaded is model else adapted.to(device)
    _fits(adapted, source)
    return Subject(adapted, source, "Linf", name)


def made(found: Any) -> Any:
    """The model that "module:Class" names: what a class or a function without arguments makes, or
    the object itself."""
    if isinstance(found, nn.Module) or not callable(found):
        return found
    try:
        inspect.signature(found).bind()
    except TypeError:
        if isinstance(found, type):
            raise ValueError(
                f"model = {found.__name__} takes arguments: name a function without, which makes "
                "and loads it"
            ) from None
        return found
    except ValueError:  # a builtin that does not say what it takes
        return found
    return found()


def _is_program(path: Path) -> bool:
    """Whether a path is no run but a file, or "module:Class"."""
    return path.is_file() or (":" in str(path) and not path.exists())


def _fits(model: nn.Module, data: Any) -> None:
    """Ask the model about two samples at the lower bound, where `wrap_model` put its numbers."""
    rows = data.test if isinstance(data, Source) else data
    x = rows.x if isinstance(rows, Split) else torch.as_tensor(rows[0])
    low = data.bounds[0] if isinstance(data, Source) else 0.0
    try:
        with torch.no_grad(), freeze.frozen(model):
            model(torch.full((2, *x.shape[1:]), low, device=model.get_buffer("mean").device))
    except Exception as error:  # it is someone else's code
        said = [line for line in str(error).splitlines() if line.strip()][-1:]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"the model does not take the data's samples of shape {tuple(x.shape[1:])}: "
            f"{kind}{' '.join(said).strip()}"
        ) from error


def history(run: Path) -> dict[str, Any]:
    """What the folder says of the training: seconds, epochs, device and the log's rows."""
    log = read_log(run)
    machine = (
        json.loads((run / MACHINE).read_text(encoding="utf-8")) if (run / MACHINE).is_file() else {}
    )
    return {
        "seconds": log[-1]["seconds"] if log else 0.0,
        "epochs": len(log),
        **machine,
        "log": log,
    }
