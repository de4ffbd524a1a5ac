"""Write a method of your own in one class, and train with it against PGD: MAIL.

python examples/own_method.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring import data
from sparring.attacks import PGD
from sparring.batch import Batch, Loss
from sparring.component import require
from sparring.functional import losses
from sparring.methods import Method
from sparring.models import build
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf


class MAIL(Method):
    """ℓ = ω·CE(f(x'), y): samples near or beyond the decision boundary weigh more.

    ω = sigmoid(slope·(max_{k≠y} p'_k − p'_y + bias)), divided by its mean over the batch and
    without gradient; p' is the softmax of f(x').

    Arguments:
        slope: how sharply ω falls with the probabilistic margin, ≥ 0; 0 is `AT`.
        bias: added to the margin, in probability.

    Source: Wang, Liu et al. 2021, "Probabilistic Margins for Instance Reweighting in Adversarial
    Training", MAIL-AT. Differs: in the authors' code ω is multiplied by 3, not normalized.
    """

    def __init__(self, *, slope: float = 10.0, bias: float = 0.0) -> None:
        super().__init__()
        require(slope >= 0, "slope", slope, "a number ≥ 0")
        self.slope, self.bias = slope, bias

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss per sample; the gain is inherited: cross-entropy."""
        assert batch.x_adv is not None
        logits = model(batch.x_adv)
        weight = self._weight(logits.detach(), batch.y)
        return Loss(
            weight * losses.cross_entropy(logits, batch.y), terms={"weight_std": weight.std()}
        )

    def _weight(self, logits: Tensor, y: Tensor) -> Tensor:
        margin = losses.margin(logits.softmax(1), y)  # of probabilities: in [-1, 1]
        weight = (self.slope * (margin + self.bias)).sigmoid()
        return weight / weight.mean()


def main(epochs: int = 5) -> float:
    """Train on digits with the package's training step; return the last loss."""
    torch.manual_seed(0)
    digits = data.load("digits")
    model = build("mlp", shape=digits.shape, classes=digits.classes)
    objective = Objective(PGD(Linf(0.1), steps=5, best=False), MAIL(), Mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = data.Loader(digits.train, batch_size=64, shuffle=True)
    total = torch.tensor(torch.inf)
    for epoch in range(epochs):
        for batch in loader.epoch(epoch):
            batch = objective.maximize(model, batch)
            total = objective.minimize(model, batch).total
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            objective.update(model, batch)
        print(f"epoch {epoch + 1}: loss {total.item():.3f}")
    return total.item()


if __name__ == "__main__":
    main()
