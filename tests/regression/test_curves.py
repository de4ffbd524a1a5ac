"""One recorded curve a method: a refactor gives the same losses.

A change of numbers is a line in the changelog.

To record again: `python -m tests.regression.test_curves`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from torch import Tensor, nn

from sparring.config import recipe
from sparring.training import Trainer

CURVES = Path(__file__).with_name("curves.json")
METHODS = ("standard", "pgd-at", "trades", "mart")
EPOCHS, ROWS = 3, 500
# Instructions that every processor of the kind has: wider ones round otherwise, and TRADES begins
# where its gradient is close to zero, so that a rounding turns signs of its first step. Even with
# them float32 convolutions are blocked by the size of a processor's caches, and curves came out
# different on two of them: the networks compute in float64, where no sign turns.
ALIKE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
}


def curve(method: str, out: Path) -> list[dict[str, float]]:
    """Loss and validation accuracies of the first epochs on real digits."""
    plan = recipe.load_recipe(
        f"digits-{method}",
        set={"train.epochs": EPOCHS, "train.amp": "float32", "data.limit": ROWS},
    )
    source, model, objective, more = plan.build()
    keys = ("loss", "clean", "robust")
    epochs = Trainer(model, objective, source, out=out, **more, device="cpu")
    for network in filter(None, (epochs.model, epochs.averaged)):
        network.double().register_forward_pre_hook(_in_float64)
    return [{k: getattr(e, k) for k in keys} for e in epochs]


def _in_float64(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].double(),)


def drawn() -> dict[str, list[dict[str, float]]]:
    """The curves of all methods, from a process with the instructions that all have alike."""
    command = [sys.executable, "-m", __spec__.name, "--here"]
    options = {"env": os.environ | ALIKE, "cwd": Path(__file__).parents[2], "check": True}
    return json.loads(subprocess.run(command, **options, stdout=subprocess.PIPE).stdout)


def test_the_curves_are_the_recorded_ones() -> None:
    curves = drawn()
    recorded = json.loads(CURVES.read_text(encoding="utf-8"))
    assert list(curves) == list(recorded) == list(METHODS)
    for method in METHODS:
        assert len(curves[method]) == EPOCHS
        for now, then in zip(curves[method], recorded[method], strict=True):
            assert now["loss"] == pytest.approx(then["loss"], rel=1e-4), method
            assert now["clean"] == pytest.approx(then["clean"], abs=0.01), method
            assert now["robust"] == pytest.approx(then["robust"], abs=0.01), method


def _print_curves() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({m: curve(m, Path(folder, m)) for m in METHODS}))


if __name__ == "__main__":
    if "--here" in sys.argv:
        _print_curves()
    else:
        CURVES.write_text(json.dumps(drawn(), indent=1) + "\n", encoding="utf-8")
