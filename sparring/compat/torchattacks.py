"""Torchattacks' classes and calls, answered by our attacks: `from sparring.compat import
torchattacks`.

Names, arguments, defaults and modes are those of torchattacks 3.5.1. Where an attack of ours
differs from theirs, its docstring says so. None is weaker than theirs: an adversarial point that a
search has passed counts, and so does the point of highest loss.

>>> import torch
>>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
>>> attack = PGD(model, eps=0.1, alpha=0.1, steps=3)
>>> attack(torch.full((1, 2), 0.5), torch.tensor([0]))
tensor([[0.4000, 0.4000]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ..component import did_you_mean
from .base import Attack
from .gradients import (
    APGD,
    APGDT,
    BIM,
    FFGSM,
    FGSM,
    GN,
    MIFGSM,
    PGD,
    PGDL2,
    SPSA,
    VANILA,
    Square,
)
from .minimal import CW, EADL1, FAB, JSMA, DeepFool
from .several import AutoAttack, MultiAttack

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "CW",
    "EADL1",
    "FAB",
    "FFGSM",
    "FGSM",
    "GN",
    "JSMA",
    "MIFGSM",
    "PGD",
    "PGDL2",
    "SPSA",
    "VANILA",
    "Attack",
    "AutoAttack",
    "DeepFool",
    "MultiAttack",
    "Square",
]
NEAREST = {  # what torchattacks has and we have not: the call that comes nearest
    "RFGSM": "PGD(model, eps, alpha, steps), from a uniform random start",
    "EOTPGD": "APGD(model, eps=eps, steps=steps, eot_iter=eot_iter)",
    "TPGD": "PGD(model, eps, alpha, steps); to train on its loss: sparring.methods.TRADES",
    "UPGD": "PGD(model, eps, alpha, steps)",
    "DIFGSM": "MIFGSM(model, eps, alpha, steps, decay), without resized inputs",
    "TIFGSM": "MIFGSM(model, eps, alpha, steps, decay), without smoothed gradients",
    "Jitter": "PGD(model, eps, alpha, steps)",
    "NIFGSM": "MIFGSM(model, eps, alpha, steps, decay)",
    "PGDRS": "PGD(model, eps, alpha, steps); for certificates: sparring.certification",
    "PGDRSL2": "PGDL2(model, eps, alpha, steps); for certificates: sparring.certification",
    "SINIFGSM": "MIFGSM(model, eps, alpha, steps, decay)",
    "VMIFGSM": "MIFGSM(model, eps, alpha, steps, decay)",
    "VNIFGSM": "MIFGSM(model, eps, alpha, steps, decay)",
    "PIFGSM": "MIFGSM(model, eps=max_epsilon)",
    "PIFGSMPP": "MIFGSM(model, eps=max_epsilon)",
    "EADEN": "EADL1(model, …), by the L1 rule",
    "SparseFool": "JSMA(model); with queries only: sparring.attacks.SparseRS(L0(pixels))",
    "OnePixel": "sparring.attacks.SparseRS(L0(pixels))",
    "Pixle": "sparring.attacks.SparseRS(L0(pixels))",
    "LGV": "sparring.attacks.Transfer(threat, surrogate=net, attack=…)",
}


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Return, for an attack of theirs that we lack, a constructor that says what comes nearest."""
    if name in NEAREST:

        def missing(*args: Any, **keywords: Any) -> NoReturn:
            raise NotImplementedError(
                f"torchattacks.{name} has no counterpart in sparring. Nearest: {NEAREST[name]}"
            )

        missing.__name__ = name
        return missing
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(did_you_mean("attack", name, (*__all__, *NEAREST)))
