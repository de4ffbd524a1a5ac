"""Residual networks with a 3×3 stem for small images, and the field's parameter names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .base import PreActBlock, image_shape, residual_layers, stages


class BasicBlock(nn.Module):
    """Residual block: relu( bn₂(conv₂(relu(bn₁(conv₁(x))))) + (x, or bn(conv₁ₓ₁(x))) )."""

    def __init__(self, first: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(first, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or first != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(first, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def resnet18(*, shape: Sequence[int], classes: int, width: int = 64) -> nn.Sequential:
    """Build ResNet-18 with a 3×3 stem and no max-pool; 11,173,962 parameters on CIFAR-10.

    Source: He et al. 2016, "Deep residual learning", in the form of MART's and AWP's code.

    >>> sum(p.numel() for p in resnet18(shape=(3, 32, 32), classes=10).parameters())
    11173962
    """
    channels, _, _ = image_shape(shape)
    return stages(
        conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
        **residual_layers(BasicBlock, width),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(8 * width, classes),
    )


def preact_resnet18(*, shape: Sequence[int], classes: int, width: int = 64) -> nn.Sequential:
    """Build PreActResNet-18 with a last batch norm; 11,172,170 parameters on CIFAR-10.

    Source: He et al. 2016, "Identity mappings", in the form of Rice et al. 2020.

    >>> sum(p.numel() for p in preact_resnet18(shape=(3, 32, 32), classes=10).parameters())
    11172170
    """
    channels, _, _ = image_shape(shape)
    return stages(
        conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False),
        **residual_layers(PreActBlock, width),
        bn=nn.BatchNorm2d(8 * width),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(8 * width, classes),
    )
