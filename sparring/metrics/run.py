"""Evaluate the metrics of one model on one split, and on other data off its support."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batch import Model
from ..component import checked, require_at_least
from ..data import Source, Split
from ..data.samples import Samples, dataset_name, select_samples
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
from .registry import METRICS, metric_named

Data = Source | Split | Sequence[Any]
Parts = Sequence[tuple[Tensor, Tensor | None]]


@checked
def run(
    model: Model,
    data: Data,
    metrics: Sequence[str] | Mapping[str, Mapping[str, Any]] = tuple(METRICS),
    *,
    off: Mapping[str, Data] | None = None,
    split: str = "test",
    n: int | None = 200,
    batch_size: int = 100,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    name: str = "model",
    recipe: Mapping[str, Any] | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> MetricReport:
    """Average each metric over samples, and return the means with their 95 % intervals.

    A killed call continues with the metrics that are missing in `out`. The model and the global
    random state come back unchanged.

    Arguments:
        model: inputs `(b, *d)` in the data's bounds to logits `(b, k)`.
        data: a source, a split, or `(x (n, *d), y (n,))`.
        metrics: names as in `METRICS`, or a table of names with arguments, `{"ebd": {"directions":
            20}}`; low and high are the data's bounds.
        off: other data, on which the metrics of flatness are measured too, in the model's shape.
        n: number of samples of each, drawn with the seed; None for all.
        batch_size: samples per pass; the draws of the metrics depend on it.
        out: a `.json` file, written after every metric.
        device: default: the one the model is on.

    Raises:
        ValueError: for names, arguments or data that do not fit, a model without gradients, or one
            whose logits are not finite.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> report = run(lambda x: x, (x, y), ["deepfool-linf", "max-softmax"], progress=False)
    >>> [(row.name, round(row.value, 3)) for row in report.rows]
    [('deepfool-linf', 0.25), ('max-softmax', 0.62)]
    """
    require_at_least(1, batch_size=batch_size)
    draw = partial(select_samples, split=split, n=n, seed=seed)
    chosen = draw(data, dataset=dataset_name(recipe))
    others = {k: draw(d, dataset=k) for k, d in (off or {}).items()}
    table = metrics if isinstance(metrics, Mapping) else {k: {} for k in metrics}
    built = {key: _build(key, arguments, chosen.bounds) for key, arguments in table.items()}
    model, device = provenance.model_on_device(model, device)
    x, y = chosen.rows.float().to(device), chosen.rows.y.to(device)
    shape = tuple(x.shape[1:])
    off_support_inputs = {k: as_shape(o.rows.float().to(device), shape) for k, o in others.items()}
    key = _digest(model, chosen, others, [split, seed, batch_size])
    earlier = _earlier_rows(out, key) if resume else []
    with preserve_grads(model), seeded(device, seed), EvaluationProgress(progress) as display:
        inputs = {chosen.dataset: x, **off_support_inputs}
        pred = {k: _finite_pred(model, k, v, batch_size) for k, v in inputs.items()}
        report = MetricReport(
            name=name,
            dataset=chosen.dataset,
            split=split,
            n=len(y),
            seed=seed,
            batch=batch_size,
            clean=(pred[chosen.dataset] == y).double().mean().item(),
            rows=[],
            profiles=[_profile(model, k, v) for k, v in inputs.items()],
            class_names=chosen.class_names or [],
            recipe=dict(recipe or {}),
            versions=provenance.versions(),
            commit=provenance.commit(),
            data_sha256=chosen.sha256,
            device=provenance.machine(device),
            key=key,
        )
        labelled: Parts = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
        bare: dict[str, Parts] = {
            k: [(p, None) for p in v.split(batch_size)] for k, v in off_support_inputs.items()
        }
        for metric_name, metric in built.items():
            inputs_by_dataset = {chosen.dataset: labelled, **(bare if metric.off else {})}
            for dataset, parts in inputs_by_dataset.items():
                same = (metric_name, dataset, _plain(metric))
                row = next((r for r in earlier if (r.name, r.data, r.config) == same), None)
                row = row or _average(metric_name, metric, model, dataset, parts, display)
                report.rows.append(row)
                if out is not None and distributed.rank() == 0:
                    report.save(out)
    return report


def _finite_pred(model: Model, dataset: str, x: Tensor, batch_size: int) -> Tensor:
    pred = torch.cat([predict(model, chunk) for chunk in x.split(batch_size)])
    if lost := int((pred < 0).sum()):
        raise ValueError(
            f"the model's logits are not finite at {lost} of {len(x)} samples of {dataset}: "
            "metrics have no value there"
        )
    return pred


def _average(
    name: str, metric: Metric, model: Model, dataset: str, parts: Parts, display: EvaluationProgress
) -> MetricRow:
    started, chunks = time.perf_counter(), []
    display.begin(f"{name} · {dataset}", sum(len(x) for x, _ in parts))
    for number, (x, y) in enumerate(parts):
        # Each batch has a seed of its own, so that a run that is continued draws the same.
        metric.reseed(seed_of_text(f"{metric.seed}|{number}"))
        chunks.append(metric(model, x, y).double().cpu())
        display.step(len(x), 0)
    values = torch.cat(chunks)
    known = values[torch.isfinite(values)]
    return MetricRow(
        name,
        dataset,
        *mean95(known.numpy()),
        median=known.quantile(0.5).item() if len(known) else None,
        n=len(values),
        undefined=len(values) - len(known),
        unit=metric.unit,
        better=metric.better,
        seconds=time.perf_counter() - started,
        config=_plain(metric),
    )


def _build(key: str, arguments: Mapping[str, Any], bounds: tuple[float, float] | None) -> Metric:
    low, high = bounds or (0.0, 1.0)
    make = metric_named(key)
    try:
        return make(**{"low": low, "high": high, **arguments})
    except TypeError as error:
        raise ValueError(f"metric {key}: {error}") from None


def _plain(metric: Metric) -> dict[str, Any]:
    """Return the metric's arguments as JSON holds them."""
    config = metric.table()
    del config["name"]
    return json.loads(json.dumps(config))


def _profile(model: Model, dataset: str, x: Tensor) -> Softmax:
    softmax = profile(model, x)
    return Softmax(dataset, len(x), softmax.mean.tolist(), softmax.std.tolist())


def _earlier_rows(out: str | Path | None, key: str) -> list[MetricRow]:
    if out is None or not Path(out).exists():
        return []
    report = MetricReport.load(out)
    return report.rows if report.key == key else []


def _digest(model: Model, chosen: Samples, others: Mapping[str, Samples], more: list[Any]) -> str:
    tensors = [t for s in (chosen, *others.values()) for t in (s.rows.x, s.rows.y)]
    parts = [provenance.model_hash(model), fingerprint(*tensors), provenance.versions()]
    return hashlib.sha256(json.dumps([*parts, *more, list(others)]).encode()).hexdigest()
