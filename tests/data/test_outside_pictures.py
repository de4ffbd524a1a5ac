"""Pictures from anywhere: every kind of pixels, damage, and the fit to a model."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from sparring.data import limits
from sparring.data.outside_pictures import Picture, decode_picture, fit_picture, read_picture

RAMP = np.linspace(0, 255, 48 * 40).reshape(40, 48).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T.copy().reshape(40, 48)], 2)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options) -> Picture:
    return decode_picture(encoded(image, kind, **options), "a picture")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_eight_bits_without_loss_come_back_as_they_are(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decoded(Image.fromarray(COLOURS), kind, **options)
    assert picture.pixels.dtype == torch.uint8
    assert torch.equal(picture.pixels, torch.from_numpy(COLOURS).permute(2, 0, 1))
    assert picture.notes == []


def test_a_grey_picture_has_one_channel():
    picture = decoded(Image.fromarray(RAMP), "JPEG", quality=100)
    assert picture.pixels.shape == (1, 40, 48)
    assert (picture.pixels[0].int() - torch.from_numpy(RAMP).int()).abs().max() <= 3


def transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("image", "kind", "note", "shape"),
    [
        (transparent("RGBA"), "PNG", "transparent pixels painted on white", (3, 4, 4)),
        (transparent("LA"), "PNG", "transparent pixels painted on white", (1, 4, 4)),
        (Image.new("RGBA", (4, 4), (1, 2, 3, 255)), "PNG", "transparency dropped", (3, 4, 4)),
        (Image.fromarray(COLOURS).convert("P"), "PNG", "palette expanded to RGB", (3, 40, 48)),
        (Image.fromarray(RAMP).convert("1"), "PNG", "1 bit per pixel became grey", (1, 40, 48)),
        (Image.fromarray(COLOURS).convert("CMYK"), "JPEG", "CMYK converted to RGB", (3, 40, 48)),
        (Image.fromarray(COLOURS).convert("CMYK"), "TIFF", "CMYK converted to RGB", (3, 40, 48)),
        (Image.new("I;16", (4, 4), 257 * 100), "PNG", "16 bits rounded to 8", (1, 4, 4)),
        (Image.new("I;16", (4, 4), 257 * 100), "TIFF", "16 bits rounded to 8", (1, 4, 4)),
    ],
)
def test_each_conversion_is_noted(image, kind, note, shape):
    picture = decoded(image, kind)
    assert picture.pixels.shape == shape
    assert any(text.startswith(note) for text in picture.notes)
    if image.mode == "I;16":
        assert (picture.pixels == 100).all()
    if note.startswith("transparent"):
        assert (picture.pixels[:, 1:] == 255).all()
        assert picture.pixels[0, 0, 0] < 30


def test_sixteen_bits_of_colour_are_noted():
    width = height = 3
    body = np.full((height, width, 3), 40 * 257, ">u2").tobytes()
    picture = decode_picture(b"P6\n3 3\n65535\n" + body, "deep.ppm")
    assert picture.notes == ["16 bits per colour cut to 8"]
    assert (picture.pixels == 40).all()


@pytest.mark.parametrize("value", range(2, 9))
def test_a_photograph_is_turned_upright(value):
    exif = Image.Exif()
    exif[0x0112] = value
    picture = decoded(Image.fromarray(COLOURS), "PNG", exif=exif)
    assert picture.notes == ["turned upright, as its EXIF data say"]
    assert picture.pixels.shape == ((3, 48, 40) if value >= 5 else (3, 40, 48))
    first = {2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert picture.pixels[(slice(None), *first[value])].tolist() == COLOURS[0, 0].tolist()


def test_damage_is_a_value_error_that_names_the_picture():
    whole = encoded(Image.fromarray(COLOURS), "JPEG")
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:20], b"%!PS-Adobe-3.0\n"):
        with pytest.raises(ValueError, match=r"^cat\.jpg "):
            decode_picture(content, "cat.jpg")


def test_every_truncation_reads_or_is_refused():
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        whole = encoded(Image.fromarray(COLOURS).resize((12, 10)), kind)
        for end in range(0, len(whole), max(1, len(whole) // 60)):
            with contextlib.suppress(ValueError):  # and no other error
                decode_picture(whole[:end], "cut")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_are_refused(kind):
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue", "green")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="several frames or pages"):
        decode_picture(content, "moving")
    assert decode_picture(encoded(frames[0], kind), "still").pixels.shape == (3, 5, 5)


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setenv(limits.PIXELS, "1000")
    with pytest.raises(ValueError, match=r"40 × 48 pixels: at most 1,000 .*SPARRING_MAX_PIXELS"):
        decoded(Image.fromarray(COLOURS))


def test_floats_are_refused():
    image = Image.fromarray(RAMP.astype(np.float32))
    with pytest.raises(ValueError, match=r"mode F: save it as a PNG of 8 bits"):
        decoded(image, "TIFF")


def test_a_name_cannot_write_to_the_terminal(tmp_path):
    path = tmp_path / "a\x1b[2J.png"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\\x1b\[2J\.png is no picture"):
        read_picture(path)


def test_a_fit_of_the_same_shape_changes_nothing():
    picture = decoded(Image.fromarray(COLOURS))
    x, notes = fit_picture(picture, (3, 40, 48))
    assert notes == []
    assert torch.equal((x * 255).round().to(torch.uint8), picture.pixels)
    assert torch.equal(x, picture.pixels.to(torch.float32) / 255)


@pytest.mark.parametrize("shape", [(3, 20, 20), (1, 64, 64), (3, 7, 90), (1, 90, 7), (3, 1, 1)])
def test_a_fit_keeps_the_middle(shape):
    rows, columns = 61, 83
    across = np.broadcast_to(np.linspace(0, 200, columns), (rows, columns)).astype(np.uint8)
    x, notes = fit_picture(Picture("p", torch.from_numpy(across.copy())[None], []), shape)
    assert x.shape == shape
    assert (x >= 0).all()
    assert (x <= 1).all()
    assert torch.equal((x * 255).round() / 255, x)
    assert abs(x.mean().item() * 255 - 100) < 3  # the middle of a ramp
    assert notes


def test_a_strip_is_never_resized_as_a_whole():
    strip = Picture("strip", torch.zeros(1, 1, 200_000, dtype=torch.uint8), [])
    x, notes = fit_picture(strip, (1, 32, 32))
    assert x.shape == (1, 32, 32)
    assert notes == ["resized from 200000 × 1 to 6400000 × 32", "middle 32 × 32 cut out"]


@pytest.mark.parametrize("shape", [(54,), (4, 8, 8), (3, 8), (3, 0, 8)])
def test_a_model_without_pictures_is_refused(shape):
    picture = Picture("p", torch.zeros(1, 4, 4, dtype=torch.uint8), [])
    with pytest.raises(ValueError, match="pictures fit a model of grey or RGB"):
        fit_picture(picture, shape)


def test_eight_bits_that_were_saved_in_32_are_not_black():
    picture = decoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF")
    assert picture.notes == ["32 bits held 8"]
    assert torch.equal(picture.pixels[0], torch.from_numpy(RAMP))
    deep = decoded(Image.fromarray(RAMP.astype(np.int32) * 257), "TIFF")
    assert deep.notes == ["16 bits rounded to 8"]
    assert torch.equal(deep.pixels[0], torch.from_numpy(RAMP))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_dark_picture_of_sixteen_bits_stays_dark(kind):
    picture = decoded(Image.new("I;16", (4, 4), 200), kind)
    assert picture.notes == ["16 bits rounded to 8"]
    assert (picture.pixels == 1).all()
