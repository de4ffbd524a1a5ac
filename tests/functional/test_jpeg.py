"""The JPEG with a gradient against Pillow's, on real pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sparring.functional.jpeg import jpeg_round_trip, resize_round_trip, resized_sides


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    china, flower = load_sample_images().images
    return [china[:200, :301], flower[100:333, 50:350], china[150:182, 300:332]]


def tensor(pixels: np.ndarray) -> torch.Tensor:
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(planes.copy())[None].float() / 255


def difference(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Differences of our JPEG and Pillow's, in levels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    theirs = tensor(np.asarray(Image.open(file)))
    return ((jpeg_round_trip(tensor(pixels), quality) - theirs).abs() * 255).numpy()


@pytest.mark.parametrize("quality", [100, 95, 75, 50, 10])
def test_a_picture_comes_back_as_from_pillow(crops, quality):
    for pixels in crops:
        off = difference(pixels, quality)
        # a coefficient that both round differently moves its block by up to half a step
        assert off.mean() < 1.2
        assert np.quantile(off, 0.9) < 4.5
        grey = difference(np.asarray(Image.fromarray(pixels).convert("L")), quality)
        assert grey.mean() < 0.6
        assert np.quantile(grey, 0.9) <= 2


def test_what_is_lost_is_what_pillow_loses(crops):
    """The loss by our JPEG is that of Pillow's, far more than the difference of the two."""
    pixels = crops[0]
    lost = (jpeg_round_trip(tensor(pixels), 50) - tensor(pixels)).abs().mean() * 255
    assert lost > 8 * difference(pixels, 50).mean()


def test_the_gradient_is_that_of_the_expectation():
    """A constant added to a picture comes back; a change that quantization removes, does not."""
    x = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    x.requires_grad_()
    (grad,) = torch.autograd.grad(jpeg_round_trip(x, 75).sum(), x)
    assert torch.allclose(grad.mean(), torch.tensor(1.0), atol=0.02)
    assert grad.isfinite().all()
    (grad,) = torch.autograd.grad(resize_round_trip(x, 0.5).sum(), x)
    assert torch.allclose(grad.mean(), torch.tensor(1.0), atol=0.02)


@pytest.mark.parametrize("sides", [(1, 1), (7, 9), (16, 16), (17, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_keeps_its_shape_and_rows_are_independent(sides, channels):
    x = torch.rand(3, channels, *sides, generator=torch.Generator().manual_seed(1))
    z = jpeg_round_trip(x, 80)
    assert z.shape == x.shape
    assert torch.equal((z * 255).round() / 255, z)
    for i in range(3):
        assert torch.equal(jpeg_round_trip(x[i : i + 1], 80)[0], z[i])


@pytest.mark.parametrize("factor", [0.5, 0.75, 2.0])
def test_resizing_there_and_back_is_pillows(crops, factor):
    for pixels in crops:
        image = Image.fromarray(pixels)
        height, width = resized_sides(image.height, image.width, factor)
        small = image.resize((width, height), Image.Resampling.BICUBIC)
        theirs = tensor(np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)))
        off = (resize_round_trip(tensor(pixels), factor) - theirs).abs() * 255
        assert off.max() < 3.5
        assert off.mean() < 0.05


@pytest.mark.parametrize("quality", [0, 101])
def test_other_qualities_are_refused(quality):
    with pytest.raises(ValueError, match="quality"):
        jpeg_round_trip(torch.zeros(1, 1, 8, 8), quality)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"pictures \(b, 1 or 3, h, w\)"):
        jpeg_round_trip(torch.zeros(1, 2, 8, 8), 75)
    with pytest.raises(ValueError, match="factor"):
        resize_round_trip(torch.zeros(1, 1, 8, 8), 0.0)
