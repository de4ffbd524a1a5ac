"""An evaluation ends, and says what it is worth, for models of every kind of badness."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring import reporting
from sparring.evaluation import evaluate
from sparring.results.result import Result
from sparring.runtime.warning import SparringWarning
from sparring.threats import Bits


def linear(k):
    torch.manual_seed(0)
    return nn.Linear(6, k).eval()


MODELS = {  # model of k classes, and the labels it is given, from its predictions
    "all broken": (linear, lambda p, k: p),
    "all wrong": (linear, lambda p, k: (p + 1) % k),
    "one class": (linear, lambda p, k: torch.zeros_like(p)),
    "only NaN": (lambda k: lambda x: linear(k)(x) * torch.nan, lambda p, k: p),
    "only inf": (lambda k: lambda x: linear(k)(x) / 0, lambda p, k: p),
    "constant": (lambda k: lambda x: torch.eye(k)[[0] * len(x)] + 0 * x[:, :1], lambda p, k: 0 * p),
}
THREATS = [("Linf", 0.9, "quick"), ("L2", 1.5, "quick"), (Bits(6), None, "bits-published")]


@pytest.mark.parametrize("n", [1, 9])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_every_evaluation_ends_and_is_shown(kind, k, n, tmp_path):
    make, labels = MODELS[kind]
    for threat, eps, suite in THREATS:
        x = torch.rand(n, 6, generator=torch.Generator().manual_seed(1))
        x = x.round() if isinstance(threat, Bits) else x
        y = labels(linear(k)(x).argmax(1), k)
        options = {"eps": eps, "batch_size": 4, "out": tmp_path / "r.json", "progress": False}
        result = evaluate(make(k), (x, y), threat, suite, **options)
        assert result.robust.accuracy <= result.clean.accuracy
        assert Result.load(tmp_path / "r.json").robust == result.robust
        reporting.table([result])
        result.strip().save(tmp_path / "s.json")
        assert result.verdict != "sound"
        assert any(f"on {n} sample" in reason or n == 9 for reason in result.reasons)


def test_a_page_of_nothing(tmp_path):
    x = torch.rand(5, 6)
    y = (linear(2)(x).argmax(1) + 1) % 2
    result = evaluate(linear(2), (x, y), "Linf", "autoattack", eps=0.9, progress=False)
    assert (result.clean.accuracy, result.robust.accuracy) == (0, 0)
    reporting.page([result], tmp_path / "page.html")


class SometimesNaN(nn.Module):
    """NaN logits on a share of the samples."""

    def __init__(self, share):
        super().__init__()
        self.net, self.share = linear(3), share

    def forward(self, x):
        return torch.where(x[:, :1] < self.share, torch.nan, self.net(x))


@pytest.mark.parametrize("share", [0.05, 0.5, 1.1])
def test_logits_that_are_not_finite_are_counted_and_never_trusted(share):
    x = torch.rand(200, 6, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.001
    y = linear(3)(x).argmax(1)
    result = evaluate(SometimesNaN(share), (x, y), "Linf", "black-box", eps=0.001, progress=False)
    check = next(c for c in result.checks if c.name == "outputs not finite")
    assert check.fired
    assert (check.severity == "not sound") == (share > 0.1)
    assert result.verdict == check.severity
    assert any(reason.startswith("outputs not finite") for reason in result.reasons)
    lost = (x[:, 0] < share).double().mean().item()
    assert result.clean.accuracy == pytest.approx(1 - lost)


@pytest.mark.parametrize(("n", "few"), [(19, True), (20, False)])
def test_a_verdict_of_few_samples_says_so(problem, n, few):
    data = (problem.x[:n], problem.y[:n].clone())
    with torch.no_grad():
        data[1][:] = problem.model(data[0]).argmax(1)
    result = evaluate(problem.model, data, "Linf", "black-box", eps=0.001, progress=False)
    remark = f"on {n} samples: too few to judge"
    assert (remark in result.reasons) == few
    assert result.verdict == ("look" if few else "sound")


def test_a_share_of_few_samples_is_no_proof(problem):
    class Rounded(nn.Module):
        def forward(self, x):
            z = problem.model((x * 8).round() / 8)
            return z + 0 * x.sum()

    for n, severity in ((7, "look"), (60, "not sound")):
        x = problem.x[:n]
        y = Rounded()(x).argmax(1)
        result = evaluate(Rounded(), (x, y), "Linf", eps=0.1, progress=False)
        check = next(c for c in result.checks if c.name == "zero gradients")
        assert check.fired
        assert check.severity == severity
        assert ("on 7 samples: too few to judge" in check.detail) == (n == 7)


class Drifting(nn.Module):
    """A model that writes to its weights, a buffer, or not, past autograd."""

    def __init__(self, inner, what):
        super().__init__()
        self.inner, self.what, self.calls = inner, what, nn.Buffer(torch.zeros(()))

    def forward(self, x):
        if self.what == "weights":
            self.inner.w.data *= 1.0001
        elif self.what == "buffer":
            self.calls += 1
        return self.inner(x)


def test_weights_that_change_past_autograd_are_refused(problem, tmp_path):
    out = tmp_path / "r.json"
    for model in (Drifting(problem.model, "weights"),) * 2:
        function = model if out.name == "r.json" else lambda x, model=model: model(x)
        with pytest.raises(ValueError, match="the model changes its own weights"):
            evaluate(function, (problem.x, problem.y), "Linf", eps=0.1, out=out, progress=False)
        out = tmp_path / "other.json"
    assert list(tmp_path.iterdir()) == []


def test_an_attack_that_writes_past_autograd_is_refused(problem, suite_of, tmp_path):
    def write(model, x, y, threat):
        problem.model.w.data.mul_(0.99)
        return x

    options = {"eps": 0.1, "out": tmp_path / "r.json", "progress": False}
    with pytest.raises(ValueError, match=r"attack 'foreign' changed the model's weights"):
        evaluate(problem.model, (problem.x, problem.y), "Linf", suite_of(write), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["nothing", "buffer"])
def test_buffers_that_change_are_a_symptom(problem, what):
    model = Drifting(problem.model, what)
    result = evaluate(model, (problem.x, problem.y), "Linf", eps=0.1, progress=False)
    assert ("buffers change" in {c.name for c in result.checks}) == (what == "buffer")
    assert result.verdict == "look"


@pytest.mark.parametrize("k", [1, 2])
def test_a_probability_for_a_logit_fires(k):
    def sigmoid(x):
        p = torch.sigmoid(linear(1)(x)[:, 0])
        return torch.stack([1 - p if k == 2 else 0 * p, p], 1)

    x = torch.rand(64, 6)
    y = (linear(1)(x)[:, 0] > 0).long()
    result = evaluate(sigmoid, (x, y), "Linf", eps=0.02, progress=False)
    assert "probabilities instead of logits" in {c.name for c in result.checks if c.fired}


def test_a_function_that_cannot_be_hashed_is_not_resumed(problem, tmp_path):
    rows = (row for row in ())
    calls = []

    def model(x):
        calls.append(rows)
        return problem.model(x)

    out = tmp_path / "r.json"
    with pytest.warns(SparringWarning, match="finished batches are not kept"):
        evaluate(model, (problem.x, problem.y), "Linf", eps=0.1, out=out, progress=False)
    digest = Result.load(out).arrays_sha256
    assert {p.name for p in tmp_path.iterdir()} == {"r.json", f"r.{digest[:12]}.npz"}


def test_another_function_of_the_same_name_starts_again(problem, tmp_path):
    def made(sign, most):
        calls = []

        def model(x):
            calls.append(1)
            if len(calls) > most:
                raise KeyboardInterrupt
            return sign * problem.model(x)

        return model

    options = {"eps": 0.02, "batch_size": 16, "progress": False}
    data, out = (problem.x, problem.y), tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(made(1, 8), data, "Linf", out=out, **options)
    resumed = evaluate(made(-1, 10**9), data, "Linf", out=out, **options)
    assert resumed.clean == evaluate(made(-1, 10**9), data, "Linf", **options).clean
