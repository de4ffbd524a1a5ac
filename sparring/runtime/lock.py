"""Lock a folder or a result for one process, so that two runs do not write over each other."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from .files import is_alive, open_regular, refuse_link

LOCK = ".lock"


class Locked(ValueError):
    """Refuse to write where another process writes."""


@contextlib.contextmanager
def locked(path: str | Path, doing: str) -> Iterator[None]:
    """Hold the lock file `path` inside; a lock that a killed process has left is taken over.

    The file holds who: process, machine, since when and what for. It is removed at the end.

    Raises:
        Locked: if a living process holds it, or one of another machine: this says who, since when,
            and what to delete if that process is dead.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder, LOCK), "training"):
    ...     with locked(Path(folder, LOCK), "training"):
    ...         pass
    Traceback (most recent call last):
    sparring.runtime.lock.Locked: ... is in use: training by process ...
    """
    path = Path(path)
    owner = {
        "process": os.getpid(),
        "started": _start_time(os.getpid()),
        "machine": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "doing": doing,
    }
    _acquire(path, json.dumps(owner).encode())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _acquire(path: Path, owner: bytes) -> None:
    refuse_link(path)
    # Written whole under another name, then linked: no reader sees an empty lock, and of two
    # processes one link fails.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.writing")
    temporary.write_bytes(owner)
    try:
        for _ in range(10):
            try:
                os.link(temporary, path)
                return
            except FileExistsError:
                _remove_dead(path)
        raise Locked(f"{path} is in use: other processes take it again and again")
    finally:
        temporary.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    """Remove a lock whose process is dead; raise `Locked` if it lives."""
    try:
        with open_regular(path) as file:
            number = os.fstat(file.fileno()).st_ino
            owner = json.loads(file.read(10_000))
        process, machine = int(owner["process"]), str(owner["machine"])
        text = f"{owner['doing']} by process {process} on {machine} since {owner['since']}"
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise Locked(
            f"{path} is in use, and does not say by whom: delete this file if nothing runs"
        ) from None
    here = machine == platform.node()
    dead = here and not (is_alive(process) and owner.get("started") in (None, _start_time(process)))
    if not dead:
        raise Locked(f"{path} is in use: {text}. Delete this file if that process is dead")
    # Renamed first, and compared: between reading and removing, another process may have taken the
    # dead lock over, and its new one must stay.
    aside = path.with_name(f"{path.name}.{os.getpid()}.dead.writing")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if aside.stat().st_ino == number:
            aside.unlink()
        else:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
            aside.unlink()


def _start_time(process: int) -> str | None:
    """Return when a process started, in ticks since the machine's start: numbers are reused. None
    where the system does not say."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
