"""A detector that an attacker cannot evade by adding features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..component import require
from .base import stages


class NonNegative(nn.Linear):
    """Apply a linear layer with weights |W| ≥ 0: each output is non-decreasing in each input."""

    def reset_parameters(self) -> None:
        """Draw weights uniformly on [0, 1/√inputs]; set biases to 0."""
        # larger than torch's default: a few ones among hundreds of zeros must change the output
        nn.init.uniform_(self.weight, 0, 1 / self.in_features**0.5)
        nn.init.constant_(self.bias, 0)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.abs(), self.bias)


class Bends(nn.Module):
    """Apply max(0, h), min(0, h) and tanh h, each to a third of the units; all are non-decreasing.

    One is convex, one concave, one bounded: with convex ones alone the whole net would be convex.
    """

    def forward(self, h: Tensor) -> Tensor:
        up, down, both = h.tensor_split(3, 1)
        return torch.cat([up.clamp_min(0), down.clamp_max(0), both.tanh()], 1)


class SpeakForBenign(nn.Module):
    """Turn the `count` bits of highest score in `x (b, d)` around: x_j ↦ 1 − x_j. A monotone net
    on top never rises with them, so they may speak for class 0.

    The choice has no gradient, so the backward pass takes that of sigmoid(score) in its place, and
    the training learns the list.
    """

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.score = nn.Parameter(torch.empty(inputs))
        # a random list to begin with; gradients of the first epoch outweigh it
        nn.init.uniform_(self.score, -0.01, 0.01)

    def features(self) -> list[int]:
        """Return the numbers of the features in the list, in order."""
        return self._chosen().nonzero()[:, 0].tolist()

    def forward(self, x: Tensor) -> Tensor:
        soft = self.score.sigmoid()
        turned = self._chosen().to(x.dtype) + (soft - soft.detach()).to(x.dtype)
        return x + turned * (1 - 2 * x)

    def _chosen(self) -> Tensor:
        chosen = torch.zeros_like(self.score, dtype=torch.bool)
        return chosen.scatter(0, self.score.topk(self.count).indices, True)


class MonotoneLogits(nn.Module):
    """One score g as two logits, (−g/2, g/2)."""

    def _get_name(self) -> str:
        return "Difference"  # its first name: the fingerprint of a model covers its repr

    def forward(self, g: Tensor) -> Tensor:
        return torch.cat([-g, g], 1) / 2


def monotone(
    *,
    shape: Sequence[int],
    classes: int = 2,
    hidden: Sequence[int] = (300, 300),
    benign: int | None = None,
) -> nn.Sequential:
    """Build a monotone network: its score of class 1 never falls when a feature rises.

    Without `benign`, an attacker who only adds features cannot turn class 1 into class 0. So its
    accuracy on class 1 under `Bits(add_only=True)` is provably its clean accuracy.

    Arguments:
        benign: number of features that may speak for class 0, ≥ 1; the training learns which. An
            attacker who adds all of them has found the worst case of an unlimited budget, so train
            against one. `model.benign.features()` lists them.

    Raises:
        ValueError: for other than two classes; for `benign` below 1 or above the features.

    Source: Fleshman et al. 2019 for the non-negative weights; Runje and Shankaranarayana 2023 for
    several bends, without which such a net is convex.

    >>> net = monotone(shape=(3,), hidden=[6])
    >>> z = net(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]))
    >>> bool(z[1, 1] - z[1, 0] >= z[0, 1] - z[0, 0])
    True
    """
    require(classes == 2, "classes", classes, "2: it scores one class against another")
    require(all(h > 0 for h in hidden), "hidden", tuple(hidden), "widths above 0")
    sizes = [math.prod(shape), *hidden]
    body: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    if benign is not None:
        allowed = f"1 to {sizes[0]}, the number of features"
        require(1 <= benign <= sizes[0], "benign", benign, allowed)
        body["benign"] = SpeakForBenign(sizes[0], benign)
    for i in range(1, len(sizes)):
        body |= {f"linear{i}": NonNegative(sizes[i - 1], sizes[i]), f"bends{i}": Bends()}
    return stages(**body, linear=NonNegative(sizes[-1], 1), difference=MonotoneLogits())
