"""Optimizers: groups of weights by the names of modules, with keywords of their own."""

import pytest
import torch

from sparring.functional.losses import cross_entropy
from sparring.training.optimizer import make_optimizer
from tests.training.small import equal, finish, network, source, trainer

GROUPS = {
    "name": "SGD",
    "lr": 0.1,
    "momentum": 0.9,
    "groups": [{"modules": ["4"], "lr_scale": 2.0}, {"modules": ["1"], "weight_decay": 0.0}],
}


def lrs(config, net) -> list[tuple[float, int]]:
    groups = make_optimizer(config, net).param_groups
    return [(group["lr"], len(group["params"])) for group in groups]


def test_groups_take_the_weights_of_their_modules_and_the_rest_stay():
    net = network()
    optimizer = make_optimizer({**GROUPS, "weight_decay": 5e-4}, net)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.1, 5e-4),
        (0.2, 5e-4),
        (0.1, 0.0),
    ]
    names = {id(p): n for n, p in net.named_parameters()}
    assert [[names[id(p)] for p in g["params"]] for g in optimizer.param_groups] == [
        ["0.weight", "0.bias"],
        ["4.weight", "4.bias"],
        ["1.weight", "1.bias"],
    ]


def test_the_first_group_that_matches_has_a_weight():
    groups = [{"modules": ["4.bias"], "lr": 1.0}, {"modules": ["*"], "lr": 2.0}]
    assert lrs({"name": "SGD", "lr": 0.1, "groups": groups}, network()) == [(1.0, 1), (2.0, 5)]


def test_groups_without_weight_decay_on_biases():
    net = network()
    table = {"name": "SGD", "lr": 0.1, "weight_decay": 0.1, "groups": [{"modules": ["4"], "lr": 1}]}
    groups = make_optimizer(table, net, decay_norm=False).param_groups
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.1, 1),
        (0.1, 0.0, 3),
        (1, 0.1, 1),
        (1, 0.0, 1),
    ]


def test_one_step_of_groups_is_that_of_the_rule():
    """Twin: w ← w − lr_g·(g + decay_g·w)."""
    net, twin = network(noisy=False), network(noisy=False)
    groups = [{"modules": ["2"], "lr": 1.0}, {"modules": ["0.bias"], "weight_decay": 0.5}]
    optimizer = make_optimizer({"name": "SGD", "lr": 0.1, "groups": groups}, net)
    data = source().train
    for model in (net, twin):
        cross_entropy(model(data.float(slice(None))), data.y).mean().backward()
    optimizer.step()
    rule = {"2": (1.0, 0.0), "0.weight": (0.1, 0.0), "0.bias": (0.1, 0.5)}
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        lr, decay = rule.get(name) or rule[name[0]]
        torch.testing.assert_close(p, q - lr * (q.grad + decay * q))


def test_a_schedule_of_lr_scales_every_group_alike(tmp_path):
    run = trainer(tmp_path / "run", optimizer={**GROUPS, "weight_decay": 5e-4})
    for progress in (0.0, 0.13, 0.3, 0.8, 1.0):
        run.stepper.begin_batch(epoch=1, index=0, progress=progress)
        first, head, norm = run.stepper.optimizer.param_groups
        assert head["lr"] == 2 * first["lr"]
        assert norm["lr"] == first["lr"]


def test_groups_resume_bit_for_bit(tmp_path):
    options = {"optimizer": GROUPS, "save_every": 3}
    whole = finish(trainer(tmp_path / "whole", **options))
    next(iter(trainer(tmp_path / "run", **options)))
    assert equal(finish(trainer(tmp_path / "run", resume=True, **options)), whole)


GROUP_MISTAKES = {
    "no list": ({"modules": ["4"]}, r"optimizer\.groups = .* must be tables"),
    "no modules": ([{"lr": 1.0}], r"optimizer\.groups\.0\.modules = None"),
    "a text": ([{"modules": "4"}], r"optimizer\.groups\.0\.modules = '4'"),
    "an unknown module": ([{"modules": ["9"]}], r"optimizer\.groups\.0\.modules = '9' does not ex"),
    "an unknown key": ([{"modules": ["4"], "lrr": 1}], "did you mean 'lr'"),
    "an unknown scale": ([{"modules": ["4"], "lr_scal": 1}], "did you mean 'lr_scale'"),
    "two rates": ([{"modules": ["4"], "lr": 1.0, "lr_scale": 2.0}], "left out where lr is set"),
    "a rate of 0": ([{"modules": ["4"], "lr": 0.0}], r"optimizer\.groups\.0\.lr = 0\.0"),
    "a scale below 0": ([{"modules": ["4"], "lr_scale": -1}], r"groups\.0\.lr_scale = -1"),
    "taken": ([{"modules": ["*"]}, {"modules": ["4"]}], r"groups\.1\.modules = .*no group before"),
}


@pytest.mark.parametrize("case", GROUP_MISTAKES)
def test_groups_that_do_not_work(case):
    groups, message = GROUP_MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        make_optimizer({"name": "SGD", "lr": 0.1, "groups": groups}, network())


def test_a_group_of_frozen_weights_is_refused(tmp_path):
    optimizer = {"name": "SGD", "lr": 0.1, "groups": [{"modules": ["0"], "lr": 1.0}]}
    with pytest.raises(ValueError, match="names of weights that are not frozen"):
        trainer(tmp_path / "run", optimizer=optimizer, freeze=["0"])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_the_fused_step_is_chosen_on_cuda_alone_and_only_without_another_choice(name, monkeypatch):
    table = {"name": name, "lr": 0.1}
    assert not make_optimizer(table, network()).defaults["fused"]
    assert make_optimizer({**table, "fused": True}, network()).defaults["fused"]
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)  # the same step exists on a CPU
    assert make_optimizer(table, network()).defaults["fused"]
    for way in ("fused", "foreach"):
        assert not make_optimizer({**table, way: False}, network()).defaults["fused"]
    of_group = {**table, "groups": [{"modules": ["4"], "foreach": False}]}
    assert not make_optimizer(of_group, network()).defaults["fused"]
    sparse = torch.nn.Sequential(torch.nn.Embedding(4, 2, sparse=True), torch.nn.Linear(2, 2))
    assert not make_optimizer(table, sparse).defaults["fused"]
    assert "fused" not in make_optimizer("RMSprop", network()).defaults


def test_a_checkpoint_of_before_goes_on_bit_for_bit():
    """Its groups say fused = None, and so they stay."""
    table = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
    old = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    new = make_optimizer(table, network())
    new.load_state_dict(old.state_dict())
    assert [group["fused"] for group in new.param_groups] == [None]
