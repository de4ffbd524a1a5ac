"""The step of a min–max problem as one call, for a loop of your own."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..attacks.base import Maximizer
from ..attacks.pgd import PGD
from ..batch import Batch
from ..component import require
from ..functional.geometry import box_slack
from ..objective import Objective
from ..threats import Linf

STEPS = 10  # of the default attack


class MinMaxLoss:
    """Compute an objective's total loss: `loss(model, x, y)` searches x', and returns a scalar.

    Modes, batch norm's policy and `.grad` of the model are as in a training by recipe. Call
    `update(model)` after the optimizer's step if a piece has a state: UAD's running statistics, the
    λ of a risk or of UDR. The pieces' state is in `loss.objective`.

    Arguments:
        objective: attack, method and risk; `recipe.objective()` gives that of a recipe.

    >>> from sparring.methods import AT
    >>> from sparring.risks import KL
    >>> loss = MinMaxLoss(Objective(PGD(Linf(0.1), best=False), AT(), KL(radius=0.05)))
    >>> loss(nn.Linear(2, 2), torch.rand(4, 2), torch.tensor([0, 1, 0, 1])).shape
    torch.Size([])
    """

    def __init__(self, objective: Objective) -> None:
        kind = type(objective).__name__
        require(isinstance(objective, Objective), "objective", kind, "a sparring Objective")
        self.objective, self._batch = objective, None

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, weight: Tensor | None = None
    ) -> Tensor:
        """Return the total loss `()` on a batch, with its graph; inside `no_grad`, without.

        Arguments:
            model: inputs to logits `(b, k)`, in the mode that you train in. Inside DDP, the attack
                runs on the bare model.
            x, y: inputs `(b, *d)` in the threat's box; labels `(b,)`, integers, -1 where
                unlabeled.
            weight: base measure `(b,)`, numbers ≥ 0; default: ones.

        Raises:
            ValueError: for samples or a weight of another form, or inputs outside of that box.
        """
        require(isinstance(model, nn.Module), "model", type(model).__name__, "a module of PyTorch")
        _check_samples(x, y)
        _check_box(x, self.objective)
        self.objective.to(x.device)
        # labels of any width, and bool, which would choose rows where it is to be a class
        batch = Batch(x, y.long())
        if weight is not None:
            _check_weight(weight, len(x))
            batch = replace(batch, weight=weight)
        # DDP takes one pass per backward pass, into the weights: the attack goes past it
        parallel = isinstance(model, nn.parallel.DistributedDataParallel)
        self._batch = self.objective.maximize(model.module if parallel else model, batch)
        # a term that is a derivative itself needs a graph, which nobody asked for inside no_grad
        graph = torch.is_grad_enabled()
        with torch.set_grad_enabled(graph or self.objective.method.differentiates_twice):
            total = self.objective.minimize(model, self._batch).total
        assert total is not None
        return total if graph else total.detach()

    def update(self, model: nn.Module) -> None:
        """Move duals and running statistics, after the optimizer's step on the last batch."""
        if self._batch is None:
            raise ValueError("there is no batch yet: call loss(model, x, y) first")
        self.objective.update(model, self._batch)


def chosen_attack(
    attack: Maximizer | None, eps: float | None, *, init: str = "uniform"
) -> Maximizer:
    """Return the attack, or a PGD in Linf of radius eps: 10 steps of eps/4, the last iterate.

    Its seed is drawn from PyTorch's global generator, so that each call has other random starts,
    and `torch.manual_seed` repeats them.

    Arguments:
        init: random start of the default attack, as in `Linf`.

    Raises:
        ValueError: unless one of the two is given.
    """
    given = [name for name, v in (("attack", attack), ("eps", eps)) if v is not None]
    require(len(given) == 1, "attack, eps", given, "one of both: eps=8/255, or attack=PGD(…)")
    if attack is not None:
        require(isinstance(attack, Maximizer), "attack", attack, "an attack for training, as PGD")
        return attack
    assert eps is not None
    seed = int(torch.randint(2**31, ()))
    return PGD(Linf(eps, init=init), steps=STEPS, best=False, seed=seed)


def _check_samples(x: Tensor, y: Tensor) -> None:
    floats = isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1
    require(floats, "x", _kind(x), "floating-point inputs (b, *d)")
    require(x.numel() > 0, "x", _kind(x), "one sample or more")
    integers = isinstance(y, Tensor) and not y.is_floating_point() and y.shape == x.shape[:1]
    require(integers, "y", _kind(y), f"integer labels ({len(x)},)")


def _check_box(x: Tensor, objective: Objective) -> None:
    """Raise `ValueError` for inputs outside of the threat's box: its projection would move them
    there, far beyond eps."""
    threat = objective.attack and objective.attack.threat
    low, high = (threat.low, threat.high) if threat else (-math.inf, math.inf)
    slack = box_slack(low, high) if threat else 0.0
    least, most = torch.stack(torch.aminmax(x.detach())).tolist()
    # NaN fails every comparison, so it is refused too
    require(
        low - slack <= least and most <= high + slack,
        "x",
        f"{least:.4g} to {most:.4g}",
        f"inputs in the threat's box [{low}, {high}], without NaN: put normalisation into the "
        "model, and hand over unnormalised inputs",
    )


def _check_weight(weight: object, rows: int) -> None:
    fits = False
    if isinstance(weight, Tensor) and weight.shape == (rows,):
        fits = bool(((weight >= 0) & weight.isfinite()).all())
    require(fits, "weight", _kind(weight), f"a tensor of finite numbers ≥ 0 ({rows},)")


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
