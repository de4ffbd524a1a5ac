"""Worse rows on purpose: their numbers, their seeds, and that only train has them."""

import pytest
import torch

from sparring import data
from sparring.data import Split
from sparring.data.worsened import with_class_shares, with_label_noise

ROWS = 600


def split(*, unlabeled: int = 0) -> Split:
    y = torch.arange(ROWS) % 3
    y[:unlabeled] = -1
    return Split(torch.rand(ROWS, 2), y, weight=torch.rand(ROWS))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_noise_moves_its_share_of_labels_to_the_other_classes_alike(share):
    before, after = split(), with_label_noise(split(), share, 3, seed=0)
    moved = before.y != after.y
    assert int(moved.sum()) == round(share * ROWS)
    steps = (after.y - before.y)[moved] % 3
    assert abs(int((steps == 1).sum()) - int((steps == 2).sum())) <= 4 * max(1, len(steps)) ** 0.5


def test_noise_leaves_inputs_numbers_weights_and_the_split_itself():
    before = split()
    y = before.y.clone()
    after = with_label_noise(before, 0.3, 3, seed=0)
    assert torch.equal(before.y, y)
    assert after.x is before.x
    assert after.index is before.index
    assert after.weight is before.weight


def test_noise_passes_rows_without_labels_by():
    after = with_label_noise(split(unlabeled=300), 0.5, 3, seed=0)
    assert int((after.y < 0).sum()) == 300
    assert int((after.y != split(unlabeled=300).y).sum()) == 150


def test_noise_is_its_seeds():
    noisy = [with_label_noise(split(), 0.2, 3, seed=s).y for s in (0, 0, 1)]
    assert torch.equal(*noisy[:2])
    assert not torch.equal(*noisy[1:])


def test_class_shares_keep_rows_in_order_and_one_at_least():
    kept = with_class_shares(split(unlabeled=30), [1, 0.5, 0.001], 3, seed=0)
    assert [int((kept.y == k).sum()) for k in (-1, 0, 1, 2)] == [30, 190, 95, 1]
    assert torch.equal(kept.index, kept.index.sort().values)
    source = split(unlabeled=30)
    assert torch.equal(kept.y, source.y[kept.index])


def test_only_train_has_them_and_the_notes_say_so():
    whole = data.load("digits")
    worse = data.load("digits", class_shares=[1] * 9 + [0.05], label_noise=0.1)
    rare = whole.train.y == 9
    assert len(worse.train) == int((~rare).sum()) + round(0.05 * int(rare.sum()))
    kept = torch.isin(whole.train.index, worse.train.index)
    wrong = whole.train.y[kept] != worse.train.y
    assert int(wrong.sum()) == round(0.1 * len(worse.train))
    for part in ("val", "test"):
        assert torch.equal(getattr(whole, part).y, getattr(worse, part).y)
    assert worse.notes == [
        f"{len(worse.train)} rows of train kept, by class_shares",
        "10% of train's labels are wrong on purpose, by label_noise",
    ]


def test_a_second_option_moves_nothing_of_the_first():
    one = data.load("digits", class_shares=[0.5] * 10).train
    both = data.load("digits", class_shares=[0.5] * 10, label_noise=0.2).train
    assert torch.equal(one.index, both.index)


def test_labels_are_withheld_before_they_are_made_wrong():
    source = data.load("digits", labels=100, label_noise=0.1)
    right = data.load("digits", labels=100)
    assert source.unlabelled is not None
    assert torch.equal(source.train.index, right.train.index)
    assert int((source.train.y != right.train.y).sum()) == 10


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"label_noise": -0.1}, "label_noise = -0.1"),
        ({"label_noise": 1.0}, "label_noise = 1.0"),
        ({"label_noise": float("nan")}, "label_noise = nan"),
        ({"label_noise": "much"}, "label_noise = 'much'"),
        ({"class_shares": [1, 1]}, "10 shares of rows, one per class"),
        ({"class_shares": [1] * 9 + [0]}, "0 < share ≤ 1"),
        ({"class_shares": [1] * 9 + [1.5]}, "0 < share ≤ 1"),
        ({"class_shares": [1] * 9 + [float("nan")]}, "class_shares.9 = nan"),
        ({"class_shares": []}, "0 < share ≤ 1"),
        ({"class_shares": 0.5}, "class_shares = 0.5"),
    ],
)
def test_what_no_rows_could_have_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits", **option)
