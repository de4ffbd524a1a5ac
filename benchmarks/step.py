"""Time a training step against its floor: units × (forward + backward to inputs)/2.

A forward pass is one unit, the backward to inputs one, to weights one more. Optimizer, losses,
projections and Python raise the ratio above 1; a weight backward cheaper than an input backward
lowers it. A Jacobian norm counts three units: one vector-Jacobian product, and two to differentiate
it. Every row says K, the steps of its attack. `--only ratios` times OTJR and UAD beside PGD-AT.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from common import Row, merged, paired, save
from torch import nn

from sparring import models
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.introspect import freeze
from sparring.methods import ALP, AT, JR, MART, OTJR, SAT, TRADES, UAD, Method, Standard
from sparring.objective import Objective
from sparring.risks import KL, Alpha, Mean, Renyi, Risk
from sparring.threats import Linf
from sparring.training.optimizer import make_optimizer
from sparring.weights import AWP, WeightPerturbation


class Net(NamedTuple):
    """A net to time: the shape of a sample, the batch size, the radius, the sites of UAD."""

    shape: tuple[int, int, int]
    batch_size: int
    eps: float
    sites: list[str]
    kw: Mapping[str, Any] = MappingProxyType({})


class Work(NamedTuple):
    """A step: its method for the sites of a net, and its units without those of the attack."""

    method: Callable[[list[str]], Method]
    rest: int
    attacks: bool = True
    climb: Callable[[], WeightPerturbation] | None = None
    risk: Callable[[], Risk] = Mean

    def units(self, steps: int) -> int:
        """Return the units with an attack of n steps, two for each."""
        return self.rest + 2 * steps * self.attacks


WORK = {
    "standard": Work(lambda _: Standard(), 3, attacks=False),
    "pgd-at": Work(lambda _: AT(), 3),
    "trades": Work(lambda _: TRADES(), 7),
    "mart": Work(lambda _: MART(), 6),
    "pgd-at + awp": Work(lambda _: AT(), 6, climb=AWP),
    "pgd-at + kl": Work(lambda _: AT(), 3, risk=KL),
    "pgd-at + alpha": Work(lambda _: AT(), 3, risk=Alpha),
    "pgd-at + renyi": Work(lambda _: AT(), 3, risk=Renyi),
    "alp": Work(lambda _: ALP(), 6),
    "sat": Work(lambda _: SAT(), 6),
    "pgd-at + jr": Work(lambda _: JR(), 6),
    "jr": Work(lambda _: JR(), 6, attacks=False),
    "sw": Work(lambda _: OTJR(jac=0), 6),
    "otjr": Work(lambda _: OTJR(), 9),
    "uad": Work(lambda sites: UAD(sites=sites, reference=sites[-1]), 10),
}
NETS = {
    "mnist-net": Net((1, 28, 28), 250, 0.3, ["conv1", "conv2", "conv3"]),
    "resnet18": Net((3, 32, 32), 16, 8 / 255, ["conv1", "layer1", "layer2"]),
    "lenet": Net((1, 28, 28), 250, 0.3, ["conv1", "conv2"]),
    "cifar-net": Net((3, 32, 32), 128, 8 / 255, ["conv1", "conv2", "conv4"], {"width": 16}),
}
USUAL = ["mnist-net", "resnet18"]
BESIDE = {"otjr": "pgd-at", "uad": "pgd-at"}  # whose ratio to PGD-AT is a row of its own
ONLY = ("floors", "ratios")


class Setting(NamedTuple):
    """The net, model and batch that a step is timed on."""

    net: Net
    model: nn.Module
    view: nn.Module
    batch: Batch
    steps: int


def one_step(setting: Setting, work: Work) -> Callable[[], None]:
    """Return a whole training step as a function to time."""
    net, model, view, batch, steps = setting
    attack = PGD(Linf(net.eps), steps=steps, best=False) if work.attacks else None
    objective = Objective(attack, work.method(net.sites), work.risk())
    climb = work.climb and work.climb()
    table = {"name": "SGD", "lr": 1e-4, "momentum": 0.9, "fused": True}
    optimizer = make_optimizer(table, model)

    def step() -> None:
        with view.cast_once():
            full = objective.maximize(view, batch)
        with (
            climb.perturbed(model, lambda: objective.minimize(view, full).total)
            if climb
            else nullcontext()
        ):
            loss = objective.minimize(view, full)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        objective.update(model, full)

    return step


def make_setting(name: str, size: int | None, precision: str, steps: int) -> Setting:
    """Return a net, its view in a precision, and a batch of noise."""
    net = NETS[name]
    size = size or net.batch_size
    batch = Batch(torch.rand(size, *net.shape), torch.randint(0, 10, (size,)))
    model = models.build(name, shape=net.shape, classes=10, **net.kw)
    model = model.to(memory_format=torch.channels_last)
    view = freeze.ModelView(model, amp=precision, channels_last=True)
    return Setting(net, model, view, batch, steps)


def peak(name: str, *where: Any) -> float:
    """Return the MiB that three steps add to this process's peak: run it in a fresh process."""
    setting = make_setting(*where)
    with torch.no_grad():
        setting.view(setting.batch.x[:1])
    step = one_step(setting, WORK[name])
    before = peak_mib()
    for _ in range(3):
        step()
    return peak_mib() - before


def peak_mib() -> float:
    """Return this process's peak memory in MiB (`ru_maxrss` would count the parent's)."""
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


def peaks(names: list[str], *where: Any) -> list[float]:
    """Return `peak` for each name, in a fresh process each."""
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1, maxtasksperchild=1) as pool:
        return [pool.apply(peak, (name, *where)) for name in names]


def bare(setting: Setting) -> Callable[[], None]:
    """Return the passes of the attack alone: per step a forward and a backward to the inputs."""

    def run() -> None:
        with freeze.frozen(setting.view, "eval"):
            for _ in range(setting.steps):
                x = setting.batch.x.detach().requires_grad_()
                torch.autograd.grad(setting.view(x).sum(), x)

    return run


def main() -> None:
    """Time every method on every net and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nets", nargs="+", default=USUAL, choices=list(NETS))
    parser.add_argument("--batch", type=int, help="batch size; default: the net's")
    parser.add_argument("--steps", type=int, default=10, help="of the attack")
    parser.add_argument(
        "--precision", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument(
        "--beside", choices=list(WORK), help="compare with it, memory too, not with the floor"
    )
    parser.add_argument("--methods", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument(
        "--only",
        choices=ONLY,
        help="rows against the floor, or rows of OTJR and UAD beside PGD-AT; default: both",
    )
    args = parser.parse_args()
    rows = [
        timed(name, where, beside, args.runs, memory=bool(args.beside))
        for net in args.nets
        for precision in args.precision
        for where in [(net, args.batch, precision, args.steps)]
        for name, beside in pairs(args.methods, args.beside, args.only)
    ]
    # rows of before rows said K have a successor by another name
    now = {(row.work, row.precision, row.peer) for row in rows}
    kept = [r for r in merged("step", rows) if (f"{r.work}, K 10", r.precision, r.peer) not in now]
    save("step", kept)


def pairs(methods: list[str], beside: str | None, only: str | None) -> list[tuple[str, str | None]]:
    """Return the methods to time, each with what it is timed beside: None is its floor."""
    if beside:
        return [(name, beside) for name in methods]
    out: list[tuple[str, str | None]] = []
    if only != "ratios":
        out += [(name, None) for name in methods]
    if only != "floors":
        out += [(name, BESIDE[name]) for name in methods if name in BESIDE]
    return out


def timed(
    name: str,
    where: tuple[str, int | None, str, int],
    beside: str | None,
    runs: int,
    *,
    memory: bool = False,
) -> Row:
    """Time a method against another, or against its floor."""
    net, _, precision, steps = where
    setting = make_setting(*where)
    units = WORK[name].units(steps)
    peer, scale, peer_name = bare(setting), units / (2 * steps), f"floor {units} units"
    if beside:
        # The same model and batch: both steps are timed in turns, in one process.
        peer, scale, peer_name = one_step(setting, WORK[beside]), 1, beside
    ours, theirs, ratio = paired(one_step(setting, WORK[name]), peer, runs=runs)
    work = f"{net} b{len(setting.batch.x)} {name}" + (f" beside {beside}" if beside else "")
    work += f", K {steps}" if WORK[name].attacks else ""
    row = Row(work, precision, ours, peer_name, theirs * scale, ratio / scale)
    if memory:
        row.ours_mib, row.peer_mib = peaks([name, beside or name], *where)
    return row


if __name__ == "__main__":
    main()
