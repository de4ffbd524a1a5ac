"""Small convolutional networks of the MNIST literature, for images of any workable size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..part import require
from .base import image, stages


def mnist_net(*, shape: Sequence[int], classes: int, hidden: int = 100) -> nn.Sequential:
    """Four padded convolutions, two strided, two linear layers: 379,702 parameters on MNIST.

    Source: the MNIST scripts of ARMOR (Birrell and Ebrahimi 2023).

    >>> sum(p.numel() for p in mnist_net(shape=(1, 28, 28), classes=10).parameters())
    379702
    """
    channels, height, width = image(shape)
    flat = 64 * -(-height // 4) * -(-width // 4)
    return stages(
        conv1=nn.Conv2d(channels, 32, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(32, 32, 3, padding=1, stride=2),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(32, 64, 3, padding=1),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(64, 64, 3, padding=1, stride=2),
        relu4=nn.ReLU(),
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, hidden),
        relu5=nn.ReLU(),
        fc2=nn.Linear(hidden, classes),
    )


def small_cnn(*, shape: Sequence[int], classes: int, drop: float = 0.5) -> nn.Sequential:
    """Four bare convolutions, two max-pools, three linear layers: 312,202 parameters on MNIST.

    The last layer starts at zero, so gradients with respect to the input do too.

    Source: SmallCNN of TRADES (Zhang et al. 2019), with its initialisation.

    >>> sum(p.numel() for p in small_cnn(shape=(1, 28, 28), classes=10).parameters())
    312202
    """
    channels, height, width = image(shape, least=16)
    flat = 64 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    model = stages(
        conv1=nn.Conv2d(channels, 32, 3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(32, 32, 3),
        relu2=nn.ReLU(),
        maxpool1=nn.MaxPool2d(2),
        conv3=nn.Conv2d(32, 64, 3),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(64, 64, 3),
        relu4=nn.ReLU(),
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


ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def lenet(*, shape: Sequence[int], classes: int, activation: str = "relu") -> nn.Sequential:
    """LeNet-5 with max-pooling: 61,706 parameters on MNIST.

    Arguments:
        activation: `"relu"`, `"sigmoid"` (Paknezhad et al. 2022) or `"tanh"`.

    Source: LeCun et al. 1998; the padding of 2 makes 28×28 its 32×32.

    >>> sum(p.numel() for p in lenet(shape=(1, 28, 28), classes=10).parameters())
    61706
    """
    channels, height, width = image(shape, least=12)
    known = ", ".join(ACTIVATIONS)
    require(activation in ACTIVATIONS, "activation", activation, f"one of {known}")
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
