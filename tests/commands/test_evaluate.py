"""From the command line's words to an evaluation: norms, surrogates, budgets, bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sparring
from sparring.cli.options import norms
from sparring.commands import evaluate
from sparring.config import recipe
from tests.oracles import Net


def rows(n: int = 40):
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, Net(6, 4, scale=2.0)(x).argmax(1)


def run(**more):
    model = Net(6, 4, scale=2.0)
    return evaluate.evaluate(model, data=rows(), device="cpu", **{"suite": "quick", **more})


def test_norms_of_the_command_line():
    assert norms(["L2=1e-1"], None, []) == {"L2": [0.1]}
    for given in (("Linf", []), (None, [0.1])):
        with pytest.raises(ValueError, match="give --at NORM=EPS alone"):
            norms(["L2=1"], *given)
    for text in ("L2", "L2=", "L2=big"):
        with pytest.raises(ValueError, match=r"at = '.*' is not allowed: at must be a number"):
            norms([text], None, [])


def test_several_norms_and_a_surrogate():
    found = run(threat={"Linf": [0.05], "L2": [0.1]}, surrogate=Net(6, 4, seed=1))
    assert found.suite == "quick+transfer"
    assert [(row.threat, row.eps) for row in found.by_eps] == [("Linf", 0.05), ("L2", 0.1)]
    assert {row.name for row in found.attacks} > {"FGSM", "PGD-40 of the surrogate"}


def test_the_transfer_suite_alone():
    found = run(suite="transfer", eps=0.1, surrogate=Net(6, 4, seed=1))
    assert found.suite == "transfer"
    own = run(suite="transfer", eps=0.1, surrogate=Net(6, 4, scale=2.0))
    assert own.robust.accuracy < found.robust.accuracy
    with pytest.raises(ValueError, match="surrogate = None is not allowed"):
        run(suite="transfer", eps=0.1)


def test_a_surrogate_must_be_a_run_or_a_model():
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        run(eps=0.1, surrogate="nowhere")


def test_budgets_and_bounds_go_through():
    found = run(eps=0.1, queries=3)
    assert found.early.startswith("its budget of 3 forward passes was spent")
    sure = run(eps=[0.001, 0.1], certify=["ibp"])
    lower = [row.certified[0].accuracy for row in sure.by_eps]
    assert lower[0] > 0
    assert all(c <= row.robust.accuracy for c, row in zip(lower, sure.by_eps, strict=True))


def test_a_run_on_bits_without_a_budget_is_measured(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (120, 12), dtype=np.uint8)
    np.savez(tmp_path / "apps.npz", x=x, y=x[:, :6].sum(1) > 3)
    tables = {
        "recipe": {"name": "apps"},
        "data": {"name": str(tmp_path / "apps.npz"), "mutable": [1] * 6 + [0] * 6},
        "model": {"name": "mlp", "hidden": [8]},
        "threat": {"name": "Only", "of": {"name": "Bits"}, "classes": [1]},
        "attack": {"name": "RFGSM", "steps": 2},
        "method": {"name": "AT"},
        "train": {"epochs": 1, "batch_size": 40},
        "evaluation": {"suite": "bits", "n": 10},
    }
    folder = sparring.train(recipe.load_recipe(tables), out=tmp_path / "run")
    result = evaluate.evaluate(folder, out=tmp_path / "result.json")
    assert [row.eps for row in result.by_eps] == [None]
    assert result.threat["of"]["mutable"] == [1] * 6 + [0] * 6
    assert result.robust.accuracy <= result.clean.accuracy


def test_a_result_under_another_norm_replaces_none(tmp_path):
    tables = {
        "recipe": {"name": "points"},
        "data": {"name": "moons"},
        "model": {"name": "mlp", "hidden": [8]},
        "threat": {"name": "Linf", "eps": 0.1},
        "method": {"name": "Standard"},
        "train": {"epochs": 1, "batch_size": 20},
        "evaluation": {"suite": "quick", "n": 10},
    }
    folder = sparring.train(recipe.load_recipe(tables), out=tmp_path / "run")
    for threat, eps in ((None, None), ("L2", 0.1), ("Linf", 0.2), ({"Linf": 0.1, "L2": 0.1}, None)):
        evaluate.evaluate(folder, threat=threat, eps=eps)
    written = {file.name for file in (folder / "results").glob("*.json")}
    assert written == {
        "quick-test.json",
        "quick-test-L2.json",
        "quick-test-Linf-L2.json",
    }
