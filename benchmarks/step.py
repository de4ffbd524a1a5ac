"""Cost of a training step against its floor: units × (forward + backward to inputs)/2, same run and
precision.

A forward pass is one unit, the backward to inputs one, to weights one more (DESIGN's counting). The
optimizer, losses, projections and the Python around them are what the ratio shows above 1; a weight
backward cheaper than an input backward brings it below. A Jacobian norm counts three units: one
vector-Jacobian product, and two to differentiate it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from common import Row, merged, paired, save
from torch import nn

from sparring import models, probe
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.methods import ALP, AT, JR, MART, OTJR, SAT, TRADES, UAD, Method, Standard
from sparring.objective import Objective
from sparring.risks import KL, Alpha, Mean, Renyi, Risk
from sparring.threats import Linf
from sparring.weights import AWP, Climb

STEPS = 10
SITES = {"mnist-net": ["conv1", "conv2", "conv3"], "resnet18": ["conv1", "layer1", "layer2"]}


class Work(NamedTuple):
    """A step: what it is made of, for a net by its name, and how many units it is counted at."""

    method: Callable[[str], Method]
    units: int
    attacks: bool = True
    climb: Callable[[], Climb] | None = None
    risk: Callable[[], Risk] = Mean


WORK = {
    "standard": Work(lambda _: Standard(), 3, attacks=False),
    "pgd-at": Work(lambda _: AT(), 2 * STEPS + 3),
    "trades": Work(lambda _: TRADES(), 2 * STEPS + 7),
    "mart": Work(lambda _: MART(), 2 * STEPS + 6),
    "pgd-at + awp": Work(lambda _: AT(), 2 * STEPS + 6, climb=AWP),
    "pgd-at + kl": Work(lambda _: AT(), 2 * STEPS + 3, risk=KL),
    "pgd-at + alpha": Work(lambda _: AT(), 2 * STEPS + 3, risk=Alpha),
    "pgd-at + renyi": Work(lambda _: AT(), 2 * STEPS + 3, risk=Renyi),
    "alp": Work(lambda _: ALP(), 2 * STEPS + 6),
    "sat": Work(lambda _: SAT(), 2 * STEPS + 6),
    "pgd-at + jr": Work(lambda _: JR(), 2 * STEPS + 6),
    "jr": Work(lambda _: JR(), 6, attacks=False),
    "otjr": Work(lambda _: OTJR(), 2 * STEPS + 9),
    "uad": Work(lambda net: UAD(sites=SITES[net], reference=SITES[net][-1]), 2 * STEPS + 10),
}
NETS = {"mnist-net": ((1, 28, 28), 250, 0.3), "resnet18": ((3, 32, 32), 16, 8 / 255)}


def one_step(
    model: nn.Module, view: nn.Module, work: Work, net: str, batch: Batch, eps: float
) -> Callable[[], None]:
    """A whole training step, as a function to time."""
    attack = PGD(Linf(eps), steps=STEPS, best=False) if work.attacks else None
    objective = Objective(attack, work.method(net), work.risk())
    climb = work.climb and work.climb()
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


def made(net: str, size: int | None, precision: str) -> tuple[nn.Module, nn.Module, Batch, float]:
    """A net, how it runs, a batch of noise, and the radius."""
    shape, usual, eps = NETS[net]
    size = size or usual
    batch = Batch(torch.rand(size, *shape), torch.randint(0, 10, (size,)))
    model = models.build(net, shape=shape, classes=10).to(memory_format=torch.channels_last)
    return model, probe.View(model, amp=precision, channels_last=True), batch, eps


def peak(net: str, size: int | None, precision: str, name: str) -> float:
    """MiB that three steps add to the most this process has held: run it in one of its own."""
    model, view, batch, eps = made(net, size, precision)
    with torch.no_grad():
        view(batch.x[:1])
    step = one_step(model, view, WORK[name], net, batch, eps)
    before = most()
    for _ in range(3):
        step()
    return most() - before


def most() -> float:
    """MiB that this process has held at most; Linux tells it (`ru_maxrss` counts the parent's)."""
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


def peaks(net: str, size: int | None, precision: str, names: list[str]) -> list[float]:
    """The same for each name, in a fresh process each."""
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1, maxtasksperchild=1) as pool:
        return [pool.apply(peak, (net, size, precision, name)) for name in names]


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
    parser.add_argument("--batch", type=int, help="instead of 250 and 16")
    parser.add_argument(
        "--beside", choices=list(WORK), help="compare with it, memory too, not with the floor"
    )
    parser.add_argument("--methods", nargs="+", default=list(WORK), choices=list(WORK))
    args = parser.parse_args()
    rows = []
    for net in args.nets:
        for precision in ("float32", "bfloat16"):
            model, view, batch, eps = made(net, args.batch, precision)
            for name in args.methods:
                mine = one_step(model, view, WORK[name], net, batch, eps)
                peer, scale, said = bare(view, batch, STEPS), WORK[name].units / (2 * STEPS), ""
                if args.beside:
                    peer = one_step(model, view, WORK[args.beside], net, batch, eps)
                    scale, said = 1, f" beside {args.beside}"
                ours, theirs, ratio = paired(mine, peer, runs=args.runs)
                work = f"{net} b{len(batch.x)} {name}{said}"
                what = args.beside or f"floor {WORK[name].units} units"
                row = Row(work, precision, ours, what, theirs * scale, ratio / scale)
                if args.beside:
                    both = [name, args.beside]
                    row.ours_mib, row.peer_mib = peaks(net, args.batch, precision, both)
                rows.append(row)
    save("step", merged("step", rows))


if __name__ == "__main__":
    main()
