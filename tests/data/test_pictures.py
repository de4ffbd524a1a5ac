"""Pictures of every form that is read, upright and in full, and folders of them."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from sparring import data
from sparring.data import files, pictures, readers
from sparring.runtime.warning import SparringWarning
from tests.data.made_files import picture

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
GREYS = COLOURS[..., 0]


def read(folder, content, name="a.png"):
    (folder / name).write_bytes(content)
    return readers.picture(folder / name)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
    ],
)
def test_lossless_formats(tmp_path, form, options):
    assert np.array_equal(
        read(tmp_path, picture(COLOURS, form, **options)), COLOURS.transpose(2, 0, 1)
    )
    grey = read(tmp_path, picture(GREYS, form, **options))
    assert np.array_equal(grey[0], GREYS)


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_photographs(tmp_path, form):
    smooth = np.full((16, 16, 3), 100, np.uint8)
    options = (
        {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if form == "MPO" else {}
    )
    a = read(tmp_path, picture(smooth, form, **options), "a.jpg")
    assert a.shape == (3, 16, 16)
    assert np.abs(a.astype(int) - 100).max() <= 2


def test_what_the_file_is_called_does_not_matter(tmp_path):
    smooth = np.full((8, 8, 3), 100, np.uint8)
    assert read(tmp_path, picture(smooth, "JPEG"), "a.png").shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_modes(tmp_path, mode):
    a = read(tmp_path, picture(COLOURS, "TIFF", mode))
    expected = Image.fromarray(COLOURS).convert(mode).convert("L" if mode in "1L" else "RGB")
    expected = np.atleast_3d(np.asarray(expected)).transpose(2, 0, 1)
    assert np.array_equal(a, expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_an_opaque_alpha_is_no_loss_and_another_is_refused(tmp_path, mode):
    image = Image.fromarray(COLOURS).convert(mode)
    for alpha, options in ((255, {}), (254, {"transparency": bytes([9]) * 256})):
        if mode != "P":
            image.putalpha(alpha)
        file = io.BytesIO()
        image.save(file, "PNG", **(options if mode == "P" else {}))
        if alpha == 255:
            expected = np.atleast_3d(np.asarray(image.convert("L" if mode == "LA" else "RGB")))
            assert np.array_equal(read(tmp_path, file.getvalue()), expected.transpose(2, 0, 1))
        else:
            with pytest.raises(ValueError, match="transparent pixels"):
                read(tmp_path, file.getvalue())


TURNED = {  # of the upright picture, how it lies in a file of this orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
    9: lambda a: a,
    0: lambda a: a,
}


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_turned_photograph_is_read_upright(tmp_path, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if form == "WEBP" else {}
    lying = np.ascontiguousarray(TURNED[orientation](GREYS))
    content = picture(lying, form, "RGB", exif=exif, **lossless)
    assert np.array_equal(read(tmp_path, content), np.stack([GREYS] * 3))


def test_damaged_notes_do_not_spoil_a_photograph(tmp_path):
    smooth = np.full((8, 8, 3), 100, np.uint8)
    content = picture(smooth, "JPEG", exif=b"Exif\0\0" + b"rubbish" * 9)
    assert read(tmp_path, content, "a.jpg").shape == (3, 8, 8)


def test_no_format_is_tried_that_starts_a_program(tmp_path, monkeypatch):
    def started(*args, **kwargs):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    for name in ("a.png", "a.eps", "a.jpg"):
        with pytest.raises(ValueError, match="none of PNG"):
            read(tmp_path, script, name)


def test_the_limit_of_pixels_is_ours_and_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # Pillow's
    assert read(tmp_path, picture(COLOURS)).shape == (3, 6, 5)
    assert Image.MAX_IMAGE_PIXELS == 1
    monkeypatch.setenv("SPARRING_MAX_PIXELS", "29")
    with pytest.raises(ValueError, match=r"6 × 5 pixels: at most 29 .* SPARRING_MAX_PIXELS"):
        read(tmp_path, picture(COLOURS))
    assert Image.MAX_IMAGE_PIXELS == 1


def save(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(COLOURS))


def test_hidden_files_and_folders_are_no_pictures(tmp_path):
    save(*(tmp_path / name / "0.png" for name in ("a", "b", ".git", "__MACOSX", "a/.thumbnails")))
    for name in ("a/._0.png", "b/.1.png", "a/.DS_Store", "b/Thumbs.db", "._a"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, _, names = readers.folder(tmp_path)
    assert (len(x), names) == (2, ["a", "b"])


@pytest.mark.parametrize("where", ["a/more", "a/more/still", "b/more", "."])
def test_pictures_that_are_not_read_are_counted(tmp_path, where):
    save(*(tmp_path / name / "0.png" for name in ("a", "b")))
    save(*(tmp_path / where / f"x{k}.png" for k in range(3)))
    with pytest.warns(SparringWarning, match="3 pictures are not read"):
        assert len(readers.folder(tmp_path)[0]) == 2


def test_a_folder_beside_the_splits_is_announced(tmp_path):
    save(*(tmp_path / split / name / "0.png" for split in ("train", "testing") for name in "ab"))
    with pytest.warns(SparringWarning, match="testing is not read: beside train, only test, val"):
        files.pictures(tmp_path)


def test_links_to_pictures_are_followed_and_circles_are_not(tmp_path):
    save(tmp_path / "t" / "a" / "0.png", tmp_path / "elsewhere" / "1.png")
    (tmp_path / "t" / "a" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "t" / "a" / "circle").symlink_to(tmp_path / "t")
    (tmp_path / "t" / "b").symlink_to(tmp_path / "elsewhere")
    x, y, _ = readers.folder(tmp_path / "t")
    assert (len(x), y.tolist()) == (3, [0, 0, 1])


def test_a_grey_picture_beside_colours_has_three_equal_channels(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for k in range(10):
        (tmp_path / "a" / f"{k}.png").write_bytes(picture(GREYS))
        (tmp_path / "b" / f"{k}.png").write_bytes(picture(COLOURS))
    assert data.load(tmp_path).shape == (3, 6, 5)
    assert set(pictures.PICTURES) >= {".png", ".jpg", ".webp"}
