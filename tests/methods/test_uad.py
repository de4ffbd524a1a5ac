"""UAD, our reading: identities with AT and TRADES, the literal twin, its four parts one by one."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sparring import losses, models, moments, probe
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.geometry import alignment
from sparring.methods import AT, TRADES, UAD
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from tests.oracles import problem
from tests.reference import uad as literal

SITES = ["conv1", "layer1", "layer2"]
OFF = {"sites": [], "reference": "none", "align": "none"}


VARIANTS = [
    {},
    {"statistics": "class", "match": "js", "backprop": "both"},
    {"statistics": "worst", "refine": "draws", "align": "l2", "gradient": 1e-4},
    {"reference": "input", "backprop": "clean", "transport": 1.0},
    {"reference": "layer1.0.conv1", "align": "none", "detach_spread": False, "clamp": False},
]


def net(*, width: int = 4, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.resnet18(shape=(1, 8, 8), classes=3, width=width).to(dtype)


def images(b: int = 6, *, dtype: torch.dtype = torch.float32, eps: float = 0.1) -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(b, 1, 8, 8, generator=draw, dtype=dtype)
    x_adv = (x + eps * (2 * torch.rand(x.shape, generator=draw, dtype=dtype) - 1)).clamp(0, 1)
    y = torch.arange(b) % 3
    return Batch(x, y, x_adv=x_adv, y_adv=y, cost=torch.zeros(b, dtype=dtype))


def references(method: UAD) -> list[torch.Tensor]:
    """The logits that a method will match x' with, as they come."""
    found, referred = [], method._referred

    def spy(*given):
        found.append(referred(*given))
        return found[-1]

    method._referred = spy
    return found


def total(method, model, batch) -> torch.Tensor:
    torch.manual_seed(7)
    return Objective(None, method, Mean()).minimize(model, batch).total


def weights_after(method, steps: int = 3) -> dict[str, torch.Tensor]:
    model = net().train()
    objective = Objective(PGD(Linf(0.1), steps=2), method, Mean())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        objective.attack.reseed(step)
        batch = objective.maximize(model, Batch(images().x, images().y))
        optimizer.zero_grad()
        objective.minimize(model, batch).total.backward()
        optimizer.step()
        objective.update(model, batch)
    return model.state_dict()


class TestIdentities:
    def test_without_its_parts_a_training_is_adversarial_training_bit_for_bit(self):
        own = weights_after(UAD(sites=[], reference="layer2", matching=0.0, gradient=0.0))
        other = weights_after(AT())
        assert all(torch.equal(own[key], other[key]) for key in other)

    @pytest.mark.parametrize("training", [True, False])
    def test_without_refinement_mask_and_adversarial_weight_it_is_trades(self, training):
        model, batch = net(dtype=torch.float64).train(training), images(dtype=torch.float64)
        own = UAD(**OFF, masked=False, adversarial=0.0, natural=1.0, matching=6.0)
        found, wanted = own.loss(model, batch), TRADES(beta=6.0).loss(model, batch)
        assert torch.allclose(found.per_sample, wanted.per_sample, rtol=1e-12)
        assert found.penalty == 0
        for loss in (found, wanted):
            loss.per_sample.sum().backward()
            loss.parts["gradient"] = model[0].weight.grad.clone()
            model.zero_grad()
        assert torch.allclose(found.parts["gradient"], wanted.parts["gradient"], rtol=1e-9)

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
    def test_the_loss_of_a_sample(self):
        weights = {"adversarial": 0.7, "matching": 2.0, "natural": 0.3}
        model, batch = net(dtype=torch.float64).eval(), images(dtype=torch.float64)
        method = UAD(sites=[], reference="layer2", align="none", **weights)
        found = method.loss(model, batch).per_sample
        z, seen = moments.watched(model, batch.x, ["layer2"])
        at = seen["layer2"]
        slopes = torch.autograd.grad(losses.cross_entropy(z, batch.y).sum(), at.by)
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
            twin = literal.uad(z_i, adv_i, ref_i, int(batch.y[i]), **weights)
            assert found[i].item() == pytest.approx(twin, rel=1e-6)

    def test_resampled_features(self):
        f = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        model = nn.Sequential(nn.Identity(), nn.Flatten())
        method = UAD(sites=["0"], reference="none", p=1.0)
        torch.manual_seed(3)
        out, _ = method._uncertain(model, f, torch.zeros(4, dtype=torch.long))
        torch.manual_seed(3)
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
        e = [torch.randn(4, 3, dtype=f.dtype, generator=draw).tolist() for _ in range(2)]
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

    def test_js(self):
        z, other = torch.randn(2, 6, 4, dtype=torch.float64)
        for i in range(6):
            twin = literal.js(z[i].tolist(), other[i].tolist())
            assert losses.js(z, other)[i].item() == pytest.approx(twin, rel=1e-9)
        assert (losses.js(100 * z, -100 * z) <= 0.6932).all()

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
        assert loss.parts["directed"].item() == pytest.approx(7 / 8)


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
        off = UAD(sites=SITES, reference="layer2", p=0.0, refresh=0)
        plainly = UAD(sites=[], reference="layer2")
        assert torch.equal(total(off, model, batch), total(plainly, model, batch))

    def test_half_of_the_sites_are_at_work(self):
        model, x = nn.Sequential(*(nn.Identity() for _ in range(4)), nn.Flatten()), images().x
        method = UAD(sites=["0", "1", "2", "3"], reference="none")
        torch.manual_seed(0)
        still = sum(
            torch.equal(method._uncertain(model, x, images().y)[0], x.flatten(1))
            for _ in range(400)
        )
        assert 10 < still < 42, "no site fires once in 16"

    def test_the_same_seed_draws_the_same(self):
        batch, model = images(), net().train()
        method = UAD(sites=SITES, reference="layer2", refine="draws", p=1.0)
        assert torch.equal(total(method, model, batch), total(method, model, batch))

    def test_the_worst_statistics_raise_the_loss_more_than_draws(self):
        batch, model = images(12), net().train()
        found = {}
        for kind in ("batch", "worst"):
            method = UAD(
                sites=["layer2"],
                reference="none",
                statistics=kind,
                p=1.0,
                matching=0.0,
                gradient=0.0,
            )
            torch.manual_seed(0)
            found[kind] = [method.loss(model, batch).per_sample.mean() for _ in range(8)]
        assert min(found["worst"]) > max(found["batch"])

    def test_deviations_drawn_below_zero_flip_features_only_without_the_clamp(self):
        f = (
            torch.cat([torch.full((4, 1, 1, 2), 9.0), torch.zeros(4, 1, 1, 2)], 3)
            * torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None, None, None]
        )
        f = f + torch.tensor([0.01, 0.0, 0.0, 0.0])
        model = nn.Sequential(nn.Identity(), nn.Flatten(2))
        flips = {}
        for clamp in (True, False):
            method = UAD(sites=["0"], reference="none", p=1.0, clamp=clamp)
            torch.manual_seed(0)
            out = torch.stack([method._uncertain(model, f, torch.zeros(4))[0] for _ in range(50)])
            flips[clamp] = (out[..., 0] - out[..., 2] < -1e-6).any()
        assert flips == {True: torch.tensor(False), False: torch.tensor(True)}

    def test_gradients_stop_where_they_are_told_to(self):
        f = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        model = nn.Sequential(nn.Identity(), nn.Flatten())
        grads = []
        for spreads, stats in ((True, False), (False, False), (True, True)):
            method = UAD(
                sites=["0"], reference="none", p=1.0, detach_spread=spreads, detach_stats=stats
            )
            leaf = f.clone().requires_grad_()
            torch.manual_seed(0)
            method._uncertain(model, leaf, torch.zeros(4))[0].square().sum().backward()
            grads.append(leaf.grad)
        assert not torch.allclose(grads[0], grads[1])
        assert not torch.allclose(grads[0], grads[2])

    def test_class_spreads_are_averaged_over_steps_and_saved(self):
        model = net().train()
        method = UAD(sites=["layer1"], reference="none", statistics="class", p=1.0, refresh=0)
        for seed in (0, 1):
            torch.manual_seed(seed)
            batch = images(15)
            batch = replace(batch, y=torch.arange(15) % 2)
            method.loss(model, batch)
            latest = method._latest["layer1"]
            before = method._classes.get("layer1")
            method.update(model, batch)
        assert torch.allclose(method._classes["layer1"], 0.9 * before + 0.1 * latest)
        again = UAD(**method.config())
        again.load_state_dict(copy.deepcopy(method.state_dict()))
        assert torch.equal(again._classes["layer1"], method._classes["layer1"])
        assert torch.equal(total(again, model, batch), total(method, model, batch))


class TestB:
    @pytest.mark.parametrize("refine", ["step", "draws"])
    @pytest.mark.parametrize("reference", ["layer2", "input", "layer1.0.conv1"])
    def test_the_reference_never_loses_more_than_the_clean_prediction(self, reference, refine):
        model, batch = net(dtype=torch.float64).train(), images(12, dtype=torch.float64)
        method = UAD(sites=[], reference=reference, refine=refine, align="none")
        found = references(method)
        state = copy.deepcopy(model.state_dict())
        with probe.frozen_bn(model):
            clean = losses.cross_entropy(model(batch.x), batch.y)
            loss = method.loss(model, batch)
        refined = losses.cross_entropy(found[0], batch.y)
        assert (refined <= clean + 1e-9).all()
        assert refined.mean() < clean.mean() - 1e-3
        assert loss.parts["unreliable"] <= loss.parts["unreliable_clean"]
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())

    def test_its_pass_leaves_the_running_statistics_to_the_two_of_the_loss(self):
        counts = {}
        for reference in ("none", "layer2", "layer1.0.conv1", "input"):
            model = net().train()
            UAD(sites=[], reference=reference, align="none").loss(model, images())
            counts[reference] = int(model.get_buffer("bn1.num_batches_tracked"))
        assert set(counts.values()) == {2}

    def test_samples_still_wrong_are_not_matched(self):
        model = net(dtype=torch.float64).eval()
        batch = images(12, dtype=torch.float64)
        with torch.no_grad():
            right = model(batch.x).argmax(1) == batch.y
        assert right.any()
        assert not right.all()
        masked, free = (
            UAD(**OFF, adversarial=0.0, masked=m).loss(model, batch).per_sample
            for m in (True, False)
        )
        assert (masked[~right] == 0).all()
        assert (free > 0).all()
        assert torch.equal(masked[right], free[right])

    def test_no_gradient_flows_through_a_detached_reference(self):
        model, batch = net().train(), images()
        for reference in ("none", "layer2", "input"):
            method = UAD(
                sites=[],
                reference=reference,
                align="none",
                ref_grad=False,
                masked=False,
                adversarial=0.0,
                matching=1.0,
            )
            x_adv = batch.x_adv
            (own,) = torch.autograd.grad(
                method.loss(model, batch).per_sample.sum(), model[0].weight
            )
            q = references(method)
            method.loss(model, batch)
            assert not q[0].requires_grad
            by_hand = losses.kl(q[0], model(x_adv)).sum()
            (wanted,) = torch.autograd.grad(by_hand, model[0].weight)
            assert torch.allclose(own, wanted, atol=1e-6)


class TestCandD:
    def test_js_matches_instead(self):
        model, batch = net().eval(), images()
        method = UAD(**OFF, match="js", masked=False, adversarial=0.0, matching=2.0)
        wanted = 2 * losses.js(model(batch.x), model(batch.x_adv))
        assert torch.allclose(method.loss(model, batch).per_sample, wanted)

    def test_the_laws_of_statistics_are_matched(self):
        model, batch = net().eval(), images()
        method = UAD(
            sites=["layer1", "layer2"], reference="none", transport=2.0, gradient=0.0, p=0.0
        )
        _, clean = probe.features(model, batch.x, ["layer1", "layer2"])
        _, moved = probe.features(model, batch.x_adv, ["layer1", "layer2"])
        gaps = [
            moments.apart(moments.channels(clean[n]), moments.channels(moved[n])) for n in clean
        ]
        found = method.loss(model, batch)
        assert torch.allclose(found.penalty, sum(gaps) / 2 * 2.0)
        found.penalty.backward()
        assert model[0].weight.grad.isfinite().all()

    @pytest.mark.parametrize("backprop", ["adv", "clean", "both"])
    def test_the_weights_answer_for_the_gradients_that_are_named(self, backprop):
        model, x, y = problem()
        batch = Batch(x, y, x_adv=(x + 0.2).clamp(0, 1), y_adv=y)
        method = UAD(sites=[], reference="none", gradient=1.0, backprop=backprop)
        own = torch.autograd.grad(method.loss(model, batch).penalty, list(model.parameters())[:3])
        points = [p.clone().requires_grad_() for p in (batch.x, batch.x_adv)]
        g, h = (
            torch.autograd.grad(losses.cross_entropy(model(p), y).sum(), p, create_graph=True)[0]
            for p in points
        )
        g = g if backprop != "adv" else g.detach()
        h = h if backprop != "clean" else h.detach()
        wanted = torch.autograd.grad(alignment(g, h)[0].mean(), list(model.parameters())[:3])
        assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(own, wanted, strict=True))


class TestTraining:
    @pytest.mark.parametrize("more", VARIANTS, ids=lambda v: "-".join(v) or "D1")
    def test_weights_stay_finite_for_25_steps(self, more):
        found = weights_after(UAD(**{"sites": SITES, "reference": "layer2", **more}), steps=25)
        assert all(v.isfinite().all() for v in found.values())

    def test_under_bfloat16(self):
        model, batch = net().train(), images()
        view = probe.View(model, amp="bfloat16")
        loss = UAD(sites=SITES, reference="layer2", p=1.0).loss(view, batch)
        (loss.per_sample.mean() + loss.penalty).backward()
        assert all(w.grad.isfinite().all() for w in model.parameters())

    def test_running_statistics_come_from_batches_without_a(self):
        wanted = net().train()
        with torch.no_grad():
            for point in (images().x, images().x_adv):
                wanted(point)
        model, method = net().train(), UAD(sites=SITES, reference="layer2", p=1.0)
        before = copy.deepcopy(model.state_dict())
        method.loss(model, images())
        buffers = dict(model.named_buffers())
        assert all(torch.equal(v, before[k]) for k, v in buffers.items())
        method.update(model, images())
        for k, v in wanted.named_buffers():
            assert torch.allclose(buffers[k], v)
        counts = []
        for _ in range(8):
            method.loss(model, images())
            method.update(model, images())
            counts.append(int(buffers["bn1.num_batches_tracked"]))
        assert counts == [2, 2, 2, 4, 4, 4, 4, 6], "every fourth step"

    def test_refresh_in_eval_mode_changes_nothing(self):
        model, method = net().eval(), UAD(sites=SITES, reference="layer2", refresh=1)
        before = copy.deepcopy(model.state_dict())
        method.update(model, images())
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class TestRefusals:
    @pytest.mark.parametrize(
        "key", ["adversarial", "matching", "gradient", "natural", "transport", "kappa", "inverse"]
    )
    def test_negative_weights(self, key):
        with pytest.raises(ValueError, match=rf"{key} = -1 is not allowed.*≥ 0"):
            UAD(sites=[], reference="none", **{key: -1})

    @pytest.mark.parametrize("key", ["statistics", "refine", "match", "align", "backprop"])
    def test_unknown_choices(self, key):
        with pytest.raises(ValueError, match=rf"{key} = 'x' is not allowed: {key} must be one of"):
            UAD(sites=[], reference="none", **{key: "x"})

    @pytest.mark.parametrize(
        ("key", "value"), [("p", 1.5), ("draws", 0), ("refresh", -1), ("sites", "a")]
    )
    def test_numbers_out_of_range(self, key, value):
        with pytest.raises(ValueError, match=rf"{key} = .* is not allowed"):
            UAD(**{"sites": [], "reference": "none", key: value})

    @pytest.mark.parametrize("given", [{"sites": ["layr1"]}, {"reference": "layr1"}])
    def test_unknown_layers(self, given):
        method = UAD(**{"sites": [], "reference": "none", **given})
        with pytest.raises(ValueError, match=r"'layr1' does not exist; did you mean 'layer1'"):
            method.loss(net(), images())

    def test_a_batch_of_one(self):
        for given in ({"sites": SITES, "p": 1.0}, {"reference": "layer2"}):
            method = UAD(**{"sites": [], "reference": "none", **given})
            with pytest.raises(
                ValueError, match=r"batch = 1 is not allowed.*spread over the batch"
            ):
                method.loss(bare_net(), images(1))

    def test_a_layer_without_positions(self):
        with pytest.raises(ValueError, match=r"features.shape = \(6, 3\) is not allowed"):
            UAD(sites=["linear"], reference="none", p=1.0).loss(net(), images())

    def test_refresh_without_batch_norm(self):
        model = models.mnist_net(shape=(1, 8, 8), classes=3)
        with pytest.raises(ValueError, match=r"refresh = 2 is not allowed.*no batch norm"):
            UAD(sites=["conv1"], reference="none", refresh=2).loss(model, images())
        UAD(sites=["conv1"], reference="none").loss(model, images())

    def test_a_compiled_model(self):
        model = torch.compile(bare_net(), backend="aot_eager")
        with pytest.raises(ValueError, match="compiled"):
            UAD(sites=[], reference="none").loss(model, images())
        with pytest.raises(ValueError, match="model is compiled"):
            UAD(sites=["layer1"], reference="none").loss(model, images())


def bare_net() -> nn.Sequential:
    """`net` without batch norm, which itself refuses a batch of one."""
    return models.stages(
        conv1=nn.Conv2d(1, 4, 3),
        layer1=nn.Conv2d(4, 4, 3),
        layer2=nn.Conv2d(4, 4, 3),
        flatten=nn.Flatten(),
        linear=nn.Linear(16, 3),
    )
