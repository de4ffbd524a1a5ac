"""Threats that wrap another: for the samples of some classes only, and for sample and label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require
from ..functional.geometry import broadcast_rows
from .base import Threat, ThreatWrapper

MAX_SHARE = 0.999  # of delta is the mass that may move, so that the cost stays finite


def optimal_mass(gap: Tensor, weight: Tensor, delta: float) -> Tensor:
    """Solve argmax_t gap·t − weight·t/(1 − t/delta) over t in [0, delta).

    The solution is delta·(1 − √(weight/gap))₊.

    Arguments:
        gap: by how much the loss of another label is larger `(b,)`.
        weight: K·λ `(b,)`, ≥ 0; where it is 0 the mass ends at 0.999·delta.

    >>> optimal_mass(torch.tensor([4.0, -1.0]), torch.tensor([1.0, 1.0]), 0.4)
    tensor([0.2000, 0.0000])
    """
    share = 1 - (weight / torch.where(gap > 0, gap, 1)).sqrt()
    return delta * torch.where(gap > 0, share.clamp(0, MAX_SHARE), 0)


def project_simplex(q: Tensor, total: float) -> Tensor:
    """Project `q (b, k)` to the nearest point with q ≥ 0 and Σ_j q_j = total; −inf becomes 0.

    >>> project_simplex(torch.tensor([[1.0, 0.5, -3.0]]), 1.0)
    tensor([[0.7500, 0.2500, 0.0000]])
    """
    high = q.sort(1, descending=True).values
    rank = torch.arange(1, q.shape[1] + 1, device=q.device)
    over = (high.cumsum(1) - total) / rank
    last = (high > over).sum(1, keepdim=True).clamp_min(1) - 1
    return (q - over.gather(1, last)).clamp_min(0)


class Only(ThreatWrapper):
    """Let the adversary move samples of some classes only; the others stay at x and cost nothing.

    The class is y: a targeted attack, whose y is the class to reach, refuses this threat.

    Arguments:
        of: the threat.
        classes: the labels y whose samples may move.

    Raises:
        ValueError: for no class, or one that is not an integer ≥ 0.

    >>> from sparring.threats import Linf
    >>> x, threat = torch.full((2, 1), 0.5), Only(Linf(0.25), classes=[1])
    >>> threat.project(x + 1, Batch(x, torch.tensor([0, 1])))
    tensor([[0.5000],
            [0.7500]])
    """

    one_class_per_sample = True
    by_class = True  # type: ignore[assignment]

    def __init__(self, of: Threat, *, classes: Sequence[int]) -> None:
        super().__init__()
        require(isinstance(of, Threat), "of", of, "a threat")
        good = len(classes) > 0 and all(isinstance(c, int) and c >= 0 for c in classes)
        require(good, "classes", classes, "one or more labels, integers ≥ 0")
        self.of, self.classes = of, classes
        self.binary, self.labels = of.binary, of.labels

    def check_classes(self, classes: int) -> None:
        require(max(self.classes) < classes, "classes", self.classes, f"labels below {classes}")

    def may_move(self, batch: Batch) -> Tensor:
        """Return a mask `(b,)` of the samples of the named classes."""
        mask = torch.zeros_like(batch.y, dtype=torch.bool)
        # one comparison per class: a tensor of classes would be copied to the device at every step
        for label in self.classes:
            mask = mask | (batch.y == label)
        return mask

    def pack(self, batch: Batch) -> Tensor:
        return self.of.pack(batch)

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return self._reset_others(self.of.random_start(batch, generator), batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return self._reset_others(self.of.step(z, grad, size, batch), batch)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return self._reset_others(self.of.project(z, batch), batch)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        return self._reset_others(self.of.discretize(z, batch), batch)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        return torch.where(self.may_move(batch), self.of.cost(z, batch), 0)

    def searched_cost(self, z: Tensor, batch: Batch) -> Tensor:
        return torch.where(self.may_move(batch), self.of.searched_cost(z, batch), 0)

    def unpack(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.of.unpack(self._reset_others(z, batch), batch)

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Update `of` on the samples that may move."""
        # resting samples would pull the mean distance that `SoftLinf` sees towards 0
        self.of.update(model, replace(batch.take(self.may_move(batch)), extra={}))

    def _reset_others(self, z: Tensor, batch: Batch) -> Tensor:
        """Return z with the samples that may not move put back to x."""
        return torch.where(broadcast_rows(self.may_move(batch), z), z, self.of.pack(batch))


class Joint(ThreatWrapper):
    """Let the adversary move sample and label at a joint cost.
    c = c_of(x', x) + scale·g(1 − q_y), g(t) = t/(1 − t/delta). The label is a probability q
    `(b, k)` on the simplex; the mass 1 − q_y that has left y is below delta. A point is both,
    `(b, d + k)`: x' flat, then q. A step moves x' as `of` does, and q to its maximizer in closed
    form: the mass delta·(1 − √(scale·λ/Δ))₊ goes to the label of largest loss, Δ more than that of
    y. An unlabeled sample keeps q = 0. It is for training: `unpack` returns soft labels, which an
    attack that is called as `attack(model, x, y)` drops.

    Arguments:
        of: the threat to the sample.
        scale: K > 0, the cost factor of moving labels.
        delta: in (0, ½), so that y keeps most of the mass.
        classes: k, number of labels.

    Raises:
        ValueError: for an argument out of its range, or a label ≥ k.

    Source: Birrell and Ebrahimi 2023 (ARMOR adv_{s,l}); the closed form is ours.

    >>> from sparring.threats import Linf
    >>> threat = Joint(Linf(0.1), scale=1.0, delta=0.4, classes=3)
    >>> threat.pack(Batch(torch.full((1, 2), 0.5), torch.tensor([1])))
    tensor([[0.5000, 0.5000, 0.0000, 1.0000, 0.0000]])
    """

    paper = "birrell2023armor"
    labels = True
    one_class_per_sample = True

    def __init__(self, of: Threat, *, scale: float, delta: float, classes: int) -> None:
        super().__init__()
        require(isinstance(of, Threat), "of", of, "a threat")
        require(scale > 0, "scale", scale, "a cost > 0 of moving labels")
        require(0 < delta < 0.5, "delta", delta, "in (0, 0.5)")
        require(classes >= 2, "classes", classes, "a number of labels ≥ 2")
        self.of, self.scale, self.delta, self.classes = of, scale, delta, classes
        self.binary = of.binary

    def check_classes(self, classes: int) -> None:
        require(self.classes == classes, "classes", self.classes, f"{classes}, those of the data")

    def pack(self, batch: Batch) -> Tensor:
        highest = int(batch.y.max()) if len(batch) else 0
        if highest >= self.classes:
            raise ValueError(f"y has the label {highest}: Joint has classes = {self.classes}")
        return self._join(self.of.pack(batch), self._one_hot(batch))

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Draw a start of `of`; the label starts at y, since its maximum needs no search."""
        return self._join(self.of.random_start(batch, generator), self._one_hot(batch))

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        (x_adv, q), (to_x, to_q) = self._split(z, batch), self._split(grad, batch)
        on_y = self._one_hot(batch)
        # `unpack` makes q_y of the others: so to_q_j is Δ_j, to_q_y is λ times the cost's slope.
        # λ is read from the gradient, since a threat does not know the risk
        gap, j = torch.where(on_y, -torch.inf, to_q).max(1)
        slope = self.scale / self._share_left(q, on_y).square()
        multiplier = torch.where(on_y, to_q, 0).sum(1) / slope
        mass = optimal_mass(gap, self.scale * multiplier.clamp_min(0), self.delta)[:, None]
        target = torch.arange(self.classes, device=z.device) == j[:, None]
        best = (1 - mass) * on_y + mass * target
        # a row without a gradient in q, or without a label, keeps its q
        keep = (to_q == 0).all(1, keepdim=True) | ~on_y.any(1, keepdim=True)
        return self._join(self.of.step(x_adv, to_x, size, batch), torch.where(keep, q, best))

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        on_y, most = self._one_hot(batch), MAX_SHARE * self.delta
        near = project_simplex(q, 1.0)
        # where y would keep too little, the nearest point has q_y = 1 − most exactly
        edge = project_simplex(torch.where(on_y, -torch.inf, q), most)
        edge = edge + (1 - most) * on_y.to(q.dtype)
        far = torch.where(on_y, near, 0).sum(1, keepdim=True) < 1 - most
        q = torch.where(far, edge, near) * on_y.any(1, keepdim=True)
        return self._join(self.of.project(x_adv, batch), q)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        return self._join(self.of.discretize(x_adv, batch), q)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        return self.of.cost(x_adv, batch) + self._label_cost(q, batch)

    def searched_cost(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        return self.of.searched_cost(x_adv, batch) + self._label_cost(q, batch)

    def unpack(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        x_adv, q = self._split(z, batch)
        on_y = self._one_hot(batch)
        rest = torch.where(on_y, 0, q).sum(1, keepdim=True)
        return self.of.unpack(x_adv, batch)[0], torch.where(on_y, 1 - rest, q)

    def _label_cost(self, q: Tensor, batch: Batch) -> Tensor:
        on_y = self._one_hot(batch)
        mass = torch.where(on_y, 1 - q, 0).sum(1)
        return self.scale * mass / self._share_left(q, on_y)

    def _one_hot(self, batch: Batch) -> Tensor:
        """Return the mask `(b, k)` of each sample's label; unlabeled: all False."""
        return torch.arange(self.classes, device=batch.y.device) == batch.y[:, None]

    def _share_left(self, q: Tensor, on_y: Tensor) -> Tensor:
        """Return 1 − t/delta `(b,)` for the mass t that has left y."""
        left = 1 - torch.where(on_y, 1 - q, 0).sum(1) / self.delta
        return left.clamp_min((1 - MAX_SHARE) / 2)

    def _join(self, x_adv: Tensor, q: Tensor) -> Tensor:
        return torch.cat([x_adv.flatten(1), q.to(x_adv.dtype)], 1)

    def _split(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Split z into the point of `of` and the label."""
        # `of` alone knows the shape of its points: it packs a row of the batch
        shape = self.of.pack(Batch(batch.x[:1], batch.y[:1])).shape[1:]
        return z[:, : -self.classes].reshape(len(z), *shape), z[:, -self.classes :]
