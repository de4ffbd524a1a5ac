"""Gaussian shells around the data: their law, their units, the rule for their widths."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.batch import Batch
from sparring.data import GaussianShell, Source, Split, shell_spread
from sparring.data.gaussian_shell import PRESETS
from sparring.runtime.warning import SparringWarning

D = 40
ROWS = Split(torch.rand(30, D, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3)
CLOUD = Source("made", ROWS, ROWS, ROWS, ["a", "b", "c"], sha256="own")


def test_standard_deviation_and_radius():
    """σ_u per entry, and σ_u·√d·(1 ± 1/√(2d)) from the anchor, each within 1 %."""
    x, d, sigma = torch.rand(50, 3, 16, 16), 3 * 16 * 16, 0.2
    batch = Batch(x, torch.zeros(50).long())
    added = GaussianShell(per=20, sigma_u=sigma)(batch, torch.Generator().manual_seed(0))
    step = (added.x - x.repeat_interleave(20, 0)).flatten(1)
    radius = step.norm(dim=1)
    assert step.std().item() == pytest.approx(sigma, rel=0.01)
    assert radius.mean().item() == pytest.approx(sigma * math.sqrt(d), rel=0.01)
    assert radius.std().item() == pytest.approx(sigma / math.sqrt(2), rel=0.06)


def test_scale_gives_a_channel_its_unit():
    x = torch.zeros(200, 2, 20, 20)
    piece = GaussianShell(sigma_u=0.1, scale=[1.0, 3.0])
    added = piece(Batch(x, torch.zeros(200).long()), torch.Generator().manual_seed(0)).x
    assert added[:, 0].std().item() == pytest.approx(0.1, rel=0.02)
    assert added[:, 1].std().item() == pytest.approx(0.3, rel=0.02)


def test_it_leaves_the_bounds_unless_told():
    batch = Batch(torch.zeros(10, D), torch.zeros(10).long())
    assert GaussianShell(sigma_u=0.1)(batch).x.min() < 0
    clipped = GaussianShell(sigma_u=0.1, clip=True)(batch).x
    assert clipped.min() == 0
    assert clipped.max() > 0


def test_the_rule_is_the_mean_distance_of_pairs():
    x = torch.rand(40, 2, 3, 3)
    unit = torch.tensor([0.5, 0.25]).reshape(2, 1, 1)
    pairs = [((x[i] - x[j]) / unit).norm().item() for i in range(40) for j in range(i + 1, 40)]
    found = shell_spread(x, scale=[0.5, 0.25])
    assert found.sigma_n == pytest.approx(sum(pairs) / len(pairs) / 18, rel=1e-5)
    assert found.sigma_u == pytest.approx(10 * found.sigma_n)


def test_an_omitted_sigma_follows_the_rule():
    source, piece = CLOUD, GaussianShell()
    piece.prepare(source)
    batch = Batch(torch.zeros(400, D), torch.zeros(400).long())
    wanted = shell_spread(source.val.float()).sigma_u
    assert piece(batch).x.std().item() == pytest.approx(wanted, rel=0.03)


def test_no_points_are_allowed_and_a_notice_says_what_that_means():
    piece = GaussianShell(per=0)
    with pytest.warns(SparringWarning, match=r"N_u = 0.* at the data only"):
        piece.prepare(CLOUD)
    assert len(piece(Batch(torch.zeros(4, D), torch.zeros(4).long()))) == 0


def test_the_rule_is_near_the_published_cifar_numbers():
    """Standardised data: E‖x − x'‖ ≈ √(2d), so that sigma_n ≈ √(2/d)."""
    preset = PRESETS["cifar10"]
    assert preset.sigma_u == pytest.approx(10 * preset.sigma_n)
    x = torch.randn(300, 3, 32, 32)
    assert shell_spread(x).sigma_n == pytest.approx(preset.sigma_n, rel=0.1)
