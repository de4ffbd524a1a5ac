"""Arrays of an npz: the same as numpy's, for every type that is read."""

import zipfile

import numpy as np
import pytest

from sparring import data
from sparring.data import files, readers
from tests.data.made_files import archive, member, npy, xy

TYPES = [
    *("?", "u1", "i1", "<u2", ">i2", "<u4", ">i4", "<i8", ">u8", "<f2", "<f4", ">f4", "<f8"),
    *(">f8", "<U3", ">U3", "S3"),
]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (3, 0, 2), (2, 3, 4)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_of_numpy(tmp_path, kind, shape, save):
    values = np.random.default_rng(0).integers(0, 100, shape)
    a = values.astype(kind) if np.dtype(kind).kind != "b" else values > 50
    path = tmp_path / "t.npz"
    save(path, a=a, by_column=np.asarray(a, order="F"))
    read = readers.npz(path)
    for name in ("a", "by_column"):
        assert np.array_equal(read[name], a)
        assert read[name].dtype == a.dtype.newbyteorder("=")
        assert read[name].flags.writeable


def test_a_large_array_is_read_in_blocks(tmp_path):
    a = np.random.default_rng(0).random(400_000)
    np.savez_compressed(tmp_path / "t.npz", a=a)
    assert np.array_equal(readers.npz(tmp_path / "t.npz")["a"], a)


def test_headers_of_other_programs(tmp_path):
    path = tmp_path / "t.npz"
    header = '{"shape":(2L,),"fortran_order":False,"descr":"<f4"}'
    path.write_bytes(archive(("x.npy", npy(header=header, content=bytes(8)))))
    assert readers.npz(path)["x"].tolist() == [0, 0]
    path.write_bytes(archive(("x.npy", npy(descr="|b1", content=b"\0\1\xff"))))
    assert readers.npz(path)["x"].tolist() == [False, True, True]
    path.write_bytes(archive(("notes.txt", b"text"), ("x.npy", npy(content=bytes(12)))))
    assert list(readers.npz(path)) == ["x"]


@pytest.mark.parametrize(
    "kind", ["|O", "|O8", "|V8", "<c8", "<M8[ns]", "<m8", "<f16", "|S0", "<U0"]
)
def test_types_without_a_plain_meaning_are_refused(tmp_path, kind):
    (tmp_path / "t.npz").write_bytes(member(npy(descr=kind, content=bytes(24))))
    with pytest.raises(ValueError, match="only bool, integers, floats and text are read"):
        readers.npz(tmp_path / "t.npz")


def test_text_that_is_no_unicode_is_refused(tmp_path):
    (tmp_path / "t.npz").write_bytes(member(npy(descr="<U1", content=b"\xff" * 12)))
    with pytest.raises(ValueError, match="no Unicode"):
        readers.npz(tmp_path / "t.npz")


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_changed_byte_is_noticed(tmp_path, where):
    x = np.random.default_rng(0).random((40, 3), dtype=np.float32)
    content = bytearray(xy(x))
    start = content.index(x.tobytes())
    content[start + int(where * x.nbytes)] ^= 1
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        readers.npz(tmp_path / "t.npz")


def test_an_encrypted_archive_is_refused_and_another_packing_read(tmp_path):
    path = tmp_path / "t.npz"
    content = bytearray(archive(("x.npy", npy(content=bytes(12)))))
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        readers.npz(path)
    path.write_bytes(archive(("x.npy", npy(content=bytes(12))), method=zipfile.ZIP_LZMA))
    assert readers.npz(path)["x"].tolist() == [0, 0, 0]


PICTURES = [((9, 8, 7, 3), (3, 8, 7)), ((9, 8, 7, 1), (1, 8, 7)), ((9, 3, 8, 7), (3, 8, 7))]


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "sample"), PICTURES)
def test_channels_come_first_whatever_the_type(tmp_path, kind, shape, sample):
    x = np.random.default_rng(0).integers(0, 2, (40, *shape[1:])).astype(kind)
    x[0, 0, 0, 0] = 200 if kind is np.uint8 else 0  # not all 0 and 1
    (tmp_path / "t.npz").write_bytes(xy(x))
    source = data.load(tmp_path / "t.npz")
    assert source.shape == sample
    rows = x[source.train.index] if shape[1] == 3 else x[source.train.index].transpose(0, 3, 1, 2)
    assert np.array_equal(source.train.x.numpy(), rows)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (2, 1, 4, 1), (2, 5, 4, 4), (2, 5, 4), (2, 4)])
def test_arrays_of_other_shapes_stay_as_they_are(shape):
    assert files.channels(np.zeros(shape, np.float32)).shape == shape


def test_members_in_any_order_and_names_of_bytes(tmp_path):
    y = np.arange(40) % 2
    more = {"y_test": y[:4], "x_test": np.eye(4, 3), "y": y, "x": np.ones((40, 3))}
    np.savez(tmp_path / "t.npz", feature_names=np.array(["é", "b", "c"]), **more)
    source = data.load(tmp_path / "t.npz")
    assert (len(source.test), source.feature_names) == (4, ["é", "b", "c"])
    np.savez(tmp_path / "t.npz", class_names=np.array([b"ant", b"bee"]), **more)
    assert data.load(tmp_path / "t.npz").class_names == ["ant", "bee"]


def test_a_test_set_alone_has_a_train_split_without_rows(tmp_path):
    np.savez(tmp_path / "t.npz", x_test=np.eye(4), y_test=np.arange(4) % 2)
    raw = files.read(tmp_path / "t.npz")
    assert [a.shape for a in raw.train] == [(0, 4), (0,)]
    assert raw.test is not None
    assert len(raw.test[0]) == 4


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("X_train", "x_train"),
        ("xtrain", "x_train"),
        ("Y_TEST", "y_test"),
        ("x_tests", "x_test"),
        ("y_vals", "y_val"),
        ("classnames", "class_names"),
        ("mutables", "mutable"),
        ("test_x", "x_test"),
        ("y_valid", "y_val"),
    ],
)
def test_a_key_that_is_almost_known_is_answered_with_the_nearest(tmp_path, key, nearest):
    train = {"x": np.eye(4), "y": np.arange(4)} if "train" not in key.lower() else {}
    np.savez(tmp_path / "t.npz", **train, **{key: np.eye(4)})
    with pytest.raises(ValueError, match=f"t.npz holds '{key}': did you mean '{nearest}'"):
        files.read(tmp_path / "t.npz")


@pytest.mark.parametrize("key", ["ids", "x_raw", "X", "y_onehot", "x_train2", "files"])
def test_other_keys_are_left_alone(tmp_path, key):
    arrays = {"x_train": np.eye(4), "y_train": np.arange(4), key: np.eye(4)}
    np.savez(tmp_path / "t.npz", **arrays)
    assert len(files.read(tmp_path / "t.npz").train[0]) == 4
