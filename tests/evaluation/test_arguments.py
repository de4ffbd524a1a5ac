"""Numbers and kinds of an evaluation's arguments: nonsense is refused in a sentence."""

import numpy as np
import pytest
import torch
from torch import nn

from sparring.evaluation import EvaluationProtocol, evaluate

NONSENSE = {
    "n": (True, 2.5, "3", 0, -1, torch.nan, 1e400, [3], torch.ones(2)),
    "batch_size": (0, True, 2.5, "a", -3, None, 1e30),
    "eps": ("0.1", "a", True, torch.nan, -0.1, torch.inf, [0.1, "x"], [], {}),
    "seed": ("a", 2.5, True, 2**70, torch.nan),
    "seconds": (torch.nan, torch.inf, 0, -1, "1", True),
    "queries": (1e400, 0, 2.5, "5", True),
    "precision": ("half", 32, ["float32"]),
    "compile": ("no", 1, None),
    "cascade": ("no", 1),
    "suite": (3, None, [], "quik"),
    "certify": (3, True, [1]),
    "probes": (3, True, [1]),
    "split": ("tset", 3),
    "threat": (3, [], [3], "Linv"),
    "device": ("gpu", 3),
    "out": ("result.txt",),
}
PAIRS = [(key, value) for key, values in NONSENSE.items() for value in values]


@pytest.mark.parametrize(("key", "value"), PAIRS, ids=str)
def test_nonsense_is_refused_by_its_key(problem, key, value):
    options = {"eps": 0.05, "threat": "Linf", key: value}
    with pytest.raises(ValueError, match=key) as caught:
        evaluate(problem.model, (problem.x, problem.y), progress=False, **options)
    assert len(str(caught.value).splitlines()) <= 2


NUMBERS = {
    "n": (16, np.int64(16), np.array(16), torch.tensor(16), 16.0),
    "batch_size": (8, np.int32(8), torch.tensor(8), np.uint8(8)),
    "seed": (3, np.int64(3), np.array(3), torch.tensor(3)),
    "queries": (1000, np.int64(1000), 1e3),
    "seconds": (500, np.float32(500), torch.tensor(500.0), np.int64(500)),
    "eps": (8 / 255, np.float64(8 / 255), "8/255", ["8/255"], np.array([8 / 255]), (8 / 255,)),
}


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_of_any_library_are_one_number(problem, same, key):
    def run(value):
        options = {"eps": 0.05, "n": 30, "batch_size": 10, key: value}
        return evaluate(problem.model, (problem.x, problem.y), progress=False, **options)

    first, *others = NUMBERS[key]
    expected = run(first)
    for other in others:
        same(run(other), expected)


def test_radii_of_a_table_are_read_alike(problem, same):
    def run(value):
        table = {"Linf": value, "L2": [0.1, 0.2]}
        return evaluate(problem.model, (problem.x, problem.y), table, progress=False)

    expected = run(8 / 255)
    for value in ("8/255", np.float64(8 / 255), torch.tensor(8 / 255, dtype=torch.float64)):
        same(run(value), expected)
    with pytest.raises(ValueError, match="eps = 'x'"):
        run("x")


def test_a_protocol_holds_plain_numbers():
    numbers = {"n": np.int64(4), "batch_size": torch.tensor(2), "seconds": np.float32(2)}
    protocol = EvaluationProtocol(**numbers)
    for key, kind in (("n", int), ("batch_size", int), ("seconds", float)):
        assert type(getattr(protocol, key)) is kind


@pytest.mark.parametrize("model", [None, 3, "model", torch.ones(2)])
def test_a_model_is_called(problem, model):
    with pytest.raises(ValueError, match="model"):
        evaluate(model, (problem.x, problem.y), eps=0.1, progress=False)


@pytest.mark.parametrize("probe", ["drift", "gradient"])
def test_a_probe_that_does_not_fit_is_refused_before_the_attacks(problem, suite_of, probe):
    def attack(model, x, y, threat):
        raise AssertionError("the attack was run")

    function = problem.model if probe == "drift" else lambda z: problem.model(z).detach()
    for n in (1, 20):
        data, suite = (problem.x, problem.y), suite_of(attack)
        with pytest.raises(ValueError, match=r"model|samples to probe"):
            evaluate(function, data, "Linf", suite, eps=0.1, n=n, probes=probe, progress=False)


PROBES = ("jacobian", "trajectory", "gradient", "drift", "transport", "surface", "masking")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_networks_of_another_precision_are_evaluated_on_data_of_any(dtype):
    torch.manual_seed(0)
    layer = nn.Linear(20, 2).to(dtype).eval()
    x = torch.rand(100, 20, dtype=torch.float64)
    with torch.no_grad():
        y = layer(x.to(dtype)).argmax(1)
    net, options = nn.Sequential(nn.Flatten(), layer), {"eps": 0.02, "probes": PROBES}
    for data in ((x, y), (x.float(), y)):
        result = evaluate(net, data, "Linf", "pgd", **options, progress=False)
        w, b = (t.detach().double() for t in (layer.weight, layer.bias))
        away = (w[0] - w[1]) * torch.where(y == 0, 1.0, -1.0)[:, None]
        worst = torch.where(away > 0, (x - 0.02).clamp(0, 1), (x + 0.02).clamp(0, 1))
        gap = (away * worst).sum(1) + torch.where(y == 0, 1.0, -1.0) * (b[0] - b[1])
        atol = 0.011 if dtype == torch.float64 else 0.05  # rounding of the model itself
        assert result.clean.accuracy == pytest.approx(1, abs=atol)
        assert result.robust.accuracy == pytest.approx((gap > 0).double().mean().item(), abs=atol)
    assert layer.weight.dtype == dtype


def test_numpy_samples_and_a_device_are_taken(problem):
    data = (problem.x.numpy(), problem.y.numpy().astype(np.int32))
    result = evaluate(problem.model, data, eps=np.float32(0.05), device="cpu", progress=False)
    assert result.clean == evaluate(problem.model, (problem.x, problem.y), eps=0.05).clean
