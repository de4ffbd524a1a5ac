"""How numbers of results are written: the same in the terminal and on the page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from ..results import comparison
from ..results.detection import Detection, DetectionRates, OperatingPoint
from ..results.intervals import Interval
from ..results.result import AttackRow, Certificate, Check, EpsRow, ProbeValue, Result
from ..runtime.fractions import shown

MOST_PAIRS = 10  # with more pairs, each is compared with the best that is measured alike only
SEVERITY = ("do not trust", "look")


def require_results(results: Sequence[Result]) -> None:
    """Raise unless there is something to show."""
    if not results:
        raise ValueError("there are no results to show: evaluate a run first")


def interval(i: Interval | AttackRow | Certificate) -> str:
    """An accuracy and its 95 % interval, in per cent.

    >>> interval(Interval(0.95, 0.93, 0.97))
    '95.00 [93.0, 97.0]'
    """
    return f"{100 * i.accuracy:.2f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"


def points(i: Interval) -> str:
    """A difference of accuracies with its interval, in points.

    >>> points(Interval(0.05, -0.01, 0.11))
    '+5.00 [−1.0, +11.0]'
    """
    text = f"{100 * i.accuracy:+.2f} [{100 * i.low:+.1f}, {100 * i.high:+.1f}]"
    return text.replace("-", "−")


def attacked(row: AttackRow) -> str:
    """Accuracy under an attack; an upper bound where it was not run on all."""
    return ("≤ " if row.skipped else "") + interval(row)


def standing(row: EpsRow) -> str:
    """The worst case at a radius; an upper bound where some attack was not run on all."""
    return ("≤ " if skipped(row) else "") + interval(row.robust)


def worst(r: Result) -> str:
    """The worst case of the whole result."""
    return ("≤ " if r.early else "") + interval(r.robust)


def proven(c: Certificate) -> str:
    """A certified accuracy, a lower bound."""
    return f"≥ {interval(c)}"


def skipped(row: EpsRow) -> int:
    """Samples that attacks at this radius were not run on."""
    return sum(a.skipped for a in row.attacks)


def smoothed(c: Certificate) -> bool:
    """Whether a certificate is about a smoothed model instead of the one attacked."""
    return c.name.startswith("smoothing")


def bound(row: EpsRow) -> Certificate | None:
    """The highest lower bound at a radius that is about the attacked model itself."""
    own = [c for c in row.certified if not smoothed(c)]
    return max(own, key=lambda c: c.accuracy, default=None)


def least(row: EpsRow, n: int) -> str:
    """That bound in words, "" where there is none; n the samples that were attacked."""
    best = bound(row)
    if best is None:
        return ""
    first = f", first {best.n}" if best.n < n else ""
    return f"≥ {100 * best.accuracy:.2f} certified{first}"


def threat(r: Result, row: EpsRow) -> str:
    """The name of the row's norm; the result's threat where only that is known."""
    return row.threat or str(r.threat.get("name", ""))


def threats(results: Sequence[Result]) -> list[str]:
    """The names of all norms, in order of appearance."""
    return list(dict.fromkeys(threat(r, row) for r in results for row in r.by_eps))


def radius(row: EpsRow, name: str = "") -> str:
    """How a radius is named: `eps 0.1`, or the threat itself where it has none.

    >>> radius(EpsRow(0.1, Interval(1, 1, 1), 1, []), "Linf")
    'Linf eps 0.1'
    """
    text = "" if row.eps is None else f"eps {shown(row.eps)}"
    return " ".join(filter(None, (name, text))) or "threat"


def radii(results: Sequence[Result]) -> list[tuple[str, float | None]]:
    """Every norm and radius of the results: norm by norm, rising."""
    names = threats(results)
    found = {(threat(r, row), row.eps) for r in results for row in r.by_eps}
    return sorted(found, key=lambda key: (names.index(key[0]), key[1] or 0.0))


def tops(r: Result) -> dict[str, EpsRow]:
    """The row of the largest radius of each norm."""
    return {threat(r, row): row for row in r.by_eps}


def minutes(result: Result) -> str:
    """Training time, if it is known."""
    seconds = result.train.get("seconds")
    return f"{seconds / 60:.1f}" if isinstance(seconds, int | float) else "–"


def labelled(results: Sequence[Result]) -> list[Result]:
    """The results under names that tell them apart: with suite, split or number where one
    repeats."""
    names = [r.name for r in results]
    for more in (lambda r: r.suite, lambda r: r.split, lambda r: f"n = {r.n}"):
        again = {name for name in names if names.count(name) > 1}
        groups = {
            name: {more(r) for r, own in zip(results, names, strict=True) if own == name}
            for name in again
        }
        names = [
            f"{name} · {more(r)}" if name in again and len(groups[name]) > 1 else name
            for r, name in zip(results, names, strict=True)
        ]
    seen: dict[str, int] = {}
    final = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        final.append(f"{name} · {seen[name]}" if names.count(name) > 1 else name)
    return [dataclasses.replace(r, name=name) for r, name in zip(results, final, strict=True)]


def fired(r: Result) -> list[Check]:
    """The checks that fired, the gravest first."""
    found = [c for c in r.checks if c.fired]
    return sorted(found, key=lambda c: SEVERITY.index(c.severity) if c.severity in SEVERITY else 9)


def trusted(r: Result) -> bool:
    """Whether nothing says that the accuracy means little."""
    return r.verdict != "do not trust"


def other_reasons(r: Result) -> list[str]:
    """What the verdict gives as reasons beside the checks that fired."""
    return [text for text in r.reasons if text not in {f"{c.name}: {c.detail}" for c in fired(r)}]


def compared(results: Sequence[Result]) -> list[comparison.Comparison]:
    """Pairs of results on the same samples; of many, each with the best that is measured alike."""
    found = comparison.pairs(results)
    if len(found) <= MOST_PAIRS:
        return found
    best = {max(group, key=lambda r: r.robust.accuracy).name for group in alike(results)}
    return [c for c in found if best & {c.first, c.second}]


def alike(results: Sequence[Result]) -> list[list[Result]]:
    """Results by what they were measured on and under, the largest radii too: those whose worst
    cases may be compared."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        under = (r.suite, r.suite_version, *((name, row.eps) for name, row in tops(r).items()))
        groups.setdefault((r.dataset, r.split, r.n, *under), []).append(r)
    return list(groups.values())


def difference(c: comparison.Comparison) -> str:
    """Its difference, in points."""
    return points(Interval(c.difference, c.low, c.high))


def detectors(results: Sequence[Result]) -> list[tuple[Result, Detection]]:
    """The results that are of a detector: two classes."""
    return [(r, r.detection) for r in results if r.detection and r.detection.positive]


def detection_heads(d: Detection) -> list[str]:
    """What `detection_cells` are, in order.

    >>> detection_heads(Detection("malware", []))
    ['accuracy', 'FNR', 'FPR']
    """
    heads, first = ["accuracy", "FNR", "FPR"], d.rates[0] if d.rates else None
    if first is not None and first.auc is not None:
        heads += ["AUC", *(f"TPR at FPR {100 * o.at:g} %" for o in first.tpr)]
    return heads


def detection_cells(row: DetectionRates) -> list[str]:
    """The rates of a detector, each with its interval, in per cent, the AUC too."""
    cells = [interval(i) for i in (row.accuracy, row.fnr, row.fpr)]
    return cells + ([] if row.auc is None else [interval(row.auc), *map(_found, row.tpr)])


def _found(o: OperatingPoint) -> str:
    """A TPR, and the FPR that its threshold gives where that is another than on clean samples."""
    more = f" (FPR {100 * o.fpr:.1f})" if o.fpr > o.at else ""
    return interval(o.tpr) + more


def detection_name(d: Detection, row: DetectionRates) -> str:
    """A row's name, with the class that is detected in the place of "positives"."""
    return row.name.replace("positives", d.positive) if d.positive else row.name


def flips(d: Detection) -> str:
    """How many evasions there were and what they took, in words.

    >>> flips(Detection("malware", [], evasions=3, flips=2.5, median=2.0))
    '3 evasions; the fewest changed features that made one: 2.50 on average, 2 in the median'
    """
    text = f"{d.evasions} evasion" + "s" * (d.evasions != 1)
    if d.flips is None:
        return text
    took = "the fewest changed features that made one"
    return f"{text}; {took}: {d.flips:.2f} on average, {d.median:g} in the median"


def short(name: str, most: int = 48) -> str:
    """A long name with its middle left out.

    >>> short("Landroid/view/ModelView;->scaleY", 13)
    'Landro…scaleY'
    """
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def probed(r: Result) -> list[list[ProbeValue]]:
    """What was measured inside the model, probe by probe."""
    return [list(rows) for _, rows in itertools.groupby(r.probes, key=lambda m: m.probe)]


def measured(value: float | None) -> str:
    """A number of a probe.

    >>> measured(0.0123456), measured(1234.5), measured(None)
    ('0.0123', '1,234', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def untransferred(r: Result) -> bool:
    """Whether masking was probed without a surrogate's points."""
    looked = any(m.probe == "masking" for m in r.probes)
    return looked and not any(c.name == "transfer beats white-box" for c in r.checks)
