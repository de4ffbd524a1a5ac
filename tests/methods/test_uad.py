"""UAD, our reading: the identity with AT, the literal twin, resampled statistics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sparring.batch import Batch
from sparring.functional import losses
from sparring.functional.geometry import alignment
from sparring.introspect import feature_statistics
from sparring.methods import AT, UAD, uad
from tests.methods.small import SITES, images, net, total, weights_after
from tests.oracles import problem
from tests.reference import uad as literal


class TestIdentities:
    def test_without_its_parts_a_training_is_adversarial_training_bit_for_bit(self):
        result = weights_after(UAD(sites=[], reference="layer2", matching=0.0, gradient=0.0))
        other = weights_after(AT())
        assert all(torch.equal(result[key], other[key]) for key in other)

    def test_the_same_point_twice_is_aligned(self):
        batch = images(dtype=torch.float64)
        model = net(dtype=torch.float64).train()
        same = replace(batch, x_adv=batch.x)
        for kind in ("cosine", "l2"):
            loss = UAD(sites=[], reference="none", align=kind).loss(model, same)
            assert abs(loss.penalty.item()) < 1e-12
        assert UAD(sites=[], reference="none").loss(model, batch).penalty > 1e-4

    def test_alignment_does_not_see_the_scale_of_the_loss(self):
        g, h = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(alignment(g, h)[0], alignment(3 * g, 0.1 * h)[0], rtol=1e-10)


class TestTwins:
    @pytest.mark.parametrize("refine", ["all", "wrong"])
    def test_the_loss_of_a_sample(self, refine):
        weights = {"adversarial": 0.7, "matching": 2.0}
        model, batch = net(dtype=torch.float64).eval(), images(dtype=torch.float64)
        method = UAD(sites=[], reference="layer2", align="none", refined=refine, **weights)
        result = method.loss(model, batch).per_sample
        z, seen = feature_statistics.extract_statistics(model, batch.x, ["layer2"])
        at = seen["layer2"]
        slopes = torch.autograd.grad(losses.cross_entropy(z, batch.y).sum(), at.shift)
        over = [literal.spread(s.tolist()) for s in at.stats]
        mean, std = at.stats
        after = mean - torch.tensor(over[0]) * slopes[0].sign()
        scale = (std - torch.tensor(over[1]) * slopes[1].sign()).clamp_min(0)
        normal = (at.features - mean[..., None, None]) / std[..., None, None]
        moved = normal * scale[..., None, None] + after[..., None, None]
        reference = model[5:](moved)
        parts = (z, model(batch.x_adv), reference)
        for i in range(len(batch)):
            z_i, adv_i, ref_i = (t[i].tolist() for t in parts)
            twin = literal.uad(z_i, adv_i, ref_i, int(batch.y[i]), refine=refine, **weights)
            assert result[i].item() == pytest.approx(twin, rel=1e-6)

    def test_the_nearest_right_sample_of_the_class(self):
        draw = torch.Generator().manual_seed(1)
        z = torch.randn(12, 3, dtype=torch.float64, generator=draw)
        mean, std = torch.randn(2, 12, 4, dtype=torch.float64, generator=draw).abs()
        y = torch.arange(12) % 3
        result = uad._nearest_right(z, y, (mean, std))
        rows = literal.nearest_right(z.tolist(), y.tolist(), mean.tolist(), std.tolist())
        assert torch.equal(result, z[rows])
        assert 0 < sum(i != j for i, j in enumerate(rows)) < 12
        wrong = torch.full((12,), 7)  # no right sample of that class
        assert torch.equal(uad._nearest_right(z, wrong, (mean, std)), z)

    @pytest.mark.parametrize("scale", [1.0, 0.3])
    def test_resampled_features(self, scale):
        f = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        model = nn.Sequential(nn.Identity(), nn.Flatten())
        method = UAD(sites=["0"], reference="none", p=1.0, scale=scale)
        torch.manual_seed(3)
        out = method._uncertain_logits(model, f)
        torch.manual_seed(3)
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
        e = [(scale * torch.randn(4, 3, dtype=f.dtype, generator=draw)).tolist() for _ in range(2)]
        twin = literal.resampled(f.flatten(2).tolist(), *e)
        assert torch.allclose(out, torch.tensor(twin, dtype=f.dtype).flatten(1))

    def test_the_cosine(self):
        g, h = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        g[2] = 0
        values, valid = alignment(g, h)
        for i in range(5):
            twin = literal.cosine(g[i].tolist(), h[i].tolist())
            assert valid[i] == (twin is not None)
            assert values[i].item() == pytest.approx(twin or 0.0, abs=1e-10)

    def test_the_penalty_is_the_mean_over_samples_with_a_direction(self):
        model, x, y = problem()
        y[3] = -1  # no label, no gradient
        batch = Batch(x, y, x_adv=(x + 0.2).clamp(0, 1), y_adv=y)
        loss = UAD(sites=[], reference="none", gradient=1.0).loss(model, batch)
        grads = []
        for point in (batch.x, batch.x_adv):
            leaf = point.clone().requires_grad_()
            ce = sum(losses.cross_entropy(model(leaf), y))
            grads.append(torch.autograd.grad(ce, leaf)[0].tolist())
        twins = [literal.cosine(g, h) for g, h in zip(*grads, strict=True)]
        known = [t for t in twins if t is not None]
        assert len(known) == 7
        assert loss.penalty.item() == pytest.approx(sum(known) / 7, rel=1e-6)
        assert loss.terms["directed"].item() == pytest.approx(7 / 8)


class TestA:
    def test_only_in_train_mode(self):
        batch, method = images(), UAD(sites=SITES, reference="layer2", p=1.0)
        model = net().eval()
        plainly = UAD(sites=[], reference="layer2")
        assert torch.equal(total(method, model, batch), total(plainly, model, batch))
        model.train()
        assert not torch.equal(total(method, model, batch), total(plainly, model, batch))

    def test_without_probability_it_is_off(self):
        batch, model = images(), net().train()
        off = UAD(sites=SITES, reference="layer2", p=0.0)
        plainly = UAD(sites=[], reference="layer2")
        assert torch.equal(total(off, model, batch), total(plainly, model, batch))

    def test_half_of_the_sites_are_at_work(self):
        model, x = nn.Sequential(*(nn.Identity() for _ in range(4)), nn.Flatten()), images().x
        method = UAD(sites=["0", "1", "2", "3"], reference="none")
        torch.manual_seed(0)
        still = sum(
            torch.equal(method._uncertain_logits(model, x), x.flatten(1)) for _ in range(400)
        )
        assert 10 < still < 42, "no site fires once in 16"

    def test_the_same_seed_draws_the_same(self):
        batch, model = images(), net().train()
        method = UAD(sites=SITES, reference="layer2", p=1.0)
        assert torch.equal(total(method, model, batch), total(method, model, batch))

    def test_deviations_drawn_below_zero_do_not_flip_features(self):
        f = (
            torch.cat([torch.full((4, 1, 1, 2), 9.0), torch.zeros(4, 1, 1, 2)], 3)
            * torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None, None, None]
        )
        f = f + torch.tensor([0.01, 0.0, 0.0, 0.0])
        model = nn.Sequential(nn.Identity(), nn.Flatten(2))
        method = UAD(sites=["0"], reference="none", p=1.0)
        torch.manual_seed(0)
        out = torch.stack([method._uncertain_logits(model, f) for _ in range(50)])
        assert (out[..., 0] - out[..., 2] >= -1e-6).all()

    def test_gradients_stop_at_the_spreads_and_pass_through_the_statistics(self):
        f = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        model, leaf = nn.Sequential(nn.Identity(), nn.Flatten()), f.clone().requires_grad_()
        torch.manual_seed(0)
        UAD(sites=["0"], reference="none", p=1.0)._uncertain_logits(
            model, leaf
        ).square().sum().backward()
        torch.manual_seed(0)
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
        by_mean, by_std = (torch.randn(4, 3, generator=draw) for _ in range(2))
        again = f.clone().requires_grad_()
        mean, std = feature_statistics.channel_statistics(again)
        by_mean = by_mean * feature_statistics.batch_spread(mean.detach())
        by_std = torch.maximum(by_std * feature_statistics.batch_spread(std.detach()), -std)
        moved = feature_statistics.shift_statistics(again, mean, std, by_mean, by_std)
        moved.square().sum().backward()
        assert torch.allclose(leaf.grad, again.grad)
