"""Record pictures that were attacked: what the model says before and after, and what files keep."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import files
from .pictures import png_bytes

SCHEMA = 1
DIFFERENCE_SCALE = 10  # a difference of a few levels is invisible as it is
RECORD = "pictures.json"


@dataclass
class Answer:
    """Hold the class that a model names, and its confidence: softmax, 0 to 1."""

    name: str
    index: int
    confidence: float


@dataclass
class Survival:
    """Hold what becomes of a picture in one file format.

    Arguments:
        before, after: the class of the clean and of the attacked picture, read from such a file.
        adversarial: the attack's goal is still reached there.
    """

    format: str
    before: Answer
    after: Answer
    adversarial: bool


@dataclass
class CurvePoint:
    """Hold the answer after an attack of radius `eps` that never stops early.

    Arguments:
        label: confidence in the picture's own class.
        goal: in the target, or in the strongest other class.
    """

    eps: float
    label: float
    goal: float
    adversarial: bool


@dataclass
class AttackedPicture:
    """Hold one picture's attack, judged again after rounding and after reading the file.

    Arguments:
        name: of the saved files, without ending; unique among the pictures.
        file: the picture's path.
        notes: what was converted, and how it was fitted to the model.
        label: the class to leave; `label_given` unless it is the model's own answer.
        already: before any attack the model names another class than the label, or the target.
        adversarial: the goal is reached by the rounded picture.
        in_file: also after writing a PNG and reading it again.
        distance: of the attacked picture, in the threat's norm; `levels` its largest change in
            units of 1/255.
        attack: that reached the goal, or came nearest.
    """

    name: str
    file: str
    notes: list[str]
    label: str
    label_given: bool
    target: str | None
    before: Answer
    after: Answer
    already: bool
    adversarial: bool
    in_file: bool
    distance: float
    levels: int
    attack: str
    seconds: float
    survival: list[Survival] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return one word on the picture: wrong already, broken or robust."""
        if self.already:
            return "wrong already"
        return "broken" if self.adversarial and self.in_file else "robust"


@dataclass
class AttackedPictures:
    """Hold the pictures of one call, and how they were attacked.

    Arguments:
        shape: of the model's inputs; the pictures were fitted to it.
        transforms: that the attack had to outlast, in words.
        lead: logits by which the wrong class had to lead.
        pixels: per picture the clean and the attacked one, uint8 `(c, h, w)`; not part of the JSON.
    """

    model: str
    threat: str
    eps: float
    attack: str
    shape: list[int]
    transforms: list[str]
    lead: float
    seed: int
    device: str
    versions: dict[str, str]
    commit: str
    pictures: list[AttackedPicture]
    schema: int = SCHEMA
    pixels: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def attacked(self) -> list[AttackedPicture]:
        """Return the pictures that the model got right before."""
        return [p for p in self.pictures if not p.already]

    @property
    def broken(self) -> list[AttackedPicture]:
        """Return the pictures whose attack succeeded in the file."""
        return [p for p in self.pictures if p.verdict == "broken"]

    def survival(self) -> list[tuple[str, int, int]]:
        """Return per format how many of the broken pictures stay so in it, of how many."""
        rows: dict[str, list[bool]] = {}
        for picture in self.broken:
            for one in picture.survival:
                rows.setdefault(one.format, []).append(one.adversarial)
        return [(name, sum(kept), len(kept)) for name, kept in rows.items()]

    def to_json(self) -> str:
        """Return the record as JSON text, without pixels."""
        table: dict[str, Any] = dataclasses.asdict(dataclasses.replace(self, pixels=[]))
        table.pop("pixels")
        return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the pictures and `pictures.json` into a new or empty folder; return the files.

        Each picture is written as NAME.png, attacked; NAME-before.png; and NAME-difference.png, ten
        times enlarged around grey.

        Raises:
            FileExistsError: for a folder with something in it.
            NotADirectoryError: for a file of that name.
        """
        folder = new_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for picture, (x, x_adv) in zip(self.pictures, self.pixels, strict=True):
            content = {"": x_adv, "-before": x, "-difference": enlarged_difference(x, x_adv)}
            for ending, pixels in content.items():
                path = folder / f"{picture.name}{ending}.png"
                files.write(path, png_bytes(pixels), sync=False)
                written.append(path)
        record = folder / RECORD
        files.write(record, self.to_json().encode())
        return [*written, record]


def enlarged_difference(x: np.ndarray, x_adv: np.ndarray) -> np.ndarray:
    """Return 128 + 10·(x_adv − x), clipped to bytes.

    >>> enlarged_difference(np.array([[[100, 8]]], np.uint8), np.array([[[103, 0]]], np.uint8))
    array([[[158,  48]]], dtype=uint8)
    """
    change = x_adv.astype(np.int16) - x.astype(np.int16)
    return np.clip(128 + DIFFERENCE_SCALE * change, 0, 255).astype(np.uint8)


def new_folder(folder: str | Path, key: str = "save") -> Path:
    """Return the path of a folder that is new or empty.

    Raises:
        FileExistsError: for a folder with something in it.
        NotADirectoryError: for a file of that name.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{key} = {str(folder)!r} is a file: name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"{key} = {str(folder)!r} has files in it, which would mix with the new ones: name a "
            "new folder, or empty it"
        )
    return folder
