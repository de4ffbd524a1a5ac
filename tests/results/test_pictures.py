"""Pictures of samples: broken ones first, with signs, and a PNG of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.reporting.made import make


def test_broken_samples_come_first():
    grid = make().show_samples(worst=3)
    assert [s.robust for s in grid.samples] == [False, False, True]
    assert [s.caption for s in grid.samples] == [
        "✗ cat → dog",
        "✗ eel → no finite logits",
        "✓ still dog",
    ]
    assert grid.samples[0].largest == pytest.approx(0.05)
    assert repr(grid) == "SampleGrid(3 samples, 2 broken; .save(path) writes a picture)"


def test_a_page_of_samples_escapes_the_names_of_classes():
    r = make()
    r.class_names = ["<b>", "&", '"']
    page = make().show_samples()._repr_html_()
    assert page.count("<img") == 12
    assert "<b>" not in r.show_samples()._repr_html_()


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 200, 100)])
def test_pictures_are_saved_in_whole_magnifications(tmp_path, shape):
    path = make(shape=shape).show_samples(2).save(tmp_path / "samples.png")
    with Image.open(path) as picture:
        width, height = picture.size
    scale = max(1, round(112 / shape[1]))
    assert (height, width) == (2 * (scale * shape[1] + 8), 3 * (scale * shape[2] + 8))
    with pytest.raises(ValueError, match=r"must be the name of a \.png file"):
        make().show_samples().save(tmp_path / "samples.jpg")


def test_samples_in_another_box_are_shown_from_black_to_white():
    r = make()
    r.threat |= {"low": -1.0, "high": 1.0}
    r.arrays["show_x"] = np.full((4, 1, 6, 6), -1.0, np.float32)
    assert make().show_samples(1).samples[0].x.max() > 0
    assert r.show_samples(1).samples[0].x.max() == 0


def test_what_has_no_pictures_says_so():
    with pytest.raises(ValueError, match="stripped"):
        make().strip().show_samples()
    with pytest.raises(ValueError, match=r"shape \(20,\) are no pictures"):
        make(shape=(20,)).show_samples()
    with pytest.raises(ValueError, match="worst = 0"):
        make().show_samples(0)
    r = make()
    empty = {k: v[:0] for k, v in r.arrays.items() if k.startswith("show_")}
    with pytest.raises(ValueError, match="no sample that is right"):
        dataclasses.replace(r, arrays=r.arrays | empty).show_samples()
