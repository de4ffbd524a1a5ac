"""Labels predicted by a model, in a file that records their data set and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..runtime.files import write
from ..runtime.text import printable
from . import readers
from .labels import class_numbers

ROUNDING = 1e-3  # of a probability, in half precision too
KEYS = ("y", "index", "confidence", "data", "rows", "run")


@dataclass(frozen=True)
class PseudoLabels:
    """Predicted labels of some rows of a data set.

    Arguments:
        y, index, confidence: `(n,)`, each label (int64), its row, the model's probability of it.
        data: sha256 of the data set that the model was trained on, whose classes the labels are.
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

    def labels_of(self, index: Tensor) -> Tensor:
        """Return the labels `(m,)` of these rows.

        Raises:
            ValueError: if a row has no label.
        """
        # as long as these rows need: a forged index may be of any size
        table = torch.full((1 + max(int(index.max()) if len(index) else 0, 0),), -1)
        known = (self.index >= 0) & (self.index < len(table))
        table[self.index[known]] = self.y[known]
        y = table[index.cpu()]
        if missing := int((y < 0).sum()):
            raise ValueError(f"labels are missing for {missing} of {len(index)} rows")
        return y


def read(path: str | Path, *, data: str | None = None, rows: str | None = None) -> PseudoLabels:
    """Read the labels that `PseudoLabels.save` wrote.

    Arguments:
        data, rows: sha256 of the data sets whose classes they must be, whose rows they must label.

    Raises:
        FileNotFoundError: for a missing file; the message says how to make it.
        ValueError: for a file of another kind, or labels of other data or rows.
    """
    path = Path(path)
    if not path.is_file():
        how = f"sparring pseudo-label RUN --out {path} makes them"
        raise FileNotFoundError(f"there are no labels at {path}: {how}")
    arrays = readers.npz(path)
    if not set(KEYS) <= set(arrays):
        raise ValueError(f"{path.name} holds {', '.join(arrays)}; labels need {', '.join(KEYS)}")
    y, index, confidence = (arrays[k] for k in KEYS[:3])
    kinds = y.dtype.kind in "iu", index.dtype.kind in "iu", confidence.dtype.kind == "f"
    if not all(kinds) or not y.shape == index.shape == confidence.shape == (y.size,):
        facts = ", ".join(f"{k} {arrays[k].dtype} {arrays[k].shape}" for k in KEYS[:3])
        raise ValueError(
            f"{path.name}: y, index (integers) and confidence must be (n,), not {facts}"
        )
    if not ((confidence >= 0) & (confidence <= 1 + ROUNDING)).all():  # false of NaN too
        raise ValueError(f"{path.name}: confidence must be probabilities, in [0, 1]")
    numbers = class_numbers(f"y of {path.name}", y), torch.from_numpy(index.astype(np.int64))
    scores = torch.from_numpy(confidence.astype(np.float32))
    predicted = PseudoLabels(*numbers, scores, *(str(arrays[k]) for k in KEYS[3:]))
    if data is not None and predicted.data != data:
        run = printable(predicted.run or "a run", 100)
        digests = f"sha256 {printable(predicted.data[:12])}…, here {data[:12]}…"
        raise ValueError(
            f"labels are those of {run} on another data set ({digests}): its classes are not "
            "this recipe's"
        )
    if rows is not None and predicted.rows != rows:
        digests = f"sha256 {printable(predicted.rows[:12])}…, here {rows[:12]}…"
        how = "label these with sparring pseudo-label"
        raise ValueError(f"labels are for other rows ({digests}): {how}")
    return predicted
