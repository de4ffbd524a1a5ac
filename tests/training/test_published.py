"""Recipes of ResNet-18: twenty steps with their own attack, method and weights."""

import pytest
import torch

from sparring.config import recipe
from sparring.data import Source, Split
from sparring.training import Trainer

STEPS, BATCH = 20, 8
SHORT = {
    "train.epochs": 1,
    "train.batch_size": BATCH,
    "train.optimizer.lr": 0.1 * BATCH / 128,
}


def colours() -> Source:
    """Images of ten classes, recognised by their colour under noise."""
    draw = torch.Generator().manual_seed(3)
    y = torch.arange(STEPS * BATCH + 2 * BATCH) % 10
    tint = torch.rand(10, 3, 1, 1, generator=draw)
    x = (tint[y] + 0.1 * torch.randn(len(y), 3, 32, 32, generator=draw)).clamp(0, 1)
    sizes = [STEPS * BATCH, BATCH, BATCH]
    train, val, test = (Split(a, b) for a, b in zip(x.split(sizes), y.split(sizes), strict=True))
    return Source("colours", train, val, test, list("abcdefghij"), sha256="colours")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("cifar10-resnet18-pgd-at", ()),
        ("cifar10-resnet18-otjr-paper", ("sw", "jacobian")),
        ("cifar10-resnet18-uad", ("adversarial", "match", "misaligned")),
    ],
)
def test_twenty_steps(tmp_path, name, terms):
    data = colours()
    plan = recipe.load_recipe(name, set=SHORT).with_data(data)
    model = plan.network()
    before = [p.detach().clone() for p in model.parameters()]
    trainer = Trainer(model, plan.objective(), data, out=tmp_path / "run", **plan.trainer())
    (epoch,) = trainer
    assert epoch.step == STEPS
    assert 0 < epoch.loss < 100
    assert all(epoch.terms[term] > 0 for term in terms)
    assert all(
        p.isfinite().all() and not p.equal(b)
        for p, b in zip(model.parameters(), before, strict=True)
    )
