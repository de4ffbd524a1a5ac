"""Write the files of a test: csv, npz, IDX and pictures, also those that no library would write."""

import gzip
import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Write = bytes | Callable[[Path], object]
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def csv(text, encoding="utf-8"):
    return text.encode(encoding)


def npy(header=None, content=b"", **keys):
    """The bytes of a `.npy` file with a header of our choice."""
    keys = {"descr": "<f4", "fortran_order": False, "shape": (3,), **keys}
    text = (repr(keys) if header is None else header).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def archive(*members, method=zipfile.ZIP_STORED):
    """The bytes of a zip of (name, content)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as z:
        for name, content in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a name that comes twice
                z.writestr(name, content)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def xy(x=None, y=None, **more):
    """An npz of x and y, 40 good rows where not given."""
    x = np.random.default_rng(0).random((40, 3), dtype=np.float32) if x is None else x
    return npz(x=x, y=np.arange(len(x)) % 2 if y is None else y, **more)


def member(content):
    """An npz whose x is a member of our choice."""
    return archive(("x.npy", content), ("y.npy", npy()))


def idx(*shape, content=b"", kind=8):
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def picture(a=None, form="PNG", mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8) if a is None else a)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def png(width, height, depth=8, colour=0, rows=b""):
    """A PNG by hand, of any size that its header may claim."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pictures(**files):
    """A folder of two classes; `a0=content` is the picture a/0.png."""
    held = {"a0": picture(), "b0": picture(), **files}

    def write(path):
        for name, content in held.items():
            file = path / name[0] / f"{name[1:]}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            content(file) if callable(content) else file.write_bytes(content)

    return write


def frames(form):
    parts = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (0, 255)]
    return picture(np.zeros((8, 8), np.uint8), form, save_all=True, append_images=parts)


def folder_of(files):
    def write(path):
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)

    return write


def mnist(**files):
    """MNIST's four files, some of them replaced."""
    images, labels = idx(2, 4, 4, content=bytes(32)), idx(2, content=b"\0\1")
    good = {f"{s}-images-idx3-ubyte": images for s in ("train", "t10k")}
    good |= {f"{s}-labels-idx1-ubyte": labels for s in ("train", "t10k")}
    return folder_of({**good, **{name.replace("_", "-"): a for name, a in files.items()}})


def link_to(target):
    return lambda path: path.symlink_to(target)


def lying_zip(size):
    """An npz whose directory claims another size of its member than it has."""
    content = bytearray(archive(("x.npy", npy(shape=(size // 4,))), method=zipfile.ZIP_DEFLATED))
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):  # the local header, the directory
        start = content.index(mark) + offset
        content[start : start + 4] = struct.pack("<I", size)
    return bytes(content)


def zeros_npz(size):
    """An npz of zeros, which one byte in a thousand holds."""
    x, y = np.zeros((size // 8, 8), np.uint8), np.zeros(size // 8, np.uint8)
    return lambda path: np.savez_compressed(path, x=x, y=y)


def gzipped(unit, count):
    """A gzip of the same bytes many times."""
    return lambda path: path.write_bytes(gzip.compress(unit * count, 1))


def zeros_mat(path):
    path.mkdir()
    x, y = np.zeros((32, 32, 3, 10_000), np.uint8), np.zeros((10_000, 1), np.uint8)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(path / name, {"X": x, "y": y}, do_compression=True)


def sparse(size):
    """A file of zeros that takes no disk."""

    def write(path):
        path.touch()
        os.truncate(path, size)

    return write
