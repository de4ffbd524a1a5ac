"""Named sets: where they are looked for, layouts, downloads, checksums, what is said offline."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring import data
from sparring.data import fetch, named
from sparring.data.layouts import BATCHES, IDX

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No data folder of the machine, an empty cache, and no network."""
    monkeypatch.delenv("SPARRING_DATA", raising=False)
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")

    def offline(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("pooch.retrieve", offline)


def idx_bytes(a):
    return b"\0\0\x08" + bytes([a.ndim]) + struct.pack(f">{a.ndim}i", *a.shape) + a.tobytes()


def four():
    """The content of MNIST's four files, in small."""
    sizes = (40, 40, 20, 20)
    arrays = [
        RNG.integers(0, 256, (n, 5, 5)) if "images" in stem else np.arange(n) % 10
        for n, stem in zip(sizes, IDX, strict=True)
    ]
    return {s: idx_bytes(a.astype(np.uint8)) for s, a in zip(IDX, arrays, strict=True)}


def put(place, files, pack=bytes, end=""):
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / (name + end)).write_bytes(pack(content))


@pytest.fixture
def small(monkeypatch):
    """Small files with their own checksums in the place of MNIST's."""
    files = four()
    checks = {s: "sha256:" + hashlib.sha256(c).hexdigest() for s, c in files.items()}
    monkeypatch.setitem(named.FROM_FILES, "mnist", replace(named.MNIST, checks=checks))
    return files


@pytest.mark.parametrize("folder", ["mnist", "MNIST", "MNIST/raw", "Mnist_"])
@pytest.mark.parametrize("where", ["env", "root"])
def test_a_set_is_found_under_sensible_spellings(tmp_path, monkeypatch, small, folder, where):
    put(tmp_path / "all" / folder, small, gzip.compress, ".gz")
    if where == "env":
        monkeypatch.setenv("SPARRING_DATA", str(tmp_path / "all"))
    source = data.load("mnist", root=tmp_path / "all" if where == "root" else None)
    assert (len(source.train), len(source.val), len(source.test)) == (36, 4, 20)
    assert source.shape == (1, 5, 5)
    assert source.class_names == list("0123456789")


def test_the_root_may_be_the_sets_own_folder(tmp_path, small):
    put(tmp_path / "here", {s.replace("-idx", ".idx"): c for s, c in small.items()})
    assert len(data.load("MNIST", root=tmp_path / "here").test) == 20


def test_the_cache_is_looked_at_after_the_root(tmp_path, small):
    put(tmp_path / "cache" / "mnist", small)
    (tmp_path / "other").mkdir()
    plain = data.load("mnist", root=tmp_path / "other")
    put(tmp_path / "other" / "mnist", small, gzip.compress, ".gz")
    assert data.load("mnist", root=tmp_path / "other").sha256 == plain.sha256


def test_another_content_is_told(tmp_path):
    put(tmp_path / "mnist", four(), gzip.compress, ".gz")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged or another file"):
        data.load("mnist", root=tmp_path)


def test_a_truncated_file_is_told(tmp_path, small):
    put(tmp_path / "mnist", small)
    path = tmp_path / "mnist" / IDX[0]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is truncated or damaged"):
        data.load("mnist", root=tmp_path)


def test_the_same_files_by_path_need_no_known_checksum(tmp_path):
    put(tmp_path / "kmnist", four())
    source = data.load(tmp_path / "kmnist")
    assert (source.name, source.classes, len(source.test)) == ("kmnist", 10, 20)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"])
def test_offline_it_says_which_files_to_put_where(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name)
    said = str(caught.value)
    assert "no route to host" in said
    assert str(tmp_path / "cache" / name) in said
    assert "SPARRING_DATA" in said
    assert all(r.file in said and r.checksum in said for r in named.FROM_FILES[name].remotes)


def test_missing_one_of_the_files_is_missing_the_set(tmp_path, small):
    put(tmp_path / "mnist", small)
    (tmp_path / "mnist" / IDX[3]).unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz"):
        data.load("mnist", root=tmp_path)


@pytest.mark.parametrize("where", ["env", "root"])
def test_a_data_folder_that_is_none_is_told(tmp_path, monkeypatch, where):
    if where == "env":
        monkeypatch.setenv("SPARRING_DATA", str(tmp_path / "no"))
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        data.load("mnist", root=tmp_path / "no" if where == "root" else None)


def test_a_download_is_tried_from_every_address_and_kept(tmp_path, monkeypatch, small):
    asked = []

    def retrieve(url, known_hash, fname, path, progressbar):
        asked.append(url)
        if "ossci" in url:
            raise ConnectionError("down")
        progressbar.total = 10
        for step in (4, 6):
            progressbar.update(step)
        progressbar.reset()
        progressbar.update(10)
        progressbar.close()
        put(path, {fname: gzip.compress(small[fname.removesuffix(".gz")])})

    monkeypatch.setattr("pooch.retrieve", retrieve)
    source = data.load("mnist")
    assert len(asked) == 8
    assert len(source.test) == 20
    assert data.load("mnist").sha256 == source.sha256
    assert len(asked) == 8


def test_a_download_of_another_content_is_told(monkeypatch):
    def retrieve(*args, **kwargs):
        raise ValueError("MD5 hash of downloaded file (x) does not match the known hash")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(ValueError, match="came with another checksum than md5:f68b"):
        data.load("mnist")


def test_pooch_itself_refuses_another_content(tmp_path, monkeypatch):
    """The real fetcher on a local address: the contract that the two tests above stand in for."""
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Serve(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"data")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/f"
        right = fetch.Remote("f", "md5:" + hashlib.md5(b"data").hexdigest(), (url,))
        wrong = fetch.Remote("g", "md5:" + "0" * 32, (url,))
        assert (fetch.download("s", [right]) / "f").read_bytes() == b"data"
        with pytest.raises(ValueError, match="came with another checksum"):
            fetch.download("s", [wrong])
        server.shutdown()
    assert not (tmp_path / "cache" / "s" / "g").exists()


# CIFAR and SVHN


def cifar_batches(n=10):
    return {
        b: (RNG.integers(0, 256, (n, 3072), np.uint8), (np.arange(n) + 2 * k) % 10)
        for k, b in enumerate(BATCHES)
    }


def pickles(batches, labels=b"labels"):
    return {b: pickle.dumps({b"data": x, labels: y.tolist()}) for b, (x, y) in batches.items()}


def known(monkeypatch, name, files, **more):
    checks = {f: "md5:" + hashlib.md5(c).hexdigest() for f, c in files.items()}
    monkeypatch.setitem(
        named.FROM_FILES, name, replace(named.FROM_FILES[name], checks=checks, **more)
    )


@pytest.mark.parametrize(
    "folder", ["cifar10", "CIFAR-10", "cifar-10-batches-py", "cifar_10/cifar-10-batches-py"]
)
def test_cifar10_python(tmp_path, monkeypatch, folder):
    batches = cifar_batches()
    files = pickles(batches)
    known(monkeypatch, "cifar10", files)
    put(tmp_path / folder, files)
    monkeypatch.setenv("SPARRING_DATA", str(tmp_path))
    source = data.load("cifar10")
    assert source.class_names[3:6] == ["cat", "deer", "dog"]
    assert np.array_equal(source.test.x.numpy().reshape(10, -1), batches["test_batch"][0])
    row = int(source.train.index[7])
    expected = batches[f"data_batch_{row // 10 + 1}"][0][row % 10]
    assert np.array_equal(source.train.x[7].numpy().ravel(), expected)
    put(tmp_path / folder, {"data_batch_3": files["data_batch_3"] + b" "})
    with pytest.raises(ValueError, match="data_batch_3 is damaged or another file"):
        data.load("cifar10")


def test_cifar10_binary_and_packed_read_the_same(tmp_path):
    batches = cifar_batches(4)
    rows = {f"{b}.bin": np.c_[y.astype(np.uint8), x].tobytes() for b, (x, y) in batches.items()}
    put(tmp_path / "b" / "cifar-10-batches-bin", rows)
    place = tmp_path / "p" / "cifar-10"
    place.mkdir(parents=True)
    for b, (x, _) in batches.items():
        tiles = x.reshape(2, 2, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(64, 64, 3)
        Image.fromarray(tiles).save(place / f"{b}.webp", lossless=True)
    y = np.concatenate([y for _, y in batches.values()]).astype(np.uint8)
    np.savez(
        place / "labels.npz", train=y[:20], test=y[20:], class_names=np.array(list("abcdefghij"))
    )
    binary, packed = (data.load("cifar10", root=tmp_path / r) for r in "bp")
    assert binary.sha256 == packed.sha256
    assert packed.class_names == list("abcdefghij")
    np.savez(place / "labels.npz", train=y[:20])
    with pytest.raises(ValueError, match="it needs train and test"):
        data.load("cifar10", root=tmp_path / "p")


def tarred(files, inner):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{inner}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def test_the_archive_itself_may_be_put_there(tmp_path, monkeypatch):
    files = pickles(cifar_batches())
    archive = tarred(files, "cifar-10-batches-py")
    remote = replace(named.CIFAR10.remotes[0], checksum="md5:" + hashlib.md5(archive).hexdigest())
    known(monkeypatch, "cifar10", files, remotes=(remote,))
    put(tmp_path / "mine" / "cifar-10", {remote.file: archive})
    source = data.load("cifar10", root=tmp_path / "mine")
    assert len(source.test) == 10
    assert sorted(p.name for p in (tmp_path / "cache" / "cifar10").iterdir()) == sorted(BATCHES)
    put(tmp_path / "mine" / "cifar-10", {remote.file: archive[:-20]})
    assert data.load("cifar10").sha256 == source.sha256
    for file in (tmp_path / "cache" / "cifar10").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz is damaged"):
        data.load("cifar10", root=tmp_path / "mine")


def test_cifar100(tmp_path, monkeypatch):
    x = RNG.integers(0, 256, (200, 3072), np.uint8)
    y = np.arange(200) % 100
    held = pickle.dumps({b"data": x, b"fine_labels": y.tolist(), b"coarse_labels": [0] * 200})
    meta = pickle.dumps({b"fine_label_names": [f"c{k}".encode() for k in range(100)]})
    files = {"train": held, "test": held, "meta": meta}
    known(monkeypatch, "cifar100", files)
    put(tmp_path / "a" / "cifar-100-python", files)
    rows = np.c_[np.zeros(200, np.uint8), y.astype(np.uint8), x].tobytes()
    put(tmp_path / "b" / "CIFAR100", {"train.bin": rows, "test.bin": rows})
    python, binary = (data.load("cifar100", root=tmp_path / r) for r in "ab")
    assert python.sha256 == binary.sha256
    assert python.class_names[7] == "c7"
    assert binary.classes == 100
    assert set(python.test.y.tolist()) == set(y.tolist())


def test_svhn(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    (tmp_path / "SVHN").mkdir()
    files = {}
    for part in ("train", "test"):
        path = tmp_path / "SVHN" / f"{part}_32x32.mat"
        x = RNG.integers(0, 256, (32, 32, 3, 20), np.uint8)
        scipy_io.savemat(path, {"X": x, "y": (np.arange(20) % 10 + 1)[:, None].astype(np.uint8)})
        files[path.name] = path.read_bytes()
    with pytest.raises(ValueError, match=r"train_32x32\.mat is damaged"):
        data.load("svhn", root=tmp_path)
    known(monkeypatch, "svhn", files)
    source = data.load("svhn", root=tmp_path)
    assert source.shape == (3, 32, 32)
    assert source.test.y.tolist() == [(k + 1) % 10 for k in range(20)]


@pytest.mark.parametrize("name", ["./digits", "../here/digits", "~/digits", ".\\digits", "/digits"])
def test_a_path_that_ends_in_a_known_name_is_a_path(name):
    assert named.find(name) is None
    assert named.find("Digits") == "digits"


@pytest.fixture
def own_digits(tmp_path, monkeypatch):
    """A folder of the user's called as a known set: two classes of pictures, in the place to be."""
    for kind in ("ant", "bee"):
        (tmp_path / "digits" / kind).mkdir(parents=True)
        for k in range(8):
            pixels = np.full((4, 4), 10 * k, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "digits" / kind / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("name", ["./digits", "../{here}/digits", "~/digits", Path("digits")])
def test_a_folder_called_as_a_known_set_is_read_by_its_path(own_digits, tmp_path, name):
    name = name.format(here=tmp_path.name) if isinstance(name, str) else name
    source = data.load(name)
    assert source.class_names == ["ant", "bee"]
    # what a run records, as text, finds the same data
    assert data.load(str(source.origin["name"])).sha256 == source.sha256


def test_a_known_name_stays_one_beside_such_a_folder(own_digits, tmp_path, monkeypatch):
    assert data.load("digits").classes == 10
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert data.load(Path("digits")).classes == 10
