"""Data files of every reader, damaged in one place, are refused in words."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from sparring import data as data_module
from sparring.data import pseudo_labels
from sparring.data.pseudo_labels import PseudoLabels
from tests.fuzz.harness import ACCEPTED as SILENT
from tests.fuzz.harness import fault, fuzz, make_traps

RNG = np.random.default_rng(0)
X = RNG.random((30, 4)).astype(np.float32).round(3)
Y = np.arange(30) % 3
JUNK = [
    b"",
    b"\x00" * 64,
    b"\xff\xfe\x00",
    b"<!doctype html>",
    b"%!PS-Adobe-3.0 EPSF",
    b"\x80\x04]",
]
SHARES = st.integers(0, 79)  # percent of a file: its length may depend on the machine
CELLS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "x",
    "'",
    '"',
    "1;2",
    "\x00",
    "\x1b[31m",
    "1,2",
    "9" * 400,
]
BAD_LINES = [  # of svmlight
    *("0 1000000000:1", "0 -1:1", "0 1:x", "x 1:1", "30000000 1:1", "0 1", "0 1:1:1", "nan 1:1"),
    *("1e30 1:1", "0 1:inf", "0 1:nan", f"{2**62} 1:1", "0.5 1:1", "0 a:1", "\x00", "0 1:1e400"),
]
LABELS = ["", "nan", "1.5", "-3", "1e30", str(2**62), "30000000", "\x1b[31m", "x" * 5000, '"']
# Bad by their look and good by their meaning; each with the reason.
ACCEPTED = {
    r"[ct]sv label .*(1\.5|-3|1e30|30000000|4611686018427387904|x{9}|\x1b).*": "labels are names, "
    "which are shown with escapes",
    r"svm (30000000|1e30|0\.5|4611686018427387904) 1:1": "labels are names here too",
    r"npz y_test negative": "-1 is a row without label, which an evaluation refuses",
    r"labels run of kind [14]": "a run's name is only shown, with escapes",
    r"[ct]sv header ": "a feature may have no name, as the row numbers of R's files",
}


def csv_rows() -> list[list[str]]:
    """Return the cells of a good table, the label last."""
    rows = [[*map(str, x.tolist()), str(label)] for x, label in zip(X, Y, strict=True)]
    return [["a", "b", "c", "d", "label"], *rows]


def bad_csv(draw: Any, folder: Path) -> tuple[str, Path]:
    """Write a table with one bad cell, label or row."""
    rows, ending = csv_rows(), draw(st.sampled_from(["csv", "tsv"]))
    path = folder / f"t.{ending}"
    row = draw(st.integers(1, 30))
    kind = draw(st.sampled_from(["cell", "label", "short", "long", "header", "quote"]))
    what = ""
    if kind == "cell":
        what = rows[row][1] = draw(st.sampled_from(CELLS))
    elif kind == "label":
        what = rows[row][-1] = draw(st.sampled_from(LABELS))
    elif kind == "short":
        del rows[row][-1]
    elif kind == "long":
        rows[row].append("1")
    elif kind == "header":
        rows[0][draw(st.integers(0, 2))] = what = draw(st.sampled_from(["label", "d", ""]))
    else:
        what = rows[row][0] = '"' + rows[row][0]
    separator = "," if ending == "csv" else "\t"
    path.write_text("\n".join(separator.join(cells) for cells in rows))
    return f"{ending} {kind} {what}", path


def bad_svmlight(draw: Any, folder: Path) -> tuple[str, Path]:
    """Write an svmlight file with one bad token."""
    lines = [
        f"{label} " + " ".join(f"{k + 1}:{v}" for k, v in enumerate(x.tolist()))
        for x, label in zip(X, Y, strict=True)
    ]
    bad = draw(st.sampled_from(BAD_LINES))
    lines[draw(st.integers(0, 29))] = bad
    path = folder / "t.svm"
    path.write_text("\n".join(lines))
    return f"svm {bad}", path


def bad_npz(draw: Any, folder: Path) -> tuple[str, Path]:
    """Write an npz with one bad array."""
    arrays: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
    key = draw(st.sampled_from(sorted(arrays)))
    good = arrays[key]
    kind, other = draw(
        st.sampled_from(
            [
                ("short", good[:-1]),
                ("empty", good[:0]),
                ("number", np.array(1.0)),
                ("text", good.astype("U8")),
                ("bytes", good.astype("S8")),
                ("date", np.zeros(len(good), "M8[s]")),
                ("complex", good.astype(complex)),
                ("object", good.astype(object)),
                ("void", np.zeros(len(good), "V8")),
                ("structured", np.zeros(len(good), [("a", "f4")])),
                ("nan", np.full(good.shape, np.nan)),
                ("huge", np.full(good.shape, 2.0**62)),
                ("negative", np.full(good.shape, -1)),
                ("three axes", np.zeros((len(good), 0, 3))),
                ("missing", None),
            ]
        )
    )
    arrays[key] = other
    path = folder / "t.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return f"npz {key} {kind}", path


def bad_bytes(draw: Any, folder: Path) -> tuple[str, Path]:
    """Cut a good file of any kind, and put junk behind."""
    kind = draw(st.sampled_from(["npz", "svm.gz", "csv.gz", *FOLDERS]))
    root, path = folder / "whole", folder / "whole"
    if kind in ("npz", "svm.gz", "csv.gz"):
        path = root = folder / f"t.{kind}"
    if kind == "npz":
        np.savez_compressed(path, x=X, y=Y)
    elif kind == "svm.gz":
        path.write_bytes(gzip.compress(b"\n".join(b"%d 1:0.5 2:0.1" % label for label in Y)))
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress("\n".join(map(",".join, csv_rows())).encode()))
    else:
        path = FOLDERS[kind](root)
    content = path.read_bytes()
    # not in the last bytes: picture decoders and gzip do without them
    cut = int(draw(SHARES) / 100 * len(content))
    junk = draw(st.sampled_from(JUNK))
    path.write_bytes(content[:cut] + junk)
    return f"bytes {kind} cut at {cut}, then {junk[:8]!r}", root


def idx_folder(folder: Path) -> Path:
    """Write a good folder of MNIST's files; return one of them."""
    folder.mkdir()
    for name, n in (("train", 40), ("t10k", 20)):
        pictures = np.zeros((n, 28, 28), np.uint8)
        head = b"\x00\x00\x08\x03" + b"".join(k.to_bytes(4, "big") for k in pictures.shape)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + pictures.tobytes())
        labels = (np.arange(n) % 10).astype(np.uint8).tobytes()
        head = b"\x00\x00\x08\x01" + n.to_bytes(4, "big")
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(head + labels)
    return folder / "train-images-idx3-ubyte"


def cifar_folder(folder: Path) -> Path:
    """Write a good folder of CIFAR-10's Python files; return one of them."""
    folder.mkdir()
    rows = {b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(rows, 2))
    names = {b"label_names": [b"a"] * 10}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, 2))
    return folder / "data_batch_1"


def svhn_folder(folder: Path) -> Path:
    """Write a good folder of SVHN's MATLAB files; return one of them."""
    folder.mkdir()
    for name in ("train_32x32.mat", "test_32x32.mat"):
        arrays = {"X": np.zeros((32, 32, 3, 20), np.uint8), "y": np.arange(20)[:, None] % 10 + 1}
        savemat(folder / name, arrays, do_compression=True)
    return folder / "train_32x32.mat"


def bad_matlab(draw: Any, folder: Path) -> tuple[str, Path]:
    """Replace one of SVHN's files by one with another array."""
    path = svhn_folder(folder / "whole")
    arrays: dict[str, Any] = {"X": np.zeros((32, 32, 3, 20), np.uint8), "y": np.ones((20, 1))}
    key = draw(st.sampled_from(sorted(arrays)))
    good = arrays[key]
    others = [good[:-1], good * 1j, good * np.nan, good - 7.5, np.array(["a"]), "text", {"a": 1}]
    others += [np.zeros((0, 0)), np.float64(3), [[1, "a"]], np.full(good.shape, 2.0**40)]
    arrays[key] = draw(st.sampled_from(others))
    savemat(path, arrays, do_compression=draw(st.booleans()))
    return f"mat {key} {str(arrays[key])[:40]!r}", folder / "whole"


def picture_folder(folder: Path, kind: str = "png") -> Path:
    """Write a good folder of pictures, two classes of 10; return one picture."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for k in range(10):
            pixels = rng.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.{kind}")
    return folder / "a" / f"3.{kind}"


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "idx": idx_folder,
    "cifar": cifar_folder,
    "svhn": svhn_folder,
    "png": picture_folder,
    "jpg": lambda folder: picture_folder(folder, "jpg"),
}


def forged_pickle(draw: Any, folder: Path) -> tuple[str, Path]:
    """Replace one file of CIFAR by a pickle that another program made, or that an attacker did."""
    path = cifar_folder(folder / "whole")
    bad = draw(
        st.sampled_from(
            [
                [],
                {},
                {b"data": None, b"labels": []},
                {b"data": np.zeros((10, 3072), np.float32), b"labels": [0] * 10},
                {b"data": np.zeros((10, 3071), np.uint8), b"labels": [0] * 10},
                {b"data": np.zeros((10, 3072), np.uint8), b"labels": [10**30] * 10},
                {b"data": np.zeros((10, 3072), np.uint8), b"labels": ["a"] * 10},
                {b"data": np.zeros((10, 3072), np.uint8), b"labels": [0] * 9},
                {b"data": 3},
                {b"data": np.zeros(10, "V8"), b"labels": [0] * 10},
                Path("x"),
                complex(1, 2),
                [[[[]]]] * 50,
            ]
        )
    )
    path.write_bytes(pickle.dumps(bad, 2))
    return f"pickle {bad!r:.60}", folder / "whole"


def trap(draw: Any, folder: Path) -> tuple[str, Path]:
    """Name a path that is no data: a pipe, a device, a circle of links, an empty file."""
    make_traps(folder)
    end = draw(st.sampled_from([".npz", ".csv", ".svm", ".csv.gz", ".npz.gz", ""]))
    name = draw(st.sampled_from(["pipe", "zero", "circle", "empty", "page.html", "folder"]))
    path = folder / f"named{end}"
    (folder / name).rename(path) if end else None
    return f"trap {name} named {path.name}", path if end else folder / name


def damaged_picture(draw: Any, folder: Path) -> tuple[str, Path]:
    """Put one odd file among pictures."""
    path = picture_folder(folder / "whole")
    kind = draw(
        st.sampled_from(["size", "deep", "script", "svg", "pipe", "link", "bomb", "text", "float"])
    )
    if kind == "size":
        Image.new("RGB", (9, 8)).save(path)
    elif kind == "deep":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    elif kind == "float":
        path.unlink()
        Image.fromarray(np.zeros((8, 8), np.float32)).save(path.with_suffix(".tiff"))
    elif kind == "bomb":
        Image.new("1", (30_000, 30_000)).save(path)
    elif kind in ("pipe", "link"):
        path.unlink()
        names = make_traps(folder)
        path.symlink_to(folder / names[0 if kind == "pipe" else 1])
    else:
        content = {"script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"}
        path.write_bytes(content.get(kind, b"<svg xmlns='http://www.w3.org/2000/svg'/>"))
    return f"picture {kind}", folder / "whole"


KINDS = [
    bad_csv,
    bad_svmlight,
    bad_npz,
    bad_bytes,
    bad_matlab,
    forged_pickle,
    trap,
    damaged_picture,
]


def check(data: st.DataObject, folder: Path) -> None:
    """Draw a kind of bad data and write it; loading must raise one sentence."""
    shutil.rmtree(folder)
    folder.mkdir()
    what, path = data.draw(st.sampled_from(KINDS))(data.draw, folder)
    wrong = fault(lambda: data_module.load(path))
    argued = any(re.fullmatch(pattern, what) for pattern in ACCEPTED)
    assert wrong is None or (argued and wrong == SILENT), f"{what}: {wrong}"


def check_pseudo_labels(data: st.DataObject, folder: Path) -> None:
    """Draw a bad array for a file of pseudo-labels, or damage its bytes; reading must refuse it."""
    path, y = folder / "labels.npz", torch.tensor([0, 1, 2, 0])
    digests = {"data": "a" * 64, "rows": "b" * 64}
    PseudoLabels(y, torch.arange(4), torch.full((4,), 0.9), **digests, run="r").save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    key = data.draw(st.sampled_from([*sorted(arrays), "bytes"]))
    what = key
    if key == "bytes":
        content = path.read_bytes()
        cut = int(data.draw(SHARES) / 100 * len(content))
        path.write_bytes(content[:cut] + data.draw(st.sampled_from(JUNK)))
        what = f"bytes cut at {cut}"
    else:
        old = arrays[key]
        others = [
            None,
            old.astype("S"),
            np.zeros(3, "M8[s]"),
            old.astype(object),
            np.array("\x1b[2J"),
        ]
        if key in ("data", "rows"):
            others += [np.array(""), np.array("c" * 5000)]
        elif key != "run":
            others += [
                old[:-1],
                old[:, None],
                old + 1j,
                old[:0],
                old - 9,
                old * np.nan,
                old + 2**40,
            ]
        number = data.draw(st.integers(0, len(others) - 1))
        what = f"{key} of kind {number}"
        arrays[key] = others[number]
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    wrong = fault(lambda: pseudo_labels.read(path, **digests).labels_of(torch.arange(4)))
    argued = any(re.fullmatch(pattern, f"labels {what}") for pattern in ACCEPTED)
    assert wrong is None or (argued and wrong == SILENT), f"labels {what}: {wrong}"


CHECKS = {"data files": check, "pseudo-label files": check_pseudo_labels}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_bad_data_file_is_refused(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    fuzz(kind, lambda data: CHECKS[kind](data, folder))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_many_bad_data_files_are_refused(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    fuzz(kind, lambda data: CHECKS[kind](data, folder), slow=True)
