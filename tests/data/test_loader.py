"""Batches: every row once, the same for the same seed and epoch, ranks share a joint batch."""

import pytest
import torch

from sparring.data import Loader, Noise, Shift, Split
from sparring.runtime import distributed


def split(n=23):
    x = torch.arange(n * 4, dtype=torch.uint8).reshape(n, 1, 2, 2)
    return Split(x, torch.arange(n) % 3 - 1, torch.arange(n) + 100)


def same(a, b):
    return all(
        torch.equal(s.x, t.x) and torch.equal(s.y, t.y) and torch.equal(s.index, t.index)
        for s, t in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_comes_once_with_its_label(shuffle):
    data = split()
    loader = Loader(data, batch_size=5, shuffle=shuffle)
    batches = list(loader.epoch(1))
    assert [len(b) for b in batches] == [5, 5, 5, 5, 3]
    assert len(loader) == 5
    index = torch.cat([b.index for b in batches])
    assert (index.tolist() == data.index.tolist()) is not shuffle
    assert index.sort().values.tolist() == data.index.tolist()
    for b in batches:
        rows = b.index - 100
        assert torch.equal(b.y, rows % 3 - 1)  # -1, unlabeled, is allowed
        assert torch.equal(b.x, data.x[rows].float() / 255)
        assert b.x.dtype == torch.float32
        assert b.weight.tolist() == [1.0] * len(b)
    assert data.x.dtype == torch.uint8


def test_seed_and_epoch_decide():
    pieces = [Shift(pixels=1), Noise()]

    def epoch(number, seed=0):
        return list(
            Loader(split(), batch_size=5, shuffle=True, seed=seed, augment=pieces).epoch(number)
        )

    state = torch.random.get_rng_state()
    assert same(epoch(3), epoch(3))
    assert not same(epoch(3), epoch(4))
    assert not same(epoch(3), epoch(3, seed=1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_epochs_do_not_depend_on_those_before():
    loader = Loader(split(), batch_size=5, shuffle=True, augment=[Noise()])
    second = list(loader.epoch(2))
    next(iter(loader.epoch(1)))
    assert same(second, loader.epoch(2))


def test_augmentation_differs_between_epochs_and_keeps_the_data():
    data = split()
    before = data.x.clone()
    loader = Loader(data, batch_size=23, shuffle=False, augment=[Noise()])
    (a,), (b,) = loader.epoch(1), loader.epoch(2)
    assert not torch.equal(a.x, b.x)
    assert torch.equal(data.x, before)


def test_drop_last():
    loader = Loader(split(), batch_size=5, shuffle=True, drop_last=True)
    assert [len(b) for b in loader.epoch(0)] == [5] * 4
    assert len(loader) == 4
    assert len(list(Loader(split(20), batch_size=5, shuffle=False).epoch(0))) == 4


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("n", [16, 21, 22, 23])
def test_ranks_cut_the_joint_batch(monkeypatch, world, n):
    pieces = [Shift(pixels=1), Noise()]
    joint = list(Loader(split(n), batch_size=8, shuffle=True, augment=pieces).epoch(1))
    monkeypatch.setattr(distributed, "world", lambda: world)
    ranks = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        loader = Loader(split(n), batch_size=8, shuffle=True, augment=pieces)
        ranks.append(list(loader.epoch(1)))
        assert len(ranks[-1]) == len(loader)
    for k, parts in enumerate(zip(*ranks, strict=True)):
        assert len({len(p) for p in parts}) == 1
        got = len(parts[0]) * world
        assert got == len(joint[k]) // world * world
        assert torch.equal(torch.cat([p.index for p in parts]), joint[k].index[:got])
        if got == 8:
            assert torch.equal(torch.cat([p.x for p in parts]), joint[k].x)


@pytest.mark.parametrize(
    ("n", "world", "more", "said"),
    [
        (5, 1, {"batch_size": 0}, "batch_size = 0"),
        (5, 2, {"batch_size": 3}, "a multiple of the 2 processes"),
        (5, 1, {"batch_size": 6, "drop_last": True}, "has 5 rows: a batch takes at least 6"),
        (0, 1, {"batch_size": 2}, "has 0 rows"),
        (1, 2, {"batch_size": 2}, "has 1 rows: a batch takes at least 2"),
    ],
)
def test_impossible_batches_are_told(monkeypatch, n, world, more, said):
    monkeypatch.setattr(distributed, "world", lambda: world)
    with pytest.raises(ValueError, match=said):
        Loader(split(n), shuffle=False, **more)
