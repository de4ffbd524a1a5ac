"""What a GPU must do as a CPU does: training, attacks, compiled evaluation, double backward, mixed
precision, resuming. Each body runs on the CPU too, so that none is first tried on a GPU.

What draws no random numbers is compared with the CPU's own numbers.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparring import models
from sparring.attacks import APGD, CW, FAB, PGD, DeepFool, Square
from sparring.batch import Batch
from sparring.evaluation import evaluate
from sparring.evaluation.judge import judge
from sparring.functional.losses import margin
from sparring.introspect import freeze
from sparring.methods import AT, JR, MART, OTJR, TRADES, UAD
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime.exact_float32 import exact_float32
from sparring.threats import L2, Linf
from sparring.training import Trainer
from tests.devices import on_devices, on_devices_slowly
from tests.training.small import finish, network, source, tensors, trainer

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
METHODS = {
    "AT": AT,
    "TRADES": TRADES,
    "MART": MART,
    "JR": JR,
    "OTJR": lambda: OTJR(slices=4),
    "UAD": lambda: UAD(sites=["conv1", "conv2"], reference="conv2"),
}
SEARCHES = {
    "PGD": lambda: PGD(Linf(0.1), steps=5),
    "APGD": lambda: APGD(Linf(0.1), steps=8),
    "FAB": lambda: FAB(Linf(0.1), steps=8, targets=2),
    "Square": lambda: Square(Linf(0.1), queries=30),
    "DeepFool": lambda: DeepFool(L2(2.0), steps=10),
    "CW": lambda: CW(L2(2.0), steps=10, search_steps=2),
}


@pytest.fixture
def net() -> nn.Module:
    """A small convolutional net in eval mode, on the CPU, always the same."""
    torch.manual_seed(0)
    return models.build("cifar-net", width=4, shape=(3, 16, 16), classes=4).eval()


@pytest.fixture
def batch(net: nn.Module) -> Batch:
    """Twelve pictures that the net is right on, but for one."""
    x = torch.rand(12, 3, 16, 16)
    with torch.no_grad():
        y = net(x).argmax(1)
    y[0] = (y[0] + 1) % 4
    return Batch(x, y)


def moved(batch: Batch, device: str) -> Batch:
    return Batch(batch.x.to(device), batch.y.to(device))


@on_devices
@pytest.mark.parametrize("name", SEARCHES)
def test_an_attack_returns_allowed_points_and_leaves_the_model(name, device, net, batch):
    at, net = moved(batch, device), net.to(device)
    before = copy.deepcopy(net.state_dict())
    attack = SEARCHES[name]()
    points = attack(net, at.x, at.y)
    assert points.device == at.x.device
    assert judge(net, attack.threat, points, at.x, at.y, name=name).allowed.all()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(parameter.grad is not None for parameter in net.parameters())


@on_devices
def test_a_search_without_draws_finds_what_the_cpu_finds(device, net, batch):
    attack = PGD(Linf(0.05), steps=4, size=0.02, best=False)
    at = moved(batch, device)
    with exact_float32(at.x.device):
        here = attack(copy.deepcopy(net).to(device), at.x, at.y)
    there = attack(net, batch.x, batch.y)
    # a gradient of about 0 may have either sign; such a pixel moves no margin
    torch.testing.assert_close(
        margin(net(here.cpu()), batch.y), margin(net(there), batch.y), rtol=1e-3, atol=1e-3
    )


@on_devices
@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_a_method_is_the_cpus(name, device, net, batch):
    """JR, OTJR and UAD among them, which differentiate a gradient."""
    x_adv = (batch.x + 0.02 * torch.randn_like(batch.x).sign()).clamp(0, 1)

    def gradients(on: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        model = copy.deepcopy(net).to(on).train()
        method = METHODS[name]().to(on)
        method.attach(model) if hasattr(method, "attach") else None
        full = Batch(batch.x.to(on), batch.y.to(on), x_adv=x_adv.to(on))
        full.cost = torch.zeros(len(x_adv), device=on)
        with exact_float32(full.x.device):
            loss = Objective(None, method, Mean()).minimize(model, full)
            loss.total.backward()
        return {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}

    here, there = gradients(device), gradients("cpu")
    assert here.keys() == there.keys()
    drawn = name in ("JR", "OTJR") and device != "cpu"  # directions, from the device's generator
    for key, value in there.items():
        assert torch.isfinite(here[key]).all()
        if not drawn:
            torch.testing.assert_close(here[key], value, **CLOSE)


@on_devices
@pytest.mark.parametrize("amp", [None, "bfloat16"])
def test_a_training_ends_with_finite_weights_on_its_device(device, amp, tmp_path):
    run = trainer(tmp_path / "run", device=device, amp=amp)
    state = finish(run)
    assert all(torch.isfinite(value.double()).all() for value in state.values())
    assert {p.device.type for p in run.model.parameters()} == {device}
    assert run.averaged is not None


@on_devices
def test_a_run_that_was_stopped_ends_where_the_whole_one_does(device, tmp_path):
    """Bit for bit on a CPU; a GPU's kernels may add in another order."""
    whole = finish(trainer(tmp_path / "whole", device=device))
    for epoch in trainer(tmp_path / "parts", device=device):
        if epoch.number == 2:
            break
    resumed = finish(trainer(tmp_path / "parts", device=device, resume=True))
    assert resumed.keys() == whole.keys()
    exact = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-3, "atol": 1e-4}
    for key, value in whole.items():
        if not key.endswith("seconds"):
            torch.testing.assert_close(resumed[key].double(), value.double(), **exact)


@on_devices
def test_a_step_without_draws_is_the_cpus(device, tmp_path):
    """Forward, attack, backward and update, from equal weights on equal rows."""
    options = {"epochs": 1, "batch_size": 64, "optimizer": {"name": "SGD", "lr": 0.1}}

    def weights(on: str) -> dict[str, torch.Tensor]:
        attack = PGD(Linf(0.1), steps=3, size=0.05, best=False)
        goal = Objective(attack, TRADES(), Mean())
        run = Trainer(network(noisy=False), goal, source(), out=tmp_path / on, device=on, **options)
        finish(run)
        return {key: value.cpu() for key, value in tensors(run.model.state_dict()).items()}

    there = weights("cpu")
    (tmp_path / "cpu").rename(tmp_path / "before")
    here = weights(device)
    for key, value in there.items():
        torch.testing.assert_close(here[key], value, **CLOSE)


@on_devices
def test_an_attack_in_bfloat16_breaks_what_one_in_float32_does(device, net, batch):
    """Both judged in float32; a row on the edge may fall either way."""
    at, net = moved(batch, device), net.to(device)
    robust = []
    for precision in ("bfloat16", "float32"):
        attack = APGD(Linf(0.03), steps=15, precision=precision)
        points = attack(net, at.x, at.y)
        robust.append(judge(net, attack.threat, points, at.x, at.y, name="APGD").pred == at.y)
    assert not robust[0][0]
    assert (robust[0] != robust[1]).sum() <= 2


@on_devices
def test_the_judge_is_exact_whatever_the_products_round_to(device, net, batch):
    at = moved(batch, device)
    exact = margin(copy.deepcopy(net).double()(batch.x.double()), batch.y)
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "tf32"
        judged = judge(net.to(device), Linf(0.1), at.x, at.x, at.y, name="none").margin
    finally:
        conv.fp32_precision = before
    torch.testing.assert_close(judged.cpu().double(), exact, rtol=1e-5, atol=1e-5)


@on_devices
def test_the_attack_of_a_training_never_waits_for_the_device(device, net, batch):
    at, net = moved(batch, device), net.to(device)
    goal = Objective(PGD(Linf(0.1), steps=3, best=False), AT(), Mean())
    view = freeze.ModelView(net, amp="bfloat16", channels_last=True)
    goal.maximize(view, at)  # libraries load
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        full = goal.maximize(view, at)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert full.x_adv.device == at.x.device


@on_devices_slowly
def test_a_compiled_evaluation_gives_the_verdicts_of_the_plain_one(device, net, batch):
    at, net = moved(batch, device), net.to(device)
    # few break at this radius: the rows that stay fill one compiled size
    options = {"eps": 0.01, "batch_size": 12, "progress": False}
    plain = evaluate(net, (at.x, at.y), "Linf", "quick", **options)
    compiled = evaluate(net, (at.x, at.y), "Linf", "quick", compile=True, **options)
    assert compiled.compiled
    assert (compiled.arrays["correct_0.01"] != plain.arrays["correct_0.01"]).sum() <= 1
