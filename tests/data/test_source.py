"""Sources: names, files of the user's, splits by a seed, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from sparring import data
from sparring.data.layouts import RawDataset
from sparring.data.samples import select_samples
from sparring.data.source import assemble
from sparring.data.split import check_samples, fingerprint, hold_out

RNG = np.random.default_rng(0)


def arrays(n=100, d=(4,), k=3, dtype=np.float32):
    x = RNG.random((n, *d)).astype(np.float32)
    x = (x * 255).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)
    return x, np.arange(n) % k


def rows(*splits):
    return sorted(int(i) for s in splits for i in s.index)


def test_digits_are_whole_and_in_bounds():
    source = data.load("digits")
    assert (source.name, source.shape, source.classes, source.bounds) == (
        "digits",
        (1, 8, 8),
        10,
        (0.0, 1.0),
    )
    assert rows(source.train, source.val, source.test) == list(range(1797))
    assert source.train.x.dtype == torch.float32
    assert (source.train.x.min(), source.train.x.max()) == (0, 1)
    assert len(source.sha256) == 64
    again = data.load("Digits")
    assert again.sha256 == source.sha256
    assert torch.equal(again.val.index, source.val.index)
    assert not torch.equal(data.load("digits", seed=1).val.index, source.val.index)


@pytest.mark.parametrize(
    ("name", "hint"), [("digit", "'digits'"), ("cifar1O", "'cifar10'"), ("", "does not exist. `")]
)
def test_a_misspelt_name_is_told(name, hint):
    with pytest.raises(ValueError, match=r"data\.name = .* does not exist") as caught:
        data.load(name)
    assert hint in str(caught.value)
    assert "`sparring list data` has all" in str(caught.value)


def test_held_out_rows_keep_the_class_proportions():
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20 + [-1] * 40)
    kept, held = hold_out(y, 10, torch.Generator().manual_seed(0))
    assert torch.bincount(y[held]).tolist() == [5, 3, 2]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(140))


@pytest.mark.parametrize("n", [1, 2, 7, 49])
def test_exactly_n_are_held_out(n):
    y = torch.randint(0, 7, (50,), generator=torch.Generator().manual_seed(3))
    kept, held = hold_out(y, n, torch.Generator().manual_seed(n))
    assert (len(kept), len(held)) == (50 - n, n)
    share = torch.bincount(y, minlength=7) * n / 50
    assert ((torch.bincount(y[held], minlength=7) - share).abs() < 1).all()


@pytest.mark.parametrize(
    ("val", "n"), [(None, 10), (7, 7), (7.0, 7), (0.25, 25), (1, 1), (0.001, 1)]
)
def test_validation_is_held_out_of_train(val, n):
    source = assemble("a", RawDataset(arrays(100), arrays(20)), val=val)
    assert (len(source.val), len(source.train), len(source.test)) == (n, 100 - n, 20)
    assert rows(source.train, source.val) == list(range(100))


def test_validation_is_capped():
    source = assemble("a", RawDataset(arrays(60_000, (1,)), arrays(20, (1,))))
    assert len(source.val) == 5000


@pytest.mark.parametrize("val", [0, -1, 1.0, 2.5, float("nan"), True, 100, 101])
def test_an_impossible_validation_split_is_told(val):
    with pytest.raises(ValueError, match="val = "):
        assemble("a", RawDataset(arrays(100), arrays(20)), val=val)


def test_rows_stay_with_their_labels():
    x = np.arange(200, dtype=np.float32)[:, None] / 200
    source = assemble("a", RawDataset((x, np.arange(200) % 7)))
    for split in (source.train, source.val, source.test):
        assert torch.equal((split.x[:, 0] * 200).round().long(), split.index)
        assert torch.equal(split.y, split.index % 7)


def test_a_given_validation_split_is_used():
    source = assemble("a", RawDataset(arrays(30), arrays(20), arrays(10)))
    assert (len(source.train), len(source.val), len(source.test)) == (30, 10, 20)
    with pytest.raises(ValueError, match="brings its own validation split"):
        assemble("a", RawDataset(arrays(30), arrays(20), arrays(10)), val=5)


def test_unlabeled_rows_are_for_training_only():
    x, y = arrays(100)
    y[50:] = -1
    source = assemble("a", RawDataset((x, y)))
    assert (source.val.y >= 0).all()
    assert (source.test.y >= 0).all()
    assert (source.train.y == -1).sum() == 50
    with pytest.raises(ValueError, match="needs at least 2"):
        assemble("a", RawDataset((x, np.full(100, -1))))


def test_limit():
    source = assemble("a", RawDataset(arrays(100), arrays(20)), limit=15)
    assert (len(source.train), len(source.val)) == (15, 10)
    assert not set(rows(source.train)) & set(rows(source.val))
    assert len(assemble("a", RawDataset(arrays(100), arrays(20)), limit=1000).train) == 90
    with pytest.raises(ValueError, match="limit = 0"):
        assemble("a", RawDataset(arrays(100), arrays(20)), limit=0)


def bad(what):
    x, y = arrays(40)
    match what:
        case "nan":
            x[3, 1] = np.nan
        case "inf":
            x[3, 1] = np.inf
        case "range":
            x = x * 255
        case "low":
            x[3, 1] = -0.1
        case "label":
            y[5] = -2
        case "half":
            y = y + 0.5
        case "one-hot":
            y = np.eye(3)[y]
        case "short":
            y = y[:-1]
        case "empty":
            x, y = x[:0], y[:0]
        case "one":
            y = y * 0
        case "text":
            y = y.astype(str)
        case "tiny":
            x, y = x[:2], y[:2]
    return x, y


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", "NaN or infinite values in 1 rows, the first is 3"),
        ("inf", "NaN or infinite values in 1 rows, the first is 3"),
        ("range", r"bounds are \[0, 1\].*put normalisation into the model"),
        ("low", r"reaches from -0.1 to"),
        ("label", "labels from -2 to 2: with 3 classes"),
        ("half", "not whole numbers"),
        ("one-hot", r"labels of shape \(40, 3\)"),
        ("short", "40 samples and 39 labels"),
        ("empty", "is empty"),
        ("one", "needs at least 2"),
        ("text", "must hold numbers"),
        ("tiny", "val = "),
    ],
)
def test_bad_data_are_told(what, said):
    with pytest.raises(ValueError, match=said):
        assemble("a", RawDataset(bad(what)))


def test_bad_splits_are_told():
    with pytest.raises(ValueError, match=r"a test has samples of shape \(5,\), train of \(4,\)"):
        assemble("a", RawDataset(arrays(40), arrays(20, (5,))))
    with pytest.raises(ValueError, match="a test has labels from 0 to 4: with 3 classes"):
        assemble("a", RawDataset(arrays(40), arrays(20, k=5)))
    with pytest.raises(ValueError, match="a test is empty"):
        assemble("a", RawDataset(arrays(40), arrays(0)))


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_bad_bounds_are_told(bounds):
    with pytest.raises(ValueError, match="bounds = "):
        assemble("a", RawDataset(arrays(40)), bounds=bounds)


def test_other_bounds():
    x, y = arrays(40)
    source = assemble("a", RawDataset((x * 4 - 2, y)), bounds=(-2.0, 2.0))
    assert source.bounds == (-2.0, 2.0)
    with pytest.raises(ValueError, match=r"bounds = .*uint8 inputs are read as value/255"):
        assemble("a", RawDataset(arrays(40, dtype=np.uint8)), bounds=(0.1, 2.0))
    wide = assemble("a", RawDataset(arrays(40, dtype=np.uint8)), bounds=(-0.1, 1.1))
    assert torch.equal(wide.train.float(slice(None)), wide.train.x / 255)


def test_rounding_just_outside_the_bounds_is_clipped():
    x, y = arrays(40)
    x[0, 0] = np.nextafter(np.float32(1), np.float32(2))
    source = assemble("a", RawDataset((x, y)))
    assert max(float(s.x.max()) for s in (source.train, source.val, source.test)) <= 1


def test_uint8_stays_uint8_until_the_batch():
    source = assemble("a", RawDataset(arrays(40, (1, 4, 4), dtype=np.uint8)))
    assert source.train.x.dtype == torch.uint8
    read = source.train.float(slice(3))
    assert torch.equal(read, source.train.x[:3].float() / 255)
    assert source.train.x.dtype == torch.uint8
    rows = torch.tensor([4, 2])
    assert torch.equal(source.train.float(rows), source.train.float()[rows])


def test_flags_stored_as_uint8_are_not_pixels():
    x = RNG.integers(0, 2, (40, 6), np.uint8)
    for stored in (x, x.astype(bool), x.astype(np.int64)):
        source = assemble("a", RawDataset((stored, np.arange(40) % 2)))
        assert source.train.float().unique().tolist() == [0.0, 1.0]


def test_fingerprint_sees_content_shape_and_type():
    a = torch.arange(6, dtype=torch.uint8)
    prints = {fingerprint(t) for t in (a, a.reshape(2, 3), a.int(), a + 1, a[:0])}
    assert len(prints) == 5
    assert fingerprint(a.clone()) == fingerprint(a)
    assert fingerprint(a.reshape(2, 3).T.contiguous().T) == fingerprint(a.reshape(2, 3))


def test_subset_and_take():
    split = data.Split(torch.rand(20, 2), torch.arange(20))
    part = split.subset(5, seed=1)
    assert len(part) == 5
    assert torch.equal(part.y, part.index)
    assert part.index.tolist() == sorted(part.index.tolist())
    assert torch.equal(part.index, split.subset(5, seed=1).index)
    assert not torch.equal(part.index, split.subset(5, seed=2).index)
    assert len(split.subset(50)) == 20
    assert torch.equal(split.take(slice(3)).index, torch.arange(3))
    with pytest.raises(ValueError, match="n = 0"):
        split.subset(0)


def test_moving_keeps_the_rest():
    source = assemble("a", RawDataset(arrays(40)))
    moved = source.to("cpu")
    assert (moved.sha256, moved.classes, len(moved.val)) == (source.sha256, 3, len(source.val))


def test_check_names_what_it_checks():
    with pytest.raises(ValueError, match="batch 3 is empty"):
        check_samples("batch 3", torch.zeros(0, 2), torch.zeros(0).long(), 2)


# files of the user's


def test_npz_with_every_split(tmp_path):
    held = {}
    for part, n in (("train", 30), ("test", 20), ("val", 10)):
        held[f"x_{part}"], held[f"y_{part}"] = arrays(n, (5, 4), dtype=np.uint8)
    held["y_train"] = held["y_train"][:, None]
    path = tmp_path / "mine.npz"
    np.savez(path, **held)
    source = data.load(path)
    assert source.name == "mine.npz"
    assert source.shape == (1, 5, 4)
    assert (len(source.train), len(source.val), len(source.test)) == (30, 10, 20)
    assert torch.equal(source.test.x[:, 0], torch.from_numpy(held["x_test"]))


def test_npz_of_x_and_y_with_names_and_channels_last(tmp_path):
    x, y = arrays(60, (6, 5, 3), dtype=np.uint8)
    path = tmp_path / "mine.npz"
    np.savez(path, x=x, y=y, class_names=np.array(["ant", "bee", "cat"]))
    source = data.load(str(path))
    assert source.class_names == ["ant", "bee", "cat"]
    assert source.shape == (3, 6, 5)
    assert torch.equal(
        source.train.x, torch.from_numpy(x[source.train.index].transpose(0, 3, 1, 2))
    )


def test_a_bad_npz_is_told(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, a=1)
    with pytest.raises(ValueError, match="holds a; it needs x_train and y_train, or x and y"):
        data.load(path)
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(ValueError, match="only one of x_train and y_train"):
        data.load(path)


def test_csv_and_svmlight_by_path(tmp_path):
    lines = "".join(f"{k % 2},{k / 50},{'no' if k % 2 else 'yes'}\n" for k in range(50))
    (tmp_path / "a.csv").write_text("u,v,class\n" + lines)
    (tmp_path / "b.csv").write_text("u,v\n" + "".join(f"{k % 2},{k / 50}\n" for k in range(50)))
    source = data.load(tmp_path / "a.csv", val=5)
    assert source.class_names == ["no", "yes"]
    assert (source.shape, len(source.val), len(source.test)) == ((2,), 5, 8)
    assert data.load(tmp_path / "b.csv", label="u").class_names == ["0", "1"]
    (tmp_path / "a.libsvm").write_text("".join(f"{k % 3} 1:{k / 50}\n" for k in range(50)))
    assert data.load(tmp_path / "a.libsvm").class_names == ["0", "1", "2"]
    with pytest.raises(ValueError, match="only a csv has a label column"):
        data.load(tmp_path / "a.libsvm", label="u")
    with pytest.raises(ValueError, match="only a csv has a label column"):
        data.load("digits", label="u")


def test_folders_by_path(tmp_path):
    for split, n in (("train", 6), ("val", 2), ("test", 3)):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(n):
                a = RNG.integers(0, 256, (4, 4, 3), np.uint8)
                Image.fromarray(a).save(tmp_path / split / name / f"{k}.png")
    source = data.load(tmp_path)
    assert (len(source.train), len(source.val), len(source.test)) == (12, 4, 6)
    assert (source.class_names, source.shape) == (["ant", "bee"], (3, 4, 4))
    assert len(data.load(tmp_path / "train", val=2).train) == 8
    (tmp_path / "test" / "bee").rename(tmp_path / "test" / "cow")
    with pytest.raises(ValueError, match="different classes: ant, cow and ant, bee"):
        data.load(tmp_path)


def test_a_missing_file_and_an_unknown_ending_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none\.npz"):
        data.load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        data.load(tmp_path / "none")
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(ValueError, match=r"no reader for \.xyz; there are \.npz, \.csv"):
        data.load(tmp_path / "a.xyz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nor another format that can be read"):
        data.load(tmp_path / "empty")


def test_a_test_split_alone_is_for_evaluation():
    x, y = arrays(40)
    source = assemble("a", RawDataset((x[:0], y[:0]), (x, y)), balance=True, repeat=2, labels=6)
    assert (len(source.train), len(source.val), len(source.test)) == (0, 0, 40)
    assert (source.shape, source.classes) == ((4,), 3)
    assert "evaluation only" in source.notes[-1]
    with pytest.raises(ValueError, match="a train has no rows: training needs some, as x_train"):
        source.require_train()
    with pytest.raises(ValueError, match="a train is empty"):
        assemble("a", RawDataset((x[:0], y[:0])))
    bits = assemble("a", RawDataset((x[:0] > 2, y[:0]), (x > 0.5, y)))
    assert isinstance(bits.test.x, data.PackedBits)


def test_a_class_that_train_lacks_is_named():
    x, y = arrays(40)
    with pytest.raises(ValueError, match=r"train has no rows of class '1' \(test has 13\)"):
        assemble("a", RawDataset((x, np.where(y == 1, 0, y)), (x, y)))
    names = ["cat", "dog", "owl"]
    with pytest.raises(ValueError, match=r"train has no rows of class 'owl' \(test has 13\)"):
        assemble("a", RawDataset((x, y % 2), (x, y), classes=names))


def test_numbers_of_numpy_are_numbers():
    raw = RawDataset(arrays(200))
    kinds = {k: np.int64(v) for k, v in {"val": 20, "test": 30, "limit": 90, "seed": 4}.items()}
    one = assemble("a", raw, **kinds, bounds=np.array([0.0, 1.0]), repeat=np.int64(2))
    two = assemble("a", raw, val=20, test=30, limit=90, seed=4, repeat=2)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(one, part).index, getattr(two, part).index)
    half = assemble("a", raw, val=np.float32(0.5), labels=np.int64(30), balance=np.array([1, 1, 2]))
    assert len(half.train) == 30


@pytest.mark.parametrize("bounds", [1.0, (0.0,), (0.0, 0.5, 1.0), None, ("a", "b"), "ab"])
def test_bounds_that_are_not_two_numbers_are_refused(bounds):
    with pytest.raises(ValueError, match=r"bounds = .*two finite numbers"):
        assemble("a", RawDataset(arrays(40)), bounds=bounds)


def test_the_first_rows_are_taken_where_asked():
    source = assemble("a", RawDataset(arrays(100), arrays(50)))
    draw = {"n": 10, "seed": 0, "dataset": "a"}
    drawn, first = (select_samples(source, "test", first=f, **draw) for f in (False, True))
    assert first.rows.index.tolist() == list(range(10))
    assert drawn.rows.index.tolist() != list(range(10))
    assert first.notes == ("the first 10 of 50 samples of test, not drawn by the seed",)
    assert drawn.notes == select_samples(source, "test", first=True, n=50, seed=0, dataset="").notes
