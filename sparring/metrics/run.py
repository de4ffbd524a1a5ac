"""Evaluate the metrics of one model on one split, and on other data off its support."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batch import Model
from ..component import checked, require, require_at_least
from ..data import Source, Split
from ..data.samples import Samples, dataset_name, select_samples
from ..data.split import fingerprint
from ..introspect.float32 import on_float32
from ..introspect.forward import check_labels
from ..introspect.freeze import preserve_grads
from ..introspect.predict import predict
from ..results.intervals import mean95
from ..results.metric_report import MetricReport, MetricRow, Softmax
from ..runtime import distributed, provenance
from ..runtime.allocator import keep_freed_memory, retry_smaller_batch
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
    require(callable(model), "model", type(model).__name__, "a module or a function of tensors")
    require_at_least(1, batch_size=batch_size)
    require(n is None or n >= 1, "n", n, "an integer ≥ 1, or None for the whole split")
    draw = partial(select_samples, split=split, n=n, seed=seed)
    chosen = draw(data, dataset=dataset_name(recipe))
    another = f"names other than {chosen.dataset!r}, the data that are measured"
    require(chosen.dataset not in (off or {}), "off", [*(off or {})], another)
    others = {k: draw(d, dataset=k) for k, d in (off or {}).items()}
    names = [metrics] if isinstance(metrics, str) else metrics
    table = names if isinstance(names, Mapping) else {k: {} for k in names}
    built = {key: _build(key, arguments, chosen.bounds) for key, arguments in table.items()}
    model, device = provenance.model_on_device(model, device)
    digest = provenance.model_hash(model)
    model = on_float32(model)
    x = chosen.rows.float().to(device)
    shape = tuple(x.shape[1:])
    inputs = {chosen.dataset: x}
    inputs |= {k: as_shape(o.rows.float().to(device), shape) for k, o in others.items()}
    facts = {
        "name": name,
        "split": split,
        "seed": seed,
        "class_names": chosen.class_names or [],
        "recipe": dict(recipe or {}),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "data_sha256": chosen.sha256,
        "device": provenance.machine(device),
    }

    def measure(size: int) -> MetricReport:
        key = _digest(digest, chosen, others, [split, seed, size])
        earlier = _earlier_rows(out, key) if resume else []
        with seeded(device, seed):
            labels = chosen.rows.y.to(device)
            report = _empty_report(model, chosen, inputs, labels, size, facts | {"key": key})
            for row in _rows(model, built, chosen, inputs, labels, size, earlier, display):
                report.rows.append(row)
                if out is not None and distributed.rank() == 0:
                    report.save(out)
        return report

    with keep_freed_memory(), preserve_grads(model), EvaluationProgress(progress) as display:
        # From the start: the draws of the metrics depend on the batch size.
        return retry_smaller_batch(measure, batch_size)


def _empty_report(
    model: Model,
    chosen: Samples,
    inputs: Mapping[str, Tensor],
    y: Tensor,
    batch_size: int,
    facts: Mapping[str, Any],
) -> MetricReport:
    """Return a report without rows: clean accuracy, and how flat the softmax is."""
    pred = {k: _finite_pred(model, k, x, batch_size) for k, x in inputs.items()}
    profiles = [_profile(model, k, x) for k, x in inputs.items()]
    check_labels(y, len(profiles[0].mean), least=-1)
    return MetricReport(
        dataset=chosen.dataset,
        n=len(y),
        batch=batch_size,
        clean=(pred[chosen.dataset] == y).double().mean().item(),
        rows=[],
        profiles=profiles,
        **facts,
    )


def _rows(
    model: Model,
    built: Mapping[str, Metric],
    chosen: Samples,
    inputs: Mapping[str, Tensor],
    y: Tensor,
    batch_size: int,
    earlier: Sequence[MetricRow],
    display: EvaluationProgress,
) -> Iterator[MetricRow]:
    """Yield the rows of the metrics: on the data, and on other data where a metric applies."""
    for name, metric in built.items():
        for dataset, x in inputs.items():
            labelled = dataset == chosen.dataset
            if not (labelled or metric.off):
                continue
            labels = y.split(batch_size) if labelled else itertools.repeat(None)
            parts: Parts = list(zip(x.split(batch_size), labels, strict=False))
            same = (name, dataset, _plain(metric))
            row = next((r for r in earlier if (r.name, r.data, r.config) == same), None)
            yield row or _average(name, metric, model, dataset, parts, display)


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
        display.step(len(x))
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


def _digest(model: str, chosen: Samples, others: Mapping[str, Samples], more: list[Any]) -> str:
    tensors = [t for s in (chosen, *others.values()) for t in (s.rows.x, s.rows.y)]
    parts = [model, fingerprint(*tensors), provenance.versions()]
    return hashlib.sha256(json.dumps([*parts, *more, list(others)]).encode()).hexdigest()
