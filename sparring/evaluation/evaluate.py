"""Evaluate a model under attack: a whole split, with every adversarial point judged outside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from .. import certification
from ..batch import Model
from ..component import check_arguments, require
from ..data import Source
from ..data.samples import SampleData
from ..introspect.freeze import preserve_grads
from ..results.detection import detection
from ..results.intervals import wilson
from ..results.result import Certificate, Result
from ..runtime import allocator, distributed, provenance
from ..runtime.interactive import shows_progress
from ..runtime.progress import EvaluationProgress
from ..runtime.seeding import seeded
from ..threats.base import on_rows
from . import checks, diagnose, level, probes, sampling, symptoms
from .announce import announced
from .budget import Budget
from .cache import BatchCache, locks_result
from .plan import Plan, make_plan
from .processes import check_processes, in_processes, shared_batch_size
from .protocol import EvaluationOptions, EvaluationProtocol
from .radii import Threats, norms_of
from .scores import added_features, score_arrays
from .session import AttackRunner
from .suites import Suite, gradient_free_suite

NO_GRADIENTS_NOTE = (
    "the model has no gradients by its kind: the robust accuracy is what attacks on its scores and "
    "classes found, an upper bound that no gradient attack checks"
)
NAME_LIMIT = 300  # letters: more than a folder's name has


@in_processes
@locks_result
def evaluate(
    model: Model,
    data: SampleData,
    threat: Threats | None = None,
    protocol: EvaluationProtocol | Suite | str | None = None,
    *,
    surrogate: Model | None = None,
    name: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    resume: bool = True,
    processes: int = 1,
    recipe: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    **options: Unpack[EvaluationOptions],
) -> Result:
    """Compute clean accuracy, and robust accuracy as the worst case over a suite at each radius.

    `sparring.evaluate` calls it, and takes run folders, names of data and programs too.

    A sample counts as robust if the model is right on it and on every allowed point the attacks
    return for it. The model comes back unchanged: weights, modes and `.grad`, and so does the
    global random state. Under torchrun the processes divide the batches; each returns the whole
    result, and the first writes it.

    Arguments:
        model: inputs `(b, *d)` in the data's bounds to logits `(b, k)`.
        data: a source, a split, `(x (n, *d), y (n,))`, or a PyTorch `Dataset` or `DataLoader` of
            these pairs; inputs in [0, 1] unless the source or the threat has other bounds.
        threat: a norm's name (`"Linf"`, `"L2"`, `"L1"`, `"L0"`) or a threat; several of them; or
            a table of names with their radii, `{"Linf": [0.1, 0.3], "L2": 2}`. Default: Linf.
        protocol: an `EvaluationProtocol`, or only its suite; default: the suite `"quick"`.
        surrogate: another model; points computed on it are tried on this one too.
        name: of the model, in the result; default: `"model"`.
        seed: of the samples and of all draws; default: 0.
        out: the result's `.json`; beside it, the finished batches of a killed evaluation, from
            which `resume` continues.
        processes: of this machine, that share the batches, in place of torchrun. Each has its part
            of PyTorch's threads, and the batches are at most ⌈n/processes⌉ samples; the result is
            that of this batch size. Model and data must be picklable. In a script, the call stands
            under `if __name__ == "__main__":`.
        recipe, train: written into the result as they are.
        device: where to run; default: the model's own.
        progress: show progress; default: on a terminal and in a notebook.
        options: fields of the protocol, as `suite="pgd", eps=0.1, n=1000`.

    Raises:
        ValueError: for data, labels, outputs, names or numbers that do not fit.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> result = evaluate(lambda x: x, (x, y), "Linf", eps=[0.05, 0.2], progress=False)
    >>> result.clean.accuracy, [row.count for row in result.by_eps]
    (1.0, [2, 1])
    """
    started = time.perf_counter()
    given = {"seed": seed, "name": name, "out": out, "processes": processes}
    checked = check_arguments(evaluate, given)
    check_processes(processes)
    seed = 0 if checked["seed"] is None else checked["seed"]
    ok = name is None or (name.strip() and len(name) <= NAME_LIMIT)
    require(ok, "name", name, f"a text of 1 to {NAME_LIMIT} letters")
    threat = "Linf" if threat is None else threat
    out = None if out is None else Path(out)
    require(out is None or out.suffix == ".json", "out", str(out), "the name of a .json file")
    arguments = {"surrogate": surrogate, "seed": seed, "recipe": recipe, "device": device}
    plan = make_plan(model, data, threat, protocol, **arguments, options=options)
    n = len(plan.sampled.rows)
    size, shared = shared_batch_size(plan.protocol.batch_size, n, processes)
    plan = plan.with_batch_size(size)
    first = distributed.rank() == 0
    display = EvaluationProgress(shows_progress(progress) and first)

    caches: list[BatchCache] = []  # one for each batch size that memory was tried with

    def run(batch_size: int) -> _Outcome:
        smaller, size = plan.with_batch_size(batch_size), plan.protocol.batch_size
        caches.append(smaller.cache(out, resume=resume))
        return _attack(smaller, caches[-1], display, size)

    with allocator.keep_freed_memory(), preserve_grads(plan.model), display:
        # From the start, not from the batch that failed: the result is then that of the smaller
        # batch size, as the attacks draw per batch.
        outcome = allocator.retry_smaller_batch(run, plan.protocol.batch_size)
    outcome.notes[:0] = [*plan.sampled.notes, *plan.notes, *shared]
    features = data.feature_names if isinstance(data, Source) else None
    name = "model" if name is None else name
    result = _result(plan, outcome, features, name=name, recipe=recipe, train=train)
    result.seconds = time.perf_counter() - started + outcome.runner.cached_seconds
    if out is not None and first:
        result.save(out)
        if not outcome.early:
            # After the result is on disk; a larger budget goes on from the cache.
            for cache in caches:
                cache.clear()
    return result


@dataclass
class _Outcome:
    """Hold what was measured: everything of a result but its name and history."""

    runner: AttackRunner
    levels: list[level.LevelOutcome]
    certificates: list[list[Certificate]]
    probed: probes.ProbeResult
    measured: dict[str, float]
    early: str
    notes: list[str]
    points: dict[str, np.ndarray]


def _attack(
    plan: Plan, cache: BatchCache, display: EvaluationProgress, batch_size: int
) -> _Outcome:
    """Run the clean pass, the suite at every radius, certificates, probes and checks."""
    protocol, seed = plan.protocol, plan.seed
    tools = {"device": plan.device, "cache": cache, "display": display, "batch_size": batch_size}
    threats = [threat for _, threat in plan.radii]
    runner = AttackRunner(plan.model, plan.sampled.rows, threats, protocol, **tools)
    runner.clean_pass()
    if plan.certificates:  # raises before the attacks rather than after them
        x, _ = runner.samples(np.arange(min(2, len(runner.y))))
        methods = {"methods": plan.certificates}
        certification.require_certifiable(plan.model, x, plan.radii, **methods)
    names = probes.probe_names(protocol.probes or ())
    _probe(runner, plan, names, rows=2)  # likewise
    measured = symptoms.model_symptoms(runner, plan.largest, seed)
    tasks = announced(runner, plan.suite, threats)
    display.plan(tasks, passes=lambda: runner.budget.used * distributed.world())
    norms = norms_of(threats)
    levels = [
        level.attack_level(runner, plan.suite, threat, key=i, seed=seed, norm=norm)
        for i, (threat, norm) in enumerate(zip(threats, norms, strict=True))
    ]
    certificates = _certify(runner, plan, levels)
    probed = _probe(runner, plan, names, rows=probes.ROWS)
    if any(check.fired for check in checks.check(probed.symptoms)):
        # 2 of 56 are more than 3 % by chance: as many samples decide as of the other checks.
        more = _probe(runner, plan, [*probes.OF_SYMPTOMS], rows=diagnose.ROWS)
        probed = replace(probed, symptoms=more.symptoms, checked=more.checked)
    early = _early(levels, runner.budget)
    if not early:
        # Only after all attacks: a sample that a spent budget left out is not robust to them.
        measured |= symptoms.adaptive_attack_symptom(runner, levels, seed)
    runner.checked |= probed.checked
    measured |= probed.symptoms | symptoms.suite_symptoms(runner, levels)
    measured |= symptoms.contradictions(certificates)
    with seeded(plan.device, seed):
        kept, rounded = level.point_arrays(runner, levels)
    notes = [*cache.notes(), *runner.notes(), *rounded]
    notes += [NO_GRADIENTS_NOTE] if diagnose.NO_GRADIENTS in measured else []
    return _Outcome(runner, levels, certificates, probed, measured, early, notes, kept)


def _result(
    plan: Plan,
    outcome: _Outcome,
    features: list[str] | None,
    *,
    name: str,
    recipe: Mapping[str, Any] | None,
    train: Mapping[str, Any] | None,
) -> Result:
    """Return the result of an outcome, but for its time."""
    runner, levels, sampled = outcome.runner, outcome.levels, plan.sampled
    results = checks.check(outcome.measured, samples=runner.checked)
    correct = int(runner.correct_clean.sum())
    headline = [at.sampled for at in level.largest(levels)]
    verdict, reasons = checks.verdict(
        results,
        gradient_free=all(at.gradient_free for at in levels),
        better=gradient_free_suite([threat for _, threat in plan.radii]),
        early=outcome.early,
        open_ends=[
            *checks.screening(plan.suite.name, plan.suite.confirmed_by),
            *sampling.open_end([at.sampled for at in levels], headline),
        ],
        samples=correct or len(runner.y),  # the checks are shares of the correct ones
    )
    certified = zip(levels, outcome.certificates, strict=True)
    rows = [at.row(certificates) for at, certificates in certified]
    class_names = sampled.class_names or [str(k) for k in range(runner.classes)]
    arrays = level.result_arrays(runner, levels) | score_arrays(runner, levels)
    arrays |= outcome.probed.arrays | outcome.points
    detected = detection(
        runner.y,
        runner.clean_pred,
        arrays["adv_pred"],
        class_names=class_names,
        **{key: arrays.get(key) for key in ("clean_score", "adv_score", "flips")},
        added=added_features(runner, levels, arrays["adv_pred"], features),
    )
    return Result(
        name=name,
        recipe=dict(recipe or {}),
        dataset=sampled.dataset,
        split=plan.protocol.split,
        n=len(runner.y),
        threat=plan.largest.table(),
        seed=plan.seed,
        clean=wilson(correct, len(runner.y)),
        robust=wilson(int(level.worst_case(levels).sum()), len(runner.y)),
        by_eps=rows,
        attacks=rows[-1].attacks,
        checks=results,
        train=dict(train or {}),
        versions=provenance.versions(),
        commit=provenance.commit(),
        data_sha256=sampled.sha256,
        suite=plan.suite.name,
        suite_version=plan.suite.version,
        precision=plan.protocol.precision,
        compiled=plan.protocol.compile,
        device=provenance.machine(plan.device),
        seconds=0.0,
        class_names=class_names,
        verdict=verdict,
        reasons=reasons,
        early=outcome.early,
        detection=detected,
        notes=outcome.notes,
        probes=outcome.probed.rows,
        arrays=arrays,
    )


def _early(levels: Sequence[level.LevelOutcome], budget: Budget) -> str:
    """Return why the evaluation ended before its suite, and how much it left out; else ""."""
    skipped = sum(outcome.skipped for level in levels for outcome in level.attacks)
    if not skipped:
        return ""
    reason = budget.exhausted or "the budget of another process was spent"
    return f"{reason}: {skipped} samples were not attacked, and count as robust"


def _certify(
    runner: AttackRunner, plan: Plan, levels: Sequence[level.LevelOutcome]
) -> list[list[Certificate]]:
    if not plan.certificates:
        return [[] for _ in plan.radii]
    x, y = runner.samples(np.arange(len(runner.y)))
    robust = [torch.from_numpy(at.robust) for at in levels]
    options = {"methods": plan.certificates, "seed": plan.seed, "robust": robust}
    with distributed.alone():
        return certification.certificates(
            runner.model, x, y, plan.radii, **options, display=runner.display
        )


def _probe(runner: AttackRunner, plan: Plan, names: list[str], *, rows: int) -> probes.ProbeResult:
    """Run probes on this many of the samples."""
    if not names:
        return probes.ProbeResult()
    chosen = symptoms.spread(np.arange(len(runner.y)), rows)
    threat, index, (x, y) = plan.largest, runner.index(chosen), runner.samples(chosen)

    def run(batch_size: int) -> probes.ProbeResult:
        sizes = {"batch_size": batch_size, "seed": plan.seed}
        context = probes.ProbeContext(runner.model, threat, x, y, **sizes)
        with on_rows([threat], index, x):
            return probes.run_probes(context, names)

    return runner.measure(run, plan.seed, most=probes.ROWS)
