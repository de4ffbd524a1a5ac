"""Labels and inputs of every kind: as class numbers, or refused in a sentence on labels."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

from sparring import data
from sparring.data import Split, pseudo_labels
from sparring.data.labels import class_numbers
from sparring.data.layouts import RawDataset
from sparring.data.samples import select_samples
from sparring.data.source import assemble
from sparring.data.stream import collate

NUMBERS = [0, 2, 1, 2, 0, 1] * 10
Y = torch.tensor(NUMBERS)
X = torch.rand(60, 4)
BIG = np.array([2**63, 2**64 - 1] * 30, dtype=np.uint64)
SAFE = {
    "list": NUMBERS,
    "tuple": tuple(NUMBERS),
    **{f"torch.{t}": Y.to(getattr(torch, t)) for t in ("uint8", "int8", "int16", "int32")},
    **{
        f"np.{t}": Y.numpy().astype(t) for t in ("u1", "i1", "<u2", ">u2", ">i4", "u4", "u8", ">i8")
    },
    "column": Y[:, None],
    "reversed": np.array(NUMBERS[::-1])[::-1],
    "read-only": np.frombuffer(np.array(NUMBERS).tobytes(), np.int64),
}
REFUSED = {
    "one-hot": one_hot(Y, 3),
    "float-one-hot": one_hot(Y, 3).float(),
    "fractions": Y + 0.5,
    "nan": Y * torch.nan,
    "infinity": Y / 0.0,
    "complex": Y.to(torch.complex64),
    "text": [str(k) for k in NUMBERS],
    "objects": np.array([None] * 60),
    "dates": np.array(NUMBERS, dtype="M8[s]"),
    "uneven": [[0], [1, 2]] * 30,
    "none": None,
    "number": 1,
    "mapping": {"y": NUMBERS},
    "2^63": BIG,
    "2^70": [2**70] * 60,
    "2^62": Y + 2**62,
    "3e7": Y + 30_000_000,
}


def takes_arrays(x, y):
    return select_samples((x, y), "test", n=None, seed=0, dataset="d").rows.y


def takes_split(x, y):
    return Split(x, y).y


def takes_file(x, y):
    source = assemble("d", RawDataset((x.numpy(), np.asarray(y)), (x.numpy(), np.asarray(y))))
    return source.test.y


@pytest.mark.parametrize("read", [takes_arrays, takes_split, takes_file])
@pytest.mark.parametrize("kind", SAFE)
def test_integers_of_every_kind_become_class_numbers(read, kind):
    y = read(X, SAFE[kind])
    assert y.dtype == torch.int64
    assert torch.equal(y, Y)


@pytest.mark.parametrize("read", [takes_arrays, takes_split, takes_file])
@pytest.mark.parametrize("kind", REFUSED)
def test_other_labels_are_refused_in_a_sentence_on_labels(read, kind):
    if read is takes_file and kind == "uneven":
        return  # no array has such rows
    if read is takes_split and kind in ("2^62", "3e7"):
        return  # a split does not know the classes: see the next test
    with pytest.raises(ValueError, match=r"labels|must hold numbers"):
        read(X, REFUSED[kind])


@pytest.mark.parametrize("far", [3, -2, 30_000_000, 2**62])
def test_a_source_of_ones_own_is_checked_before_training(far):
    good, bad = Split(X, Y), Split(X, Y.where(Y > 0, torch.tensor(far)))
    for train, val, part in ((bad, good, "train"), (good, bad, "val")):
        source = data.Source("d", train, val, good, ["a", "b", "c"])
        with pytest.raises(ValueError, match=f"d {part} has labels .* with 3 classes they must be"):
            source.require_train()
    data.Source("d", Split(X, Y.where(Y > 0, torch.tensor(-1))), good, good, ["a", "b", "c"])
    short = data.Source("d", Split(X, Y[1:]), good, good, ["a", "b", "c"])
    with pytest.raises(ValueError, match="60 samples and 59 labels"):
        short.require_train()


def test_booleans_are_two_classes_and_whole_floats_only_of_files():
    assert class_numbers("y", [True, False]).tolist() == [1, 0]
    assert class_numbers("y", np.array([1.0, 0.0]), whole=True).tolist() == [1, 0]
    with pytest.raises(ValueError, match="labels must be integers"):
        class_numbers("y", np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="not whole numbers, as 1e"):
        class_numbers("y", [1e30], whole=True)


def test_the_number_of_classes_is_bounded_before_a_network_is_made(monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_CLASSES", "3")
    assert takes_file(X, Y).max() == 2
    monkeypatch.setenv("SPARRING_MAX_CLASSES", "2")
    for read in (takes_arrays, takes_file):
        with pytest.raises(ValueError, match="at most 2 are allowed; SPARRING_MAX_CLASSES"):
            read(X, Y)
    small = TensorDataset(X, Y)
    for make in (
        lambda: data.from_torch(small, classes=30_000_000),
        lambda: data.streamed(small, small, classes=2**62),
    ):
        with pytest.raises(ValueError, match="SPARRING_MAX_CLASSES"):
            make()


@pytest.mark.parametrize(
    "x",
    [
        X.tolist(),
        X.numpy(),
        X.double(),
        X.half(),
        (X > 0.5),
        (X > 0.5).long(),
        (X > 0.5).to(torch.uint8),
        (X > 0.5).numpy().astype(np.uint16),
    ],
)
def test_inputs_of_every_kind_are_read_alike(x):
    rows = select_samples((x, Y), "test", n=None, seed=0, dataset="d").rows
    expected = torch.as_tensor(x).float()
    assert torch.equal(rows.float(), expected)


def test_uint8_pictures_are_scaled_and_flags_are_not():
    flags = torch.randint(0, 2, (60, 4), dtype=torch.uint8)
    for x, scale in ((flags, 1), (flags * 2, 255)):
        given = select_samples((x, Y), "test", n=None, seed=0, dataset="d").rows.float()
        stored = assemble("d", RawDataset((x.numpy(), Y.numpy()), (x.numpy(), Y.numpy())))
        assert torch.equal(given, x.float() / scale)
        assert torch.equal(stored.test.float(), given)


@pytest.mark.parametrize(
    "x", [["a"] * 60, X[:, 0], X.to(torch.complex64), None, [[0.1], [0.2, 0.3]], np.array([None])]
)
def test_other_inputs_are_refused_in_words(x):
    with pytest.raises(ValueError, match=r"x is .*inputs must be numbers"):
        select_samples((x, Y), "test", n=None, seed=0, dataset="d")


@pytest.mark.parametrize("kind", [TensorDataset(X, Y), DataLoader(TensorDataset(X, Y))])
def test_a_data_set_of_torch_is_read(kind):
    sampled = select_samples(kind, "test", n=None, seed=0, dataset="d")
    assert torch.equal(sampled.rows.y.sort().values, torch.as_tensor(Y).sort().values)


@pytest.mark.parametrize("label", [0.5, "1", None, one_hot(Y, 3)[0], [1], 2**70, np.float32(1)])
def test_a_stream_refuses_other_labels(label):
    with pytest.raises(ValueError, match="integer label"):
        collate([(X[0], 1), (X[1], label)])


@pytest.mark.parametrize(
    "label", [1, True, np.uint8(1), np.int16(1), torch.tensor(1, dtype=torch.uint8)]
)
def test_a_stream_takes_integers_of_every_kind(label):
    assert collate([(X[0], 0), (X[1], label)])[1].tolist() == [0, 1]


@pytest.mark.parametrize("sample", [{"x": X[0], "y": 0}, X[0], (X[0],), (X[0], 0, 0), None, 3])
def test_a_stream_takes_only_pairs(sample):
    with pytest.raises(ValueError, match=r"pairs \(x, integer label\)"):
        collate([sample])


def labels_file(path, **change):
    arrays = {"y": np.array([0, 1]), "index": np.array([3, 5]), "confidence": np.ones(2)}
    texts = {k: np.array("a") for k in ("data", "rows", "run")}
    np.savez(path, **{**arrays, **texts, **change})
    return path


def test_forged_pseudo_labels_are_refused(tmp_path):
    path = tmp_path / "labels.npz"
    read = pseudo_labels.read(labels_file(path))
    assert read.labels_of(torch.tensor([5, 3])).tolist() == [1, 0]
    far = pseudo_labels.read(labels_file(path, index=np.array([3, 2**62])))
    with pytest.raises(ValueError, match="missing for 1 of 2 rows"):
        far.labels_of(torch.tensor([3, 5]))
    for change in (
        {"y": np.array([0.5, 1.5])},
        {"y": np.array([[0, 1]])},
        {"index": np.array([0.5, 1])},
        {"index": np.array([1])},
        {"confidence": np.array(["a", "b"])},
    ):
        with pytest.raises(ValueError, match=r"labels\.npz: .*must be \(n,\)"):
            pseudo_labels.read(labels_file(path, **change))
    with pytest.raises(ValueError, match="SPARRING_MAX_CLASSES"):
        pseudo_labels.read(labels_file(path, y=np.array([0, 2**40])))


def test_a_split_takes_arrays_and_refuses_what_is_no_numbers():
    split = Split(X.numpy(), Y.numpy())
    assert torch.equal(split.float(), X)
    with pytest.raises(ValueError, match="x is list: inputs must be numbers"):
        Split([["a"]] * 60, Y)
