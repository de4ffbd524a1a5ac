"""Compare our `autoattack` with the reference implementation over seeds, sample by sample.

A sample near the boundary falls to one draw and not to another. So each of the two runs under
several seeds, and a sample counts as broken by the one that breaks it in most of them. Every
returned point is judged in float32. Finished seeds stay in `--keep`, so that a study can resume.

    python benchmarks/over_seeds.py runs/digits-trades --data digits --eps 0.2 --n 270
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import peers
import torch
from common import RESULTS, cpu_model
from torch import Tensor, nn

import sparring
from sparring import data
from sparring.evaluation import evaluate
from sparring.runtime import provenance


@dataclass
class Agreement:
    """Who breaks which samples, over seeds.

    `kinder`: samples that the reference breaks in most seeds and we do not; `stronger`: the other
    way round; `again_breaks`: per seed, those that only the second draws of ours broke.
    """

    work: str
    n: int
    seeds: int
    ours_robust: list[float]
    reference_robust: list[float]
    kinder: list[int]
    stronger: list[int]
    ours_broken_in: dict[int, int]
    reference_broken_in: dict[int, int]
    again_breaks: list[int]
    ours_seconds: float
    again_seconds: float
    reference_seconds: float
    commit: str


def reference(model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int) -> dict[str, object]:
    """Run the authors' AutoAttack, version standard, and judge its points."""
    return {"robust": peers.reference(model, x, y, eps, 100, seed).robust}


def ours(model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int) -> dict[str, object]:
    """Run `evaluate` with suite `autoattack`."""
    result = evaluate(model, (x, y), "Linf", "autoattack", eps=eps, seed=seed, progress=False)
    again = [row for row in result.attacks if row.name.endswith("again")]
    before = result.attacks[-len(again) - 1].accuracy
    return {
        "robust": result.arrays[f"correct_{eps:.12g}"],
        "again_seconds": sum(row.seconds for row in again),
        "again_breaks": round((before - result.attacks[-1].accuracy) * result.n),
    }


Run = Callable[[nn.Module, Tensor, Tensor, float, int], dict[str, object]]


def kept(path: Path, run: Run, *arguments: object) -> dict[str, np.ndarray]:
    """Return what `run` gives and its seconds, from a file if it exists."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        values = run(*arguments)  # type: ignore[arg-type]
        np.savez(path, seconds=time.process_time() - started, **values)  # type: ignore[arg-type]
    with np.load(path) as file:
        return dict(file)


def compare(run: Path, dataset: str, eps: float, n: int, seeds: int, keep: Path) -> Agreement:
    """Run both under all seeds on one trained run."""
    test = data.load(dataset).test
    test = test.subset(min(n, len(test)), 0)
    x, y = test.float(slice(None)), test.y
    model, name = sparring.load(run), f"{run.name}-{eps:g}-{len(y)}"
    mine, theirs = [], []
    for seed in range(seeds):
        mine.append(kept(keep / f"{name}-ours-{seed}.npz", ours, model, x, y, eps, seed))
        theirs.append(
            kept(keep / f"{name}-reference-{seed}.npz", reference, model, x, y, eps, seed)
        )
        print(name, seed, mine[-1]["robust"].sum(), theirs[-1]["robust"].sum(), flush=True)
    ours_broken, reference_broken = (
        (~np.array([one["robust"] for one in group])).sum(0) for group in (mine, theirs)
    )
    contested = np.flatnonzero(
        (ours_broken != reference_broken) | ((ours_broken > 0) & (ours_broken < seeds))
    )
    most = seeds / 2
    return Agreement(
        f"{run.name} eps {eps:g}",
        len(y),
        seeds,
        [float(one["robust"].mean()) for one in mine],
        [float(one["robust"].mean()) for one in theirs],
        np.flatnonzero((reference_broken > most) & (ours_broken <= most)).tolist(),
        np.flatnonzero((ours_broken > most) & (reference_broken <= most)).tolist(),
        {int(i): int(ours_broken[i]) for i in contested},
        {int(i): int(reference_broken[i]) for i in contested},
        [int(one["again_breaks"]) for one in mine],
        float(np.mean([one["seconds"] for one in mine])),
        float(np.mean([one["again_seconds"] for one in mine])),
        float(np.mean([one["seconds"] for one in theirs])),
        provenance.commit(),
    )


def main() -> None:
    """Compare on trained runs, and add the rows to the saved ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--eps", type=float, default=0.2)
    parser.add_argument("--n", type=int, default=270)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--keep", type=Path, default=Path("reference"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    row = compare(args.run, args.data, args.eps, args.n, args.seeds, args.keep)
    path = RESULTS / f"over-seeds-{cpu_model()}.json"
    before = json.loads(path.read_text()) if path.exists() else []
    rows = [*(r for r in before if r["work"] != row.work), asdict(row)]
    path.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(asdict(row)))


if __name__ == "__main__":
    main()
