"""The data-sparsity method: its golden value, its literal twin, its limits, and what composes."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import FGSM, PGD
from sparring.batch import Batch
from sparring.functional.losses import cross_entropy
from sparring.introspect import freeze
from sparring.methods import Sparsity, Standard
from sparring.methods.softmax_slope import DIFFERENCES, mean_squared_slope
from sparring.models import Normalize
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from tests.oracles import Net, problem
from tests.reference import sparsity as literal


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """∂p/∂x `(b, k, d)`, row by row."""
    rows = [torch.func.jacrev(lambda t: model(t[None]).softmax(1)[0])(row) for row in x]
    return torch.stack(rows).detach()


def noisy(
    x: Tensor, n: int = 1, *, seed: int = 5, keys: tuple[str, ...] = ("zeta", "zeta_adv")
) -> dict[str, Tensor]:
    """Notes that take the place of a method's draws."""
    draw = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(len(x), n, *x.shape[1:], generator=draw, dtype=x.dtype) for key in keys
    }


def mixed_labels(y: Tensor) -> Tensor:
    return y.clone().index_fill_(0, torch.tensor([1, 4, 5]), -1)


class TestSlope:
    def test_golden_value(self):
        x = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
        near = torch.tensor([[0.3, 0.4], [1.0, 1.5]], dtype=torch.float64)
        p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], dtype=torch.float64)
        q = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.6, 0.2]], dtype=torch.float64)
        result = mean_squared_slope(p, q[:, None], (x - near).norm(dim=1, keepdim=True)).mean()
        assert result.item() == pytest.approx(0.16 / 3, abs=1e-12)
        assert result.item() == pytest.approx(0.0533333, abs=1e-7)

    def test_both_points_carry_gradients_and_the_distance_none(self):
        p, q, d = (torch.rand(4, 3).requires_grad_() for _ in range(3))
        value = mean_squared_slope(p, q[:, None], d[:, :1]).sum()
        grads = torch.autograd.grad(value, (p, q, d), allow_unused=True)
        assert torch.allclose(grads[0], -grads[1])
        assert grads[0].abs().sum() > 0
        assert grads[2] is None

    def test_a_neighbour_at_the_anchor_counts_nothing_and_has_no_nan(self):
        p = torch.tensor([[0.7, 0.3]]).requires_grad_()
        q = torch.tensor([[[0.6, 0.4], [0.5, 0.5]]])
        result = mean_squared_slope(p, q, torch.tensor([[0.0, 0.5]]))
        assert result.item() == pytest.approx((0.2**2 + 0.2**2) / 0.25 / 4)
        (grad,) = torch.autograd.grad(result.sum(), p)
        assert grad.isfinite().all()


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("attacked", [False, True])
def test_a_batch_is_the_mean_of_batches_of_one(neighbours, attacked):
    """Its rows are the literal twin's anchors, each divided by the number of all."""
    model, x, y = problem()
    y, sigma, beta = mixed_labels(y), 0.2, 3.0
    x_adv = (x + 0.1 * torch.sign(x - 0.4)).clamp(0, 1) if attacked else x
    notes = noisy(x, neighbours)
    method = Sparsity(beta=beta, neighbours=neighbours, sigma_n=sigma)
    batch = Batch(x, y, x_adv=x_adv, y_adv=y, cost=torch.zeros(8), extra=notes)
    loss = method.loss(model, batch)

    def one(point: list[float]) -> list[float]:
        return model(torch.tensor([point], dtype=x.dtype))[0].tolist()

    wanted = []
    for i in range(len(x)):
        near = {k: ((x, x_adv)[k == "zeta_adv"][i] + sigma * z[i]) for k, z in notes.items()}
        more = {"x_adv": x_adv[i].tolist(), "near_adv": near["zeta_adv"].tolist()}
        row = (one, x[i].tolist(), int(y[i]), near["zeta"].tolist(), beta)
        wanted.append(literal.anchor(*row, **(more if attacked else {})))
    twin = torch.tensor(wanted, dtype=x.dtype)
    assert torch.allclose(loss.per_sample, twin, rtol=1e-10)
    total = Mean()(loss.per_sample, torch.zeros(8), batch)
    assert total.item() == pytest.approx(sum(wanted) / 8, rel=1e-10)


def test_gradients_of_a_batch_are_the_mean_of_those_of_batches_of_one():
    model, x, y = problem()
    y, notes, method = mixed_labels(y), noisy(x), Sparsity(beta=2.0)
    weights = list(model.parameters())

    def grads(rows: slice) -> list[Tensor]:
        notes_of = {key: note[rows] for key, note in notes.items()}
        loss = method.loss(model, Batch(x[rows], y[rows], extra=notes_of)).per_sample.mean()
        return list(torch.autograd.grad(loss, weights))

    whole, ones = grads(slice(None)), [grads(slice(i, i + 1)) for i in range(len(x))]
    for k, grad in enumerate(whole):
        assert torch.allclose(grad, torch.stack([one[k] for one in ones]).mean(0), rtol=1e-10)


def test_without_the_term_it_is_standard_training():
    model, x, y = problem()
    plain = Standard().loss(model, Batch(x, y)).per_sample
    assert torch.allclose(Sparsity(beta=0.0).loss(model, Batch(x, y)).per_sample, plain)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_small_steps_give_the_jacobian(difference):
    """E[GR] = ‖∂p/∂x‖²_F / (k·d): within 1 % over 80,000 directions, σ = 1e-3."""
    model, x, _ = problem(b=4)
    true = jacobian(model, x).square().sum((1, 2)) / (4 * 6)
    step = 1e-3 * noisy(x, 20_000, keys=("zeta",))["zeta"]
    with torch.no_grad():
        logits, result = DIFFERENCES[difference](model, x, step, torch.ones(1, dtype=x.dtype))
        assert torch.allclose(logits, model(x))
    assert (result / true - 1).abs().max() < 0.03
    assert abs((result.mean() / true.mean()).item() - 1) < 0.01


def test_the_limit_is_the_jacobian_times_each_direction():
    model, x, _ = problem(b=5)
    step = noisy(x, 3, keys=("zeta",))["zeta"]
    _, result = DIFFERENCES["limit"](model, x, step, torch.ones(1, dtype=x.dtype))
    u = step / step.norm(dim=2, keepdim=True)
    rate = torch.einsum("bkd,bnd->bnk", jacobian(model, x), u)
    assert torch.allclose(result, rate.square().mean((1, 2)), rtol=1e-10)


def test_the_central_difference_is_exact_to_second_order():
    """Halving the step quarters its error; that of the published form only halves."""
    model, x, _ = problem(b=6)
    zeta = noisy(x, 1, keys=("zeta",))["zeta"]
    unit = torch.ones(1, dtype=x.dtype)
    with torch.no_grad():
        true = DIFFERENCES["limit"](model, x, zeta, unit)[1]
        errors = {
            name: [(DIFFERENCES[name](model, x, s * zeta, unit)[1] - true) for s in (2e-3, 1e-3)]
            for name in ("forward", "central")
        }
    ratios = {name: (a / b).median().item() for name, (a, b) in errors.items()}
    assert ratios["forward"] == pytest.approx(2, rel=0.05)
    assert ratios["central"] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_probability_map_that_is_linear_has_one_slope(difference):
    """p(x) = a + Wx, given as log-probabilities: GR is 1/k ‖W u‖² at any step."""
    w = torch.tensor([[0.1, -0.05], [-0.1, 0.05]], dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return (0.5 + x @ w.T).log()

    x = torch.rand(7, 2, dtype=torch.float64)
    step = noisy(x, 2, keys=("zeta",))["zeta"]
    _, result = DIFFERENCES[difference](model, x, step, torch.ones(1, dtype=x.dtype))
    u = step / step.norm(dim=2, keepdim=True)
    assert torch.allclose(result, (u @ w.T).square().mean((1, 2)), rtol=1e-8)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_scale_is_standardising_the_inputs(difference):
    """Working in units of (0.2, 0.5) is working on the inputs divided by them."""
    inner = nn.Sequential(nn.Flatten(), Net(2 * 9, 3)).double()
    std = torch.tensor([0.2, 0.5], dtype=torch.float64).reshape(2, 1, 1)
    model = nn.Sequential(Normalize(0.0, [0.2, 0.5]), inner)
    x = torch.rand(4, 2, 3, 3, dtype=torch.float64)
    y, notes = torch.tensor([0, 1, -1, 2]), noisy(x, 2)
    method = Sparsity(beta=50.0, neighbours=2, scale=[0.2, 0.5], difference=difference)
    plain = Sparsity(beta=50.0, neighbours=2, difference=difference)
    result = method.loss(model, Batch(x, y, extra=notes)).per_sample
    assert torch.allclose(result, plain.loss(inner, Batch(x / std, y, extra=notes)).per_sample)


class TestLabels:
    def test_labelled_norm_divides_by_the_labelled_rows(self):
        model, x, y = problem()
        y, notes = mixed_labels(y), noisy(x)
        rows = {
            norm: Sparsity(ce_norm=norm).loss(model, Batch(x, y, extra=notes)).per_sample
            for norm in ("anchors", "labelled")
        }
        ce = cross_entropy(model(x), y)
        assert torch.allclose(rows["labelled"] - rows["anchors"], ce * (8 / 5 - 1))

    @pytest.mark.parametrize("norm", ["anchors", "labelled"])
    def test_no_labelled_rows_leave_the_slope_alone(self, norm):
        model, x, y = problem()
        method, attack = Sparsity(beta=2.0, ce_norm=norm), PGD(Linf(0.1), steps=2)
        objective = Objective(attack, method, Mean())
        batch = objective.maximize(model, Batch(x, torch.full_like(y, -1), extra=noisy(x)))
        loss = objective.minimize(model, batch)
        loss.total.backward()
        assert loss.total.isfinite()
        assert loss.terms["natural"] == 0
        assert loss.terms["unlabelled"] == 1
        assert loss.total.item() == pytest.approx(2.0 * loss.terms["slope"].item())

    def test_no_unlabelled_rows_are_allowed_and_told(self):
        model, x, y = problem()
        assert Sparsity(beta=1.0).loss(model, Batch(x, y)).terms["unlabelled"] == 0

    def test_labels_reach_the_loss_of_labelled_rows_only(self):
        model, x, y = problem()
        notes = noisy(x)
        one = Sparsity().loss(model, Batch(x, mixed_labels(y), extra=notes)).per_sample
        other = Sparsity().loss(model, Batch(x, mixed_labels((y + 1) % 4), extra=notes)).per_sample
        assert torch.equal(one == other, mixed_labels(y) == -1)


class TestWithAnAttack:
    def test_unlabelled_rows_are_not_run_by_the_adversary(self):
        model, x, y = problem()
        seen = []

        class Counting(nn.Module):
            def forward(self, t: Tensor) -> Tensor:
                seen.append(len(t))
                return model(t)

        batch = Batch(x, mixed_labels(y))
        attack = PGD(Linf(0.1), steps=2, best=False)
        result = Objective(attack, Sparsity(), Mean()).maximize(Counting(), batch)
        assert set(seen) == {5}
        full = Objective(attack, Standard(), Mean())
        attack.reseed(attack.seed)
        other = full.maximize(model, batch)
        rows = batch.y >= 0
        assert torch.equal(result.x_adv[rows], other.x_adv[rows])

    def test_rows_of_mixed_labels_are_run_once(self):
        """Of CutMix and MixUp: a row of probabilities is one row, and no label is a row of 0."""
        model, x, y = problem()
        soft = torch.nn.functional.one_hot(y, 4).to(x) * 0.8 + 0.05
        soft[mixed_labels(y) < 0] = 0
        seen = []
        model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
        gain = Sparsity().gain(model, Batch(x, soft))
        assert gain(x, soft).shape == (len(x),)
        assert seen == [int((mixed_labels(y) >= 0).sum())]

    @pytest.mark.parametrize("make", [functools.partial(FGSM), functools.partial(PGD, steps=3)])
    def test_objective_is_the_mixed_loss(self, make):
        model, x, y = problem()
        batch = Batch(x, mixed_labels(y), extra=noisy(x))
        objective = Objective(make(Linf(0.1)), Sparsity(beta=1.5, ratio=0.4), Mean())
        batch = objective.maximize(model, batch)
        result = objective.minimize(model, batch).total
        rows = (batch.y >= 0).nonzero()[:, 0]
        plain = Sparsity(beta=1.5)
        clean = plain.loss(model, Batch(x, batch.y, extra=batch.extra)).per_sample
        note = {"zeta": batch.extra["zeta_adv"][rows]}
        moved = plain.loss(model, Batch(batch.x_adv[rows], batch.y[rows], extra=note)).per_sample
        ce = {"clean": cross_entropy(model(x[rows]), batch.y[rows])}
        ce["moved"] = cross_entropy(model(batch.x_adv[rows]), batch.y[rows])
        total = clean.sum() + (moved - ce["moved"]).sum() - ce["clean"].sum()
        total = total + ((ce["clean"] + 0.4 * ce["moved"]) / 1.4).sum()
        assert torch.allclose(result, total / len(x))

    def test_rows_left_in_place_are_plain(self):
        model, x, y = problem()
        notes = noisy(x)
        plain = Sparsity().loss(model, Batch(x, y, extra=notes)).per_sample
        still = Sparsity().loss(model, Batch(x, y, x_adv=x.clone(), extra=notes)).per_sample
        assert torch.equal(plain, still)


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("amp", ["float32", "bfloat16"])
def test_it_runs_on_images_inside_a_view(difference, amp):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    view = freeze.ModelView(model, amp=amp, channels_last=True)
    x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, -1, -1])
    loss = Sparsity(beta=10.0, difference=difference, neighbours=2).loss(view, Batch(x, y))
    loss.per_sample.mean().backward()
    assert loss.per_sample.dtype == torch.float32
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()
        assert math.isfinite(weight.grad.abs().sum().item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_n": 0.0}, r"sigma_n = 0.0 is not allowed: sigma_n must be a standard deviation"),
        ({"beta": -1.0}, r"beta = -1.0 is not allowed"),
        ({"neighbours": 0}, r"neighbours = 0 is not allowed"),
        ({"ratio": -0.1}, r"ratio = -0.1 is not allowed"),
        ({"scale": 0.0}, r"scale = 0.0 is not allowed"),
        ({"scale": [0.2, -1.0]}, r"scale = "),
        ({"difference": "backward"}, r"difference = .* one of forward, central, limit"),
        ({"ce_norm": "rows"}, r"ce_norm = .* one of anchors, labelled"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sparsity(**arguments)


def test_a_scale_that_does_not_fit_the_channels_is_told():
    with pytest.raises(ValueError, match=r"len\(scale\) = 2 is not allowed"):
        Sparsity(scale=[1.0, 2.0]).loss(
            nn.Flatten(), Batch(torch.rand(2, 3), torch.zeros(2).long())
        )
