"""The data sets known by name: their layouts, classes, addresses and checksums.

To add a data set, add an entry to `FROM_FILES` or `BUILT_IN` at the end of this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from . import fetch, layouts, toy_2d
from .fetch import Remote
from .layouts import IDX, Layout, RawDataset
from .readers import require_package
from .tables import BitTable

DIGITS = tuple(str(k) for k in range(10))
CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a named set: layouts to try, addresses, checksums and class names.

    Arguments:
        layouts: readers of a folder, tried in this order.
        checks: checksums of the files as read (unpacked), by name.
        members: files to unpack, if `remotes` is one archive.
        inner: folders that the archives unpack to.
    """

    layouts: tuple[Layout, ...]
    remotes: tuple[Remote, ...]
    checks: Mapping[str, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def read(self, name: str, root: str | Path | None) -> RawDataset:
        """Read the set from the first folder that has it; download it if none does."""
        raw = self.read_local(name, root)
        raw = raw or self._read_first(name, [fetch.download(name, self.remotes)])
        assert raw is not None
        return raw._replace(classes=raw.classes or list(self.classes))

    def read_local(self, name: str, root: str | Path | None) -> RawDataset | None:
        """Read the set from the first folder that has it, without a download; None if none does."""
        return self._read_first(name, fetch.candidate_folders(name, root, self.inner))

    def _read_first(self, name: str, folders: list[Path]) -> RawDataset | None:
        for folder in folders:
            for layout in self.layouts:
                if (raw := layout(folder, self.checks)) is not None:
                    return raw
        for folder in folders if self.members else []:
            archive = folder / self.remotes[0].file
            if archive.is_file():
                target = fetch.cache_folder() / name
                fetch.unpack(archive, self.remotes[0].checksum, self.members, target)
                return self._read_first(name, [target])
        return None


def _idx(classes: tuple[str, ...], *bases: str, md5: str, sha256: list[str]) -> DatasetFiles:
    """Return a set of four IDX files: addresses, md5 of the `.gz`, sha256 of what is in them."""
    return DatasetFiles(
        (layouts.idx,),
        tuple(
            Remote(f"{stem}.gz", f"md5:{checksum}", tuple(f"{base}{stem}.gz" for base in bases))
            for stem, checksum in zip(IDX, md5.split(), strict=True)
        ),
        {stem: f"sha256:{checksum}" for stem, checksum in zip(IDX, sha256, strict=True)},
        inner=("raw",),
        classes=classes,
    )


def _cifar(name: str, md5: str) -> tuple[Remote, ...]:
    file = f"{name}-python.tar.gz"
    return (Remote(file, f"md5:{md5}", (f"https://www.cs.toronto.edu/~kriz/{file}",)),)


def digits() -> RawDataset:
    """Return scikit-learn's 1,797 handwritten digits, 1 × 8 × 8, float32 in [0, 1]; no download."""
    sklearn_digits = require_package("sklearn.datasets", "scikit-learn").load_digits()
    x = (sklearn_digits.images / 16).astype(np.float32)[:, None]
    return RawDataset((x, sklearn_digits.target.astype(np.int64)), classes=list(DIGITS))


MNIST = _idx(
    DIGITS,
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    md5="f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
    "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
    sha256=[
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ],
)
FASHION = _idx(
    CLOTHES,
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
    "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
    sha256=[
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ],
)
CIFAR10 = DatasetFiles(
    (layouts.cifar10_mosaics, layouts.cifar10_python, layouts.cifar10_binary),
    _cifar("cifar-10", "c58f30108f718f92721af3b95e74349a"),
    {
        "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
        "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
        "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "md5:40351d587109b95175f43aff81a1287e",
    },
    members=layouts.BATCHES,
    inner=("cifar-10-batches-py", "cifar-10-batches-bin"),
)
CIFAR100 = DatasetFiles(
    (layouts.cifar100_python, layouts.cifar100_binary),
    _cifar("cifar-100", "eb9058c3a382ffc7106e4002c42a8d85"),
    {
        "train": "md5:16019d7e3df5f24257cddd939b257f8d",
        "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "md5:7973b15100ade9c7d40fb424638fde48",
    },
    members=("train", "test", "meta"),
    inner=("cifar-100-python", "cifar-100-binary"),
)
_SVHN = {
    "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
}
SVHN = DatasetFiles(
    (layouts.svhn,),
    tuple(Remote(f, s, (f"http://ufldl.stanford.edu/housenumbers/{f}",)) for f, s in _SVHN.items()),
    _SVHN,
)


def _malware(file: str, gz: str, csv: str, *labels: str) -> DatasetFiles:
    """Return a csv of bits, not for download in this form, by sha256 of its `.gz` and its own."""
    table = BitTable(file, {label: k for k, label in enumerate(labels or ("0", "1"))})
    remote, classes = Remote(f"{file}.gz", f"sha256:{gz}", ()), ("benign", "malware")
    checks = {file: f"sha256:{csv}"}
    return DatasetFiles((table,), (remote,), checks, inner=("malware", "."), classes=classes)


MALWARE = {
    "drebin215": _malware(
        "drebin215.csv",
        "d4078b948f9393990990fa2852ef2ead6cdc99c7db42268b39242fd318b4028f",
        "710f2c11b0cad04c36f56dd16398127feb697fd99e8efa7f75890b792fba3ad5",
        *("B", "S"),
    ),
    "defensedroid-prs": _malware(
        "defensedroid_prs.csv",
        "ef6580116b3a6013533536a6642196731ff7431b03f73230c36c3c7b77a454a0",
        "083bf4f4a088005e63f5ea3cebe25477a85a14a0d84878b47a48f80ab5139ba9",
    ),
    "defensedroid-api": _malware(
        "defensedroid_apicalls_binary.csv",
        "6e5af70a6a7d460ef9dcbc423560452f661ba734069b61979a896dfce9a25729",
        "a9daa29fd1923fe5139650767437bcfa8fbd902afdf60913db841ddc51ba069a",
    ),
    "tuandromd": _malware(
        "tuandromd.csv",
        "b83db4f4876cbbeb561d077d8e15018836aa03a1dd262bdb81c03a5a7b3d09d9",
        "bdffbfcbf8ac4bf00262c09962b5c4ad3ed6ae7c50fb29fb348cc1e8c38861a2",
        *("goodware", "malware"),
    ),
}
# To add a data set that is read from files: write a `DatasetFiles` (as `SVHN` above: a reader in
# layouts.py, addresses, checksums) and name it here. A set without addresses is read from a folder
# that the user fills. `data.load(name)`, recipes and `sparring list data` then know it.
FROM_FILES = {
    "mnist": MNIST,
    "fashion-mnist": FASHION,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "svhn": SVHN,
    **MALWARE,
}

# To add a data set that needs no file: a function without arguments that returns a `RawDataset`.
BUILT_IN = {"digits": digits, **{name: partial(toy_2d.read, name) for name in toy_2d.SHAPES}}


class Facts(NamedTuple):
    """Describe a data set known by name, without reading it: one line, and what a network needs."""

    line: str
    shape: tuple[int, ...]
    classes: int


_PLANE = "for pictures of decision boundaries"
# One entry per name: `sparring list data` prints the line.
FACTS = {
    "digits": Facts("scikit-learn's handwritten digits, 8×8; 1,797 in all", (1, 8, 8), 10),
    "mnist": Facts("handwritten digits, 28×28; 60,000 train, 10,000 test", (1, 28, 28), 10),
    "fashion-mnist": Facts("clothes in grey, 28×28; 60,000 train, 10,000 test", (1, 28, 28), 10),
    "cifar10": Facts("photos in colour, 32×32; 50,000 train, 10,000 test", (3, 32, 32), 10),
    "cifar100": Facts("photos of 100 classes, 32×32; 50,000 train, 10,000 test", (3, 32, 32), 100),
    "svhn": Facts("house numbers in colour, 32×32; 73,257 train, 26,032 test", (3, 32, 32), 10),
    "drebin215": Facts(
        "15,036 Android apps, benign or malware: 215 permissions, intents, API calls", (215,), 2
    ),
    "defensedroid-prs": Facts(
        "11,975 Android apps, benign or malware: 2,938 permissions, receivers, services", (2938,), 2
    ),
    "defensedroid-api": Facts(
        "10,476 Android apps, benign or malware: 4,274 API calls", (4274,), 2
    ),
    "tuandromd": Facts(
        "4,464 Android apps, benign or malware: 241 permissions, API calls", (241,), 2
    ),
    "moons": Facts(f"two interlocking half circles in the plane, {_PLANE}", (2,), 2),
    "circles": Facts(f"a circle inside another in the plane, {_PLANE}", (2,), 2),
    "blobs": Facts(f"three Gaussian clouds in the plane, {_PLANE}", (2,), 3),
    "spirals": Facts(f"two spiral arms in the plane, {_PLANE}", (2,), 2),
    "checkers": Facts(f"a board of 4×4 squares in two colours in the plane, {_PLANE}", (2,), 2),
}


def names() -> list[str]:
    """Return the names of the data sets known by name.

    >>> names()[:5]
    ['blobs', 'checkers', 'cifar10', 'cifar100', 'circles']
    """
    return sorted([*FROM_FILES, *BUILT_IN])


def find(name: str) -> str | None:
    """Return the name among `names()` that is `name` but for case and punctuation, or None.

    >>> find("CIFAR-10"), find("./cifar10")
    ('cifar10', None)
    """
    if "/" in name or "\\" in name:  # a path that the user wrote out, not a spelling of a name
        return None
    key = fetch.normalized(name)
    return next((known for known in names() if key == fetch.normalized(known)), None)


def read(name: str, root: str | Path | None) -> RawDataset:
    """Read one of `names()`: built in, or from `root`, the cache or a download."""
    return BUILT_IN[name]() if name in BUILT_IN else FROM_FILES[name].read(name, root)


def is_here(name: str, root: str | Path | None = None) -> bool:
    """Return whether one of `names()` can be read without a download.

    Raises:
        ValueError: if its files are damaged.
    """
    if name in BUILT_IN:
        return True
    files = FROM_FILES[name]
    return files.read_local(name, root) is not None


def origin(name: str) -> str:
    """Return where one of `names()` comes from, in words.

    >>> origin("digits"), origin("drebin215")
    ('built in', 'drebin215.csv.gz, put into $SPARRING_DATA/drebin215')
    """
    if name in BUILT_IN:
        return "built in"
    remotes = FROM_FILES[name].remotes
    hosts = dict.fromkeys(urlsplit(url).netloc for remote in remotes for url in remote.urls[:1])
    if hosts:
        return f"downloaded from {', '.join(hosts)}"
    return f"{', '.join(remote.file for remote in remotes)}, put into $SPARRING_DATA/{name}"
