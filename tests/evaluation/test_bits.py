"""The suite `bits`, and the recount of what it returns."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import BitSearch
from sparring.evaluation import evaluate, suites
from sparring.evaluation.judge import feasible
from sparring.results import comparison
from sparring.results.result import Result
from sparring.threats import Bits, Linf, Only

X = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]])
Y = torch.zeros(1, dtype=torch.long)
FIVE = ["dFGSM-50", "rFGSM-50", "BGA-50", "BCA-50", "Grosse-50"]


class Linear(nn.Module):
    """Logits (s, −s), s = w·x + b."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, x: Tensor) -> Tensor:
        s = x @ self.w + self.b
        return torch.stack([s, -s], 1)


def detector(n: int = 60, d: int = 12):
    """A linear detector, samples and labels, a tenth of them wrong; and the margin of each."""
    draw = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(d, generator=draw), 0.1).eval()
    x = (torch.rand(n, d, generator=draw) < 0.4).float()
    with torch.no_grad():
        score = model(x)[:, 0]
    y = (score < 0).long()
    y[::10] = 1 - y[::10]
    return model, x, y, torch.where(y == 0, score, -score)


def lost(model: Linear, x: Tensor, y: Tensor, eps: float, classes=(0, 1)) -> Tensor:
    """The most that eps added features take from the margin of a sample."""
    side = 1 - 2 * y[:, None]
    gain = (-side * model.w.detach() * (1 - x)).clamp_min(0).sort(1, descending=True).values
    taken = gain[:, : int(min(eps, x.shape[1]))].sum(1)
    return torch.where(sum(y == c for c in classes).bool(), taken, 0.0)


@pytest.mark.parametrize(
    ("threat", "point"),
    [
        (Bits(), [[1.0, 0.5, 0.0, 1.0, 0.0]]),
        (Bits(), [[1.0, 1.0 - 1e-6, 0.0, 1.0, 0.0]]),
        (Bits(), [[1.0, 1.0, 0.0, 0.0, 0.0]]),
        (Bits(2), [[1.0, 1.0, 1.0, 1.0, 1.0]]),
        (Bits(2, add_only=False), [[0.0, 1.0, 0.0, 0.0, 0.0]]),
        (Bits(mutable=[1, 1, 0, 1, 1]), [[1.0, 0.0, 1.0, 1.0, 0.0]]),
        (Only(Bits(), classes=[1]), [[1.0, 1.0, 0.0, 1.0, 0.0]]),
        (Bits(), [[1.0, math.nan, 0.0, 1.0, 0.0]]),
        (Bits(), [[1.0, 2.0, 0.0, 1.0, 0.0]]),
        (Bits(0), [[1.0, 1.0, 0.0, 1.0, 0.0]]),
    ],
    ids=["half", "nearly", "removed", "budget", "free", "mask", "class", "nan", "outside", "none"],
)
def test_a_cheat_is_not_counted(threat, point, suite_of):
    """Each point would fool the model, and none is allowed."""

    def model(x: Tensor) -> Tensor:
        same = (x == X).all(1).float()
        return torch.stack([same, 1 - same], 1)

    assert feasible(threat, X, X, Y).all()
    assert not feasible(threat, torch.tensor(point), X, Y).any()
    cheat = suite_of(lambda *_: torch.tensor(point))
    cheat = suites.Suite("own", 1, [suites.Entry("cheat", cheat.entries[0].make, norms=("bits",))])
    result = evaluate(model, (X, Y), threat, cheat, progress=False)
    assert result.robust.accuracy == 1
    assert result.attacks[0].infeasible == 1


def test_what_is_allowed_is():
    point = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0]])
    for threat in (Bits(), Bits(2), Bits(2, mutable=[0, 1, 0, 0, 1]), Only(Bits(2), classes=[0])):
        assert feasible(threat, point, X, Y).all()
    assert feasible(Bits(1, add_only=False), torch.tensor([[0.0, 0, 0, 1, 0]]), X, Y).all()


class TestSuite:
    @pytest.mark.parametrize("cascade", [False, True])
    def test_the_worst_case_of_a_linear_model(self, cascade):
        model, x, y, margin = detector()
        radii = [0, 1, 2, 5, 50]
        result = evaluate(
            model, (x, y), Bits(), "bits", eps=radii, cascade=cascade, batch_size=25, progress=False
        )
        assert [row.eps for row in result.by_eps] == radii
        for row in result.by_eps:
            robust = (margin > 0) & (margin > lost(model, x, y, row.eps))
            assert row.count == robust.sum()
        assert result.by_eps[0].count == result.clean.accuracy * len(x)
        assert [a.name for a in result.attacks] == [*FIVE, "BitSearch"]
        assert all(a.infeasible == 0 for row in result.by_eps for a in row.attacks)
        alone = [a.accuracy for a in result.attacks]
        assert result.robust.accuracy <= min(alone)
        if not cascade:
            assert len({a.attacked for a in result.attacks}) == 1

    def test_the_checks_probe_bits(self):
        """Points between bits would be no points: one step would beat ten."""
        model, x, y, _ = detector(n=200)
        result = evaluate(model, (x, y), Bits(3), "bits", progress=False)
        fired = [check.name for check in result.checks if check.fired]
        assert fired == []
        assert result.verdict == "look"  # no attack without gradients
        assert "use the suite bits-black-box" in result.reasons[0]
        blind = evaluate(lambda v: model(v.round()), (x, y), Bits(3), "all", progress=False)
        assert "zero gradients" in [check.name for check in blind.checks if check.fired]

    def test_one_class_attacks(self):
        model, x, y, margin = detector()
        threat = Only(Bits(3), classes=[1])
        result = evaluate(model, (x, y), threat, "bits", progress=False)
        robust = (margin > 0) & (margin > lost(model, x, y, 3, classes=[1]))
        assert result.by_eps[0].count == robust.sum()

    def test_without_a_budget_the_json_is_valid(self, tmp_path):
        model, x, y, margin = detector()
        result = evaluate(model, (x, y), Bits(), "bits", out=tmp_path / "r.json", progress=False)
        assert result.by_eps[0].eps is None
        assert result.by_eps[0].count == ((margin > 0) & (margin > lost(model, x, y, 99))).sum()
        json.loads((tmp_path / "r.json").read_bytes(), parse_constant=pytest.fail)
        again = Result.load(tmp_path / "r.json")
        assert again.by_eps == result.by_eps
        assert (comparison.correct(again) == comparison.correct(result)).all()
        both = evaluate(model, (x, y), Bits(2), "bits", eps=[2, math.inf], progress=False)
        assert [row.eps for row in both.by_eps] == [2, None]
        assert both.by_eps[1].count == result.by_eps[0].count

    @pytest.mark.parametrize(
        "suite", [n for n in suites.SUITES if not n.startswith("bits") and n != "all"]
    )
    def test_other_suites_say_which_one_fits(self, suite):
        model, x, y, _ = detector()
        with pytest.raises(
            ValueError,
            match=r"no attack for Bits: take one of bits, bits-published, bits-black-box, all",
        ):
            evaluate(model, (x, y), Bits(2), suite, progress=False)

    def test_it_is_for_bits_alone(self):
        with pytest.raises(
            ValueError, match=r"suite = 'bits' has no attack for Linf: take one of quick"
        ):
            suites.SUITES["bits"].entries_for(Linf(0.1))
        labels = [*FIVE, "BitSearch", *suites.SUITES["bits-black-box"].labels]
        assert [e.label for e in suites.SUITES["all"].entries_for(Bits(2))] == labels

    def test_points_of_a_surrogate(self):
        model, x, y, _ = detector()
        other = Linear(model.w.detach() + 0.01, 0.1)
        result = evaluate(model, (x, y), Bits(2), "bits", surrogate=other, progress=False)
        assert result.attacks[-1].name == "BitSearch of the surrogate"
        assert result.attacks[-1].accuracy < result.clean.accuracy
        assert result.attacks[-1].infeasible == 0


@pytest.mark.parametrize("bad", [2.5, -1, [1, 0.5], math.nan])
def test_a_budget_is_whole(bad):
    model, x, y, _ = detector()
    with pytest.raises(ValueError, match=r"eps = .* must be whole numbers of flips"):
        evaluate(model, (x, y), Bits(), "bits", eps=bad, progress=False)


def test_features_that_are_no_bits():
    model, x, y, _ = detector()
    x[3, 2] = 0.25
    with pytest.raises(ValueError, match=r"x has the value 0\.25: for Bits every feature must be"):
        evaluate(model, (x, y), Bits(2), "bits", progress=False)
    with pytest.raises(ValueError, match="mutable has 3 entries and x has 12 features"):
        evaluate(model, (x.round(), y), Bits(2, mutable=[1, 0, 1]), "bits", progress=False)


def test_the_search_is_in_full_precision_on_demand():
    model, x, y, margin = detector()
    result = evaluate(model, (x, y), Bits(2), "bits", precision="bfloat16", progress=False)
    robust = (margin > 0) & (margin > lost(model, x, y, 2))
    assert result.by_eps[0].count == robust.sum()
    assert BitSearch(Bits(2), precision="bfloat16").precision == "bfloat16"
