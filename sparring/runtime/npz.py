"""Read arrays from the content of an `.npz` without trusting what it claims."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np

from .text import printable


def read_npz(content: bytes, source: object, *, limit: int, key: str = "") -> dict[str, np.ndarray]:
    """Return the arrays in an `.npz`; no pickled object is loaded, and nothing beyond a limit.

    Arguments:
        source: the file's path, for messages.
        limit: bytes of all arrays together, once they are unpacked.
        key: how a user raises the limit, which the message then says.

    Raises:
        ValueError: if it is damaged, unpacks to more than the limit, or holds anything but arrays.
        MemoryError: if its arrays do not fit in memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > limit:
                more = f"; {key} raises the limit" if key else ""
                raise ValueError(f"it unpacks to {size:,} bytes: at most {limit:,} are read{more}")
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names) or not all(n.endswith(".npy") for n in names):
                raise ValueError("its entries are no arrays, or two have one name")
            # `ZipFile` reads no more than the size that an entry claims, and checks its CRC.
            return {e.filename.removesuffix(".npy"): _array(archive.read(e)) for e in entries}
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for foreign bytes
        reason = printable(str(error) or type(error).__name__)
        raise ValueError(f"{printable(source)} can't be read: {reason}") from None


def _array(content: bytes) -> np.ndarray:
    """Return the array of an `.npy` whose size is the one that its header claims."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    known = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in known:
        raise ValueError(f"an array has version {version} of the npy format")
    shape, _, dtype = known[version](file)
    # Before anything is allocated: a header of a hundred bytes may claim any number of terabytes.
    if dtype.hasobject or len(content) - file.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array holds Python objects, or not as many bytes as it claims")
    return np.load(io.BytesIO(content), allow_pickle=False)
