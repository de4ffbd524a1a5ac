"""Show attacked pictures in the terminal: what the model said before and after, and what lasts."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ..results.attacked_pictures import Answer, AttackedPicture, AttackedPictures
from ..runtime.fractions import format_number
from ..runtime.text import printable
from .fitting import Cell, FittingTable, Head, Paragraph

STYLES = {"broken": "red", "robust": "green", "wrong already": "yellow"}
MARKS = {"broken": "✗", "robust": "✓", "wrong already": "–"}
HEADS = (
    Head("picture", left=True, name=True),
    Head("before", left=True),
    Head("after", left=True),
    Head("verdict", left=True),
    Head("levels"),
    Head("attack", left=True, rank=2),
    Head("s", rank=1),
)


def pictures_table(record: AttackedPictures) -> RenderableType:
    """Return the table of a record, its survival per format, and what was done to the files."""
    rows = [_row(picture) for picture in record.pictures]
    blocks: list[RenderableType] = [Paragraph(summary(record)), Text("")]
    blocks.append(FittingTable(HEADS, rows))
    kept = record.survival()
    if kept:
        heads = (Head("format", left=True), Head("still broken"))
        cells = [[Cell(name), Cell(f"{k} of {n}")] for name, k, n in kept]
        blocks += [Text(""), FittingTable(heads, cells, title="read from files of other formats")]
    if notes := _notes(record):
        blocks += [Text(""), *(Paragraph(note, "dim") for note in notes)]
    return Group(*blocks)


def summary(record: AttackedPictures) -> str:
    """Return what was attacked and how it went, in one or two sentences."""
    attacked = len(record.attacked)
    eps = f"{record.threat} {format_number(record.eps)}"
    many = "picture" if attacked == 1 else "pictures"
    outlast = f", outlasting {' and '.join(record.transforms)}" if record.transforms else ""
    text = f"{record.attack} at {eps}{outlast} broke {len(record.broken)} of {attacked} {many}"
    text = f"{printable(record.model)}: {text}, as 8-bit files."
    if not attacked:
        text = f"{printable(record.model)}: no picture was attacked."
    if already := len(record) - attacked:
        were = "was" if already == 1 else "were"
        text += f" {already} more {were} wrong already, or the target, and not attacked."
    return text


def answer_text(answer: Answer) -> str:
    """Return a class and the model's confidence in it, in per cent.

    >>> answer_text(Answer("cat", 3, 0.534))
    'cat (53 %)'
    """
    return f"{printable(answer.name, 24)} ({100 * answer.confidence:.0f} %)"


def _row(picture: AttackedPicture) -> list[Cell]:
    style = STYLES[picture.verdict]
    verdict = f"{MARKS[picture.verdict]} {picture.verdict}"
    done = not picture.already
    return [
        Cell(picture.name),
        Cell(answer_text(picture.before)),
        Cell(answer_text(picture.after) if done else ""),
        Cell(verdict, MARKS[picture.verdict] + picture.verdict.partition(" ")[0], style),
        Cell(str(picture.levels) if done else ""),
        Cell(picture.attack if done else ""),
        Cell(f"{picture.seconds:.1f}"),
    ]


def _notes(record: AttackedPictures) -> list[str]:
    """Return what was converted, once for all pictures that share it, and whose label is whose."""
    names: dict[str, list[str]] = {}
    for picture in record.pictures:
        for note in picture.notes:
            names.setdefault(note, []).append(picture.name)
    lines = []
    for note, those in names.items():
        who = "all pictures" if len(those) == len(record) > 1 else _several(those)
        lines.append(f"{who}: {note}")
    assumed = [p.name for p in record.pictures if not p.label_given]
    if assumed:
        who = "every picture" if len(assumed) == len(record) else _several(assumed)
        lines.append(f"The model's own answer was taken for the label of {who}; --label names it.")
    return lines


def _several(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
