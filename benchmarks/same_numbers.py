"""Compare two checkouts bit for bit: losses of short trainings, results of small evaluations.

    .venv/bin/python benchmarks/same_numbers.py OLD NEW

A side is a checkout, or a .json file. `old.json:../old` reads the file if it exists, and records
the checkout into it if not. Both run with this interpreter, on real data: handwritten digits, and
Drebin's features where `SPARRING_DATA` names a folder that holds them. Times, versions and commits
are left out. What one side alone records is listed. The exit code is 1 if a number that both record
differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

SHORT = ("--device", "cpu", "--set", "train.epochs=2")
UAD = 'method={name="UAD", sites=["conv1", "conv2"], reference="conv3"}'
OTJR = 'method={name="OTJR"}'
LEARNED = 'risk={name="KL", radius=0.1}'
RUNS = {  # a run's folder: its recipe, what is changed in it, its evaluations
    "standard": ("digits-standard", [], [["--suite", "quick", "--n", "100"]]),
    "pgd-at": (
        "digits-pgd-at",
        [],
        [["--suite", "pgd", "--n", "60"], ["--suite", "autoattack", "--n", "40"]],
    ),
    "trades": ("digits-trades", [], [["--suite", "pgd", "--n", "60", "--precision", "bfloat16"]]),
    "mart": (
        "digits-mart",
        [],
        [
            ["--suite", "quick", "--eps", "0.05", "--eps", "0.1"],
            ["--suite", "autoattack", "--n", "40", "--at", "L2=0.5"],
            ["--suite", "black-box", "--n", "20"],
            ["--suite", "quick", "--n", "40", "--probes", "all", "--certify", "crown"],
        ],
    ),
    "uad": ("digits-pgd-at", [UAD], [["--suite", "quick", "--n", "40"]]),
    "otjr": ("digits-pgd-at", [OTJR], [["--suite", "quick", "--n", "40"]]),
    "armor": ("digits-mart", [LEARNED], [["--suite", "quick", "--n", "40"]]),
    "armor-kl-asym-drebin215": ("", [], [["--suite", "bits", "--n", "40"]]),
    "drebin215-rfgsm-at": ("", [], [["--suite", "bits", "--n", "40"]]),
}
BYTES = " (bytes)"
VARYING = {
    *("seconds", "minutes", "time", "commit", "versions", "device", "machine", "version"),
    *("key", "rows_per_second", "samples_per_second", "val_seconds", "created", "memory"),
}


def main(old: str, new: str) -> int:
    """Run both sides and print what differs."""
    before, after = side(old), side(new)
    both = sorted(before.keys() & after.keys())
    for key in sorted(before.keys() ^ after.keys()):
        print(f"{'before' if key in before else 'after'} only: {key}")
    moved, last_bits, reworded = [], [], []
    for key in (key for key in both if before[key] != after[key]):
        values = before[key], after[key]
        if all(isinstance(value, float) for value in values) and isclose(*values, rel_tol=1e-14):
            last_bits.append(key)
        elif all(isinstance(value, str) for value in values) and not key.endswith(BYTES):
            reworded.append(key)
        else:
            moved.append(key)
            print(f"moved: {key}: {values[0]} -> {values[1]}")
    names = ", ".join(sorted({key.rpartition("/")[2] for key in last_bits}))
    print(f"{len(both)} numbers and texts: {len(moved)} moved, {len(reworded)} texts reworded,")
    print(f"{len(last_bits)} within 1e-14 ({names}), all others equal")
    return int(bool(moved))


def side(name: str) -> dict[str, Any]:
    """The values of a checkout: read from the file, else measured and, if a file is named, kept."""
    file, _, checkout = name.rpartition(":")
    if Path(name).is_file() or Path(file).is_file():
        return json.loads(Path(file or name).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        values = record(Path(checkout).resolve(), Path(folder, "runs"))
    if file:
        Path(file).write_text(json.dumps(values), encoding="utf-8")
    return values


def record(checkout: Path, out: Path) -> dict[str, Any]:
    """Everything that the trainings and evaluations of one checkout wrote, by name."""
    out.mkdir()
    values: dict[str, Any] = {}
    for name, (recipe, changes, evaluations) in RUNS.items():
        if not recipe and "SPARRING_DATA" not in os.environ:
            continue
        sets = [part for change in changes for part in ("--set", change)]
        sparring(checkout, out, "train", recipe or name, "--out", name, *SHORT, *sets)
        log = (out / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
        flatten([json.loads(line) for line in log], f"{name}/log", values)
        for i, options in enumerate(evaluations):
            file = out / name / f"{i}.json"
            sparring(
                checkout, out, "evaluate", name, "--out", str(file), "--device", "cpu", *options
            )
            flatten(
                json.loads(file.read_text(encoding="utf-8")), f"{name}/{' '.join(options)}", values
            )
            with np.load(next(file.parent.glob(f"{file.stem}.*npz"))) as arrays:
                for key in arrays.files:
                    values[f"{name}/{' '.join(options)}/{key}{BYTES}"] = arrays[key].tobytes().hex()
    file = out / "metrics.json"
    sparring(checkout, out, "metrics", "mart", "--n", "20", "--device", "cpu", "--out", str(file))
    flatten(json.loads(file.read_text(encoding="utf-8")), "metrics", values)
    return values


def sparring(checkout: Path, folder: Path, *arguments: str) -> None:
    """Run the command line of a checkout; raise where it fails."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sparring", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def flatten(value: Any, path: str, values: dict[str, Any]) -> None:
    """Every number and text below `value`, by its path; what varies from run to run is left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in items:
        if key in VARYING:
            continue
        if isinstance(below, dict | list):
            flatten(below, f"{path}/{key}", values)
        else:
            values[f"{path}/{key}"] = below


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
