"""Find the model, data and threat of a run folder, a recipe or a model from elsewhere."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import models
from ..component import require
from ..config.overrides import Overrides, override, set_value
from ..config.recipe import Recipe, load_recipe
from ..config.shipped import names
from ..config.validation import named
from ..data import Source, Split, load
from ..evaluation import EvaluationProtocol
from ..introspect import freeze
from ..models import hubs, load_weights
from ..models.base import similar_name
from ..models.estimator import check_features
from ..results.collapsed import AT_CHANCE
from ..runtime import files, provenance
from ..runtime.importing import import_object, reason
from ..training.checkpoint import are_at_chance
from ..training.run_folder import BEST, MACHINE, RECIPE, read_log, refuse_links
from . import run_data
from .requested_threat import is_bits

RECORD_LIMIT = 1 << 20  # bytes of the record of a machine
PATH_SHOWN = 200


def existing_run(run: str | Path, *, with_recipe: bool = True) -> Path:
    """Return `run` as a path if it is a run folder.

    Arguments:
        with_recipe: demand its recipe; without, weights alone make a run, as those from Python.

    Raises:
        FileNotFoundError: for anything else.
        ValueError: if a file in it is a symbolic link.
    """
    path = Path(run)
    try:
        if (path / RECIPE).is_file() or (not with_recipe and (path / BEST).is_file()):
            refuse_links(path)
            return path
        why = _no_run(path)
    except FileNotFoundError:
        raise
    except OSError as error:  # a name that the system does not take
        why = error.strerror or type(error).__name__
    raise FileNotFoundError(f"{_shown(path)} is not a run folder: {why}")


def _no_run(path: Path) -> str:
    """Return what a path is that is no run folder, and what to do.

    Raises:
        FileNotFoundError: for a missing file, and for the name of a recipe.
    """
    if (path / BEST).is_file():
        return (
            f"it has no {RECIPE}. To evaluate its weights, name a recipe by --recipe, or call "
            f"sparring.load({str(path)!r}, model=network) in Python"
        )
    if path.is_dir():
        return f"it has no {RECIPE}"
    if path.is_file():
        return "it is a file"
    if path.exists():
        return "it is no regular file (a pipe, device or socket)"
    if str(path) in names():
        raise FileNotFoundError(_of_recipe(str(path)))
    if path.suffix:
        raise FileNotFoundError(f"no file {_shown(path)} here{similar_name(path)}")
    return f"there is no file or folder of this name{similar_name(path)}"


def _of_recipe(name: str) -> str:
    """Return what to type in place of a recipe's name."""
    run = Path("runs", name)
    if (run / RECIPE).is_file():
        return f"{name} is a recipe; its run is {run}: sparring evaluate {run}"
    return f"{name} is a recipe, to be trained first: sparring train {name}, then evaluate {run}"


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= PATH_SHOWN else f"{text[:PATH_SHOWN]}…"


def network_with_weights(recipe: Recipe, weights: Path) -> nn.Module:
    """Return the network of a recipe with the weights of a file, in eval mode."""
    return with_weights(recipe.network(pretrained=False), weights)


def with_weights(model: nn.Module, weights: Path) -> nn.Module:
    """Return a network with the weights of a file, in eval mode."""
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} does not exist: a run writes its weights after the first epoch"
        )
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


def surrogate_model(
    surrogate: Any, data: Any, *, trust: bool = False, device: str = "cpu"
) -> nn.Module | None:
    """Return the model of a run folder, a program's file, "module:Class" or an object, on a device.

    Raises:
        ValueError: for what is no model, or does not take the data's samples.
        FileNotFoundError: for a run folder or file that does not exist.
    """
    if surrogate is None:
        return None
    try:
        if isinstance(surrogate, str | Path) and not is_program(Path(surrogate)):
            model = recipe_target(surrogate, None, trust=trust).model
        else:
            model = loaded_model(surrogate, trust=trust, device=device)
        options = estimator_options(model, data)
        moved, _ = provenance.model_on_device(models.wrap_model(model, **options), device)
        wrapped = cast("nn.Module", moved)
        _check_forward(wrapped, data)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"surrogate: {error}") from error
    return wrapped


def recipe_target(
    model: Any, recipe: str | Path | Recipe | None, *, set: Overrides = (), trust: bool = False
) -> EvaluationTarget:
    """Return the target of a run; or, with a recipe, of a weights file or an external model.

    Raises:
        ValueError: for a model that is no run folder, without a recipe.
        FileNotFoundError: for a run folder that does not exist.
    """
    path = Path(model) if isinstance(model, str | Path) else None
    run = None
    if path is not None and not is_program(path):
        run = existing_run(path, with_recipe=recipe is None)
    origin = run if recipe is None else recipe
    if origin is None:
        raise ValueError(
            "recipe is missing: a model that is no run folder needs one (--recipe), which names "
            "its data and threat"
        )
    recipe = load_recipe(origin, set=set, trust=trust)
    options = {k: v for k, v in recipe.tables["evaluation"].items() if k != "threat"}
    options["eps"] = options.get("eps") or None  # [] in a recipe whose threat has no radius
    source = recipe.source() if run is None else run_data.source_of(recipe, run)
    recipe = recipe.with_data(source, "evaluation")
    if path is not None and (run is not None or path.is_file()):
        network = network_with_weights(recipe, run / BEST if run else path)
        if run is not None and are_at_chance(run / BEST):
            source = replace(source, notes=[*source.notes, AT_CHANCE])
    else:
        network = loaded_model(model, trust=trust)
        network = network if isinstance(network, nn.Module) else models.wrap_model(network)
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
    set: Overrides = (),
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
    if eps is None and (threat is None or (isinstance(threat, str) and not is_bits(threat))):
        raise ValueError(
            f"eps is missing: a model without recipe needs --eps, the radius of the "
            f"{threat or 'Linf'} ball in the data's units"
        )
    check_preprocessing(model, preprocessing)
    source = load_data(data, set, trust=trust)
    samples = _random_samples(source)
    loaded = loaded_model(model, trust=trust, device=device, samples=samples)
    if not isinstance(model, str | Path):
        name = type(model).__name__
    else:
        name = Path(model).stem if Path(model).is_file() else _name_of(str(model))
    if isinstance(source, Source) and (notes := getattr(loaded, "notes", ())):
        source = replace(source, notes=[*source.notes, *map(str, notes)])
    wrapped = models.wrap_model(loaded, **preprocessing, **estimator_options(loaded, source))
    wrapped = wrapped if loaded is model else wrapped.to(device)
    _check_forward(wrapped, source)
    return EvaluationTarget(wrapped, source, "Linf", name)


def check_preprocessing(model: Any, preprocessing: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a mean or standard deviation given for a hub's model."""
    if hubs.is_hub_name(model) and (given := [k for k in ("mean", "std") if preprocessing.get(k)]):
        what = "the network brings its own, and normalizes inside"
        raise ValueError(f"{given[0]} must be left out for {model}: {what}")


def _name_of(model: str) -> str:
    """Return the name of a result for "module:Class", "timm:NAME" or "hf:PATH"."""
    name = model.partition(":")[2]
    return Path(name).name if hubs.is_hub_name(model) else name


def load_data(data: Any, set: Overrides = (), *, trust: bool = False) -> Any:
    """Return the data of a model without recipe: read by name or path, with the options that `set`
    gives as `data.KEY=VALUE`; anything else as it is.

    Raises:
        ValueError: for a path in `set` outside of `[data]`, or data that are read already.
    """
    given = dict(set) if isinstance(set, Mapping) else dict(map(override, set))
    for path in given:
        require(
            path.startswith("data.") and path != "data.name",
            "set",
            path,
            "data.KEY=VALUE, as data.label=kind: a model without recipe has no other table",
        )
    if not isinstance(data, str | Path):
        require(not given, "set", [*given], "empty for data that are read already")
        return data
    table: dict[str, Any] = {"name": str(data)}
    for path, value in given.items():
        set_value({"data": table}, path, value)
    return load(**named(load, table, "data"))


def estimator_options(loaded: Any, source: Any) -> dict[str, Any]:
    """Return what `wrap_model` must know of the data to wrap a classifier of scikit-learn's kind:
    its classes, in their order.

    Raises:
        ValueError: for a classifier that was fitted on other columns.
    """
    labels = getattr(loaded, "classes_", None)
    if not isinstance(source, Source) or labels is None:
        return {}
    check_features(loaded, source.feature_names)
    # scikit-learn orders its outputs by label: by name if it was trained on names.
    by_name = all(isinstance(label, str) for label in labels)
    return {"classes": source.class_names if by_name else source.classes}


def loaded_model(
    model: Any, *, trust: bool = False, device: str = "cpu", samples: Tensor | None = None
) -> Any:
    """Return the model in a program's file, of "timm:NAME" or "module:Class"; any other object
    as it is.

    Arguments:
        samples: as in `models.load_program`.
    """
    if isinstance(model, str | Path):
        if hubs.is_hub_name(str(model)):
            return hubs.load_hub_model(str(model), trust=trust).to(device)
        if Path(model).is_file() and models.is_estimator_file(Path(model)):
            return models.load_estimator(model, trust=trust)
        if Path(model).is_file():
            return models.load_program(model, trust=trust, device=device, samples=samples)
        return instantiate(import_object(str(model), key="model", trust=trust))
    return model


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
    try:
        return target()
    except (Exception, SystemExit) as error:  # foreign code may raise anything, or exit
        called = getattr(target, "__name__", type(target).__name__)
        raise ValueError(f"model: {called}() failed: {reason(error)}") from error


def is_program(path: Path) -> bool:
    """Return whether a path is a file, a hub's name or "module:Class", not a run folder."""
    if hubs.is_hub_name(str(path)):
        return True
    named = ":" in str(path) and not any(separator in str(path) for separator in "/\\")
    try:
        return path.is_file() or (named and not path.exists())
    except OSError:  # a name that the system does not take
        return False


def _random_samples(data: Any, rows: int = 8) -> Tensor | None:
    """Return random rows in the bounds of a source; None for other data, whose are unknown."""
    if not isinstance(data, Source):
        return None
    low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in data.bounds)
    draw = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(rows, *data.shape, generator=draw)


def _check_forward(model: nn.Module, data: Any) -> None:
    """Raise a `ValueError` unless the model takes two samples of the data's shape."""
    rows = data.test if isinstance(data, Source) else data
    if not isinstance(rows, Split) and not (isinstance(rows, tuple | list) and len(rows) == 2):
        return  # evaluation says what data must be
    x = rows.x if isinstance(rows, Split) else torch.as_tensor(rows[0])
    low = torch.as_tensor(data.bounds[0]).min().item() if isinstance(data, Source) else 0.0
    # `wrap_model` put its numbers, as `mean`, on the device where the model runs.
    samples = torch.full((2, *x.shape[1:]), low, device=model.get_buffer("mean").device)
    try:
        with torch.no_grad(), freeze.frozen(model) as run:
            run(samples)
    except (Exception, SystemExit) as error:  # foreign code may raise anything, or exit
        text = reason(error)
        text = text.removeprefix("ValueError: ") if isinstance(error, ValueError) else text
        raise ValueError(
            f"the model does not take the data's samples of shape {tuple(x.shape[1:])}: {text}"
        ) from error


def training_history(run: Path) -> dict[str, Any]:
    """Return what a run folder records of its training: seconds, epochs, device and log rows.

    Raises:
        ValueError: for a damaged record of the machine.
    """
    log, machine, about = read_log(run), run / MACHINE, {}
    if machine.is_file():
        try:
            about = dict(json.loads(files.read(machine, limit=RECORD_LIMIT)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{machine} is damaged: {reason(error)}") from error
    seconds = log[-1].get("seconds", 0.0) if log else 0.0
    return {"seconds": seconds, "epochs": len(log), **about, "log": log}
