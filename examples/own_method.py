"""A method of your own in one class, trained against the usual adversary: ALP, adversarial logit
pairing.

python examples/own_method.py
"""

from __future__ import annotations

import torch
from torch import nn

from sparring import data
from sparring.attacks import PGD
from sparring.batch import Batch, Loss
from sparring.functional import losses
from sparring.methods import Method
from sparring.models import build
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf


class ALP(Method):
    """CE(f(x'), y) + pairing·‖f(x) − f(x')‖²/k. Source: Kannan et al. 2018."""

    def __init__(self, *, pairing: float = 0.5) -> None:
        super().__init__()
        self.pairing = pairing

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Per-sample loss; the adversary's gain is inherited: cross-entropy."""
        assert batch.x_adv is not None
        clean, adversarial = model(batch.x), model(batch.x_adv)
        distance = (clean - adversarial).square().mean(1)
        return Loss(losses.cross_entropy(adversarial, batch.y) + self.pairing * distance)


def main(epochs: int = 5) -> float:
    """Train on digits with the step that DESIGN's formula prescribes; returns the last loss."""
    torch.manual_seed(0)
    digits = data.load("digits")
    model = build("mlp", shape=digits.shape, classes=digits.classes)
    objective = Objective(PGD(Linf(0.1), steps=5, best=False), ALP(), Mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    total = torch.tensor(torch.inf)
    for _ in range(epochs):
        for batch in data.Loader(digits.train, batch_size=64, shuffle=True).epoch(0):
            batch = objective.maximize(model, batch)
            total = objective.minimize(model, batch).total
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            objective.update(model, batch)
    print(f"last loss {total.item():.3f}")
    return total.item()


if __name__ == "__main__":
    main()
