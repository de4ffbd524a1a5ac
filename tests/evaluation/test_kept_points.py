"""The worst points of all samples: kept, rounded, judged again, saved and read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparring.evaluation import evaluate, judge_again
from sparring.evaluation.worst_points import WorstPoints
from sparring.results import Result
from sparring.results.points import decode, encode
from sparring.threats import Linf
from tests.oracles import Net, problem


def run(*args, **kw):
    return evaluate(*args, progress=False, **kw)


@pytest.fixture
def made():
    return problem(b=40, dtype=torch.float32)


@pytest.mark.parametrize("cascade", [False, True])
def test_the_points_have_the_robust_accuracy(made, cascade, tmp_path):
    model, x, y = made
    out = tmp_path / "r.json"
    result = run(model, (x, y), eps=[0.02, 0.1], keep="all", out=out, cascade=cascade, n=30)
    index = result.arrays["index"]
    x_adv = torch.from_numpy(result.x_adv)
    pred = model(x_adv).argmax(1)
    assert torch.equal(pred, torch.from_numpy(result.arrays["adv_pred"]))
    assert (pred == y[index]).double().mean().item() == result.robust.accuracy
    assert (x_adv - x[index]).abs().max() <= 0.1001
    loaded = Result.load(out)
    np.testing.assert_array_equal(loaded.x_adv, result.x_adv)
    again = judge_again(loaded, model, (x, y))
    assert again == (result.robust, 0, 0)
    assert judge_again(loaded, Net(seed=5), (x, y)).changed > 0
    with pytest.raises(ValueError, match="its labels differ"):
        judge_again(loaded, model, (x, (y + 1) % 4))
    with pytest.raises(ValueError, match="rows are missing"):
        judge_again(loaded, model, (x[:2], y[:2]))


def test_a_resumed_evaluation_keeps_the_same_points(made, tmp_path):
    model, x, y = made
    whole = run(model, (x, y), eps=0.1, keep="all")
    out = tmp_path / "r.json"
    part = run(model, (x, y), eps=0.1, keep="all", out=out, batch_size=10, queries=100)
    assert part.early
    result = run(model, (x, y), eps=0.1, keep="all", out=out, batch_size=10)
    assert result.x_adv.shape == whole.x_adv.shape
    assert judge_again(result, model, (x, y)).robust == result.robust


def test_several_norms_each_judge_their_own_points(made, tmp_path):
    model, x, y = made
    result = run(model, (x, y), {"Linf": [0.02, 0.05], "L2": 0.1}, keep="all")
    assert set(np.unique(result.arrays["x_adv_norm"])) <= {-1, 0, 1}
    assert judge_again(result, model, (x, y)) == (result.robust, 0, 0)


def test_a_threat_that_is_given_judges_the_points_of_all_norms(made):
    model, x, y = made
    result = run(model, (x, y), {"Linf": 0.05, "L2": 0.1}, keep="all")
    assert 1 in result.arrays["x_adv_norm"]
    assert judge_again(result, model, (x, y), Linf(0.2)) == (result.robust, 0, 0)


class Noisy(Net):
    """A model that draws in each pass."""

    def forward(self, x):
        return super().forward(x) + 1e-6 * torch.rand(len(x), 1)


@pytest.mark.parametrize("keep", ["shown", "all"])
def test_a_model_that_draws_leaves_the_global_random_state(made, keep):
    _, x, y = made
    before = torch.get_rng_state()
    run(Noisy().eval(), (x, y), eps=0.05, keep=keep)
    assert torch.equal(torch.get_rng_state(), before)


def test_points_on_the_grid_take_a_byte():
    model = Net(scale=3.0)
    x = torch.randint(0, 256, (30, 6), generator=torch.Generator().manual_seed(0)) / 255
    y = model(x).argmax(1)
    result = run(model, (x, y), eps=16 / 255, suite="from-x", keep="all")
    kinds = {kept: run(model, (x, y), eps=16 / 255, keep=kept) for kept in ("uint8", "float16")}
    for kind, kept in kinds.items():
        assert kept.arrays["x_adv"].dtype == kind
        assert judge_again(kept, model, (x, y)).outside == 0
        assert any(f"kept as {kind}" in note for note in kept.notes)
    assert result.arrays["x_adv"].dtype in (np.uint8, np.float32)
    assert np.abs(result.x_adv - x.numpy()).max() <= 16 / 255 + 1e-5


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_rounding_never_leaves_the_ball(kind):
    draw = np.random.default_rng(0)
    x = (draw.integers(0, 256, (200, 8)) / 255).astype(np.float32)
    x_adv = np.clip(x + draw.uniform(-0.1, 0.1, x.shape), 0, 1).astype(np.float32)
    rounded = decode(encode(x_adv, x, kind))
    # float16 cannot even hold x: where the point is as near as that, rounding may go further
    far = np.abs(x_adv - x) > 1e-3
    assert (np.abs(rounded - x) <= np.abs(x_adv - x) + 1e-5)[far].all()


def test_files_for_leaderboards(made, tmp_path):
    model, x, y = made
    result = run(model, (x, y), eps=0.1, keep="float32")
    tensor = torch.load(result.save_points(tmp_path / "p.pt"), weights_only=True)
    array = np.load(result.save_points(tmp_path / "p.npy"))
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.shape == x.shape
    with pytest.raises(ValueError, match=r"\.pt or \.npy"):
        result.save_points(tmp_path / "p.bin")


def test_what_cannot_be_kept_is_refused_before_the_attacks(made, monkeypatch):
    model, x, y = made
    with pytest.raises(ValueError, match="did you mean 'all'"):
        run(model, (x, y), eps=0.1, keep="al")
    result = run(model, (x, y), eps=0.1)
    for one in (result, run(model, (x, y), eps=0.1, keep="all").strip()):
        with pytest.raises(ValueError, match="keep='all'"):
            _ = one.x_adv
    monkeypatch.setattr("sparring.evaluation.worst_points.SIZE_LIMIT", 100)
    with pytest.raises(ValueError, match="'shown' for more than 4 samples"):
        run(model, (x, y), eps=0.1, keep="all")


def test_broken_samples_come_first_among_those_shown():
    y = np.zeros(100, dtype=np.int64)
    worst = WorstPoints(y, y, (2,), "shown")
    rows, broken = np.arange(100), np.arange(100) >= 80
    kept = worst.wanted(rows, broken)
    margin = np.where(broken, 1.0, -1.0)[kept]
    pred = broken.astype(np.int64)[kept]
    worst.update(rows[kept], np.zeros((len(kept), 2)), pred, broken[kept], margin, 0)
    shown = worst.shown_rows()
    assert len(shown) == 16
    assert (shown >= 80).sum() == 12
    assert (shown < 4).sum() == 4
