"""Write a fitted classifier as a run folder, and read it again: tensors and plain text alone."""

from __future__ import annotations

import io
import json
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..component import require
from ..config.recipe import load_recipe
from ..data import load
from ..models import load_weights
from ..runtime import files
from ..training.checkpoint import read_weights, save_best
from ..training.run_folder import append_log, create_run, refuse_links, require_empty
from ..training.state import Epoch
from .recipe import DATA, plain_value, radius
from .scaling import Scaling, box

ABOUT = "classifier.json"  # what the recipe has no room for: labels, scaling, arguments
LIMIT = 1 << 26  # bytes
KINDS = {"arguments": dict, "classes": list, "shift": list, "width": list, "bounds": list}
EPOCHS = (("epoch", "number"), ("parts", "terms"))  # keys of a row in the log, and of `Epoch`


def write_run(classifier: Any, folder: Path, test: tuple[Tensor, Tensor] | None) -> Path:
    """Write a fitted classifier, and test rows in scaled units, as a run folder; return it."""
    if callable(classifier.network):
        raise ValueError(
            "network is a function, which a recipe cannot name: pickle the classifier, or name the "
            'network, as "mlp"'
        )
    require_empty(folder)
    tables, bounds = classifier.recipe_.tables, classifier.bounds_
    if test is not None:
        z, eps = test[0].numpy(), radius(classifier.eps)
        bounds = box(classifier.scaling, classifier.bounds, z, eps=eps, before=classifier.bounds_)
        tables = _in_box(tables, bounds)
    arguments = plain_value(classifier.get_params(deep=False))
    seed = classifier.random_state
    number = int(seed) if isinstance(seed, Integral) else None  # no generator fits a file
    about = {
        "arguments": arguments | {"random_state": number},
        "classes": classifier.classes_.tolist(),
        "names": getattr(classifier, "feature_names_in_", np.array([])).tolist(),
        "shift": classifier.scaling_.shift.tolist(),
        "width": classifier.scaling_.width.tolist(),
        "shape": list(classifier.scaling_.shape),
        "bounds": list(classifier.bounds_),
    }
    text = json.dumps(about).encode()  # before the first file: half a run would be in the way
    create_run(folder, tables)
    if test is not None:
        _write_rows(classifier, folder, *test, bounds=bounds)
    files.write(folder / ABOUT, text)
    for epoch in classifier.epochs_:
        append_log(folder, epoch.row())
    save_best(folder, classifier.network_.state_dict(), **_about_weights(classifier))
    return folder


def read_run(kind: type, folder: Path) -> Any:
    """Return the classifier that `write_run` wrote."""
    path = folder / ABOUT
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: RobustClassifier.to_run writes it")
    refuse_links(folder)
    try:
        about = json.loads(files.read(path, limit=LIMIT))
        for key, type_ in KINDS.items():
            require(isinstance(about[key], type_), key, about[key], f"a {type_.__name__}")
        arguments: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in about["arguments"].items()
        }
        classifier: Any = kind(**arguments)
        classifier.classes_ = np.array(about["classes"])
        shift, width = (np.array(about[k], dtype=np.float64) for k in ("shift", "width"))
        classifier.scaling_ = Scaling(shift, width, tuple(map(int, about["shape"])))
        low, high = map(float, about["bounds"])
        if about["names"]:
            classifier.feature_names_in_ = np.array(about["names"], dtype=object)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, or of another version of sparring") from error
    classifier.bounds_, classifier.n_features_in_ = (low, high), len(shift)
    classifier.recipe_ = load_recipe(folder)
    network = classifier.recipe_.network()
    load_weights(network, read_weights(folder))
    classifier.network_ = network.eval()
    classifier.epochs_, classifier.best_ = _epochs(folder), {}
    classifier.n_iter_ = len(classifier.epochs_)
    return classifier


def _in_box(tables: dict[str, Any], bounds: tuple[float, float]) -> dict[str, Any]:
    """Return a recipe's tables with another box for data and adversaries."""

    def boxed(table: dict[str, Any]) -> dict[str, Any]:
        ends = {k: b for k, b in zip(("low", "high"), bounds, strict=True) if k in table}
        inner = {"of": boxed(table["of"])} if isinstance(table.get("of"), dict) else {}
        return table | ends | inner

    out = tables | {"data": tables["data"] | {"bounds": list(bounds)}}
    out |= {"threat": boxed(tables["threat"])} if "threat" in tables else {}
    for key in ("validation", "evaluation"):
        if "threat" in tables[key]:
            out[key] = tables[key] | {"threat": boxed(tables[key]["threat"])}
    return out


def _write_rows(
    classifier: Any, folder: Path, z: Tensor, y: Tensor, *, bounds: tuple[float, float]
) -> None:
    """Write test rows, and the record by which an evaluation finds them beside the recipe."""
    names = [str(label) for label in classifier.classes_]
    content = io.BytesIO()
    np.savez_compressed(content, x_test=z.numpy(), y_test=y.numpy(), class_names=names)
    files.write(folder / DATA, content.getvalue())
    digest = load(folder / DATA, bounds=bounds).sha256
    about = {"name": DATA, "path": DATA, "sha256": digest}
    files.write(folder / "data.json", json.dumps(about).encode())


def _about_weights(classifier: Any) -> dict[str, Any]:
    return {k: v for k, v in classifier.best_.items() if k != "score"}


def _epochs(folder: Path) -> list[Epoch]:
    """Return the epochs in a run's log; rows of another version are left out."""
    from ..training.run_folder import read_log

    epochs = []
    for row in read_log(folder):
        for key, name in EPOCHS:
            row[name] = row.pop(key, None)
        if row.keys() <= Epoch.__dataclass_fields__.keys():
            epochs.append(Epoch(**row))
    return epochs
