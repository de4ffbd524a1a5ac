"""ResNet-9 with instance norm and CELU: the rows of a batch do not influence each other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .base import image_shape, stages


def _unit(first: int, out: int) -> list[nn.Module]:
    """Return conv₃ₓ₃ with bias, instance norm without weights, CELU."""
    return [nn.Conv2d(first, out, 3, padding=1), nn.InstanceNorm2d(out), nn.CELU()]


class Residual(nn.Module):
    """Add two units, each a convolution, a norm and a CELU, to x: x + unit₂(unit₁(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.units = nn.Sequential(*_unit(width, width), *_unit(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.units(x)


def resnet9(*, shape: Sequence[int], classes: int, width: int = 32) -> nn.Sequential:
    """Build nine layers of (1, 2, 4, 16) × width channels; 5,777,354 parameters on CIFAR-10.

    Source: the CIFAR-10 network of Paknezhad et al. 2022. Differs: the last max-pool covers the
    whole remaining map, which is 8×8 for theirs.

    >>> sum(p.numel() for p in resnet9(shape=(3, 32, 32), classes=10).parameters())
    5777354
    """
    channels, _, _ = image_shape(shape, least=8)
    return stages(
        prep=nn.Sequential(*_unit(channels, width)),
        block1=nn.Sequential(*_unit(width, 2 * width), nn.MaxPool2d(2)),
        residual1=Residual(2 * width),
        block2=nn.Sequential(*_unit(2 * width, 4 * width), nn.MaxPool2d(2)),
        residual2=Residual(4 * width),
        block3=nn.Sequential(*_unit(4 * width, 16 * width)),
        residual3=Residual(16 * width),
        pool=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(16 * width, classes),
    )
