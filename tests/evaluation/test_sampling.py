"""A sample of the survivors: what it claims, and that it falls back to all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom
from torch import nn

from sparring import attacks, data
from sparring.evaluation import Suite, evaluate, sampling, suites
from sparring.evaluation.suites import Entry
from sparring.results import gates, leaderboard
from sparring.results.result import Result
from sparring.results.sampled import SampledClaim, most_lost
from sparring.threats import Linf
from tests.reporting import made

N = 400


class Masked(nn.Module):
    """Logits ±(w·x + b) behind inputs rounded to tenths: no gradient, and Square breaks many."""

    def __init__(self, levels: int = 10) -> None:
        super().__init__()
        self.levels = levels
        self.w = nn.Parameter(torch.randn(6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        rounded = (self.levels * x).round() / self.levels if self.levels else x
        s = (rounded - 0.5) @ self.w
        return torch.stack([s, -s], 1)


class Thirds(nn.Module):
    """Logits of three classes, linear and steep."""

    def forward(self, x):
        return 8 * x @ torch.randn(6, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def rows():
    x = torch.rand(N, 6, generator=torch.Generator().manual_seed(1))
    return x, ((x - 0.5) @ Masked().w.detach() < 0).long()


GRADIENT = Entry("PGD", lambda t: attacks.PGD(t, steps=3, random_start=False))
LATER = (
    Entry("FAB", lambda t: attacks.FAB(t, steps=3), may_sample=True),
    Entry("Square", lambda t: attacks.Square(t, queries=60), "black", may_sample=True),
    Entry("again", lambda t: attacks.Square(t, queries=60), "black", (), 0.1, may_sample=True),
)
SUITE = Suite("own", 1, (GRADIENT, *LATER), cascade=True)


def run(rows, model=None, *, eps=0.05, suite=SUITE, **options) -> Result:
    options = {"batch_size": 40, "progress": False, "eps": eps} | options
    return evaluate((model or Masked()).eval(), rows, "Linf", suite, **options)


def right(result):
    return result.arrays["correct_0.05"]


class TestFallback:
    def test_finds_what_the_suite_finds_where_gradients_are_masked(self, rows):
        whole, part = run(rows), run(rows, sample=20)
        broken_by_gradients = N - round(whole.attacks[0].accuracy * N)
        assert broken_by_gradients == N - round(whole.clean.accuracy * N)
        assert whole.by_eps[0].count < 0.75 * whole.attacks[0].attacked
        # The later attacks start again in the same batches; the sample's own finds come on top.
        assert not (right(part) & ~right(whole)).any()
        assert part.by_eps[0].count >= whole.by_eps[0].count - 3
        claim = part.by_eps[0].sampled
        assert claim.complete
        assert (claim.lost, claim.bound) == (0, 0)
        assert claim.withstood == part.by_eps[0].count
        assert "by sample" not in part.summary()

    def test_costs_the_sample_on_top_up_to_the_attack_that_broke(self, rows):
        """Square breaks one: FAB and Square ran on the sample, the second draw did not."""
        whole, part = (run(rows, sample=s).attacks for s in (None, 20))
        assert part[1].forwards > whole[1].forwards
        assert part[2].forwards > whole[2].forwards
        assert [row.attacked for row in part[:3]] == [row.attacked for row in whole[:3]]

    def test_of_an_attack_that_breaks_nothing_more(self, rows):
        """Every attack after the one that broke is run on all, those before it too."""
        none = Entry("none", lambda t: attacks.Noise(t, draws=1), "black", may_sample=True)
        suite = Suite("own", 1, (GRADIENT, none, LATER[1]), cascade=True)
        part = run(rows, suite=suite, sample=20)
        survivors = part.by_eps[0].sampled.survivors
        assert part.attacks[1].attacked == survivors
        assert part.attacks[2].attacked >= round(part.attacks[1].accuracy * N)

    def test_keeps_points_with_their_own_predictions(self, rows):
        """Both passes break samples, on the sample and on all, to other classes."""
        x, model = rows[0], Thirds()
        y = model(x).argmax(1)

        def towards(rank):
            def attack(model, x, y):
                target = model(x).argsort(1)[:, rank]
                return attacks.PGD(Linf(0.3), steps=20, targeted=True)(model, x, target)

            return lambda threat: attack

        later = (
            Entry("runner-up", towards(1), may_sample=True),
            Entry("last", towards(0), "black", may_sample=True),
        )
        weak = Entry("weak", lambda t: attacks.Noise(t, draws=1))
        suite = Suite("own", 1, (weak, *later), cascade=True)
        part = run((x, y), model, eps=0.3, suite=suite, sample=20, keep="all")
        assert part.by_eps[0].sampled.complete
        pred = model(torch.from_numpy(part.x_adv)).argmax(1).numpy()
        np.testing.assert_array_equal(part.arrays["adv_pred"], pred)

    def test_resumed_from_a_sampled_pass(self, rows, tmp_path, same):
        out = tmp_path / "r.json"
        first = run(rows, sample=20, queries=9_000, out=out)
        assert first.early
        same(run(rows, sample=20, out=out), run(rows, sample=20))
        assert not (tmp_path / "r.json.partial").exists()


def test_the_attacks_of_autoattack_fall_back_on_digits_behind_rounding():
    """A trained net of two layers whose inputs are rounded to eighths: with fewer steps each,
    Square finds what APGD and FAB miss."""
    source = data.load("digits")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    x, y = source.train.float(slice(None)), source.train.y
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((8 * x).round() / 8)

    rows = source.test.float(slice(0, 60)), source.test.y[:60]
    attack = (
        Entry("APGD-CE", lambda t: attacks.APGD(t, steps=10)),
        Entry("APGD-T", lambda t: attacks.APGD(t, steps=5, loss="dlr-targeted", targets=3)),
        Entry("FAB-T", lambda t: attacks.FAB(t, steps=5, targets=3), may_sample=True),
        Entry("Square", lambda t: attacks.Square(t, queries=200), "black", may_sample=True),
    )
    options = {"suite": Suite("short", 1, attack, cascade=True), "eps": 0.1, "batch_size": 60}
    whole, part = (run(rows, Rounded(), sample=s, **options) for s in (None, 9))
    keys = [r.arrays["correct_0.1"].astype(bool) for r in (whole, part)]
    claim = part.by_eps[0].sampled
    assert claim.complete
    assert whole.by_eps[0].count < 0.7 * claim.survivors
    assert not (keys[1] & ~keys[0]).any()
    assert (keys[0] & ~keys[1]).sum() <= 2


@pytest.mark.parametrize("size", [0.041, 0.05])
def test_near_ones_alone_that_break_leave_the_others_open(rows, size):
    """A linear model: the margins under a weaker attack order the samples as the boundary does."""

    def attack(name, size, near_share=1.0):
        def make(threat):
            return attacks.PGD(threat, steps=1, size=size, random_start=False)

        return Entry(name, make, near_share=near_share, may_sample=name != "weak")

    later = (attack("strong", size), attack("again", 0.05, 0.1))
    suite = Suite("own", 1, (attack("weak", 0.04), *later), cascade=True)
    whole, part = (run(rows, Masked(0), suite=suite, sample=s) for s in (None, 40))
    claim = part.by_eps[0].sampled
    near = int(np.ceil(sampling.NEAR_SHARE * claim.survivors))
    assert claim.attacked == near + 40
    assert near >= claim.attacked - claim.withstood > 0
    assert claim.lost == most_lost(claim.survivors - near, 40)
    np.testing.assert_array_equal(right(part), right(whole))


class TestClaim:
    def test_of_a_sample_that_no_attack_breaks(self, rows):
        smooth, sample = Masked(0), 150
        whole, part = run(rows, smooth), run(rows, smooth, sample=sample)
        assert whole.by_eps[0].count == part.by_eps[0].count
        claim, survivors = part.by_eps[0].sampled, whole.attacks[1].attacked
        near = int(np.ceil(sampling.NEAR_SHARE * survivors))
        assert (claim.survivors, claim.attacked) == (survivors, near + sample)
        assert claim.withstood == claim.attacked == part.attacks[1].attacked
        assert claim.lost == most_lost(survivors - near, sample) > 0
        assert claim.bound == claim.lost / N
        assert whole.by_eps[0].sampled is None

    def test_the_nearest_of_the_sample_are_run_again(self, rows):
        part = run(rows, Masked(0), sample=150)
        asked = part.by_eps[0].sampled.attacked
        assert part.attacks[-1].attacked == int(np.ceil(0.1 * asked))

    def test_few_survivors_are_all_run(self, rows, same):
        whole, part = run(rows, Masked(0)), run(rows, Masked(0), sample=N)
        assert part.by_eps[0].sampled.complete
        row = [dataclasses.replace(row, sampled=None) for row in part.by_eps]
        same(dataclasses.replace(part, by_eps=row), whole)

    def test_the_nearest_are_in_the_sample(self, rows):
        seen = []

        class Spy(attacks.Noise):
            def __call__(self, model, x, y):
                seen.append(x)
                return super().__call__(model, x, y)

        spy = Entry("spy", lambda t: Spy(t, draws=1), "black", may_sample=True)
        run(rows, Masked(0), suite=Suite("own", 1, (GRADIENT, spy), cascade=True), sample=20)
        x, _ = rows
        lead = ((x - 0.5) @ Masked().w.detach()).abs() - 0.05 * Masked().w.detach().abs().sum()
        near = x[(lead > 0.01)][lead[lead > 0.01].argsort()[:5]]
        attacked = {tuple(r.tolist()) for r in torch.cat(seen)}
        assert all(tuple(r.tolist()) in attacked for r in near)

    def test_more_than_2_percent_open_needs_a_look(self, rows):
        some, most = (run(rows, Masked(0), sample=s) for s in (30, 230))
        assert some.by_eps[0].sampled.bound > 0.02 > most.by_eps[0].sampled.bound > 0
        assert some.verdict == "look"
        assert some.reason.startswith("a sample of 30 leaves ")
        assert some.reason.endswith("more than 2 %: raise sample, or omit it")
        assert most.verdict == "sound"

    def test_more_than_2_percent_open_over_the_norms_needs_a_look(self, rows):
        options = {"sample": 110, "batch_size": 40, "progress": False}
        model, norms = Masked(0).eval(), {"Linf": [0.02, 0.05], "L2": 0.05}
        part = evaluate(model, rows, norms, SUITE, **options)
        linf, l2 = part.by_eps[-2].sampled.bound, part.by_eps[-1].sampled.bound
        assert max(linf, l2) < 0.02 < linf + l2
        assert part.verdict == "look"
        assert part.reason == (
            f"samples of 110 leave {100 * (linf + l2):.1f} % of the samples open over the norms, "
            "more than 2 %: raise sample, or omit it"
        )

    def test_an_early_end_leaves_all_open_that_was_not_run(self, rows):
        part = run(rows, Masked(0), sample=20, queries=3_500)
        claim = part.by_eps[0].sampled
        assert part.early
        assert claim.attacked < 20 + sampling.NEAR_ROWS
        assert claim.lost == claim.survivors - claim.attacked
        assert part.verdict == "look"

    def test_of_every_radius(self, rows):
        part = run(rows, Masked(0), eps=[0.02, 0.05], sample=20)
        assert [row.sampled.sample for row in part.by_eps] == [20, 20]
        assert part.by_eps[0].sampled.survivors > part.by_eps[1].sampled.survivors


class TestShown:
    @pytest.fixture
    def result(self, rows):
        return run(rows, Masked(0), sample=150)

    def test_the_bound_is_beside_the_accuracy(self, result, tmp_path):
        text = f"−{100 * result.by_eps[0].sampled.bound:.1f} by sample"
        other = dataclasses.replace(result, name="other")
        for shown in (result.summary(), repr(result), result._repr_html_()):
            assert text in shown
        for results in ([result], [result, other]):
            assert text in made.text(results)
            assert text in made.html_of(results, tmp_path)
        assert "survivors and broke 0" in made.text([result])
        page = made.html_of([result], tmp_path)
        assert "survivors and broke 0" in page
        assert "withstand the attacks that ran at Linf eps 0.05" in page
        assert "--sample 150" in page

    def test_the_file_has_it_and_older_files_have_none(self, result, tmp_path):
        result.save(tmp_path / "r.json")
        assert Result.load(tmp_path / "r.json").by_eps == result.by_eps
        text = (tmp_path / "r.json").read_text()
        assert '"sampled": {' in text

    def test_a_gate_subtracts_it(self, result):
        share = result.robust.accuracy
        assert "by sample at" in gates.Gate(fail_under=share - 0.001).accuracy_failure(result)
        bound = result.by_eps[0].sampled.bound
        assert not gates.Gate(fail_under=share - bound).accuracy_failure(result)

    def test_it_makes_no_entry_of_a_leaderboard(self, result):
        with pytest.raises(ValueError, match="leave out sample"):
            leaderboard._check_complete(result, result.by_eps[0])


@pytest.mark.parametrize(("others", "random"), [(810, 150), (200, 30), (37, 20), (5, 1), (20, 20)])
def test_the_bound_is_the_exact_one(others, random):
    """The literal one: the largest K that `random` draws miss with 5 % or more."""
    missed = [hypergeom.pmf(0, others, k, random) for k in range(others - random + 1)]
    assert most_lost(others, random) == max(k for k, p in enumerate(missed) if p >= 0.05)


def test_the_bound_holds_in_95_of_100_draws():
    """Of 300 samples 12 would break: a sample that misses them all bounds fewer in at most 5 %."""
    rng, below = np.random.default_rng(0), 0
    for _ in range(2000):
        broken = np.zeros(300, bool)
        broken[rng.permutation(300)[:12]] = True
        if not broken[:60].any():
            below += most_lost(300, 60) < 12
    assert below / 2000 <= 0.05


@pytest.mark.parametrize(
    ("suite", "options"),
    [("pgd", {}), ("autoattack-plus", {}), ("autoattack", {"cascade": False})],
)
def test_a_sample_where_there_is_none_is_refused(rows, suite, options):
    with pytest.raises(ValueError, match="sample = 20 is not allowed") as error:
        run(rows, suite=suite, sample=20, **options)
    named = "suites with attacks that may run on a sample are autoattack"
    assert named in str(error.value) or "None without a cascade" in str(error.value)


def test_which_attacks_may_run_on_a_sample():
    entries = suites.SUITES["autoattack"].entries
    may = [entry.label for entry in entries if entry.may_sample]
    assert may == ["FAB-T", "Square", "APGD-T again", "Square again"]
    others = [e for s in suites.SUITES.values() if s.name != "autoattack" for e in s.entries]
    assert not any(entry.may_sample for entry in others)
    first = Suite("first", 1, LATER, cascade=True)
    with pytest.raises(ValueError, match="sample = 5 is not allowed"):
        run((torch.rand(4, 6), torch.zeros(4, dtype=torch.long)), suite=first, sample=5)


def test_the_claim_in_words():
    open_claim = SampledClaim(150, 900, 240, 240, 13, 0.013)
    assert str(open_claim) == (
        "later attacks ran on 240 of 900 survivors and broke 0; at 95 % they would break at most "
        "13 of the others, 1.3 % of all samples"
    )
    assert str(SampledClaim(150, 90, 90, 60, 0, 0.0)) == "later attacks ran on all 90 survivors"
