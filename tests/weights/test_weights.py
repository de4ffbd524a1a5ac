"""AWP and SAM are the papers' steps; EMA is its closed form."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sparring.functional.losses import cross_entropy
from sparring.runtime.warning import SparringWarning
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


def old_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.inner, self.head = kind(1, 4, batch_first=True, **options), nn.LazyLinear(3)
        self(torch.rand(2, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(x[..., None])[0].mean(1))


def attention() -> nn.Module:
    inside = nn.TransformerEncoderLayer(4, 1, 8, dropout=0.0, batch_first=True)
    first = (nn.Unflatten(1, (5, 1)), nn.Linear(1, 4))
    return nn.Sequential(*first, inside, nn.Flatten(), nn.Linear(20, 3))


def layer() -> nn.Module:
    return nn.Linear(5, 3)


NORMED = {  # of each network: the parameters that AWP moves
    "plain": (lambda: nn.Sequential(layer()), {"0.weight"}),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(layer())),
        {"0.parametrizations.weight.original1"},
    ),
    "old weight norm": (lambda: nn.Sequential(old_norm(layer())), {"0.weight_v"}),
    "spectral norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(layer())),
        {"0.parametrizations.weight.original"},
    ),
    "old spectral norm": (
        lambda: nn.Sequential(nn.utils.spectral_norm(layer())),
        {"0.weight_orig"},
    ),
    "orthogonal": (
        lambda: nn.Sequential(parametrizations.orthogonal(layer())),
        {"0.parametrizations.weight.original"},
    ),
    "GRU": (
        lambda: Recurrent(nn.GRU, bidirectional=True),
        {
            "head.weight",
            *(f"inner.weight_{k}_l0{end}" for k in ("ih", "hh") for end in ("", "_reverse")),
        },
    ),
    "LSTM": (
        lambda: Recurrent(nn.LSTM),
        {"head.weight", "inner.weight_ih_l0", "inner.weight_hh_l0"},
    ),
    "attention": (
        attention,
        {"1.weight", "4.weight", "2.linear1.weight", "2.linear2.weight"}
        | {f"2.self_attn.{name}" for name in ("in_proj_weight", "out_proj.weight")},
    ),
}


@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.parametrize("was_run", [False, True], ids=["fresh", "run before"])
def test_awp_moves_the_weights_of_every_kind_of_layer(kind, was_run):
    make, expected = NORMED[kind]
    model, x, y = make().eval(), torch.rand(6, 5), torch.arange(6) % 3
    logits = model(x).detach() if was_run else None
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with AWP(gamma=0.1).perturbed(model, lambda: cross_entropy(model(x), y).mean()):
        moved = {n: (p - before[n]).norm() for n, p in model.named_parameters()}
        assert logits is None or (model(x) - logits).abs().max() > 1e-4
    changed = {n for n, length in moved.items() if length > 0}
    assert changed == expected
    for name in changed:
        torch.testing.assert_close(moved[name], 0.1 * before[name].norm())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name])


class Vectors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.kernel = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x @ self.kernel


def test_awp_says_where_it_finds_no_weight():
    model, x, y = Vectors(), torch.rand(6, 3), torch.arange(6) % 3
    with (
        pytest.warns(SparringWarning, match="AWP moves nothing"),
        AWP(gamma=0.1).perturbed(model, lambda: cross_entropy(model(x), y).mean()),
    ):
        assert torch.equal(model.kernel, torch.ones(3, 3))


@pytest.mark.parametrize("perturbation", [AWP(gamma=0.1), SAM(rho=0.1)])
def test_the_name_of_the_first_edition_warns_and_works(perturbation):
    model, x, y = problem()
    before = copy.deepcopy(model.state_dict())
    with (
        pytest.warns(DeprecationWarning, match="climb is perturbed since 0.2"),
        perturbation.climb(model, lambda: cross_entropy(model(x), y).mean()),
    ):
        assert any(not torch.equal(w, before[n]) for n, w in model.named_parameters())


class Remembers(nn.Linear):
    """Keeps its last output, graph and all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = super().forward(x)
        return self.last


@pytest.mark.parametrize(
    "make",
    [lambda: old_norm(layer()), lambda: nn.utils.spectral_norm(layer()), lambda: Remembers(5, 3)],
    ids=["weight norm", "spectral norm", "kept output"],
)
def test_an_average_begins_with_a_network_that_was_run(make):
    model, x = nn.Sequential(make()), torch.rand(4, 5)
    fresh = EMA(decay=0.5).attach(model.eval())
    y = model(x)
    ema = EMA(decay=0.5).attach(model)
    for average in (fresh, ema):
        assert torch.equal(average.module.eval()(x), y)
        with torch.no_grad():
            average.update(model)
    assert y.grad_fn is not None
    y.sum().backward()  # the caller's graph is whole
    assert all(p.grad is not None for p in model.parameters())
    assert all(not p.requires_grad for p in ema.module.parameters())


def test_an_average_without_a_model_says_so():
    for use in (lambda: EMA().module, lambda: EMA().update(nn.Linear(1, 1))):
        with pytest.raises(ValueError, match=r"call attach\(model\) first"):
            use()


@pytest.mark.parametrize("perturbation", [AWP(gamma=0.1), SAM(rho=0.1)], ids=["AWP", "SAM"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_leaves_the_weights(perturbation, bad):
    """As of a loss that overflows: the step raises, and the weights must be those before it."""
    model, x, _ = problem()
    before = copy.deepcopy(model.state_dict())
    first = next(model.parameters())
    with perturbation.perturbed(model, lambda: model(x).sum() + bad * first.flatten()[0]):
        assert all(w.isfinite().all() for w in model.parameters())
    for key, w in model.state_dict().items():
        assert torch.allclose(w, before[key]), key


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

    @pytest.mark.parametrize("warmup", [True, False])
    def test_it_is_bit_for_bit_that_of_torch_and_loads_its_states(self, warmup):
        def theirs(averaged, current, count):
            d = min(0.9, (1 + float(count)) / (10 + float(count))) if warmup else 0.9
            for a, c in zip(averaged, current, strict=True):
                a.lerp_(c, 1 - d) if a.is_floating_point() else a.copy_(c)

        model = NormedNet()
        ema = EMA(decay=0.9, warmup=warmup).attach(model)
        old = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=theirs, use_buffers=True)
        for step in range(6):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p))
            model(torch.rand(6, 1, 4, 4))
            old.update_parameters(model)
            ema.update(model)
            assert old.state_dict().keys() == ema.averaged.state_dict().keys()
            for key, value in ema.averaged.state_dict().items():
                assert torch.equal(value, old.state_dict()[key]), key
            if step == 2:  # it goes on from a checkpoint written by torch's
                ema = EMA(decay=0.9, warmup=warmup).attach(NormedNet())
                ema.load_state_dict({f"averaged.{k}": v for k, v in old.state_dict().items()})

    def test_a_mask_of_minus_infinity_stays_one(self):
        model = nn.Linear(2, 2)
        mask = torch.full((3, 3), -torch.inf).triu(1)
        model.register_buffer("mask", mask.clone())
        ema = EMA(decay=0.5, warmup=False).attach(model)
        for size in (0.0, 1.0, 2.0):
            model.mask.copy_(mask + size)
            ema.update(model)
            assert torch.equal(ema.module.mask.isinf(), mask.isinf())
        assert ema.module.mask[0, 0] == 0.5 * 0.5 * 1.0 + 0.5 * 2.0  # what is finite is averaged
        model.mask.zero_()  # and a number in the mask's place is taken
        ema.update(model)
        assert ema.module.mask[0, 1] == 0

    def test_a_copy_counts_on_alone(self):
        model = nn.Linear(2, 2)
        ema = EMA(decay=0.5).attach(model)
        ema.update(model)
        again = copy.deepcopy(ema)
        again.load_state_dict(EMA(decay=0.5).attach(model).state_dict())
        for average, count in ((ema, 2), (again, 1)):
            average.update(model)
            assert average.averaged.n_averaged == count

    def test_refusals(self):
        with pytest.raises(
            ValueError, match=r"decay = 1\.0 is not allowed: decay must be in \[0, 1\)"
        ):
            EMA(decay=1.0)
        with pytest.raises(ValueError, match=r"EMA has no model yet: call attach\(model\) first"):
            _ = EMA().module
