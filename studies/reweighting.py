"""The pictures of docs/explanation/armor.md: moved and growing points, weights, λ over training.

python studies/reweighting.py docs/figures
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from sklearn.datasets import make_moons
from torch import Tensor

import sparring
from sparring import data
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.config import recipe
from sparring.methods import AT
from sparring.models import mlp
from sparring.objective import Objective
from sparring.risks import KL
from sparring.threats import Transport

COLOURS = ("#0072b2", "#d55e00")
RADII = (0.02, 0.1, 0.5)
EPOCHS = 20


def plane(seed: int = 0) -> Batch:
    """120 points of two moons in the unit square, two of them on the wrong side."""
    x, y = map(np.asarray, make_moons(120, noise=0.08, random_state=seed))
    x = (x - x.min(0)) / (x.max(0) - x.min(0)) * 0.8 + 0.1
    y[[3, 8]] = 1 - y[[3, 8]]
    return Batch(torch.tensor(x, dtype=torch.float32), torch.tensor(y))


def weights(objective: Objective, model: torch.nn.Module, full: Batch) -> Tensor:
    """The worst distribution's mass of each sample, times b: ∂(b·risk)/∂loss."""
    loss = objective.method.loss(model, full).per_sample.detach().requires_grad_()
    assert full.cost is not None
    risk = objective.risk(loss, full.cost, full)
    return len(full) * torch.autograd.grad(risk, loss)[0]


def points(out: Path) -> None:
    """Three moments of a training under KL and a squared transport cost."""
    batch = plane()
    torch.manual_seed(0)
    model = mlp(shape=(2,), classes=2, hidden=[64, 64])
    attack = PGD(Transport(20.0, p=2, power=2, descent="l2"), steps=20, size=0.01, best=False)
    objective = Objective(attack, AT(), KL(radius=0.2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), sharex=True, sharey=True)
    moments = dict(zip((10, 60, 400), axes, strict=True))
    for step in range(401):
        attack.reseed(step)
        full = objective.maximize(model, batch)
        if step in moments:
            w = weights(objective, model, full)
            draw(moments[step], model, full, w, f"step {step}")
        total = objective.minimize(model, full).total
        assert total is not None
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    figure.tight_layout()
    figure.savefig(out / "armor-points.png", dpi=110)


def draw(axis: Axes, model: torch.nn.Module, full: Batch, w: Tensor, title: str) -> None:
    """Points where they were (rings) and where they went (discs, as large as their weight)."""
    side = torch.linspace(0, 1, 120)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).view(-1, 2)
    with torch.no_grad():
        p = model(grid).softmax(1)[:, 1].view(120, 120)
    axis.contourf(side, side, p, levels=20, cmap="RdBu_r", alpha=0.35, vmin=0, vmax=1)
    axis.contour(side, side, p, levels=[0.5], colors="black", linewidths=1)
    assert full.x_adv is not None
    x, z = full.x.numpy(), full.x_adv.numpy()
    for a, b in zip(x, z, strict=True):
        axis.plot([a[0], b[0]], [a[1], b[1]], color="#555555", linewidth=0.6)
    colours = [COLOURS[int(label)] for label in full.y]
    axis.scatter(x[:, 0], x[:, 1], s=8, facecolors="none", edgecolors=colours, linewidths=0.7)
    axis.scatter(z[:, 0], z[:, 1], s=12 * w.numpy(), c=colours, alpha=0.8, linewidths=0)
    axis.set(title=title, xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])


def trained(radius: float, place: Path) -> Path:
    """PGD adversarial training on the digits, under a KL ball."""
    changes = {
        "recipe.name": f"armor-kl-{radius:g}",
        "risk": {"name": "KL", "radius": radius},
        "train.epochs": EPOCHS,
    }
    return sparring.train("digits-pgd-at", out=place / f"{radius:g}", set=changes)


def multipliers(runs: dict[float, Path], out: Path) -> None:
    """λ, the largest weight and the effective sample size, epoch by epoch."""
    keys = {"lambda": "λ", "max_weight": "largest weight × b", "ess": "effective sample size / b"}
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    for (key, title), axis in zip(keys.items(), axes, strict=True):
        for radius, run in runs.items():
            rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            axis.plot(
                [r["epoch"] for r in rows],
                [r["parts"][key] for r in rows],
                label=f"radius {radius:g}",
            )
        axis.set(title=title, xlabel="epoch")
    axes[0].set_yscale("log")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(out / "armor-lambda.png", dpi=110)


def over_an_epoch(runs: dict[float, Path], out: Path) -> None:
    """The weights of all training samples, largest first, with the trained models."""
    split = data.load("digits").train
    figure, axis = plt.subplots(figsize=(6, 3.2))
    for radius, run in runs.items():
        model, objective = sparring.load(run), recipe.load_recipe(run).objective()
        found = []
        for batch in data.Loader(split, batch_size=100, shuffle=True).epoch(0):
            found.append(weights(objective, model, objective.maximize(model, batch)))
        w = torch.cat(found).sort(descending=True).values
        axis.plot(torch.arange(1, len(w) + 1) / len(w), w, label=f"radius {radius:g}")
    axis.axhline(1, color="#555555", linewidth=0.8, linestyle="dotted")
    axis.set(xlabel="share of the training samples", ylabel="weight × b", xlim=(0, 1))
    axis.legend()
    figure.tight_layout()
    figure.savefig(out / "armor-weights.png", dpi=110)


def main() -> None:
    """All three."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures")
    out.mkdir(parents=True, exist_ok=True)
    points(out)
    with tempfile.TemporaryDirectory() as folder:
        runs = {radius: trained(radius, Path(folder)) for radius in RADII}
        multipliers(runs, out)
        over_an_epoch(runs, out)


if __name__ == "__main__":
    main()
