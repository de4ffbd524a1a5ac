"""Read npz archives: plain arrays only, and memory only for bytes that a file can have."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from struct import error as StructError
from typing import IO, Any

import numpy as np

from ..runtime import files
from . import limits
from .content import reason, shorten

MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 10_000  # bytes, as in numpy
DEFLATE_RATIO = 1032  # the most that one byte of it unpacks to
BLOCK = 2**20
KINDS = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5})")
LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, StructError, EOFError, OSError, ValueError, KeyError),
    *(IndexError, OverflowError, NotImplementedError, RuntimeError),
)


def npz(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an npz archive: bool, integers, floats and text.

    Raises:
        ValueError: for another file, pickled objects, a type beside those, a member that comes
            twice, or more than `limits.max_bytes()` in all.
        OSError: if it cannot be opened.
    """
    with files.open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        except DAMAGE as error:
            raise _damaged(path, reason(error)) from None
        _check_members(path, members)
        return {m.filename[: -len(".npy")]: _read_array(path, archive, m) for m in members}


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is truncated, or not an npz of plain arrays ({why})")


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise `ValueError` for a name that comes twice, or sizes that are too large or untrue."""
    count = Counter(m.filename for m in members)
    for member in members:
        if count[member.filename] > 1:
            raise ValueError(f"{path} has two arrays called {shorten(member.filename)}")
        packed = member.compress_type != zipfile.ZIP_STORED
        most = member.compress_size * (DEFLATE_RATIO if packed else 1)
        if member.file_size > most:
            raise _damaged(path, f"{shorten(member.filename)} claims more bytes than it has")
    limits.check_bytes(str(path), sum(m.file_size for m in members))


def _read_array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read one member, checked against its header before it has any memory."""
    try:
        with archive.open(member) as file:
            header, start = _read_header(file)
            kind, shape, by_column = _parse_header(header)
            size = np.dtype(kind).itemsize * math.prod(shape)
            if size != member.file_size - start:
                claim = f"{size:,}" if size < 10**30 else "more than 10^30"
                has = f"{member.file_size - start:,}"
                raise ValueError(f"its header claims {claim} bytes, it has {has}")
            content = np.empty(size, np.uint8)
            _fill(file, content)
        return _interpret(content, kind).reshape(shape, order="F" if by_column else "C")
    except DAMAGE as error:
        raise _damaged(path, f"{shorten(member.filename)}: {reason(error)}") from None


def _read_header(file: IO[bytes]) -> tuple[str, int]:
    """Return the header of a `.npy` file, and where its content starts."""
    start = file.read(len(MAGIC) + 2)
    width = LENGTH_BYTES.get(start[len(MAGIC) :])
    if not start.startswith(MAGIC) or width is None:
        raise ValueError("no array that numpy has saved")
    length = int.from_bytes(file.read(width), "little")
    if length > HEADER_LIMIT:
        raise ValueError(f"a header of {length:,} bytes: at most {HEADER_LIMIT:,} are read")
    header = file.read(length)
    if len(header) < length:
        raise EOFError("it ends within its header")
    return header.decode("latin-1"), len(start) + width + length


def _parse_header(header: str) -> tuple[str, tuple[int, ...], bool]:
    """Return type, shape and whether the array lies by column; only text is matched, none is run.

    >>> _parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }")
    ('<f4', (3, 2), False)
    """
    kind = re.search(r"""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""", header)
    order = re.search(r"""['"]fortran_order['"]\s*:\s*(True|False)""", header)
    shape = re.search(r"""['"]shape['"]\s*:\s*\(([\d\sL,]*)\)""", header)
    if not kind or not KINDS.fullmatch(kind[1]):
        what = shorten(kind[1]) if kind else "a structure"
        if kind and kind[1].endswith("O"):
            what = "Python objects"
        raise ValueError(f"{what}: only bool, integers, floats and text are read")
    if not order or not shape:
        raise ValueError("no shape of integers ≥ 0 in its header")
    sizes = tuple(int(n) for n in re.findall(r"\d+", shape[1]))
    if len(sizes) > 32 or max(sizes, default=0) >= 2**63:
        raise ValueError("a shape that no array has")
    return kind[1], sizes, order[1] == "True"


def _fill(file: IO[bytes], content: np.ndarray) -> None:
    """Fill an array of bytes from a file, which must end with it."""
    filled = 0
    while filled < len(content) and (block := file.read(min(BLOCK, len(content) - filled))):
        content[filled : filled + len(block)] = np.frombuffer(block, np.uint8)
        filled += len(block)
    if filled < len(content) or file.read(1):
        raise EOFError(f"another size than the {len(content):,} bytes that it claims")


def _interpret(content: np.ndarray, kind: str) -> np.ndarray:
    """Return bytes as an array `(n,)` of this type, in this machine's byte order."""
    if kind.endswith("b1"):
        return content != 0  # a byte of a bool that is neither 0 nor 1 has no meaning
    array: np.ndarray[Any, Any] = content.view(np.dtype(kind))
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "U" and array.view(np.uint32).max(initial=0) > 0x10FFFF:
        raise ValueError("text that is no Unicode")
    return array
