"""Probes: closed forms on a linear model, plain recomputation on a small network, the report."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sparring import methods, models
from sparring.attacks import FGSM
from sparring.commands.evaluate import default_probes
from sparring.config import registry
from sparring.evaluation import Suite, evaluate, probes
from sparring.functional.losses import cross_entropy
from sparring.reporting import page
from sparring.reporting.page import curves
from sparring.results.result import Result
from sparring.threats import Bits, Linf
from tests import oracles

EPS = 0.05
SHORT = Suite("short", 1, [("FGSM", lambda t: FGSM(t))])


class Net(nn.Module):
    """A residual network behind a wrapper, with an activation that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = models.resnet18(shape=(1, 8, 8), classes=3, width=2)

    def forward(self, x):
        return self.body(x)


@pytest.fixture(scope="module")
def context() -> probes.ProbeContext:
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return probes.ProbeContext(Net().eval(), Linf(EPS), x, torch.arange(9) % 3, batch_size=4)


def rows(context: probes.ProbeContext, name: str) -> dict[str, tuple[float | None, float | None]]:
    return {m.name: (m.clean, m.adversarial) for m in probes.run_probes(context, name).rows}


@pytest.fixture
def linear(problem) -> probes.ProbeContext:
    return probes.ProbeContext(
        problem.model, Linf(EPS), problem.x[:20], problem.y[:20], batch_size=7
    )


class TestClosedForms:
    def test_jacobian_and_its_products_of_a_linear_model(self, linear):
        size = math.sqrt(2) * linear.model.w.norm().item()
        for name in ("jacobian", "trajectory"):
            ((clean, adversarial),) = rows(linear, name).values()
            slack = 1e-5 if name == "jacobian" else 0.01  # of finitely many slices
            assert clean == pytest.approx(size, rel=slack)
            assert adversarial == pytest.approx(clean, rel=1e-5)
            assert clean < size * (1 + 1e-5)

    def test_the_gradient_s_norm_is_the_slope_of_cross_entropy_times_that_of_the_weights(
        self, linear
    ):
        ((clean, adversarial),) = rows(linear, "gradient").values()
        for x, found in ((linear.x, clean), (linear.x_adv, adversarial)):
            miss = 1 - linear.model(x).softmax(1).gather(1, linear.y[:, None])
            exact = (2 * miss * linear.model.w.abs().sum()).mean().item()
            assert found == pytest.approx(exact, rel=1e-4)
        assert adversarial > clean

    def test_gradients_of_a_linear_model_are_aligned(self, linear):
        found = rows(linear, "introspection")
        assert found["cos(G, G')"][1] == pytest.approx(1, abs=1e-5)
        assert found["share with a direction"][1] == 1

    def test_a_shift_of_all_logits_has_a_known_distance(self, problem):
        """Where every sample moves alike, the optimal matching is the paired one."""
        right = problem.y == problem.model(problem.x).argmax(1)
        x, y = problem.x[right & (problem.y == 0)], problem.y[right & (problem.y == 0)]
        found = rows(probes.ProbeContext(problem.model, Linf(0.01), x, y), "transport")
        shift = (0.01 * problem.model.w.abs().sum().item()) ** 2
        assert found["paired MSE"][1] == pytest.approx(shift, rel=1e-3)
        assert found["SW₂² of logits"][1] == pytest.approx(shift, rel=0.1)

    def test_the_surface_is_the_loss_at_its_places(self, linear):
        found = probes.run_probes(linear, "surface").arrays
        at, height = found["surface_at"], found["surface"]
        x, y = linear.x[: probes.FEW], linear.y[: probes.FEW]
        assert height.shape == (len(at), len(at))
        sign = torch.where(y == 0, -1.0, 1.0)[:, None] * linear.model.w.sign()
        for k in (0, len(at) // 2, len(at) - 1):
            with torch.no_grad():
                exact = cross_entropy(linear.model(x + EPS * float(at[k]) * sign), y).mean()
            assert height[k, len(at) // 2] == pytest.approx(exact.item(), rel=1e-4)
        assert (np.diff(height, axis=0) > 0).all(), "up the gradient"


class TestNetwork:
    def test_the_adversary_stays_in_the_ball_and_the_model_as_it_was(self, context):
        model = context.model.train()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        probes.run_probes(context, "all")
        assert model.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not any(m._forward_hooks for m in model.modules())
        model.eval()
        assert (context.x_adv - context.x).abs().max() <= EPS + 1e-6

    def test_stages_are_the_outermost_with_weights(self, context):
        layers = [f"body.layer{k}" for k in (1, 2, 3, 4)]
        assert context.stages == ["body.conv1", "body.bn1", *layers, "body.linear"]

    def test_drift_of_a_stage(self, context):
        body = context.model.body
        h, moved = (body[:4](x).flatten(1) for x in context.both())
        exact = ((moved - h).norm(dim=1) / h.norm(dim=1)).mean().item()
        assert rows(context, "drift")["body.layer1"][1] == pytest.approx(exact, rel=1e-4)

    def test_drift_of_its_statistics(self, context):
        h, moved = (context.model.body[:4](x).mean((2, 3)) for x in context.both())
        exact = (moved - h).abs() / (h.var(0, unbiased=False) + 1e-6).sqrt()
        found = rows(context, "statistics")
        assert found["body.layer1, μ"][1] == pytest.approx(exact.mean().item(), rel=1e-4)
        assert "body.linear, μ" not in found

    def test_the_exact_jacobian_and_the_sampled_one_agree(self, context, monkeypatch):
        exact = rows(context, "jacobian")["‖J‖_F"]
        monkeypatch.setattr(probes, "EXACT", 1)
        monkeypatch.setattr(probes, "DIRECTIONS", 60)
        assert rows(context, "jacobian")["‖J‖_F"] == pytest.approx(exact, rel=0.15)

    def test_refined_references_are_wrong_no_more_often(self, context):
        found = rows(context, "references")
        with torch.no_grad():
            wrong = (context.model(context.x).argmax(1) != context.y).float().mean().item()
        assert found["as predicted"][0] == pytest.approx(wrong)
        assert found["refined at body.layer2"][0] <= wrong
        assert wrong > 0

    def test_the_same_seed_finds_the_same(self, context):
        again = probes.ProbeContext(
            context.model, context.threat, context.x, context.y, batch_size=4
        )
        names = ["trajectory", "introspection"]
        assert probes.run_probes(context, names).rows == probes.run_probes(again, names).rows


class Saturated(nn.Module):
    """Logits so large that cross-entropy of right samples has no gradient in float32."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


class TestMasking:
    def test_a_linear_model_has_no_symptom(self, linear):
        found = probes.run_probes(linear, "masking")
        assert found.symptoms == {"scaled logits break more": 0, "margin breaks more": 0}
        robust = {m.adversarial for m in found.rows}
        assert len(robust) == 1, "one step is as good as a hundred"

    def test_saturated_logits_are_told(self, linear):
        model = Saturated(linear.model, 1000.0)
        context = probes.ProbeContext(model, Linf(0.2), linear.x, linear.y)
        assert probes.run_probes(context, "masking").symptoms["margin breaks more"] > 0.3

    def test_a_share_of_few_samples_says_so(self, linear):
        model, data = Saturated(linear.model, 1000.0).eval(), (linear.x[:10], linear.y[:10])
        options = {"eps": 0.2, "probes": "masking", "progress": False}
        checks = {c.name: c.detail for c in evaluate(model, data, "Linf", SHORT, **options).checks}
        for name in ("scaled logits break more", "margin breaks more"):
            assert "samples: too few to judge" in checks[name]

    @pytest.mark.parametrize(("on_many", "fires"), [(0.01, False), (0.04, True)])
    def test_a_share_that_fires_on_64_samples_is_decided_on_256(
        self, linear, monkeypatch, on_many, fires
    ):
        asked = []

        def masking(context):
            asked.append(len(context.x))
            share = 2 / 56 if len(context.x) <= 64 else on_many
            symptoms = {"scaled logits break more": share}
            return probes.ProbeResult([], {}, symptoms, dict.fromkeys(symptoms, len(context.x)))

        monkeypatch.setitem(probes.PROBES, "masking", masking)
        x = torch.rand(300, *linear.x.shape[1:], generator=torch.Generator().manual_seed(0))
        y = linear.model(x).argmax(1)
        options = {"eps": 0.01, "probes": ["jacobian", "masking"], "progress": False}
        result = evaluate(linear.model.eval(), (x, y), "Linf", SHORT, **options)
        assert asked == [2, 64, 256]
        (check,) = (c for c in result.checks if c.name == "scaled logits break more")
        assert check.fired == fires
        assert f": {on_many} (" in check.detail
        assert {row.probe for row in result.probes} == {"jacobian"}

    def test_methods_that_work_on_gradients_are_looked_at_unasked(self):
        shaping = {n for n, m in registry.pieces("method").items() if m.shapes_gradients}
        assert shaping == {"JR", "OTJR", "TransportJR", "UAD"}
        assert issubclass(methods.UAD, methods.Method)
        asked = {
            n: default_probes({"method": {"name": n}, "threat": {"name": "Linf"}})
            for n in ("UAD", "AT")
        }
        assert asked == {"UAD": ["masking"], "AT": []}
        assert default_probes({"method": {"name": "UAD"}, "threat": {"name": "Bits"}}) == []
        assert default_probes({}) == []


class TestReport:
    def test_they_are_written_read_and_shown(self, tmp_path):
        model, x, y = oracles.problem(dtype=torch.float32)
        names = ["jacobian", "drift", "surface", "masking"]
        more = {"probes": names, "out": tmp_path / "r.json", "progress": False}
        result = evaluate(model, (x, y), "Linf", SHORT, eps=EPS, **more)
        again = Result.load(tmp_path / "r.json")
        assert again.probes == result.probes
        assert {m.probe for m in again.probes} == {"jacobian", "drift", "masking"}
        assert np.array_equal(again.arrays["surface"], result.arrays["surface"])
        assert "margin breaks more" in {c.name for c in again.checks}
        html = page([again], tmp_path / "r.html").read_text()
        for said in (
            "Inside the model",
            "‖J‖_F",
            "logits × 100",
            "Points of another model were not tried",
        ):
            assert said in html
        assert curves.surface(again) is not None

    def test_without_them_nothing_changes(self, linear, tmp_path):
        result = evaluate(
            linear.model, (linear.x, linear.y), "Linf", SHORT, eps=EPS, progress=False
        )
        assert not result.probes
        assert curves.surface(result) is None
        assert "Inside the model" not in page([result], tmp_path / "r.html").read_text()


class TestRefusals:
    def test_an_unknown_probe(self, context):
        with pytest.raises(
            ValueError, match=r"probe = 'drft' does not exist; did you mean 'drift'"
        ):
            evaluate(context.model, (context.x, context.y), eps=EPS, probes="drft")

    def test_a_function_has_no_stages(self, linear):
        context = probes.ProbeContext(lambda x: linear.model(x), linear.threat, linear.x, linear.y)
        with pytest.raises(ValueError, match=r"model = 'function' is not allowed.*a module"):
            probes.run_probes(context, "drift")

    def test_bits_and_single_samples(self, linear):
        with pytest.raises(ValueError, match=r"threat = 'Bits' is not allowed"):
            probes.ProbeContext(linear.model, Bits(2), linear.x, linear.y)
        with pytest.raises(ValueError, match=r"n = 1 is not allowed"):
            probes.ProbeContext(linear.model, linear.threat, linear.x[:1], linear.y[:1])

    def test_a_model_without_gradients(self, linear):
        context = probes.ProbeContext(
            lambda x: linear.model(x).detach(), linear.threat, linear.x, linear.y
        )
        context.__dict__["x_adv"] = linear.x
        with pytest.raises(ValueError, match=r"one that has gradients"):
            probes.run_probes(context, "gradient")
