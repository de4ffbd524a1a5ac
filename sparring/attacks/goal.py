"""The goal of an attack on one label as a model of its own, so that any attack can pursue it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..batch import Model
from ..component import require
from ..functional.rounding import straight_through
from ..introspect.predict import has_class

Transform = Callable[[Tensor], Tensor]  # of inputs (b, *d) to inputs


class Goal(nn.Module):
    """Return logits whose arg max leaves the label exactly where the adversary has its goal.

    An attack that leaves a label then pursues a target class, a success that outlasts several
    transformations, or a lead of some logits; it needs no argument for that, nor a gradient.

    untargeted: column k is z_k − z_label, for all k; the label to attack is `label`
    targeted: columns (0, m) with m = z_target − max_{k≠target} z_k; the label to attack is 0

    Over transformations the value is the smallest and the gradient the mean's: a success is one
    under all of them, and each step follows the expectation over them (EOT). Their set is finite,
    so that the expectation is computed exactly, not drawn.

    Arguments:
        model: inputs `(b, *d)` to logits `(b, k)`.
        label: the class to leave.
        target: the class to reach; default: any but `label`.
        transforms: each a function of inputs; default: none but the inputs as they are.
        lead: logits by which the wrong class must lead.

    Source: Athalye et al. 2018 (EOT), sec. 3. Differs: the transformations are a finite set, and
    the point is judged by the worst of them.

    >>> z = torch.tensor([[3.0, 1.0, 0.0]])
    >>> Goal(lambda x: x, 0)(z), Goal(lambda x: x, 0, lead=1.0)(z)
    (tensor([[ 0., -2., -3.]]), tensor([[ 0., -3., -4.]]))
    >>> Goal(lambda x: x, 0, target=2)(z).argmax(1), Goal(lambda x: x, 0, target=0)(z).argmax(1)
    (tensor([0]), tensor([1]))
    """

    def __init__(
        self,
        model: Model,
        label: int,
        *,
        target: int | None = None,
        transforms: Sequence[Transform] = (),
        lead: float = 0.0,
    ) -> None:
        super().__init__()
        require(0 <= lead < math.inf, "lead", lead, "a number of logits ≥ 0, not infinite")
        self.model, self.label, self.target, self.lead = model, label, target, lead
        self.transforms = [lambda x: x, *transforms]

    @property
    def attacked_label(self) -> int:
        """Return the label to hand to an attack on this goal."""
        return self.label if self.target is None else 0

    def forward(self, x: Tensor) -> Tensor:
        parts = [self._advantages(self.model(change(x))) for change in self.transforms]
        together = torch.stack(parts)
        z = straight_through(together.mean(0), together.detach().amin(0))
        if len(parts) == 1:
            z = parts[0]
        others = torch.arange(z.shape[1], device=z.device) != self.attacked_label
        return z - self.lead * others if self.lead else z

    def _advantages(self, z: Tensor) -> Tensor:
        """Return by how much each class leads the label; targeted, one column for the target.

        Where logits name no class, the label is left by any lead, and the target not reached.
        """
        known, numbers = has_class(z), torch.arange(z.shape[1], device=z.device)
        if self.target is None:
            left = torch.where(numbers == self.label, 0.0, torch.inf)
            return torch.where(known[:, None], z - z[:, self.label : self.label + 1], left)
        is_target = numbers == self.target
        others = torch.where(is_target, -torch.inf, z).amax(1)
        margin = z[:, self.target] - others
        # Far behind, a cross-entropy of two classes is 0 in float32, with no rise to climb. A
        # logarithm of the distance has the same sign and order, and keeps its loss in sight.
        margin = margin.sign() * margin.abs().log1p()
        margin = torch.where(known, margin, -torch.inf)
        return torch.stack([torch.zeros_like(margin), margin], 1)
