"""One recorded curve a method: a refactor gives the same losses.

A change of numbers is a line in the changelog.

To record again: `python -m tests.regression.test_curves`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from sparring.config import recipe
from sparring.training import Trainer

CURVES = Path(__file__).with_name("curves.json")
METHODS = ("standard", "pgd-at", "trades", "mart")
EPOCHS = 3


def curve(method: str, out: Path) -> list[dict[str, float]]:
    """Loss and validation accuracies of the first epochs on real digits."""
    plan = recipe.load_recipe(
        f"digits-{method}", set={"train.epochs": EPOCHS, "train.amp": "float32"}
    )
    source, model, objective, more = plan.build()
    keys = ("loss", "clean", "robust")
    epochs = Trainer(model, objective, source, out=out, **more, device="cpu")
    return [{k: getattr(e, k) for k in keys} for e in epochs]


@pytest.mark.parametrize("method", METHODS)
def test_the_curve_is_the_recorded_one(method: str, tmp_path: Path) -> None:
    recorded = json.loads(CURVES.read_text(encoding="utf-8"))[method]
    results = curve(method, tmp_path / "run")
    assert len(results) == EPOCHS
    for now, then in zip(results, recorded, strict=True):
        assert now["loss"] == pytest.approx(then["loss"], rel=1e-4)
        assert now["clean"] == pytest.approx(then["clean"], abs=0.01)
        assert now["robust"] == pytest.approx(then["robust"], abs=0.01)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        curves = {m: curve(m, Path(folder, m)) for m in METHODS}
    CURVES.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
