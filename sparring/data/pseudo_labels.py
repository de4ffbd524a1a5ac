"""Labels that a model gave: a file that knows whose classes they are and which rows they belong
to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..runtime.files import write
from . import readers

KEYS = ("y", "index", "confidence", "data", "rows", "run")


@dataclass(frozen=True)
class PseudoLabels:
    """A label for each of some rows.

    Arguments:
        y: `(n,)` int64, the classes of the data set that the model was trained on.
        index: `(n,)`, the rows they belong to.
        confidence: `(n,)`, the probability that the model gave them.
        data: sha256 of the data set that the model was trained on.
        rows: sha256 of the data set whose rows were labelled.
        run: the model's name.
    """

    y: Tensor
    index: Tensor
    confidence: Tensor
    data: str
    rows: str
    run: str = ""

    def save(self, path: str | Path) -> Path:
        """Write an npz, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {k: getattr(self, k).cpu().numpy() for k in KEYS[:3]}
        words = {k: np.array(getattr(self, k)) for k in KEYS[3:]}
        write(path, lambda file: np.savez_compressed(file, **arrays, **words))  # type: ignore[arg-type]
        return path

    def check_matches(self, *, data: str, rows: str) -> PseudoLabels:
        """Itself, if it is for these rows and this data set's classes.

        Raises:
            ValueError: if it is not.
        """
        if self.data != data:
            raise ValueError(
                f"labels are those of {self.run or 'a run'} on another data set (sha256 "
                f"{self.data[:12]}…, here {data[:12]}…): its classes are not this recipe's"
            )
        if self.rows != rows:
            raise ValueError(
                f"labels are for other rows (sha256 {self.rows[:12]}…, here {rows[:12]}…): label "
                "these with sparring pseudo-label"
            )
        return self

    def of(self, index: Tensor) -> Tensor:
        """The labels `(m,)` of these rows.

        Raises:
            ValueError: if one has none.
        """
        most = 1 + max(int(i.max()) if len(i) else 0 for i in (self.index, index))
        table = torch.full((most,), -1)
        table[self.index] = self.y
        found = table[index.cpu()]
        missing = int((found < 0).sum())
        if missing:
            raise ValueError(f"labels are missing for {missing} of {len(index)} rows")
        return found


def read(path: str | Path) -> PseudoLabels:
    """What `save` wrote.

    Raises:
        FileNotFoundError: if it is not there; it says how to make it.
        ValueError: for a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no labels at {path}: sparring pseudo-label RUN --out {path} makes them"
        )
    held = readers.npz(path)
    if not set(KEYS) <= set(held):
        raise ValueError(f"{path.name} holds {', '.join(held)}; labels need {', '.join(KEYS)}")
    y, index = (torch.from_numpy(held[k].astype(np.int64)) for k in ("y", "index"))
    confidence = torch.from_numpy(held["confidence"].astype(np.float32))
    return PseudoLabels(y, index, confidence, *(str(held[k]) for k in KEYS[3:]))
