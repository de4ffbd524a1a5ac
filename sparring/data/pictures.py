"""Read pictures, and folders of pictures per class. A folder's links to pictures are followed."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import files
from ..runtime.warning import SparringWarning
from . import limits
from .content import reason, require_package

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# Whatever a file is called, no other format is tried: reading PostScript starts a program.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
GREY = ("1", "L", "LA")
ORIENTATION = 0x0112  # a photograph's tag: how the camera was turned
TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM")  # its values from 2 on
TURNS += ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")


def picture(path: Path, mode: str | None = None) -> np.ndarray:
    """Read a picture upright as uint8 `(1, h, w)` or `(3, h, w)`; default `mode`: the file's.

    Raises:
        ValueError: for another format, damage, several frames, more than 8 bits, a transparent
            pixel, or more pixels than `limits.check_pixels` allows.
        OSError: if it cannot be opened.
    """
    pillow = require_package("PIL.Image", "pillow")
    with files.open_regular(path) as file, without_pillow_limits(pillow):
        with _damage_refused(path, pillow):
            opened = pillow.open(file, formats=FORMATS)
        limits.check_pixels(str(path), *opened.size)
        with opened, _damage_refused(path, pillow):
            a = _pixels(pillow, opened, mode)
    return a[None] if a.ndim == 2 else a.transpose(2, 0, 1)


@contextlib.contextmanager
def without_pillow_limits(pillow: Any) -> Iterator[None]:
    """Silence Pillow's warnings, and its own limit, which no setting of ours could raise."""
    limit = pillow.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pillow.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            pillow.MAX_IMAGE_PIXELS = limit


@contextlib.contextmanager
def _damage_refused(path: Path, pillow: Any) -> Iterator[None]:
    """Turn every error of Pillow into a `ValueError` that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture may raise anything
        why = reason(error)
        if isinstance(error, pillow.UnidentifiedImageError):
            why = f"it is none of {', '.join(FORMATS)}"
        what = "truncated or not a picture of one opaque frame and 8 bits"
        raise ValueError(f"{path} is {what} ({why})") from None


def _pixels(pillow: Any, opened: Any, mode: str | None) -> np.ndarray:
    """Return the pixels of an open picture; raise if an array of 8 bits would lose some of it."""
    if opened.mode.startswith(("I", "F")) or deep(opened):
        raise ValueError(f"its pixels are {opened.mode}, more than 8 bits")
    # a camera's MPO holds a second, smaller view of the same photograph
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        raise ValueError("it has several frames: save the one that counts")
    image = opened
    if opened.has_transparency_data:
        image = opened.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            raise ValueError("it has transparent pixels: paint it on a background")
    image = image.convert(mode or ("L" if opened.mode in GREY else "RGB"))
    return np.asarray(turned_upright(pillow, image, orientation(opened)))


def turned_upright(pillow: Any, image: Any, orientation: int) -> Any:
    """Return an image turned as a photograph's orientation, 1 to 8, asks; 1 is upright."""
    if 2 <= orientation < 2 + len(TURNS):
        return image.transpose(getattr(pillow.Transpose, TURNS[orientation - 2]))
    return image


def deep(opened: Any) -> bool:
    """Return whether colours have more bits in the file than the 8 that Pillow keeps."""
    arguments = opened.tile[0][3] if opened.tile else ""
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    if opened.format == "PPM":
        return any(isinstance(part, int) and part > 255 for part in parts)
    return opened.format in ("PNG", "TIFF") and any(";16" in str(part) for part in parts)


def orientation(opened: Any) -> int:
    """Return the orientation that is left to apply: 1 is upright; a damaged tag is none."""
    try:
        return int(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # as browsers do, a photograph with damaged notes is shown as it lies
        return 1


def folder(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a folder of pictures per class; return uint8 `(n, c, h, w)`, labels and class names.

    All pictures must have one size; all are read in colour if one is. Hidden files are skipped;
    pictures elsewhere, as in a folder inside a class's, are not read, and a warning counts them.

    Raises:
        ValueError: for no class, a class without pictures, two sizes, or more than the limits.
    """
    paths, labels, names = labelled_paths(path)
    return _stack(path, paths), labels, names


def labelled_paths(path: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Return the pictures of a folder of pictures per class, their labels, and the class names.

    Raises:
        ValueError: for no class, a class without pictures, or more classes than the limits.
    """
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name[0] not in "._")
    if not names:
        wanted = "folder of pictures per class, nor another format that can be read"
        raise ValueError(f"{path} has no {wanted}")
    limits.check_classes(str(path), len(names))
    unread = [path / name for name in _names_of_pictures(path)]
    paths, labels = [], []
    for k, name in enumerate(names):
        below = [Path(top) / f for top, _, _ in _walk(path / name) for f in _names_of_pictures(top)]
        direct = [file for file in below if file.parent == path / name]
        if not direct:
            deeper = f"; {len(below)} lie in folders inside it: move them up" if below else ""
            raise ValueError(f"{path / name} has no picture ({' '.join(PICTURES)}){deeper}")
        paths += direct
        labels += [k] * len(direct)
        unread += [file for file in below if file.parent != path / name]
    if unread:
        where = f"outside the classes' folders or in folders inside them, as {unread[0]}"
        what = f"{path}: {len(unread)} pictures are not read: they lie {where}"
        warnings.warn(what, SparringWarning, stacklevel=2)
    return paths, np.array(labels, dtype=np.int64), names


def _walk(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder and those inside it but for hidden ones; links inside are not followed."""
    for top, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield top, folders, names


def _names_of_pictures(path: str | Path) -> list[str]:
    """Return the sorted names of the files of a folder that end as pictures do, but hidden ones."""
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in PICTURES
        )


def _stack(path: Path, paths: list[Path]) -> np.ndarray:
    """Read pictures of one size into uint8 `(n, c, h, w)`."""
    pictures: list[np.ndarray] = []
    for file in paths:
        a = picture(file)
        first = pictures[0] if pictures else a
        if not pictures or len(a) > len(first):
            limits.check_shape(f"{path} of {len(paths):,} pictures", (len(paths), *a.shape), 1)
        if a.shape[1:] != first.shape[1:]:
            size, others = ("{1} × {2}".format(*p.shape) for p in (a, first))
            how = "size = 64 in [data] fits all to one"
            raise ValueError(f"{file} is {size}, the pictures before it {others}; {how}")
        pictures.append(a)
    shape = (max(len(p) for p in pictures), *pictures[0].shape[1:])
    return np.stack([np.broadcast_to(p, shape) for p in pictures])  # a grey one over the colours
