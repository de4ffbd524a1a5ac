"""Show results in the terminal: one as a card, several as a ranking with their differences."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from ..results import comparison
from ..results.levels import (
    Level,
    comparable_groups,
    defence,
    group_headline,
    headline,
    ranked,
    robust_at,
    row_at,
    tied_with_best,
)
from ..results.result import Result
from . import format, over_seeds
from .card import STYLES, Card, measurement, subject
from .details import attacks, detection
from .fitting import Cell, FittingTable, Head, Paragraph

MARK = "*"  # of results that are not told apart from the best: bold is not seen everywhere
MOST_NAMES = 3  # before a verdict that several results share
MOST_PAIRS = 10
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def table(
    results: Sequence[Result], *, at: float | None = None, details: bool = False
) -> RenderableType:
    """Return results for the terminal, in lines that fit it.

    Arguments:
        at: compare at this radius; default: the headline of the results, see `results.levels`.
        details: add every attack with its cost, and all pairs.

    Raises:
        ValueError: without results, or if none has the radius `at`.
    """
    format.require_results(results)
    headline(results, at)  # raises
    results = format.unique_names(results)
    blocks: list[RenderableType] = []
    if len(results) == 1:
        blocks.append(Card(results[0]))
    else:
        groups = comparable_groups(results)
        tables = [_rank_table(group, at) for group in groups]
        blocks += [*tables, Group(*_legend(tables), Verdicts(results))]
        blocks += _differences(results, at, MOST_PAIRS if not details else None)
        blocks += _seeds(results, at)
    blocks += detection(results)
    blocks += attacks(results) if details else []
    return Group(*_spaced(blocks))


def summary_lines(results: Sequence[Result], *, at: float | None = None) -> RenderableType:
    """Return one line per result: accuracies at the headline, and the verdict on the measurement.

    Arguments:
        at: as in `table`.
    """
    format.require_results(results)
    headline(results, at)  # raises
    groups = comparable_groups(format.unique_names(results))
    return Group(*(_rank_table(group, at, brief=True) for group in groups))


def _spaced(blocks: Iterable[RenderableType]) -> list[RenderableType]:
    """Return the blocks with an empty line between two."""
    out: list[RenderableType] = []
    for block in blocks:
        out += [Text(""), block] if out else [block]
    return out


class Verdicts:
    """Show each verdict on a measurement once, with the names of the results it is of."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        groups: dict[tuple[str, str], list[Result]] = {}
        for r in self.results:
            groups.setdefault((r.verdict, NUMBER.sub("#", r.reason)), []).append(r)
        for alike in groups.values():
            names = ", ".join(r.name for r in alike[:MOST_NAMES])
            names += f" and {len(alike) - MOST_NAMES} more" if len(alike) > MOST_NAMES else ""
            first = dataclasses.replace(alike[0], reason=merged([r.reason for r in alike]))
            yield from measurement(first, options.max_width, names if len(groups) > 1 else "")


def merged(texts: Sequence[str]) -> str:
    """Return texts that differ in their numbers as one, with the range of each number.

    >>> merged(["all 16 checks passed", "all 18 checks passed"])
    'all 16–18 checks passed'
    """
    columns = zip(*(NUMBER.findall(text) for text in texts), strict=True)
    ends = ((min(column, key=float), max(column, key=float)) for column in columns)
    shown = iter([low if float(low) == float(high) else f"{low}–{high}" for low, high in ends])
    return NUMBER.sub(lambda _: next(shown), texts[0])


def _rank_table(
    results: Sequence[Result], at: float | None, *, brief: bool = False
) -> FittingTable:
    """Return a row per result, best first."""
    levels = group_headline(results, at)
    best = set() if brief else tied_with_best(results, levels)
    several = brief or len({r.verdict for r in results}) > 1
    heads = [
        Head("result", left=True, name=True),
        Head("clean"),
        *(Head(str(level) or "robust") for level in levels.values()),
        *([Head("worst of all")] if len(levels) > 1 else []),
        Head("measurement", left=True, rank=0 if brief else 1),
        Head("model", left=True),
        Head("train min", rank=2),
    ]
    rows = []
    for r in ranked(results, at):
        style = "bold" if r.name in best else ""
        share = robust_at(r, levels)
        worst = format.worst_at(r, levels, share) if share else "–"
        lack = defence(r)
        # No green beside a model without a defence: it would read as praise of the model.
        colour = "" if lack else STYLES.get(r.verdict, "")
        rows.append(
            [
                Cell(f"{r.name} {MARK}" if style else r.name, style=style),
                _interval(format.percent(r.clean)),
                *(_level_cell(r, level, style) for level in levels.values()),
                *([_interval(worst, style)] if len(levels) > 1 else []),
                Cell(r.verdict if several else "", style=colour),
                Cell(lack),
                Cell("" if brief else format.train_minutes(r)),
            ]
        )
    count = f"{len(results)} result" + "s" * (len(results) > 1)
    return FittingTable(heads, rows, "" if brief else " · ".join([count, *subject(results[0])]))


def _legend(tables: Sequence[FittingTable]) -> list[RenderableType]:
    marked = any(row[0].style for ranking in tables for row in ranking.rows)
    return [Paragraph(f"{MARK} best, or not told apart from the best")] if marked else []


def _level_cell(r: Result, level: Level, style: str) -> Cell:
    row = row_at(r, level)
    text = "–" if row is None else format.robust_text(row)
    return _interval(text, style)


def _interval(text: str, style: str = "") -> Cell:
    return Cell(text, format.without_interval(text), style)


def _differences(
    results: Sequence[Result], at: float | None, most: int | None
) -> list[RenderableType]:
    """Return the pairs of results on the same samples, at the headline; all if `most` is None."""
    pairs = format.compared_pairs(results, at)
    if not pairs:
        return []
    heads = [Head("first", left=True, name=True), Head("second", left=True, name=True)]
    heads += [Head("points"), Head("alone right", rank=2), Head("McNemar p", rank=1)]
    if most is not None and len(pairs) > most:  # the closest ones: of others all is clear
        shown = sorted(pairs, key=lambda c: abs(c.difference))[:most]
    else:
        shown = list(pairs)
    rows = [_difference(c) for c in shown]
    where = "; ".join(dict.fromkeys(c.where for c in pairs))
    table = FittingTable(heads, rows, f"first − second on the same samples, {where}")
    more = len(pairs) - len(rows)
    rest = [Paragraph(f"and {more} further apart", "dim")] if more else []
    return [Group(table, *rest)]


def _difference(c: comparison.Comparison) -> list[Cell]:
    text = format.difference_text(c) + (" (early end)" if c.upper else "")
    alone, p = f"{c.first_only} : {c.second_only}", f"{c.p:.2g}"
    return [Cell(c.first), Cell(c.second), _interval(text), Cell(alone), Cell(p)]


def _seeds(results: Sequence[Result], at: float | None) -> list[RenderableType]:
    """Return means over training seeds, and the differences of recipes over them."""
    recipes = over_seeds.recipe_rows(results, at)
    if not recipes:
        return []
    heads = [Head("recipe", left=True, name=True), Head("seeds"), Head("clean"), Head("robust")]
    rows = [
        [Cell(r.name), Cell(str(len(r.runs))), _interval(r.clean), _interval(r.robust)]
        for r in recipes
    ]
    where = "; ".join(dict.fromkeys(r.where or "robust accuracy" for r in recipes))
    title = f"over training seeds, {where}: mean ± standard deviation [95 % interval of the mean]"
    out: list[RenderableType] = [FittingTable(heads, rows, title)]
    if pairs := over_seeds.recipe_pairs(recipes):
        heads = [Head("first", left=True, name=True), Head("second", left=True, name=True)]
        cells = [[Cell(p.first), Cell(p.second), _interval(p.difference)] for p in pairs]
        title = f"first − second over seeds, {where}"
        out.append(FittingTable([*heads, Head("points")], cells, title))
    return out
