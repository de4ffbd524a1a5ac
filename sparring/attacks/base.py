"""An attack is a function of model, inputs and labels; a maximizer climbs any gain a trainer hands
it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch, Gain
from ..part import Part
from ..threats.base import Threat

GainOf = Callable[[Tensor], Gain]
Model = Callable[[Tensor], Tensor]


class Attack(Part):
    """Finds adversarial inputs: `x_adv = attack(model, x, y)`.

    It leaves the model as it was: weights, `.grad`, every module's own mode, batch-norm statistics;
        and it never
    touches the global random state, but draws from its own generator.

    Arguments every attack stores:
        threat: where it may go.
        mode: how the model runs meanwhile: `"eval"`, `"train"` (batch statistics, running ones
            untouched), `"keep"`.
        seed: of its generator; `reseed` starts it again.
    """

    threat: Threat
    mode: str = "eval"
    seed: int = 0
    replays: int = 1

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

    def maximize(self, f: GainOf, batch: Batch) -> Tensor:
        """A point z of the threat's set with a high `f(z).value`, detached. The caller holds the
        model still."""
        raise NotImplementedError


def ascend(f: GainOf, z: Tensor) -> tuple[Gain, Tensor]:
    """The gain at z, detached, and its gradient with respect to z only.

    Raises:
        ValueError: if the gain does not depend on z: a model that detaches, rounds or leaves torch.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        gain = f(z)
        if not gain.value.requires_grad:
            raise ValueError(
                "the model's output has no gradient with respect to its input: "
                "it detaches or leaves torch"
            )
        (grad,) = torch.autograd.grad(gain.value.sum(), z)
    return Gain(gain.value.detach(), gain.success), grad


def look(f: GainOf, z: Tensor) -> Gain:
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
