"""Lock a folder or a result for one process, so that two runs do not write over each other."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import is_alive, process_status, read, refuse_link, temporary_name
from .text import printable

LOCK = ".lock"
ATTEMPTS, PAUSE = 10, 0.05
# What reading a foreign lock raises: of JSON, of other keys, of a number without end.
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class Locked(ValueError):
    """Refuse to write where another process writes."""


@contextlib.contextmanager
def locked(path: str | Path, doing: str) -> Iterator[None]:
    """Hold the lock file `path` inside; a lock that a killed process has left is taken over.

    The file holds who: process, machine, since when and what for. It is removed at the end, as are
    folders that were made for it and stayed empty.

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
    content = json.dumps(owner).encode()
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _acquire(path, content)
        try:
            yield
        finally:
            # Somebody may have deleted it by hand, and a third process has its own there now.
            with contextlib.suppress(OSError, ValueError):
                if read(path, limit=10_000) == content:
                    path.unlink()
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def is_locked(path: str | Path) -> bool:
    """Return whether a living process holds a lock, or one of another machine.

    >>> is_locked("no/such/.lock")
    False
    """
    try:
        owner = json.loads(read(path, limit=10_000))
        return not _is_dead(owner)
    except (OSError, *DAMAGED):
        return False


def _is_dead(owner: dict[str, Any]) -> bool:
    """Return whether the process that wrote a lock was of this machine, and has ended."""
    process = int(owner["process"])
    alive = is_alive(process) and owner.get("started") in (None, _start_time(process))
    return str(owner["machine"]) == platform.node() and not alive


def _acquire(path: Path, owner: bytes) -> None:
    refuse_link(path)
    # Written whole under another name, then linked: no reader sees an empty lock, and of two
    # processes one link fails.
    temporary = temporary_name(path)
    temporary.write_bytes(owner)
    try:
        for _ in range(ATTEMPTS):
            try:
                _create(path, temporary)
                return
            except FileExistsError:
                _remove_dead(path)
        raise Locked(f"{printable(path)} is in use: other processes take it again and again")
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path, whole: Path) -> None:
    """Give a file a second name; raise `FileExistsError` if that is taken."""
    try:
        os.link(whole, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError, AttributeError):
        # File systems such as exFAT have no second names. A reader may then see an empty file.
        content = whole.read_bytes()
        with path.open("xb") as file:
            file.write(content)


def _remove_dead(path: Path) -> None:
    """Remove a lock whose process is dead; raise `Locked` if it lives."""
    try:
        content, owner = _owner(path)
    except FileNotFoundError:
        return
    process, machine = int(owner["process"]), str(owner["machine"])
    who = f"{owner['doing']} by process {process} on {machine} since {owner['since']}"
    if not _is_dead(owner):
        raise Locked(
            f"{printable(path)} is in use: {printable(who)}. Delete this file if that process is "
            "dead"
        )
    # Renamed first, and compared: between reading and removing, another process may have taken the
    # dead lock over, and its new one must stay.
    aside = temporary_name(path)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if aside.read_bytes() != content:
            with contextlib.suppress(FileExistsError):
                _create(path, aside)
        aside.unlink()


def _owner(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return a lock's content, and its owner; raise `Locked` if it names none for a while."""
    for _ in range(ATTEMPTS):
        try:
            content = read(path, limit=10_000)
            owner = json.loads(content)
            if {"process", "machine", "doing", "since"} <= owner.keys() and int(owner["process"]):
                return content, owner
        except DAMAGED:
            pass
        time.sleep(PAUSE)  # its process may be writing it
    raise Locked(
        f"{printable(path)} is in use, and does not say by whom: delete this file if nothing runs"
    )


def _start_time(process: int) -> str | None:
    """Return when a process started, in ticks since the machine's start: numbers are reused. None
    where the system does not say."""
    status = process_status(process)
    return status[19] if len(status) > 19 else None
