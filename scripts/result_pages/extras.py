"""Write tables that some pages have: each attack, error rates, metrics beside attacks, moons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
from scipy.stats import rankdata

from sparring.reporting.metric_tables import ARROWS
from sparring.results.differences import correct
from sparring.results.metric_report import MetricReport
from sparring.results.result import Result
from sparring.runtime.fractions import format_number

from .collect import RESULTS, Collected, Measured
from .tables import accuracy, code, table

PUBLISHED = "Grosse-50"  # the last of the five published attacks in the cascade of `all`
FPR = 0.01


def attack_tables(found: Collected) -> list[tuple[str, str]]:
    """Return title and table of each evaluation's attacks, at the page's radius."""
    tables = []
    for evaluation in found.evaluations():
        items = [m for m in found.at_eps() if m.evaluation == evaluation]
        names = list(dict.fromkeys(a.name for m in items for _, row in m.rows for a in row.attacks))
        lines = [[code(m.run), *(_attack(m, name) for name in names)] for m in _best_first(items)]
        title = f"Accuracy after each attack of <code>{evaluation}</code>"
        tables.append((title, table(["run", *names], lines)))
    return tables


def _attack(measured: Measured, name: str) -> str:
    rows = [a for _, row in measured.rows for a in row.attacks if a.name == name]
    return accuracy(rows) if rows else "–"


def _best_first(items: Sequence[Measured]) -> list[Measured]:
    return sorted(items, key=lambda m: -m.robust)


def class_table(found: Collected) -> str:
    """Return mean, rare classes and worst class, clean and attacked; "" on a page without rare
    classes."""
    if not found.page.rare:
        return ""
    rare = list(found.page.rare)
    lines = []
    for m in found.headline():
        cells: list[str] = [code(m.run)]
        for shares in (
            [_class_shares(r, correct(r, 0)) for r in m.results],
            [_class_shares(r, correct(r, row.eps, row.threat)) for r, row in m.rows],
        ):
            cells += [_mean([s.mean() for s in shares]), _mean([s[rare].mean() for s in shares])]
            cells.append(_mean([s.min() for s in shares]))
        lines.append(cells)
    heads = ["run", "clean: mean of classes", "rare classes", "worst class"]
    heads += ["attacked: mean of classes", "rare classes", "worst class"]
    return table(heads, lines)


def _class_shares(result: Result, right: np.ndarray) -> np.ndarray:
    """Return the accuracy on each class's samples in %."""
    y = result.arrays["y"].astype(int)
    return 100 * np.bincount(y, weights=right) / np.bincount(y)


def detection_table(found: Collected) -> str:
    """Return error rates of detectors, clean and with the malware attacked; "" of more classes."""
    if any(len(r.class_names) > 2 for m in found.measured for r in m.results):
        return ""
    heads = ["run", "clean", "FNR", "FPR", "TPR at FPR 1 %", "published five: accuracy"]
    heads += ["all attacks: accuracy", "FNR", "TPR at FPR 1 %"]
    lines = []
    main = found.headline()[0].evaluation
    for m in _best_first([m for m in found.measured if m.evaluation == main]):
        published = [100 * a.accuracy for _, r in m.rows for a in r.attacks if a.name == PUBLISHED]
        cell = _mean(published) if m.suite == "all" else "–"  # elsewhere attacks stand alone
        clean = [_rates(m, 0, what) for what in ("accuracy", "fnr", "fpr", "tpr")]
        attacked = [_rates(m, 1, what) for what in ("accuracy", "fnr", "tpr")]
        lines.append([code(m.run), *clean, cell, *attacked])
    return table(heads, lines)


def _rates(measured: Measured, version: int, what: str) -> str:
    rates = [r.detection.rates[version] for r in measured.results if r.detection is not None]
    if what == "tpr":
        shares = [next(p.tpr for p in rate.tpr if p.at == FPR) for rate in rates]
    else:
        shares = [getattr(rate, what) for rate in rates]
    return _mean([100 * share.accuracy for share in shares])


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def rivals_table(found: Collected) -> str:
    """Return the classifiers that are no networks, under attacks without gradients; "" without."""
    rows = json.loads((RESULTS / "malware-rivals" / "table.json").read_text(encoding="utf-8"))
    groups: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row["data"] == found.page.name:
            groups.setdefault(row["rival"], []).append(row)
    shares = ["clean", "fnr", "fpr", "tpr_at_fpr_1"]
    shares += ["robust", "fnr_attacked", "tpr_at_fpr_1_attacked"]
    lines = []
    for rival, group in sorted(groups.items(), key=lambda item: -item[1][0]["robust"]):
        cells = [_mean([100 * row[key] for row in group]) for key in shares]
        lines.append([rival, *cells, _mean([row["seconds"] for row in group])])
    heads = ["classifier", "clean", "FNR", "FPR", "TPR at FPR 1 %", "attacked: accuracy", "FNR"]
    return table([*heads, "TPR at FPR 1 %", "seconds of attacks"], lines) if lines else ""


def agreement_table(found: Collected) -> str:
    """Return how metrics rank the runs beside AutoAttack: Spearman's ρ; "" without metrics.

    The sign is such that 1 means: the better the metric, the higher the accuracy.
    """
    if not found.metrics:
        return ""
    attacked = {m.eps: {} for m in found.measured if m.suite == "autoattack"}
    for m in found.measured:
        if m.suite == "autoattack":
            attacked[m.eps][m.run] = m.robust
    lines = []
    for (name, data, better), values in _metric_values(found.metrics).items():
        sign = 1 if better == "higher" else -1
        cells = []
        for accuracies in attacked.values():
            runs = sorted(values.keys() & accuracies.keys())
            ranks = [rankdata([side[run] for run in runs]) for side in (values, accuracies)]
            cells.append(f"{sign * np.corrcoef(*ranks)[0, 1]:.2f}".replace("-", "−"))
        lines.append([f"{name} {ARROWS[better]}" + (f" ({data})" if data else ""), *cells])
    lines.sort(key=lambda line: line[1].replace("−", "-"), reverse=True)
    return table(["metric", *(f"at {format_number(eps)}" for eps in attacked if eps)], lines)


def _metric_values(
    reports: Sequence[MetricReport],
) -> dict[tuple[str, str, str], dict[str, float]]:
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    for report in reports:
        for row in report.rows:
            if row.value is not None:
                key = (row.name, "" if row.data == report.dataset else row.data, row.better)
                values.setdefault(key, {})[report.name.rpartition("-seed")[0]] = row.value
    return values


def moons_table() -> str:
    """Return the table of `studies` in the plane: means over seeds, with t intervals."""
    found = json.loads((RESULTS / "moons" / "sparsity.json").read_text(encoding="utf-8"))
    radii = [key for key in found["rows"][0]["mean"] if key not in ("distance", "clean")]
    lines = []
    for row in found["rows"]:
        name = " ".join([row["name"], *row["changes"]])
        shares = [_percent(row["mean"][key]) for key in ("clean", *radii)]
        mean = row["mean"]["distance"]
        distance = f"{mean[0]:.3f} [{mean[1]:.3f}, {mean[2]:.3f}]"
        lines.append([code(name), distance, *shares, f"{row['seconds'] / 60:.1f}"])
    heads = ["training", "distance to the boundary", "clean"]
    return table([*heads, *(f"PGD-20 at {eps}" for eps in radii), "minutes"], lines)


def _percent(interval: Sequence[float]) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:.2f} [{low:.1f}, {min(high, 100):.1f}]"
