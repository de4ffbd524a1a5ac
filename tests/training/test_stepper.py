"""One step: what is compiled, what is refused early, and what a bad loss leaves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.introspect import freeze
from sparring.methods import (
    ALP,
    AT,
    JR,
    MART,
    OTJR,
    TRADES,
    UAD,
    SemiSupervised,
    Standard,
    TransportJR,
)
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime import distributed
from sparring.runtime.cudnn import tuned_kernels
from sparring.threats import Linf
from sparring.training import NonFiniteLoss, parallel
from sparring.training.stepper import Stepper
from tests.training.small import network, plain_steps, source, trainer


def goal(method) -> Objective:
    return Objective(PGD(Linf(0.1), steps=2, best=False), method, Mean())


def stepper(method=None, **more) -> Stepper:
    """A stepper of the small net; MART unless told otherwise."""
    optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
    arguments = plain_steps(objective=goal(method or MART()), optimizer=optimizer, **more)
    samples, device = source().train.float(slice(0, 2)), torch.device("cpu")
    return Stepper(network(), arguments, samples, classes=3, device=device)


def rows(n: int = 16) -> Batch:
    split = source().train
    return Batch(split.float(slice(0, n)), split.y[:n].long())


def uad(**more) -> UAD:
    return UAD(sites=[], reference="none", **more)


SINGLE = [Standard(), AT(), TRADES(), MART(), ALP(), OTJR(jac=0), JR(jac=0), uad(gradient=0.0)]
TWICE = [OTJR(), JR(), TransportJR(), uad(), SemiSupervised(of=AT(), unlabelled=JR())]


@pytest.mark.parametrize("method", SINGLE)
def test_methods_of_a_single_derivative(method):
    assert not method.differentiates_twice


@pytest.mark.parametrize("method", TWICE)
def test_methods_that_differentiate_twice_are_refused_a_compiled_loss(method):
    assert method.differentiates_twice
    name = type(method).__name__
    with pytest.raises(ValueError, match=rf"compile = 'all' is not allowed with the method {name}"):
        stepper(method, compile="all")


def test_an_unknown_kind_of_compiling():
    with pytest.raises(ValueError, match=r"compile = 'loss' is not allowed: .* true or 'all'"):
        stepper(compile="loss")


@pytest.mark.parametrize("compile", [False, True, "all"])
def test_what_is_compiled(compile, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model: lambda x: model(x))
    run = stepper(compile=compile)
    assert run.attack_model.compiled == bool(compile)
    assert run.loss_model.compiled == (compile == "all")


def test_a_compiled_view_runs_smaller_batches_as_they_are(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda model: lambda x: seen.append(len(x)) or model(x))
    model = nn.Linear(2, 2)
    view = freeze.ModelView(model, compile=True)
    for rows in (8, 8, 3, 8, 9, 8):
        x = torch.rand(rows, 2)
        assert torch.equal(view(x), model(x))
    assert seen == [8, 8, 8, 9]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_steps_are_the_plain_ones_up_to_rounding(monkeypatch):
    """At the same draws of dropout: a compiled net takes them from another stream."""
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    weights = []
    for compile in (False, "all"):
        run = stepper(compile=compile)
        run.train()
        for number, n in enumerate((16, 16, 5), 1):
            run.begin_batch(epoch=1, index=number, progress=0.0)
            run.step(rows(n), epoch=1, number=number)
        weights.append(nn.utils.parameters_to_vector(run.model.parameters()).detach())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


class Bad(AT):
    """Its second loss is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def loss(self, model, batch):
        self.calls += 1
        loss = super().loss(model, batch)
        loss.per_sample = loss.per_sample * (math.nan if self.calls == 2 else 1.0)
        return loss


def test_a_loss_that_is_not_finite_leaves_weights_and_momentum_of_the_last_good_step():
    run = stepper(Bad())
    run.train()
    run.step(rows(), epoch=1, number=1)
    weights = [p.detach().clone() for p in run.model.parameters()]
    momentum = [s["momentum_buffer"].clone() for s in run.optimizer.state.values()]
    with pytest.raises(NonFiniteLoss, match="at step 2"):
        run.step(rows(), epoch=1, number=2)
    assert all(map(torch.equal, run.model.parameters(), weights))
    now = [s["momentum_buffer"] for s in run.optimizer.state.values()]
    assert all(map(torch.equal, now, momentum))
    assert all(p.grad is None for p in run.model.parameters())


def test_bfloat16_steps_with_weights_cast_once_are_those_without(tmp_path, monkeypatch):
    weights = []
    for k in range(2):
        run = trainer(tmp_path / str(k), amp="bfloat16", epochs=1, device="cpu")
        list(run)
        weights.append(nn.utils.parameters_to_vector(run.model.parameters()).detach())
        monkeypatch.setattr(freeze.ModelView, "cast_once", lambda self: freeze.frozen_bn(self))
    assert torch.equal(*weights)


def test_several_gpus_refuse_a_second_derivative_through_batch_norm(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    with pytest.raises(ValueError, match=r"'OTJR' differentiates twice.*train on one GPU"):
        parallel.sync_batch_norm(network(), gpu, goal(OTJR()))
    assert parallel.sync_batch_norm(network(), cpu, goal(OTJR())) is not None
    plain = network(noisy=False)
    assert parallel.sync_batch_norm(plain, gpu, goal(OTJR())) is plain
    joint = parallel.sync_batch_norm(network(), gpu, goal(AT()))
    assert isinstance(joint[1], nn.SyncBatchNorm)


def test_kernels_are_chosen_by_trial_on_a_gpu_where_nothing_forbids_it(monkeypatch):
    gpu, cudnn = torch.device("cuda"), torch.backends.cudnn
    for device, on, expected in (
        (gpu, True, True),
        (gpu, False, False),
        (torch.device("cpu"), True, False),
    ):
        with tuned_kernels(device, on):
            assert cudnn.benchmark == expected
        assert not cudnn.benchmark
    monkeypatch.setattr(cudnn, "deterministic", True)
    with tuned_kernels(gpu):
        assert not cudnn.benchmark
