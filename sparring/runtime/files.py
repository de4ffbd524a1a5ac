"""Write files atomically: a reader finds the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

TEMPORARY = ".writing"
Content = bytes | Callable[[IO[bytes]], object]


def write(path: str | Path, content: Content, *, sync: bool = True) -> None:
    """Replace a file atomically: at any moment `path` is the old file or the new one, whole.

    Arguments:
        content: the bytes, or a function that writes them to an open file.
        sync: wait for the disk, so that the file survives a power cut too.

    Raises:
        OSError: if it cannot be written, as on a full disk; the old file stays, and the temporary
            one is removed.
    """
    path = Path(path)
    # In the same folder, since a rename is atomic only within one file system; with the process's
    # id, since two processes may write the same result.
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise _unsaved(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if sync:  # the rename is an entry of the folder: without this a power cut may undo it
        with contextlib.suppress(OSError):  # not every system can
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def remove_temporary(folder: Path) -> None:
    """Remove the half-written files that a killed process has left in a folder."""
    for path in folder.glob(f"*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def _unsaved(path: Path, error: BaseException) -> OSError:
    """Return an error that names the system's reason, which PyTorch's writer hides."""
    cause = error if isinstance(error, OSError) else error.__context__
    number = cause.errno if isinstance(cause, OSError) else None
    reason = os.strerror(number) if number else str(error).splitlines()[0]
    kept = "; the one before is kept" if path.exists() else ""
    return OSError(number or 0, f"could not save {path}: {reason}{kept}")
