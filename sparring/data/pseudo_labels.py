"""Labels predicted by a model, in a file that records their data set and their rows."""

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
    """Predicted labels of some rows of a data set.

    Arguments:
        y: `(n,)` int64, classes of the data set that the model was trained on.
        index: `(n,)`, the row of each label.
        confidence: `(n,)`, the model's probability of each label.
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
        """Write an npz atomically; return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {k: getattr(self, k).cpu().numpy() for k in KEYS[:3]}
        texts = {k: np.array(getattr(self, k)) for k in KEYS[3:]}
        write(path, lambda file: np.savez_compressed(file, **arrays, **texts))  # type: ignore[arg-type]
        return path

    def check_matches(self, *, data: str, rows: str) -> PseudoLabels:
        """Return these labels; raise `ValueError` unless they fit the data set and its rows.

        Arguments:
            data: sha256 of the data set whose classes the labels must be.
            rows: sha256 of the data set whose rows they must label.
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

    def labels_of(self, index: Tensor) -> Tensor:
        """Return the labels `(m,)` of these rows.

        Raises:
            ValueError: if a row has no label.
        """
        size = 1 + max(int(i.max()) if len(i) else 0 for i in (self.index, index))
        table = torch.full((size,), -1)
        table[self.index] = self.y
        y = table[index.cpu()]
        missing = int((y < 0).sum())
        if missing:
            raise ValueError(f"labels are missing for {missing} of {len(index)} rows")
        return y


def read(path: str | Path) -> PseudoLabels:
    """Read the labels that `PseudoLabels.save` wrote.

    Raises:
        FileNotFoundError: for a missing file; the message says how to make it.
        ValueError: for a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no labels at {path}: sparring pseudo-label RUN --out {path} makes them"
        )
    arrays = readers.npz(path)
    if not set(KEYS) <= set(arrays):
        raise ValueError(f"{path.name} holds {', '.join(arrays)}; labels need {', '.join(KEYS)}")
    y, index = (torch.from_numpy(arrays[k].astype(np.int64)) for k in ("y", "index"))
    confidence = torch.from_numpy(arrays["confidence"].astype(np.float32))
    return PseudoLabels(y, index, confidence, *(str(arrays[k]) for k in KEYS[3:]))
