"""Read the names in a zip archive, in which PyTorch writes weights and programs."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path

ZIP = b"PK\x03\x04"  # how it begins


def archive_names(path: Path) -> list[str]:
    """Return the names of the files in an archive whose checksums all hold.

    Raises:
        BadZipFile: for a damaged or truncated archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except (MemoryError, zipfile.BadZipFile):
        raise
    except Exception as error:  # a damaged byte may stand for any method, length or encoding
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place before the file
            raise
        raise zipfile.BadZipFile(str(error)) from error
    if broken is not None:
        raise zipfile.BadZipFile(f"{printable(broken)} does not have its checksum")
    return names


def printable(name: str) -> str:
    """Return a name from a stranger's file, without control characters, in at most 80 letters.

    >>> printable("fc\\x1b[31m")
    "'fc\\\\x1b[31m'"
    """
    shown = name if name.isprintable() else repr(name)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
