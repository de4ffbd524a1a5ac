"""Augmentations: what each may change, that samples differ, that the generator decides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sparring.data import Crop, Cutout, Flip, GaussianNoise, Shift, Source, Split
from sparring.runtime import distributed

PIECES = [Flip(), Shift(pixels=2), Crop(pad=3), Cutout(size=3), GaussianNoise(std=0.1)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(b=16, c=3, h=7, w=5):
    return torch.rand(b, c, h, w, generator=generator(9)) * 0.9 + 0.1


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: type(p).__name__)
def test_contract(piece):
    x = images()
    before, state = x.clone(), torch.random.get_rng_state()
    out = piece(x, generator(1))
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert out.is_contiguous()
    assert torch.equal(x, before)
    assert (out.min() >= 0, out.max() <= 1) == (True, True)
    assert torch.equal(out, piece(x, generator(1)))
    assert not torch.equal(out, piece(x, generator(2)))
    assert torch.equal(state, torch.random.get_rng_state())
    same = piece(x[:1].expand(64, -1, -1, -1), generator(3))
    assert len({tuple(s.flatten().tolist()) for s in same}) > 1  # each sample draws its own
    assert piece(x.double(), generator(1)).dtype == torch.float64
    assert piece(x[:0], generator(1)).shape == (0, 3, 7, 5)


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: type(p).__name__)
def test_ranks_together_get_what_one_process_gets(piece, monkeypatch):
    x = images(8)
    joint = piece(x, generator(1))
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "world", lambda: 2)
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(piece(x[4 * rank : 4 * rank + 4], generator(1)))
    assert torch.equal(torch.cat(parts), joint)


def shifts(x, by):
    """Every shift of one image, by slices of the padded one."""
    h, w = x.shape[1:]
    padded = functional.pad(x, (by,) * 4)
    steps = range(2 * by + 1)
    return {(i, j): padded[:, i : i + h, j : j + w] for i in steps for j in steps}


@pytest.mark.parametrize("piece", [Shift(pixels=2), Crop(pad=2)], ids=["shift", "crop"])
def test_every_shift_comes_about_equally_often(piece):
    x = images(1).expand(4000, -1, -1, -1)
    out = piece(x, generator())
    known = shifts(x[0], 2)
    counts = {k: int((out == v).flatten(1).all(1).sum()) for k, v in known.items()}
    assert sum(counts.values()) == 4000
    assert all(100 < n < 230 for n in counts.values())  # 160 each, 5.6 standard deviations


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 6), w=st.integers(1, 6), by=st.integers(0, 8), seed=st.integers(0, 99))
def test_a_shift_is_one_of_the_shifts(h, w, by, seed):
    x = images(3, 1, h, w)
    for before, after in zip(x, Shift(pixels=by)(x, generator(seed)), strict=True):
        assert any(torch.equal(after, s) for s in shifts(before, by).values())


def test_flip():
    x = images(1000)
    out = Flip()(x, generator())
    kept = (out == x).flatten(1).all(1)
    assert torch.equal(out[~kept], x[~kept].flip(3))
    assert 430 < int(kept.sum()) < 570
    assert torch.equal(Flip(p=0.0)(x, generator()), x)
    assert torch.equal(Flip(p=1.0)(x, generator()), x.flip(3))


def test_cutout_zeros_one_square():
    x = images(500, h=9, w=9)
    zero = Cutout(size=3)(x, generator()) == 0
    assert torch.equal(zero.any(1), zero.all(1))
    area = zero[:, 0].flatten(1).sum(1)
    assert set(area.tolist()) == {4, 6, 9}  # corners, borders, inside
    rows, columns = zero[:, 0].any(2).sum(1), zero[:, 0].any(1).sum(1)
    assert torch.equal(rows * columns, area)
    assert zero[:, 0].any(0).all()


def test_noise():
    x = torch.full((200, 50), 0.5)
    out = GaussianNoise(std=0.1)(x, generator())
    assert abs(float(out.mean()) - 0.5) < 0.005
    assert abs(float(out.std()) - 0.1) < 0.005
    wide = GaussianNoise(std=5.0, low=-1.0, high=2.0)(x, generator())
    assert (wide.min(), wide.max()) == (-1, 2)


@pytest.mark.parametrize("piece", PIECES[:4], ids=lambda p: type(p).__name__)
def test_only_images_can_be_moved(piece):
    name = type(piece).__name__
    with pytest.raises(ValueError, match=rf"{name} changes images \(b, c, h, w\); .*\(2, 5\)"):
        piece(torch.rand(2, 5), generator())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Flip(p=1.5), "p = 1.5"),
        (lambda: Shift(pixels=-1), "pixels = -1"),
        (lambda: Crop(pad=-1), "pad = -1"),
        (lambda: Cutout(size=0), "size = 0"),
        (lambda: GaussianNoise(std=-0.1), "std = -0.1"),
        (lambda: GaussianNoise(low=1.0), "low = 1.0"),
    ],
)
def test_bad_numbers_are_told(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_numbers_are_kept_verbatim():
    assert Crop(pad=3).config() == {"pad": 3}
    assert GaussianNoise(std=0.2).config() == {"std": 0.2, "low": 0.0, "high": 1.0}


def source(*bounds):
    x = torch.full((4, 1, 6, 6), bounds[1])
    split = Split(x, torch.arange(4) % 2)
    return Source("mine", split, split, split, ["a", "b"], bounds=bounds)


def test_noise_that_would_clip_other_bounds_away_is_refused():
    with pytest.raises(ValueError, match=r"low = 0\.0 is not allowed: low must be -1, the bound"):
        GaussianNoise().prepare(source(-1.0, 1.0))
    with pytest.raises(ValueError, match=r"high = 1\.0 is not allowed: high must be 255"):
        GaussianNoise().prepare(source(0.0, 255.0))
    GaussianNoise().prepare(source(0.0, 1.0))
    GaussianNoise(low=-1).prepare(source(-1.0, 1.0))


@pytest.mark.parametrize("piece", PIECES[1:4], ids=lambda p: type(p).__name__)
def test_zeros_outside_the_bounds_are_refused(piece):
    said = rf"bounds of mine = .*0, which {type(piece).__name__} fills with"
    for bounds in ((0.5, 1.0), (-2.0, -1.0)):
        with pytest.raises(ValueError, match=said):
            piece.prepare(source(*bounds))
    for bounds in ((0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0)):
        piece.prepare(source(*bounds))


def test_a_flip_has_no_bounds():
    Flip().prepare(source(0.5, 1.0))
