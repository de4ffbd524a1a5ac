"""What a user's network may be: each kind is trained as its twin, or refused in a sentence."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sparring.attacks import PGD
from sparring.methods import TRADES, UAD, Standard
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf
from sparring.training import Trainer, read_weights
from sparring.weights import AWP, EMA
from tests.training.small import D, K, Unused, equal, finish, network, source, trainer


def plain(*, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, K))


def trained(model: nn.Module, out, **more) -> Trainer:
    """Two epochs of TRADES, which runs the model on clean and adversarial inputs, with an EMA."""
    goal = Objective(PGD(Linf(0.1), steps=2), TRADES(), Mean())
    options = {"epochs": 2, "batch_size": 16, "ema": EMA(decay=0.5), "validation": PGD(Linf(0.1))}
    run = Trainer(model, goal, source(), out=out, **{**options, **more})
    finish(run)
    return run


class Auxiliary(nn.Module):
    """Gives (logits, auxiliary logits), always or in training only."""

    def __init__(self, kind: str, *, always: bool) -> None:
        super().__init__()
        self.inner, self.kind, self.always = nn.Linear(D, K), kind, always

    def forward(self, x):
        logits = self.inner(x)
        if not (self.training or self.always):
            return logits
        return {"tuple": (logits, logits), "mapping": {"out": logits}, "none": None}[self.kind]


class Extra(nn.Linear):
    """Keeps a state beside its tensors."""

    def __init__(self, state) -> None:
        super().__init__(D, K)
        self.state = state

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()


class Failing(nn.Linear):
    def forward(self, x):
        raise KeyError("no such thing")


REFUSED = {
    "a tuple in training": (Auxiliary("tuple", always=False), r"a tuple in training; it must give"),
    "a tuple": (Auxiliary("tuple", always=True), r"a tuple; it must give logits \(b, 3\): return"),
    "a mapping": (Auxiliary("mapping", always=True), r"returns a dict; it must give logits"),
    "nothing": (Auxiliary("none", always=False), r"a NoneType in training"),
    "extra state": (Extra({"n": 3}), r"extra state, _extra_state, that is a dict"),
    "float64": (nn.Linear(D, K).double(), r"weight in float64: .*model.float\(\)"),
    "half": (nn.Linear(D, K).half(), r"weight in float16"),
    "one weight of float64": (nn.Sequential(nn.Linear(D, 4), nn.Linear(4, K).double()), "1.weight"),
    "no parameters": (nn.Flatten(), r"returns \(b, 6\)|no weights to train: it has no parameters"),
    "frozen": (plain().requires_grad_(False), r"no weights to train: none has requires_grad"),
    "no gradient": (Detached(D, K), r"its logits have no gradient to its weights"),
    "another shape": (nn.Linear(D + 1, K), r"does not take the data's samples of shape \(6,\)"),
    "lazy, another shape": (nn.Sequential(nn.LazyConv2d(3, 3)), r"does not take .* shape \(6,\)"),
    "an error of its own": (Failing(D, K), "KeyError: 'no such thing'"),
    "columns": (nn.Sequential(nn.Linear(D, K), nn.Flatten(0)), r"it must return logits \(b, 3\)"),
    "a function": (lambda x: x, "model is a function: only an nn.Module of PyTorch can be trained"),
    "a state dict": (plain().state_dict(), "model is a OrderedDict: only an nn.Module"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_trained_is_refused_before_the_first_epoch(kind, tmp_path):
    model, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message) as error:
        trained(model, tmp_path / "run")
    assert len(str(error.value)) < 400
    assert not (tmp_path / "run").exists()


class Centred(nn.Linear):
    """Subtracts 0.5 from its input, in place or not."""

    def __init__(self, *, inplace: bool) -> None:
        torch.manual_seed(1)
        super().__init__(D, K)
        self.inplace = inplace

    def forward(self, x):
        return super().forward(x.sub_(0.5) if self.inplace else x - 0.5)


@pytest.mark.parametrize("make", [plain, Centred], ids=["activation", "normalisation"])
def test_a_network_that_works_in_place_is_trained_as_its_twin_and_leaves_the_data(make, tmp_path):
    data = source()
    before = [data.train.x.clone(), data.val.x.clone()]
    goal = Objective(PGD(Linf(0.1), steps=2), TRADES(), Mean(), natural=0.1)
    states = []
    for inplace in (False, True):
        options = {"out": tmp_path / str(inplace), "epochs": 2, "ema": EMA(decay=0.5)}
        run = Trainer(make(inplace=inplace), goal, data, validation=PGD(Linf(0.1)), **options)
        finish(run)
        states.append({**run.model.state_dict(), **run.averaged.state_dict(prefix="average.")})
    assert equal(*states)
    assert torch.equal(data.train.x, before[0])
    assert torch.equal(data.val.x, before[1])


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(K))


def test_lazy_layers_are_shaped_by_the_data_and_the_seed(tmp_path):
    runs = []
    for k in range(2):
        torch.manual_seed(k)  # the caller's own random state does not matter, and is kept
        state = torch.get_rng_state()
        runs.append(trained(lazy(), tmp_path / str(k)))
        assert torch.equal(state, torch.get_rng_state())
    assert runs[0].model[0].weight.shape == (16, D)
    assert equal(*(dict(run.model.state_dict()) for run in runs))
    fresh = lazy()
    fresh.load_state_dict(read_weights(tmp_path / "0"))


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, K)

    def forward(self, x):
        return self.head(self.inner(x[..., None])[0][:, -1])


class Tied(nn.Module):
    """Two layers share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, K)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(torch.relu(self.b(torch.relu(self.a(x)))))


def half_frozen() -> nn.Module:
    model = plain()
    model[1].requires_grad_(False)
    return model


KINDS = {
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(D, K))),
    "old weight norm": lambda: nn.Sequential(old_weight_norm(nn.Linear(D, K))),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(D, K))),
    "old spectral norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(D, K))),
    "recurrent": Recurrent,
    "tied": Tied,
    "unused": Unused,
    "half frozen": half_frozen,
    "extra tensor": lambda: Extra(torch.ones(2)),
    "lazy": lazy,
    "in place": lambda: plain(inplace=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("was_run", [False, True], ids=["fresh", "run before"])
def test_it_is_trained_resumed_and_loaded(kind, was_run, tmp_path):
    torch.manual_seed(3)
    model = KINDS[kind]()
    if was_run:
        model(torch.rand(4, D))
    before = {k: v.clone() for k, v in model.state_dict().items()} if kind != "lazy" else {}
    more = {"climb": AWP(gamma=0.01), "epochs": 2}
    run = trained(model, tmp_path / "run", **more)
    assert before == {} or not equal(before, dict(run.model.state_dict()))
    torch.manual_seed(4)
    again = trained(KINDS[kind](), tmp_path / "run", resume=True, **more)
    assert equal(dict(again.model.state_dict()), dict(run.model.state_dict()))
    fresh = KINDS[kind]()
    fresh.load_state_dict(read_weights(tmp_path / "run"))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compiled", "parallel"])
def test_a_wrapped_network_is_trained_as_the_one_inside(wrap, tmp_path):
    twin = trained(network(), tmp_path / "twin")
    inside = network()
    run = trained(wrap(inside), tmp_path / "run")
    assert run.model is inside
    assert equal(dict(inside.state_dict()), dict(twin.model.state_dict()))
    network().load_state_dict(read_weights(tmp_path / "run"))


@pytest.mark.parametrize("training", [True, False])
def test_the_checks_leave_the_network_and_the_random_state(training, tmp_path):
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Linear(D, 16),
        nn.BatchNorm1d(16),
        nn.Dropout(),
        parametrizations.spectral_norm(nn.Linear(16, K)),
    ).train(training)
    model[2].eval()
    modes = [m.training for m in model.modules()]
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    Trainer(model, Objective(None, Standard(), Mean()), source(), out=tmp_path / "run")
    assert equal(before, dict(model.state_dict()))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("rows", [1, 9, 17, 33])
def test_a_last_row_alone_joins_the_batch_before_it_under_batch_norm(rows, tmp_path):
    data = source()
    data = replace(data, train=data.train.take(slice(0, rows)))
    goal = Objective(PGD(Linf(0.1), steps=2), TRADES(), Mean())
    options = {"out": tmp_path / "run", "epochs": 2, "batch_size": 16 if rows > 9 else 8}
    if rows == 1:
        with (
            pytest.warns(
                SparringWarning, match="train has no rows of 'b', 'c', which are measured"
            ),
            pytest.raises(ValueError, match="the split has 1 rows: a batch takes at least 2"),
        ):
            Trainer(network(), goal, data, **options)
        return
    run = Trainer(network(), goal, data, **options)
    finish(run)
    sizes = [len(batch) for batch in run.loader.epoch(1)]
    assert sum(sizes) == rows
    assert min(sizes) > 1
    assert run.position.step == 2 * len(sizes)


def test_without_batch_norm_batches_are_as_they_were(tmp_path):
    run = trainer(tmp_path / "run", noisy=False, batch_size=21)
    assert [len(batch) for batch in run.loader.epoch(1)] == [21, 21, 21, 1]
    with pytest.raises(ValueError, match=r"batch_size = 1 is not allowed: .* 2 or more"):
        trainer(tmp_path / "other", noisy=True, batch_size=1)


def test_a_method_that_takes_spreads_has_two_rows_a_batch(tmp_path):
    goal = Objective(PGD(Linf(0.1), steps=2), UAD(sites=["0"], reference="0"), Mean())
    options = {"out": tmp_path / "run", "epochs": 1, "batch_size": 21}
    run = Trainer(network(noisy=False), goal, source(), **options)
    assert [len(batch) for batch in run.loader.epoch(1)] == [21, 21, 22]


def test_validation_rows_of_no_weight_are_refused(tmp_path):
    data = source()
    data = replace(data, val=replace(data.val, weight=torch.zeros(len(data.val))))
    goal = Objective(PGD(Linf(0.1), steps=2), TRADES(), Mean())
    with pytest.raises(ValueError, match=r"corners val has no row whose weight is above 0: change"):
        Trainer(network(), goal, data, out=tmp_path / "run", epochs=1)
