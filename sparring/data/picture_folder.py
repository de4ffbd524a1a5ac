"""Read folders of pictures of any size into memory, or one by one while the training runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from . import limits, picture_cache, pictures
from .picture_cache import Pictures
from .picture_sizes import Fitting, fitted
from .split import Split, fingerprint
from .stream import from_torch

MANY = 64  # pictures that a decoding process returns at once


class PictureRows(Dataset):
    """Decode and fit picture `i`: (uint8 `(3, h, w)`, label)."""

    def __init__(self, paths: Sequence[Path], labels: np.ndarray, how: Fitting) -> None:
        self.paths, self.labels, self.how = paths, labels, how

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        a = fitted(pictures.picture(self.paths[i]), self.how)
        a = np.repeat(a, 3, axis=0) if len(a) == 1 else a.copy()  # Pillow's array cannot be written
        return a, int(self.labels[i])


class FolderReader:
    """Read folders of pictures per class, one after the other, as `pictures.folder` does.

    Arguments:
        how: pictures are fitted.
        lazily: return the number of each picture in `paths`, `(n, 1, 1)`, in place of its pixels.
    """

    def __init__(self, how: Fitting, *, lazily: bool = False) -> None:
        self.how, self.lazily = how, lazily
        self.paths: list[Path] = []
        self.labels = np.zeros(0, np.int64)
        self.notes: list[str] = []

    def __call__(self, path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
        paths, labels, names = pictures.labelled_paths(path)
        first = len(self.paths)
        self.paths += paths
        self.labels = np.concatenate([self.labels, labels])
        if self.lazily:
            return np.arange(first, len(self.paths))[:, None, None], labels, names
        return self.read(paths, str(path)), labels, names

    def read(self, paths: Sequence[Path], what: str) -> np.ndarray:
        """Return pictures as uint8 `(n, c, h, w)`, in colour if one is, from the cache if it has
        them.

        Raises:
            ValueError: for pictures that can't be read: how many, and the first.
        """
        limits.check_shape(f"{what} of {len(paths):,} pictures", (len(paths), 3, *self.how.size), 1)
        x, grey = picture_cache.cached(paths, str(self.how), lambda: self._decode(paths, what))
        if 0 < grey < len(x):
            self.notes.append(f"{what}: {grey} of {len(x)} pictures are grey, read in colour")
        return np.repeat(x, 3, axis=1) if self.lazily and x.shape[1] == 1 else x

    def _decode(self, paths: Sequence[Path], what: str) -> Pictures:
        x, grey = np.empty((len(paths), 3, *self.how.size), np.uint8), 0
        wrong: list[str] = []
        for i, a in enumerate(self._decoded(paths)):
            if isinstance(a, str):
                wrong.append(a)
                continue
            x[i] = a
            grey += len(a) == 1
        if wrong:
            count = f"{len(wrong)} of {len(paths)} pictures"
            raise ValueError(f"{what}: {count} can't be read; the first: {wrong[0]}")
        return Pictures(x[:, :1].copy() if grey == len(x) else x, grey)

    def _decoded(self, paths: Sequence[Path]) -> Iterator[np.ndarray | str]:
        """Yield each picture, fitted, or the message of what is wrong with it."""
        rows = _Decoded(paths, self.how)
        if not self.how.workers:
            yield from map(rows.__getitem__, range(len(rows)))
            return
        generator = torch.Generator().manual_seed(0)  # else the loader draws globally
        options: dict[str, Any] = {"batch_size": MANY, "collate_fn": list, "generator": generator}
        for some in DataLoader(rows, num_workers=self.how.workers, **options):
            yield from some


class _Decoded(Dataset):
    """Decode picture `i`, or return the message of what is wrong with it."""

    def __init__(self, paths: Sequence[Path], how: Fitting) -> None:
        self.paths, self.how = paths, how

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray | str:
        try:
            return fitted(pictures.picture(self.paths[i]), self.how)
        except (ValueError, OSError) as error:
            return str(error)


def stream_train(source: Any, reader: FolderReader) -> dict[str, Any]:
    """Return the fields of a source of pictures whose train split is read lazily.

    Arguments:
        source: of the numbers that a lazy `reader` gave: its splits hold rows of `reader.paths`.

    Raises:
        ValueError: for options that a stream has no room for.
    """
    for key, value in {"balance": source.train.weight, "labels": source.unlabelled}.items():
        if value is not None:
            raise ValueError(f"{key} is not allowed with stream = true: leave it out")
    name = source.name
    every = PictureRows(reader.paths, reader.labels, reader.how)
    rows = source.train.x.flatten().long().tolist()
    options = {"classes": source.classes, "workers": reader.how.workers, "name": f"{name} train"}
    fields: dict[str, Any] = {"train": from_torch(Subset(every, rows), **options)}
    for part in ("val", "test"):
        split = getattr(source, part)
        paths = [reader.paths[int(i)] for i in split.x.flatten()]
        x = torch.from_numpy(reader.read(paths, f"{name} {part}"))
        fields[part] = Split(x, split.y, split.index, split.weight)
    in_memory = [t for part in ("val", "test") for t in (fields[part].x, fields[part].y)]
    notes = [*source.notes, *reader.notes, f"{len(rows)} pictures of train are read as it runs"]
    return {**fields, "bounds": (0.0, 1.0), "sha256": fingerprint(*in_memory), "notes": notes}
