"""An attack is a function of model, inputs and labels; a maximizer climbs any gain a trainer hands
it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import Component, arguments, require
from ..functional.geometry import broadcast_rows
from ..functional.losses import margin
from ..introspect import freeze
from ..threats.base import Threat

Gain = Callable[[Tensor], Tensor]  # of a point z: what the adversary maximizes, per sample (b,)
PERIOD = 10  # steps between two looks of the host at who still stands, on a GPU


class Execution(TypedDict, total=False):
    """How an attack runs: keywords that every attack takes, each with its default.

    Arguments:
        mode: of the model's modules: `"eval"`, `"train"` (batch statistics, running ones
            untouched) or `"keep"`.
        precision: inside the model while searching; float32 confirms every success.
        channels_last: hand images to the model in that memory layout.
        seed: of the attack's generator; `reseed` starts it again.
    """

    mode: Annotated[str, "eval"]
    precision: Annotated[str, "float32"]
    channels_last: Annotated[bool, False]
    seed: Annotated[int, 0]


class Float32Execution(TypedDict, total=False):
    """How an attack runs that searches in float32 only; as `Execution`."""

    mode: Annotated[str, "eval"]
    seed: Annotated[int, 0]


class Attack(Component):
    """Finds adversarial inputs: `x_adv = attack(model, x, y)`.

    It leaves the model as it was: weights, `.grad`, every module's own mode, batch-norm statistics;
    and it never touches the global random state, but draws from its own generator.

    Arguments:
        threat: where it may go; each attack stores its own.
        execution: how it runs, as `Execution` says.
    """

    threat: Threat
    mode: str = "eval"
    seed: int = 0
    replays: int = 1

    def __init__(self, **execution: Unpack[Execution]) -> None:
        """Check and store how the attack runs.

        Raises:
            TypeError: for a keyword that this attack does not take.
            ValueError: for a mode or precision that does not exist.
        """
        super().__init__()
        known = arguments(type(self))
        values = {k: p.default for k, p in known.items() if k in Execution.__annotations__}
        for key in execution:
            if key not in values:
                raise TypeError(f"{type(self).__name__} has no argument {key!r}")
        values |= execution
        for key, allowed in (("mode", freeze.MODES), ("precision", freeze.PRECISIONS)):
            value = values.get(key, next(iter(allowed)))
            require(value in allowed, key, value, "one of " + ", ".join(allowed))
        for key, value in values.items():
            setattr(self, key, value)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Adversarial inputs `(b, *d)` for `x (b, *d)` in the threat's box and labels `y (b,)`;
        detached."""
        raise NotImplementedError

    def reseed(self, seed: int) -> None:
        """Start the attack's own random numbers again at `seed`."""
        self._generators = {}
        self._now = seed

    def generator(self, device: torch.device) -> torch.Generator:
        """This attack's own generator on a device."""
        if not hasattr(self, "_generators"):
            self.reseed(self.seed)
        known: dict[torch.device, torch.Generator] = self._generators
        if device not in known:
            known[device] = torch.Generator(device).manual_seed(self._now)
        return known[device]


class Maximizer(Attack):
    """An attack that can climb any gain: all a trainer needs."""

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """A point z of the threat's set with a high `f(z)`, detached. The caller holds the
        model still."""
        raise NotImplementedError


def value_and_grad(f: Gain, z: Tensor) -> tuple[Tensor, Tensor]:
    """The gain at z, detached, and its gradient with respect to z only.

    Raises:
        ValueError: if the gain does not depend on z: a model that detaches, rounds or leaves torch.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        value = f(z)
        if not value.requires_grad:
            raise ValueError(
                "the model's output has no gradient with respect to its input: "
                "it detaches or leaves torch"
            )
        (grad,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), grad


def value_no_grad(f: Gain, z: Tensor) -> Tensor:
    """The gain at z without a gradient."""
    with torch.no_grad():
        return f(z)


def check(x: Tensor, y: Tensor, threat: Threat) -> None:
    """Raise a clear `ValueError` for inputs an attack cannot start from."""
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}: they must be the same samples")
    if not x.is_floating_point():
        raise ValueError(
            f"x has dtype {x.dtype}: an attack needs floats in [{threat.low}, {threat.high}]"
        )
    if len(x) == 0:
        return
    least, most = x.amin().item(), x.amax().item()
    if not (threat.low - 1e-6 <= least and most <= threat.high + 1e-6):
        raise ValueError(
            f"x reaches from {least:.4g} to {most:.4g}, "
            f"the threat's box is [{threat.low}, {threat.high}]: "
            "put normalisation into the model and hand the attack unnormalised inputs without NaN"
        )


class ActiveSet:
    """The samples of a batch that a search has not broken yet; broken ones leave at once.

    The search asks `logits`, and tells what it saw; a success is believed once it is confirmed in
    float32. On a GPU the rows leave every tenth time only, so that no step waits for the host.

    Attributes:
        batch: the rows that stand, `a` of them, compact.
        rows: `(a,)` which rows of the whole batch they are.
        found: `(b, *d)` the confirmed point of what is broken, else the point of highest value.
        value: `(b,)` that value.
        broken: `(b,)` confirmed wrong (targeted: right) in float32.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        precision: str = "float32",
        channels_last: bool = False,
        targeted: bool = False,
        rank: Callable[[Tensor, Tensor], Tensor] = margin,
    ) -> None:
        self.rank = rank
        self.model, self.targeted, self.low = model, targeted, precision != "float32"
        self.logits = freeze.ModelView(model, amp=precision, channels_last=channels_last)
        self.period = PERIOD if x.is_cuda else 1
        self._x, self._y = x, y
        self.found, self.value = x.clone(), x.new_full((len(x),), -torch.inf)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.restart()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def x(self) -> Tensor:
        """Inputs `(a, *d)` of the rows that stand."""
        return self.batch.x

    @property
    def y(self) -> Tensor:
        """Labels `(a,)` of the rows that stand."""
        return self.batch.y

    def restart(self) -> int:
        """Begin a round with all that is not broken; says how many that are."""
        self.rows = (~self.broken).nonzero()[:, 0]
        self.batch = Batch(self._x[self.rows], self._y[self.rows])
        self._asked, self._first = 0, self.batch.x
        self._seems = torch.zeros_like(self.rows, dtype=torch.bool)
        return len(self.rows)

    def is_adversarial(self, logits: Tensor, y: Tensor) -> Tensor:
        """Where the adversary has what it wants `(a,)`: a wrong class, or, targeted, y."""
        said = logits.argmax(1)
        return said == y if self.targeted else said != y

    def exact(self, z: Tensor) -> Tensor:
        """Logits `(a, k)` in the model's own precision, without gradient."""
        with torch.no_grad():
            return self.model(z)

    def logits_no_grad(self, z: Tensor) -> Tensor:
        """Logits `(a, k)` as the search sees them, without gradient."""
        with torch.no_grad():
            return self.logits(z)

    def value_and_grad(
        self, f: Callable[[Tensor], Tensor], z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`f(logits of z)` `(a,)`, its gradient in z with what is not finite at 0, and the logits.

        Raises:
            ValueError: if the model's output has no gradient.
        """
        kept: list[Tensor] = []

        def gain(point: Tensor) -> Tensor:
            kept.append(self.logits(point))
            return f(kept[0])

        value, grad = value_and_grad(gain, z)
        return value, grad.nan_to_num(0.0, 0.0, 0.0), kept[0].detach()

    def record(self, z: Tensor, logits: Tensor, value: Tensor | None = None) -> Tensor | None:
        """Note what was seen at feasible points `z (a, *d)` of the rows that stand.

        Arguments:
            logits: `(a, k)` there, from `logits`.
            value: `(a,)` what ranks points that do not break; `rank(logits, y)` when omitted, its
                negative if targeted.

        Returns:
            Which of the rows stay `(a,)`, or None if all do: the caller keeps the same of its own.
        """
        logits = logits.detach()
        if value is None:
            value = self.rank(logits, self.y) * (-1 if self.targeted else 1)
        value = value.detach()
        better = value > self.value[self.rows]
        self.found[self.rows] = torch.where(broadcast_rows(better, z), z, self.found[self.rows])
        self.value[self.rows] = torch.where(better, value, self.value[self.rows])
        hit = self.is_adversarial(logits, self.y)
        self._asked += 1
        if self.period == 1 and not hit.any():
            return None
        self._first = torch.where(broadcast_rows(hit & ~self._seems, z), z, self._first)
        self._seems = self._seems | hit
        return None if self._asked % self.period else self.confirm()

    def confirm(self) -> Tensor | None:
        """Confirm in float32 what seems broken, and let it leave; returns as `tell`."""
        hit = self._seems.clone()
        if not hit.any():
            return None
        if self.low:
            hit[self._seems] = self.is_adversarial(
                self.exact(self._first[self._seems]), self.y[self._seems]
            )
        self.found[self.rows[hit]], self.broken[self.rows[hit]] = self._first[hit], True
        stays = ~hit
        self.rows, self.batch = self.rows[stays], self.batch.take(stays)
        self._first, self._seems = self._first[stays], torch.zeros_like(self._seems[stays])
        return None if bool(stays.all()) else stays

    def finish(self) -> None:
        """End a round: settle, and in lower precision look at the best points in float32 too."""
        self.confirm()
        if self.low and len(self.rows):
            hit = self.is_adversarial(self.exact(self.found[self.rows]), self.y)
            self.broken[self.rows[hit]] = True


def run_restarts(
    attack: Attack,
    model: Model,
    x: Tensor,
    y: Tensor,
    search: Callable[[ActiveSet, int], None],
    *,
    num_rounds: Callable[[ActiveSet], int],
    look: bool = True,
) -> Tensor:
    """Run `search(active, turn)` until its rounds are over or nothing stands; points `(b, *d)`.

    Arguments:
        look: ask at x first, so that a search sees only what the model gets right.
    """
    check(x, y, attack.threat)
    if len(x) == 0:
        return x.clone()
    rank = getattr(attack, "rank", margin)
    how = {
        k: getattr(attack, k)
        for k in ("precision", "channels_last", "targeted")
        if hasattr(attack, k)
    }
    with (
        freeze.frozen(model, attack.mode),
        freeze.channels_last(model, bool(how.get("channels_last"))),
    ):
        active = ActiveSet(model, x, y, rank=rank, **how)
        if look:
            active.record(x, active.exact(x))
            active.finish()
        for turn in range(num_rounds(active)):
            if not active.restart():
                break
            search(active, turn)
            active.finish()
    return active.found.detach()


class Search(Attack):
    """An attack that asks a classifier itself, in rounds; each round sees only what still stands.

    A leaf writes `search`, which calls `active.logits` and records the points; and
    `num_rounds`, if it has other rounds than `restarts`.
    """

    precision: str
    channels_last: bool
    restarts: int = 1
    norms: ClassVar[tuple[float, ...]] = (torch.inf, 2, 1)

    def search(self, active: ActiveSet, turn: int) -> None:
        """One round, on the rows of `active`."""
        raise NotImplementedError

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        """What ranks points that do not break `(a,)`: the margin, unless it climbs another loss."""
        return margin(logits, y)

    def num_rounds(self, active: ActiveSet) -> int:
        """How many rounds there are."""
        return self.restarts

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, num_rounds=self.num_rounds)

    def ball(self, threat: Threat) -> Threat:
        """The threat, if it is a ball of a norm this attack knows.

        Raises:
            ValueError: if not.
        """
        known = {torch.inf: "Linf", 2: "L2", 1: "L1", 0: "L0"}
        require(
            getattr(threat, "p", None) in self.norms,
            "threat",
            threat,
            f"a ball of {' or '.join(known[p] for p in self.norms)} for {type(self).__name__}",
        )
        return threat
