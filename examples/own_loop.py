"""Train in plain PyTorch with the package's losses and PGD: no Trainer, no recipe.

python examples/own_loop.py
"""

from __future__ import annotations

import torch
from torch import nn

from sparring import data
from sparring.attacks import PGD
from sparring.functional import losses
from sparring.threats import Linf


def main(epochs: int = 10) -> float:
    """Train adversarially on digits; return robust accuracy on the test split."""
    torch.manual_seed(0)
    digits = data.load("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    attack = PGD(Linf(0.1), steps=5)

    x, y = digits.train.float(), digits.train.y
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            x_adv = attack(model, x[rows], y[rows])
            loss = losses.cross_entropy(model(x_adv), y[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    x, y = digits.test.float(), digits.test.y
    x_adv = PGD(Linf(0.1), steps=20, restarts=2)(model, x, y)
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).float().mean().item()
        robust = (model(x_adv).argmax(1) == y).float().mean().item()
    print(f"clean {clean:.4f}, robust at eps 0.1 {robust:.4f}")
    return robust


if __name__ == "__main__":
    main()
