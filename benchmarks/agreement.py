"""Compare our `autoattack` with the reference implementation's, sample by sample.

Both attack the same model and samples; we judge every returned point in float32. The slow
reference's results stay in `--keep`, so that an interrupted run can resume; rows are added to those
already saved. `--rounded` rounds the inputs before the model: its gradients are 0.
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
    """A model behind inputs rounded to eighths: nearly the same predictions, gradient 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((8 * x).round() / 8)


def load_or_run_reference(
    path: Path, model: nn.Module, x: Tensor, y: Tensor, eps: float, batch_size: int
) -> Judged:
    """Return the reference's results, from files if they exist; one file per batch."""
    parts: list[Judged] = []
    for k, rows in enumerate(torch.arange(len(x)).split(batch_size)):
        file = path / f"{k}-{batch_size}.npz"
        if not file.exists():
            result = reference(model, x[rows], y[rows], eps, batch_size)
            path.mkdir(parents=True, exist_ok=True)
            np.savez(
                file,
                stands=result.robust,
                cost=[result.seconds, result.forwards, result.backwards],
            )
        with np.load(file) as f:
            parts.append(Judged(f["stands"], *f["cost"].tolist()))
    weight = np.array([len(p.robust) for p in parts]) / len(x)
    return Judged(
        np.concatenate([p.robust for p in parts]),
        sum(p.seconds for p in parts),
        float(weight @ [p.forwards for p in parts]),
        float(weight @ [p.backwards for p in parts]),
    )


def row(name: str, precision: str, mine: Judged, theirs: Judged, verdict: str, size: int) -> Row:
    """Return one line of the table."""
    out = Row(
        f"{name} n {len(mine.robust)}",
        precision,
        mine.seconds,
        "pyautoattack",
        theirs.seconds,
        mine.seconds / theirs.seconds,
        float(mine.robust.mean()),
        float(theirs.robust.mean()),
        note=f"verdict {verdict}; batches of {size}; times on a machine that was not idle",
    )
    out.ours_passes = [round(mine.forwards, 1), round(mine.backwards, 1)]
    out.peer_passes = [round(theirs.forwards, 1), round(theirs.backwards, 1)]
    out.agreement = float((mine.robust == theirs.robust).mean())
    out.only_ours_breaks = int((~mine.robust & theirs.robust).sum())
    out.only_peer_breaks = int((mine.robust & ~theirs.robust).sum())
    return out


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
        theirs = load_or_run_reference(
            args.keep / name.replace(" ", "-"), model, x, y, args.eps, args.batch
        )
        for precision in args.precision:
            mine, result = ours(model, x, y, args.eps, 250, precision)
            line = row(name, precision, mine, theirs, result.verdict, args.batch)
            save("agreement", merged("agreement", [line]))


if __name__ == "__main__":
    main()
