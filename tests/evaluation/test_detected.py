"""Detection through a whole evaluation: rates, flips and features again from the points."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from sparring.batch import Batch
from sparring.data import PackedBits, Source, Split
from sparring.evaluation import Suite, evaluate
from sparring.evaluation.suites import Entry
from sparring.results.detection import evasions
from sparring.results.intervals import wilson
from sparring.results.result import Result
from sparring.threats import Bits, Only
from tests.reference.detection import by_pairs, macro_by_hand


class Adder(nn.Module):
    """Class 1 where Σ w·x > 0; only adding features with w < 0 hides a positive."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0, 1.0, -1.0, -1.0, 0.0, 3.0, -0.5, 0.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = x @ self.w - 0.25
        return torch.stack([-s / 2, s / 2], 1)


NAMES = ["a", "b", "c", "d", "e", "f", "g$x$y", "h", "i"]


@pytest.fixture(scope="module")
def bits() -> Source:
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(60, 9, generator=draw) < 0.35).float()
    y = (Adder()(x)[:, 1] > 0).long()
    y[::13] = 1 - y[::13]
    split = Split(PackedBits.from_array(x), y)
    return Source(
        "toy", split, split, split, ["benign", "malware"], feature_names=NAMES, notes=["a note"]
    )


def greedy(threat, k: int, order: int = 1):
    """Adds the k absent features that pull most; or, order −1, in the order of least pull first."""

    def run(model, x, y):
        pull = Adder().w.detach()[None] * (1 - 2 * y[:, None].float()) * (x == 0)
        pull = torch.where(pull > 0, pull, 0)
        z = x.clone()
        for row, p in zip(z, pull, strict=True):
            best = sorted((j for j in range(9) if p[j] > 0), key=lambda j: -order * float(p[j]))
            row[best[:k]] = 1
        return threat.discretize(z, Batch(x, y))

    return run


def suite(*makes) -> Suite:
    return Suite("own", 1, tuple(Entry(f"g{i}", m, norms=("bits",)) for i, m in enumerate(makes)))


BOTH = suite(lambda t: greedy(t, 2), lambda t: greedy(t, 2, -1))


def test_an_evaluation_of_bits_tells_rates_flips_and_features(bits: Source) -> None:
    """Everything again from the points themselves: the two of each sample, and their scores."""
    result = evaluate(Adder(), bits, Bits(2), BOTH, progress=False)
    d = result.detection
    assert d is not None
    x, y = bits.test.float(), bits.test.y.numpy()
    clean = (x @ Adder().w.detach() - 0.25).numpy()
    right = (clean > 0) == (y == 1)
    points = [greedy(Bits(2), 2, order)(None, x, bits.test.y) for order in (1, -1)]
    scores = [(z @ Adder().w.detach() - 0.25).numpy() for z in points]
    broken = [right & ((s > 0) != (y == 1)) for s in scores]
    fn, fn_adv = int((~right & (y == 1)).sum()), int((~right | broken[0] | broken[1])[y == 1].sum())
    fp_adv = int((~right | broken[0] | broken[1])[y == 0].sum())
    p, n = int((y == 1).sum()), int((y == 0).sum())
    assert [row.name for row in d.rates] == ["clean", "positives attacked", "all attacked"]
    assert d.rates[0].fnr == wilson(fn, p)
    assert d.rates[1].fnr == d.rates[2].fnr == wilson(fn_adv, p)
    assert d.rates[1].fpr == d.rates[0].fpr
    assert d.rates[2].fpr == wilson(fp_adv, n)
    assert fn_adv > fn
    worst_score = np.array(
        [
            min(c, *(s[i] for s in scores)) if t == 1 else max(c, *(s[i] for s in scores))
            for i, (c, t) in enumerate(zip(clean, y, strict=True))
        ]
    )
    expected = np.where(right, worst_score, clean)
    np.testing.assert_allclose(result.arrays["adv_score"], expected, atol=1e-5)
    assert d.rates[2].auc is not None
    assert d.rates[2].auc.accuracy == pytest.approx(by_pairs(expected, y))
    took, counts = [], dict.fromkeys(NAMES, 0)
    for i in np.flatnonzero((y == 1) & (broken[0] | broken[1])):
        ways = [z[i] != x[i] for z, b in zip(points, broken, strict=True) if b[i]]
        way = min(ways, key=lambda w: int(w.sum()))
        took.append(int(way.sum()))
        for j in np.flatnonzero(way.numpy()):
            counts[NAMES[j]] += 1
    assert d.evasions == len(took) > 0
    assert d.flips == pytest.approx(np.mean(took))
    assert d.median == np.median(took)
    assert {u.name: u.count for u in d.added} == {k: v for k, v in counts.items() if v}
    assert [u.count for u in d.added] == sorted((u.count for u in d.added), reverse=True)
    assert result.notes == ["a note"]
    assert (result.arrays["flips"] >= 0).sum() == (broken[0] | broken[1]).sum()


def test_where_only_malware_is_attacked_the_fpr_is_the_clean_one(bits: Source) -> None:
    """The same rates as of an attack on all, with the negatives left alone."""
    only = Only(of=Bits(2), classes=[1])
    result = evaluate(Adder(), bits, only, BOTH, progress=False)
    whole = evaluate(Adder(), bits, Bits(2), BOTH, progress=False)
    assert result.detection is not None
    assert whole.detection is not None
    assert [row.name for row in result.detection.rates] == ["clean", "positives attacked"]
    assert result.detection.rates == whole.detection.rates[:2]
    assert result.detection.added == whole.detection.added


def test_a_budget_of_0_is_clean(bits: Source) -> None:
    found = evaluate(Adder(), bits, Bits(0), BOTH, progress=False).detection
    assert found is not None
    assert found.evasions == 0
    assert (found.flips, found.median, found.added) == (None, None, [])
    assert found.rates[0].fnr == found.rates[1].fnr
    assert found.rates[0].auc == found.rates[1].auc


def test_the_largest_budget_counts(bits: Source) -> None:
    both = evaluate(Adder(), bits, Bits(2), BOTH, eps=[0, 2], progress=False)
    assert both.detection == evaluate(Adder(), bits, Bits(2), BOTH, progress=False).detection


def test_a_killed_evaluation_goes_on_with_its_scores(bits: Source, tmp_path, same) -> None:
    """The second session reads what the first left: the first attack, and a batch of the second."""
    left = [2]

    def mortal(threat):
        whole = greedy(threat, 2, -1)

        def run(model, x, y):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return whole(model, x, y)

        return run

    chosen = suite(lambda t: greedy(t, 2), mortal)
    out, how = tmp_path / "r.json", {"batch_size": 7, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Adder(), bits, Bits(2), chosen, out=out, **how)
    left[0] = 10**6
    again = evaluate(Adder(), bits, Bits(2), chosen, out=out, **how)
    assert 10**6 - left[0] < -(-60 // 7)
    whole = evaluate(Adder(), bits, Bits(2), BOTH, **how)
    same(again, whole)
    assert again.detection == whole.detection


def test_json_keeps_it_and_an_older_file_lacks_it(bits: Source, tmp_path) -> None:
    path = evaluate(Adder(), bits, Bits(2), BOTH, out=tmp_path / "r.json", progress=False)
    read = Result.load(tmp_path / "r.json")
    assert read.detection == path.detection
    assert read.notes == path.notes
    held = json.loads((tmp_path / "r.json").read_text())
    del held["detection"], held["notes"]
    (tmp_path / "r.json").write_text(json.dumps(held))
    old = Result.load(tmp_path / "r.json")
    assert (old.detection, old.notes) == (None, [])


def test_more_classes_have_macro_rates() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(90, 4, generator=draw)
    y = x[:, :3].argmax(1)
    y[::9] = (y[::9] + 1) % 3
    result = evaluate(lambda v: 10 * v[:, :3], (x, y), "Linf", "quick", eps=0.05, progress=False)
    d = result.detection
    assert d is not None
    assert (d.positive, d.evasions, d.added) == ("", 0, [])
    for row, key in zip(d.rates, ("clean_pred", "adv_pred"), strict=True):
        expected = macro_by_hand(result.arrays[key], y.numpy(), 3)
        assert (row.fnr.accuracy, row.fpr.accuracy) == pytest.approx(expected)
        assert row.auc is None
    assert d.rates[1].fnr.accuracy > d.rates[0].fnr.accuracy
    assert "clean_score" not in result.arrays


def test_two_classes_in_a_ball_have_scores_but_no_flips(problem) -> None:
    result = evaluate(
        problem.model, (problem.x, problem.y), "Linf", "quick", eps=0.05, progress=False
    )
    d = result.detection
    assert d is not None
    assert d.evasions == int(evasions(problem.y.numpy(), *_preds(result)).sum()) > 0
    assert d.flips is None
    assert "flips" not in result.arrays
    with torch.no_grad():
        z = problem.model(problem.x)
    np.testing.assert_allclose(result.arrays["clean_score"], (z[:, 1] - z[:, 0]).numpy(), atol=1e-6)


def _preds(result: Result) -> tuple[np.ndarray, np.ndarray]:
    return result.arrays["clean_pred"], result.arrays["adv_pred"]
