"""Time our batched DeepFool against Foolbox's: same model, samples and steps."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import Row, merged, save
from torch import Tensor, nn

from sparring import data, models
from sparring.attacks import DeepFool
from sparring.functional.geometry import norm
from sparring.metrics import Distance
from sparring.threats import L2, Linf

STEPS, OVERSHOOT, CLASSES = 50, 0.02, 10


def fitted(rows: int, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network after one pass over 6,000 images of MNIST, and test images it gets right."""
    source = data.load("mnist", limit=6000, seed=seed)
    torch.manual_seed(seed)
    model = models.build("mnist-net", shape=source.shape, classes=10)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for indices in torch.randperm(len(source.train)).split(64):
        loss = nn.functional.cross_entropy(
            model(source.train.float(indices)), source.train.y[indices]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    x, y = source.test.float(slice(0, 2 * rows)), source.test.y[: 2 * rows]
    right = (model(x).argmax(1) == y).nonzero()[:rows, 0]
    return model, x[right], y[right]


def processor(f: Callable[[], object]) -> float:
    """Return the processor seconds of a call, not those of other processes."""
    start = time.process_time()
    f()
    return time.process_time() - start


def compare(
    name: str, model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int, runs: int, metric: bool
) -> Row:
    """Compare both for one norm, in the same batches.

    Arguments:
        metric: ours is the whole metric, which after DeepFool bisects for the boundary; Foolbox
            has no such step.
    """
    import foolbox

    p, options = torch.inf if name == "Linf" else 2, {"steps": STEPS, "overshoot": OVERSHOOT}
    far_away = Linf(1.0) if name == "Linf" else L2(1e3)
    attack = DeepFool(far_away, classes=CLASSES, **options)
    whole = Distance(norm=name, classes=CLASSES, **options)
    mine = whole if metric else lambda *args: attack.distances(*args)[1]
    attacks = {"Linf": foolbox.attacks.LinfDeepFoolAttack, "L2": foolbox.attacks.L2DeepFoolAttack}
    theirs = attacks[name](steps=STEPS, candidates=CLASSES, overshoot=OVERSHOOT)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    parts = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    far: dict[str, Tensor] = {}
    wrong: dict[str, Tensor] = {}

    def ours() -> None:
        far["ours"] = torch.cat([mine(model, *part) for part in parts])

    def peer() -> None:
        points = [theirs(wrapped, *part, epsilons=None)[0] for part in parts]
        far["peer"] = norm(torch.cat(points) - x, p)
        wrong["peer"] = model(torch.cat(points)).argmax(1) != y

    ours()
    peer()
    times = [(processor(ours), processor(peer)) for _ in range(runs)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(mine / other for mine, other in times)
    wrong["ours"] = far["ours"].isfinite()
    middle = {who: d[wrong[who]].median().item() for who, d in far.items()}
    return Row(
        f"{'distance' if metric else 'deepfool'} {name} n {len(x)} batch {batch_size}",
        "float32",
        a,
        "foolbox",
        b,
        ratio,
        1 - wrong["ours"].float().mean().item(),
        1 - wrong["peer"].float().mean().item(),
        agreement=(far["ours"] <= 1.05 * far["peer"]).float().mean().item(),
        note=f"median distance {middle['ours']:.4f} against {middle['peer']:.4f}; agreement is the "
        "share of samples on which ours is no further than 5 % more; seconds of processor time",
    )


def main() -> None:
    """Compare in both norms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, x, y = fitted(args.n)
    rows = [
        compare(name, model, x, y, batch_size=args.batch, runs=args.runs, metric=metric)
        for name in ("L2", "Linf")
        for metric in (False, True)
    ]
    save("deepfool", merged("deepfool", rows))


if __name__ == "__main__":
    main()
