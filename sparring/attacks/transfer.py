"""Transfer adversarial inputs of a surrogate to the model, without any gradient of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import require
from ..functional import losses
from ..introspect import freeze
from ..introspect.forward import check_outputs
from ..threats.base import Threat, on_rows
from .base import ActiveSet, Attack, Execution, Maximizer, Search


class Transfer(Search):
    """Run attacks on a surrogate model, one after another, and try their points on the model.

    An attack that climbs a loss climbs it on the surrogate to the end: a point that has only just
    crossed the surrogate's boundary seldom crosses another. Any other attack transfers the points
    it returns. Points outside of the threat's set are projected back.

    Arguments:
        threat: where the points may go; the attacks bring their own, as a rule the same.
        surrogate: inputs `(b, *d)` to logits `(b, k)` with the model's k; left as it was.
        attack: runs on the surrogate; one or several: each sees the samples that those before it
            did not break.
        mode, precision, channels_last: how the model runs; the surrogate runs as `attack` sets.
        seed: of all the attacks: it replaces theirs.

    Raises:
        ValueError: for no attack, a targeted one, or a surrogate of other classes than the model.

    Source: Papernot et al. 2016, sec. 3. Differs: the surrogate is an argument, not trained on the
    model's answers.

    >>> from sparring.attacks import PGD
    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), 0.9 - x.sum(1)], 1)
    >>> attack = Transfer(Linf(0.1), surrogate=lambda x: 2 * model(x), attack=PGD(Linf(0.1)))
    >>> model(attack(model, torch.full((1, 2), 0.3), torch.tensor([0]))).argmax(1)
    tensor([1])
    """

    paper = "papernot2016transfer"

    def __init__(
        self,
        threat: Threat,
        *,
        surrogate: Model,
        attack: Attack | Sequence[Attack],
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat, self.surrogate, self.attack = threat, surrogate, attack
        require(self.attacks, "attack", attack, "an attack, or at least one in a list")
        targeted = any(getattr(a, "targeted", False) for a in self.attacks)
        require(not targeted, "attack", attack, "untargeted: y is the class to leave")

    @property
    def attacks(self) -> list[Attack]:
        """The attacks that run on the surrogate, in order."""
        return [self.attack] if isinstance(self.attack, Attack) else list(self.attack)

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        for attack in self.attacks:
            attack.reseed(seed)

    def num_rounds(self, active: ActiveSet) -> int:
        return len(self.attacks)

    def search(self, active: ActiveSet, round_index: int) -> None:
        self.generator(active.x.device)  # the first call reseeds, and with it the attacks
        classes = self._classes(active)
        attack = self.attacks[round_index]
        with on_rows([attack], active.rows, active.x):
            z = surrogate_points(attack, self.surrogate, active.x, active.y)
        z = self.threat.project(z.to(active.x.dtype), active.batch)
        logits = active.logits_no_grad(z)
        if logits.shape[1] != classes:
            raise ValueError(
                f"the surrogate has {classes} classes and the model {logits.shape[1]}: "
                "a surrogate must tell the same classes apart"
            )
        active.record(z, logits)

    def _classes(self, active: ActiveSet) -> int:
        """Return the surrogate's k.

        Raises:
            ValueError: for labels that the surrogate does not have.
        """
        with freeze.frozen(self.surrogate) as run, torch.no_grad():
            classes = check_outputs(run(active.x[:1]), 1)
        most = int(active.y.max())
        if most >= classes:
            raise ValueError(
                f"the surrogate has {classes} classes and y a label {most}: "
                "a surrogate must tell the same classes apart"
            )
        return classes


def surrogate_points(attack: Attack, surrogate: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return adversarial inputs `(b, *d)` for the surrogate; those of highest loss, if the attack
    climbs a loss."""
    loss = losses.BY_NAME.get(getattr(attack, "loss", ""))
    if loss is None:
        return attack(surrogate, x, y)
    with freeze.frozen(surrogate, attack.mode):
        if isinstance(attack, Maximizer):
            active = ActiveSet(surrogate, x, y)
            return attack.maximize(lambda z: loss(active.logits(z), y), Batch(x, y))
        if isinstance(attack, Search):
            active = ActiveSet(surrogate, x, y, precision=attack.precision, rank=attack.rank)
            # no row is ever adversarial, so none leaves: `best` is the point of highest loss
            active.is_adversarial = lambda logits, y: torch.zeros_like(y, dtype=torch.bool)
            for round_index in range(attack.num_rounds(active)):
                active.restart()
                attack.search(active, round_index)
            return active.best.detach()
    return attack(surrogate, x, y)
