"""The five attacks on binary features that malware detectors are measured by."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from .. import dist, losses, probe
from ..batch import Batch
from ..geometry import highest, norm
from ..part import nearest, require
from ..threats.base import Threat
from .base import Attack, GainOf, Maximizer, Model, Standing, ascend, like, look, rounds


class Whole:
    """A batch in training, with the verbs of `Standing`: nobody leaves, the best point is kept."""

    def __init__(self, f: GainOf, batch: Batch) -> None:
        self.f, self.batch, self.x, self.y = f, batch, batch.x, batch.y
        self.found, self.value = batch.x, batch.x.new_full((len(batch.x),), -torch.inf)

    def __len__(self) -> int:
        return len(self.x)

    def ascend(self, _: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gain at z, its gradient, and the gain again in place of logits."""
        gain, grad = ascend(self.f, z)
        return gain.value, grad.nan_to_num(0.0, 0.0, 0.0), gain.value

    def look(self, z: Tensor) -> Tensor:
        """The gain at z."""
        return look(self.f, z).value

    def tell(self, z: Tensor, logits: Tensor) -> Tensor | None:
        """Keep what gains more."""
        better = logits > self.value
        self.found = torch.where(like(better, z), z, self.found)
        self.value = torch.where(better, logits, self.value)
        return None


Seen = Standing | Whole
Rank = Callable[[Tensor, Tensor], Tensor]
Move = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def flipped(z: Tensor, threat: Threat) -> Tensor:
    """Every bit of z flipped."""
    return torch.where(z == threat.low, threat.high, threat.low).to(z.dtype)


def may_flip(threat: Threat, batch: Batch) -> Tensor:
    """The bits that the threat lets go `(b, *d)`: those that projecting moves at all."""
    x = threat.snap(batch.x, batch)  # which refuses an x that is not binary
    return threat.project(flipped(x, threat), batch) != x


def budget(threat: Threat, x: Tensor) -> float:
    """How many bits may flip, inf where all of them may."""
    eps = getattr(threat, "eps", math.inf)
    return eps if eps < math.prod(x.shape[1:]) else math.inf


def settle(x: Tensor, flips: Tensor, score: Tensor, threat: Threat) -> Tensor:
    """x with these flips; where they are more than the budget, with those of highest score."""
    if (eps := budget(threat, x)) < math.inf:
        of = torch.where(flips, score, -torch.inf).flatten(1)
        flips = flips & highest(of, eps).view_as(x)
    return torch.where(flips, flipped(x, threat), x)


def walk(seen: Seen, rank: Rank, threat: Threat, steps: int, move: Move) -> None:
    """`steps` gradients from x on, and between them moves `move(z, gradient, may, x)`; every point
    is told."""
    z, may = seen.x, may_flip(threat, seen.batch)
    for step in range(steps):
        _, grad, logits = seen.ascend(lambda out, y=seen.y: rank(out, y), z)
        keep = seen.tell(z, logits)
        if len(seen) == 0 or step + 1 == steps:
            return
        if keep is not None:
            z, grad, may = z[keep], grad[keep], may[keep]
        before, z = z, move(z, grad, may, seen.x)
        if not z.is_cuda and torch.equal(before, z):
            return


def flip_one(
    z: Tensor, gain: Tensor, among: Tensor, may: Tensor, x: Tensor, threat: Threat
) -> Tensor:
    """z with the bit of highest gain flipped: of those `among`, within the budget, and only if it
    may."""
    among = among.flatten(1)
    if (eps := budget(threat, x)) < math.inf:
        away = (z != x).flatten(1)
        among = among & (away | (away.sum(1, keepdim=True) < eps))
    top, j = gain.flatten(1).masked_fill(~among, -torch.inf).max(1, keepdim=True)
    flat = z.flatten(1)
    old = flat.gather(1, j)
    goes = (top > -torch.inf) & may.flatten(1).gather(1, j)
    return flat.scatter(1, j, torch.where(goes, flipped(old, threat), old)).view_as(z)


def rounding(
    seen: Seen, rank: Rank, threat: Threat, steps: int, draws: int = 1, by: Generator | None = None
) -> None:
    """z ← clip(z + sign(g)/steps) from x; x is told, and z > u with what may not flip back at x:
    for every draw of u, or for u = ½."""
    z, may, width = seen.x, may_flip(threat, seen.batch), threat.high - threat.low
    grad = torch.zeros_like(z)
    for step in range(steps):
        _, grad, logits = seen.ascend(lambda out, y=seen.y: rank(out, y), z)
        keep = seen.tell(z, logits) if step == 0 else None
        if len(seen) == 0:
            return
        if keep is not None:
            z, grad, may = z[keep], grad[keep], may[keep]
        z = (z + width / steps * grad.sign()).clamp(threat.low, threat.high)
    for _ in range(draws):
        x, u = seen.x, 0.5 if by is None else dist.draw("uniform", z, by)
        flips = may & ((z > threat.low + width * u) != (x == threat.high))
        point = settle(x, flips, (flipped(x, threat) - x) * grad, threat)
        keep = seen.tell(point, seen.look(point))
        if len(seen) == 0:
            return
        if keep is not None:
            z, grad, may = z[keep], grad[keep], may[keep]


def gained(search: Callable[[Seen, int], None], f: GainOf, batch: Batch) -> Tensor:
    """The point of highest gain that a search comes by, in training."""
    seen = Whole(f, batch)
    search(seen, 0)
    return seen.found.detach()


def fits(attack: Attack, threat: Threat, steps: int, mode: str, loss: str = "ce") -> Rank:
    """The loss by its name.

    Raises:
        ValueError: for a threat whose points are no bits, or what else does not exist.
    """
    allowed = f"a ball of Bits for {type(attack).__name__}"
    require(threat.binary and not threat.labels, "threat", threat, allowed)
    require(steps >= 1, "steps", steps, "an integer ≥ 1")
    require(mode in probe.MODES, "mode", mode, "one of " + ", ".join(probe.MODES))
    if loss not in losses.BY_NAME:
        raise ValueError(nearest("loss", loss, losses.BY_NAME))
    return losses.BY_NAME[loss]


class DFGSM(Maximizer):
    """dFGSM^k: z ← clip(z + sign(∇ℓ)/k) k times from x, rounded at ½; x where that lost.

    Bits that may not flip move too while it climbs, and go back to x in the end; where more flip
    than the budget allows, those with the steepest last gradient do.

    Arguments:
        threat: Bits.
        steps: gradients k; published: 50.
        loss: what it climbs: `"ce"`, `"margin"` or `"dlr"`. A trainer brings its own gain instead.

    Source: Al-Dujaili et al. 2018, alg. 1.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> DFGSM(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)
    refines = True  # more steps are shorter, and end elsewhere

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        loss: str = "ce",
        mode: str = "eval",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rank = fits(self, threat, steps, mode, loss)
        self.threat, self.steps, self.loss, self.mode, self.seed = threat, steps, loss, mode, seed

    def search(self, seen: Seen, turn: int) -> None:
        """One climb, and what it is rounded to."""
        rounding(seen, self.rank, self.threat, self.steps)

    def maximize(self, f: GainOf, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return rounds(self, model, x, y, self.search, turns=lambda _: 1, look=False)


class RFGSM(Maximizer):
    """rFGSM^k: as `DFGSM`, each coordinate rounded at a threshold of its own, u ~ U(0, 1).

    Arguments:
        draws: of all thresholds, ≥ 1; published: 1.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1. Differs: several draws, of which the best is kept.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> RFGSM(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)
    refines = True  # more steps are shorter, and end elsewhere

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        draws: int = 1,
        loss: str = "ce",
        mode: str = "eval",
        seed: int = 0,
    ) -> None:
        super().__init__()
        require(draws >= 1, "draws", draws, "an integer ≥ 1")
        self.rank = fits(self, threat, steps, mode, loss)
        self.threat, self.steps, self.draws, self.loss = threat, steps, draws, loss
        self.mode, self.seed = mode, seed

    def search(self, seen: Seen, turn: int) -> None:
        """One climb, and what it is rounded to."""
        generator = self.generator(seen.x.device)
        rounding(seen, self.rank, self.threat, self.steps, self.draws, generator)

    def maximize(self, f: GainOf, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return rounds(self, model, x, y, self.search, turns=lambda _: 1, look=False)


class BGA(Maximizer):
    """BGA^k, bit gradient ascent: flips all bits with √d·(1 − 2z_j)·g_j ≥ ‖g‖₂; the best iterate.

    Flips may go back. Within a budget, those with the steepest gradient are kept.

    Arguments:
        steps: gradients k, with k − 1 moves between them; published: 50.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1 and eq. 8. Differs: nothing flips where it does not gain.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> BGA(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        loss: str = "ce",
        mode: str = "eval",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rank = fits(self, threat, steps, mode, loss)
        self.threat, self.steps, self.loss, self.mode, self.seed = threat, steps, loss, mode, seed

    def move(self, z: Tensor, grad: Tensor, may: Tensor, x: Tensor) -> Tensor:
        """z with all the bits flipped that gain enough."""
        gain, width = (flipped(z, self.threat) - z) * grad, self.threat.high - self.threat.low
        enough = norm(grad, 2) * width / math.prod(x.shape[1:]) ** 0.5
        flips = (may & (gain >= like(enough, z)) & (gain > 0)) != (z != x)
        return settle(x, flips, (flipped(x, self.threat) - x) * grad, self.threat)

    def search(self, seen: Seen, turn: int) -> None:
        """One walk."""
        walk(seen, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: GainOf, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return rounds(self, model, x, y, self.search, turns=lambda _: 1, look=False)


class BCA(Maximizer):
    """BCA^k, bit coordinate ascent: flips the bit of largest (1 − 2z_j)·g_j; the best iterate.

    It flips it, gain or not; bits it flipped before too, once the budget is spent only these.

    Arguments:
        steps: gradients k, with k − 1 moves between them; published: 50.
        any_bit: bits that may not flip compete too, as published: a move on one of them is lost,
            and so are all after it.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> BCA(Bits(), any_bit=False)(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        any_bit: bool = True,
        loss: str = "ce",
        mode: str = "eval",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rank = fits(self, threat, steps, mode, loss)
        self.threat, self.steps, self.any_bit, self.loss = threat, steps, any_bit, loss
        self.mode, self.seed = mode, seed

    def move(self, z: Tensor, grad: Tensor, may: Tensor, x: Tensor) -> Tensor:
        """z with one bit flipped."""
        gain, among = (flipped(z, self.threat) - z) * grad, may | self.any_bit
        return flip_one(z, gain, among, may, x, self.threat)

    def search(self, seen: Seen, turn: int) -> None:
        """One walk."""
        walk(seen, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: GainOf, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return rounds(self, model, x, y, self.search, turns=lambda _: 1, look=False)


class Grosse(Maximizer):
    """Grosse^k: flips the unflipped bit that raises log p of another class most, if one does; the
    best iterate.

    It never takes a flip back. In training the gain stands in for log p.

    Arguments:
        steps: gradients k, with k − 1 flips between them; published: 50.
        others: as for `DFGSM`.

    Source: Grosse et al. 2017, sec. 3.2. Differs: the class is the likeliest other one; it removes
    features too where the threat allows that.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> Grosse(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "grosse2017adversarial"
    norms = ("bits",)

    def __init__(
        self, threat: Threat, *, steps: int = 50, mode: str = "eval", seed: int = 0
    ) -> None:
        super().__init__()
        fits(self, threat, steps, mode)
        self.threat, self.steps, self.mode, self.seed = threat, steps, mode, seed

    def move(self, z: Tensor, grad: Tensor, may: Tensor, x: Tensor) -> Tensor:
        """z with one bit more flipped."""
        gain = (flipped(z, self.threat) - z) * grad
        return flip_one(z, gain, may & (z == x) & (gain > 0), may, x, self.threat)

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        """log p of the likeliest class that is not y `(b,)`."""
        return logits.log_softmax(1).scatter(1, y.clamp_min(0)[:, None], -torch.inf).amax(1)

    def search(self, seen: Seen, turn: int) -> None:
        """One walk."""
        walk(seen, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: GainOf, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return rounds(self, model, x, y, self.search, turns=lambda _: 1, look=False)
