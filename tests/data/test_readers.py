"""Every reader on small files: what it reads, and what it says of a damaged one."""

import gzip
import hashlib
import os
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from sparring.data import cifar, readers

RNG = np.random.default_rng(0)


def idx_bytes(a):
    return b"\0\0\x08" + bytes([a.ndim]) + struct.pack(f">{a.ndim}i", *a.shape) + a.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_idx(tmp_path, pack, shape):
    a = RNG.integers(0, 256, shape, np.uint8)
    path = tmp_path / "file"
    path.write_bytes(pack(idx_bytes(a)))
    read = readers.idx(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, a)
    read += 1  # own memory, not the file's


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an IDX file of unsigned bytes"),
        (idx_bytes(np.zeros((4, 3), np.uint8))[:-1], "truncated or damaged: 23 bytes, .* 24"),
        (idx_bytes(np.zeros((4, 3), np.uint8))[:7], "truncated or damaged"),
        (idx_bytes(np.zeros((4, 3), np.uint8)) + b"\0", "truncated or damaged"),
        (gzip.compress(idx_bytes(np.zeros((4, 3), np.uint8)))[:-9], "truncated or damaged"),
        (b"\x1f\x8b" + b"rubbish" * 5, "truncated or damaged"),
    ],
    ids=["empty", "floats", "short", "header", "long", "gz-short", "gz-rubbish"],
)
def test_a_damaged_idx_is_told(tmp_path, content, said):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        readers.idx(path)


def test_idx_checksum_is_of_the_content_not_of_the_archive(tmp_path):
    content = idx_bytes(np.arange(6, dtype=np.uint8))
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    path = tmp_path / "file.gz"
    for level in (1, 9):
        path.write_bytes(gzip.compress(content, level, mtime=level))
        assert readers.idx(path, checksum).tolist() == list(range(6))
    with pytest.raises(ValueError, match=r"file\.gz is damaged or another file: its sha256 is"):
        readers.idx(path, "sha256:" + "0" * 64)


def batch(n=3, **more):
    x = RNG.integers(0, 256, (n, 3072), np.uint8)
    return {b"data": x, b"labels": list(range(n)), **more}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar_python(tmp_path, protocol):
    held = batch()
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(held, protocol=protocol))
    x, y = cifar.python(path)
    assert np.array_equal(x, held[b"data"].reshape(3, 3, 32, 32))
    assert y.tolist() == [0, 1, 2]


def test_cifar_python_as_python_2_wrote_it(tmp_path):
    """The names that the official files use for numpy's rebuilding function."""
    held = {b"data": np.arange(3072, dtype=np.uint8)[None], b"labels": [7]}
    content = pickle.dumps(held, protocol=2).replace(
        b"numpy._core.multiarray", b"numpy.core.multiarray"
    )
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    assert cifar.python(path)[0][0, 0, 0, 5] == 5


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Codec:
    def __reduce__(self):
        import _codecs

        return _codecs.encode, ("text", "rot13")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_can_run_nothing(tmp_path, protocol):
    path, mark = tmp_path / "data_batch_1", tmp_path / "made"
    path.write_bytes(pickle.dumps({**batch(), b"x": Evil(mark)}, protocol=protocol))
    with pytest.raises(ValueError, match="mkdir; only plain arrays are read"):
        cifar.python(path)
    assert not mark.exists()
    path.write_bytes(pickle.dumps({**batch(), b"x": Codec()}, protocol=protocol))
    with pytest.raises(ValueError, match="rot13"):
        cifar.python(path)
    path.write_bytes(b"cbuiltins\neval\n(S'1'\ntR.")
    with pytest.raises(ValueError, match=r"builtins\.eval"):
        cifar.python(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(batch())[:-50], "truncated or not a CIFAR batch"),
        (b"", "truncated or not a CIFAR batch"),
        (b"not a pickle at all", "truncated or not a CIFAR batch"),
        (pickle.dumps([1]), "holds a list"),
        (pickle.dumps({"data": 1}), "it has data, not data and labels"),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}), r"uint8 \(2, 5\)"),
        (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}), "float64"),
    ],
    ids=["short", "empty", "rubbish", "list", "keys", "shape", "type"],
)
def test_a_damaged_cifar_pickle_is_told(tmp_path, content, said):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        cifar.python(path)


def test_cifar_pickle_checksum(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch()))
    with pytest.raises(ValueError, match="its md5 is"):
        cifar.python(path, checksum="md5:" + "0" * 32)


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar_binary(tmp_path, labels):
    x = RNG.integers(0, 256, (4, 3, 32, 32), np.uint8)
    y = RNG.integers(0, 10, (4, labels), np.uint8)
    path = tmp_path / "batch.bin"
    path.write_bytes(np.concatenate([y, x.reshape(4, -1)], 1).tobytes())
    found_x, found_y = cifar.binary(path, labels)
    assert np.array_equal(found_x, x)
    assert np.array_equal(found_y, y[:, -1])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not whole rows"):
        cifar.binary(path, labels)


def test_mosaic_in_row_order(tmp_path):
    tiles = RNG.integers(0, 256, (6, 3, 4, 4), np.uint8)
    canvas = np.zeros((2 * 4, 3 * 4, 3), np.uint8)
    for k, tile in enumerate(tiles):
        r, c = divmod(k, 3)
        canvas[4 * r : 4 * r + 4, 4 * c : 4 * c + 4] = tile.transpose(1, 2, 0)
    path = tmp_path / "batch.webp"
    Image.fromarray(canvas).save(path, lossless=True)
    assert np.array_equal(cifar.mosaic(path, size=4), tiles)
    with pytest.raises(ValueError, match="8 × 12, not tiles of 5 × 5"):
        cifar.mosaic(path, size=5)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="truncated or not a picture"):
        cifar.mosaic(path, size=4)


def test_npz_refuses_objects_and_damage(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    assert readers.npz(path)["x"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="truncated, or not an npz"):
        readers.npz(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="truncated, or not an npz"):
        readers.npz(path)
    np.savez(path, x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="not an npz of plain arrays"):
        readers.npz(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_csv(tmp_path, pack):
    path = tmp_path / "a.csv"
    path.write_bytes(pack(b'a,"b, c",class\n0,1,"S"\n.5,1e-1,B\n\n1,0,S\n'))
    x, y, names, *_ = readers.csv(path)
    assert names == ["B", "S"]
    assert y.tolist() == [1, 0, 1]
    assert x.dtype == np.float32
    assert np.allclose(x, [[0, 1], [0.5, 0.1], [1, 0]])


def test_csv_label_column_and_order_of_classes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("kind,u,v\n10,0,1\n9,1,0\n-1,1,1\n")
    x, y, names, *_ = readers.csv(path, label="kind")
    assert names == ["-1", "9", "10"]
    assert y.tolist() == [2, 1, 0]
    assert x.tolist() == [[0, 1], [1, 0], [1, 1]]
    with pytest.raises(ValueError, match=r"label = 'kin' is not a column of .* it has kind, u, v"):
        readers.csv(path, label="kin")


def test_csv_without_a_header_loses_no_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0,1,3\n1,0,4\n")
    x, y, names, *_ = readers.csv(path)
    assert x.tolist() == [[0, 1], [1, 0]]
    assert names == ["3", "4"]
    assert y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("a,class\n", "no rows"),
        ("class\n1\n", "no rows of features"),
        ("a,b,class\n0,?,S\n", r"a feature is not a number: '\?'"),
        ("a,b,class\n0,1,S\n0,S\n", "row 3: 2 cells, the first has 3"),
    ],
)
def test_a_bad_csv_is_told(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        readers.csv(path)


def test_svmlight(tmp_path):
    path = tmp_path / "a.svm.gz"
    text = b"-1 1:0.5 3:1 # note\n+1 2:0.25\n"
    path.write_bytes(gzip.compress(text))
    x, y, names = readers.svmlight(path)
    assert x.tolist() == [[0.5, 0, 1], [0, 0.25, 0]]
    assert x.dtype == np.float32
    assert (y.tolist(), names) == ([0, 1], ["-1", "1"])
    path.write_bytes(b"-1 1:a\n")
    with pytest.raises(ValueError, match="not a svmlight file"):
        readers.svmlight(path)
    path.write_bytes(gzip.compress(text)[:-12])
    with pytest.raises(ValueError, match="truncated or damaged"):
        readers.svmlight(path)


def save(path, a):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(a).save(path)


def test_folder_of_pictures(tmp_path):
    grey = RNG.integers(0, 256, (2, 5, 4), np.uint8)
    save(tmp_path / "cat" / "b.png", grey[1])
    save(tmp_path / "cat" / "a.png", grey[0])
    save(tmp_path / "ant" / "a.PNG", grey[0])
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    x, y, names = readers.folder(tmp_path)
    assert names == ["ant", "cat"]
    assert y.tolist() == [0, 1, 1]
    assert np.array_equal(x, grey[[0, 0, 1]][:, None])


def test_folder_with_one_colour_picture_is_colour(tmp_path):
    colour = RNG.integers(0, 256, (4, 4, 3), np.uint8)
    grey = RNG.integers(0, 256, (4, 4), np.uint8)
    save(tmp_path / "a" / "0.png", grey)
    save(tmp_path / "b" / "0.png", colour)
    x, *_ = readers.folder(tmp_path)
    assert x.shape == (2, 3, 4, 4)
    assert np.array_equal(x[0], np.stack([grey] * 3))
    assert np.array_equal(x[1], colour.transpose(2, 0, 1))


def test_a_bad_folder_is_told(tmp_path):
    with pytest.raises(ValueError, match="no folder of pictures per class"):
        readers.folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="has no picture"):
        readers.folder(tmp_path)
    save(tmp_path / "a" / "0.png", np.zeros((4, 4), np.uint8))
    save(tmp_path / "a" / "1.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"1\.png is 4 × 5, the pictures before it 4 × 4"):
        readers.folder(tmp_path)
    save(tmp_path / "a" / "1.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match="more than 8 bits"):
        readers.folder(tmp_path)
    save(tmp_path / "a" / "1.png", RNG.integers(0, 256, (4, 4), np.uint8))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"1\.png is truncated or not a picture"):
        readers.folder(tmp_path)


def test_mat(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    x = RNG.integers(0, 256, (32, 32, 3, 4), np.uint8)
    path = tmp_path / "train_32x32.mat"
    scipy_io.savemat(path, {"X": x, "y": np.array([[1], [10], [9], [2]], np.uint8)})
    found, y = readers.mat(path)
    assert np.array_equal(found[2, 1], x[:, :, 1, 2])
    assert y.tolist() == [1, 0, 9, 2]
    scipy_io.savemat(path, {"X": x})
    with pytest.raises(ValueError, match="not SVHN's format"):
        readers.mat(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="truncated, or not SVHN's format"):
        readers.mat(path)


def test_a_missing_package_is_told():
    with pytest.raises(ImportError, match="needs quux: pip install quux"):
        readers.require_package("quux_of_nowhere", "quux")
