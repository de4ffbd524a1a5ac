"""A secret of this user on this machine: it marks files that only this library has written."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import sys
from pathlib import Path

from .files import open_regular, refuse_link, temporary_name

SIZE = 32


def key_path() -> Path:
    """Return the file of the key, in the user's own cache folder; a stranger's folder brings none.

    Raises:
        OSError: if the system knows no folder of the user's.

    >>> key_path().name
    'key'
    """
    name = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    given = os.environ.get(name, "")
    try:
        folder = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(f"the user has no home folder: {error}") from error
    return folder / "sparring" / "key"


def user_key() -> bytes:
    """Return the key; the first call makes it.

    Raises:
        ValueError: for a key that others may know: of another owner, or readable by others.
        OSError: if it can be neither read nor written.
    """
    path = key_path()
    refuse_link(path)
    if not path.exists():
        _create(path)
    with open_regular(path) as file:
        state, key = os.fstat(file.fileno()), file.read(SIZE + 1)
    if os.name == "posix" and (state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o077):
        raise ValueError(f"{path} is readable by others, or another user's: delete it")
    if len(key) != SIZE:
        raise ValueError(f"{path} is damaged: delete it")
    return key


def signature(key: bytes, *parts: bytes) -> bytes:
    """Return the HMAC-SHA-256 of parts: only who has the key can make it.

    >>> signature(b"k", b"ab", b"c") == signature(b"k", b"a", b"bc")
    False
    """
    mark = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        mark.update(len(part).to_bytes(8, "little") + part)
    return mark.digest()


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # of two processes, the first one's key counts for both
        except FileExistsError:
            pass
        except (OSError, NotImplementedError, AttributeError):  # no second names on this system
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
