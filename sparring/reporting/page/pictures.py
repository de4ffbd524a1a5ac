"""Gather what the page of attacked pictures shows, and write it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...results.attacked_pictures import AttackedPicture, AttackedPictures, enlarged_difference
from ...results.pictures import png_bytes
from ...runtime.fractions import format_number
from .. import charts
from ..pictures_table import MARKS, answer_text, summary
from .render import write_page

TONES = {"broken": "bad", "robust": "good", "wrong already": "warn"}
SMALL = 112  # pixels: smaller pictures are enlarged pixel by pixel


class PictureSection(NamedTuple):
    """Hold a picture as the page shows it: three images as addresses, texts, chart and rows."""

    name: str
    images: list[tuple[str, str]]
    pixel: bool
    verdict: str
    tone: str
    sentence: str
    facts: list[str]
    chart: str
    rows: list[tuple[str, str, str, bool]]


def pictures_page(record: AttackedPictures, path: str | Path, *, title: str | None = None) -> Path:
    """Write the page of attacked pictures; return its path. It needs no network, and has the
    pictures in it."""
    sections = [
        _section(picture, *pixels)
        for picture, pixels in zip(record.pictures, record.pixels, strict=True)
    ]
    formats = record.survival()
    context = {
        "kind": "pictures",
        "summary": summary(record),
        "record": record,
        "sections": sections,
        "facts": _facts(record),
        "formats": formats,
        "broken": len(record.broken),
    }
    heading = title or f"Pictures against {record.model}"
    return write_page(Path(path), heading, context)


def _facts(record: AttackedPictures) -> list[tuple[str, str]]:
    sides = " × ".join(map(str, record.shape))
    facts = [
        ("model", record.model),
        ("inputs", sides),
        ("threat", f"{record.threat} {format_number(record.eps)}, rounded to 8 bits"),
        ("attack", record.attack),
    ]
    if record.transforms:
        facts.append(("outlasting", ", ".join(record.transforms)))
    if record.lead:
        facts.append(("lead", f"{record.lead:g}"))
    versions = f"sparring {record.versions.get('sparring', '')}"
    return [*facts, ("seed", str(record.seed)), ("device", record.device), ("by", versions)]


def _section(picture: AttackedPicture, x: np.ndarray, x_adv: np.ndarray) -> PictureSection:
    named = [("before", x)]
    if not picture.already:
        named += [("after", x_adv), ("difference × 10", enlarged_difference(x, x_adv))]
    images = [(name, _address(pixels)) for name, pixels in named]
    rows = [
        (one.format, answer_text(one.before), answer_text(one.after), one.adversarial)
        for one in picture.survival
    ]
    goal = f", to become {picture.target}" if picture.target is not None else ""
    whose = "given" if picture.label_given else "the model's own answer"
    facts = [f"label {picture.label} ({whose}){goal}"]
    sentence = f"before {answer_text(picture.before)}"
    if not picture.already:
        sentence += f", after {answer_text(picture.after)}"
        distance = format_number(picture.distance)
        facts += [f"distance {distance}", f"changed by at most {picture.levels} of 255 levels"]
        facts += [f"attack {picture.attack}", f"{picture.seconds:.1f} s"]
    return PictureSection(
        picture.name,
        images,
        max(x.shape[1:]) <= SMALL,
        f"{MARKS[picture.verdict]} {picture.verdict}",
        TONES[picture.verdict],
        sentence,
        facts + picture.notes,
        _chart(picture),
        rows if not picture.already else [],
    )


def _chart(picture: AttackedPicture) -> str:
    """Return confidence against eps, in the label and in the goal; "" for a model without slope."""
    points = picture.curve
    if picture.already or len(points) < 2:
        return ""
    other = picture.target or "another class"
    named = [(picture.label, "label"), (other, "goal")]
    series = [
        charts.Line(
            name,
            [charts.Point(p.eps, 100 * getattr(p, key), hollow=not p.adversarial) for p in points],
            joined=len(points),
        )
        for name, key in named
    ]
    return charts.lines(
        series,
        title=f"Confidence against eps: {picture.name}",
        x=charts.Axis("eps", 0.0, points[-1].eps, [p.eps for p in points]),
        y=charts.Axis("confidence, %", 0, 100),
        height=220,
        dodge=False,
    )


def _address(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels)).decode()
