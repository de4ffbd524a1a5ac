"""Measure an evaluation's symptoms: `diagnose` has the measurements, `checks` the thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..results.result import Certificate
from ..threats.base import Threat, on_rows
from . import diagnose
from .level import LevelOutcome, by_norm
from .session import AttackRunner

SCORES, LABELS = ("white", "black"), "labels"
LABELS_BEAT_SCORES = "labels beat scores"
# of each symptom: attacks with these needs break what those with the others do not
COMPARED = {
    "black-box beats white-box": (("black", LABELS), ("white",)),
    "transfer beats white-box": (("transfer",), ("white",)),
    LABELS_BEAT_SCORES: ((LABELS,), SCORES),
}


def spread(rows: np.ndarray, n: int) -> np.ndarray:
    """Return at most n of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def model_symptoms(runner: AttackRunner, threat: Threat, seed: int) -> dict[str, float]:
    """Measure the symptoms of the model, and of its gradients on samples it gets right."""
    checked = spread(np.flatnonzero(runner.correct_clean), diagnose.ROWS)

    def measure(batch_size: int) -> dict[str, float]:
        rows = np.arange(min(diagnose.ROWS, batch_size, len(runner.y)))
        (x, y), correct = runner.samples(rows), runner.samples(checked)
        draws = {"batch_size": batch_size, "seed": seed}
        with on_rows([threat], runner.index(rows), x):
            leaking = diagnose.label_leaking(runner.model, threat, x, y)
        with on_rows([threat], runner.index(checked), correct[0]):
            gradient = diagnose.gradient_symptoms(runner.model, threat, *correct, **draws)
        runner.checked |= dict.fromkeys(leaking, len(x)) | dict.fromkeys(gradient, len(checked))
        return {**diagnose.model_symptoms(runner.model, x), **leaking, **gradient}

    unused = diagnose.input_range(runner.x_min, runner.x_max, low=runner.low, high=runner.high)
    return unused | runner.measure(measure, seed)


def adaptive_attack_symptom(
    runner: AttackRunner, levels: Sequence[LevelOutcome], seed: int
) -> dict[str, float]:
    """Measure the share of checked samples that APGD breaks and the suite does not."""
    correct = np.flatnonzero(runner.correct_clean)
    # The radius where nearest to half is robust: there most samples are near the boundary, and a
    # weak suite shows most.
    level = min(levels, key=lambda level: abs(2 * level.robust.sum() - len(correct)))
    checked = spread(correct, diagnose.FEW)
    runner.checked["adaptive steps break more"] = len(checked)
    what = (runner.model, level.threat, *runner.samples(checked[level.robust[checked]]))

    def measure(batch_size: int) -> dict[str, float]:
        draws = {"batch_size": batch_size, "seed": seed}
        return diagnose.adaptive_attack_symptom(*what, n=len(checked), **draws)

    return runner.measure(measure, seed)


def suite_symptoms(runner: AttackRunner, levels: Sequence[LevelOutcome]) -> dict[str, float]:
    """Compute symptoms from the outcomes of all attacks, such as outputs that are not finite."""
    outcomes = [outcome for level in levels for outcome in level.attacks]
    not_finite = np.any([runner.clean_pred < 0, *(o.pred < 0 for o in outcomes)], axis=0)
    symptoms = {
        "outputs not finite": float(not_finite.mean()),
        "queries outside the box": float(sum(outcome.counts[2] for outcome in outcomes)),
        "infeasible points": float(sum(outcome.infeasible for outcome in outcomes)),
    }
    if runner.buffers_changed():
        symptoms["buffers change"] = 1.0
    runner.checked["outputs not finite"] = len(runner.y)
    for name in (*COMPARED, "larger eps gets weaker"):
        runner.checked[name] = int(runner.correct_clean.sum())
    # A sample that a spent budget left out is not robust again.
    whole = [level for level in levels if not any(o.skipped for o in level.attacks)]
    groups = by_norm(whole).values()
    if len(whole) > len(groups):
        symptoms["larger eps gets weaker"] = max(_robust_again(runner, group) for group in groups)
    for name, (access, others) in COMPARED.items():
        if {outcome.access for outcome in outcomes} & set(access):
            counts = [float(_broken_only_by(access, others, level).sum()) for level in levels]
            symptoms[name] = max(counts) / max(1, runner.correct_clean.sum())
    return symptoms


def contradictions(certificates: Sequence[Sequence[Certificate]]) -> dict[str, float]:
    """Count samples that a certificate proves and an attack breaks: none, unless we are wrong."""
    counts = [c.contradicted for row in certificates for c in row]
    return {"contradiction": float(max(counts))} if counts and max(counts) else {}


def _robust_again(runner: AttackRunner, levels: Sequence[LevelOutcome]) -> float:
    """Return the share of correct samples that break at one radius and are robust at a larger."""
    broken, share, correct = ~runner.correct_clean, 0.0, max(1, runner.correct_clean.sum())
    for level in levels:
        share = max(share, float((broken & level.robust).sum() / correct))
        broken = broken | ~level.robust
    return share


def _broken_only_by(
    access: Sequence[str], others: Sequence[str], level: LevelOutcome
) -> np.ndarray:
    """Return which samples attacks with these needs break and those with others do not `(n,)`; none
    if the suite lacks either."""
    strong, weak = (
        [o.is_adversarial for o in level.attacks if o.access in kinds] for kinds in (others, access)
    )
    if not strong or not weak:
        return np.zeros(len(level.robust), dtype=bool)
    return np.any(weak, axis=0) & ~np.any(strong, axis=0)
