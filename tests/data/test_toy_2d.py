"""The toy sets in the plane."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sparring import data
from sparring.data import toy_2d


@pytest.mark.parametrize("name", list(toy_2d.SHAPES))
class TestEach:
    def test_it_is_standardised_into_the_box(self, name):
        x, y = toy_2d.read(name).train
        assert x.shape == (4000, 2)
        assert x.dtype == np.float32
        assert np.allclose(x.mean(0), 0.5, atol=1e-3)
        assert np.allclose(x.std(0), 0.125, atol=1e-3)
        assert x.min() > 0.01
        assert x.max() < 0.99  # nothing was clipped
        counts = np.bincount(y)
        assert len(counts) == (3 if name == "blobs" else 2)
        assert counts.min() > 0.9 * counts.max()

    def test_the_seed_decides(self, name):
        (x, y), (same, _) = (
            toy_2d.read(name, n=50, seed=1).train,
            toy_2d.read(name, n=50, seed=1).train,
        )
        assert np.array_equal(x, same)
        assert not np.array_equal(x, toy_2d.read(name, n=50, seed=2).train[0])
        assert len(y) == 50

    def test_the_classes_can_be_told_apart_by_their_neighbours(self, name):
        x, y = toy_2d.read(name).train
        nearest = KNeighborsClassifier(5).fit(x[:3000], y[:3000])
        assert nearest.score(x[3000:], y[3000:]) > 0.98

    def test_it_is_a_source_by_name(self, name):
        source = data.load(name, limit=100, test=1000, val=200, seed=3)
        assert name in data.names()
        assert source.shape == (2,)
        assert (len(source.train), len(source.val), len(source.test)) == (100, 200, 1000)
        other = data.load(name, limit=100, test=1000, val=200, seed=4)
        assert not torch.equal(source.train.float(), other.train.float())
        assert source.sha256 == other.sha256
