"""Small convolutional networks: those of the MNIST literature, and one for CIFAR on a CPU.

All take images of any size that their strides allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from ..component import require
from .base import image_shape, stages

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(math.gcd(channels, 8), channels),
    "none": nn.Identity,
}


def _conv_relu(
    i: int, first: int, out: int, *, padding: int = 0, stride: int = 1
) -> dict[str, nn.Module]:
    return {f"conv{i}": nn.Conv2d(first, out, 3, stride, padding), f"relu{i}": nn.ReLU()}


def mnist_net(*, shape: Sequence[int], classes: int, hidden: int = 100) -> nn.Sequential:
    """Build four padded convolutions and two linear layers; 379,702 parameters on MNIST.

    The second and the fourth convolution stride by 2.

    Source: the MNIST scripts of ARMOR (Birrell and Ebrahimi 2023).

    >>> sum(p.numel() for p in mnist_net(shape=(1, 28, 28), classes=10).parameters())
    379702
    """
    channels, height, width = image_shape(shape)
    flat = 64 * -(-height // 4) * -(-width // 4)
    return stages(
        **_conv_relu(1, channels, 32, padding=1),
        **_conv_relu(2, 32, 32, padding=1, stride=2),
        **_conv_relu(3, 32, 64, padding=1),
        **_conv_relu(4, 64, 64, padding=1, stride=2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, hidden),
        relu5=nn.ReLU(),
        fc2=nn.Linear(hidden, classes),
    )


def conv_small(
    *, shape: Sequence[int], classes: int, width: int = 16, hidden: int = 100
) -> nn.Sequential:
    """Build two 4×4 convolutions of stride 2 and two linear layers; 166,406 parameters on MNIST.

    A pass of it costs a CPU without matrix units about a tenth of one of `mnist_net`.

    Arguments:
        width: channels of the first convolution; the second has twice as many.

    Source: the MNIST network of Wong, Rice and Kolter 2020.

    >>> sum(p.numel() for p in conv_small(shape=(1, 28, 28), classes=10).parameters())
    166406
    """
    channels, height, width_in = image_shape(shape, least=4)
    flat = 2 * width * (height // 2 // 2) * (width_in // 2 // 2)
    return stages(
        conv1=nn.Conv2d(channels, width, 4, 2, 1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(width, 2 * width, 4, 2, 1),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, hidden),
        relu3=nn.ReLU(),
        fc2=nn.Linear(hidden, classes),
    )


def small_cnn(*, shape: Sequence[int], classes: int, drop: float = 0.5) -> nn.Sequential:
    """Build four convolutions, two max-pools and three linear layers; 312,202 parameters on MNIST.

    The last layer starts at zero, and so do gradients with respect to the input.

    Source: SmallCNN of TRADES (Zhang et al. 2019), with its initialisation.

    >>> sum(p.numel() for p in small_cnn(shape=(1, 28, 28), classes=10).parameters())
    312202
    """
    channels, height, width = image_shape(shape, least=16)
    flat = 64 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    model = stages(
        **_conv_relu(1, channels, 32),
        **_conv_relu(2, 32, 32),
        maxpool1=nn.MaxPool2d(2),
        **_conv_relu(3, 32, 64),
        **_conv_relu(4, 64, 64),
        maxpool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, 200),
        relu5=nn.ReLU(),
        drop=nn.Dropout(drop),
        fc2=nn.Linear(200, 200),
        relu6=nn.ReLU(),
        fc3=nn.Linear(200, classes),
    )
    for module in model:
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    for tensor in model[-1].parameters():
        nn.init.zeros_(tensor)
    return model


def lenet(*, shape: Sequence[int], classes: int, activation: str = "relu") -> nn.Sequential:
    """Build LeNet-5 with max-pooling; 61,706 parameters on MNIST.

    Arguments:
        activation: `"relu"`, `"sigmoid"` (Paknezhad et al. 2022) or `"tanh"`.

    Source: LeCun et al. 1998; the padding of 2 makes 28×28 its 32×32.

    >>> sum(p.numel() for p in lenet(shape=(1, 28, 28), classes=10).parameters())
    61706
    """
    channels, height, width = image_shape(shape, least=12)
    require(activation in ACTIVATIONS, "activation", activation, "one of " + ", ".join(ACTIVATIONS))
    act = ACTIVATIONS[activation]
    flat = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
    return stages(
        conv1=nn.Conv2d(channels, 6, 5, padding=2),
        **{f"{activation}1": act()},
        maxpool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        **{f"{activation}2": act()},
        maxpool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, 120),
        **{f"{activation}3": act()},
        fc2=nn.Linear(120, 84),
        **{f"{activation}4": act()},
        fc3=nn.Linear(84, classes),
    )


def cifar_net(
    *, shape: Sequence[int], classes: int, width: int = 32, norm: str = "batch"
) -> nn.Sequential:
    """Build six normalised convolutions of (1, 2, 4, 4, 8, 8) × width channels for small images.

    On CIFAR-10: 1,131,050 parameters and 34 M multiplications (ResNet-18: 555 M). The first
    convolution is 5×5; the first, third and fifth stride by 2; the last map is averaged.

    Arguments:
        norm: `"batch"`, `"group"` (up to 8 groups), or `"none"`.

    >>> sum(p.numel() for p in cifar_net(shape=(3, 32, 32), classes=10).parameters())
    1131050
    """
    channels, _, _ = image_shape(shape)
    require(width >= 1, "width", width, "at least 1")
    require(norm in NORMS, "norm", norm, "one of " + ", ".join(NORMS))
    parts: dict[str, nn.Module] = {}
    for i, factor in enumerate((1, 2, 4, 4, 8, 8), start=1):
        out, side, stride = factor * width, 5 if i == 1 else 3, 1 + i % 2
        conv = nn.Conv2d(channels, out, side, stride, side // 2, bias=norm == "none")
        parts |= {f"conv{i}": conv, f"norm{i}": NORMS[norm](out), f"relu{i}": nn.ReLU()}
        channels = out
    head = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return stages(**parts, **head, linear=nn.Linear(channels, classes))
