"""Every symptom fires on a model built to have it, and none on a healthy one."""

import pytest
import torch
from torch import nn

from sparring.attacks import FGSM, PGD, Noise
from sparring.batch import Batch
from sparring.evaluation import Suite, checks, diagnose, evaluate
from sparring.evaluation.suites import Entry
from sparring.threats import L0, L1, L2, Linf


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor (n, 1)."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(factor)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        return grad * ctx.saved_tensors[0], None


class Lying(nn.Module):
    """Gradients that lead astray: everywhere, or only off the grid of eighths."""

    def __init__(self, inner, on_grid):
        super().__init__()
        self.inner, self.on_grid = inner, on_grid

    def forward(self, x):
        exact = (x * 8 == (x * 8).round()).all(1, keepdim=True)
        return self.inner(Reversed.apply(x, torch.where(exact & self.on_grid, 1.0, -1.0)))


class Then(nn.Module):
    """A function of the logits."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x):
        return self.function(self.inner(x))


def gradients(model, problem, threat, x=None, y=None):
    right = problem.signed > 0
    return diagnose.gradient_symptoms(
        model, threat, problem.x[right] if x is None else x, problem.y[right] if y is None else y
    )


def fired(measured):
    return {c.name for c in checks.check(measured) if c.fired}


@pytest.mark.parametrize("threat", [Linf(0.05), Linf(0.0), L2(0.1), L1(0.1)])
def test_a_healthy_model_fires_nothing(problem, threat):
    measured = gradients(problem.model, problem, threat)
    measured |= diagnose.model_symptoms(problem.model, problem.x)
    measured |= diagnose.input_range(0.02, 0.97, low=0, high=1)
    measured |= diagnose.label_leaking(problem.model, threat, problem.x, problem.y)
    x, y = problem.x[problem.signed > 0], problem.y[problem.signed > 0]
    robust = problem.model(PGD(threat)(problem.model, x, y)).argmax(1) == y
    measured |= diagnose.adaptive_attack_symptom(
        problem.model, threat, x[robust], y[robust], n=len(x), seed=0
    )
    counted = {
        *("no gradients", "labels beat scores"),
        *("outputs not finite", "queries outside the box", "infeasible points"),
        *("larger eps gets weaker", "black-box beats white-box", "transfer beats white-box"),
        *("buffers change", "contradiction"),
    }
    probed = {"scaled logits break more", "margin breaks more"}  # by the probe "masking"
    assert set(measured) == {s.name for s in checks.SYMPTOMS} - counted - probed
    assert fired(measured) == set()


def test_noise_beats_gradients_that_lie(problem):
    assert "random noise beats gradients" in fired(
        gradients(Lying(problem.model, False), problem, Linf(0.1))
    )


def test_more_steps_get_weaker_where_only_the_first_gradient_is_right(problem):
    x = torch.randint(2, 7, (200, 6), generator=torch.Generator().manual_seed(0)) / 8
    y = problem.model(x).argmax(1)
    measured = gradients(Lying(problem.model, True), problem, Linf(0.1), x, y)
    assert "more steps get weaker" in fired(measured)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z * 1e6,
        lambda z: z.round() + 0 * z,
        lambda z: z.detach(),
        lambda z: z + (z - z).sqrt(),
    ],
    ids=["saturated", "rounded", "detached", "NaN"],
)
def test_zero_gradients(problem, function):
    right = problem.signed > 0.05
    flat = diagnose._has_no_gradient(
        Then(problem.model, function), problem.x[right], problem.y[right]
    )
    assert flat.float().mean() > 0.9
    assert fired({"zero gradients": flat.float().mean().item()}) == {"zero gradients"}


def test_a_model_without_gradients_is_evaluated_by_attacks_that_need_none(problem):
    suite = Suite("noise", 1, (("noise", Noise),))
    model = Then(problem.model, lambda z: z.detach()).eval()
    data = (problem.x, problem.y)
    result = evaluate(model, data, "Linf", suite, eps=0.1, progress=False)
    assert result.robust.accuracy < result.clean.accuracy
    assert {c.name for c in result.checks if c.fired} == {"zero gradients"}
    with pytest.raises(ValueError, match="no gradient with respect to its input"):
        evaluate(model, data, "Linf", "quick", eps=0.1, progress=False)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(6)])
def test_train_mode_fires_only_where_it_matters(problem, layer):
    model = nn.Sequential(layer, problem.model)
    assert fired(diagnose.model_symptoms(model.train(), problem.x)) == {"train-mode model"}
    assert fired(diagnose.model_symptoms(model.eval(), problem.x)) == set()
    assert fired(diagnose.model_symptoms(problem.model.train(), problem.x)) == set()


def test_a_model_that_draws_random_numbers(problem):
    model = Then(problem.model, lambda z: z + 0.1 * torch.randn_like(z)).eval()
    assert fired(diagnose.model_symptoms(model, problem.x)) == {"randomized model"}


def test_probabilities(problem):
    measured = diagnose.model_symptoms(
        Then(problem.model, lambda z: z.softmax(1)).eval(), problem.x
    )
    assert fired(measured) == {"probabilities instead of logits"}
    assert (
        fired(
            diagnose.model_symptoms(
                Then(problem.model, lambda z: z.log_softmax(1)).eval(), problem.x
            )
        )
        == set()
    )


@pytest.mark.parametrize("scale", [1e-9, 1e4])
def test_the_scale_of_the_logits_hides_what_attacks_find(problem, scale):
    """Large logits saturate cross-entropy, so its gradient is 0; small ones do no harm."""
    model = Then(problem.model, lambda z: scale * z)
    measured = gradients(model, problem, Linf(0.1))
    assert ("logit scale hides attacks" in fired(measured)) == (scale > 1)
    assert "logit scale hides attacks" not in fired(gradients(problem.model, problem, Linf(0.1)))


class Waves(nn.Module):
    """A linear model under a fast wave: right where it was, its gradients turn within the ball."""

    def __init__(self, inner, frequency, height):
        super().__init__()
        self.inner, self.frequency, self.height = inner, frequency, height

    def forward(self, x):
        wave = self.height * torch.sin(self.frequency * x).sum(1)
        return self.inner(x) + torch.stack([wave, -wave], 1)


def test_a_rough_surface_and_steps_that_still_gain(problem):
    rough = gradients(Waves(problem.model, 2000.0, 0.02), problem, Linf(0.1))
    assert "rough loss surface" in fired(rough)
    smooth = gradients(Waves(problem.model, 1.0, 0.02), problem, Linf(0.1))
    assert "rough loss surface" not in fired(smooth)


class Funnel(nn.Module):
    """Class 1 wins in a small window beside x, which long steps jump over."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        far = 1 - self.slope * (x[:, 0] - 0.55).abs()
        return torch.stack([1 - far.clamp_min(-1), far], 1)


def test_steps_that_still_gain(problem):
    x = torch.full((100, 1), 0.5) + 0.02 * torch.rand(100, 1)
    measured = gradients(Funnel(200), problem, Linf(0.4), x, torch.zeros(100, dtype=torch.long))
    assert "more steps still gain" in fired(measured)


def test_labels_leak_where_the_step_of_training_is_recognised(problem):
    leaky = diagnose.label_leaking(Lying(problem.model, False), Linf(0.1), problem.x, problem.y)
    assert fired(leaky) == {"label leaking"}
    honest = diagnose.label_leaking(problem.model, Linf(0.1), problem.x, problem.y)
    assert fired(honest) == set()


@pytest.mark.parametrize(
    "function",
    [lambda x: (x * 16).round() / 16 + 0 * x, lambda x: x.clamp(0.49, 0.51)],
    ids=["rounded", "clipped"],
)
def test_quantised_and_clipped_inputs(problem, function):
    class Before(nn.Module):
        def forward(self, x):
            return problem.model(function(x))

    x = torch.where(problem.x > 0.5, 0.9, 0.1)
    y = Before()(x).argmax(1)
    measured = diagnose.gradient_symptoms(Before(), Linf(0.1), x, y)
    assert "quantised or clipped inputs" in fired(measured)


def fixed(broken, kind):
    """An attack that breaks these of the rows, whatever it is handed."""

    class Fixed:
        def __init__(self, threat):
            self.threat = threat

        def __call__(self, model, x, y):
            far = (
                x + torch.where(model(x).argmax(1) == 0, -1.0, 1.0)[:, None] * model.model.w.sign()
            )
            z = self.threat.project(far, Batch(x, y))
            return torch.where(broken(x)[:, None], z, x)

    return Entry(kind, Fixed, kind)


@pytest.mark.parametrize("kind", ["black", "transfer"])
@pytest.mark.parametrize("cascade", [True, False])
def test_attacks_without_gradients_must_not_win(problem, kind, cascade):
    some, none = (lambda x: x[:, 0] > -1), (lambda x: x[:, 0] > 2)
    data, name = (problem.x, problem.y), {"black": "black-box"}.get(kind, kind)
    for white, expected in ((none, True), (some, False)):
        suite = Suite("own", 1, (fixed(white, "white"), fixed(some, kind)), cascade=cascade)
        result = evaluate(problem.model, data, "Linf", suite, eps=0.1, progress=False)
        found = {c.name for c in result.checks if c.fired}
        assert (f"{name} beats white-box" in found) == expected
        assert result.verdict == ("not sound" if expected else "sound")


def test_an_attack_without_gradients_counts_only_where_it_ran(problem):
    black = fixed(lambda x: x[:, 0] > 2, "black")
    suite = Suite("own", 1, (fixed(lambda x: x[:, 0] > -1, "white"), black._replace(norms=(0,))))
    result = evaluate(problem.model, (problem.x, problem.y), "Linf", suite, eps=0.1, progress=False)
    assert (result.verdict, result.reason) == ("look", "no gradient-free attack ran")
    assert "use the suite autoattack" in result.reasons[0]


class TestVerdict:
    def test_severe_symptoms_decide(self):
        verdict, reasons = checks.verdict(
            checks.check({"infeasible points": 1, "input range": 0.9}), gradient_free=True
        )
        assert verdict == "not sound"
        assert [r.split(":")[0] for r in reasons] == ["input range", "infeasible points"]

    @pytest.mark.parametrize(
        ("share", "verdict"), [(0.0, "sound"), (0.01, "look"), (0.1, "not sound")]
    )
    def test_how_far_a_symptom_goes(self, share, verdict):
        found = checks.check({"black-box beats white-box": share})
        assert checks.verdict(found, gradient_free=True)[0] == verdict

    def test_a_suite_of_gradients_alone_is_to_be_looked_at(self, problem):
        result = evaluate(problem.model, (problem.x, problem.y), "Linf", eps=0.1, progress=False)
        assert result.verdict == "look"
        assert ["no gradient-free attack" in r for r in result.reasons] == [True]


def test_inputs_that_were_scaled_twice(problem):
    result = evaluate(problem.model, (problem.x / 255, problem.y), "Linf", eps=0.0, progress=False)
    assert {c.name for c in result.checks if c.fired} == {"input range"}


def test_every_symptom_has_an_advice_and_its_own_name():
    names = [s.name for s in checks.SYMPTOMS]
    assert len(set(names)) == len(names)
    assert all(s.advice.endswith(".") and len(s.advice) > 40 for s in checks.SYMPTOMS)


def test_a_measure_that_is_not_a_number_fires():
    assert fired({"zero gradients": float("nan")}) == {"zero gradients"}


def test_no_samples_no_measure(problem):
    assert diagnose.gradient_symptoms(problem.model, Linf(0.1), problem.x[:0], problem.y[:0]) == {}


@pytest.mark.parametrize(
    ("suite", "fires"),
    [
        (Suite("one step", 1, (Entry("FGSM", lambda t: FGSM(t)),)), True),
        ("quick", False),
        ("autoattack", False),
    ],
)
def test_a_suite_is_doubted_where_half_is_robust(suite, fires):
    """One step jumps over the window at 0.4; at 0.001 all attacks are alike."""
    x = torch.cat([torch.full((30, 1), 0.95), 0.5 + 0.02 * torch.rand(30, 1)])
    y = torch.zeros(60, dtype=torch.long)
    result = evaluate(Funnel(20), (x, y), "Linf", suite, eps=[0.001, 0.4], progress=False)
    (found,) = [c for c in result.checks if c.name == "adaptive steps break more"]
    assert found.fired == fires, found.detail
    assert result.verdict == ("not sound" if fires else result.verdict)


def test_what_stands_is_not_doubted_without_a_ball_or_a_sample(problem):
    none = problem.x[:0], problem.y[:0]
    assert diagnose.adaptive_attack_symptom(problem.model, Linf(0.1), *none, n=0, seed=0) == {}
    every = diagnose.adaptive_attack_symptom(problem.model, Linf(0.1), *none, n=9, seed=0)
    assert every == {"adaptive steps break more": 0}
    some = problem.x[:4], problem.y[:4]
    assert diagnose.adaptive_attack_symptom(problem.model, L0(1), *some, n=4, seed=0) == {}
    flat = lambda x: problem.model(x).detach()  # noqa: E731
    assert diagnose.adaptive_attack_symptom(flat, Linf(0.1), *some, n=4, seed=0) == {}


def test_a_network_that_refuses_an_empty_batch_is_checked_where_nothing_stands():
    class NeedsRows(nn.Module):
        def forward(self, x):
            assert len(x), "no rows"
            return torch.stack([x.sum(1), 1 - x.sum(1)], 1)

    result = evaluate(NeedsRows(), (torch.full((6, 1), 0.6), torch.zeros(6, dtype=int)), eps=0.3)
    assert result.robust.accuracy == 0
    (check,) = [c for c in result.checks if c.name == "adaptive steps break more"]
    assert not check.fired


def test_few_outputs_that_are_not_finite_make_no_measurement_not_sound():
    def model(x):
        z = torch.stack([x.sum(1), 3 - x.sum(1)], 1)
        return torch.where(x[:, :1] > 0.9, torch.nan, z)

    x = torch.full((5, 6), 0.4)
    x[0, 0] = 0.95
    result = evaluate(model, (x, torch.ones(5, dtype=torch.long)), eps=0.01, progress=False)
    (check,) = (c for c in result.checks if c.name == "outputs not finite")
    assert check.fired
    assert result.verdict == "look"
    assert "on 5 samples: too few to judge" in check.detail
