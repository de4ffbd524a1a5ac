"""Metrics of one model on one split, and on other data off its support."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batch import Model
from ..component import Component, require
from ..data import Source, Split
from ..data.samples import Samples, samples
from ..data.split import fingerprint
from ..introspect.freeze import preserve_grads
from ..introspect.predict import predict
from ..results.intervals import mean95
from ..results.metric_report import MetricReport, MetricRow, Softmax
from ..runtime import distributed, provenance
from ..runtime.progress import EvaluationProgress
from ..runtime.seeding import seed_of_text, seeded
from .base import Metric
from .flatness import as_shape, profile
from .registry import METRICS, named

Data = Source | Split | Sequence[Any]


def run(
    model: Model,
    data: Data,
    metrics: Sequence[str] | Mapping[str, Mapping[str, Any]] = tuple(METRICS),
    *,
    off: Mapping[str, Data] | None = None,
    split: str = "test",
    n: int | None = 200,
    batch: int = 100,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    name: str = "model",
    recipe: Mapping[str, Any] | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> MetricReport:
    """The mean of each metric over samples, with its interval.

    A killed measurement goes on from the metrics that `out` holds. The model comes back as it was,
    the global random state too.

    Arguments:
        model: inputs `(b, *d)` in the data's bounds to logits `(b, k)`.
        data: a source, a split, or `(x (n, *d), y (n,))`.
        metrics: names as in `METRICS`, or a table of names with arguments, `{"ebd": {"directions":
            20}}`; low and high are the data's bounds.
        off: other data by name, on which the metrics of flatness are measured too, in the shape of
            the model's own.
        n: only so many samples of each, drawn by the seed.
        batch: samples at once; the draws of the metrics depend on it.
        out: a `.json` file, written after every metric.
        device: where to run; the model's own where omitted.

    Raises:
        ValueError: for names, arguments or data that do not fit, a model without gradients, or one
            whose logits are not finite.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> found = run(lambda x: x, (x, y), ["deepfool-linf", "max-softmax"], progress=False)
    >>> [(row.name, round(row.value, 3)) for row in found.rows]
    [('deepfool-linf', 0.25), ('max-softmax', 0.62)]
    """
    require(batch >= 1, "batch", batch, "an integer ≥ 1")
    given = samples(data, split, n=n, seed=seed, dataset=_dataset(recipe))
    others = {k: samples(d, split, n=n, seed=seed, dataset=k) for k, d in (off or {}).items()}
    table = metrics if isinstance(metrics, Mapping) else {k: {} for k in metrics}
    made = {key: _made(key, how, given.bounds) for key, how in table.items()}
    model, place = provenance.model_on_device(model, device)
    x, y = given.rows.float().to(place), given.rows.y.to(place)
    away = {k: as_shape(o.rows.float().to(place), tuple(x.shape[1:])) for k, o in others.items()}
    key = _digest(model, given, others, [split, seed, batch])
    held = _held(out, key) if resume else []
    with preserve_grads(model), seeded(place, seed), EvaluationProgress(progress) as display:
        said = {k: _said(model, k, v, batch) for k, v in {given.dataset: x, **away}.items()}
        found = MetricReport(
            name=name,
            dataset=given.dataset,
            split=split,
            n=len(y),
            seed=seed,
            batch=batch,
            clean=(said[given.dataset] == y).double().mean().item(),
            rows=[],
            profiles=[_profile(model, k, v) for k, v in {given.dataset: x, **away}.items()],
            class_names=given.class_names or [],
            recipe=dict(recipe or {}),
            versions=provenance.versions(),
            commit=provenance.commit(),
            data_sha256=given.sha256,
            device=provenance.machine(place),
            key=key,
        )
        for metric_name, metric in made.items():
            on = {given.dataset: (x, y)}
            on |= {k: (v, None) for k, v in away.items()} if metric.off else {}
            for where, pair in on.items():
                same = (metric_name, where, _plain(metric))
                row = next((r for r in held if (r.name, r.data, r.config) == same), None)
                found.rows.append(
                    row or _measured(metric_name, metric, model, where, *pair, batch, display)
                )
                if out is not None and distributed.rank() == 0:
                    found.save(out)
    return found


def _said(model: Model, where: str, x: Tensor, batch: int) -> Tensor:
    """Predicted classes `(n,)`; refuses a model whose logits are not finite somewhere."""
    said = torch.cat([predict(model, part) for part in x.split(batch)])
    if lost := int((said < 0).sum()):
        raise ValueError(
            f"the model's logits are not finite at {lost} of {len(x)} samples of {where}: metrics "
            "have no value there"
        )
    return said


def _measured(
    name: str,
    metric: Metric,
    model: Model,
    where: str,
    x: Tensor,
    y: Tensor | None,
    batch: int,
    display: EvaluationProgress,
) -> MetricRow:
    """One metric over all samples, a batch at a time, each with draws of its own."""
    begun, parts = time.perf_counter(), []
    display.begin(f"{name} · {where}", len(x))
    for number, start in enumerate(range(0, len(x), batch)):
        rows = slice(start, start + batch)
        metric.reseed(seed_of_text(f"{metric.seed}|{number}"))
        parts.append(metric(model, x[rows], None if y is None else y[rows]).double().cpu())
        display.step(len(parts[-1]), 0)
    values = torch.cat(parts)
    known = values[torch.isfinite(values)]
    mean, low, high = mean95(known.numpy())
    return MetricRow(
        name,
        where,
        value=mean,
        low=low,
        high=high,
        median=known.quantile(0.5).item() if len(known) else None,
        n=len(values),
        undefined=len(values) - len(known),
        unit=metric.unit,
        better=metric.better,
        seconds=time.perf_counter() - begun,
        config=_plain(metric),
    )


def _made(key: str, how: Mapping[str, Any], bounds: tuple[float, float] | None) -> Metric:
    low, high = bounds or (0.0, 1.0)
    make: Callable[..., Metric] = named(key)
    try:
        return make(**{"low": low, "high": high, **how})
    except TypeError as error:
        raise ValueError(f"metric {key}: {error}") from None


def _plain(metric: Metric) -> dict[str, Any]:
    """The metric's arguments as JSON holds them."""
    config = {k: v.table() if isinstance(v, Component) else v for k, v in metric.config().items()}
    return json.loads(json.dumps(config))


def _profile(model: Model, where: str, x: Tensor) -> Softmax:
    found = profile(model, x)
    return Softmax(where, len(x), found.mean.tolist(), found.std.tolist())


def _dataset(recipe: Mapping[str, Any] | None) -> str:
    data = (recipe or {}).get("data")
    return str(data["name"]) if isinstance(data, Mapping) and "name" in data else "given samples"


def _held(out: str | Path | None, key: str) -> list[MetricRow]:
    """The rows that an earlier measurement of the same left in the file."""
    if out is None or not Path(out).exists():
        return []
    found = MetricReport.load(out)
    return found.rows if found.key == key else []


def _digest(model: Model, given: Samples, others: Mapping[str, Samples], how: list[Any]) -> str:
    tensors = [t for s in (given, *others.values()) for t in (s.rows.x, s.rows.y)]
    parts = [provenance.model_hash(model), fingerprint(*tensors), provenance.versions()]
    return hashlib.sha256(json.dumps([*parts, *how, list(others)]).encode()).hexdigest()
