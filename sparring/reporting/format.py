"""Write numbers of results as text, alike in the terminal and on the page."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

from ..results import comparison
from ..results.detection import Detection, DetectionRates, OperatingPoint
from ..results.intervals import Interval
from ..results.levels import Levels, row_at
from ..results.result import AttackRow, Certificate, Check, EpsRow, ProbeValue, Result
from ..results.sampled import bound_text
from ..results.verdicts import LOOK, NOT_SOUND
from ..runtime.fractions import format_number
from ..runtime.text import printable
from . import digits

number = digits.number  # for the page's templates, which are given this module
# Above this many pairs, results are compared only with the best of those measured alike.
MOST_PAIRS = 10
REASON_LETTERS = 200
NAME_LETTERS = 100  # of a result; longer names lose their middle
SEVERITY = (NOT_SOUND, LOOK)
TRANSFER = "+transfer"  # ends the name of a suite that was given a surrogate


def require_results(results: Sequence[Result]) -> None:
    """Raise `ValueError` if there are no results to show."""
    if not results:
        raise ValueError("there are no results to show: evaluate a run first")


def percent(i: Interval | AttackRow | Certificate) -> str:
    """Return an accuracy and its 95 % interval, in per cent.

    >>> percent(Interval(0.95, 0.93, 0.97))
    '95.00 [93.0, 97.0]'
    """
    return f"{100 * i.accuracy:.2f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"


def points(i: Interval) -> str:
    """Return a difference of accuracies with its interval, in percentage points.

    >>> points(Interval(0.05, -0.01, 0.11))
    '+5.00 [−1.0, +11.0]'
    >>> points(Interval(0.0, -0.0001, 0.02))
    '0.00 [0.0, +2.0]'
    """
    text = f"{100 * i.accuracy:+.2f} [{100 * i.low:+.1f}, {100 * i.high:+.1f}]"
    return re.sub(r"[+-](0\.0+)\b", r"\1", text).replace("-", "−")


def attack_text(row: AttackRow) -> str:
    """Return accuracy under an attack, marked ≤ if some samples were skipped."""
    return ("≤ " if row.skipped else "") + percent(row)


def robust_text(row: EpsRow) -> str:
    """Return robust accuracy at a radius, marked ≤ if an attack skipped samples, and with what a
    sample left open."""
    return ("≤ " if num_skipped(row) else "") + percent(row.robust) + bound_text([row.sampled])


def worst_case_text(r: Result) -> str:
    """Return robust accuracy over all norms, marked ≤ if the evaluation ended early, and with what
    samples left open."""
    bound = bound_text(row.sampled for row in largest_radii(r).values())
    return ("≤ " if r.early else "") + percent(r.robust) + bound


def worst_at(r: Result, levels: Levels, share: Interval) -> str:
    """Return the worst case over the norms at these levels, marked as `worst_case_text`."""
    return ("≤ " if r.early else "") + percent(share) + open_end(r, levels)


def open_end(r: Result, levels: Levels) -> str:
    """Return by how much attacks that ran on a sample could lower the accuracy at these levels."""
    rows = [row_at(r, level) for level in levels.values()]
    return bound_text(row.sampled for row in rows if row is not None)


def mean_prefix(results: Sequence[Result], levels: Levels) -> str:
    """Return "≤ " if a mean of robust accuracies is an upper bound: an evaluation ended early, or
    a sample left something open."""
    return "≤ " if any(r.early or open_end(r, levels) for r in results) else ""


def without_interval(text: str) -> str:
    """Return an accuracy without its interval, where both do not fit.

    >>> without_interval("95.00 [93.0, 97.0] −1.3 by sample")
    '95.00 −1.3 by sample'
    """
    value, bracket, rest = text.partition(" [")
    return value + (rest.partition("]")[2] if bracket else "")


def certificate_text(c: Certificate) -> str:
    """Return a certified accuracy, marked ≥ as a lower bound."""
    return f"≥ {percent(c)}"


def num_skipped(row: EpsRow) -> int:
    """Count samples that attacks at this radius skipped."""
    return sum(a.skipped for a in row.attacks)


def is_smoothed(c: Certificate) -> bool:
    """Return whether a certificate is about a smoothed model instead of the attacked one."""
    return c.name.startswith("smoothing")


def best_certificate(row: EpsRow) -> Certificate | None:
    """Return the highest lower bound at a radius, of the attacked model itself."""
    bounds = [c for c in row.certified if not is_smoothed(c)]
    return max(bounds, key=lambda c: c.accuracy, default=None)


def certified_text(row: EpsRow, n: int) -> str:
    """Return the best certificate in words, or ""; one on fewer than `n` samples says so."""
    best = best_certificate(row)
    if best is None:
        return ""
    first = f", first {best.n}" if best.n < n else ""
    return f"≥ {100 * best.accuracy:.2f} certified{first}"


def suite_options(suite: str) -> list[tuple[str, str]]:
    """Return the options of a command for a suite: one with a surrogate's points has two.

    >>> suite_options("fast+transfer")
    [('--suite', 'fast'), ('--surrogate', 'RUN')]
    """
    name = suite.removesuffix(TRANSFER)
    return [("--suite", name), *([("--surrogate", "RUN")] if name != suite else [])]


def threat_name(r: Result, row: EpsRow) -> str:
    """Return the name of the row's norm; default: the result's threat."""
    return row.threat or str(r.threat.get("name", ""))


def threat_names(results: Sequence[Result]) -> list[str]:
    """Return the names of all norms, in order of appearance."""
    return list(dict.fromkeys(threat_name(r, row) for r in results for row in r.by_eps))


def radius_text(row: EpsRow, name: str = "") -> str:
    """Return a radius in words, `eps 0.1`, or "threat" if it has neither radius nor name.

    >>> radius_text(EpsRow(0.1, Interval(1, 1, 1), 1, []), "Linf")
    'Linf eps 0.1'
    """
    return level_text(name, row.eps) or "threat"


def level_text(name: str, eps: float | None) -> str:
    """Return a norm and a radius in words, each if it is known."""
    return " ".join(filter(None, (name, "" if eps is None else f"eps {format_number(eps)}")))


def levels_text(levels: Levels) -> str:
    """Return the radii of a comparison in words; "" where a threat has neither name nor radius.

    >>> from sparring.results.levels import Level
    >>> levels_text({"Linf": Level("Linf", 0.1), "L2": Level("L2", 0.5)})
    'Linf eps 0.1 and L2 eps 0.5'
    """
    return printable(" and ".join(str(level) for level in levels.values() if str(level)))


def all_radii(results: Sequence[Result]) -> list[tuple[str, float | None]]:
    """Return every norm and radius of the results, norm by norm, rising."""
    names = threat_names(results)
    radii = {(threat_name(r, row), row.eps) for r in results for row in r.by_eps}
    return sorted(radii, key=lambda key: (names.index(key[0]), key[1] or 0.0))


def rows_of(r: Result, name: str) -> list[EpsRow]:
    """Return the rows of a norm."""
    return [row for row in r.by_eps if threat_name(r, row) == name]


def largest_radii(r: Result) -> dict[str, EpsRow]:
    """Return the row of the largest radius of each norm."""
    return {threat_name(r, row): row for row in r.by_eps}


def train_minutes(result: Result) -> str:
    """Return the training time in minutes, or a dash."""
    seconds = result.train.get("seconds")
    return f"{seconds / 60:.1f}" if isinstance(seconds, int | float) else "–"


def unique_names(results: Sequence[Result]) -> list[Result]:
    """Return results under distinct names: suite, split or a number is added to repeated ones.

    Names come from files: what a terminal would obey is escaped, and long ones lose their middle.
    """
    results = shown_names(results)
    names = [r.name for r in results]
    for more in (lambda r: r.suite, lambda r: r.split, lambda r: f"n = {r.n}"):
        groups: dict[str, set[str]] = {}
        for r, name in zip(results, names, strict=True):
            groups.setdefault(name, set()).add(more(r))
        names = [
            f"{name} · {more(r)}" if len(groups[name]) > 1 else name
            for r, name in zip(results, names, strict=True)
        ]
    nth = [names[: k + 1].count(name) for k, name in enumerate(names)]
    final = [f"{m} · {k}" if names.count(m) > 1 else m for m, k in zip(names, nth, strict=True)]
    return [dataclasses.replace(r, name=name) for r, name in zip(results, final, strict=True)]


def shown_names(results: Sequence[Result]) -> list[Result]:
    """Return results whose names, and those of their classes, are escaped and of bounded length."""
    return [
        dataclasses.replace(
            r,
            name=printable(r.name, NAME_LETTERS),
            class_names=[printable(c, NAME_LETTERS) for c in r.class_names],
        )
        for r in results
    ]


def fired_checks(r: Result) -> list[Check]:
    """Return the checks that fired, the gravest first."""
    fired = [c for c in r.checks if c.fired]
    return sorted(fired, key=lambda c: SEVERITY.index(c.severity) if c.severity in SEVERITY else 9)


def is_trusted(r: Result) -> bool:
    """Return whether the verdict is other than "not sound"."""
    return r.verdict != NOT_SOUND


def reason_text(r: Result) -> str:
    """Return the one reason of the verdict, safe to show."""
    return printable(r.reason, REASON_LETTERS)


def other_reasons(r: Result) -> list[str]:
    """Return the reasons of the verdict, without the checks that fired."""
    fired = {f"{c.name}: {c.detail}" for c in fired_checks(r)}
    return [text for text in r.reasons if text not in fired]


def compared_pairs(
    results: Sequence[Result], at: float | None = None
) -> list[comparison.Comparison]:
    """Return pairs of results on the same samples, with the best only if there are many.

    Arguments:
        at: the radius; default: the headline of those measured alike.
    """
    return comparison.pairs(results, at=at, most=MOST_PAIRS)


def difference_text(c: comparison.Comparison) -> str:
    """Return the difference of a pair with its interval, in points."""
    return points(Interval(c.difference, c.low, c.high))


def detectors(results: Sequence[Result]) -> list[tuple[Result, Detection]]:
    """Return results of detectors, models of two classes, with their rates."""
    return [(r, r.detection) for r in results if r.detection and r.detection.positive]


def detection_heads(d: Detection) -> list[str]:
    """Return the heads of `detection_cells`, in order.

    >>> detection_heads(Detection("malware", []))
    ['accuracy', 'FNR', 'FPR']
    """
    heads, first = ["accuracy", "FNR", "FPR"], d.rates[0] if d.rates else None
    if first is not None and first.auc is not None:
        heads += ["AUC", *(f"TPR at FPR {100 * o.at:g} %" for o in first.tpr)]
    return heads


def detection_cells(row: DetectionRates) -> list[str]:
    """Return the rates of a detector and its AUC, each with its interval, in per cent."""
    cells = [percent(i) for i in (row.accuracy, row.fnr, row.fpr)]
    return cells + ([] if row.auc is None else [percent(row.auc), *map(_tpr_text, row.tpr)])


def _tpr_text(o: OperatingPoint) -> str:
    """Return a TPR, with the FPR of its threshold where an attack has raised it."""
    return percent(o.tpr) + (f" (FPR {100 * o.fpr:.1f})" if o.fpr > o.at else "")


def too_few_negatives(d: Detection) -> str:
    """Return a sentence on false-positive rates that the negatives are too few to measure, or "".

    >>> from sparring.results.intervals import wilson
    >>> point = OperatingPoint(0.001, 0.0, None, wilson(8, 10), negatives=700)
    >>> too_few_negatives(Detection("malware", [DetectionRates("clean", *[wilson(8, 10)] * 3,
    ...     tpr=[point])]))
    'FPR 0.1 % needs 1,000 negatives and there are 700: its threshold flags none of them'
    """
    points = [o for o in (d.rates[0].tpr if d.rates else []) if o.too_few]
    if not points:
        return ""
    rates = " and ".join(f"{100 * o.at:g} %" for o in points)
    least = max(math.ceil(1 / o.at - 1e-9) for o in points)
    have = f"{points[0].negatives:,}"
    return (
        f"FPR {rates} needs {least:,} negatives and there are {have}: its threshold flags none of "
        "them"
    )


def detection_row_name(d: Detection, row: DetectionRates) -> str:
    """Return a row's name, with the class to be detected instead of "positives"."""
    return row.name.replace("positives", d.positive) if d.positive else row.name


def flips_text(d: Detection) -> str:
    """Return the number of evasions and of their changed features, in words.

    >>> flips_text(Detection("malware", [], evasions=3, flips=2.5, median=2.0))
    '3 evasions; the fewest changed features that made one: 2.50 on average, 2 in the median'
    """
    text = f"{d.evasions} evasion" + "s" * (d.evasions != 1)
    if d.flips is None:
        return text
    subject = "the fewest changed features that made one"
    return f"{text}; {subject}: {d.flips:.2f} on average, {d.median:g} in the median"


def shorten(name: str, most: int = 48) -> str:
    """Return a name, without its middle if it is long.

    >>> shorten("Landroid/view/ModelView;->scaleY", 13)
    'Landro…scaleY'
    """
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def probe_groups(r: Result) -> list[list[ProbeValue]]:
    """Return the values of probes, grouped by probe."""
    return [list(rows) for _, rows in itertools.groupby(r.probes, key=lambda m: m.probe)]


def lacks_surrogate(r: Result) -> bool:
    """Return whether masking was probed without a surrogate model."""
    probed = any(m.probe == "masking" for m in r.probes)
    return probed and not any(c.name == "transfer beats white-box" for c in r.checks)
