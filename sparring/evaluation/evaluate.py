"""ProbeValue a model under attack: one call, a whole split, every point judged from outside."""

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
from ..data.samples import select_samples
from ..data.split import fingerprint
from ..introspect import freeze
from ..introspect.freeze import preserve_grads
from ..results import detection
from ..results.intervals import wilson
from ..results.result import Certificate, Result
from ..runtime import allocator, distributed, provenance
from ..runtime.allocator import retry_smaller_batch
from ..runtime.progress import EvaluationProgress
from ..runtime.seeding import seeded
from ..threats.base import Threat
from . import checks, diagnose, level, scores, suites
from . import probes as inside
from .budget import Budget
from .cache import BatchCache
from .radii import Level, Radii, Threats, radii, reachable
from .session import AttackRunner


def evaluate(
    model: Model,
    data: Source | Split | Sequence[Any],
    threat: Threats = "Linf",
    suite: str | suites.Suite = "quick",
    *,
    eps: Radii = None,
    split: str = "test",
    n: int | None = None,
    batch: int = 250,
    precision: str = "float32",
    compile: bool = False,
    cascade: bool | None = None,
    surrogate: Model | None = None,
    seconds: float | None = None,
    queries: int | None = None,
    certify: str | Sequence[str] = (),
    probes: str | Sequence[str] = (),
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    name: str = "model",
    recipe: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Result:
    """Clean accuracy, then the worst case over a suite at each radius, judged outside the attacks.

    A sample counts as robust if the model is right on it and on every allowed point the attacks
    return for it. The model comes back as it was: weights, modes, `.grad`; the global random state
    too.

    Arguments:
        model: inputs `(b, *d)` in the data's bounds to logits `(b, k)`.
        data: a source, a split, or `(x (n, *d), y (n,))`; inputs in [0, 1] unless the source or
            threat says otherwise.
        threat: a norm's name (`"Linf"`, `"L2"`, `"L1"`, `"L0"`) or a threat; several of them; or
            a table of names with their radii, `{"Linf": [0.1, 0.3], "L2": 2}`.
        suite: its name, or a `Suite`.
        eps: radii in input units, of each norm; the threat's own where omitted.
        n: only so many samples, drawn by the seed.
        batch: samples at once; the draws of the attacks depend on it.
        precision: inside the attacks; judgement is float32, and what a search in lower precision
            nearly broke is searched again in float32.
        compile: the attacks search on the model compiled for fixed batch sizes (`CompiledModel`);
            judgement runs the model itself. It costs up to a minute at the start.
        cascade: an attack sees only what those before it left standing: cheaper, with the same
            worst case up to draws, but rows can't be compared with each other. The suite says so
            by default.
        surrogate: another model; points made on it are tried on this one too.
        seconds, queries: a budget for the attacks, in wall time and in samples passed forward. Once
            it is spent the evaluation ends: what is not attacked counts as robust, so the accuracy
            is an upper bound, and the result says so. With `out`, a larger budget goes on later.
        certify: one or more lower bounds beside the attacks, as `certified.METHODS` names them.
        probes: names of `probes.PROBES`, or `"all"`: what to measure inside the model too, on 64
            samples at the largest radius.
        out: the result's `.json`; beside it the state of a killed evaluation, which `resume` goes
            on from.
        recipe, train: written into the result as they are.
        device: where to run; the model's own where omitted.

    Under torchrun the processes share the batches; each returns the whole result, and the first
    writes it.

    Raises:
        ValueError: for data, labels, outputs, names or numbers that do not fit.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> result = evaluate(lambda x: x, (x, y), "Linf", eps=[0.05, 0.2], progress=False)
    >>> result.clean.accuracy, [row.count for row in result.by_eps]
    (1.0, [2, 1])
    """
    begun = time.perf_counter()
    require(batch >= 1, "batch", batch, "an integer ≥ 1")
    require(
        precision in freeze.PRECISIONS,
        "precision",
        precision,
        "one of " + ", ".join(freeze.PRECISIONS),
    )
    out, chosen = None if out is None else Path(out), suites.named(suite, surrogate)
    require(out is None or out.suffix == ".json", "out", str(out), "the name of a .json file")
    probes = inside.chosen(probes)
    given = select_samples(data, split, n=n, seed=seed, dataset=_dataset(recipe))
    levels = radii(threat, eps, given.bounds)
    reachable(levels, given.rows.x.shape[1:])
    model, place = provenance.model_on_device(model, device)
    for _, one in levels:
        chosen.against(one)
        if given.class_names is not None:
            check_classes(one, len(given.class_names))
    cascade = chosen.cascade if cascade is None else cascade
    settings = {
        "model": provenance.model_hash(model),
        "surrogate": None if surrogate is None else provenance.model_hash(surrogate),
        "data": fingerprint(given.rows.x, given.rows.y),
        "threat": [_described(one) for _, one in levels],
        "suite": [chosen.name, chosen.version, chosen.labels],
        "run": [batch, precision, compile, cascade, seed, str(place), provenance.versions()],
    }
    state = BatchCache(out, settings, resume=resume)
    budget = Budget(seconds=seconds, queries=queries)
    with (
        allocator.keep_freed_memory(),
        preserve_grads(model),
        EvaluationProgress(progress and distributed.rank() == 0) as display,
    ):
        session = AttackRunner(
            model,
            given.rows,
            levels[-1][1],
            place=place,
            batch=batch,
            state=state,
            display=display,
            budget=budget,
            compile=compile,
        )
        session.begin()
        certify = [certify] if isinstance(certify, str) else certify
        if certify:
            some, _ = session.pick(np.arange(min(2, len(session.y))))
            certification.require_certifiable(plain(model), some, levels, methods=certify)
        measured = _looked(session, levels[-1][1], seed)
        tables = [
            level.attack(
                session, chosen, t, key=str(i), precision=precision, cascade=cascade, seed=seed
            )
            for i, (_, t) in enumerate(levels)
        ]
        proven = _certified(session, levels, certify, seed)
        probed = _probed(session, levels[-1][1], probes, seed)
        early = _early(tables, budget)
        doubted = {} if early else _doubted(session, levels, tables, seed)
    rows = [replace(t.row(), certified=c) for t, c in zip(tables, proven, strict=True)]
    symptoms = measured | probed.symptoms | doubted | level.counted(session, tables)
    found = checks.check(symptoms)
    verdict, reasons = checks.verdict(found, gradient_free=chosen.gradient_free, early=early)
    count = int(level.worst(tables).sum())
    class_names = given.class_names or [str(k) for k in range(session.classes)]
    source = data if isinstance(data, Source) else None
    arrays = level.arrays(session, tables) | scores.arrays(session, tables) | probed.arrays
    rates = detection.detection(
        session.y,
        session.clean,
        arrays["adv_pred"],
        class_names=class_names,
        clean_score=arrays.get("clean_score"),
        adv_score=arrays.get("adv_score"),
        flips=arrays.get("flips"),
        added=scores.added(
            session, tables, arrays["adv_pred"], source.feature_names if source else None
        ),
    )
    result = Result(
        name=name,
        recipe=dict(recipe or {}),
        dataset=given.dataset,
        split=split,
        n=len(session.y),
        threat=_described(levels[-1][1]),
        seed=seed,
        clean=wilson(int(session.right.sum()), len(session.y)),
        robust=wilson(count, len(session.y)),
        by_eps=rows,
        attacks=rows[-1].attacks,
        checks=found,
        train=dict(train or {}),
        versions=provenance.versions(),
        commit=provenance.commit(),
        data_sha256=given.sha256,
        suite=chosen.name,
        suite_version=chosen.version,
        precision=precision,
        compiled=compile,
        device=provenance.machine(place),
        seconds=time.perf_counter() - begun + session.earlier,
        class_names=class_names,
        verdict=verdict,
        reasons=reasons,
        early=early,
        detection=rates,
        notes=list(source.notes) if source else [],
        probes=probed.rows,
        arrays=arrays,
    )
    if out is not None and distributed.rank() == 0:
        result.save(out)
        if not early:
            state.done()
    return result


def _early(tables: Sequence[level.Level], budget: Budget) -> str:
    """Why the evaluation ended before its suite, and how much it left out; "" if it did not."""
    left = sum(done.skipped for table in tables for done in table.attacks)
    if not left:
        return ""
    why = budget.over or "the budget of another process was spent"
    return f"{why}: {left} of the samples to attack were not, and count as robust"


def plain(model: Model) -> Model:
    """The model as plain layers, if it says what these are; else itself."""
    return getattr(model, "unwrapped", model)


def _certified(
    session: AttackRunner, levels: Sequence[Level], methods: Sequence[str], seed: int
) -> list[list[Certificate]]:
    """Lower bounds at each radius, by the methods asked for."""
    if not methods:
        return [[] for _ in levels]
    x, y = session.pick(np.arange(len(session.y)))
    with distributed.alone():
        return certification.certificates(
            plain(session.model), x, y, levels, methods=methods, seed=seed
        )


def _looked(session: AttackRunner, threat: Threat, seed: int) -> dict[str, float]:
    """The symptoms of the model, and of its gradients on samples it gets right."""
    few = _spread(np.flatnonzero(session.right), diagnose.ROWS)

    def found(batch: int) -> dict[str, float]:
        some, labels = session.pick(np.arange(min(diagnose.ROWS, batch, len(session.y))))
        with seeded(session.place, seed), distributed.alone():
            return {
                **diagnose.of_model(session.model, some),
                **diagnose.of_leaking(session.model, threat, some, labels),
                **diagnose.of_gradients(
                    session.model, threat, *session.pick(few), batch=batch, seed=seed
                ),
            }

    span = diagnose.of_range(session.least, session.most, low=session.low, high=session.high)
    return span | retry_smaller_batch(found, session.batch)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, from all over them."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def _doubted(
    session: AttackRunner, levels: Sequence[Level], tables: Sequence[level.Level], seed: int
) -> dict[str, float]:
    """What another attack breaks of what stands, where most could be near the edge."""
    right = np.flatnonzero(session.right)
    at = min(range(len(tables)), key=lambda i: abs(2 * tables[i].stands.sum() - len(right)))
    few = _spread(right, diagnose.FEW)
    x, y = session.pick(few[tables[at].stands[few]])

    def found(batch: int) -> dict[str, float]:
        with seeded(session.place, seed), distributed.alone():
            return diagnose.of_standing(
                session.model, levels[at][1], x, y, asked=len(few), batch=batch, seed=seed
            )

    return retry_smaller_batch(found, session.batch)


def _probed(session: AttackRunner, threat: Threat, names: Sequence[str], seed: int) -> inside.Found:
    """What probes find inside the model, on samples from all over the split."""
    if not names:
        return inside.Found()
    x, y = session.pick(_spread(np.arange(len(session.y)), inside.ROWS))

    def found(batch: int) -> inside.Found:
        with seeded(session.place, seed), distributed.alone():
            scene = inside.Scene(session.model, threat, x, y, batch=batch, seed=seed)
            return inside.look(scene, names)

    return retry_smaller_batch(found, min(inside.ROWS, session.batch))


def _described(threat: Threat) -> dict[str, Any]:
    return threat.table()


def _dataset(recipe: Mapping[str, Any] | None) -> str:
    data = (recipe or {}).get("data")
    return str(data["name"]) if isinstance(data, Mapping) and "name" in data else "given samples"
