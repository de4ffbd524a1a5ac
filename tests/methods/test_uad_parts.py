"""UAD, our reading: the reference, matching and gradients; training, and what it refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from sparring import models
from sparring.batch import Batch
from sparring.config.recipe import load_recipe
from sparring.functional import losses
from sparring.functional.geometry import alignment
from sparring.introspect import freeze
from sparring.methods import UAD
from sparring.runtime.first_edition import upgrade_settings
from tests.methods.small import SITES, bare_net, images, net, references, weights_after
from tests.oracles import problem

OFF = {"sites": [], "reference": "none", "align": "none"}
VARIANTS = [
    {},
    {"align": "l2", "gradient": 1e-4},
    {"reference": "layer1.0.conv1", "align": "none", "kappa": 0.5},
]


class TestB:
    @pytest.mark.parametrize("reference", ["layer2", "layer1.0.conv1"])
    def test_the_reference_never_loses_more_than_the_clean_prediction(self, reference):
        model, batch = net(dtype=torch.float64).train(), images(12, dtype=torch.float64)
        method = UAD(sites=[], reference=reference, align="none")
        logits = references(method)
        state = copy.deepcopy(model.state_dict())
        with freeze.frozen_bn(model):
            clean = losses.cross_entropy(model(batch.x), batch.y)
            loss = method.loss(model, batch)
        refined = losses.cross_entropy(logits[0], batch.y)
        assert (refined <= clean + 1e-9).all()
        assert refined.mean() < clean.mean() - 1e-3
        assert loss.terms["unreliable"] <= loss.terms["unreliable_clean"]
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())

    def test_its_pass_leaves_the_running_statistics_to_the_two_of_the_loss(self):
        counts = {}
        for reference in ("none", "layer2", "layer1.0.conv1"):
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
        loss = UAD(**OFF, adversarial=0.0, matching=6.0).loss(model, batch)
        trades = 6 * losses.kl(model(batch.x), model(batch.x_adv))
        assert (loss.per_sample[~right] == 0).all()
        assert torch.allclose(loss.per_sample[right], trades[right], rtol=1e-12)


class TestD:
    def test_the_weights_are_trained_through_the_adversarial_gradient_alone(self):
        model, x, y = problem()
        batch = Batch(x, y, x_adv=(x + 0.2).clamp(0, 1), y_adv=y)
        method = UAD(sites=[], reference="none", gradient=1.0)
        weights = list(model.parameters())[:3]
        grads = torch.autograd.grad(method.loss(model, batch).penalty, weights)
        points = [p.clone().requires_grad_() for p in (batch.x, batch.x_adv)]
        g, h = (
            torch.autograd.grad(losses.cross_entropy(model(p), y).sum(), p, create_graph=True)[0]
            for p in points
        )
        wanted = torch.autograd.grad(alignment(g.detach(), h)[0].mean(), weights)
        assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(grads, wanted, strict=True))


class TestTraining:
    @pytest.mark.parametrize("more", VARIANTS, ids=lambda v: "-".join(v) or "D1")
    def test_weights_stay_finite_for_25_steps(self, more):
        result = weights_after(UAD(**{"sites": SITES, "reference": "layer2", **more}), steps=25)
        assert all(v.isfinite().all() for v in result.values())

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

    def test_an_update_in_eval_mode_changes_nothing(self):
        model, method = net().eval(), UAD(sites=SITES, reference="layer2")
        before = copy.deepcopy(model.state_dict())
        method.update(model, images())
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class TestFirstEdition:
    """Runs of the first edition name switches that this edition fixes at their defaults."""

    def test_an_old_full_table_loads(self):
        recipe = load_recipe(old_tables())
        kept = {"sites", "reference", "align", "adversarial", "matching", "gradient", "p", "kappa"}
        assert recipe.tables["method"].keys() == {"name", "refined", "scale", *kept}
        assert recipe.tables["method"]["refined"] == "all"  # as it was, and is no longer by default
        assert recipe.tables["method"]["gradient"] == 0.05

    @pytest.mark.parametrize(("key", "value"), [("clamp", False), ("statistics", "worst")])
    def test_an_old_table_with_another_value_is_refused(self, key, value):
        tables = old_tables()
        tables["method"][key] = value
        with pytest.raises(ValueError, match=rf"UAD.{key} = {value!r} was written by sparring 0.1"):
            load_recipe(tables)

    def test_settings_from_before_an_argument_existed_are_those_that_act_alike(self):
        before = {"method.name": "OTJR", "method.sw": 2.0, "attack.threat.name": "Linf"}
        assert upgrade_settings(before) == before | {"method.unit": "logit"}
        before = {"method.name": "UAD", "risk.name": "Alpha", "threat.name": "SoftLinf"}
        now = upgrade_settings(before)
        assert (now["method.refined"], now["risk.solve_rho"], now["threat.lag"]) == (
            "all",
            True,
            False,
        )
        assert upgrade_settings(now) == now
        assert upgrade_settings(before | {"method.refined": "wrong"})["method.refined"] == "wrong"

    def test_an_old_checkpoint_continues_at_its_step(self):
        method = UAD(sites=SITES, reference="layer2")
        method.set_extra_state({"steps": 3, "classes": {}})
        assert method.get_extra_state()["steps"] == 3


def old_tables() -> dict:
    path = Path(__file__).parents[2] / "results/uad-ablation/pgd/uad-seed0.json"
    return json.loads(path.read_text(encoding="utf-8"))["recipe"]


class TestRefusals:
    @pytest.mark.parametrize("key", ["adversarial", "matching", "gradient", "kappa", "scale"])
    def test_negative_weights(self, key):
        with pytest.raises(ValueError, match=rf"{key} = -1 is not allowed.*≥ 0"):
            UAD(sites=[], reference="none", **{key: -1})

    def test_an_unknown_alignment(self):
        with pytest.raises(ValueError, match=r"align = 'x' is not allowed: align must be one of"):
            UAD(sites=[], reference="none", align="x")

    @pytest.mark.parametrize(("key", "value"), [("p", 1.5), ("sites", "a"), ("refined", "x")])
    def test_numbers_out_of_range(self, key, value):
        with pytest.raises(ValueError, match=rf"{key} = .* is not allowed"):
            UAD(**{"sites": [], "reference": "none", key: value})

    @pytest.mark.parametrize("arguments", [{"sites": ["layr1"]}, {"reference": "layr1"}])
    def test_unknown_layers(self, arguments):
        method = UAD(**{"sites": [], "reference": "none", **arguments})
        with pytest.raises(ValueError, match=r"'layr1' does not exist; did you mean 'layer1'"):
            method.loss(net(), images())

    def test_a_batch_of_one(self):
        for arguments in ({"sites": SITES, "p": 1.0}, {"reference": "layer2"}):
            method = UAD(**{"sites": [], "reference": "none", **arguments})
            with pytest.raises(
                ValueError, match=r"batch = 1 is not allowed.*spread over the batch"
            ):
                method.loss(bare_net(), images(1))

    def test_a_layer_without_positions(self):
        with pytest.raises(ValueError, match=r"features.shape = \(6, 3\) is not allowed"):
            UAD(sites=["linear"], reference="none", p=1.0).loss(net(), images())

    def test_a_model_without_batch_norm_needs_no_update(self):
        model = models.mnist_net(shape=(1, 8, 8), classes=3)
        method = UAD(sites=["conv1"], reference="none")
        method.loss(model, images())
        method.update(model, images())
        assert method.get_extra_state()["steps"] == 0

    def test_a_compiled_model(self):
        model = torch.compile(bare_net(), backend="aot_eager")
        with pytest.raises(ValueError, match="compiled"):
            UAD(sites=[], reference="none").loss(model, images())
        with pytest.raises(ValueError, match="model is compiled"):
            UAD(sites=["layer1"], reference="none").loss(model, images())
