"""Data sets of PyTorch's as splits: map-style and iterable, read as they are used."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

from sparring.data import GaussianNoise, Loader, Split, Stream, from_torch, streamed
from sparring.data.split import chosen_rows
from sparring.data.stream import collate
from sparring.runtime import distributed


def tensors(n=23):
    return torch.arange(n)[:, None] / 100, torch.arange(n) % 3


class Endless(IterableDataset):
    """Row k is k/100 with label k mod 3; shared out between the workers, as such a set must do."""

    def __iter__(self):
        info = get_worker_info()
        k, step = (info.id, info.num_workers) if info else (0, 1)
        while True:
            yield torch.tensor([k % 100 / 100]), k % 3
            k += step


class Counted(Dataset):
    def __init__(self, n):
        self.n, self.asked = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        self.asked.append(k)
        return np.array([k], np.uint8), np.int64(k % 2)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_map_style_set_gives_the_batches_of_the_same_split_in_memory(shuffle):
    x, y = tensors()
    stream = from_torch(TensorDataset(x, y), classes=3)
    args = {"batch_size": 5, "shuffle": shuffle, "seed": 2, "augment": [GaussianNoise()]}
    state = torch.random.get_rng_state()
    for a, b in zip(
        Loader(stream, **args).epoch(3), Loader(Split(x, y), **args).epoch(3), strict=True
    ):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert torch.equal(a.index, b.index)
        assert a.weight.tolist() == [1.0] * len(b)
    assert torch.equal(state, torch.random.get_rng_state())


def test_rows_are_read_when_they_are_needed_and_only_this_ranks(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    counted = Counted(1000)
    loader = Loader(from_torch(counted, classes=2), batch_size=8, shuffle=False)
    assert counted.asked == []
    batches = loader.epoch(0)
    first = next(batches)
    assert counted.asked == first.index.tolist() == [4, 5, 6, 7]
    assert torch.equal(first.x[:, 0], torch.tensor([4, 5, 6, 7]) / 255)
    assert next(batches).index.tolist() == [12, 13, 14, 15]


def test_an_endless_iterable_has_epochs_of_n():
    loader = Loader(from_torch(Endless(), classes=3, n=12), batch_size=5, shuffle=True)
    batches = list(loader.epoch(1))
    assert [len(b) for b in batches] == [5, 5, 2]
    assert torch.cat([b.index for b in batches]).tolist() == list(range(12))
    assert torch.allclose(torch.cat([b.x for b in batches])[:, 0], torch.arange(12) / 100)


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_of_an_iterable_take_their_rows(monkeypatch, rank):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    loader = Loader(from_torch(Endless(), classes=3, n=11), batch_size=4, shuffle=False)
    batches = list(loader.epoch(1))
    rows = [[0, 1, 4, 5, 8], [2, 3, 6, 7, 9]][rank]
    assert torch.cat([b.index for b in batches]).tolist() == rows
    assert torch.cat([b.y for b in batches]).tolist() == [k % 3 for k in rows]
    assert torch.allclose(torch.cat([b.x for b in batches])[:, 0], torch.tensor(rows) / 100)


def test_workers():
    x, y = tensors(12)
    stream = from_torch(TensorDataset(x, y), classes=3, workers=2)
    found = torch.cat([b.x for b in Loader(stream, batch_size=5, shuffle=False).epoch(0)])
    assert torch.equal(found, x)
    endless = from_torch(Endless(), classes=3, n=7, workers=2)
    assert [len(b) for b in Loader(endless, batch_size=3, shuffle=False).epoch(0)] == [3, 3, 1]


def test_an_iterable_that_ends_early_is_told():
    class Short(IterableDataset):
        def __iter__(self):
            return iter([(torch.zeros(2), 0)] * 7)

    loader = Loader(from_torch(Short(), classes=2, n=9), batch_size=4, shuffle=False)
    batches = loader.epoch(0)
    assert len(next(batches)) == 4
    with pytest.raises(ValueError, match="ended before its n = 9 samples"):
        next(batches), next(batches)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.tensor([float("nan")]), 0, "NaN"),
        (torch.tensor([2.0]), 0, r"reaches from 2 to 2, its bounds are \[0, 1\]"),
        (torch.tensor([0.5]), 2, "labels from 2 to 2: with 2 classes"),
        (torch.tensor([0.5]), 0.5, "pairs"),
        ("text", 0, "x of numbers, not a str"),
    ],
)
def test_bad_samples_are_told(x, y, said):
    class Bad(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, k):
            return x, y

    loader = Loader(from_torch(Bad(), classes=2, name="mine"), batch_size=2, shuffle=False)
    with pytest.raises(ValueError, match=said):
        next(loader.epoch(0))


def test_what_samples_may_be():
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    x, y = collate([(Image.fromarray(picture), np.int64(1)), (Image.fromarray(picture), True)])
    assert torch.equal(x[0], torch.from_numpy(picture.transpose(2, 0, 1)))
    assert y.tolist() == [1, 1]
    grey, _ = collate([(Image.fromarray(picture[..., 0]), torch.tensor(0))])
    assert grey.shape == (1, 1, 2, 3)
    assert collate([(np.zeros(3), 0)])[0].dtype == torch.float32
    with pytest.raises(ValueError, match=r"x of one shape, not \(2,\) and \(3,\)"):
        collate([(np.zeros(3), 0), (np.zeros(2), 0)])
    with pytest.raises(ValueError, match="must give pairs"):
        collate([(1, 2, 3)])


@pytest.mark.parametrize(
    ("dataset", "more", "said"),
    [
        (Endless(), {}, "n is needed"),
        (Endless(), {"n": 0}, "n = 0"),
        (TensorDataset(torch.zeros(0, 2), torch.zeros(0)), {}, "mine is empty"),
        (TensorDataset(*tensors()), {"classes": 1}, "classes = 1"),
    ],
)
def test_impossible_streams_are_told(dataset, more, said):
    with pytest.raises(ValueError, match=said):
        from_torch(dataset, **{"classes": 3, "name": "mine", **more})


def test_subset_is_in_memory():
    x, y = tensors()
    stream = from_torch(TensorDataset(x, y), classes=3)
    part = stream.subset(5, seed=1)
    assert isinstance(part, Split)
    assert torch.equal(part.x, x[part.index])
    assert torch.equal(part.index, Split(x, y).subset(5, seed=1).index)
    assert from_torch(Endless(), classes=3, n=9).subset(4).index.tolist() == [0, 1, 2, 3]
    assert stream.to("cpu") is stream


def test_a_streamed_source_holds_validation_out():
    x, y = tensors(40)
    source = streamed(TensorDataset(x, y), TensorDataset(x[:7], y[:7]), classes="abc", val=0.25)
    assert isinstance(source.train, Stream)
    assert (len(source.train), len(source.val), len(source.test)) == (30, 10, 7)
    assert (source.class_names, source.shape, len(source.sha256)) == (["a", "b", "c"], (1,), 64)
    seen = torch.cat([b.x for b in Loader(source.train, batch_size=8, shuffle=True).epoch(1)])
    both = torch.cat([seen, source.val.x]).flatten().sort().values
    assert torch.equal(both, x.flatten())
    assert torch.equal(source.val.x[:, 0], x[source.val.index, 0])


def test_a_streamed_source_of_iterables():
    test = TensorDataset(*tensors(7))
    with pytest.raises(ValueError, match="val must be a data set"):
        streamed(Endless(), test, classes=3, n=50)
    source = streamed(Endless(), test, classes=3, n=50, val=TensorDataset(*tensors(9)))
    assert (len(source.train), len(source.val), len(source.test)) == (50, 9, 7)


@pytest.mark.parametrize("val", [0, 40, None, -1])
def test_an_impossible_streamed_validation_is_told(val):
    both = TensorDataset(*tensors(40))
    with pytest.raises(ValueError, match="val = "):
        streamed(both, both, classes=3, val=val)


class Short:
    """A data set that has fewer samples than it says."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 20

    def __getitem__(self, row):
        if row >= 15:
            raise self.error
        return torch.rand(3), row % 2


FROM_A_PROCESS = "Caught IndexError in a process.\nOriginal Traceback:\n  …\nIndexError: row 15\n"


@pytest.mark.parametrize(
    "error", [IndexError("row 15"), KeyError("row 15"), IndexError(FROM_A_PROCESS)]
)
def test_a_data_set_that_ends_early_is_said(error):
    stream = from_torch(Short(error), classes=2, name="mine")
    with pytest.raises(ValueError, match=r"mine failed to give one of its n = 20 samples.*row 15"):
        stream.subset(20)


def test_a_loader_or_another_object_is_no_data_set():
    loader = DataLoader(TensorDataset(torch.rand(4, 2), torch.zeros(4).long()))
    with pytest.raises(ValueError, match=r"give the data set that it reads, loader\.dataset"):
        from_torch(loader, classes=2)
    for other in (3, object(), iter([1])):
        with pytest.raises(ValueError, match="it must be a"):
            from_torch(other, classes=2, n=3)


@pytest.mark.parametrize("kind", [TensorDataset, "list"])
def test_a_stream_of_a_sequence_takes_numbers_of_numpy(kind):
    x, y = torch.rand(30, 2), torch.arange(30) % 2
    given = TensorDataset(x, y) if kind is TensorDataset else list(zip(x, y, strict=True))
    parts = streamed(given, given, classes=np.int64(2), val=np.int64(5), seed=np.int64(3))
    same = streamed(given, given, classes=2, val=5, seed=3)
    assert torch.equal(parts.val.x, same.val.x)
    assert torch.equal(parts.train.subset(np.int64(7), np.int64(1)).x, same.train.subset(7, 1).x)


def test_n_of_a_longer_set_are_drawn_from_all_of_it():
    x, y = torch.arange(100)[:, None] / 100, torch.arange(100) // 50  # sorted by class
    stream = from_torch(TensorDataset(x, y), classes=2, n=20)
    batches = [list(Loader(stream, batch_size=8, shuffle=False).epoch(k)) for k in (0, 1)]
    seen = [torch.cat([b.x for b in epoch])[:, 0] for epoch in batches]
    assert torch.equal(seen[0], seen[1])
    assert torch.equal((seen[0] * 100).round().long(), chosen_rows(100, 20, 0))
    assert {int(k) for b in batches[0] for k in b.y} == {0, 1}
    assert torch.cat([b.index for b in batches[0]]).tolist() == list(range(20))
    other = from_torch(TensorDataset(x, y), classes=2, n=20, seed=1).subset(20)
    assert not torch.equal(other.x[:, 0], seen[0])
    for n in (100, 200):
        whole = from_torch(TensorDataset(x, y), classes=2, n=n)
        assert torch.equal(whole.subset(100).x, x)


def test_a_streamed_source_holds_validation_out_of_the_n_rows():
    x, y = torch.arange(100)[:, None] / 100, torch.arange(100) // 50
    train = TensorDataset(x, y)
    source = streamed(train, TensorDataset(x[::9], y[::9]), classes=2, val=8, n=20, seed=3)
    assert (len(source.train), len(source.val)) == (12, 8)
    kept = source.train.subset(12)
    both = torch.cat([kept.x, source.val.x])[:, 0].sort().values
    assert torch.equal((both * 100).round().long(), chosen_rows(100, 20, 3))
    assert set(kept.y.tolist()) == {0, 1}


class Noisy(Dataset):
    """Samples as a data set of augmented pictures gives them."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.rand(2), i % 2


def test_draws_of_a_data_set_depend_on_the_epoch_and_the_batch_alone():
    stream = from_torch(Noisy(), classes=2)
    loader = Loader(stream, batch_size=4, shuffle=True)

    def epoch(number: int, state: int) -> torch.Tensor:
        torch.manual_seed(state)
        batches = []
        for batch in loader.epoch(number):
            batches.append(batch.x)
            torch.rand(state)  # as the training draws between two batches
        return torch.cat(batches)

    assert torch.equal(epoch(1, 3), epoch(1, 5))
    assert not torch.equal(epoch(1, 3), epoch(2, 3))
    state = torch.get_rng_state()
    next(loader.epoch(1))
    assert torch.equal(state, torch.get_rng_state())
