"""Compare the suite `fast` with `autoattack` on trained runs: verdicts of equal samples, and cost.

Both attack the same samples of the test split, drawn by one seed, and are judged alike. Rows are
added to those saved before; `--write` puts them into the page of the docs. A first radius of each
run suffices: `--eps 0.1 0.2` takes several.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from common import RESULTS, cpu_model

import sparring
from sparring import data
from sparring.evaluation import evaluate
from sparring.results.result import Result
from sparring.runtime.fractions import format_number

FAST, WHOLE = "fast", "autoattack"
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "evaluating.md"
BEGIN, END = "<!-- fast: made by benchmarks/fast_suite.py -->", "<!-- /fast -->"
HEADS = ("net", "samples", "clean", "robust: `fast`", "robust: `autoattack`", "agreement")
HEADS += ("broken by `autoattack` alone", "by `fast` alone", "passes", "time", "verdict of `fast`")


@dataclass
class Compared:
    """One net at one radius. Passes are forward and backward samples per sample; ratios are fast ÷
    autoattack; seconds are of the whole evaluation, with its checks."""

    net: str
    data: str
    norm: str
    eps: float
    n: int
    clean: float
    fast: float
    autoattack: float
    agreement: float
    only_autoattack: int
    only_fast: int
    fast_passes: float
    autoattack_passes: float
    fast_seconds: float
    autoattack_seconds: float
    verdict: str
    versions: list[int]
    precision: str
    torch: str
    threads: int
    note: str = ""


def passes(result: Result) -> float:
    """Return the forward and backward passes of all attacks, per sample of the evaluation."""
    return sum((a.forwards + a.backwards) * a.attacked for a in result.attacks) / result.n


def compared(run: Path, name: str, norm: str, eps: float, n: int, precision: str) -> Compared:
    """Return the comparison on one trained run."""
    test = data.load(name).test
    test = test.subset(min(n, len(test)), 0)
    rows, model = (test.float(slice(None)), test.y), sparring.load(run)
    fast, whole = (
        evaluate(model, rows, norm, suite, eps=eps, precision=precision, progress=False)
        for suite in (FAST, WHOLE)
    )
    key = f"correct_{eps:.12g}"
    ours, theirs = (r.arrays[key].astype(bool) for r in (fast, whole))
    return Compared(
        net=run.name,
        data=name,
        norm=norm,
        eps=eps,
        n=fast.n,
        clean=fast.clean.accuracy,
        fast=fast.robust.accuracy,
        autoattack=whole.robust.accuracy,
        agreement=float((ours == theirs).mean()),
        only_autoattack=int((ours & ~theirs).sum()),
        only_fast=int((~ours & theirs).sum()),
        fast_passes=round(passes(fast), 1),
        autoattack_passes=round(passes(whole), 1),
        fast_seconds=round(fast.seconds, 2),
        autoattack_seconds=round(whole.seconds, 2),
        verdict=fast.verdict,
        versions=[fast.suite_version, whole.suite_version],
        precision=precision,
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )


def saved() -> list[Compared]:
    """Return all rows, of every processor."""
    files = sorted(RESULTS.glob("fast-suite-*.json"))
    return [Compared(**row) for file in files for row in json.loads(file.read_text())]


def save(rows: list[Compared]) -> None:
    """Add rows to those of this processor; a row of the same net, radius and size is replaced."""
    path = RESULTS / f"fast-suite-{cpu_model()}.json"
    before = [Compared(**row) for row in json.loads(path.read_text())] if path.exists() else []
    kept = {(r.net, r.norm, r.eps, r.n, r.precision): r for r in (*before, *rows)}
    path.write_text(json.dumps([asdict(row) for row in kept.values()], indent=1) + "\n")


def table(rows: list[Compared]) -> str:
    """Return the rows as a table of Markdown; a line without rows."""
    if not rows:
        return "Not measured yet."
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    for r in sorted(rows, key=lambda r: (r.data, r.net, r.eps)):
        timed = "not timed" if r.note else f"{r.fast_seconds / r.autoattack_seconds:.2f}"
        cells = (
            f"`{r.net}`, {r.norm} {format_number(r.eps)}",
            f"{r.n:,}",
            *(f"{100 * share:.1f}" for share in (r.clean, r.fast, r.autoattack)),
            f"{100 * r.agreement:.1f} %",
            str(r.only_autoattack),
            str(r.only_fast),
            f"{r.fast_passes / r.autoattack_passes:.3f}",
            timed,
            r.verdict,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page_with_table(text: str, rows: list[Compared]) -> str:
    """Return the page's text with this table between its marks."""
    made = f"{BEGIN}\n\n{table(rows)}\n\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, text, flags=re.DOTALL)


def main() -> None:
    """Compare on trained runs, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--norm", default="Linf")
    parser.add_argument("--eps", type=float, nargs="+", default=[0.3])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--note", default="", help="why seconds are not to be read, if so")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    args = parser.parse_args()
    for run in args.runs:
        for eps in args.eps:
            row = compared(run, args.data, args.norm, eps, args.n, args.precision)
            row = dataclasses.replace(row, note=args.note)
            save([row])
            print(table([row]))
    if args.write:
        PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8"), saved()), "utf-8")


if __name__ == "__main__":
    main()
