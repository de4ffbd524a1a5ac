"""AutoAttack's class: what it returns, prints and refuses."""

from __future__ import annotations

import pytest
import torch

from sparring.compat.autoattack import AutoAttack
from sparring.evaluation import SUITES
from tests.oracles import Net, problem


@pytest.fixture
def made():
    model, x, y = problem(b=24, dtype=torch.float32)
    return model, x, y


def adversary(model, **kw):
    attack = AutoAttack(
        model, eps=0.1, version="custom", attacks_to_run=["apgd-ce", "square"], device="cpu", **kw
    )
    attack.apgd.n_restarts, attack.apgd.n_iter, attack.square.n_queries = 1, 5, 20
    return attack


def test_points_break_what_they_can_and_are_x_elsewhere(made, capsys, tmp_path):
    model, x, y = made
    log = tmp_path / "log.txt"
    attack = adversary(model, log_path=log)
    x_adv, y_adv = attack.run_standard_evaluation(x, y, bs=10, return_labels=True)
    pred = model(x_adv).argmax(1)
    assert torch.equal(pred, y_adv)
    assert attack.result is not None
    robust = (pred == y).double().mean().item()
    assert robust == attack.result.robust.accuracy < attack.clean_accuracy(x, y)
    same = (pred == y) | (model(x).argmax(1) != y)
    assert torch.equal(x_adv[same], x[same])
    assert (x_adv - x).abs().max() <= 0.1001
    out = capsys.readouterr().out
    assert f"robust accuracy: {robust:.2%}" in out
    assert "robust accuracy after APGD-CE" in out
    assert "verdict:" in out
    assert log.read_text() in out


def test_each_attack_alone(made, capsys):
    model, x, y = made
    points = adversary(model, verbose=False).run_standard_evaluation_individual(x, y)
    assert list(points) == ["apgd-ce", "square"]
    assert all(p.shape == x.shape for p in points.values())
    assert capsys.readouterr().out == ""


def test_a_state_goes_on(made, tmp_path):
    model, x, y = made
    state = tmp_path / "state.json"
    adversary(model, verbose=False).run_standard_evaluation(x, y, state_path=state)
    assert state.is_file()
    with pytest.raises(ValueError, match=r"name of a \.json file"):
        adversary(model).run_standard_evaluation(x, y, state_path="state.pt")


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_published_versions_are_our_suites_until_they_are_changed(version):
    attack = AutoAttack(Net(), version=version, device="cpu")
    names = {"standard": "autoattack", "plus": "autoattack-plus", "rand": "autoattack-rand"}
    assert attack.suite is SUITES[names[version]]
    attack.apgd.n_iter = 50
    assert attack.suite.name == "autoattack-custom"
    labels = [entry.label.lower() for entry in attack.suite.entries]
    assert labels == attack.attacks_to_run


def test_l1_has_its_own_budgets():
    attack = AutoAttack(Net(), norm="L1", eps=12, device="cpu")
    assert (attack.apgd.n_restarts, attack.apgd.use_largereps) == (5, True)
    assert attack.apgd_targeted.n_target_classes == 5
    assert attack.suite.name == "autoattack-custom"


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"version": "fast"}, "version = 'fast'"),
        ({"norm": "L0"}, "norm = 'L0'"),
        ({"attacks_to_run": ["fab"]}, "unless version = 'custom'"),
        ({"is_tf_model": True}, "convert the model to ONNX"),
        ({"eps": "no"}, "eps = 'no'"),
    ],
)
def test_wrong_arguments_are_refused(kw, message):
    with pytest.raises(ValueError, match=message):
        AutoAttack(Net(), **kw)


def test_an_unknown_attack_is_refused(made):
    model, x, y = made
    attack = AutoAttack(model, version="custom", attacks_to_run=["apgd"], device="cpu")
    with pytest.raises(ValueError, match="did you mean 'apgd-t'"):
        attack.run_standard_evaluation(x, y)
    with pytest.raises(ValueError, match="attacks_to_run = "):
        AutoAttack(model, version="custom", device="cpu").run_standard_evaluation(x, y)
