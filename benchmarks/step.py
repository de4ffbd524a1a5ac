"""Cost of a training step against its floor: units × (forward + backward to inputs)/2, same run and
precision.

A forward pass is one unit, the backward to inputs one, to weights one more (DESIGN's counting). The
optimizer, losses, projections and the Python around them are what the ratio shows above 1; a weight
backward cheaper than an input backward brings it below. A Jacobian norm counts three units: one
vector-Jacobian product, and two to differentiate it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext

import torch
from common import Row, merged, paired, save
from torch import nn

from sparring import models, probe
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.methods import ALP, AT, JR, MART, OTJR, SAT, TRADES, Method, Standard
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from sparring.weights import AWP, Climb

STEPS = 10
WORK: dict[str, tuple[Callable[[], Method], bool, Callable[[], Climb] | None, int]] = {
    "standard": (Standard, False, None, 3),
    "pgd-at": (AT, True, None, 2 * STEPS + 3),
    "trades": (TRADES, True, None, 2 * STEPS + 7),
    "mart": (MART, True, None, 2 * STEPS + 6),
    "pgd-at + awp": (AT, True, AWP, 2 * STEPS + 6),
    "alp": (ALP, True, None, 2 * STEPS + 6),
    "sat": (SAT, True, None, 2 * STEPS + 6),
    "pgd-at + jr": (JR, True, None, 2 * STEPS + 6),
    "jr": (JR, False, None, 6),
    "otjr": (OTJR, True, None, 2 * STEPS + 9),
}
NETS = {"mnist-net": ((1, 28, 28), 250, 0.3), "resnet18": ((3, 32, 32), 16, 8 / 255)}


def one_step(
    model: nn.Module, view: nn.Module, name: str, batch: Batch, eps: float
) -> Callable[[], None]:
    """A whole training step of a method, as a function to time."""
    method, attacks, climber, _ = WORK[name]
    attack = PGD(Linf(eps), steps=STEPS, best=False) if attacks else None
    objective, climb = Objective(attack, method(), Mean()), climber and climber()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        full = objective.maximize(view, batch)
        with (
            climb.climb(model, lambda: objective.minimize(view, full).total)
            if climb
            else nullcontext()
        ):
            loss = objective.minimize(view, full)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        objective.update(model, full)

    return step


def bare(view: nn.Module, batch: Batch, passes: int) -> Callable[[], None]:
    """`passes` times a forward and a backward to the inputs, weights frozen, and nothing else."""

    def run() -> None:
        with probe.hold(view, "eval"):
            for _ in range(passes):
                x = batch.x.detach().requires_grad_()
                torch.autograd.grad(view(x).sum(), x)

    return run


def main() -> None:
    """Time every method on every net and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--methods", nargs="+", default=list(WORK), choices=list(WORK))
    args = parser.parse_args()
    rows = []
    for net in args.nets:
        shape, size, eps = NETS[net]
        batch = Batch(torch.rand(size, *shape), torch.randint(0, 10, (size,)))
        for precision in ("float32", "bfloat16"):
            model = models.build(net, shape=shape, classes=10).to(memory_format=torch.channels_last)
            view = probe.View(model, amp=precision, channels_last=True)
            for name in args.methods:
                units = WORK[name][3]
                mine, floor, ratio = paired(
                    one_step(model, view, name, batch, eps),
                    bare(view, batch, STEPS),
                    runs=args.runs,
                )
                scale = units / (2 * STEPS)
                work = f"{net} b{size} {name}"
                rows.append(
                    Row(work, precision, mine, f"floor {units} units", floor * scale, ratio / scale)
                )
    save("step", merged("step", rows))


if __name__ == "__main__":
    main()
