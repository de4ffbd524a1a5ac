"""UAD, our reading: the reference, matching and gradients; training, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from sparring import models
from sparring.batch import Batch
from sparring.functional import losses
from sparring.functional.geometry import alignment
from sparring.introspect import feature_statistics, freeze, hooks
from sparring.methods import UAD
from tests.methods.small import SITES, bare_net, images, net, references, weights_after
from tests.oracles import problem

OFF = {"sites": [], "reference": "none", "align": "none"}
VARIANTS = [
    {},
    {"statistics": "class", "match": "js", "backprop": "both"},
    {"statistics": "worst", "refine": "draws", "align": "l2", "gradient": 1e-4},
    {"reference": "input", "backprop": "clean", "transport": 1.0},
    {"reference": "layer1.0.conv1", "align": "none", "detach_spread": False, "clamp": False},
]


class TestB:
    @pytest.mark.parametrize("refine", ["step", "draws"])
    @pytest.mark.parametrize("reference", ["layer2", "input", "layer1.0.conv1"])
    def test_the_reference_never_loses_more_than_the_clean_prediction(self, reference, refine):
        model, batch = net(dtype=torch.float64).train(), images(12, dtype=torch.float64)
        method = UAD(sites=[], reference=reference, refine=refine, align="none")
        found = references(method)
        state = copy.deepcopy(model.state_dict())
        with freeze.frozen_bn(model):
            clean = losses.cross_entropy(model(batch.x), batch.y)
            loss = method.loss(model, batch)
        refined = losses.cross_entropy(found[0], batch.y)
        assert (refined <= clean + 1e-9).all()
        assert refined.mean() < clean.mean() - 1e-3
        assert loss.terms["unreliable"] <= loss.terms["unreliable_clean"]
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
        _, clean = hooks.features(model, batch.x, ["layer1", "layer2"])
        _, moved = hooks.features(model, batch.x_adv, ["layer1", "layer2"])
        gaps = [
            feature_statistics.apart(
                feature_statistics.channels(clean[n]), feature_statistics.channels(moved[n])
            )
            for n in clean
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
        view = freeze.ModelView(model, amp="bfloat16")
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
