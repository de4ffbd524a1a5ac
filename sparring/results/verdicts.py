"""The verdict on a measurement, and its one reason in a short sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

SOUND, LOOK, NOT_SOUND = "sound", "look", "not sound"
VERDICTS = (SOUND, LOOK, NOT_SOUND)
FORMER = {"trust": SOUND, "do not trust": NOT_SOUND}  # in files of schema 1
NO_GRADIENT_FREE = "no gradient-free attack ran"
FORMER_NO_GRADIENT_FREE = "no attack of this suite works without gradients"
MOST_NAMED = 2  # checks that a reason names


class FiredCheck(Protocol):
    """Name a check, whether it fired, and the verdict that it then forces."""

    @property
    def name(self) -> str: ...
    @property
    def fired(self) -> bool: ...
    @property
    def severity(self) -> str: ...


def current_verdicts(data: dict[str, Any]) -> None:
    """Rename the verdicts of a result of schema 1 in place; those of today stay.

    >>> data = {"verdict": "trust", "checks": [{"severity": "do not trust"}]}
    >>> current_verdicts(data)
    >>> data
    {'verdict': 'sound', 'checks': [{'severity': 'not sound'}]}
    """
    checks = data.get("checks")
    tables = [data, *(checks if isinstance(checks, list) else ())]
    for table, key in ((t, k) for t in tables for k in ("verdict", "severity")):
        former = table.get(key) if isinstance(table, dict) else None
        if isinstance(former, str) and former in FORMER:
            table[key] = FORMER[former]


def short_reason(
    verdict: str, checks: Sequence[FiredCheck], reasons: Sequence[str] = (), early: str = ""
) -> str:
    """Return the gravest reason of a verdict: fired checks, an early end, what was not run.

    >>> short_reason("sound", [])
    'no check fired, and gradient-free attacks ran'
    >>> short_reason("look", [], ["no gradient-free attack ran, so masked gradients stay hidden"])
    'no gradient-free attack ran'
    """
    if fired := [check for check in checks if check.fired]:
        names = [c.name for c in sorted(fired, key=lambda c: c.severity != NOT_SOUND)]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        named = ", ".join(names[:MOST_NAMED]) + more
        return f"{len(fired)} of {len(checks)} checks fired: {named}"
    if early:
        return early
    if reasons:
        known = (NO_GRADIENT_FREE, FORMER_NO_GRADIENT_FREE)
        return NO_GRADIENT_FREE if reasons[0].startswith(known) else reasons[0]
    if verdict == SOUND and checks:
        return f"all {len(checks)} checks passed, gradient-free attacks among them"
    if verdict == SOUND:
        return "no check fired, and gradient-free attacks ran"
    return f"all {len(checks)} checks passed" if checks else "no check ran"
