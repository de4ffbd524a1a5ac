"""Read bounded regular files, and write files atomically: a reader finds the old or the new one."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

TEMPORARY = ".writing"
# A temporary name: the file that it becomes, and the process that writes it.
WRITER = re.compile(rf"(.*?)(?:\.(\d+)(?:-\d+)?)?{re.escape(TEMPORARY)}", re.DOTALL)
NAME_LIMIT = 100  # letters; most file systems allow 255 bytes, and suffixes are added to names
Content = bytes | Callable[[IO[bytes]], object]
_numbers = itertools.count()
_unfinished: set[str] = set()  # temporary names that this process writes now


def plain_name(name: object, key: str) -> str:
    """Return `name` if it can be one file or folder name on any system, and shown on any terminal.

    Raises:
        ValueError: unless it has 1 to 100 printable letters, no slash, backslash or colon, and
            neither begins with a dot or a dash nor ends with a dot or a space.

    >>> plain_name("mnist-trades", "recipe.name")
    'mnist-trades'
    >>> plain_name("../other", "recipe.name")
    Traceback (most recent call last):
    ValueError: recipe.name = '../other' is not allowed: it must be a plain file name: ...
    """
    ok = isinstance(name, str) and 0 < len(name) <= NAME_LIMIT and name.isprintable()
    if not ok or re.search(r'[/\\:*?"<>|]|^[.\- ]|[. ]$', str(name)):
        shown = repr(name) if len(repr(name)) <= NAME_LIMIT else f"{repr(name)[:NAME_LIMIT]}…"
        raise ValueError(
            f"{key} = {shown} is not allowed: it must be a plain file name: 1 to {NAME_LIMIT} "
            'printable letters without / \\ : * ? " < > |, not beginning with a dot or dash'
        )
    return str(name)


def refuse_link(path: str | Path) -> None:
    """Raise `ValueError` if `path` is a symbolic link: in a run folder, it may lead anywhere."""
    if Path(path).is_symlink():
        raise ValueError(f"{path} is a symbolic link: replace it by the file itself")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file to read; a link may lead to it.

    Raises:
        ValueError: for a named pipe, a device or a socket, which could block or never end.
        OSError: if it cannot be read.
    """
    # Not blocking, since opening a pipe waits for its writer; checked on the open file, since a
    # path may be replaced between a check and the opening.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder: a file is expected")
    raise ValueError(f"{path} is no regular file (a pipe, device or socket): a file is expected")


def read(path: str | Path, *, limit: int, key: str = "") -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Arguments:
        key: how a user raises the limit, which the message then says.

    Raises:
        ValueError: for a file that is larger or not regular.
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # not `limit + 1` bytes at once: so much memory would be taken before a byte is read
        content = file.read(size + 1) if size <= limit else b""
        # longer than its size: it grows meanwhile, or is one of /proc, whose sizes are 0
        while size < len(content) <= limit and (more := file.read(len(content) + 2**16)):
            content += more
    if size > limit or len(content) > limit:
        more = f"; {key} raises the limit" if key else ""
        raise ValueError(
            f"{path} has {max(size, len(content)):,} bytes: at most {limit:,} are read{more}"
        )
    return content


def write(path: str | Path, content: Content, *, sync: bool = True) -> None:
    """Replace a file atomically: at any moment `path` is the old file or the new one, whole.

    Arguments:
        content: the bytes, or a function that writes them to an open file.
        sync: wait for the disk, so that the file survives a power cut too; and remove what killed
            processes left of it.

    Raises:
        ValueError: if `path` is a link, or exists and is no regular file, such as /dev/null.
        OSError: if it cannot be written, as on a full disk; the old file stays, and the temporary
            one is removed.
    """
    path = Path(path)
    refuse_target(path)
    if sync:
        remove_temporary(path.parent, re.escape(path.name))
    temporary = temporary_name(path)
    _unfinished.add(temporary.name)
    try:
        # "x": never through a link that somebody has put there.
        with temporary.open("xb") as file:
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
        _unfinished.discard(temporary.name)
    if sync:  # the rename is an entry of the folder: without this a power cut may undo it
        with contextlib.suppress(OSError):  # not every system can
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def temporary_name(path: Path) -> Path:
    """Return a free name beside `path`, for a file that is renamed to it when it is whole.

    It is in the same folder, since a rename is atomic only within one file system. It has the
    process's id and a number, since two processes or threads may write the same file.
    """
    while True:
        name = path.with_name(f"{path.name}.{os.getpid()}-{next(_numbers)}{TEMPORARY}")
        if not os.path.lexists(name):  # a killed process of the same id may have left one
            return name


def refuse_target(path: Path) -> None:
    """Raise `ValueError` unless `path` is free or a regular file: a rename would replace a device,
    and a link would name a place that its reader does not see."""
    refuse_link(path)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path} is {what}: name a new file, or one to replace")


def remove_temporary(folder: Path, target: str = ".*") -> None:
    """Remove the half-written files that killed processes have left in a folder; those of living
    processes stay.

    Arguments:
        target: a regular expression, of the names of the files that were to be written.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        temporary = WRITER.fullmatch(path.name)
        if temporary is None or not re.fullmatch(target, temporary[1], re.DOTALL):
            continue
        number = int(temporary[2] or 0)
        # Of this process's id may be a killed one's too: in a container each may get the same.
        mine = number == os.getpid() and path.name not in _unfinished
        if mine or not is_alive(number):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Return whether a process of this machine runs; one that was killed and not yet waited for
    does not."""
    if process <= 0:  # these name groups of processes
        return False
    if sys.platform == "win32":  # there `os.kill` ends a process, whatever the signal
        return _is_alive_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; or no process number
        return True
    return process_status(process)[:1] not in (["Z"], ["X"])


def process_status(process: int) -> list[str]:
    """Return the fields of a process's status from its state on; [] where the system has none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return []


def _is_alive_on_windows(process: int) -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    kernel, code = ctypes.WinDLL("kernel32", use_last_error=True), ctypes.c_ulong()
    handle = kernel.OpenProcess(0x1000, False, process)  # the right to ask for its state
    if not handle:
        return ctypes.get_last_error() == 5  # access denied: it exists
    try:
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        return code.value == 259  # still active
    finally:
        kernel.CloseHandle(handle)


def _unsaved(path: Path, error: BaseException) -> OSError:
    """Return an error that names the system's reason, which PyTorch's writer hides."""
    cause = error if isinstance(error, OSError) else error.__context__
    number = cause.errno if isinstance(cause, OSError) else None
    reason = os.strerror(number) if number else str(error).splitlines()[0]
    kept = "; the one before is kept" if path.exists() else ""
    return OSError(number or 0, f"could not save {path}: {reason}{kept}")
