"""AWP and SAM are the papers' steps; EMA is its closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparring.functional.losses import cross_entropy
from sparring.weights import AWP, EMA, SAM, WeightPerturbation
from tests.oracles import NormedNet, problem
from tests.reference import training


def step(model: nn.Module, perturbation: WeightPerturbation, loss, lr: float) -> None:
    """The step anybody may copy into their own loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with perturbation.perturbed(model, lambda: loss(model)):
        total = loss(model)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("perturbation", "twin", "size"),
    [
        (AWP(gamma=0.05), training.awp, {"gamma": 0.05}),
        (AWP(gamma=0.5), training.awp, {"gamma": 0.5}),
        (SAM(rho=0.05), training.sam, {"rho": 0.05}),
        (SAM(rho=0.5), training.sam, {"rho": 0.5}),
    ],
    ids=["AWP 0.05", "AWP 0.5", "SAM 0.05", "SAM 0.5"],
)
def test_the_literal_step(perturbation, twin, size):
    model, x, y = problem()

    def loss(m: nn.Module) -> torch.Tensor:
        return cross_entropy(m(x), y).mean()

    plain = copy.deepcopy(model)
    for _ in range(3):
        expected = twin(model, loss, lr=0.5, **size)
        step(model, perturbation, loss, 0.5)
        for a, b in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-12)
        step(plain, AWP(gamma=0.0), loss, 0.5)
    assert any(
        not torch.allclose(a, b, atol=1e-4)
        for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )


def test_awp_moves_each_layer_by_gamma_times_its_size_and_no_bias():
    model, x, y = problem()
    before = copy.deepcopy(model.state_dict())
    with AWP(gamma=0.1).perturbed(model, lambda: cross_entropy(model(x), y).mean()):
        for name, w in model.named_parameters():
            moved = (w - before[name]).norm().item()
            assert moved == pytest.approx(
                0.1 * before[name].norm().item() if name.endswith("weight") else 0.0
            )


def test_awp_leaves_the_scales_of_batch_norm():
    model, x, y = NormedNet(), torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    before = copy.deepcopy(model.state_dict())
    with AWP(gamma=0.1).perturbed(model, lambda: cross_entropy(model(x), y).mean()):
        moved = {n for n, w in model.named_parameters() if not torch.equal(w, before[n])}
    assert moved == {"0.weight", "5.weight"}


def test_sam_moves_all_weights_together_by_rho():
    model, x, y = problem()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    with SAM(rho=0.3).perturbed(model, lambda: cross_entropy(model(x), y).mean()):
        now = nn.utils.parameters_to_vector(model.parameters())
        assert (now - before).norm().item() == pytest.approx(0.3)


class TestEMA:
    def path(self, ema: EMA, steps: int = 6) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The weights after each step, and the average at the end."""
        model = nn.Linear(3, 2, dtype=torch.float64)
        ema.attach(model)
        draw, weights = torch.Generator().manual_seed(0), []
        for _ in range(steps):
            with torch.no_grad():
                model.weight.copy_(torch.randn(2, 3, generator=draw, dtype=torch.float64))
            ema.update(model)
            weights.append(model.weight.detach().clone())
        return weights, ema.module.weight

    def test_the_closed_form(self):
        """d^(T−1)·θ₁ + (1 − d)·Σ_{t≥2} d^(T−t)·θ_t."""
        weights, average = self.path(EMA(decay=0.8, warmup=False))
        first, rest = weights[0], weights[1:]
        expected = 0.8 ** len(rest) * first
        expected = expected + 0.2 * sum(0.8 ** (len(rest) - 1 - t) * w for t, w in enumerate(rest))
        assert torch.allclose(average, expected, rtol=1e-12)

    def test_warming_up_it_forgets_faster(self):
        """d_t = min(d, (1 + t)/(10 + t)) at the t-th mix."""
        weights, average = self.path(EMA(decay=0.3))
        expected = weights[0]
        for t, w in enumerate(weights[1:], 1):
            d = min(0.3, (1 + t) / (10 + t))
            expected = d * expected + (1 - d) * w
        assert torch.allclose(average, expected, rtol=1e-12)

    def test_statistics_are_averaged_and_counters_copied(self):
        model = NormedNet()
        ema = EMA(decay=0.5, warmup=False).attach(model)
        means = []
        for _ in range(2):
            model(torch.rand(6, 1, 4, 4))
            ema.update(model)
            means.append(model[1].running_mean.clone())
        assert torch.allclose(ema.module[1].running_mean, 0.5 * means[0] + 0.5 * means[1])
        assert ema.module[1].num_batches_tracked == 2

    def test_the_model_is_not_touched_and_the_average_is_no_part_of_it(self):
        model = NormedNet()
        before = copy.deepcopy(model.state_dict())
        ema = EMA(decay=0.5).attach(model)
        ema.update(model)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not any(w.requires_grad for w in ema.module.parameters())
        assert all(w.requires_grad for w in model.parameters())

    def test_the_state_makes_a_round_trip(self):
        ema = EMA(decay=0.8)
        self.path(ema)
        again = EMA(decay=0.8).attach(nn.Linear(3, 2, dtype=torch.float64))
        again.load_state_dict(ema.state_dict())
        assert torch.equal(again.module.weight, ema.module.weight)
        model = nn.Linear(3, 2, dtype=torch.float64)
        ema.update(model)
        again.update(model)
        assert torch.equal(again.module.weight, ema.module.weight)

    def test_refusals(self):
        with pytest.raises(
            ValueError, match=r"decay = 1\.0 is not allowed: decay must be in \[0, 1\)"
        ):
            EMA(decay=1.0)
        with pytest.raises(ValueError, match=r"EMA has no model yet: call attach\(model\) first"):
            _ = EMA().module
