"""XResNet-18 in a ResNeXt form: grouped convolutions, squeeze and excitation, Mish, blurs.

No layer mixes the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..component import require
from .base import image_shape, residual_layers, stages


class BlurPool(nn.Module):
    """Halve the sides, rounded up, after a binomial blur [1, 2, 1]/4 both ways, edges reflected.

    Source: Zhang 2019, "Making convolutional networks shift-invariant again".

    >>> BlurPool()(torch.ones(1, 2, 5, 4)).shape
    torch.Size([1, 2, 3, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
        kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class Excite(nn.Module):
    """Scale each channel by one factor: x · sigmoid(W₂ mish(W₁ mean(x))).

    Source: Hu et al. 2018, "Squeeze-and-excitation networks", with Mish.
    """

    def __init__(self, width: int, *, reduce: int = 16) -> None:
        super().__init__()
        inner = max(width // reduce, 1)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.mish(self.fc1(x.mean((2, 3))))).sigmoid()[:, :, None, None]


def _norm(width: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(width, affine=True)


class NextBlock(nn.Module):
    """Add two convolutions, twice as wide inside, to a skip.
    mish( excite(norm₂(grouped conv₂(mish(norm₁(conv₁(x)))))) + skip(x) ). A stride is a blur: after
    conv₁, and before the skip's 1×1 convolution."""

    def __init__(self, first: int, out: int, *, stride: int, groups: int) -> None:
        super().__init__()
        blur = [BlurPool()] if stride == 2 else []
        self.body = nn.Sequential(
            *(nn.Conv2d(first, 2 * out, 3, padding=1, bias=False), *blur, _norm(2 * out)),
            nn.Mish(),
            *(nn.Conv2d(2 * out, out, 3, padding=1, groups=groups, bias=False), _norm(out)),
            Excite(out),
        )
        skip = [*blur, nn.Conv2d(first, out, 1, bias=False), _norm(out)]
        self.skip = nn.Sequential(*(skip if stride != 1 or first != out else []))

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(self.body(x) + self.skip(x))


def xresnet18(
    *, shape: Sequence[int], classes: int, width: int = 64, groups: int = 32, drop: float = 0.2
) -> nn.Sequential:
    """Build a stem of three convolutions and four layers of two blocks; 10,137,186 parameters.

    Sides shrink 32 times, so images need more than 32 pixels a side.

    Arguments:
        width: channels of the first layer; the others have 2, 4, 8 times as many.
        groups: of the second convolution of each block; it must divide `width`.

    Source: the Imagenette network of Paknezhad et al. 2022, in the form of their code: He et al.
    2019, "Bag of tricks", and Xie et al. 2017, "Aggregated residual transformations".

    >>> sum(p.numel() for p in xresnet18(shape=(3, 128, 128), classes=10).parameters())
    10137186
    """
    channels, _, _ = image_shape(shape, least=33)
    ok = groups >= 1 and width >= 2 and width % groups == 0 and width % 2 == 0
    require(ok, "groups", groups, f"a divisor of width = {width}, which must be even")
    half = width // 2

    def stem(first: int, out: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(first, out, 3, stride=stride, padding=1, bias=False)
        return nn.Sequential(conv, _norm(out), nn.ReLU())

    layers = residual_layers(NextBlock, width, groups=groups)  # built first: the order of draws
    return stages(
        conv1=stem(channels, half, 2),
        conv2=stem(half, half, 1),
        conv3=stem(half, width, 1),
        pool1=nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), BlurPool()),
        **layers,
        pool2=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        drop=nn.Dropout(drop),
        fc=nn.Linear(8 * width, classes),
    )
