"""A small residual network, a filled batch, and a few steps of training, for tests of methods."""

from __future__ import annotations

import torch
from torch import nn

from sparring import models
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.methods import UAD
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf

SITES = ["conv1", "layer1", "layer2"]


def net(*, width: int = 4, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.resnet18(shape=(1, 8, 8), classes=3, width=width).to(dtype)


def images(b: int = 6, *, dtype: torch.dtype = torch.float32, eps: float = 0.1) -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(b, 1, 8, 8, generator=draw, dtype=dtype)
    x_adv = (x + eps * (2 * torch.rand(x.shape, generator=draw, dtype=dtype) - 1)).clamp(0, 1)
    y = torch.arange(b) % 3
    return Batch(x, y, x_adv=x_adv, y_adv=y, cost=torch.zeros(b, dtype=dtype))


def references(method: UAD) -> list[torch.Tensor]:
    """Return a list that receives the logits that a method matches x' with, as they come."""
    logits, refined_logits = [], method._refined_logits

    def spy(*args):
        logits.append(refined_logits(*args))
        return logits[-1]

    method._refined_logits = spy
    return logits


def total(method, model, batch) -> torch.Tensor:
    torch.manual_seed(7)
    return Objective(None, method, Mean()).minimize(model, batch).total


def weights_after(method, steps: int = 3) -> dict[str, torch.Tensor]:
    model = net().train()
    objective = Objective(PGD(Linf(0.1), steps=2), method, Mean())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        objective.attack.reseed(step)
        batch = objective.maximize(model, Batch(images().x, images().y))
        optimizer.zero_grad()
        objective.minimize(model, batch).total.backward()
        optimizer.step()
        objective.update(model, batch)
    return model.state_dict()


def bare_net() -> nn.Sequential:
    """`net` without batch norm, which itself refuses a batch of one."""
    return models.stages(
        conv1=nn.Conv2d(1, 4, 3),
        layer1=nn.Conv2d(4, 4, 3),
        layer2=nn.Conv2d(4, 4, 3),
        flatten=nn.Flatten(),
        linear=nn.Linear(16, 3),
    )
