"""Every symptom fires on a model built to have it, and none on a healthy one."""

import pytest
import torch
from torch import nn

from sparring.attacks import Noise
from sparring.evaluation import Suite, checks, evaluate
from sparring.threats import L1, L2, Linf


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
    return checks.of_gradients(
        model, threat, problem.x[right] if x is None else x, problem.y[right] if y is None else y
    )


def fired(measured):
    return {c.name for c in checks.check(measured) if c.fired}


@pytest.mark.parametrize("threat", [Linf(0.05), Linf(0.0), L2(0.1), L1(0.1)])
def test_a_healthy_model_fires_nothing(problem, threat):
    measured = gradients(problem.model, problem, threat)
    measured |= checks.of_model(problem.model, problem.x)
    measured |= checks.of_range(0.02, 0.97, low=0, high=1)
    assert len(measured) == 7
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
    flat = checks._flat(Then(problem.model, function), problem.x[right], problem.y[right])
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
    assert fired(checks.of_model(model.train(), problem.x)) == {"train-mode model"}
    assert fired(checks.of_model(model.eval(), problem.x)) == set()
    assert fired(checks.of_model(problem.model.train(), problem.x)) == set()


def test_a_model_that_draws_random_numbers(problem):
    model = Then(problem.model, lambda z: z + 0.1 * torch.randn_like(z)).eval()
    assert fired(checks.of_model(model, problem.x)) == {"randomized model"}


def test_probabilities(problem):
    measured = checks.of_model(Then(problem.model, lambda z: z.softmax(1)).eval(), problem.x)
    assert fired(measured) == {"probabilities instead of logits"}
    assert (
        fired(checks.of_model(Then(problem.model, lambda z: z.log_softmax(1)).eval(), problem.x))
        == set()
    )


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
    assert checks.of_gradients(problem.model, Linf(0.1), problem.x[:0], problem.y[:0]) == {}
