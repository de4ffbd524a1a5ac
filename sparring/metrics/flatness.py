"""Measure how flat the softmax is, on the data and on other data sets."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..batch import Model
from ..component import require
from ..introspect import freeze
from .base import Metric, chunked_logits


class Entropy(Metric):
    """Compute the entropy of the softmax, −Σ_k p_k·log p_k / log K: 1 if flat, 0 if certain.

    Source: Paknezhad et al. 2022, who feed samples of other data sets. Differs: they tabulate the
    probability per class, as `profile` does.

    >>> Entropy()(lambda x: x, torch.tensor([[0.5, 0.5]]))
    tensor([1.])
    """

    paper = "paknezhad2022sparsity"
    unit = "share of log K"
    off = True
    labels = False

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        logits = chunked_logits(model, x)
        return torch.special.entr(logits.softmax(1)).sum(1) / math.log(logits.shape[1])


class MaxSoftmax(Metric):
    """Compute the model's confidence, max_k p_k: 1/K where the softmax is flat.

    Source: Hendrycks and Gimpel 2017, sec. 3.

    >>> MaxSoftmax()(lambda x: x, torch.tensor([[0.5, 0.5]]))
    tensor([0.5000])
    """

    paper = "hendrycks2017baseline"
    unit = "probability"
    better = "lower"
    off = True
    labels = False

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return chunked_logits(model, x).softmax(1).amax(1)


class Profile(NamedTuple):
    """Hold mean and standard deviation `(k,)` of each class's probability, over samples."""

    mean: Tensor
    std: Tensor


def profile(model: Model, x: Tensor) -> Profile:
    """Average the softmax per class over samples `x (n, *d)`: flat is 1/K everywhere.

    Source: Paknezhad et al. 2022 (off-support test).

    >>> profile(lambda x: x, torch.tensor([[0.5, 0.5], [0.5, 0.5]])).mean
    tensor([0.5000, 0.5000])
    """
    with freeze.frozen(model, "eval") as run, torch.no_grad():
        p = chunked_logits(run, x).softmax(1)
    return Profile(p.mean(0), p.std(0, correction=0))


def as_shape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Convert images `(n, c, h, w)` to another `shape (c', h', w')` of a sample.

    Grey is the mean of the colours, colours repeat grey, and the size changes bilinearly.

    Raises:
        ValueError: if either shape is not an image of 1 or 3 channels.

    >>> as_shape(torch.rand(2, 3, 32, 32), (1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """
    if tuple(x.shape[1:]) == tuple(shape):
        return x
    ok = x.ndim == 4 and len(shape) == 3 and {x.shape[1], shape[0]} <= {1, 3}
    require(ok, "off", tuple(x.shape[1:]), f"of shape {tuple(shape)}, or images of 1 or 3 channels")
    if x.shape[1] > shape[0]:
        x = x.mean(1, keepdim=True)
    x = x.expand(-1, shape[0], -1, -1)
    if x.shape[2:] == shape[1:]:
        return x.contiguous()
    out = F.interpolate(x, shape[1:], mode="bilinear", antialias=True)
    # rounding may leave [0, 1] or, of data of another box, the range that they have
    least, most = (float(t) for t in torch.aminmax(x)) if x.numel() else (0.0, 1.0)
    return out.clamp(min(0.0, least), max(1.0, most))
