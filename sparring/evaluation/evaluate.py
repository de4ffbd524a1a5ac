"""Evaluate a model under attack: a whole split, with every adversarial point judged outside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import certification
from ..batch import Model
from ..component import check_classes, require
from ..data import Source, Split
from ..data.samples import dataset_name, select_samples
from ..data.split import fingerprint
from ..introspect.freeze import preserve_grads
from ..results.detection import detection
from ..results.intervals import wilson
from ..results.result import Certificate, Result
from ..runtime import allocator, distributed, provenance
from ..runtime.progress import EvaluationProgress
from ..threats.base import Threat
from . import checks, level, probes, symptoms
from .budget import Budget
from .cache import BatchCache
from .protocol import EvaluationProtocol, resolve_protocol
from .radii import Radius, Threats, check_reachable, threats_at_radii
from .scores import added_features, score_arrays
from .session import AttackRunner
from .suites import Suite, find_suite


def evaluate(
    model: Model,
    data: Source | Split | Sequence[Any],
    threat: Threats = "Linf",
    protocol: EvaluationProtocol | Suite | str | None = None,
    *,
    surrogate: Model | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    name: str = "model",
    recipe: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
    **options: Any,
) -> Result:
    """Compute clean accuracy, and robust accuracy as the worst case over a suite at each radius.

    A sample counts as robust if the model is right on it and on every allowed point the attacks
    return for it. The model comes back unchanged: weights, modes and `.grad`, and so does the
    global random state. Under torchrun the processes divide the batches; each returns the whole
    result, and the first writes it.

    Arguments:
        model: inputs `(b, *d)` in the data's bounds to logits `(b, k)`.
        data: a source, a split, or `(x (n, *d), y (n,))`; inputs in [0, 1] unless the source or
            the threat has other bounds.
        threat: a norm's name (`"Linf"`, `"L2"`, `"L1"`, `"L0"`) or a threat; several of them; or
            a table of names with their radii, `{"Linf": [0.1, 0.3], "L2": 2}`.
        protocol: an `EvaluationProtocol`, or only its suite; default: the suite `"quick"`.
        surrogate: another model; points computed on it are tried on this one too.
        seed: of the samples and of all draws.
        out: the result's `.json`; beside it, the finished batches of a killed evaluation, from
            which `resume` continues.
        recipe, train: written into the result as they are.
        device: where to run; default: the model's own.
        options: fields of the protocol, as `suite="pgd", eps=0.1, n=1000`.

    Raises:
        ValueError: for data, labels, outputs, names or numbers that do not fit.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> result = evaluate(lambda x: x, (x, y), "Linf", eps=[0.05, 0.2], progress=False)
    >>> result.clean.accuracy, [row.count for row in result.by_eps]
    (1.0, [2, 1])
    """
    started = time.perf_counter()
    protocol = resolve_protocol(protocol, options)
    out = None if out is None else Path(out)
    require(out is None or out.suffix == ".json", "out", str(out), "the name of a .json file")
    suite = find_suite(protocol.suite, surrogate)
    if protocol.cascade is None:
        protocol = replace(protocol, cascade=suite.cascade)
    drawn = {"n": protocol.n, "first": protocol.first, "seed": seed}
    sampled = select_samples(data, protocol.split, **drawn, dataset=dataset_name(recipe))
    radii = threats_at_radii(threat, protocol.eps, sampled.bounds)
    check_reachable(radii, sampled.rows.x.shape[1:])
    for _, level_threat in radii:
        suite.entries_for(level_threat)  # raises before the clean pass if there are none
        if sampled.class_names is not None:
            check_classes(level_threat, len(sampled.class_names))
    model, device = provenance.model_on_device(model, device)
    run = [protocol.batch_size, protocol.precision, protocol.compile, protocol.cascade]
    settings = {
        "model": provenance.model_hash(model),
        "surrogate": None if surrogate is None else provenance.model_hash(surrogate),
        "data": fingerprint(sampled.rows.x, sampled.rows.y),
        "threat": [level_threat.table() for _, level_threat in radii],
        "suite": [suite.name, suite.version, suite.labels],
        "run": [*run, seed, str(device), provenance.versions()],
    }
    cache, largest = BatchCache(out, settings, resume=resume), radii[-1][1]
    first = distributed.rank() == 0
    display = EvaluationProgress(progress and first)
    with allocator.keep_freed_memory(), preserve_grads(model), display:
        tools = {"device": device, "cache": cache, "display": display}
        runner = AttackRunner(model, sampled.rows, largest, protocol, **tools)
        runner.clean_pass()
        methods = [protocol.certify] if isinstance(protocol.certify, str) else protocol.certify
        if methods:  # raises before the attacks rather than after them
            x, _ = runner.samples(np.arange(min(2, len(runner.y))))
            certification.require_certifiable(plain(model), x, radii, methods=methods)
        measured = symptoms.model_symptoms(runner, largest, seed)
        balls = enumerate(ball for _, ball in radii)
        levels = [level.attack_level(runner, suite, ball, key=i, seed=seed) for i, ball in balls]
        certificates = _certify(runner, radii, methods, seed)
        probed = _probe(runner, largest, probes.probe_names(protocol.probes or ()), seed)
        early = _early(levels, runner.budget)
        if not early:
            # Only after all attacks: a sample that a spent budget left out is not robust to them.
            measured |= symptoms.adaptive_attack_symptom(runner, levels, seed)
    measured |= probed.symptoms | symptoms.suite_symptoms(runner, levels)
    results = checks.check(measured)
    verdict, reasons = checks.verdict(results, gradient_free=suite.gradient_free, early=early)
    rows = [v.row(certified) for v, certified in zip(levels, certificates, strict=True)]
    class_names = sampled.class_names or [str(k) for k in range(runner.classes)]
    arrays = level.result_arrays(runner, levels) | score_arrays(runner, levels) | probed.arrays
    features = data.feature_names if isinstance(data, Source) else None
    detected = detection(
        runner.y,
        runner.clean_pred,
        arrays["adv_pred"],
        class_names=class_names,
        **{key: arrays.get(key) for key in ("clean_score", "adv_score", "flips")},
        added=added_features(runner, levels, arrays["adv_pred"], features),
    )
    result = Result(
        name=name,
        recipe=dict(recipe or {}),
        dataset=sampled.dataset,
        split=protocol.split,
        n=len(runner.y),
        threat=largest.table(),
        seed=seed,
        clean=wilson(int(runner.correct_clean.sum()), len(runner.y)),
        robust=wilson(int(level.worst_case(levels).sum()), len(runner.y)),
        by_eps=rows,
        attacks=rows[-1].attacks,
        checks=results,
        train=dict(train or {}),
        versions=provenance.versions(),
        commit=provenance.commit(),
        data_sha256=sampled.sha256,
        suite=suite.name,
        suite_version=suite.version,
        precision=protocol.precision,
        compiled=protocol.compile,
        device=provenance.machine(device),
        seconds=time.perf_counter() - started + runner.cached_seconds,
        class_names=class_names,
        verdict=verdict,
        reasons=reasons,
        early=early,
        detection=detected,
        notes=list(sampled.notes),
        probes=probed.rows,
        arrays=arrays,
    )
    if out is not None and first:
        result.save(out)
        if not early:
            cache.clear()  # after the result is on disk; a larger budget goes on from the cache
    return result


def _early(levels: Sequence[level.LevelOutcome], budget: Budget) -> str:
    """Return why the evaluation ended before its suite, and how much it left out; else ""."""
    skipped = sum(outcome.skipped for level in levels for outcome in level.attacks)
    if not skipped:
        return ""
    reason = budget.exhausted or "the budget of another process was spent"
    return f"{reason}: {skipped} samples were not attacked, and count as robust"


def plain(model: Model) -> Model:
    """Return the network inside a wrapper that changes nothing (`unwrapped`), else the model."""
    return getattr(model, "unwrapped", model)


def _certify(
    runner: AttackRunner, radii: Sequence[Radius], methods: Sequence[str], seed: int
) -> list[list[Certificate]]:
    if not methods:
        return [[] for _ in radii]
    x, y = runner.samples(np.arange(len(runner.y)))
    model = plain(runner.model)
    with distributed.alone():
        return certification.certificates(model, x, y, radii, methods=methods, seed=seed)


def _probe(runner: AttackRunner, threat: Threat, names: list[str], seed: int) -> probes.ProbeResult:
    if not names:
        return probes.ProbeResult()
    rows = symptoms.spread(np.arange(len(runner.y)), probes.ROWS)
    what = (runner.model, threat, *runner.samples(rows))

    def run(batch_size: int) -> probes.ProbeResult:
        context = probes.ProbeContext(*what, batch_size=batch_size, seed=seed)
        return probes.run_probes(context, names)

    return runner.measure(run, seed, most=probes.ROWS)
