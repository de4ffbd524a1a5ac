"""Measure the distance to the nearest wrong point by DeepFool: an upper bound of the true one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..attacks import DeepFool
from ..batch import Model
from ..component import require, require_at_least
from ..functional.geometry import broadcast_scale, channel_scale, norm
from ..threats import L2, norm_ball
from .base import Metric

UNBOUNDED = 1e4  # in standardised units, as good as no box
Map = Callable[[Tensor], Tensor]
SPACES = ("pixel", "standardised")


class Distance(Metric):
    """Compute the distance to the wrong point that DeepFool finds.
    ‖x' − x‖_p of the point x' in the box, brought back towards x by bisection: 0 where x itself is
    wrong, NaN where DeepFool finds none.

    It is an upper bound of the least distance to a wrong point; exact for a linear model.

    Arguments:
        norm: `"L2"` or `"Linf"`.
        steps, overshoot, classes: DeepFool's.
        halvings: of the bisection, a forward pass each; 0 gives DeepFool's own distance.

    Source: Moosavi-Dezfooli et al. 2016, eq. 1. Differs: they do not bisect; steps that fill up
    the box go well beyond the boundary.

    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> Distance(norm="Linf")(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([0.0500])
    """

    paper = "moosavi2016deepfool"
    unit = "input units"

    def __init__(
        self,
        *,
        norm: str = "L2",
        steps: int = 50,
        overshoot: float = 0.02,
        classes: int = 10,
        halvings: int = 10,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(low=low, high=high)
        require(norm in ("L2", "Linf"), "norm", norm, "L2 or Linf")
        require_at_least(0, halvings=halvings)
        self.norm, self.steps, self.overshoot, self.classes = norm, steps, overshoot, classes
        self.halvings = halvings
        ball = norm_ball(norm, eps=0.0, low=low, high=high)
        self.attack = DeepFool(ball, steps=steps, overshoot=overshoot, classes=classes)

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        point, far = self.attack.distances(model, x, y)
        share = wrong_from(model, x, point, y, self.halvings)
        return torch.where(far < torch.inf, share * far, torch.nan)


def wrong_from(model: Model, x: Tensor, point: Tensor, y: Tensor, halvings: int) -> Tensor:
    """Find by bisection where the model turns wrong between x and a wrong point: a share t `(b,)`.
    x + t·(point − x) is wrong, and right at t − 2^−halvings: one such crossing, not always first.

    >>> x, point = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    >>> wrong_from(lambda z: z + torch.tensor([0.0, 0.3]), x, point, torch.tensor([1]), 2)
    tensor([0.5000])
    """
    low, high = x.new_zeros(len(x)), x.new_ones(len(x))
    for _ in range(halvings):
        middle = (low + high) / 2
        wrong = model(x + broadcast_scale(middle, x) * (point - x)).argmax(1) != y
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return high


class RhoAdv(Metric):
    """Compute the relative size ρ(x) = ‖r‖₂ / ‖x‖₂ of DeepFool's L2 perturbation r.

    It starts from the prediction, not the label, so misclassified samples count too. NaN where
    x = 0.

    Arguments:
        space: where both norms are taken and DeepFool walks: `"pixel"`, the model's inputs, within
            the box; or `"standardised"`, behind the model's own normalisation and without a box, as
            in the published code.
        failures: where DeepFool fails, count the full perturbation; else the value is NaN.
        steps, overshoot, classes: DeepFool's; the published code takes 23 steps for MNIST, 9 for
            CIFAR-10, 4 for Imagenette.

    Source: Moosavi-Dezfooli et al. 2016, eq. 15; Paknezhad et al. 2022 for its settings. Differs:
    their code makes each step 1e-4 longer, which changes means by 8e-4 and single rows by up to
    7 %.

    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> RhoAdv()(model, torch.full((1, 2), 0.5))
    tensor([0.1020])
    """

    paper = "moosavi2016deepfool"
    unit = "share of ‖x‖₂"
    labels = False

    def __init__(
        self,
        *,
        space: str = "pixel",
        failures: bool = True,
        steps: int = 50,
        overshoot: float = 0.02,
        classes: int = 10,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(low=low, high=high)
        require(space in SPACES, "space", space, "one of " + ", ".join(SPACES))
        self.space, self.failures = space, failures
        self.steps, self.overshoot, self.classes = steps, overshoot, classes
        box = (low, high) if space == "pixel" else (-UNBOUNDED, UNBOUNDED)
        ball = L2(0.0, low=box[0], high=box[1])
        self.attack = DeepFool(ball, steps=steps, overshoot=overshoot, classes=classes)

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        f, u = model, x
        if self.space == "standardised":
            into, back = standardised(model)
            f, u = (lambda v: model(back(v))), into(x)
        end, changed = self.attack.walk(f, u, f(u).argmax(1))
        share = norm(end - u, 2) / norm(u, 2)
        keep = torch.isfinite(share) & (changed | self.failures)
        return torch.where(keep, share, torch.nan)


def standardised(model: Model) -> tuple[Map, Map]:
    """Return two maps: from inputs to normalised inputs, and back.

    Raises:
        ValueError: if the model has no stage with `mean` and `std`.
    """
    for stage in model.modules() if isinstance(model, nn.Module) else ():
        mean, std = getattr(stage, "mean", None), getattr(stage, "std", None)
        if isinstance(mean, Tensor) and isinstance(std, Tensor):
            return _maps(mean, std)
    raise ValueError(
        "space = 'standardised' needs a model with its normalisation inside, a stage with mean "
        "and std, as model.mean and model.std of a recipe give; else space is 'pixel'"
    )


def _maps(mean: Tensor, std: Tensor) -> tuple[Map, Map]:
    return (
        lambda x: (x - channel_scale(mean, x)) / channel_scale(std, x),
        lambda u: u * channel_scale(std, u) + channel_scale(mean, u),
    )
