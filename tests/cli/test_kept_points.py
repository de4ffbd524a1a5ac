"""`--keep` and `--points`: every worst point, in a file that loads as a tensor."""

import numpy as np
import pytest
import torch

import sparring
from sparring.results.result import Result
from tests.cli.test_cli import TINY
from tests.command import call


@pytest.mark.parametrize("ending", [".pt", ".npy"])
def test_points_are_kept_and_written(tmp_path, capsys, ending):
    run, points, out = tmp_path / "run", tmp_path / f"x_adv{ending}", tmp_path / "r.json"
    call("train", "digits-mart", "--out", run, *TINY, capsys=capsys)
    options = ["--suite", "quick", "--n", "20", "--eps", "0.1", "--keep", "float32"]
    said = call("evaluate", run, *options, "--points", points, "--out", out, capsys=capsys)
    assert str(points) in said
    result = Result.load(out)
    x_adv = torch.load(points, weights_only=True) if ending == ".pt" else np.load(points)
    assert x_adv.shape == (20, 1, 8, 8)
    assert torch.equal(torch.as_tensor(x_adv), torch.as_tensor(result.x_adv))
    test = sparring.data.load("digits").test
    place = {row: k for k, row in enumerate(test.index.tolist())}
    x = test.float()[[place[row] for row in result.arrays["index"].tolist()]]
    assert (torch.as_tensor(x_adv) - x).abs().max() <= 0.1 + 1e-6


def test_a_file_of_another_kind_is_refused_before_the_attack(tmp_path, capsys):
    run = tmp_path / "run"
    call("train", "digits-mart", "--out", run, *TINY, capsys=capsys)
    wrong = ["--keep", "all", "--points", tmp_path / "x.txt"]
    said = call("evaluate", run, "--suite", "quick", "--n", "5", *wrong, capsys=capsys, code=2)
    assert "points" in said
    assert not (run / "results").exists()
