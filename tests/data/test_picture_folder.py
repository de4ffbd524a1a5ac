"""Folders of pictures of any size: fitted, kept in the cache, or streamed."""

import os
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparring import data
from sparring.config.recipe import load_recipe
from sparring.data import fetch, picture_cache, pictures
from sparring.data.outside_pictures import fit_picture, read_picture
from sparring.data.picture_sizes import Fitting, fitted
from sparring.runtime.warning import SparringWarning
from sparring.training import Trainer

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("SPARRING_CACHE_BYTES", raising=False)
    return tmp_path / "cache" / "pictures"


def save(path, sides, mode="RGB", value=None):
    shape = (*sides, 3) if mode == "RGB" else sides
    a = RNG.integers(0, 256, shape, np.uint8) if value is None else np.full(shape, value, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(a).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of pictures of many sizes: bright and dark."""
    for k in range(40):
        label = k % 2
        save(tmp_path / "mine" / "ab"[label] / f"{k}.png", (9 + k, 30 - k // 2), value=200 * label)
    return tmp_path / "mine"


def count_decoded(monkeypatch):
    calls, picture = [], pictures.picture

    def counted(path, mode=None):
        calls.append(path)
        return picture(path, mode)

    monkeypatch.setattr(pictures, "picture", counted)
    return calls


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("sides", [(4, 9), (9, 4), (20, 20), (1, 30), (6, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_fit_gives_the_size(fit, sides, channels):
    a = fitted(RNG.integers(0, 256, (channels, *sides), np.uint8), Fitting((6, 5), fit))
    assert a.shape == (channels, 6, 5)
    assert a.dtype == np.uint8


def test_a_picture_of_the_size_stays_as_it_is():
    a = RNG.integers(0, 256, (3, 6, 5), np.uint8)
    assert fitted(a, Fitting((6, 5))) is a


def test_crop_keeps_the_middle_and_pad_the_whole():
    a = np.zeros((1, 4, 12), np.uint8)
    a[:, :, 4:8] = 255
    assert fitted(a, Fitting((4, 4), "crop")).min() == 255
    padded = fitted(a, Fitting((12, 12), "pad"))
    assert padded[0, :4].max() == padded[0, 8:].max() == 0
    assert padded[0, 5, 5] == 255


def test_crop_is_what_an_attacked_picture_of_a_person_gets(tmp_path):
    save(tmp_path / "a.png", (37, 21))
    outside, _ = fit_picture(read_picture(tmp_path / "a.png"), (3, 16, 12))
    inside = fitted(pictures.picture(tmp_path / "a.png"), Fitting((16, 12)))
    assert np.array_equal((outside * 255).round().numpy().astype(np.uint8), inside)


def test_pictures_of_any_size_become_one(folder):
    source = data.load(folder, size=8)
    assert source.shape == (3, 8, 8)
    assert str(source.train).endswith("uint8)")
    assert torch.equal(source.train.float().mean((1, 2, 3)) > 0.5, source.train.y == 1)
    assert data.load(folder, size=[8, 6]).shape == (3, 8, 6)


def test_without_a_size_the_error_names_it(folder):
    with pytest.raises(ValueError, match=r"the pictures before it .*; size = 64 in \[data\]"):
        data.load(folder)


def test_pictures_of_one_size_are_read_as_before(tmp_path):
    for k in range(20):
        save(tmp_path / "same" / "ab"[k % 2] / f"{k}.png", (6, 6), mode="L")
    plain, sized = data.load(tmp_path / "same"), data.load(tmp_path / "same", size=6)
    assert torch.equal(plain.train.float(), sized.train.float())
    assert plain.sha256 == sized.sha256


def test_the_second_start_decodes_nothing(folder, cache, monkeypatch):
    calls = count_decoded(monkeypatch)
    first = data.load(folder, size=8)
    assert len(calls) == 40
    assert len(list(cache.iterdir())) == 1
    second = data.load(folder, size=8)
    assert len(calls) == 40
    assert second.sha256 == first.sha256
    data.load(folder, size=9)
    assert len(calls) == 80


def test_a_changed_file_is_decoded_again(folder, monkeypatch):
    before = data.load(folder, size=8)
    save(folder / "a" / "0.png", (5, 5), value=90)
    assert data.load(folder, size=8).sha256 != before.sha256
    old = folder / "a" / "0.png"
    content = old.read_bytes()
    os.utime(old, ns=(1, 1))
    calls = count_decoded(monkeypatch)
    data.load(folder, size=8)
    assert (len(calls), old.read_bytes()) == (40, content)


@pytest.mark.parametrize("damage", ["cut", "flip", "header", "empty"])
def test_a_damaged_entry_is_made_again(folder, cache, damage):
    first = data.load(folder, size=8)
    (entry,) = cache.iterdir()
    content = entry.read_bytes()
    changed = {
        "cut": content[:-5],
        "flip": content[:-1] + bytes([content[-1] ^ 1]),
        "header": b'{"shape": [1e99, 3]}\n' + content,
        "empty": b"",
    }
    entry.write_bytes(changed[damage])
    assert data.load(folder, size=8).sha256 == first.sha256
    assert entry.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_told(folder, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder belongs")
    with pytest.warns(SparringWarning, match=r"can't be kept .*: each start decodes them again"):
        assert len(data.load(folder, size=8).train) > 0


def test_the_cache_is_bounded(folder, cache, monkeypatch):
    data.load(folder, size=8)
    (old,) = cache.iterdir()
    os.utime(old, (1, 1))
    monkeypatch.setenv("SPARRING_CACHE_BYTES", str(40 * 3 * 9 * 9 + 1000))
    data.load(folder, size=9)
    (new,) = cache.iterdir()
    assert new != old
    monkeypatch.setenv("SPARRING_CACHE_BYTES", "1")
    data.load(folder, size=10)
    assert [*cache.iterdir()] == [new]


def test_grey_and_colours_together_are_told(folder):
    save(folder / "a" / "grey.png", (9, 9), mode="L")
    source = data.load(folder, size=8)
    assert source.shape == (3, 8, 8)
    assert any("1 of 41 pictures are grey" in note for note in source.notes)


def test_splits_of_grey_and_of_colours_fit_together(tmp_path):
    for k in range(8):
        save(tmp_path / "s" / "train" / "ab"[k % 2] / f"{k}.png", (6, 7), mode="L")
        save(tmp_path / "s" / "test" / "ab"[k % 2] / f"{k}.png", (8, 7))
    source = data.load(tmp_path / "s", size=5)
    assert source.shape == (3, 5, 5)
    assert source.train.x.shape[1:] == (3, 5, 5)


def test_broken_pictures_are_counted_and_named(folder):
    for name in ("z.png", "y.png"):
        (folder / "b" / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2 of 42 pictures can't be read; the first: .*y.png is"):
        data.load(folder, size=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size = 0 is not allowed"),
        ({"size": [8]}, "size = "),
        ({"size": [8, 0]}, "size = "),
        ({"size": 10**6}, r"1000000 × 1000000 pixels: at most 100,000,000"),
        ({"size": 8, "fit": "zoom"}, "fit = 'zoom' is not allowed"),
        ({"size": 8, "workers": -1}, "workers = -1"),
        ({"fit": "pad"}, "fit needs size"),
        ({"stream": True}, "stream needs size"),
        ({"size": 9999, "workers": 0}, "SPARRING_MAX_BYTES"),
    ],
)
def test_options_that_no_folder_takes(folder, options: Any, message, monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_BYTES", "1e9")
    with pytest.raises(ValueError, match=message):
        data.load(folder, **options)


@pytest.mark.parametrize("name", ["digits", "table.npz"])
def test_only_folders_have_a_size(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", x=np.zeros((4, 2)), y=np.arange(4) % 2)
    with pytest.raises(ValueError, match=r"size = .*only folders of pictures"):
        data.load(name, size=8)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_what_memory_holds(folder, workers):
    options: Any = {"size": 8, "val": 4, "test": 6, "seed": 3}
    memory = data.load(folder, **options)
    stream = data.load(folder, **options, stream=True, workers=workers)
    assert isinstance(stream.train, data.Stream)
    for part in ("val", "test"):
        assert torch.equal(getattr(stream, part).x, getattr(memory, part).x)
        assert torch.equal(getattr(stream, part).index, getattr(memory, part).index)
    rows: Any = {"batch_size": 10, "shuffle": True, "seed": 1}
    pairs = zip(
        data.Loader(stream.train, **rows).epoch(2),
        data.Loader(memory.train, **rows).epoch(2),
        strict=True,
    )
    for a, b in pairs:
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


def test_processes_decode_the_same(folder, cache):
    alone = data.load(folder, size=8)
    for entry in cache.iterdir():
        entry.unlink()
    assert data.load(folder, size=8, workers=2).sha256 == alone.sha256


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_a_stream_is_named(folder, workers):
    source = data.load(folder, size=8, stream=True, workers=workers)
    for path in (folder / "a").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"\.png is truncated or not a picture") as caught:
        list(data.Loader(source.train, batch_size=10, shuffle=False).epoch(0))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"balance": True}, {"labels": 6}, {"unique": True}, {"label_noise": 0.1}]
)
def test_options_that_a_stream_refuses(folder, option: Any):
    with pytest.raises(ValueError, match=next(iter(option))):
        data.load(folder, size=8, stream=True, **option)


def test_a_recipe_trains_on_a_streamed_folder(folder, tmp_path):
    tables: dict[str, Any] = {
        "recipe": {"name": "run"},
        "data": {"name": str(folder), "size": 8, "stream": True},
        "model": {"name": "mlp", "hidden": [8]},
        "method": "AT",
        "threat": {"name": "Linf", "eps": 0.1},
        "attack": {"name": "PGD", "steps": 1},
        "train": {"epochs": 1, "batch_size": 10},
    }
    recipe = load_recipe(tables)
    kept = {"size": 8, "stream": True}
    assert kept.items() <= recipe.tables["data"].items()
    assert not {"fit", "workers"} & set(recipe.tables["data"])
    built = recipe.build()
    assert list(
        Trainer(built.model, built.objective, built.source, **built.trainer, out=tmp_path / "r")
    )


def test_bad_options_are_told_before_the_data_are_read():
    tables: dict[str, Any] = {"recipe": {"name": "r"}, "data": {"name": "nowhere", "size": 0}}
    tables |= {"model": {"name": "mlp"}, "method": {"name": "AT"}}
    with pytest.raises(ValueError, match=r"data.size = 0 is not allowed"):
        load_recipe(tables)


@pytest.mark.slow
def test_the_cache_is_faster_than_decoding(tmp_path):
    for k in range(400):
        save(tmp_path / "many" / "ab"[k % 2] / f"{k}.jpg", (300, 400))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        data.load(tmp_path / "many", size=64)
        seconds.append(time.perf_counter() - start)
    print(seconds)
    assert seconds[1] < seconds[0] / 5


def test_an_entry_of_no_pictures_is_none(cache):
    cache.mkdir(parents=True)
    (cache / "x.pictures").write_bytes(b"no header")
    assert picture_cache._read(cache / "x.pictures") is None
