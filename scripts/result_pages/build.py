"""Build all pages of docs/results/, and tell which are out of date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from . import blocks, extras, figure, ideas, index, tables, trials
from .collect import PAGES, RESULTS, ROOT, Collected, collect, trials_file

INDEX = ROOT / "docs" / "results" / "index.md"
README = ROOT / "README.md"
SHOWN = "main-fashion"  # the page whose table the README has
MOONS = ROOT / "docs" / "results" / "moons.md"
NOTE = (
    "**Bold**: the best run, and every run whose difference to it may be 0. † in the figure: the "
    "measurement is not sound. Bars are 95 % intervals: of one seed over samples, else over seeds."
)


def build() -> None:
    """Write every page and figure."""
    found = [collect(page) for page in PAGES]
    for one in found:
        drawn = figure.draw(one)
        one.page.figure.parent.mkdir(parents=True, exist_ok=True)
        one.page.figure.write_text(drawn, encoding="utf-8")
        _write(one.page.file, made(one), one.page.shown(), drawn)
    _write(MOONS, {"results": extras.moons_table()}, [RESULTS / "moons"], "")
    shown = next(one for one in found if one.page.name == SHOWN)
    _write(README, {"results": tables.headline(shown)}, shown.page.sources(), "")
    titles = {page.name: title(page.file) for page in PAGES}
    overview = {
        "ideas": ideas.ideas_table(found, titles),
        "studies": index.studies(found, titles),
        "everything": index.everything(found),
    }
    _write(INDEX, overview, [RESULTS], "")


def made(found: Collected) -> dict[str, str]:
    """Return the blocks of a page."""
    picture = f"![{figure.title(found)}](../figures/results/{found.page.figure.name})"
    closed = [
        ("Every evaluation and radius", tables.everything(found)),
        *tables.pair_tables(found),
        *extras.attack_tables(found),
    ]
    if tried := trials.trials_table(trials_file(found.page.name)):
        closed.append(("Trials on the validation split, which chose the settings", tried))
    if rates := extras.detection_table(found):
        closed.insert(0, ("Error rates: clean, and with the malware attacked", rates))
    if agreement := extras.agreement_table(found):
        name = "Do metrics rank the runs as AutoAttack does? Spearman's ρ"
        closed[1:1] = [(name, agreement), ("Metrics beside accuracy", tables.metrics(found))]
    rivals = {"rivals": table} if (table := extras.rivals_table(found)) else {}
    classes = {"classes": table} if (table := extras.class_table(found)) else {}
    chosen = {"pairs": tables.chosen_pairs(found)} if found.page.pairs else {}
    return (
        chosen
        | rivals
        | classes
        | {
            "head": tables.head(found),
            "results": "\n\n".join([picture, tables.headline(found), NOTE + _seeds(found)]),
            "details": "\n\n".join(tables.folded(*pair) for pair in closed),
        }
    )


def _seeds(found: Collected) -> str:
    seeds = tables.shared_seeds(found)
    return f" ± is the standard deviation over {seeds} seeds." if seeds else ""


def title(file: Path) -> str:
    """Return the heading of a page."""
    match = re.search(r"^# (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None, f"{file} has no heading"
    return match[1]


def out_of_date() -> Iterator[str]:
    """Yield what is wrong with each page that is not made from the present results."""
    for page in PAGES:
        drawn = page.figure.read_text(encoding="utf-8")
        yield from _check(page.file, page.shown(), drawn)
        if page.name == SHOWN:
            yield from _check(README, page.sources(), "")
    yield from _check(MOONS, [RESULTS / "moons"], "")
    yield from _check(INDEX, [RESULTS], "")


def _check(file: Path, folders: list[Path], drawn: str) -> Iterator[str]:
    if wrong := blocks.state(file.read_text(encoding="utf-8"), folders, drawn):
        yield f"{file.relative_to(ROOT)}: {wrong}"


def _write(file: Path, made: dict[str, str], folders: list[Path], drawn: str) -> None:
    text = blocks.filled(file.read_text(encoding="utf-8"), made)
    file.write_text(blocks.stamped(text, folders, drawn), encoding="utf-8")
