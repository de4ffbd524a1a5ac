"""Interface of a threat model: the set S open to the adversary, and the cost c of a move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..batch import Batch, Model
from ..component import LARGEST, Component, require
from ..functional.geometry import broadcast_scale, norm, normalize
from ..runtime import distributed

INITS = ("uniform", "noise", "zero", "radius")


def check_bounds(low: object, high: object) -> None:
    """Raise `ValueError` unless low and high are the bounds of all features: numbers, low < high.
    For bounds that differ by feature there is `Box`."""
    for key, value in (("low", low), ("high", high)):
        fits = isinstance(value, Real) and abs(float(value)) <= LARGEST
        allowed = f"one finite number for all features, at most {LARGEST:g} from 0; "
        allowed += "scale them to [0, 1], or use Box(lower=…)"
        require(fits, key, value if isinstance(value, Real) else type(value).__name__, allowed)
    require(low < high, "low", low, f"below high = {high}")  # type: ignore[operator]


def require_in_box(
    threat: Threat, key: str, radius: float, shape: Sequence[int], *, p: float
) -> None:
    """Raise `ValueError` for a radius whose p-ball holds the whole box, as 8 in place of 8/255.

    Arguments:
        shape: of one sample.
    """
    width = threat.high - threat.low
    largest = math.prod(shape) ** (1 / p if p else 1) * (width if p else 1)
    hint = f" ({radius:g}/255?)" if width == 1 and radius <= 255 and p == math.inf else ""
    allowed = f"at most {largest:.4g}, the width of the box in {type(threat).__name__}{hint}"
    require(radius <= largest, key, radius, allowed)


class Threat(Component):
    """Set S and cost c of the adversary; a subclass overrides the methods that differ from the
    defaults.

    Each method takes the batch, so a threat keeps no per-batch state. A point `z` is what `pack`
    returns; by default the adversarial input `(b, *d)` itself.

    Attributes:
        eps: radius in input units; None where the threat has none, as `Transport` and `Box`.
        binary: every feature is low or high, and a search between them ends with `discretize`.
        labels: a point contains a label too, so that `unpack` returns soft labels: for training
            only.
        groups: columns that move together, at most one of them high; None if each moves alone.
        by_class: y decides whether a sample may move: not for an attack whose y is a target.
    """

    eps: float | None = None
    binary: bool = False
    labels: bool = False
    groups: Sequence[Sequence[int]] | None = None
    by_class: bool = False
    low: float = 0.0
    high: float = 1.0

    @property
    def reach(self) -> float:
        """Return the length that scales step sizes: eps, or the width of the box without one."""
        return self.high - self.low if self.eps is None else self.eps

    def pack(self, batch: Batch) -> Tensor:
        """Return the point before the adversary moves: z `(b, *d)`."""
        return batch.x

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Draw a random feasible point."""
        return self.pack(batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        """Move z by `size` input units along this geometry's steepest ascent; it may leave S."""
        raise NotImplementedError

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        """Project z to the nearest feasible point."""
        raise NotImplementedError

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        """Compute the transport cost `(b,)`, not yet times λ; 0 for hard balls."""
        return torch.zeros(len(z), dtype=z.dtype, device=z.device)

    def searched_cost(self, z: Tensor, batch: Batch) -> Tensor:
        """Compute `cost (b,)` as a search sees it: without a gradient for what `step` goes down by
        itself; default: `cost`."""
        return self.cost(z, batch)

    def discretize(self, z: Tensor, batch: Batch) -> Tensor:
        """Round z to the nearest admissible point of a discrete set."""
        return z

    def unpack(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Split z into `(x_adv, y_adv)`."""
        return z, batch.y

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Measure how far x_adv is from x `(b,)`, in the units of `eps`; 0 without a radius."""
        return torch.zeros(len(x), dtype=x.dtype, device=x.device)

    def check_reachable(self, shape: Sequence[int], *, by_row: bool = False) -> None:
        """Raise `ValueError` if the threat does not fit samples of a shape: for a ball, if it holds
        the whole box, as 8 in place of 8/255 does.

        Arguments:
            by_row: the threat may differ between samples, since `on_rows` hands it their rows.
        """

    def check_samples(self, batch: Batch) -> None:
        """Raise `ValueError` for samples that the adversary cannot start from; `batch.index` holds
        their rows in the data."""

    def searched(self, model: Model) -> Model:
        """Return the model as a search sees it: with the rounding to admissible points inside, if
        they are no continuum; default: the model itself."""
        return model

    def ends_as_searched(self, x: Tensor) -> bool:
        """Return whether `discretize` puts each point of a search from `x (b, *d)` exactly where
        the model of `searched` saw it; default: yes."""
        return True

    @contextmanager
    def on_rows(self, rows: Tensor, x: Tensor) -> Iterator[None]:
        """Act inside as for the samples `x (b, *d)` alone, rows `(b,)` of those that the threat
        knows; nothing changes for a threat that is the same for all samples."""
        yield


@contextmanager
def on_rows(pieces: Iterable[object], rows: Tensor, x: Tensor) -> Iterator[None]:
    """Call `on_rows` of every threat that these attacks and threats hold; undo it on the way out.

    It nests: inside, `rows` number the samples of the call around it.
    """
    modules = {m for piece in pieces if isinstance(piece, nn.Module) for m in piece.modules()}
    with ExitStack() as stack:
        for threat in modules:
            if isinstance(threat, Threat):
                stack.enter_context(threat.on_rows(rows, x))
        yield


class ThreatWrapper(Threat):
    """Change another threat, `of`, and keep its box, radius and distance."""

    of: Threat

    @property
    def low(self) -> float:  # type: ignore[override]
        """Return the box's lower end."""
        return self.of.low

    @property
    def high(self) -> float:  # type: ignore[override]
        """Return the box's upper end."""
        return self.of.high

    @property
    def eps(self) -> float | None:  # type: ignore[override]
        """Return the radius of `of`."""
        return self.of.eps

    @eps.setter
    def eps(self, value: float | None) -> None:
        self.of.eps = value

    @property
    def groups(self) -> Sequence[Sequence[int]] | None:  # type: ignore[override]
        """Return the columns that move together in `of`."""
        return self.of.groups

    @property
    def by_class(self) -> bool:  # type: ignore[override]
        """Return whether y decides in `of` who may move."""
        return self.of.by_class

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self.of.distance(x_adv, x)

    def check_reachable(self, shape: Sequence[int], *, by_row: bool = False) -> None:
        self.of.check_reachable(shape, by_row=by_row)

    def check_samples(self, batch: Batch) -> None:
        self.of.check_samples(batch)

    def update(self, model: nn.Module, batch: Batch) -> None:
        self.of.update(model, batch)

    def searched(self, model: Model) -> Model:
        return self.of.searched(model)

    def ends_as_searched(self, x: Tensor) -> bool:
        return self.of.ends_as_searched(x)


class Ball(Threat):
    """Keep x' within eps of x in a norm, and in the box.
    {x' : ‖x' − x‖_p ≤ eps} ∩ [low, high]^d; a leaf sets p, projection, sampler and step.

    Arguments:
        eps: radius in input units.
        init: where a random start lies: `"uniform"` in the ball, then clipped to the box;
            `"noise"`, N(0, noise²), then projected (TRADES, MART); `"zero"`, at x; `"radius"`, at a
            distance uniform in [0, eps], nearer to x than `"uniform"` in many dimensions.
        noise: standard deviation of the `"noise"` start, in input units.

    Raises:
        ValueError: if eps < 0, low ≥ high, noise < 0, or init is unknown.
    """

    eps: float
    p: ClassVar[float]
    projection: ClassVar[Callable[..., Tensor]]
    sample: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        eps: float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        init: str = "uniform",
        noise: float = 0.001,
    ) -> None:
        super().__init__()
        require(0 <= eps < math.inf, "eps", eps, "a radius ≥ 0 in input units")
        check_bounds(low, high)
        inits = INITS if self.p else INITS[:-1]  # distances of L0 are counts
        require(init in inits, "init", init, "one of " + ", ".join(inits))
        require(noise >= 0, "noise", noise, "a standard deviation ≥ 0")
        self.eps, self.low, self.high, self.init, self.noise = eps, low, high, init, noise
        if self.p == math.inf:  # the other balls need the number of features: `check_reachable`
            self.check_reachable(())

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        if self.init == "zero":
            return self.pack(batch)
        if self.init in ("uniform", "radius"):
            delta = self.sample(batch.x, self.eps, generator)
            if self.init == "radius":
                share = distributed.draw("uniform", batch.x.flatten(1)[:, 0], generator)
                delta = broadcast_scale(share * self.eps, delta) * normalize(delta, self.p)
        else:
            delta = self.noise * distributed.draw("normal", batch.x, generator)
        # a draw in the ball may leave the box: the projection also clips
        return self.project(batch.x + delta, batch)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return self.projection(z, batch.x, self.eps, self.low, self.high)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return norm(x_adv - x, self.p)

    def check_reachable(self, shape: Sequence[int], *, by_row: bool = False) -> None:
        require_in_box(self, "eps", self.eps, shape, p=self.p)
