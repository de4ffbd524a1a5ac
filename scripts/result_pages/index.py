"""Write the tables of docs/results/index.md: every committed result, seeds together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from sparring.runtime.fractions import format_number

from . import statistics
from .collect import SUITES, Collected, Measured
from .tables import DATA, code, folded, minutes, robust, table, threat_text, up

HEADS = ("run", "study", "eps", "n", "suite", "clean", "robust", "measurement", "minutes")


def studies(pages: Sequence[Collected], titles: dict[str, str]) -> str:
    """Return the list of pages, each with the highest run of its main table."""
    lines = []
    for found in pages:
        items = found.headline()
        level = statistics.not_told_apart(items)
        best = next(m for m in items if m.run in level)
        link = f"[{titles[found.page.name]}]({found.page.name}.md)"
        count = len({(m.run, m.evaluation, r.name) for m in found.measured for r in m.results})
        at = "" if best.eps is None else f" at {format_number(best.eps)}"
        answer = f"{robust(best)} under `{best.suite}`{at}"
        lines.append([link, str(count), code(best.run), answer, str(len(level) - 1)])
    return table(["study", "results", "highest", "robust accuracy", "runs level with it"], lines)


def everything(pages: Iterable[Collected]) -> str:
    """Return a section per data set: the main radii, best first; then the others, folded."""
    groups: dict[str, list[tuple[Collected, Measured]]] = {}
    for found in pages:
        for m in found.measured:
            groups.setdefault(m.results[0].dataset, []).append((found, m))
    return "\n\n".join(_section(data, items) for data, items in groups.items())


def _section(data: str, items: list[tuple[Collected, Measured]]) -> str:
    chosen = [(f, m) for f, m in items if _is_main(f, m)]
    others = [(f, m) for f, m in items if not _is_main(f, m)]
    threat = threat_text(items[0][1].results[0])
    parts = [f"### {DATA.get(data, data)}", f"Threat: {threat}.", _table(chosen)]
    if others:
        title = "Other radii, and the validation rows that chose the weights"
        parts.append(folded(title, _table(others)))
    return "\n\n".join(parts)


def _is_main(found: Collected, measured: Measured) -> bool:
    return measured.eps == found.page.eps and measured.results[0].split == "test"


def _table(items: list[tuple[Collected, Measured]]) -> str:
    ordered = sorted(items, key=lambda item: _rank(item[1]))
    return table(HEADS, [_line(found, m) for found, m in ordered])


def _rank(m: Measured) -> tuple[float, int, float]:
    strength = SUITES.index(m.suite) if m.suite in SUITES else len(SUITES)
    return (-(m.eps or 0.0), strength, -m.robust)


def _line(found: Collected, m: Measured) -> list[str]:
    result = m.results[0]
    return [
        code(m.run),
        f"[{found.page.name}]({found.page.name}.md)",
        "any" if m.eps is None else format_number(m.eps),
        f"{result.n}" + ("" if result.split == "test" else f" {result.split}"),
        f"[{m.suite}]({up(m.folder)}/)",
        f"{100 * fmean(r.clean.accuracy for r in m.results):.2f}",
        robust(m),
        statistics.measurement(m),
        minutes(m),
    ]
