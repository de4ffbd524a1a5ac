"""Keep fitted pictures as bytes on disk, so that the next start does not decode them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ..runtime import files
from ..runtime.warning import SparringWarning
from . import fetch, limits

END = ".pictures"
VERSION = 1  # raise it when the same files would give other bytes
HEADER_LIMIT = 4096  # bytes


class Pictures(NamedTuple):
    """Hold uint8 `x (n, c, h, w)`, and how many of the pictures are grey."""

    x: np.ndarray
    grey: int


def folder() -> Path:
    """Return the folder of the cache."""
    return fetch.cache_folder() / "pictures"


def cached(paths: Sequence[Path], how: str, make: Callable[[], Pictures]) -> Pictures:
    """Return the pictures of some files: from the cache, or made and kept there.

    A file that changes its size or its time makes the entry another one. A damaged entry is made
    again; a folder that cannot be written gives a warning.

    Arguments:
        how: the pictures are fitted.
        make: decodes them.
    """
    path = folder() / f"{_key(paths, how)}{END}"
    if (kept := _read(path)) is not None and len(kept.x) == len(paths):
        with contextlib.suppress(OSError):
            os.utime(path)  # the last use, by which old entries go
        return kept
    made = make()
    try:
        _write(path, made)
    except (OSError, ValueError) as error:
        what = f"the pictures can't be kept ({error}): each start decodes them again"
        warnings.warn(what, SparringWarning, stacklevel=2)
    return made


def _key(paths: Sequence[Path], how: str) -> str:
    """Return the sha256 of the files' names, sizes and times, and of how they are fitted."""
    digest = hashlib.sha256(f"{VERSION} {how}".encode())
    for path in paths:
        about = os.stat(path)
        text = f"\0{os.path.abspath(path)}\0{about.st_size}\0{about.st_mtime_ns}"
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _read(path: Path) -> Pictures | None:
    """Return an entry; None if there is none, or a damaged one."""
    try:
        content = files.read(path, limit=limits.max_bytes() + HEADER_LIMIT)
        end = content.index(b"\n", 0, HEADER_LIMIT)
        header = json.loads(content[:end])
        shape, grey = header["shape"], header["grey"]
        pixels = memoryview(content)[end + 1 :]
        if len(shape) != 4 or limits.check_shape("an entry", shape, 1) != len(pixels):
            return None
        if hashlib.sha256(pixels).hexdigest() != header["sha256"]:
            return None
        return Pictures(np.frombuffer(pixels, np.uint8).reshape(shape).copy(), int(grey))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(path: Path, made: Pictures) -> None:
    x = np.ascontiguousarray(made.x)
    header = {"shape": x.shape, "grey": made.grey, "sha256": hashlib.sha256(x.data).hexdigest()}
    if x.nbytes > limits.max_cache_bytes():
        return
    path.parent.mkdir(parents=True, exist_ok=True)

    def content(file: IO[bytes]) -> None:
        file.write(json.dumps(header).encode() + b"\n")
        file.write(x.data)

    files.write(path, content)
    _forget_oldest(path)


def _forget_oldest(kept: Path) -> None:
    """Remove the entries that were not used for longest, until the others are within the limit."""
    entries = [(p.stat().st_mtime, p.stat().st_size, p) for p in kept.parent.glob(f"*{END}")]
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total > limits.max_cache_bytes() and path != kept:
            path.unlink(missing_ok=True)
            total -= size
