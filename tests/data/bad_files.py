"""Bad files of every format that a user's data may have, and what their readers say of them."""

import gzip
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from tests.data.made_files import (
    NOISE,
    Write,
    archive,
    csv,
    folder_of,
    frames,
    gzipped,
    idx,
    link_to,
    lying_zip,
    member,
    mnist,
    npy,
    npz,
    picture,
    pictures,
    png,
    sparse,
    xy,
    zeros_mat,
    zeros_npz,
)

LONG = b"x" * 200_000
MEMORY = 400_000_000  # bytes that reading may take beyond the library itself

# of each: the file's name, what is in it, and words of the refusal
FILES: dict[str, tuple[str, Write, str]] = {
    # csv
    "csv-empty": ("t.csv", b"", "no rows"),
    "csv-blank-lines": ("t.csv", b"\n \n\n", "no rows"),
    "csv-header-only": ("t.csv", b"a,b,label\n", "no rows"),
    "csv-one-column": ("t.csv", b"label\n1\n0\n", "one column"),
    "csv-ragged": ("t.csv", csv("a,b,label\n1,0,1\n1,0\n"), "row 3: 2 cells, the first has 3"),
    "csv-long-row": ("t.csv", csv("a,b,label\n1,0,1\n1,0,1,1\n"), "row 3: 4 cells"),
    "csv-empty-label": ("t.csv", csv("a,b,label\n1,0,1\n1,0,\n"), "row 3: the label.* is empty"),
    "csv-nan-label": ("t.csv", csv("a,b,label\n1,0,1\n1,0,NaN\n"), "row 3: the label.* is NaN"),
    "csv-missing": ("t.csv", csv("a,b,label\n1,,1\n"), "row 2, column 'b'.*fill missing"),
    "csv-na": ("t.csv", csv("a,b,label\n1,NA,1\n"), "column 'b'.*'NA'.*fill missing"),
    "csv-question": ("t.csv", csv("1,0,1\n1,?,0\n"), r"row 2, column 2.*'\?'.*fill missing"),
    "csv-word": ("t.csv", csv("a,b,label\n1,red,1\n"), "not a number.*'red'"),
    "csv-nan": ("t.csv", csv("a,b,label\n1,0,1\n1,nan,1\n"), "row 3, column 'b'.*NaN"),
    "csv-inf": ("t.csv", csv("a,b,label\n-inf,0,1\n"), "row 2, column 'a'.*infinite"),
    "csv-overflow": ("t.csv", csv("a,b,label\n1e99,0,1\n"), "column 'a'.*beyond float32"),
    "csv-underscore": ("t.csv", csv("a,b,label\n1_0,0,1\n"), "not a number.*'1_0'"),
    "csv-label-first": ("t.csv", csv("label,a\nspam,1\n"), "set label = 'label'"),
    "csv-two-labels": ("t.csv", csv("label,a,label\n1,0,1\n"), "2 columns called 'label'"),
    "csv-measured": (
        "t.csv",
        csv("label,a,b\n" + "".join(f"{k % 2},0,{k / 90}\n" for k in range(90))),
        "90 classes of 90 rows.*name the label",
    ),
    "csv-names-as-labels": (
        "t.csv",
        csv("a,b,file\n" + "".join(f"0,1,{k}.exe\n" for k in range(90))),
        "90 classes of 90 rows",
    ),
    "csv-first-row": ("t.csv", csv("0.1,1,spam\n0.2,0,ham\n"), "no other row has its label"),
    "csv-nul": ("t.csv", b"a,b,label\n1,\0,1\n", "NUL bytes"),
    "csv-utf16-no-mark": ("t.csv", csv("a,b,label\n1,0,1\n", "utf-16-le"), "NUL.*UTF-8"),
    "csv-utf16-damaged": ("t.csv", csv("a,b,label\n1,0,1\n", "utf-16")[:-1], "encoding, utf-16"),
    "csv-is-a-zip": ("t.csv", archive(("x", bytes(99))), "no text"),
    "csv-open-quote": ("t.csv", b'a,b,label\n1,"0,1\n' + LONG, "quote not closed"),
    "csv-open-quote-short": ("t.csv", b'a,b,label\n1,"0,1\n1,0,1\n', "quote not closed"),
    "csv-mixed-points": ("t.csv", b"a;b;label\n1,5;2;0\n1;2.5;1\n", "decimal commas"),
    "csv-many-columns": ("t.csv", b"a," * 10**6 + b"label\n", "1,000,001 features: at most"),
    "csv-gz-short": ("t.csv.gz", gzip.compress(b"0,1,0\n" * 99)[:-9], "truncated or damaged"),
    "csv-gz-rubbish": ("t.csv.gz", b"\x1f\x8b" + b"rubbish" * 5, "truncated or damaged"),
    "csv-one-class": ("t.csv", csv("a,b,label\n" + "1,0,1\n" * 9), "1 class"),
    "csv-many-classes": (
        "t.csv",
        csv("a,b,label\n" + "".join(f"0,1,{k // 2}\n" for k in range(200_002))),
        "100,001 classes",
    ),
    # npz
    "npz-empty": ("t.npz", b"", "not an npz"),
    "npz-rubbish": ("t.npz", LONG, "not an npz"),
    "npz-short": ("t.npz", xy()[:-30], "truncated"),
    "npz-is-npy": ("t.npz", npy(content=bytes(12)), "not an npz"),
    "npz-no-array": ("t.npz", archive(("readme", b"hello")), "holds nothing"),
    "npz-objects": ("t.npz", xy(x=np.array([{}] * 4, dtype=object)), "Python objects"),
    "npz-structure": ("t.npz", xy(x=np.zeros(4, [("a", "f4")])), "a structure"),
    "npz-void": ("t.npz", xy(x=np.zeros(4, "V8")), "V8"),
    "npz-complex": ("t.npz", xy(x=np.zeros((4, 2), complex)), "<c16"),
    "npz-date": ("t.npz", xy(x=np.zeros((4, 2), "M8[s]")), "M8"),
    "npz-text": ("t.npz", xy(x=np.full((4, 2), "a")), "must hold numbers"),
    "npz-claims-rows": (
        "t.npz",
        member(npy(shape=(10**12, 3))),
        "claims 12,000,000,000,000",
    ),
    "npz-claims-all": (
        "t.npz",
        member(npy(shape=(2**62,) * 9)),
        "claims more than 10",
    ),
    "npz-claims-less": ("t.npz", member(npy(shape=(1,), content=bytes(12))), "claims 4 bytes"),
    "npz-negative": ("t.npz", member(npy(shape=(-3,))), "no shape of integers"),
    "npz-dimensions": ("t.npz", member(npy(shape=(1,) * 65, content=bytes(4))), "shape that no"),
    "npz-wide": ("t.npz", xy(x=np.empty((40, 0), np.float32)), "is empty"),
    "npz-header-code": ("t.npz", member(npy(header="__import__('os')")), "structure"),
    "npz-header-deep": ("t.npz", member(npy(header="(" * 9000)), "structure"),
    "npz-header-long": ("t.npz", member(npy(header=" " * 60_000)), "header of 60,000 bytes"),
    "npz-header-short": ("t.npz", member(npy()[:30]), "ends within its header"),
    "npz-not-numpy": ("t.npz", member(b"hello"), "no array that numpy has saved"),
    "npz-twice": ("t.npz", archive(("x.npy", npy()), ("x.npy", npy())), "two arrays called 'x"),
    "npz-x-only": ("t.npz", npz(x=np.zeros((4, 2))), "only one of x and y"),
    "npz-near-miss": ("t.npz", npz(X_train=np.eye(4), Y_train=np.arange(4)), "'x_train'"),
    "npz-near-miss-split": ("t.npz", xy(x_tests=np.eye(4), y_tests=np.arange(4)), "mean 'x_test'"),
    "npz-other-keys": ("t.npz", npz(images=np.eye(4)), "holds images; it needs"),
    "npz-no-rows": ("t.npz", xy(x=np.zeros((0, 2), np.float32)), "empty"),
    "npz-scalars": ("t.npz", npz(x=1.0, y=1), "labels of shape"),
    "npz-lengths": ("t.npz", xy(y=np.arange(7)), "40 samples and 7 labels"),
    "npz-nan": ("t.npz", xy(x=np.full((4, 2), np.nan)), "NaN or infinite"),
    "npz-inf": ("t.npz", xy(x=np.full((4, 2), np.inf)), "NaN or infinite"),
    "npz-fractions": ("t.npz", xy(y=np.arange(40) / 2), "labels"),
    "npz-nan-labels": ("t.npz", xy(y=np.full(40, np.nan)), "labels"),
    "npz-names-2d": ("t.npz", xy(class_names=np.array([["a", "b"]])), "class_names is"),
    "npz-names-few": ("t.npz", xy(class_names=np.array(["a"])), "labels from 0 to 1"),
    # svmlight
    "svm-empty": ("t.svm", b"", "no rows"),
    "svm-comments": ("t.svm", b"# only\n# comments\n", "no rows"),
    "svm-labels-only": ("t.svm", b"1\n0\n", "no rows of features"),
    "svm-word-label": ("t.svm", b"spam 1:1\n", "not a svmlight file"),
    "svm-word": ("t.svm", b"1 1:a\n", "not a svmlight file"),
    "svm-no-colon": ("t.svm", b"1 0.5 0.5\n", "not a svmlight file"),
    "svm-negative": ("t.svm", b"1 -1:0.5\n", "Invalid index -1"),
    "svm-twice": ("t.svm", b"1 1:0.5 1:0.6\n", "sorted and unique"),
    "svm-unsorted": ("t.svm", b"1 2:0.5 1:0.6\n", "sorted and unique"),
    "svm-wide": ("t.svm", b"1 1:0.5\n0 1000000000:1\n", "1,000,000,000 features: at most"),
    "svm-overflow": ("t.svm", b"1 99999999999999999999:1\n", "not a svmlight file"),
    "svm-nan": ("t.svm", b"1 1:1\n0 1:nan\n", "row 2: a feature is nan"),
    "svm-inf-label": ("t.svm", b"1 1:1\ninf 1:1\n", "row 2: the label is inf"),
    "svm-multilabel": ("t.svm", b"1,2 1:1\n", "not a svmlight file"),
    "svm-gz-short": ("t.svm.gz", gzip.compress(b"1 1:1\n" * 99)[:-9], "truncated or damaged"),
    # pictures
    "folder-empty": ("t", Path.mkdir, "no folder of pictures per class"),
    "folder-of-empty": ("t", lambda p: (p / "a").mkdir(parents=True), "has no picture"),
    "folder-deeper": (
        "t",
        lambda p: pictures()(p / "more"),
        "has no picture.*2 lie in folders inside it",
    ),
    "picture-empty": ("t", pictures(a1=b""), "none of PNG, JPEG"),
    "picture-text": ("t", pictures(a1=b"hello"), "none of PNG, JPEG"),
    "picture-short": ("t", pictures(a1=picture(NOISE)[:150]), "truncated"),
    "picture-postscript": ("t", pictures(a1=b"%!PS-Adobe-3.0 EPSF-3.0\n"), "none of PNG"),
    "picture-icon": ("t", pictures(a1=picture(form="ICO")), "none of PNG"),
    "picture-16-bit-grey": ("t", pictures(a1=picture(np.zeros((8, 8), np.uint16))), "8 bits"),
    "picture-16-bit-colour": (
        "t",
        pictures(a1=png(2, 1, 16, 2, b"\0" + bytes(12))),
        "more than 8 bits",
    ),
    "picture-16-bit-ppm": ("t", pictures(a1=b"P6 1 1 65535\n" + bytes(6)), "more than 8 bits"),
    "picture-float": (
        "t",
        pictures(a1=picture(np.zeros((8, 8), np.float32), "TIFF")),
        "more than 8 bits",
    ),
    "picture-gif-frames": ("t", pictures(a1=frames("GIF")), "several frames"),
    "picture-png-frames": ("t", pictures(a1=frames("PNG")), "several frames"),
    "picture-tiff-frames": ("t", pictures(a1=frames("TIFF")), "several frames"),
    "picture-transparent": (
        "t",
        pictures(a1=picture(np.zeros((8, 8, 4), np.uint8))),
        "transparent pixels",
    ),
    "picture-size": ("t", pictures(a1=picture(np.zeros((8, 9), np.uint8))), "8 × 9, the pictures"),
    "picture-nothing": ("t", pictures(a1=png(0, 0)), "truncated|0 × 0"),
    "picture-pipe": ("t", pictures(a1=os.mkfifo), "no regular file"),
    "picture-device": ("t", pictures(a1=link_to("/dev/zero")), "no regular file"),
    "picture-folder": ("t", pictures(a1=Path.mkdir), "is a folder"),
    # known layouts
    "mnist-short": ("t", mnist(train_images_idx3_ubyte=idx(2, 4, 4)), "truncated or damaged"),
    "mnist-claims": (
        "t",
        mnist(train_images_idx3_ubyte=idx(2**32 - 1, 2**32 - 1, 2**32 - 1)),
        "truncated or damaged",
    ),
    "mnist-floats": ("t", mnist(t10k_images_idx3_ubyte=idx(2, 4, 4, kind=13)), "unsigned bytes"),
    "mnist-empty": ("t", mnist(t10k_labels_idx1_ubyte=b""), "not an IDX file"),
    "mnist-flat": (
        "t",
        mnist(train_images_idx3_ubyte=idx(32, content=bytes(32))),
        r"images must be \(n, h, w\)",
    ),
    "mnist-dimensions": (
        "t",
        mnist(train_labels_idx1_ubyte=idx(*(1,) * 99, content=b"\0")),
        "99 dimensions",
    ),
    "mnist-lengths": (
        "t",
        mnist(train_labels_idx1_ubyte=idx(1, content=b"\0")),
        "2 samples and 1 labels",
    ),
    "svhn-rubbish": (
        "t",
        folder_of({"train_32x32.mat": LONG, "test_32x32.mat": LONG}),
        "not SVHN's format",
    ),
    # any file
    "missing": ("t.csv", lambda path: None, "no file or folder"),
    "ending": ("t.xlsx", b"PK", "no reader for .xlsx"),
    "no-ending": ("t.gz", gzip.compress(b""), "no reader for no ending"),
    "npy-alone": ("t.npy", npy(content=bytes(12)), "no reader for .npy"),
    **{
        f"{kind}-{what}": (f"t.{kind}", write, words)
        for kind in ("csv", "npz", "svm")
        for what, write, words in [
            ("pipe", os.mkfifo, "no regular file"),
            ("device", link_to("/dev/zero"), "no regular file"),
            ("folder", Path.mkdir, "no folder of pictures"),
            ("to-nothing", link_to("nothing"), "no file or folder"),
        ]
    },
}

# read with SPARRING_MAX_BYTES = LIMIT
LIMIT = 20_000_000
BOMBS: dict[str, tuple[str, Write, str]] = {
    "bomb-csv": ("t.csv.gz", gzipped(b"0,1,0\n", 10_000_000), "unpacks to more than"),
    "bomb-csv-line": ("t.csv.gz", gzipped(b"\0", 60_000_000), "unpacks to more than"),
    "bomb-svm": ("t.svm.gz", gzipped(b"1 1:1\n", 10_000_000), "unpacks to more than"),
    "bomb-mnist": (
        "t",
        mnist(train_images_idx3_ubyte=gzip.compress(bytes(21_000_000), 1)),
        "unpacks to more than",
    ),
    "bomb-npz": ("t.npz", zeros_npz(60_000_000), "at most 20,000,000 are read"),
    "bomb-npz-lie": ("t.npz", lying_zip(2**31), "claims more bytes than it has"),
    "bomb-mat": ("t", zeros_mat, "at most 20,000,000 are read"),
    "bomb-svm-wide": (
        "t.svm",
        b"1 1:1\n0 900000:1\n" * 50_000,
        "table of 100,000 × 900,000 has",
    ),
    "bomb-large-file": ("t.csv", sparse(10**12), "at most"),
    "bomb-picture": ("t", pictures(a1=png(40_000, 40_000)), "40000 × 40000 pixels: at most"),
    "bomb-picture-line": ("t", pictures(a1=png(2**31 - 1, 2**31 - 1)), "pixels: at most"),
    "bomb-pictures": (
        "t",
        pictures(**{f"a{k}": png(3000, 3000, rows=bytes(3001 * 3000)) for k in range(3)}),
        "at most 20,000,000 are read",
    ),
}


def read_all(folder: Path) -> dict[str, dict[str, object]]:
    """Load every bad file with little memory; return of each its error and time."""
    from sparring import data

    importlib.import_module("sklearn.datasets")  # a reader would do so within its time
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    outcomes = {}
    for group, limit in ((FILES, ""), (BOMBS, str(LIMIT))):
        os.environ["SPARRING_MAX_BYTES"] = limit
        for key, (name, *_) in group.items():
            start, error = time.process_time(), ("", "")
            try:
                data.load(folder / key / name)
            except BaseException as raised:
                error = type(raised).__name__, str(raised)
            outcomes[key] = {"error": error, "seconds": time.process_time() - start}
    return outcomes


if __name__ == "__main__":
    print(json.dumps(read_all(Path(sys.argv[1]))))
