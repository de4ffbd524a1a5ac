"""PyTorch's data sets and loaders as samples: the same rows for every model, within limits."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from sparring.data.samples import select_samples
from sparring.data.torch_rows import read_torch

X, Y = torch.arange(60.0).reshape(20, 3) / 60, torch.arange(20) % 4


class Pairs(Dataset):
    """A data set of pairs, read one by one."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int):
        return X[i], int(Y[i])


class Stream(IterableDataset):
    """Pairs without end."""

    def __iter__(self):
        i = 0
        while True:
            yield X[i % 20], int(Y[i % 20])
            i += 1


TENSORS = TensorDataset(X, Y)


@pytest.mark.parametrize("data", [TENSORS, Pairs()], ids=["tensors", "pairs"])
@pytest.mark.parametrize(
    "wrap", [lambda d: d, DataLoader, lambda d: DataLoader(d, 7, shuffle=True)]
)
@pytest.mark.parametrize("n", [None, 6, 50])
def test_rows_are_those_of_the_tensors_themselves(data, wrap, n):
    state = torch.get_rng_state()
    split = read_torch(wrap(data), n=n, seed=3)
    same = select_samples((X, Y), "test", n=n, seed=3, dataset="").rows
    assert torch.equal(split.x, same.x)
    assert torch.equal(split.y, same.y)
    assert torch.equal(split.index, same.index)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sampler_of_its_own_is_followed():
    loader = DataLoader(TENSORS, batch_size=4, sampler=SubsetRandomSampler(range(5)))
    split = read_torch(loader, n=None, seed=0)
    assert sorted(split.x[:, 0].tolist()) == sorted(X[:5, 0].tolist())
    assert torch.equal(split.x, read_torch(loader, n=None, seed=0).x)
    assert len(read_torch(loader, n=3, seed=0)) == 3


def test_of_a_stream_the_first_are_read():
    assert torch.equal(read_torch(Stream(), n=30, seed=0).y, torch.arange(30) % 20 % 4)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_BYTES", "10000")
    with pytest.raises(ValueError, match="SPARRING_MAX_BYTES"):
        read_torch(Stream(), n=None, seed=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataLoader(TensorDataset(X), batch_sampler=[[0]]), r"must be \(x, y\)"),
        (TensorDataset(X), "pairs"),
        (TensorDataset(X[:0]), r"len\(data\) = 0"),
        (TensorDataset(X, Y / 3), "y"),
    ],
)
def test_other_samples_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        read_torch(data, n=None, seed=0)


def test_the_notes_name_the_first_rows():
    chosen = select_samples(Pairs(), "test", n=5, seed=0, dataset="", first=True)
    assert torch.equal(chosen.rows.x, X[:5])
    assert chosen.notes == ("the first 5 samples of the data, not drawn by the seed",)
