"""Write and read a result's two files as one: JSON, and arrays that are named by their hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..runtime import files
from ..runtime.lock import LOCK, locked
from .records import JSON_LIMIT, LIMIT_KEY, size_limit

ATTEMPTS = 20
ARRAYS_LIMIT = 2 << 30  # bytes
T = TypeVar("T")


def arrays_path(path: Path, digest: str) -> Path:
    """Return the file of the arrays with this SHA-256, of the result at `path`.

    >>> arrays_path(Path("r.json"), "0123456789abcdef").name
    'r.0123456789ab.npz'
    """
    return path.with_name(f"{path.stem}.{digest[:12]}.npz")


def write_pair(path: Path, text: bytes, packed: bytes, digest: str) -> None:
    """Write arrays (none if `packed` is empty) and JSON, then remove the arrays of the JSON before.

    The new JSON is what turns the old result into the new one: until then its arrays are there
    under a name that nobody reads, and the old arrays stay.

    Raises:
        ValueError: for a path that is a link or no regular file.
        OSError: if it cannot be written; the old result stays.
    """
    files.refuse_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _digest(path)
    try:
        if packed:
            files.write(arrays_path(path, digest), packed)
        files.write(path, text)
    except OSError:
        if packed and before[:12] != digest[:12]:
            arrays_path(path, digest).unlink(missing_ok=True)
        raise
    if before:
        replaced = {arrays_path(path, before), path.with_suffix(".npz")}
        for old in replaced - {arrays_path(path, digest)} if packed else replaced:
            _remove_if(old, before)


def read_pair(
    path: Path, read: Callable[[], T], digest_of: Callable[[T], str]
) -> tuple[T, tuple[Path, bytes] | None]:
    """Return what `read` makes of the JSON; and the file of its arrays, if there is one, with its
    content.

    Another process may replace the result between the two: then both are read again.
    """
    record = read()
    for _ in range(ATTEMPTS):
        digest = digest_of(record)
        # Earlier versions named the arrays after the result alone.
        for arrays in (arrays_path(path, digest), path.with_suffix(".npz")) if digest else ():
            with contextlib.suppress(FileNotFoundError):
                limit = size_limit(ARRAYS_LIMIT)
                return record, (arrays, files.read(arrays, limit=limit, key=LIMIT_KEY))
        again = read()
        if digest_of(again) == digest:
            break
        record = again
    return record, None


@contextlib.contextmanager
def locked_result(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a result inside, and begin without what killed processes have left."""
    with locked(path.with_name(path.name + LOCK), doing):
        remove_leftovers(path)
        yield


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside a result: half-written files, and arrays that its
    JSON does not name. The caller has the result's lock."""
    arrays = re.compile(rf"{re.escape(path.stem)}\.[0-9a-f]{{12}}\.npz")
    name = re.escape(path.name)
    files.remove_temporary(path.parent, rf"{name}({re.escape(LOCK)})?|{arrays.pattern}")
    digest = _digest(path)
    if digest or not path.exists():  # else the JSON is damaged, and its arrays may be of use
        for file in path.parent.iterdir() if path.parent.is_dir() else ():
            if arrays.fullmatch(file.name) and file != arrays_path(path, digest or "-"):
                file.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """Return the hash of the arrays that a result names, "" if it names none or can't be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        data = json.loads(files.read(path, limit=size_limit(JSON_LIMIT)))
        digest = data.get("arrays_sha256") if isinstance(data, dict) else None
        return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else ""
    return ""


def _remove_if(file: Path, digest: str) -> None:
    """Remove a file of arrays, if it is regular and has this hash: `NAME.npz` may be the user's."""
    with contextlib.suppress(OSError, ValueError):
        files.refuse_link(file)
        content = files.read(file, limit=size_limit(ARRAYS_LIMIT))
        if hashlib.sha256(content).hexdigest() == digest:
            file.unlink()
