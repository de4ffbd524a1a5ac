"""Several gloo processes of one test module, and the tensors that each of them saved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]


def run(module: str, folder: Path, world: int) -> list[dict[str, Tensor]]:
    """Run `python -m MODULE RANK STORE OUT` for every rank at once; the tensors each one saved."""
    outs = [folder / f"{r}.pt" for r in range(world)]
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(r), str(folder / "store"), str(out)],
            cwd=ROOT,
            env=os.environ | more,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r, out in enumerate(outs)
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(out, weights_only=True) for out in outs]
