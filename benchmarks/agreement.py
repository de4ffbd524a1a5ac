"""Per-sample verdicts of our `autoattack` against the reference implementation's.

Both see the same model and samples; every returned point is judged by us in float32. The slow
side's verdicts are kept in `--keep`, so that a run that is cut can go on; rows are added to those
already saved. `--rounded` puts a rounding of the inputs in front of the model: its gradients are 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import Row, merged, save
from evaluate import PRECISIONS, Judged, ours, reference
from torch import Tensor, nn

import sparring
from sparring import data


class Rounded(nn.Module):
    """Another model behind inputs rounded to eighths: the same answers nearly, gradient 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((8 * x).round() / 8)


def kept(path: Path, model: nn.Module, x: Tensor, y: Tensor, eps: float, batch: int) -> Judged:
    """The reference's verdicts, from the file if they are there; batch by batch, so that no more
    than one is lost."""
    parts: list[Judged] = []
    for k, rows in enumerate(torch.arange(len(x)).split(batch)):
        file = path / f"{k}-{batch}.npz"
        if not file.exists():
            made = reference(model, x[rows], y[rows], eps, batch)
            path.mkdir(parents=True, exist_ok=True)
            np.savez(
                file,
                stands=made.stands,
                cost=[made.seconds, made.forwards, made.backwards],
            )
        with np.load(file) as f:
            parts.append(Judged(f["stands"], *f["cost"].tolist()))
    weight = np.array([len(p.stands) for p in parts]) / len(x)
    return Judged(
        np.concatenate([p.stands for p in parts]),
        sum(p.seconds for p in parts),
        float(weight @ [p.forwards for p in parts]),
        float(weight @ [p.backwards for p in parts]),
    )


def row(name: str, precision: str, mine: Judged, theirs: Judged, verdict: str, batch: int) -> Row:
    """One line of the table."""
    made = Row(
        f"{name} n {len(mine.stands)}",
        precision,
        mine.seconds,
        "pyautoattack",
        theirs.seconds,
        mine.seconds / theirs.seconds,
        float(mine.stands.mean()),
        float(theirs.stands.mean()),
        note=f"verdict {verdict}; batches of {batch}; times on a machine that was not idle",
    )
    made.ours_passes = [round(mine.forwards, 1), round(mine.backwards, 1)]
    made.peer_passes = [round(theirs.forwards, 1), round(theirs.backwards, 1)]
    made.agreement = float((mine.stands == theirs.stands).mean())
    made.only_ours_breaks = int((~mine.stands & theirs.stands).sum())
    made.only_peer_breaks = int((mine.stands & ~theirs.stands).sum())
    return made


def main() -> None:
    """Compare on trained runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounded", action="store_true")
    parser.add_argument("--precision", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--keep", type=Path, default=Path("reference"))
    args = parser.parse_args()
    whole = data.load(args.data).test
    test = whole.subset(min(args.n, len(whole)), 0)
    x, y = test.float(slice(None)), test.y
    for run in args.runs:
        model = sparring.load(run)
        name = f"{run.name}{' rounded' if args.rounded else ''} eps {args.eps:g}"
        model = Rounded(model).eval() if args.rounded else model
        theirs = kept(args.keep / name.replace(" ", "-"), model, x, y, args.eps, args.batch)
        for precision in args.precision:
            mine, result = ours(model, x, y, args.eps, 250, precision)
            made = row(name, precision, mine, theirs, result.verdict, args.batch)
            save("agreement", merged("agreement", [made]))


if __name__ == "__main__":
    main()
