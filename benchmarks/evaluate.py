"""Time our `autoattack` against the authors' code, and single attacks against bare passes.

Same model, samples and radius in the same run. We judge every returned point in float32;
passes are counted outside the attacks.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, merged, paired, save, seconds
from peers import PEERS, Judged, kept, majority
from torch import Tensor, nn

import sparring
from sparring import data, models
from sparring.attacks import APGD, FAB, DeepFool, Square
from sparring.evaluation import evaluate
from sparring.functional.losses import cross_entropy
from sparring.introspect import freeze
from sparring.results.result import Result
from sparring.runtime import allocator
from sparring.runtime.compiled import CompiledModel, compile_sizes
from sparring.threats import L2, Linf

PRECISIONS = ("float32", "bfloat16")
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "float32 compiled": {"compile": True},
    "bfloat16 compiled": {"precision": "bfloat16", "compile": True},
    "float32 sample 150": {"sample": 150},
    "bfloat16 sample 150": {"precision": "bfloat16", "sample": 150},
    "bfloat16 2 processes": {"precision": "bfloat16", "processes": 2},
}


def ours(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, batch_size: int, **how: Any
) -> tuple[Judged, Result]:
    """Run `evaluate` with suite `autoattack`; its checks and the compiler count in the time."""
    results: list[Result] = []
    how |= {"eps": eps, "batch_size": batch_size, "progress": False}
    took = seconds(lambda: results.append(evaluate(model, (x, y), "Linf", "autoattack", **how)))
    result = results[0]
    forwards = sum(row.forwards * row.attacked for row in result.attacks) / len(x)
    backwards = sum(row.backwards * row.attacked for row in result.attacks) / len(x)
    robust = result.arrays[f"correct_{eps:.12g}"]
    return Judged(robust, took, forwards, backwards), result


def suite_title(name: str, args: argparse.Namespace) -> str:
    """Return the name of a comparison of whole suites."""
    return f"autoattack {name} eps {args.eps:.4g} n {args.n}"


def peer_runs(
    peer: str, work: str, where: tuple[Any, ...], seeds: range, keep: Path | None
) -> list[Judged]:
    """Run a peer under seeds; all but seed 0, which is timed, stay in a folder."""

    def path(seed: int) -> Path | None:
        return keep / f"{peer} {work} {seed}.npz".replace(" ", "-") if seed and keep else None

    return [kept(path(k), partial(PEERS[peer], *where, k)) for k in seeds]


def suites(
    name: str, model: nn.Module, x: Tensor, y: Tensor, args: argparse.Namespace
) -> list[Row]:
    """Compare the whole suite, ours in every way asked for, with each peer.

    The peers run first, with the allocator of a fresh process; ours changes it for itself. The
    first seed of a peer is timed; verdicts are those of most of its seeds.
    """
    where, rows = (model, x, y, args.eps, args.batch), []
    work, seeds = suite_title(name, args), range(args.seeds)
    theirs = {peer: peer_runs(peer, work, where, seeds, args.keep) for peer in args.peers}
    for way in args.ways:
        mine, result = ours(*where, **WAYS[way])
        rows += [compared(work, way, mine, result, peer, runs) for peer, runs in theirs.items()]
    return rows


def compared(
    work: str, way: str, mine: Judged, result: Result, peer: str, runs: list[Judged]
) -> Row:
    """Return the row of one way of ours beside one peer."""
    first, robust = runs[0], majority(runs)
    row = Row(work, way, mine.seconds, peer, first.seconds, mine.seconds / first.seconds)
    row.ours_accuracy, row.peer_accuracy = float(mine.robust.mean()), float(robust.mean())
    row.ours_passes = [round(mine.forwards, 1), round(mine.backwards, 1)]
    row.peer_passes = [round(first.forwards, 1), round(first.backwards, 1)]
    row.agreement = float((mine.robust == robust).mean())
    row.only_ours_breaks = int((~mine.robust & robust).sum())
    row.only_peer_breaks = int((mine.robust & ~robust).sum())
    counts = ", ".join(str(int(one.robust.sum())) for one in runs)
    row.note = f"robust for the peer, by seed: {counts}; verdict {result.verdict}; " + ", ".join(
        f"{a.name} {a.accuracy:.4f} of {a.attacked} in {a.seconds:.1f} s" for a in result.attacks
    )
    print(row, flush=True)
    return row


def bare(model: nn.Module, x: Tensor, y: Tensor, passes: int, precision: str) -> Callable[[], None]:
    """Return n forward passes and backward passes to the input, and nothing else."""

    def run() -> None:
        with freeze.frozen(model), freeze.channels_last(model, precision != "float32"):
            view = freeze.ModelView(model, amp=precision, channels_last=precision != "float32")
            for _ in range(passes):
                z = x.detach().requires_grad_()
                torch.autograd.grad(cross_entropy(view(z), y).sum(), z)

    return run


def forward_passes(model: nn.Module, x: Tensor, passes: int, precision: str) -> Callable[[], None]:
    """Return n forward passes, and nothing else."""

    def run() -> None:
        with (
            torch.no_grad(),
            freeze.frozen(model),
            freeze.channels_last(model, precision != "float32"),
        ):
            view = freeze.ModelView(model, amp=precision, channels_last=precision != "float32")
            for _ in range(passes):
                view(x)

    return run


def overheads(name: str, model: nn.Module, x: Tensor, y: Tensor, runs: int) -> list[Row]:
    """Time APGD, FAB-T (one target) and Square against their passes, on samples that stay robust.

    Compiled too, without the time of compilation.
    """
    tiny, rows = 1e-7, []
    static = CompiledModel(model, compile_sizes(len(x), x.device))
    for precision in PRECISIONS:
        low = {"precision": precision, "channels_last": precision != "float32"}
        pairs = {
            "APGD-CE 100 steps": (APGD(Linf(tiny), **low), bare(model, x, y, 101, precision)),
            "FAB-T 1 target": (
                FAB(Linf(tiny), targets=1, **low),
                bare(model, x, y, 100, precision),
            ),
            "Square 500 queries": (
                Square(Linf(tiny), queries=500, **low),
                forward_passes(model, x, 500, precision),
            ),
        }
        for label, (attack, floor) in pairs.items():
            for how, run in (("", model), (" compiled", static)):
                with allocator.keep_freed_memory():
                    a, b, ratio = paired(lambda: attack(run, x, y), floor, runs=runs)  # noqa: B023
                work = f"{label} {name} n {len(x)}"
                rows.append(Row(work, precision + how, a, "bare passes", b, ratio))
                print(rows[-1])
    return rows


def single(name: str, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> list[Row]:
    """Time attacks that Foolbox and ART have: DeepFool L2, APGD."""
    import foolbox
    from art.attacks.evasion import AutoProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    rows, far = [], L2(1e3**0.5)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    theirs = foolbox.attacks.L2DeepFoolAttack(steps=50)
    mine = DeepFool(far, steps=50)
    a, b, ratio = paired(
        lambda: mine.distances(model, x, y), lambda: theirs(wrapped, x, y, epsilons=None), runs=1
    )
    row = Row(f"DeepFool L2 {name} n {len(x)}", "float32", a, "foolbox", b, ratio)
    distances, other = mine.distances(model, x, y)[1], theirs(wrapped, x, y, epsilons=None)[1]
    other = (other - x).flatten(1).norm(dim=1)
    row.note = f"median distance {distances.median():.4f} | {other.median():.4f}"
    rows.append(row)
    estimator = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
    )
    art = AutoProjectedGradientDescent(
        estimator,
        norm=np.inf,
        eps=eps,
        eps_step=2 * eps,
        max_iter=100,
        nb_random_init=1,
        batch_size=len(x),
        loss_type="cross_entropy",
        verbose=False,
    )
    apgd = APGD(Linf(eps))
    a, b, ratio = paired(
        lambda: apgd(model, x, y), lambda: art.generate(x.numpy(), y.numpy()), runs=1
    )
    row = Row(f"APGD-CE {name} eps {eps} n {len(x)}", "float32", a, "art", b, ratio)
    with torch.no_grad():
        row.ours_accuracy = (model(apgd(model, x, y)).argmax(1) == y).float().mean().item()
        points = torch.from_numpy(art.generate(x.numpy(), y.numpy()))
        row.peer_accuracy = (model(points).argmax(1) == y).float().mean().item()
    return [*rows, row]


def trained(recipe: str) -> Path:
    """Train a recipe in a temporary folder, or resume that run, and return the folder."""
    run = Path(tempfile.gettempdir()) / f"bench-{recipe}"
    return sparring.train(recipe, out=run, resume=run.exists())


def main() -> None:
    """Compare on trained runs, and on the shape of a CIFAR ResNet-18."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs", nargs="*", type=Path, help="run folders; default: train one on digits"
    )
    parser.add_argument("--data", default="mnist", help="what the runs were trained on")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--peers", nargs="*", default=["pyautoattack"], choices=list(PEERS))
    parser.add_argument("--ways", nargs="*", default=[*PRECISIONS], choices=[*WAYS], help="ours")
    parser.add_argument("--seeds", type=int, default=1, help="of the peers; the first is timed")
    parser.add_argument("--keep", type=Path, help="folder of the peers' further seeds")
    parser.add_argument("--runs-each", type=int, default=3, help="pairs of a single attack")
    parts = ["suites", "overheads", "single", "resnet18"]
    parser.add_argument(
        "--only", nargs="*", default=parts, choices=[*parts, "peers"], help="peers: fill --keep"
    )
    args = parser.parse_args()
    rows: list[Row] = []
    if not args.runs:
        args.runs, args.data, args.eps = [trained("digits-pgd-at")], "digits", 0.1
    whole = data.load(args.data).test
    test = whole.subset(min(max(args.n, 250), len(whole)), 0)
    for run in args.runs:
        model = sparring.load(run)
        x, y = test.float(slice(args.n)), test.y[: args.n]
        if "peers" in args.only:
            for peer in args.peers:
                where = (model, x, y, args.eps, args.batch)
                peer_runs(peer, suite_title(run.name, args), where, range(1, args.seeds), args.keep)
        if "suites" in args.only:
            rows += suites(run.name, model, x, y, args)
        with torch.no_grad():
            x = test.float(slice(250))
            y = model(x).argmax(1)
        if "overheads" in args.only:
            rows += overheads(run.name, model, x, y, runs=args.runs_each)
        if "single" in args.only:
            rows += single(run.name, model, x, y, args.eps)
    if "resnet18" in args.only:
        net = models.build("resnet18", shape=(3, 32, 32), classes=10).eval()
        x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            y = net(x).argmax(1)
        rows += overheads("resnet18", net, x, y, runs=1)
    assert all(math.isfinite(r.ratio) for r in rows)
    save("evaluate", merged("evaluate", rows))


if __name__ == "__main__":
    main()
