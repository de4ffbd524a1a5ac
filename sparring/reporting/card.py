"""Show one result in the terminal: its accuracies, the worst attacks, and the measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ..results.levels import defence
from ..results.result import EpsRow, Result
from ..results.verdicts import LOOK, NOT_SOUND, SOUND
from ..runtime.text import printable
from . import format
from .fitting import GAP, Cell, FittingTable, Head, joined, one_line, wrapped

STYLES = {SOUND: "bold green", LOOK: "bold yellow", NOT_SOUND: "bold red"}
HEADS = [Head("", left=True), Head("", left=True), Head("", left=True)]
WIDEST = 120  # columns: attacks further right are too far from their radius to be read with it
MOST_ATTACKS = 4  # beside a radius


@dataclass
class Card:
    """Show a result whose texts are safe to show."""

    result: Result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        r, width = self.result, min(options.max_width, WIDEST)
        name = Text(printable(r.name, width), "bold")
        facts = [Text(printable(fact, width)) for fact in subject(r)]
        yield from joined([name, *facts], width, gap=" · ", indent=0)
        yield from measurement(dataclasses.replace(r, reason=full_reason(r)), width)
        if lack := defence(r):
            yield Text(f"the model: {lack}")
        cells, attacked = zip(*_rows(r), strict=True)
        lines = FittingTable(HEADS, cells).lines(width)
        whole = len(lines) == len(attacked)  # else some rows take two lines
        for k, line in enumerate(lines):
            yield _with_attacks(line, attacked[k], width) if whole else line
        yield from sampled(r, width)
        yield from fired(r, width)


def sampled(r: Result, width: int) -> Iterator[Text]:
    """Yield for each radius what a sample of the survivors shows of the others."""
    for row in r.by_eps:
        if row.sampled is not None:
            at = format.radius_text(row, format.threat_name(r, row))
            yield from wrapped(f"sample of {row.sampled.sample} at {at}: {row.sampled}", width)


def subject(r: Result) -> list[str]:
    """Return samples, norms and suite in words."""
    norms = ", ".join(filter(None, format.threat_names([r])))
    facts = [f"{r.n} of {r.dataset} {r.split}", norms, f"{r.suite} v{r.suite_version}"]
    return [fact for fact in facts if fact]


def measurement(r: Result, width: int, names: str = "") -> Iterator[Text]:
    """Yield the verdict on the measurement with its reason.

    Arguments:
        names: of the results that it is of.
    """
    facts = (f"measurement: {r.verdict or 'no verdict'}", names, format.reason_text(r))
    lines = wrapped(" · ".join(filter(None, facts)), width)
    if r.verdict:
        lines[0].highlight_words([f"measurement: {r.verdict}"], STYLES.get(r.verdict, ""))
    yield from lines
    if r.early and r.early not in r.reason:
        yield from wrapped(f"ended early: {r.early}", width)


def fired(r: Result, width: int) -> Iterator[Text]:
    """Yield the checks that fired with their advice, and the other reasons of the verdict."""
    for check in format.fired_checks(r):
        head, *more = wrapped(f"{check.severity} · {check.name}: {check.detail}", width, indent=2)
        head.highlight_words([check.severity], STYLES.get(check.severity, "yellow"))
        yield from (head, *more)
        yield from wrapped(check.advice, width, indent=4)
    for reason in format.other_reasons(r):
        if reason not in (full_reason(r), r.early):
            yield from wrapped(reason, width, indent=2)


def full_reason(r: Result) -> str:
    """Return the reason of the verdict with what to do about it, where it says so."""
    return next((long for long in r.reasons if long.startswith(r.reason)), r.reason)


def _rows(r: Result) -> list[tuple[list[Cell], EpsRow | None]]:
    """Return a row per radius, certificates below it, and the worst case over several norms."""
    several = len(format.threat_names([r])) > 1
    right = round(r.clean.accuracy * r.n)
    rows: list[tuple[list[Cell], EpsRow | None]] = [
        ([Cell("clean"), _accuracy(format.percent(r.clean)), Cell(f"{right} right")], None)
    ]
    for row in r.by_eps:
        label = format.radius_text(row, format.threat_name(r, row) if several else "")
        count = Cell(f"{row.count} robust")
        rows.append(([Cell(label), _accuracy(format.robust_text(row)), count], row))
        if best := format.best_certificate(row):
            first = f"first {best.n}" if best.n < r.n else ""
            bound = _accuracy(format.certificate_text(best))
            rows.append(([Cell("  certified"), bound, Cell(first)], None))
    if several:
        worst = Cell(format.worst_case_text(r), style="bold")
        rows.append(([Cell("worst of all", style="bold"), worst, Cell("")], None))
    return rows


def _accuracy(text: str) -> Cell:
    return Cell(text, format.without_interval(text))


def _with_attacks(line: Text, row: EpsRow | None, width: int) -> Text:
    """Return the line with the attacks that left the fewest samples, as many as fit."""
    attacks = sorted(row.attacks, key=lambda a: a.accuracy)[:MOST_ATTACKS] if row else []
    joint, out = GAP + GAP, line.copy()
    for attack in attacks:
        text = f"{joint}{format.shorten(attack.name, 24)} {100 * attack.accuracy:.1f}"
        if cell_len(out.plain + text) > width:
            break
        out.append(text, style="dim")
        joint = " · "
    return one_line(out)
