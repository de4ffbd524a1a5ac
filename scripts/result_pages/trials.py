"""Keep the trials of a sweep as one small file, and show them as a table.

python -m scripts.result_pages.trials studies/sweep-drebin215.toml results/sweep-drebin215/val

A sweep has many trainings, judged on the validation split to choose the settings of the study
without "sweep-" in its name. Their files would be larger than all others together, so results/
has one line for each, and the page of that study shows them.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparring.results.result import Result
from sparring.results.seeds import training_seed

from .collect import trials_file
from .tables import code, table

NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e-?\d+)?)")


def trial(file: Path, trainings: Sequence[str]) -> dict[str, Any]:
    """Return what is kept of a result; `trainings` are the tables `[runs.NAME]` of the study."""
    result, run = Result.load(file), file.stem.rpartition("-seed")[0]
    row = result.by_eps[-1]
    training = max((t for t in trainings if f"{run}-".startswith(f"{t}-")), key=len)
    return {
        "training": training,
        "setting": run[len(training) + 1 :],
        "seed": training_seed(result),
        "split": result.split,
        "n": result.n,
        "suite": result.suite,
        "clean": round(result.clean.accuracy, 4),
        "robust": round(row.robust.accuracy, 4),
        "low": round(row.robust.low, 4),
        "high": round(row.robust.high, 4),
        "epochs": result.train.get("epochs"),
        "seconds": round(result.train.get("seconds", 0), 1),
        "commit": result.commit,
    }


def best_of(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the trial of highest robust accuracy, then clean accuracy."""
    return max(group, key=lambda row: (row["robust"], row["clean"]))


def trials_table(file: Path) -> str:
    """Return the trials of a file, the best of each training in bold; "" if there is none."""
    if not file.exists():
        return ""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(file.read_text(encoding="utf-8")):
        groups.setdefault(row["training"], []).append(row)
    lines = []
    for group, rows in groups.items():
        for row in rows:
            shown = f"{100 * row['robust']:.2f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            shown = f"**{shown}**" if row is best_of(rows) and len(rows) > 1 else shown
            setting = row["setting"] or "–"
            clean, minutes = f"{100 * row['clean']:.2f}", f"{row['seconds'] / 60:.1f}"
            lines.append([code(group), setting, clean, shown, str(row["epochs"]), minutes])
    heads = ["run", "setting", "clean", "robust", "epochs", "minutes"]
    return table(heads, lines)


def _order(setting: str) -> list[tuple[float, str]]:
    """Return a key that puts numbers in a setting in rising order.

    >>> sorted(["sw-16", "sw-8", "sw-0.5"], key=_order)
    ['sw-0.5', 'sw-8', 'sw-16']
    """
    return [
        (float(part), "") if NUMBER.fullmatch(part) else (0.0, part)
        for part in NUMBER.split(setting)
    ]


def main() -> None:
    """Write the file of a sweep's trials."""
    study, folder = Path(sys.argv[1]), Path(sys.argv[2])
    trainings = list(tomllib.loads(study.read_text(encoding="utf-8"))["runs"])
    out = trials_file(study.stem.removeprefix("sweep-"))
    out.parent.mkdir(parents=True, exist_ok=True)
    # A sweep may take several machines, or days: trials that are in the file stay.
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    new = [trial(file, trainings) for file in sorted(folder.glob("*.json"))]
    by_name = {(row["training"], row["setting"], row["seed"]): row for row in [*before, *new]}
    rows = sorted(
        by_name.values(), key=lambda row: (trainings.index(row["training"]), _order(row["setting"]))
    )
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    out.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
