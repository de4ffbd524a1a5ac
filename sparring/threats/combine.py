"""Threats around a threat: for some classes only, and with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require
from ..functional.geometry import broadcast_rows
from .base import Threat

MOST = 0.999  # of delta is what may move, so that the cost stays finite


def moved_mass(gap: Tensor, price: Tensor, delta: float) -> Tensor:
    """argmax_t gap·t − price·t/(1 − t/delta) over t in [0, delta): delta·(1 − √(price/gap))₊.

    Arguments:
        gap: by how much the loss of another label is larger `(b,)`.
        price: K·λ `(b,)`, ≥ 0; the mass ends at 0.999·delta where it is 0.

    >>> moved_mass(torch.tensor([4.0, -1.0]), torch.tensor([1.0, 1.0]), 0.4)
    tensor([0.2000, 0.0000])
    """
    share = 1 - (price / torch.where(gap > 0, gap, 1)).sqrt()
    return delta * torch.where(gap > 0, share.clamp(0, MOST), 0)


def project_simplex(q: Tensor, total: float) -> Tensor:
    """The nearest point to `q (b, k)` with q ≥ 0 and Σ_j q_j = total; q_j = −inf becomes 0.

    >>> project_simplex(torch.tensor([[1.0, 0.5, -3.0]]), 1.0)
    tensor([[0.7500, 0.2500, 0.0000]])
    """
    high = q.sort(1, descending=True).values
    rank = torch.arange(1, q.shape[1] + 1, device=q.device)
    over = (high.cumsum(1) - total) / rank
    last = (high > over).sum(1, keepdim=True).clamp_min(1) - 1
    return (q - over.gather(1, last)).clamp_min(0)


class Around(Threat):
    """A threat that changes another, `of`; its box, radius and distance are the other's."""

    of: Threat

    @property
    def low(self) -> float:  # type: ignore[override]
        """The box's lower end."""
        return self.of.low

    @property
    def high(self) -> float:  # type: ignore[override]
        """The box's upper end."""
        return self.of.high

    @property
    def eps(self) -> float | None:  # type: ignore[override]
        """The radius, where `of` has one."""
        return self.of.eps

    @eps.setter
    def eps(self, value: float | None) -> None:
        self.of.eps = value

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self.of.distance(x_adv, x)

    def update(self, model: nn.Module, batch: Batch) -> None:
        self.of.update(model, batch)


class Only(Around):
    """`of` for the samples of some classes; the others stay at x and pay nothing.

    Arguments:
        of: the threat.
        classes: the labels y whose samples may move.

    Raises:
        ValueError: for no class, or one that is no integer ≥ 0.

    >>> from sparring.threats import Linf
    >>> x, threat = torch.full((2, 1), 0.5), Only(Linf(0.25), classes=[1])
    >>> threat.project(x + 1, Batch(x, torch.tensor([0, 1])))
    tensor([[0.5000],
            [0.7500]])
    """

    def __init__(self, of: Threat, *, classes: Sequence[int]) -> None:
        super().__init__()
        require(isinstance(of, Threat), "of", of, "a threat")
        good = len(classes) > 0 and all(isinstance(c, int) and c >= 0 for c in classes)
        require(good, "classes", classes, "one or more labels, integers ≥ 0")
        self.of, self.classes = of, classes
        self.binary, self.labels = of.binary, of.labels

    def check_classes(self, classes: int) -> None:
        require(max(self.classes) < classes, "classes", self.classes, f"labels below {classes}")

    def moves(self, batch: Batch) -> Tensor:
        """Which samples may move `(b,)`."""
        mine = torch.zeros_like(batch.y, dtype=torch.bool)
        for label in self.classes:
            mine = mine | (batch.y == label)
        return mine

    def pack(self, batch: Batch) -> Tensor:
        return self.of.pack(batch)

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return self._rest(self.of.random_start(batch, generator), batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        return self._rest(self.of.step(z, grad, size, batch), batch)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return self._rest(self.of.project(z, batch), batch)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        return self._rest(self.of.discretize(z, batch), batch)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        return torch.where(self.moves(batch), self.of.cost(z, batch), 0)

    def unpack(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.of.unpack(self._rest(z, batch), batch)

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Of what may move alone."""
        mine = self.moves(batch)
        self.of.update(model, replace(batch.take(mine), extra={}))

    def _rest(self, z: Tensor, batch: Batch) -> Tensor:
        """z, with the samples that may not move where they were."""
        mine = broadcast_rows(self.moves(batch), z)
        return torch.where(mine, z, self.of.pack(batch))


class Joint(Around):
    """Sample and label: c = c_of(x', x) + scale·g(1 − q_y), g(t) = t/(1 − t/delta), where the label
    is a probability q `(b, k)` on the simplex, and 1 − q_y < delta what has moved away from y.

    A point is both, `(b, d + k)`: x' flat, then q. A step moves x' as `of` does, and q to its
    maximizer in closed form: the mass delta·(1 − √(scale·λ/Δ))₊ goes to the label of largest loss,
    Δ more than that of y. An unlabeled sample keeps no label. It is for training: `read` gives soft
    labels, which a call of an attack does not know.

    Arguments:
        of: the threat to the sample.
        scale: K > 0, what moving labels costs.
        delta: in (0, ½), so that y keeps most of the mass.
        classes: k, how many labels there are.

    Raises:
        ValueError: for a value outside that, or a label ≥ k.

    Source: Birrell and Ebrahimi 2023 (ARMOR adv_{s,l}); the closed form is ours.

    >>> from sparring.threats import Linf
    >>> threat = Joint(Linf(0.1), scale=1.0, delta=0.4, classes=3)
    >>> threat.pack(Batch(torch.full((1, 2), 0.5), torch.tensor([1])))
    tensor([[0.5000, 0.5000, 0.0000, 1.0000, 0.0000]])
    """

    paper = "birrell2023armor"
    labels = True

    def __init__(self, of: Threat, *, scale: float, delta: float, classes: int) -> None:
        super().__init__()
        require(isinstance(of, Threat), "of", of, "a threat")
        require(scale > 0, "scale", scale, "a price > 0 of moving labels")
        require(0 < delta < 0.5, "delta", delta, "in (0, 0.5)")
        require(classes >= 2, "classes", classes, "a number of labels ≥ 2")
        self.of, self.scale, self.delta, self.classes = of, scale, delta, classes
        self.binary = of.binary

    def check_classes(self, classes: int) -> None:
        require(self.classes == classes, "classes", self.classes, f"{classes}, those of the data")

    def pack(self, batch: Batch) -> Tensor:
        worst = int(batch.y.max()) if len(batch) else 0
        if worst >= self.classes:
            raise ValueError(f"y has the label {worst}: Joint has classes = {self.classes}")
        return self._pack(self.of.pack(batch), self._own(batch))

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Where `of` starts; the label at rest, since its maximum needs no search."""
        return self._pack(self.of.random_start(batch, generator), self._own(batch))

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        (x_adv, q), (to_x, to_q) = self._split(z, batch), self._split(grad, batch)
        own = self._own(batch)
        # `read` makes q_y of the others, so to_q_j is Δ_j, and to_q_y is λ times the cost's slope
        gap, j = torch.where(own, -torch.inf, to_q).max(1)
        slope = self.scale / self._left(q, own).square()
        price = torch.where(own, to_q, 0).sum(1) / slope
        mass = moved_mass(gap, self.scale * price.clamp_min(0), self.delta)[:, None]
        there = torch.arange(self.classes, device=z.device) == j[:, None]
        best = (1 - mass) * own + mass * there
        keep = (to_q == 0).all(1, keepdim=True) | ~own.any(1, keepdim=True)
        return self._pack(self.of.step(x_adv, to_x, size, batch), torch.where(keep, q, best))

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        own, most = self._own(batch), MOST * self.delta
        near = project_simplex(q, 1.0)
        edge = project_simplex(torch.where(own, -torch.inf, q), most) + (1 - most) * own.to(q.dtype)
        far = torch.where(own, near, 0).sum(1, keepdim=True) < 1 - most
        q = torch.where(far, edge, near) * own.any(1, keepdim=True)
        return self._pack(self.of.project(x_adv, batch), q)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        return self._pack(self.of.discretize(x_adv, batch), q)

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        x_adv, q = self._split(z, batch)
        own = self._own(batch)
        mass = torch.where(own, 1 - q, 0).sum(1)
        return self.of.cost(x_adv, batch) + self.scale * mass / self._left(q, own)

    def unpack(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        x_adv, q = self._split(z, batch)
        own = self._own(batch)
        rest = torch.where(own, 0, q).sum(1, keepdim=True)
        return self.of.unpack(x_adv, batch)[0], torch.where(own, 1 - rest, q)

    def _own(self, batch: Batch) -> Tensor:
        """Where each sample's label is `(b, k)`; nowhere for an unlabeled one."""
        return torch.arange(self.classes, device=batch.y.device) == batch.y[:, None]

    def _left(self, q: Tensor, own: Tensor) -> Tensor:
        """1 − t/delta `(b,)` of the mass t that has moved."""
        left = 1 - torch.where(own, 1 - q, 0).sum(1) / self.delta
        return left.clamp_min((1 - MOST) / 2)

    def _pack(self, x_adv: Tensor, q: Tensor) -> Tensor:
        return torch.cat([x_adv.flatten(1), q.to(x_adv.dtype)], 1)

    def _split(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The point of `of`, and the label."""
        shape = self.of.pack(Batch(batch.x[:1], batch.y[:1])).shape[1:]
        return z[:, : -self.classes].reshape(len(z), *shape), z[:, -self.classes :]
