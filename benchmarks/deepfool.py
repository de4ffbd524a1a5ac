"""Batched DeepFool against Foolbox's at equal distances: same model, samples, steps and rivals."""

from __future__ import annotations

import argparse

import torch
from common import Row, merged, paired, save
from torch import Tensor, nn

from sparring import data, models
from sparring.attacks import DeepFool
from sparring.geometry import norm
from sparring.threats import named

STEPS, OVERSHOOT, CLASSES = 50, 0.02, 10


def fitted(rows: int, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A small network after one pass over 6,000 images of MNIST, and `rows` test images that it
    gets right."""
    source = data.load("mnist", limit=6000, seed=seed)
    torch.manual_seed(seed)
    model = models.build("mnist-net", shape=source.shape, classes=10)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for at in torch.randperm(len(source.train)).split(64):
        loss = nn.functional.cross_entropy(model(source.train.float(at)), source.train.y[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    x, y = source.test.float(slice(0, 2 * rows)), source.test.y[: 2 * rows]
    right = (model(x).argmax(1) == y).nonzero()[:rows, 0]
    return model, x[right], y[right]


def compare(name: str, model: nn.Module, x: Tensor, y: Tensor, *, batch: int, runs: int) -> Row:
    """One norm, both in the same batches."""
    import foolbox

    p = torch.inf if name == "Linf" else 2
    mine = DeepFool(named(name, eps=0.0), steps=STEPS, overshoot=OVERSHOOT, classes=CLASSES)
    made = {"Linf": foolbox.attacks.LinfDeepFoolAttack, "L2": foolbox.attacks.L2DeepFoolAttack}
    theirs = made[name](steps=STEPS, candidates=CLASSES, overshoot=OVERSHOOT)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    parts = list(zip(x.split(batch), y.split(batch), strict=True))
    ends: dict[str, Tensor] = {}

    def ours() -> None:
        ends["ours"] = torch.cat([mine.distances(model, *part)[0] for part in parts])

    def peer() -> None:
        found = [theirs(wrapped, *part, epsilons=None)[0] for part in parts]
        ends["peer"] = torch.cat(found)

    a, b, ratio = paired(ours, peer, runs=runs)
    far = {who: norm(z - x, p) for who, z in ends.items()}
    wrong = {who: model(z).argmax(1) != y for who, z in ends.items()}
    middle = {who: d[wrong[who]].median().item() for who, d in far.items()}
    return Row(
        f"deepfool {name} n {len(x)} batch {batch}",
        "float32",
        a,
        "foolbox",
        b,
        ratio,
        1 - wrong["ours"].float().mean().item(),
        1 - wrong["peer"].float().mean().item(),
        agreement=(far["ours"] <= 1.01 * far["peer"]).float().mean().item(),
        note=f"median distance {middle['ours']:.4f} against {middle['peer']:.4f}; agreement is the "
        "share of samples on which ours is no further (1 %)",
    )


def main() -> None:
    """Both norms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, x, y = fitted(args.n)
    rows = [
        compare(name, model, x, y, batch=args.batch, runs=args.runs) for name in ("L2", "Linf")
    ]
    save("deepfool", merged("deepfool", rows))


if __name__ == "__main__":
    main()
