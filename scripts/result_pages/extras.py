"""Write tables that some pages have: each attack, error rates, metrics beside attacks, moons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
from scipy.stats import rankdata

from sparring.reporting.metric_tables import ARROWS
from sparring.results.metric_report import MetricReport
from sparring.runtime.fractions import format_number

from .collect import RESULTS, Collected, Measured
from .tables import accuracy, code, table

SUITES_OF_BITS = {"published": "published five", "bits": "all six"}


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


def detection_table(found: Collected) -> str:
    """Return error rates of detectors, clean and with the malware attacked; "" of more classes."""
    if any(len(r.class_names) > 2 for m in found.measured for r in m.results):
        return ""
    by_run: dict[str, dict[str, Measured]] = {}
    for m in _best_first(found.measured):
        by_run.setdefault(m.run, {})[m.evaluation] = m
    heads = ["run", "clean", "FNR", "FPR"]
    heads += [f"{text}: {what}" for text in SUITES_OF_BITS.values() for what in ("accuracy", "FNR")]
    lines = []
    for run, items in by_run.items():
        clean = [_rates(items["bits"], 0, what) for what in ("accuracy", "fnr", "fpr")]
        attacked = [_rates(items[e], 1, w) for e in SUITES_OF_BITS for w in ("accuracy", "fnr")]
        lines.append([code(run), *clean, *attacked])
    return table(heads, lines)


def _rates(measured: Measured, version: int, what: str) -> str:
    rates = [r.detection.rates[version] for r in measured.results if r.detection is not None]
    values = [100 * getattr(rate, what).accuracy for rate in rates]
    return f"{fmean(values):.1f} ± {stdev(values):.1f}"


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
