"""The data sets known by name."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import readers
from .fetch import Remote, download, find, roots, verify

Raw = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray] | None, list[str]]

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
DIGITS = [str(k) for k in range(10)]
CLOTHES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def digits(root: str | Path | None = None) -> Raw:
    """scikit-learn's 1,797 real handwritten digits, 8 × 8, sixteen grey levels; nothing to download."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]  # type: ignore[attr-defined]
    return (x, bunch.target.astype(np.int64)), None, DIGITS  # type: ignore[attr-defined]


def _idx_set(name: str, files: dict[str, str], base: str, classes: list[str], root: str | Path | None) -> Raw:
    plain = [f.removesuffix(".gz") for f in files]
    places = roots(name, (name.replace("-", "_"), name.replace("-", "")), root)
    place = find(places, *files) or find(places, *plain)
    if place is None:
        place = download(name, [Remote(f, base + f, f"md5:{md5}") for f, md5 in files.items()])
    zipped = find([place], *files) is not None
    arrays = []
    for file, md5 in files.items():
        path = place / (file if zipped else file.removesuffix(".gz"))
        array = readers.idx(path)
        if zipped:
            verify(path, f"md5:{md5}")
        arrays.append(array)
    x, y, x_test, y_test = arrays
    return (x[:, None], y.astype(np.int64)), (x_test[:, None], y_test.astype(np.int64)), classes


def mnist(root: str | Path | None = None) -> Raw:
    """MNIST: 60,000 + 10,000 handwritten digits, 1 × 28 × 28."""
    return _idx_set("mnist", MNIST_FILES, "https://ossci-datasets.s3.amazonaws.com/mnist/", DIGITS, root)


def fashion(root: str | Path | None = None) -> Raw:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 1 × 28 × 28."""
    base = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    return _idx_set("fashion-mnist", FASHION_FILES, base, CLOTHES, root)


def cifar10(root: str | Path | None = None) -> Raw:
    """CIFAR-10: 50,000 + 10,000 photographs, 3 × 32 × 32; packed, python or binary files."""
    batches = [f"data_batch_{k}" for k in range(1, 6)]
    places = roots("cifar10", ("cifar-10", "cifar-10-batches-py", "cifar-10-batches-bin", "cifar_10"), root)
    places += [p / inner for p in places for inner in ("cifar-10-batches-py", "cifar-10-batches-bin")]
    if place := find(places, "labels.npz", "test_batch.webp", *(b + ".webp" for b in batches)):
        labels = readers.npz(place / "labels.npz")
        x = np.concatenate([readers.mosaic(place / f"{b}.webp") for b in batches])
        x_test = readers.mosaic(place / "test_batch.webp")
        return (x, labels["train"].astype(np.int64)), (x_test, labels["test"].astype(np.int64)), CIFAR10
    if place := find(places, "test_batch.bin", *(b + ".bin" for b in batches)):
        parts = [readers.cifar_binary(place / f"{b}.bin") for b in (*batches, "test_batch")]
    else:
        place = find(places, "test_batch", *batches) or _unpacked(
            "cifar10", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"
        )
        parts = [_pickled(place / b, "labels") for b in (*batches, "test_batch")]
    x, y = (np.concatenate(a) for a in zip(*parts[:-1], strict=True))
    return (x, y), parts[-1], CIFAR10


def cifar100(root: str | Path | None = None) -> Raw:
    """CIFAR-100 with its fine labels: 50,000 + 10,000 photographs, 3 × 32 × 32; python or binary files."""
    places = roots("cifar100", ("cifar-100", "cifar-100-python", "cifar-100-binary"), root)
    places += [p / inner for p in places for inner in ("cifar-100-python", "cifar-100-binary")]
    if place := find(places, "train.bin", "test.bin"):
        train, test = (readers.cifar_binary(place / f"{s}.bin", labels=2) for s in ("train", "test"))
        return train, test, [str(k) for k in range(100)]
    place = find(places, "train", "test", "meta") or _unpacked(
        "cifar100", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python"
    )
    names = [n.decode() if isinstance(n, bytes) else n for n in readers.cifar_pickle(place / "meta")["fine_label_names"]]
    return _pickled(place / "train", "fine_labels"), _pickled(place / "test", "fine_labels"), names


def svhn(root: str | Path | None = None) -> Raw:
    """SVHN, cropped digits: 73,257 + 26,032 photographs, 3 × 32 × 32."""
    from scipy.io import loadmat

    files = {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    }
    base = "http://ufldl.stanford.edu/housenumbers/"
    place = find(roots("svhn", ("SVHN",), root), *files) or download(
        "svhn", [Remote(f, base + f, f"md5:{md5}") for f, md5 in files.items()]
    )
    parts = []
    for file in files:
        content = loadmat(place / file)
        parts.append((np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)), content["y"][:, 0].astype(np.int64) % 10))
    return parts[0], parts[1], DIGITS


def _pickled(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    content = readers.cifar_pickle(path)
    return np.asarray(content["data"], np.uint8).reshape(-1, 3, 32, 32), np.array(content[labels], np.int64)


def _unpacked(name: str, archive: str, md5: str, inner: str) -> Path:
    place = download(name, [Remote(archive, f"https://www.cs.toronto.edu/~kriz/{archive}", f"md5:{md5}")])
    if not (place / inner).exists():
        with tarfile.open(place / archive) as tar:
            tar.extractall(place, filter="data")
    return place / inner


NAMED: dict[str, Callable[..., Raw]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "svhn": svhn,
}
