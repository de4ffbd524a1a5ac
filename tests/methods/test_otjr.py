"""OTJR: its literal twin, the identities of its terms, what it does to a model, bad input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sparring import models
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.component import assign_at
from sparring.functional import optimal_transport
from sparring.introspect import freeze
from sparring.methods import ALP, AT, JR, OTJR, SAT, Standard, TransportJR
from sparring.methods.feature_transport import mean_squared_jacobian, sliced_transport
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime import distributed
from sparring.threats import Linf
from tests.oracles import Net, NormedNet, problem
from tests.reference import otjr as literal


def moved(b: int = 9, *, spread: float = 0.1) -> tuple[nn.Module, Batch]:
    """A smooth net and a batch whose x_adv is random, in float64."""
    model, x, y = problem(b)
    draw = torch.Generator().manual_seed(5)
    delta = spread * (2 * torch.rand(x.shape, generator=draw, dtype=x.dtype) - 1)
    y = y.clamp_min(0)
    return model, Batch(x, y, x_adv=(x + delta).clamp(0, 1), y_adv=y, cost=torch.zeros(b).double())


def pictures(b: int = 16) -> Batch:
    """Random images `(b, 1, 4, 4)` for `NormedNet`, attacked at random."""
    draw = torch.Generator().manual_seed(6)
    x = torch.rand(b, 1, 4, 4, generator=draw)
    x_adv = (x + 0.1 * torch.randn(x.shape, generator=draw)).clamp(0, 1)
    y = torch.arange(b) % 3
    return Batch(x, y, x_adv=x_adv, y_adv=y, cost=torch.zeros(b))


def total(method, model: nn.Module, batch: Batch, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return Objective(None, method, Mean()).minimize(model, batch).total


def gradients(method, model: nn.Module, batch: Batch) -> list[Tensor]:
    return list(torch.autograd.grad(total(method, model, batch), list(model.parameters())))


def jacobians(model: nn.Module, x: Tensor) -> Tensor:
    """`(b, k, d)`, a sample at a time."""
    one = torch.autograd.functional.jacobian
    return torch.stack([one(lambda u: model(u[None])[0], row) for row in x])  # type: ignore[misc]


def drawn(like: Tensor, count: int = 32, seed: int = 0) -> Tensor:
    """The slices that a method draws after this seed."""
    torch.manual_seed(seed)
    return optimal_transport.random_slices(like, count, generator=distributed.generator())


class TestTwins:
    @pytest.mark.parametrize(("sw", "jac"), [(64.0, 0.005), (0.0, 0.5), (2.0, 0.0), (0.0, 0.0)])
    def test_otjr(self, sw, jac):
        model, batch = moved()
        clean, adversarial = model(batch.x), model(batch.x_adv)
        lists = clean.tolist(), adversarial.tolist(), batch.y.tolist()
        more = jacobians(model, batch.x).tolist(), drawn(clean).tolist()
        found = total(OTJR(sw=sw, jac=jac), model, batch)
        assert found.item() == pytest.approx(literal.otjr(*lists, *more, sw, jac), rel=1e-10)

    @pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
    def test_alp(self, beta):
        model, batch = moved()
        lists = model(batch.x).tolist(), model(batch.x_adv).tolist(), batch.y.tolist()
        found = total(ALP(beta=beta), model, batch)
        assert found.item() == pytest.approx(literal.alp(*lists, beta), rel=1e-12)

    @pytest.mark.parametrize("entropy", [0.5, 1.0])
    def test_sat(self, entropy):
        model, batch = moved(6)
        lists = model(batch.x).tolist(), model(batch.x_adv).tolist(), batch.y.tolist()
        method = SAT(weight=2.0, entropy=entropy, steps=5000, tol=1e-13)
        expected = literal.sat(*lists, 2.0, entropy)
        assert total(method, model, batch).item() == pytest.approx(expected, rel=1e-9)

    def test_the_penalty_is_what_the_log_says(self):
        model, batch = moved()
        loss = OTJR(sw=3.0, jac=0.2).loss(model, batch)
        said = 3.0 * loss.terms["sw"] + 0.2 * loss.terms["jacobian"]
        assert torch.allclose(loss.penalty.detach(), said)


class TestJacobian:
    def test_a_linear_model(self):
        """‖J‖²_F = ‖W‖²_F for every sample: exactly by the exact norm, on average by directions."""
        model, x = nn.Linear(6, 4).double(), torch.rand(3, 6, dtype=torch.float64)
        batch = Batch(x, torch.zeros(3, dtype=torch.long), x_adv=x, y_adv=torch.zeros(3).long())
        weight = model.weight.square().sum().item()
        for halve, factor in ((True, 0.5), (False, 1.0)):
            loss = JR(jac=2.0, projections=-1, halve=halve).loss(model, batch)
            assert loss.penalty.item() == pytest.approx(2 * factor * weight, rel=1e-12)
        many = JR(jac=1.0, projections=20_000, halve=False).loss(model, batch)
        assert many.penalty.item() == pytest.approx(weight, rel=0.01)

    def test_one_hot_directions_sum_to_the_exact_norm(self):
        model, batch = moved()
        x = batch.x.clone().requires_grad_()
        z = model(x)
        exact = jacobians(model, batch.x).square().sum((1, 2))
        k = z.shape[1]
        hot = torch.eye(k, dtype=x.dtype)
        each = [mean_squared_jacobian(z, x, row.expand_as(z)).item() for row in hot]
        assert sum(each) / k == pytest.approx(exact.mean().item(), rel=1e-10)
        together = mean_squared_jacobian(z, x, hot[:, None].expand(k, *z.shape))
        assert together.item() == pytest.approx(exact.mean().item(), rel=1e-10)

    def test_random_directions_are_unbiased(self):
        model, batch = moved(64)
        batch.x_adv = batch.x
        exact = jacobians(model, batch.x).square().sum((1, 2)).mean().item()
        torch.manual_seed(1)
        found = torch.stack([JR().loss(model, batch).terms["jacobian"] for _ in range(300)])
        error = found.std().item() / 300**0.5
        assert error < 0.01 * exact
        assert abs(found.mean().item() - exact) < 4 * error

    def test_its_gradient_in_the_weights(self):
        """Double backward against numerical derivatives, at fixed directions."""
        model, batch = moved(3)
        v = torch.randn(3, 4, dtype=torch.float64)
        names = [name for name, _ in model.named_parameters()]

        def f(*weights: Tensor) -> Tensor:
            x = batch.x.clone().requires_grad_()
            held = dict(zip(names, weights, strict=True))
            return mean_squared_jacobian(torch.func.functional_call(model, held, (x,)), x, v)

        assert torch.autograd.gradcheck(f, tuple(model.parameters()))

    def test_the_energy_along_a_direction_is_at_most_the_largest_singular_value(self):
        model, batch = moved()
        top = torch.linalg.matrix_norm(jacobians(model, batch.x), ord=2).square().mean()
        assert 0 < OTJR().loss(model, batch).terms["jacobian"] <= 4 * top

    def test_transport_directions_without_adversarial_training(self):
        """TransportJR is clean cross-entropy and OTJR's Jacobian term; x' only aims it."""
        model, batch = moved()
        torch.manual_seed(0)
        mine = TransportJR(jac=0.3).loss(model, batch)
        torch.manual_seed(0)
        theirs = OTJR(jac=0.3).loss(model, batch)
        assert torch.equal(mine.terms["jacobian"], theirs.terms["jacobian"])
        assert torch.equal(mine.per_sample, Standard().loss(model, batch).per_sample)
        assert torch.equal(total(TransportJR(jac=0), model, batch), total(Standard(), model, batch))

    def test_with_an_attack_the_norm_is_that_where_the_adversary_stands(self):
        model, batch = moved()
        exact = jacobians(model, batch.x_adv).square().sum((1, 2)).mean()
        loss = JR(projections=-1).loss(model, batch)
        assert torch.allclose(loss.terms["jacobian"], exact)
        assert torch.equal(loss.per_sample, AT().loss(model, batch).per_sample)


class TestIdentities:
    def test_without_its_terms_it_is_adversarial_training(self):
        """Bit for bit, over steps of training with batch norm and dropout."""
        found = []
        for method in (AT(), OTJR(sw=0, jac=0), JR(jac=0), SAT(weight=0)):
            torch.manual_seed(0)
            model = NormedNet().train()
            objective = Objective(PGD(Linf(0.1), steps=3), method, Mean())
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(4):
                batch = objective.maximize(model, pictures())
                optimizer.zero_grad()
                objective.minimize(model, batch).total.backward()
                optimizer.step()
                objective.update(model, batch)
            found.append(model.state_dict())
        for state in found[1:]:
            assert all(torch.equal(value, found[0][key]) for key, value in state.items())

    def test_the_distance_is_at_most_the_pairing(self):
        """Over orthonormal slices of the whole space SW ≤ ALP's mean squared gap."""
        model, batch = moved(64)
        sw = OTJR(slices=4, law="orthonormal").loss(model, batch).terms["sw"]
        assert 0 < sw <= ALP().loss(model, batch).terms["pairing"]

    def test_gradients_reach_both_forward_passes(self):
        """∂SW/∂z = −∂SW/∂z' summed: nothing is detached but the directions."""
        model, batch = moved()
        clean, adversarial = model(batch.x), model(batch.x_adv)
        distance, v = sliced_transport(adversarial, clean, count=32, law="sphere")
        assert not v.requires_grad
        grads = torch.autograd.grad(distance, (clean, adversarial))
        assert all(g.abs().sum() > 0 for g in grads)

    def test_the_seed_is_all_that_it_depends_on(self):
        model, batch = moved()
        values = [total(OTJR(), model, batch, seed).item() for seed in (0, 0, 1)]
        assert values[0] == values[1] != values[2]

    def test_sat_at_rest(self):
        model, batch = moved()
        batch.x_adv = batch.x
        found = SAT(entropy=5.0, steps=500, tol=0.0).loss(model, batch).penalty
        assert found.item() == pytest.approx(0, abs=1e-9)


class TestModel:
    @pytest.mark.parametrize(
        "method", [OTJR(), TransportJR(), SAT(), ALP(), JR()], ids=lambda m: type(m).__name__
    )
    def test_still_samples_give_no_nan(self, method):
        model, batch = moved()
        batch.x_adv = batch.x
        assert all(g.isfinite().all() for g in gradients(method, model, batch))
        model = model.float()
        constant = Batch(torch.zeros(4, 6), torch.arange(4), x_adv=torch.zeros(4, 6))
        constant.y_adv, constant.cost = constant.y, torch.zeros(4)
        assert all(g.isfinite().all() for g in gradients(method, model, constant))

    def test_batch_statistics_of_each_pass_and_the_clean_one_first(self):
        batch = pictures()
        model = NormedNet().train()
        with torch.no_grad():
            seen = [model[0](x).mean((0, 2, 3)) for x in (batch.x, batch.x_adv)]
        expected = 0.9 * (0.9 * model[1].running_mean + 0.1 * seen[0]) + 0.1 * seen[1]
        OTJR().loss(model, batch)
        assert torch.allclose(model[1].running_mean, expected, atol=1e-6)
        assert model[1].num_batches_tracked == 2

    @pytest.mark.parametrize("method", [OTJR, JR, TransportJR, SAT], ids=lambda m: m.__name__)
    def test_the_last_layer_is_the_logits(self, method):
        model, batch = moved()
        assert torch.equal(total(method(layer="2"), model, batch), total(method(), model, batch))

    @pytest.mark.parametrize("method", [OTJR, JR, TransportJR, SAT], ids=lambda m: m.__name__)
    def test_an_inner_layer(self, method):
        model, batch = NormedNet().eval(), pictures()
        found = gradients(method(layer="0"), model, batch)
        assert all(g.isfinite().all() for g in found)
        assert not torch.equal(found[0], gradients(method(), model, batch)[0])

    def test_the_jacobian_of_a_layer_counts_its_features(self):
        """(d/b)·Σ ‖vᵀJ‖² with the d of the layer, on features of a linear layer with J = W."""
        model, batch = moved()
        found = JR(layer="0", projections=-1, halve=False, jac=1.0).loss(model, batch).penalty
        assert found.item() == pytest.approx(model[0].weight.square().sum().item(), rel=1e-12)

    @pytest.mark.parametrize(
        ("method", "near"),
        [
            (JR(jac=10.0), 0.98),
            (OTJR(), 0.9),  # rounded logits change who is matched with whom
            (OTJR(layer="flatten"), 0.9),
            (TransportJR(jac=10.0), 0.98),
            (SAT(layer="conv6"), 0.95),
        ],
        ids=lambda m: type(m).__name__,
    )
    def test_bfloat16_inside_and_channels_last(self, method, near):
        """Double backward through either: the layout changes nothing, the rounding little."""
        torch.manual_seed(1)
        model = models.build("cifar-net", shape=(3, 16, 16), classes=10, width=8)
        x = torch.rand(32, 3, 16, 16)
        x_adv = (x + 0.1 * torch.rand(x.shape)).clamp(0, 1)
        y = torch.arange(32) % 10
        batch = Batch(x, y, x_adv=x_adv, y_adv=y, cost=torch.zeros(32))
        for _ in range(20):
            model(x)  # running statistics
        exact = torch.cat([g.flatten() for g in gradients(method, model.eval(), batch)])
        other = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = {}
        for amp in ("float32", "bfloat16"):
            gs = gradients(method, freeze.ModelView(other, amp=amp, channels_last=True), batch)
            assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gs)
            found[amp] = torch.cat([g.flatten() for g in gs])
        assert (found["float32"] - exact).norm() < 1e-3 * exact.norm()
        assert torch.cosine_similarity(found["bfloat16"], exact, dim=0) > near

    def test_lazy_jacobian(self):
        model, batch = moved()
        method = OTJR(jac=0.1, sw=2.0, jac_every=3)
        found = []
        for _ in range(6):
            loss = method.loss(model, batch)
            method.update(model, batch)
            found.append("jacobian" in loss.terms)
        assert found == [True, False, False, True, False, False]
        again = OTJR(**method.config())
        again.load_state_dict(method.state_dict())
        assert int(again.steps) == 6
        weak, strong = (OTJR(sw=0, jac=0.1, jac_every=n) for n in (1, 3))
        ce = total(AT(), model, batch)
        added = [total(m, model, batch) - ce for m in (weak, strong)]
        assert torch.allclose(3 * added[0], added[1])

    def test_a_schedule_can_move_its_factors(self):
        model, batch = moved()
        objective = Objective(None, OTJR(), Mean())
        assign_at(objective, "method.jac", 0.0)
        assert "jacobian" not in objective.minimize(model, batch).terms

    def test_a_compiled_model_is_refused_where_it_would_be_differentiated_twice(self):
        model, batch = moved()
        compiled = torch.compile(model, backend="aot_eager")
        for method in (OTJR(), JR(), TransportJR()):
            with pytest.raises(ValueError, match="compiled model, which refuses double backward"):
                method.loss(compiled, batch)
        for method in (OTJR(jac=0), SAT(), ALP()):
            assert total(method, compiled, batch).isfinite()
        with pytest.raises(ValueError, match="model is compiled"):
            OTJR(layer="0").loss(compiled, batch)

    def test_leaves_the_inputs_as_they_were(self):
        model, batch = moved()
        for method in (OTJR(), JR(), TransportJR()):
            total(method, model, batch).backward()
            assert not batch.x.requires_grad
            assert not batch.x_adv.requires_grad
            assert batch.x.grad is None


@pytest.mark.parametrize("method", [OTJR, JR, TransportJR, SAT], ids=lambda m: m.__name__)
def test_an_unknown_layer_says_which_exist(method):
    model, batch = moved()
    with pytest.raises(ValueError, match=r"= 'conv1' does not exist.* There are: 0, 1, 2"):
        method(layer="conv1").loss(model, batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OTJR(sw=-1.0), r"sw = -1\.0 is not allowed: sw must be a weight ≥ 0"),
        (lambda: OTJR(jac=-1.0), r"jac = -1\.0 is not allowed: jac must be a weight ≥ 0"),
        (lambda: OTJR(slices=0), r"slices = 0 is not allowed: slices must be a number of slices"),
        (lambda: OTJR(law="ball"), r"law = 'ball' is not allowed: law must be one of sphere"),
        (lambda: OTJR(jac_every=0), r"jac_every = 0 is not allowed"),
        (
            lambda: OTJR(unit="nat"),
            r"unit = 'nat' is not allowed: unit must be one of logit, spread",
        ),
        (lambda: JR(jac=-1.0), r"jac = -1\.0 is not allowed"),
        (lambda: JR(projections=0), r"projections = 0 is not allowed: projections must be a num"),
        (lambda: TransportJR(jac=-0.1), r"jac = -0\.1 is not allowed"),
        (lambda: TransportJR(law="ball"), r"law = 'ball' is not allowed"),
        (lambda: ALP(beta=-1.0), r"beta = -1\.0 is not allowed: beta must be a weight ≥ 0"),
        (lambda: SAT(weight=-1.0), r"weight = -1\.0 is not allowed"),
        (lambda: SAT(entropy=0.0), r"entropy = 0\.0 is not allowed: entropy must be a number > 0"),
        (lambda: SAT(cost="l3"), r"cost = 'l3' is not allowed: cost must be one of squared"),
        (lambda: SAT(steps=0), r"steps = 0 is not allowed"),
        (lambda: SAT(tol=-1.0), r"tol = -1\.0 is not allowed"),
    ],
)
def test_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sw_of_a_small_net_grows_less_than_without_it():
    """Training on digits with SW keeps the clouds of logits closer than training without it."""
    found = {}
    for sw in (0.0, 64.0):
        torch.manual_seed(0)
        _, x, y = problem(64, dtype=torch.float32)
        model = Net(seed=3)
        objective = Objective(PGD(Linf(0.1), steps=3), OTJR(sw=sw, jac=0.0), Mean())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(40):
            batch = objective.maximize(model, Batch(x, y))
            optimizer.zero_grad()
            objective.minimize(model, batch).total.backward()
            optimizer.step()
        measured = OTJR(jac=0.0, slices=256)
        found[sw] = measured.loss(model, objective.maximize(model, Batch(x, y))).terms["sw"]
    assert found[64.0] < 0.5 * found[0.0]
