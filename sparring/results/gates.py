"""Judge a result against the demands of a pipeline, and write the outcome as JUnit XML."""

from __future__ import annotations

import math
import re
from numbers import Real
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ..component import did_you_mean
from ..runtime import files
from ..runtime.fractions import format_number
from .headlines import level_of
from .result import EpsRow, Result
from .sampled import bound_text, total_bound
from .verdicts import LOOK, NOT_SOUND, SOUND

FAIL_ON = {"look": (LOOK, NOT_SOUND), "not-sound": (NOT_SOUND,)}
UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


class Gate(NamedTuple):
    """Hold the demands on a result; None demands nothing.

    Arguments:
        fail_under: the least robust accuracy, in [0, 1], at the largest radius, of an evaluation
            that ran to its end.
        fail_on: "look" or "not-sound": the verdict on the measurement that fails, and worse ones.
    """

    fail_under: float | None = None
    fail_on: str | None = None

    def check(self) -> Gate:
        """Return the gate itself.

        Raises:
            ValueError: for a share outside [0, 1], or another verdict.
        """
        share = self.fail_under
        is_share = isinstance(share, Real) and math.isfinite(share) and 0 <= share <= 1
        if share is not None and not is_share:
            hint = f"; for {share:g} % give {share / 100:g}" if _is_percentage(share) else ""
            raise ValueError(
                f"fail_under = {share!r} is not allowed: fail_under must be a share from 0 to 1"
                + hint
            )
        if self.fail_on is not None and self.fail_on not in FAIL_ON:
            raise ValueError(did_you_mean("fail_on", str(self.fail_on), FAIL_ON))
        return self

    def failures(self, result: Result) -> list[str]:
        """Return a sentence for each demand that a result fails; none if it passes.

        >>> Gate().failures(None)
        []
        """
        return list(filter(None, (self.accuracy_failure(result), self.verdict_failure(result))))

    def accuracy_failure(self, result: Result) -> str:
        """Return why the robust accuracy, less what a sample left open, fails, or ""; after an
        early end it always fails: it is only an upper bound then."""
        if self.fail_under is None:
            return ""
        claims = [row.sampled for row in _largest(result)]
        at = " and ".join(dict.fromkeys(str(level_of(result, row)) for row in _largest(result)))
        if result.robust.accuracy - total_bound(claims) >= self.fail_under - 1e-12:
            return _early_end(result, at)
        low, high = result.robust.low, result.robust.high
        return (
            f"robust accuracy {result.robust.accuracy:.1%}{bound_text(claims)} at {at} is below "
            f"{self.fail_under:.1%} (95 % interval {low:.1%} to {high:.1%}, {result.n} samples)"
        )

    def verdict_failure(self, result: Result) -> str:
        """Return why the verdict on the measurement fails, or ""."""
        if self.fail_on is None or result.verdict not in FAIL_ON[self.fail_on]:
            return ""
        return f"the measurement is {result.verdict!r}, not {SOUND!r}: {result.reason}"


def write_junit(result: Result, gate: Gate, path: str | Path) -> Path:
    """Write a result as a test suite of JUnit's XML; return the path.

    A case each: clean accuracy, robust accuracy at each radius, the measurement, and each check.
    The gate's demands fail cases; a check that fired fails its case if its verdict fails the gate.

    Raises:
        OSError: if it cannot be written.
    """
    suite = ElementTree.Element("testsuite", name=_text(f"sparring {result.suite}"))
    classname = _text(f"{result.name}.{result.dataset}")
    cases: list[tuple[str, float, str, str]] = [
        ("clean accuracy", 0.0, f"{result.clean.accuracy:.4f} of {result.n} samples", "")
    ]
    last = _largest(result)
    for row in result.by_eps:
        seconds = sum(attack.seconds for attack in row.attacks)
        failure = gate.accuracy_failure(result) if row in last else ""
        cases.append((f"robust accuracy at {level_of(result, row)}", seconds, _facts(row), failure))
    cases.append(
        ("measurement", 0.0, f"{result.verdict}: {result.reason}", gate.verdict_failure(result))
    )
    grave = FAIL_ON.get(gate.fail_on or "", ())
    for check in result.checks:
        failure = f"{check.detail} {check.advice}".strip() if check.fired else ""
        failed = failure if check.severity in grave else ""
        cases.append((f"check: {check.name}", 0.0, check.detail or failure, failed))
    for name, seconds, output, failure in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname=classname, name=_text(name), time=f"{seconds:.3f}"
        )
        if failure:
            ElementTree.SubElement(case, "failure", message=_text(failure))
        ElementTree.SubElement(case, "system-out").text = _text(output)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(bool(failure) for *_, failure in cases)))
    suite.set("errors", "0")
    suite.set("time", f"{result.seconds:.3f}")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    content = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    files.write(Path(path), content + b"\n")
    return Path(path)


def _largest(result: Result) -> list[EpsRow]:
    """Return the row of the largest radius of each norm: `Result.robust` is their worst case."""
    return list({level_of(result, row).threat: row for row in result.by_eps}.values())


def _early_end(result: Result, at: str) -> str:
    """Return why an accuracy that is high enough does not count: it is of a spent budget; or ""."""
    if not result.early:
        return ""
    return (
        f"robust accuracy {result.robust.accuracy:.1%} at {at} is only an upper bound, as "
        f"{result.early}; raise --seconds or --queries"
    )


def _facts(row: EpsRow) -> str:
    shares = ", ".join(f"{attack.name} {attack.accuracy:.4f}" for attack in row.attacks)
    low, high = format_number(row.robust.low), format_number(row.robust.high)
    return f"{row.robust.accuracy:.4f} [{low}, {high}], {row.count} samples; {shares}"


def _is_percentage(share: object) -> bool:
    return isinstance(share, Real) and 1 < float(share) <= 100


def _text(text: str) -> str:
    """Return a text without the letters that XML cannot hold."""
    return UNWRITABLE.sub("\ufffd", text)
