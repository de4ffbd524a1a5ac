"""MATLAB's files of version 5: the arrays are scipy's, and no damage ends the process."""

import io

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from sparring.data import matlab, readers

RNG = np.random.default_rng(0)


def saved(packed=True, **arrays):
    file = io.BytesIO()
    savemat(file, arrays, do_compression=packed)
    return file.getvalue()


def svhn(n=3, **arrays):
    x = RNG.integers(0, 256, (32, 32, 3, n), np.uint8)
    return {"X": x, "y": RNG.integers(1, 11, (n, 1)).astype(np.uint8), **arrays}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "u8", "i8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (0, 2), (2, 3, 4), (5, 1)])
def test_arrays_are_those_of_scipy(packed, kind, shape):
    content = saved(packed, other="text", a=RNG.integers(0, 100, shape).astype(kind))
    read = matlab.read_arrays(content, ["a"])["a"]
    expected = loadmat(io.BytesIO(content))["a"]
    assert np.array_equal(read, expected)
    assert read.dtype == expected.dtype


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
@pytest.mark.parametrize("packed", [True, False])
def test_svhn(tmp_path, kind, packed):
    arrays = svhn(meta={"a": 1}, longer_name=np.eye(3))
    arrays["y"] = arrays["y"].astype(kind)
    (tmp_path / "t.mat").write_bytes(saved(packed, **arrays))
    x, y = readers.mat(tmp_path / "t.mat")
    assert np.array_equal(x, arrays["X"].transpose(3, 2, 0, 1))
    assert y.tolist() == (arrays["y"][:, 0] % 10).tolist()


@pytest.mark.parametrize(
    "arrays",
    [
        svhn(X=np.zeros((32, 32, 3, 3))),
        svhn(X=np.zeros((32, 32, 4, 3), np.uint8)),
        svhn(y=np.zeros((2, 1), np.uint8)),
        svhn(y=np.full((3, 1), 0.5)),
        svhn(y=np.full((3, 1), np.nan)),
        svhn(y=np.full((3, 1), np.inf)),
        svhn(y=np.full((3, 1), 1j)),
        svhn(y="text"),
        svhn(X={"a": 1}),
        {"x": np.eye(3)},
        {},
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays):
    (tmp_path / "t.mat").write_bytes(saved(**arrays))
    with pytest.raises(ValueError, match="truncated, or not SVHN's format"):
        readers.mat(tmp_path / "t.mat")


@pytest.mark.parametrize("packed", [True, False])
def test_no_change_of_bytes_raises_anything_else(tmp_path, packed):
    whole = saved(packed, **svhn(1))
    path = tmp_path / "t.mat"
    for k in range(300):
        content = bytearray(whole)
        start = int(RNG.integers(120, 400)) if k % 2 else int(RNG.integers(len(whole)))
        content[start : start + int(RNG.integers(9))] = RNG.bytes(int(RNG.integers(9)))
        path.write_bytes(content if k % 3 else content[:start])
        try:
            readers.mat(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
