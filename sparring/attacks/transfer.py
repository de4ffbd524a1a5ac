"""Transfer: points made on a surrogate, tried on the model; no gradient of the model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import require
from ..functional import losses
from ..introspect import freeze
from ..threats.base import Threat
from .base import ActiveSet, Attack, Execution, Maximizer, Search


class Transfer(Search):
    """Runs attacks on a surrogate model and asks the model about their points, attack by attack.

    An attack that climbs a loss climbs it on the surrogate to the end: a point that has only just
    crossed the surrogate's boundary seldom crosses another. Any other attack hands over the points
    it returns. What leaves the threat's set is projected back.

    Arguments:
        threat: where the points may go; the attacks bring their own, as a rule the same.
        surrogate: inputs `(b, *d)` to logits `(b, k)` with the model's k; left as it was.
        attack: what runs on the surrogate, or several; each sees what those before it left.
        mode, precision, channels_last: how the model runs while asked; the surrogate runs as
            `attack` says.
        seed: of all the attacks: it takes the place of their own.

    Raises:
        ValueError: for no attack, a targeted one, or a surrogate of other classes than the model.

    Source: Papernot et al. 2016, sec. 3. Differs: the surrogate is given, not trained on the
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
        """What runs on the surrogate, in order."""
        return [self.attack] if isinstance(self.attack, Attack) else list(self.attack)

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        for attack in self.attacks:
            attack.reseed(seed)

    def num_rounds(self, active: ActiveSet) -> int:
        return len(self.attacks)

    def search(self, active: ActiveSet, turn: int) -> None:
        self.generator(active.x.device)  # the first call seeds the attacks
        classes = self._classes(active)
        z = points(self.attacks[turn], self.surrogate, active.x, active.y)
        z = self.threat.project(z.to(active.x.dtype), active.batch)
        logits = active.logits_no_grad(z)
        if logits.shape[1] != classes:
            raise ValueError(
                f"the surrogate has {classes} classes and the model {logits.shape[1]}: "
                "a surrogate must tell the same classes apart"
            )
        active.record(z, logits)

    def _classes(self, active: ActiveSet) -> int:
        """The surrogate's k; refuses labels it does not have."""
        with freeze.frozen(self.surrogate), torch.no_grad():
            classes = self.surrogate(active.x[:1]).shape[1]
        most = int(active.y.max())
        if most >= classes:
            raise ValueError(
                f"the surrogate has {classes} classes and y a label {most}: "
                "a surrogate must tell the same classes apart"
            )
        return classes


def points(attack: Attack, surrogate: Model, x: Tensor, y: Tensor) -> Tensor:
    """Adversarial inputs `(b, *d)` for the surrogate; of an attack that climbs a loss, those of the
    highest loss."""
    climbed = losses.BY_NAME.get(getattr(attack, "loss", ""))
    if climbed is None:
        return attack(surrogate, x, y)
    with freeze.frozen(surrogate, attack.mode):
        if isinstance(attack, Maximizer):

            def gain(z: Tensor) -> Tensor:
                logits = surrogate(z)
                return climbed(logits, y)

            return attack.maximize(gain, Batch(x, y))
        if isinstance(attack, Search):
            blind = ActiveSet(surrogate, x, y, precision=attack.precision)
            blind.is_adversarial = lambda logits, y: torch.zeros_like(y, dtype=torch.bool)
            for turn in range(attack.num_rounds(blind)):
                blind.restart()
                attack.search(blind, turn)
            return blind.found.detach()
    return attack(surrogate, x, y)
