"""Curves over seeds, and on the samples that all models get right."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sparring.evaluation import evaluate
from sparring.results.curves import accuracy_curves, comparable_curves
from sparring.results.intervals import wilson
from tests.oracles import Net

EPS = [0.02, 0.05, 0.1]


def results(recipe: str, seeds, *, scale: float = 2.0):
    x = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = Net(6, 4, scale=2.0, seed=7)(x).argmax(1)
    found = []
    for seed in seeds:
        model = Net(6, 4, scale=scale, seed=7)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.15 * torch.randn(p.shape, generator=torch.manual_seed(seed)))
        how = {"recipe": {"recipe": {"name": recipe, "seed": seed}}, "progress": False}
        found.append(evaluate(model, (x, y), eps=EPS, name=f"{recipe}-{seed}", **how))
    return found


@pytest.fixture(scope="module")
def two():
    return results("one", [0, 1, 2]) + results("two", [0, 1, 2], scale=1.5)


def test_a_curve_is_the_mean_over_seeds(two):
    first, second = accuracy_curves(two)
    assert (first.name, second.name) == ("one", "two")
    assert first.eps == [0.0, *EPS]
    assert first.seeds == [0, 1, 2]
    shares = np.array([[r.clean.accuracy, *(e.robust.accuracy for e in r.by_eps)] for r in two[:3]])
    assert np.allclose(first.mean, shares.mean(0))
    half = 4.302653 * shares.std(0, ddof=1) / math.sqrt(3)
    assert np.allclose(np.array(first.high) - first.mean, half, rtol=1e-5)
    assert np.allclose(first.mean - np.array(first.low), half, rtol=1e-5)
    assert first.sem is None


def test_whether_a_seed_was_trained_compiled_makes_no_curve_of_its_own(two):
    changed = [
        dataclasses.replace(r, recipe={**r.recipe, "train": {"epochs": 2, "compile": k == 1}})
        for k, r in enumerate(two[:3])
    ]
    (curve,) = accuracy_curves(changed)
    assert curve.seeds == [0, 1, 2]
    longer = dataclasses.replace(changed[2], recipe={**two[2].recipe, "train": {"epochs": 3}})
    assert len(accuracy_curves([*changed[:2], longer])) == 2


def test_variants_of_one_recipe_go_by_their_runs_names(two):
    wide = {"model": {"width": 2}}
    changed = [
        dataclasses.replace(
            r,
            name=f"{'wide' if k > 2 else 'plain'}-seed{k % 3} · quick",
            recipe={"recipe": {"name": "one", "seed": k % 3}, **(wide if k > 2 else {})},
        )
        for k, r in enumerate(two)
    ]
    assert [c.name for c in accuracy_curves(changed)] == ["plain · quick", "wide · quick"]
    assert [c.seeds for c in accuracy_curves(changed)] == [[0, 1, 2], [0, 1, 2]]
    assert [c.name for c in accuracy_curves(changed[:3])] == ["one"]


def test_common_samples_are_those_all_models_of_a_seed_get_right(two):
    first, second = accuracy_curves(two, common=True)
    shares, kept = [], []
    for a, b in zip(two[:3], two[3:], strict=True):
        y = a.arrays["y"]
        mask = (a.arrays["clean_pred"] == y) & (b.arrays["clean_pred"] == y)
        kept.append(mask.mean())
        shares.append([a.arrays[f"correct_{e:g}"][mask].mean() for e in EPS])
    assert first.mean[0] == second.mean[0] == 1
    assert np.allclose(first.mean[1:], np.mean(shares, 0))
    assert first.share == second.share == pytest.approx(np.mean(kept))
    assert first.sem == pytest.approx(np.std(kept, ddof=1) / math.sqrt(3))
    assert 0 < first.share < 1


def test_one_run_has_the_interval_of_its_samples(two):
    (curve,) = accuracy_curves(two[:1])
    i = wilson(two[0].by_eps[1].count, 60)
    assert (curve.low[2], curve.high[2]) == (i.low, i.high)


def test_what_can_t_be_compared(two):
    with pytest.raises(ValueError, match="different numbers of seeds: one 3, two 2"):
        accuracy_curves(two[:5], common=True)
    bare = [dataclasses.replace(r, arrays={}) for r in two]
    with pytest.raises(ValueError, match="not of the same samples"):
        accuracy_curves(bare, common=True)
    elsewhere = dataclasses.replace(two[0], by_eps=[])
    with pytest.raises(ValueError, match="no radius in common"):
        accuracy_curves([two[1], elsewhere])
    assert accuracy_curves([]) == []


def test_what_a_report_draws(two):
    assert comparable_curves(two[:1]) == []
    assert [c.common for c in comparable_curves(two)] == [False, False, True, True]
    assert [c.common for c in comparable_curves(two[:5])] == [False, False]
