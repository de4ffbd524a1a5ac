"""A class that the division takes out of train is spoken of."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from sparring import data
from sparring.data.layouts import RawDataset
from sparring.data.source import assemble
from sparring.runtime.warning import SparringWarning


def raw(y, **more):
    x = np.random.default_rng(0).random((len(y), 4)).astype(np.float32)
    return RawDataset((x, np.array(y)), **more)


def test_a_class_that_the_division_takes_is_announced_and_noted():
    rare = raw([0] * 50 + [1] * 50 + [2, 3], classes=["a", "b", "c", "d"])
    said = "mine train has no rows of 2 classes, the first is 'c': raise limit, or lower test and"
    with pytest.warns(SparringWarning, match=said) as caught:
        source = assemble("mine", rare, test=0.9)
    assert len(caught) == 1
    assert str(caught[0].message) in source.notes
    assert set(source.train.y.tolist()) == {0, 1}


def test_so_is_one_that_the_limit_takes(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.eye(40, dtype=np.float32), y=np.arange(40) % 4)
    with pytest.warns(SparringWarning, match=r"t\.npz train has no rows of class '"):
        source = data.load(tmp_path / "t.npz", limit=3)
    assert any("raise limit" in note for note in source.notes)


def test_others_are_not_spoken_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = assemble("a", raw([0, 1, 2] * 20 + [-1] * 9), labels=3)
        assert len(few.train) == 3
        x, y = raw([0, 1, 2] * 9).train
        alone = assemble("a", RawDataset((x[:0], y[:0]), (x, y), classes=["a", "b", "c"]))
        assert len(alone.train) == 0
        held = TensorDataset(torch.rand(9, 4), torch.arange(9) % 3)
        data.streamed(
            TensorDataset(torch.rand(9, 4), torch.zeros(9).long()), held, classes=3, val=3
        )
        assert not [n for n in (*few.notes, *alone.notes) if "no rows of" in n]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.float32(1), np.zeros(3, int), r"a train has x of shape \(\): it must be \(n, \*d\)"),
        (np.eye(4, dtype=np.float32), np.arange(3), "a train has 4 samples and 3 labels"),
        (np.eye(3, dtype=np.float32), np.arange(4), "a train has 3 samples and 4 labels"),
    ],
)
@pytest.mark.parametrize("unique", [True, False])
def test_rows_and_labels_that_do_not_fit_are_told_before_rows_are_compared(x, y, said, unique):
    with pytest.raises(ValueError, match=said):
        assemble("a", RawDataset((np.asarray(x), y), unique=unique))
