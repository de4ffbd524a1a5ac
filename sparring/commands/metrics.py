"""Measure the metrics of a run's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..component import did_you_mean
from ..config.overrides import Overrides, override
from ..config.validation import check
from ..data import load
from ..metrics import METRICS, metric_named, run
from ..results.metric_report import MetricReport
from ..results.pairing import locked_result
from . import report
from .rehearsal import check_samples, new_file
from .subject import recipe_target

SUPPLIED = ("self", "attack", "low", "high")  # arguments of a metric that no table sets


def metrics(
    model: Any,
    names: Sequence[str] | Mapping[str, Mapping[str, Any]] = (),
    *,
    off: Sequence[str] = (),
    n: int | None = 200,
    split: str = "test",
    batch_size: int = 100,
    seed: int = 0,
    arguments: Overrides = (),
    recipe: Any = None,
    out: str | Path | None = None,
    set: Overrides = (),
    trust: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> MetricReport:
    """Measure distances, slopes and flatness of a run's model, on the data of its recipe.

    Arguments:
        model: a run folder; or, with `recipe`, a file of weights or a model.
        names: of metrics (`sparring list metrics`), default: all; or a table of names and
            arguments.
        off: names of other data sets, on which flatness is measured too.
        n, split, batch_size, seed: as in `metrics.run`.
        arguments: `["ebd.directions=20"]`, or a mapping of the same.
        out: the file; default: `RUN/metrics/SPLIT.json`. A file with some of the metrics, of the
            same model and samples, is completed.
        set, trust: as in `config.recipe.load_recipe`.

    Raises:
        ValueError: for a name or an argument that does not exist, or is not allowed.
    """
    table = checked_metrics(names, arguments)
    check_samples(n, split)
    out = None if out is None else new_file(out, endings=(".json",))
    subject = recipe_target(model, recipe, set=set, trust=trust)
    if out is None and subject.run is not None:
        out = subject.run / report.METRICS / f"{split}.json"
    others = {name: load(name) for name in off}
    with nullcontext() if out is None else locked_result(Path(out), "measuring"):
        return run(
            subject.model,
            subject.data,
            table,
            off=others,
            split=split,
            n=n,
            batch_size=batch_size,
            seed=seed,
            out=out,
            name=subject.name,
            recipe=subject.recipe,
            progress=progress,
            device=device,
        )


def checked_metrics(
    names: Sequence[str] | Mapping[str, Mapping[str, Any]], arguments: Overrides = ()
) -> dict[str, dict[str, Any]]:
    """Check the metrics and their arguments, and return them as a table.

    >>> checked_metrics(["ebd"], ["ebd.directions=5"])["ebd"]["directions"]
    5
    """
    tables = names if isinstance(names, Mapping) else {name: {} for name in names or METRICS}
    table = {name: dict(keys) for name, keys in tables.items()}
    pairs = arguments.items() if isinstance(arguments, Mapping) else map(override, arguments)
    for path, value in pairs:
        name, _, key = path.partition(".")
        if name not in table:
            raise ValueError(did_you_mean("metric", name, table))
        table[name][key] = value
    for name, keys in table.items():
        check(metric_named(name), keys, name, without=SUPPLIED)
    return table
