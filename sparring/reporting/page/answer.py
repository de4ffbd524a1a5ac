"""Say in one sentence what a result measured, and of what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...results.intervals import Interval
from ...results.levels import Level, Levels, defence, robust_at, row_at
from ...results.result import Result
from ...results.verdicts import LOOK, NOT_SOUND, SOUND, short_reason
from ...runtime.text import printable
from .. import format

TONES = {SOUND: "good", LOOK: "warn", NOT_SOUND: "bad"}
DEFENCES = {
    "undefended": "The model was trained without an adversary.",
    "not attacked": "No attack ran, so nothing is known of its robustness.",
}


class Measurement(NamedTuple):
    """Hold the verdict on a measurement, its one reason, all others, and the tone of both."""

    verdict: str
    reason: str
    tone: str
    others: list[str]


def where(levels: Levels) -> str:
    """Return the levels in words, "Linf eps 0.1 and L2 eps 1"."""
    return " and ".join(map(str, levels.values())).strip() or "the threat"


def at(levels: Levels) -> str:
    """Return the levels as an adverbial, "at Linf eps 0.1" or "under the threat Bits"."""
    radius = any(level.eps is not None for level in levels.values())
    return f"at {where(levels)}" if radius else f"under {_named_threat(levels)}"


def _named_threat(levels: Levels) -> str:
    names = " and ".join(filter(None, map(str, levels.values())))
    return f"the threat {names}" if names else "the threat"


def share_text(i: Interval) -> str:
    """Return an accuracy with its 95 % interval, to a tenth.

    >>> share_text(Interval(0.8852, 0.8415, 0.918))
    '88.5 % [84.2, 91.8]'
    """
    return f"{100 * i.accuracy:.1f} % [{100 * i.low:.1f}, {100 * i.high:.1f}]"


def count(i: Interval, n: int) -> int:
    """Return how many of n samples an accuracy stands for."""
    return round(i.accuracy * n)


def is_early(r: Result, levels: Levels) -> bool:
    """Return whether samples were skipped at these levels: the accuracy is an upper bound."""
    rows = [row_at(r, level) for level in levels.values()]
    return any(row is not None and format.num_skipped(row) for row in rows)


def answer(r: Result, levels: Levels) -> str:
    """Return how many samples withstand every attack, in a sentence."""
    of = f"Of {r.n} sample{'s' * (r.n != 1)} of {printable(r.dataset)} {printable(r.split)}"
    remark, robust = DEFENCES.get(defence(r), ""), robust_at(r, levels)
    if robust is None or defence(r) == "not attacked":
        right = f"{of}, {count(r.clean, r.n)} are right unattacked: {share_text(r.clean)}."
        return f"{right} {DEFENCES['not attacked']}"
    k, early = count(robust, r.n), is_early(r, levels)
    many = "none" if not k else f"{'at most ' * early}{k}"
    verb = "withstands" if k < 2 else "withstand"
    left_open = format.open_end(r, levels)
    attacks = "the attacks that ran" if early or left_open else "every attack"
    share = f"{'≤ ' * early}{share_text(robust)}{left_open}"
    text = f"{of}, {many} {verb} {attacks} {at(levels)}: {share}."
    return f"{text} {remark}".strip()


def measurement(r: Result) -> Measurement:
    """Return the verdict on the measurement with its reasons; the gravest stands apart."""
    others = [f"{c.name}: {c.detail}" for c in format.fired_checks(r)] + format.other_reasons(r)
    others += [r.early] if r.early and r.early not in others else []
    # The reason is one of them in short.
    others = [t for t in others if short_reason(r.verdict, [], [t]) not in (r.reason, "")]
    reason = printable(r.reason, 200)
    return Measurement(r.verdict or "no verdict", reason, TONES.get(r.verdict, "warn"), others)


def setting(results: Iterable[Result]) -> list[tuple[str, str]]:
    """Return what results are of, as names and values: each value that they have."""
    results = list(results)
    values = {
        "data": [f"{r.dataset} {r.split}" for r in results],
        "samples": [str(r.n) for r in results],
        "threat": [_threats(r) for r in results],
        "suite": [f"{r.suite} v{r.suite_version}" for r in results],
        "seed": [str(r.seed) for r in results],
    }
    return [(key, ", ".join(_few(list(dict.fromkeys(v))))) for key, v in values.items()]


def _threats(r: Result) -> str:
    radii: dict[str, list[str]] = {}
    for row in r.by_eps:
        level = Level("", row.eps)
        radii.setdefault(format.threat_name(r, row), []).append(str(level))
    return " and ".join(
        " ".join([name, ", ".join(filter(None, texts)).replace(", eps ", ", ")]).strip()
        for name, texts in radii.items()
    )


def _few(values: list[str], most: int = 4) -> list[str]:
    shown = [printable(value, 100) for value in values[:most]]
    return shown + ([f"{len(values) - most} more"] if len(values) > most else [])
