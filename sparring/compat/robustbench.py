"""RobustBench's `benchmark`, answered by our evaluation: `from sparring.compat.robustbench import
benchmark`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from .. import data, evaluation
from ..component import checked, did_you_mean, require
from ..data import Source, Split, named
from ..models import robustbench, wrap_model
from ..results import leaderboard
from ..results.result import Result
from ..runtime.output import write_line
from ..runtime.text import printable

DATASETS = ("cifar10", "cifar100", "imagenet")
THREATS = ("Linf", "L2")


@checked
def benchmark(
    model: Any,
    n_examples: int = 10_000,
    dataset: Any = "cifar10",
    threat_model: Any = "Linf",
    to_disk: bool = False,
    model_name: str | None = None,
    data_dir: str | Path = "./data",
    corruptions_data_dir: str | None = None,
    device: Any = None,
    batch_size: int = 32,
    eps: float | None = None,
    log_path: str | Path | None = None,
    preprocessing: str | Callable[[Any], Any] | None = None,
    aa_state_path: str | Path | None = None,
) -> tuple[float, float]:
    """Return clean accuracy, and robust accuracy under our suite `"autoattack"`.

    Arguments:
        model: inputs in [0, 1] to logits.
        n_examples: the first samples of the test set, at most.
        dataset: `"cifar10"` or `"cifar100"`; else a folder or file as in `data.load`, a source, or
            `(x (n, *d), y (n,))`.
        threat_model: `"Linf"` or `"L2"`.
        to_disk: write the leaderboard's entry to `model_info/DATASET/THREAT/MODEL_NAME.json`.
        data_dir: folder with the data set's files; default: also where `SPARRING_DATA` points.
        preprocessing: of each image; a data set of another kind comes preprocessed, as `(x, y)`.
        aa_state_path: a `.json` file, from which a killed evaluation goes on; it ends as the
            result.

    Raises:
        ValueError: for a missing eps or `model_name`, and for what has no counterpart here: the
            corruptions, ImageNet by name, several models.

    Differs: the suite and its verdict are ours; eval mode is set for the measurement; nothing is
    left in `model_info` that an entry does not claim.
    """
    threat, name = (str(getattr(one, "value", one)) for one in (threat_model, dataset))
    if threat == "corruptions":
        raise ValueError(
            "threat_model = 'corruptions' has no counterpart in sparring: evaluate on the "
            "corrupted images as clean data, sparring.evaluate(model, data=(x, y), eps=0)"
        )
    if threat not in THREATS:
        raise ValueError(did_you_mean("threat_model", threat, THREATS))
    require(isinstance(model, nn.Module) or callable(model), "model", model, "one model")
    require(eps is not None, "eps", eps, f"the radius of the {threat} ball, as 8/255")
    require(not to_disk or model_name, "model_name", model_name, "a name where to_disk is True")
    require(preprocessing is None, "preprocessing", preprocessing, "None: pass dataset=(x, y)")
    folder = Path(data_dir)
    given = samples(
        name if isinstance(dataset, str | Path) or name in DATASETS else dataset, folder
    )
    limit = {"n": n_examples, "first": True} if n_examples < _count(given) else {}
    result = evaluation.evaluate(
        wrap_model(model),
        given,
        threat,
        leaderboard.SUITE,
        name=model_name or type(model).__name__,
        out=None if aa_state_path is None else Path(aa_state_path),
        device=device,
        eps=eps,
        batch_size=batch_size,
        **limit,
    )
    write(result, log_path)
    if to_disk:
        label = name if isinstance(dataset, str) or name in DATASETS else result.dataset
        path = Path("model_info", label or "data", threat, f"{model_name}.json")
        write_line(f"wrote {printable(leaderboard.write_entry(result, path))}")
    return result.clean.accuracy, result.robust.accuracy


def samples(dataset: Any, folder: Path) -> Source | Split | Any:
    """Return the samples of a data set by its name, from a folder if it has them, or as given."""
    if not isinstance(dataset, str | Path):
        return dataset
    if dataset == "imagenet":
        raise ValueError(
            "dataset = 'imagenet' is not loaded by name: pass dataset=(x, y), the images in [0, 1] "
            "after the model's own crop"
        )
    known = named.find(str(dataset))
    has_it = folder.is_dir() and known is not None and named.is_here(known, folder)
    return data.load(dataset, root=folder if has_it else None)


def _count(given: Any) -> int:
    """Return the number of samples that can be evaluated."""
    rows = given.test if isinstance(given, Source) else given
    return len(rows.y) if isinstance(rows, Split) else len(rows[1])


def write(result: Result, log_path: str | Path | None) -> None:
    """Print what was measured, and append it to a file."""
    lines = [
        f"Clean accuracy: {result.clean.accuracy:.2%}",
        f"Adversarial accuracy: {result.robust.accuracy:.2%}",
        f"verdict: {result.verdict}, {result.reason}",
    ]
    for line in lines:
        write_line(line)
    if log_path is not None:
        with Path(log_path).open("a", encoding="utf-8") as log:
            log.write("\n".join(lines) + "\n")


def load_model(
    model_name: str,
    model_dir: str | Path = "./models",
    dataset: Any = "cifar10",
    threat_model: Any = "Linf",
) -> nn.Module:
    """Return a model of RobustBench's zoo, by its own package, which runs the package's code."""
    dataset, threat_model = (str(getattr(v, "value", v)) for v in (dataset, threat_model))
    return robustbench.load(f"{dataset}/{threat_model}/{model_name}", model_dir=model_dir)
