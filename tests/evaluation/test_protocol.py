"""The options of an evaluation are one value, filled by Python, recipes, studies and the shell."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import sparring
from sparring import data, evaluation
from sparring.commands import study, study_jobs
from sparring.config.recipe import load_recipe
from sparring.evaluation import EvaluationProtocol, Suite, suites
from sparring.evaluation.protocol import OPTIONS, resolve_protocol
from tests.command import call

VALUES = {  # an option that is no default, for every field
    "suite": "autoattack",
    "eps": [0.05],
    "n": 7,
    "first": True,
    "split": "val",
    "batch_size": 9,
    "fit_memory": True,
    "precision": "bfloat16",
    "compile": True,
    "cascade": False,
    "sample": 150,
    "seconds": 3.0,
    "queries": 5,
    "certify": ["ibp"],
    "probes": ["drift"],
    "keep": "uint8",
}
STUDY = """
[runs.plain]
recipe = "digits-mart"
[evaluations.all]
suite = "autoattack"
eps = [0.05]
n = 7
first = true
split = "val"
batch_size = 9
fit_memory = true
precision = "bfloat16"
compile = true
cascade = false
sample = 150
seconds = 3.0
queries = 5
certify = ["ibp"]
probes = ["drift"]
keep = "uint8"
"""


@pytest.fixture
def protocols(monkeypatch):
    """The protocols that reach `evaluation.evaluate`, which ends there."""
    protocols = []

    def stop(model, data, threat, protocol, **_):
        protocols.append(protocol)
        raise ValueError("stopped here")

    monkeypatch.setattr(evaluation, "evaluate", stop)
    return protocols


def plain(protocol):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(protocol).items()}


def flags(name, value):
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-")]
    return [w for v in (value if isinstance(value, list) else [value]) for w in (flag, v)]


class TestEveryOptionArrives:
    """A field that is added to the protocol and nowhere else fails here."""

    def test_the_values_are_no_defaults(self):
        assert tuple(VALUES) == OPTIONS
        default = EvaluationProtocol()
        assert not [name for name in OPTIONS if getattr(default, name) == VALUES[name]]

    def test_from_python(self, protocols):
        with pytest.raises(ValueError, match="stopped here"):
            sparring.evaluate(nn.Flatten(), "digits", **VALUES)
        assert plain(protocols[0]) == VALUES

    def test_from_the_command_line(self, protocols, capsys):
        words = [word for name, value in VALUES.items() for word in flags(name, value)]
        model = ["torch.nn:Flatten", "--data", "digits", "--trust"]
        assert "stopped here" in call("evaluate", *model, *words, capsys=capsys, code=2)
        assert plain(protocols[0]) == VALUES

    def test_from_a_recipe(self, protocols):
        changes = {f"evaluation.{name}": value for name, value in VALUES.items()}
        recipe = load_recipe("digits-mart", set=changes)
        with pytest.raises(ValueError, match="stopped here"):
            sparring.evaluate(nn.Flatten(), recipe=recipe)
        assert plain(protocols[0]) == VALUES

    def test_from_a_study(self, protocols, tmp_path, monkeypatch):
        (tmp_path / "all.toml").write_text(STUDY)
        plan = study.load(tmp_path / "all.toml")
        assert plan.evaluations["all"] == VALUES
        evaluate = sparring.evaluate
        monkeypatch.setattr(study_jobs, "trained_run", lambda *_: nn.Flatten())
        monkeypatch.setattr(
            study_jobs.evaluate,
            "evaluate",
            lambda model, **more: evaluate(model, recipe="digits-mart", **more),
        )
        with pytest.raises(study.FailedRuns, match="stopped here"):
            study.run(plan, results=tmp_path / "out")
        assert plain(protocols[0]) == VALUES


def test_what_a_recipe_does_not_set_stays_out_of_it():
    table = load_recipe("digits-mart").tables["evaluation"]
    assert set(table) == {"suite", "threat", "eps"}


def test_options_of_python_come_before_those_of_the_recipe(protocols):
    recipe = load_recipe("digits-mart", set={"evaluation.n": 50, "evaluation.suite": "quick"})
    for more in ({"n": 9}, {"n": 9, "threat": "L2"}, {"protocol": EvaluationProtocol(n=8)}):
        with pytest.raises(ValueError, match="stopped here"):
            sparring.evaluate(nn.Flatten(), recipe=recipe, **more)
    first, other_threat, whole = protocols
    assert (first.suite, first.n, first.eps) == ("quick", 9, [0.05, 0.1])
    assert (other_threat.n, other_threat.eps) == (9, None)
    assert (whole.suite, whole.n, whole.eps) == ("quick", 8, None)


def test_a_protocol_or_its_suite():
    short = Suite("short", 1, suites.QUICK[:1])
    assert resolve_protocol(short, {"n": 3}) == EvaluationProtocol(suite=short, n=3)
    whole = EvaluationProtocol(suite="pgd", n=5)
    assert resolve_protocol(whole, {"n": 3}) == EvaluationProtocol(suite="pgd", n=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "quik"}, "suite = 'quik' does not exist; did you mean 'quick'"),
        ({"batch_size": 0}, "batch_size = 0 is not allowed"),
        ({"precision": "int8"}, "precision = 'int8' is not allowed"),
        ({"sample": 0}, "sample = 0 is not allowed"),
        ({"seconds": -1.0}, "seconds = -1.0 is not allowed"),
        ({"queries": -1}, "queries = -1 is not allowed"),
        ({"probes": "drft"}, "did you mean 'drift'"),
    ],
)
def test_mistakes_are_named_where_the_option_is_set(options, message):
    with pytest.raises(ValueError, match=message):
        EvaluationProtocol(**options)
    ((name, value),) = options.items()
    if name != "probes":
        with pytest.raises(ValueError, match=rf"evaluation\.{message}"):
            load_recipe("digits-mart", set={f"evaluation.{name}": value})


def test_the_first_samples_are_those_of_the_data_and_the_result_says_so():
    x = torch.rand(40, 6)
    y = torch.arange(40) % 2
    model = nn.Linear(6, 2).eval()
    options = {"eps": 0.01, "n": 10, "progress": False}
    first = evaluation.evaluate(model, (x, y), "Linf", first=True, **options)
    same = evaluation.evaluate(model, (x[:10], y[:10]), "Linf", eps=0.01, progress=False)
    drawn = evaluation.evaluate(model, (x, y), "Linf", **options)
    assert first.notes == ["the first 10 of 40 samples of test, not drawn by the seed"]
    assert drawn.notes == same.notes == []
    assert np.array_equal(first.arrays["y"], same.arrays["y"])
    assert not np.array_equal(first.arrays["y"], drawn.arrays["y"])
    with pytest.raises(ValueError, match="first = 1 is not allowed"):
        EvaluationProtocol(first=1)


def test_a_streamed_split_is_evaluated_on_n_rows():
    rows = TensorDataset(torch.rand(40, 6), torch.arange(40) % 2)
    source = data.streamed(rows, rows, classes=2, val=5)
    model = nn.Linear(6, 2).eval()
    options = {"eps": 0.01, "split": "train", "progress": False}
    assert evaluation.evaluate(model, source, "Linf", n=10, **options).n == 10
    with pytest.raises(ValueError, match=r"n = None is not allowed.*train is streamed"):
        evaluation.evaluate(model, source, "Linf", **options)
