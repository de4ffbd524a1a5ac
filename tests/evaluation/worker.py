"""What each process of torchrun does; run as `worker.py OUT`, read by test_processes."""

from __future__ import annotations

import sys

import torch
import torch.distributed as td

from sparring.attacks import PGD, Noise
from sparring.evaluation import Suite, evaluate
from sparring.results.result import Result

SUITE = Suite(
    "own",
    1,
    (
        ("noise", lambda t: Noise(t, draws=3)),
        ("PGD", lambda t: PGD(t, steps=4, restarts=2)),
    ),
    cascade=True,
)


def measured(out: str | None = None) -> Result:
    """The same evaluation, however many processes share it."""
    x = torch.rand(90, 5, generator=torch.Generator().manual_seed(0))
    rows = (x, x.argmax(1))
    threats = {"Linf": [0.05, 0.1], "L2": 0.2}
    return evaluate(lambda v: v, rows, threats, SUITE, batch_size=13, out=out, progress=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    td.init_process_group("gloo")
    found = measured(sys.argv[1])
    assert found.robust.accuracy < found.clean.accuracy
    td.destroy_process_group()
