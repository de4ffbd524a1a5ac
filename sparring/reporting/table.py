"""Show results as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..results import comparison
from ..results.detection import Detection
from ..results.result import EpsRow, Result
from ..runtime.fractions import format_number
from . import format, over_seeds
from .literal import LiteralTable

LEFT = {"result", "verdict", "data", "first", "second", "recipe", "attack", "samples"}
STYLES = {"sound": "bold green", "look": "bold yellow", "not sound": "bold red"}


def table(results: Sequence[Result]) -> Group:
    """Return accuracies, verdicts, pairs, seeds and the attacks at the largest radii as tables."""
    format.require_results(results)
    results = format.unique_names(results)
    blocks: list[RenderableType] = [_summary(results), *(_verdict(r) for r in results)]
    if pairs := format.compared_pairs(results):
        blocks.append(_pairs(pairs))
    if recipes := over_seeds.recipe_rows(results):
        blocks.append(_seeds(recipes))
        blocks += [_recipe_pairs(rows)] if (rows := over_seeds.recipe_pairs(recipes)) else []
    if detectors := format.detectors(results):
        blocks.append(_detection(detectors))
        blocks += [_evasions(r, d) for r, d in detectors]
    several = len(format.threat_names(results)) > 1
    for r in results:
        blocks += [_attacks(r, v, name, several) for name, v in format.largest_radii(r).items()]
    return Group(*blocks)


def _titled(title: str, *heads: str) -> Table:
    """Return an empty table; long cells are folded, never cut, so that names stay whole."""
    out = LiteralTable(title=Text(title), title_justify="left")
    for head in heads:
        out.add_column(head, justify="left" if head in LEFT else "right", overflow="fold")
    return out


def _summary(results: Sequence[Result]) -> Table:
    """Return a row per result, or per norm and radius if there are several norms."""
    if len(format.threat_names(results)) > 1:
        return _by_norm(results)
    radii = format.all_radii(results)
    heads = ["threat" if eps is None else f"eps {format_number(eps)}" for _, eps in radii]
    out = _titled(
        "accuracy in % [95 % interval]",
        *("result", "verdict", "data", "n", "clean", *heads, "train min"),
    )
    for r in results:
        by_radius = {row.eps: _cell(r, row) for row in r.by_eps}
        cells = [format.percent(r.clean), *(by_radius.get(eps, "–") for _, eps in radii)]
        out.add_row(*_first_cells(r), str(r.n), *cells, format.train_minutes(r))
    return out


def _by_norm(results: Sequence[Result]) -> Table:
    out = _titled(
        "accuracy in % [95 % interval]",
        *("result", "verdict", "data", "n", "threat", "accuracy"),
    )
    out.columns[4].justify = "left"
    blank = [""] * 4
    for r in results:
        out.add_row(*_first_cells(r), str(r.n), "none (clean)", format.percent(r.clean))
        for row in r.by_eps:
            out.add_row(*blank, format.radius_text(row, format.threat_name(r, row)), _cell(r, row))
        worst = ("worst of all", format.worst_case_text(r))
        out.add_row(*blank, *worst, style="bold", end_section=True)
    return out


def _first_cells(r: Result) -> tuple[Text, Text, Text]:
    verdict = Text(r.verdict or "–", style=STYLES.get(r.verdict, ""))
    return Text(r.name), verdict, Text(f"{r.dataset} {r.split}")


def _cell(r: Result, row: EpsRow) -> str:
    bound = format.certified_text(row, r.n)
    return format.robust_text(row) + (f"\n{bound}" if bound else "")


def _attacks(r: Result, row: EpsRow, name: str, several: bool) -> Table:
    out = _titled(
        f"{r.name}: suite {r.suite} v{r.suite_version}, {format.radius_text(row, name)}",
        *("attack", "accuracy", "robust", "skipped", "seconds", "forwards", "backwards"),
    )
    for a in row.attacks:
        numbers = (f"{a.seconds:.1f}", f"{a.forwards:.1f}", f"{a.backwards:.1f}")
        out.add_row(Text(a.name), format.attack_text(a), "", str(a.skipped or ""), *numbers)
    total = f"{sum(a.seconds for a in row.attacks):.1f}"
    label = f"worst case in {name}" if several and name else "worst case"
    counts = (str(row.count), str(format.num_skipped(row) or ""))
    out.add_row(label, format.robust_text(row), *counts, total, style="bold")
    for c in row.certified:
        of = "smoothed model" if format.is_smoothed(c) else "certified"
        first = f", first {c.n}" if c.n < r.n else ""
        cells = (format.certificate_text(c), "", "", f"{c.seconds:.1f}")
        out.add_row(Text(f"{c.name} ({of}{first})"), *cells, style="cyan")
    return out


def _pairs(pairs: Sequence[comparison.Comparison]) -> Table:
    out = _titled(
        "pairs on the same samples: robust accuracy, first − second, in points",
        *("first", "second", "difference [95 %]", "alone right", "McNemar p"),
    )
    for c in pairs:
        alone = f"{c.first_only} : {c.second_only}"
        marked = format.difference_text(c) + (" (early end)" if c.upper else "")
        out.add_row(Text(c.first), Text(c.second), marked, alone, f"{c.p:.2g}")
    return out


def _seeds(recipes: Sequence[over_seeds.RecipeRow]) -> Table:
    out = _titled(
        "over training seeds: mean ± standard deviation [95 % t interval of the mean], %",
        *("recipe", "seeds", "clean", "robust"),
    )
    for name, runs, clean, robust, *_ in recipes:
        out.add_row(Text(name), str(len(runs)), clean, robust)
    return out


def _recipe_pairs(pairs: Sequence[over_seeds.RecipePair]) -> Table:
    out = _titled(
        "recipes over their seeds: mean robust accuracy, first − second, in points",
        *("first", "second", "difference [95 %]"),
    )
    for v in pairs:
        out.add_row(Text(v.first), Text(v.second), v.difference)
    return out


def _detection(detectors: Sequence[tuple[Result, Detection]]) -> Table:
    out = _titled(
        "detection in % [95 % interval], at the largest radius",
        *("result", "samples", *format.detection_heads(detectors[0][1])),
    )
    for r, d in detectors:
        for k, row in enumerate(d.rates):
            name = Text("" if k else r.name)
            out.add_row(name, Text(format.detection_row_name(d, row)), *format.detection_cells(row))
        out.add_section()
    return out


def _evasions(r: Result, d: Detection) -> Text:
    line = Text(f"{r.name}: {format.flips_text(d)}")
    if d.added:
        most = ", ".join(f"{format.shorten(u.name)} ({u.count})" for u in d.added[:5])
        line.append(f"; added most often: {most}")
    return line


def _verdict(r: Result) -> Group:
    """Return the verdict in its colour, its reasons, and fired checks with their advice."""
    fired = format.fired_checks(r)
    head = Text(f"{r.name}: ")
    if r.verdict or fired:
        head.append(r.verdict.upper() or "checks fired", style=STYLES.get(r.verdict, "yellow"))
    if not fired:
        none = f"none of {len(r.checks)} checks fired"
        head.append(f" ({none})" if r.verdict else none, style="green")
    lines: list[RenderableType] = [head]
    reasons = format.other_reasons(r)
    reasons += [r.early] if r.early and r.early not in reasons else []
    lines += [Padding(Text(reason), (0, 0, 0, 2)) for reason in reasons]
    for c in fired:
        line = Text(f"[{c.severity}] ", style=STYLES.get(c.severity, "yellow"))
        line.append(f"{c.name}: {c.detail}", style="default not bold")
        lines += [Padding(line, (0, 0, 0, 2)), Padding(Text(c.advice), (0, 0, 0, 4))]
    return Group(*lines)
