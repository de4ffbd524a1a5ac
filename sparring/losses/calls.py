"""One call per method: the total loss of its recipe on a batch.

Each takes `attack`, whose generator goes on from call to call, or `eps` for a PGD in Linf.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..attacks.base import Maximizer
from ..methods import ALP, AT, MART, OTJR, SAT, TRADES, UAD, Method
from ..objective import Objective
from ..risks import Mean
from .minmax import MinMaxLoss, chosen_attack


def pgd_at(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attack: Maximizer | None = None,
    eps: float | None = None,
) -> Tensor:
    """Return the loss `()` of adversarial training, as `methods.AT`.

    Arguments:
        model, x, y: as in `MinMaxLoss`.
        attack: searches x'; or instead
        eps: radius of the Linf ball of a PGD of 10 steps of eps/4.
    """
    return _total(AT(), model, x, y, chosen_attack(attack, eps))


def trades(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attack: Maximizer | None = None,
    eps: float | None = None,
    beta: float = 6.0,
) -> Tensor:
    """Return the loss `()` of `methods.TRADES`; x' maximizes its KL. Arguments as in `pgd_at`."""
    return _total(TRADES(beta=beta), model, x, y, chosen_attack(attack, eps, init="noise"))


def mart(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attack: Maximizer | None = None,
    eps: float | None = None,
    beta: float = 5.0,
    inner: str = "ce",
) -> Tensor:
    """Return the loss `()` of `methods.MART`. Arguments as in `pgd_at`."""
    method = MART(beta=beta, inner=inner)
    return _total(method, model, x, y, chosen_attack(attack, eps, init="noise"))


def alp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attack: Maximizer | None = None,
    eps: float | None = None,
    beta: float = 0.5,
) -> Tensor:
    """Return the loss `()` of `methods.ALP`. Arguments as in `pgd_at`."""
    return _total(ALP(beta=beta), model, x, y, chosen_attack(attack, eps))


def sat(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attack: Maximizer | None = None,
    eps: float | None = None,
    weight: float = 1.0,
    layer: str | None = None,
) -> Tensor:
    """Return the loss `()` of `methods.SAT`. Arguments as there, and in `pgd_at`."""
    return _total(SAT(weight=weight, layer=layer), model, x, y, chosen_attack(attack, eps))


def otjr(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attack: Maximizer | None = None,
    eps: float | None = None,
    sw: float = 64.0,
    jac: float = 0.005,
    slices: int = 32,
    layer: str | None = None,
) -> Tensor:
    """Return the loss `()` of `methods.OTJR`; its slices come from PyTorch's global generator.

    `jac_every` counts steps, so it needs a `MinMaxLoss`. Arguments as in `OTJR` and `pgd_at`.
    """
    method = OTJR(sw=sw, jac=jac, slices=slices, layer=layer)
    return _total(method, model, x, y, chosen_attack(attack, eps))


def uad(
    *,
    sites: Sequence[str],
    reference: str,
    attack: Maximizer | None = None,
    eps: float | None = None,
    align: str = "cosine",
    adversarial: float = 1.0,
    matching: float = 3.0,
    gradient: float = 0.2,
) -> MinMaxLoss:
    """Make the loss of `methods.UAD` once, before the loop: it counts steps, so it has a state.

    Call `loss.update(model)` after each optimizer step, which keeps batch norm's running
    statistics. Arguments as in `methods.UAD` and `pgd_at`.

    >>> loss = uad(sites=["0"], reference="none", eps=0.1)
    """
    method = UAD(
        sites=sites,
        reference=reference,
        align=align,
        adversarial=adversarial,
        matching=matching,
        gradient=gradient,
    )
    return MinMaxLoss(Objective(chosen_attack(attack, eps, init="noise"), method, Mean()))


def _total(method: Method, model: nn.Module, x: Tensor, y: Tensor, attack: Maximizer) -> Tensor:
    return MinMaxLoss(Objective(attack, method, Mean()))(model, x, y)
