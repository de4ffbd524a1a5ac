"""Bits packed eight a byte, splits of them, class weights, shares held out."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sparring import data
from sparring.data import Packed, tables
from sparring.data.layouts import Raw
from sparring.data.packed import binary
from sparring.data.source import assemble
from sparring.data.split import fingerprint

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("d", [1, 7, 8, 9, 64, 77])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64, torch.bool])
def test_packing_gives_everything_back(d, dtype):
    x = torch.randint(0, 2, (13, d), generator=torch.Generator().manual_seed(d)).to(dtype)
    kept = Packed.of(x)
    assert kept.bits.shape == (13, -(-d // 8))
    assert kept.shape == (13, d)
    assert len(kept) == 13
    assert torch.equal(kept.float(), x.float())
    assert kept.float().dtype == torch.float32
    for rows in (slice(3), slice(2, 9, 3), torch.tensor([5, 5, 0]), x[:, 0].bool(), slice(0, 0)):
        assert torch.equal(kept[rows].float(), x[rows].float())
    again = pickle.loads(pickle.dumps(kept))
    assert torch.equal(again.float(), kept.float())
    assert torch.equal(kept.to("cpu").float(), kept.float())


def test_packed_rows_of_another_shape():
    x = torch.randint(0, 2, (4, 2, 3, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(Packed.of(x).float(), x.float())
    assert Packed.of(torch.zeros(0, 9)).float().shape == (0, 9)


@pytest.mark.parametrize(
    ("x", "is_binary"),
    [([[0, 1]], True), ([[0, 2]], False), ([[0.0, -0.0]], True), ([[np.nan, 0]], False)],
)
def test_what_is_binary(x, is_binary):
    assert binary(np.array(x)) is is_binary
    late = np.zeros((500, 2))
    late[-1] = x[0]
    assert binary(late) is is_binary


def bits(n=80, d=21, k=2):
    x = RNG.integers(0, 2, (n, d), np.uint8)
    return x, np.arange(n) % k


def test_splits_of_bits_do_what_splits_do():
    x, y = bits()
    source = assemble("a", Raw((x, y)))
    assert source.shape == (21,)
    for split in (
        source.train,
        source.val,
        source.test,
        source.train.subset(9),
        source.to("cpu").val,
    ):
        assert isinstance(split.x, Packed)
        assert torch.equal(split.float(), torch.from_numpy(x[split.index]).float())
        rows = torch.tensor([2, 0])
        assert torch.equal(split.float(rows), split.float()[rows])
        assert torch.equal(split.take(rows).float(), split.float()[rows])


def test_bits_are_packed_whatever_they_were_stored_as():
    x, y = bits()
    kinds = (np.uint8, bool, np.float32, int)
    assert len({assemble("a", Raw((x.astype(kind), y))).sha256 for kind in kinds}) == 1
    mixed = assemble("a", Raw((x, y), (x * 0.5, y)))
    assert not isinstance(mixed.train.x, Packed)


def test_the_fingerprint_of_bits_sees_content_and_shape():
    x = torch.zeros(3, 9)
    other = x.clone()
    other[1, 8] = 1
    prints = {fingerprint(Packed.of(t)) for t in (x, other, x[:, :8], x[:2], x.reshape(3, 3, 3))}
    assert len(prints) == 5
    assert fingerprint(Packed.of(x)) == fingerprint(Packed.of(x.bool()))
    assert fingerprint(Packed.of(x)) != fingerprint(Packed.of(x).bits)


def test_bits_need_bounds_around_them():
    with pytest.raises(ValueError, match=r"bounds = \(0\.0, 0\.5\)"):
        assemble("a", Raw(bits()), bounds=(0.0, 0.5))
    assert isinstance(assemble("a", Raw(bits()), bounds=(-1.0, 2.0)).train.x, Packed)


def test_a_training_on_packed_bits_is_that_on_floats():
    x, y = bits(120)
    packed = assemble("a", Raw((x, y)))
    floats = replace(packed, train=data.Split(packed.train.float(), packed.train.y))

    def trained(source):
        torch.manual_seed(0)
        model = nn.Linear(21, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        loader = data.Loader(source.train, batch_size=16, shuffle=True, seed=3)
        for epoch in range(3):
            for batch in loader.epoch(epoch):
                assert batch.x.dtype == torch.float32
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch.x), batch.y).backward()
                optimizer.step()
        return model.weight

    assert torch.equal(trained(packed), trained(floats))


# class weights -----------------------------------------------------------------------------------


def test_balanced_classes_have_the_same_mass():
    x, _ = bits(200)
    y = (np.arange(200) % 5 == 0).astype(np.int64)
    source = assemble("a", Raw((x, y)), balance=True)
    weight = source.train.weight
    assert weight is not None
    for split in (source.train, source.val):
        assert split.weight is not None
        mass = [float(split.weight[split.y == c].sum()) for c in (0, 1)]
        assert mass == pytest.approx([len(split) / 2] * 2)
    assert source.test.weight is None
    seen = {}
    for batch in data.Loader(source.train, batch_size=32, shuffle=True).epoch(0):
        seen |= {(int(t), round(float(w), 5)) for t, w in zip(batch.y, batch.weight, strict=True)}
    counts = torch.bincount(source.train.y)
    expected = {c: round(len(source.train) / 2 / int(counts[c]), 5) for c in (0, 1)}
    assert seen == expected


def test_weights_may_be_given_and_unlabeled_rows_keep_1():
    y = torch.tensor([0, 0, 1, 1, 1, -1])
    found = tables.weights([3.0, 1.0], y, 2)
    assert found is not None
    assert found[-1] == 1
    assert float(found[:-1].mean()) == pytest.approx(1)
    assert float(found[0] / found[2]) == pytest.approx(3)
    assert tables.weights(False, y, 2) is None
    split = data.Split(torch.rand(6, 2), y, weight=found)
    assert torch.equal(split.take(torch.tensor([2, 0])).to("cpu").weight, found[[2, 0]])
    assert torch.equal(
        next(data.Loader(data.Split(split.x, y), batch_size=6, shuffle=False).epoch(0)).weight,
        torch.ones(6),
    )


@pytest.mark.parametrize(
    "balance", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], [1, 2, 3]]
)
def test_impossible_weights_are_told(balance):
    with pytest.raises(ValueError, match="balance = "):
        assemble("a", Raw(bits()), balance=balance)


def test_a_class_without_rows_is_told(tmp_path):
    x, y = bits()
    with pytest.raises(ValueError, match="a train has no rows of class '1'"):
        assemble("a", Raw((x, y * 2)))
    np.savez(tmp_path / "own.npz", x=x, y=y, class_names=["good", "bad", "ugly"])
    with pytest.raises(ValueError, match="no rows of class 'ugly'"):
        data.load(tmp_path / "own.npz")


# splits ------------------------------------------------------------------------------------------


def test_the_test_share_may_be_chosen():
    source = assemble("a", Raw(bits(100)), test=0.3, val=10, seed=1)
    assert (len(source.train), len(source.val), len(source.test)) == (60, 10, 30)
    assert len(assemble("a", Raw(bits(100)), test=7).test) == 7
    again = assemble("a", Raw(bits(100)), test=0.3, val=10, seed=1)
    assert torch.equal(again.test.index, source.test.index)
    with pytest.raises(ValueError, match=r"test = 5 is not allowed.*brings its own test split"):
        assemble("a", Raw(bits(100), bits(20)), test=5)
    for wrong in (0, 1.0, 100, -3):
        with pytest.raises(ValueError, match="test = "):
            assemble("a", Raw(bits(100)), test=wrong)
