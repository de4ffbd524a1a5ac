"""Trainings that begin from other weights, and freeze modules."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sparring.attacks import PGD
from sparring.functional.losses import cross_entropy
from sparring.introspect import freeze
from sparring.methods import AT
from sparring.models import WeightMismatch, load_weights
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf
from sparring.training import Trainer, fine_tuning, read_weights
from sparring.training.checkpoint import load_last
from sparring.weights import AWP, EMA, SAM
from tests.training.small import D, K, equal, finish, network, objective, source, tensors, trainer

CPU = torch.device("cpu")
FASTER = [{"modules": ["4"], "lr_scale": 2.0}]
TUNED = {
    "freeze": ["0", "1"],
    "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9, "groups": FASTER},
}


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def other_weights(*, classes: int = K) -> dict[str, torch.Tensor]:
    """Weights and statistics of a network of the same layers, with another head perhaps."""
    draw = torch.Generator().manual_seed(3)
    out = {}
    for key, value in network().state_dict().items():
        shape = (classes, *value.shape[1:]) if key.startswith("4.") else value.shape
        out[key] = (torch.rand(shape, generator=draw) + 0.5).to(value.dtype)
    return out


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A finished run to start from."""
    out = tmp_path_factory.mktemp("earlier") / "run"
    finish(trainer(out, epochs=1))
    return out


# start


def test_a_run_a_file_a_state_dict_and_a_module_start_alike(tmp_path, earlier):
    weights = read_weights(earlier)
    file, pickled = tmp_path / "w.safetensors", tmp_path / "w.pt"
    save_file(weights, file)
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, pickled)
    module = network()
    module.load_state_dict(weights)
    starts = [earlier, str(earlier), file, pickled, weights, module]
    records = []
    for k, start in enumerate(starts):
        run = trainer(tmp_path / f"{k}", start=start)
        assert equal(state_of(run.model), weights)  # batch statistics too
        assert equal(state_of(run.averaged), weights)
        records.append(json.loads((tmp_path / f"{k}" / "start.json").read_text()))
    assert len({record["sha256"] for record in records}) == 1
    assert records[0]["weights"] == str(earlier)
    assert records[4]["weights"] == "state dict"
    assert records[0]["left_out"] == []


def test_the_first_step_is_that_of_the_start_weights(tmp_path):
    """Twin: SGD from those weights, written out."""
    weights = other_weights()
    goal = Objective(None, AT(), Mean())
    more = {"augment": [], "climb": None, "ema": None, "schedule": [], "clip": None, "epochs": 1}
    options = {"optimizer": {"name": "SGD", "lr": 0.1}, "batch_size": 64, "validation": None}
    net = network(noisy=False)
    del weights["1.weight"], weights["1.bias"]
    weights = {k: v for k, v in weights.items() if not k.startswith("1.")}
    start = {k.replace("4.", "2."): v for k, v in weights.items()}
    del more["epochs"]
    more = {k: v for k, v in more.items() if v is not None}
    run = Trainer(net, goal, source(), out=tmp_path / "r", epochs=1, start=start, **more, **options)
    finish(run)
    twin = network(noisy=False)
    twin.load_state_dict(start)
    data = source().train
    order = torch.cat([batch.index for batch in run.loader.epoch(1)])
    cross_entropy(twin(data.float(order)), data.y[order]).mean().backward()
    for p, q in zip(run.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.1 * q.grad)


def test_a_head_of_other_classes_is_refused_with_the_way_out(tmp_path):
    weights, net = other_weights(classes=7), network()
    before = state_of(net)
    message = (
        r"start = state dict does not fit the model \(shapes: 4.weight \(7, 16\) for \(3, 16\), "
        r"4.bias \(7,\) for \(3,\)\): .*start_without = \[\"4\"\]"
    )
    with pytest.raises(ValueError, match=message):
        Trainer(net, objective(), source(), out=tmp_path / "run", start=weights)
    assert equal(state_of(net), before)
    assert not (tmp_path / "run").exists()


def test_a_head_that_is_left_out_keeps_its_first_weights(tmp_path):
    weights, fresh = other_weights(classes=7), network().state_dict()
    run = trainer(tmp_path / "run", start=weights, start_without=["4"])
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, fresh[key] if key.startswith("4.") else weights[key])
    record = json.loads((tmp_path / "run" / "start.json").read_text())
    assert record["left_out"] == ["4.bias", "4.weight"]


def test_a_head_of_another_name_is_left_out_by_both_names(tmp_path):
    weights = {k.replace("4.", "fc."): v for k, v in other_weights(classes=7).items()}
    with pytest.raises(ValueError, match=r'start_without = \["4", "fc"\]'):
        trainer(tmp_path / "run", start=weights)
    run = trainer(tmp_path / "run", start=weights, start_without=["4", "fc"])
    assert torch.equal(run.model[0].weight, weights["0.weight"])


WRONG_STARTS = {
    "another network": ({"a": torch.zeros(1)}, (), "these are the weights of another network"),
    "a name of no module": (other_weights(), ("hed",), "start_without = 'hed' does not exist"),
    "everything left out": (other_weights(), ("*",), "must be patterns that leave some weights"),
    "no state dict": ({"a": 1}, (), "holds no state dict"),
    "a number": (3, (), "start must be"),
}


@pytest.mark.parametrize("case", WRONG_STARTS)
def test_a_start_that_does_not_work(tmp_path, case):
    start, without, message = WRONG_STARTS[case]
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run", start=start, start_without=without)
    assert not (tmp_path / "run").exists()


def test_a_start_that_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "code.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(FileNotFoundError, match=r"has no best\.safetensors"):
        trainer(tmp_path / "run", start=tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="start: there is no file or run folder at"):
        trainer(tmp_path / "run", start=tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"damaged|refused"):
        trainer(tmp_path / "run", start=tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"start_without = .*there is no start"):
        trainer(tmp_path / "run", start_without=["4"])


def test_a_link_in_a_strangers_run_is_refused(tmp_path, earlier):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").symlink_to(earlier / "best.safetensors")
    with pytest.raises(ValueError, match="symbolic link"):
        trainer(tmp_path / "new", start=tmp_path / "run")


def test_resuming_needs_no_start_and_tells_of_a_changed_one(tmp_path):
    file, out = tmp_path / "w.safetensors", tmp_path / "run"
    save_file(other_weights(), file)
    whole = finish(trainer(tmp_path / "whole", start=file))
    next(iter(trainer(out, start=file)))
    file.unlink()
    assert equal(finish(trainer(out, start=file, resume=True)), whole)
    save_file({k: v + 1 for k, v in other_weights().items()}, file)
    with pytest.warns(SparringWarning, match="have changed since .* goes on"):
        trainer(out, start=file, resume=True)
    save_file(other_weights(classes=9), file)
    with pytest.warns(SparringWarning, match="have changed since"):
        trainer(out, start=file, resume=True)
    save_file(other_weights(), file)
    trainer(out, start=file, resume=True)  # no warning


def test_another_start_or_freeze_is_another_training(tmp_path):
    out = tmp_path / "run"
    next(iter(trainer(out, start=other_weights(), **TUNED)))
    changes = {"start": state_of(network()), "start_without": ["4"], "freeze": ["0"]}
    for key, value in changes.items():
        warnings.simplefilter("ignore", SparringWarning)
        with pytest.raises(ValueError, match=f"can't go on with other settings: .*{key} was"):
            trainer(out, resume=True, **{"start": other_weights(), **TUNED, key: value})


def test_runs_without_these_settings_do_not_name_them(tmp_path):
    next(iter(trainer(tmp_path / "run")))
    settings = json.loads(load_last(tmp_path / "run")["settings"])
    assert not {"start", "start_without", "freeze"} & settings.keys()
    assert not (tmp_path / "run" / "start.json").exists()


# freeze


CLIMBS = {"none": None, "AWP": AWP(gamma=0.01), "SAM": SAM(rho=0.05)}


@pytest.mark.parametrize("climb", CLIMBS)
def test_frozen_weights_and_statistics_stay_bit_for_bit(tmp_path, climb):
    weights = other_weights()
    run = trainer(tmp_path / "run", start=weights, climb=CLIMBS[climb], **TUNED)
    held = sum(len(group["params"]) for group in run.stepper.optimizer.param_groups)
    assert held == 2
    finish(run)
    for net in (run.model, run.averaged):
        moved = {k for k, v in net.state_dict().items() if not torch.equal(v, weights[k])}
        assert moved == {"4.weight", "4.bias"}
    assert set(run.stepper.optimizer.state) == {run.model[4].weight, run.model[4].bias}
    assert all(p.grad is None for p in run.model[:2].parameters())
    assert read_weights(tmp_path / "run")["1.running_mean"].equal(weights["1.running_mean"])


def test_frozen_batch_norm_normalises_by_its_running_statistics_in_attack_and_loss(tmp_path):
    seen = []

    class Recorded(nn.BatchNorm1d):
        def forward(self, x):
            seen.append(self.training)
            return super().forward(x)

    net = nn.Sequential(nn.Linear(D, 4), Recorded(4), nn.Linear(4, 4), Recorded(4), nn.Linear(4, K))
    goal = Objective(PGD(Linf(0.1), steps=1, mode="train"), AT(), Mean())
    run = Trainer(net, goal, source(), out=tmp_path / "r", epochs=1, batch_size=32, freeze=["1"])
    run.stepper.train()
    seen.clear()
    batch = next(run.loader.epoch(1))
    run.stepper.begin_batch(epoch=1, index=0, progress=0.0)
    run.stepper.step(batch, epoch=1, number=1)
    assert seen[::2] == [False] * (len(seen) // 2)
    assert seen[1::2] == [True] * (len(seen) // 2)
    assert net[1].num_batches_tracked == 0 < net[3].num_batches_tracked


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["5"], r"freeze = '5' does not exist.*There are: 0, 1, 4$"),
        (["*"], "freeze must be patterns that leave weights to train"),
        (["0", "1", "4"], "patterns that leave weights to train"),
        ("0", "freeze"),
    ],
)
def test_patterns_that_freeze_nothing_or_all(tmp_path, patterns, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run", freeze=patterns)
    assert not (tmp_path / "run").exists()


def test_a_batch_norm_without_weights_and_shared_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)
            self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
            self.second.weight = self.first.weight

    net = Tied()
    assert fine_tuning.freeze_weights(net, ["norm", "second.weight"]) == [net.norm]
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["first.weight"]


def test_the_line_above_the_epochs_says_how_many_weights_are_trained(tmp_path):
    from sparring.training.describe import facts

    run = trainer(tmp_path / "run", freeze=["0", "1"])
    line = facts(
        run.stepper.objective, run.model, None, length="1 epoch", epochs_done=0, device=CPU
    )
    assert line[2] == "Sequential, 195 parameters (51 trained)"


def test_a_view_keeps_modules_in_eval_mode():
    net = network()
    view = freeze.ModelView(net, kept_in_eval=[net[1]])
    view.train()
    assert net[0].training
    assert not net[1].training
    with freeze.frozen(view, "train"):
        assert net[2].training
        assert not net[1].training
    view.eval()
    assert not net.training


# resume


@pytest.mark.parametrize("epochs", [1, 2])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, epochs):
    options = {"start": other_weights(), "save_every": 2, **TUNED}
    whole = finish(trainer(tmp_path / "whole", **options))
    for epoch in trainer(tmp_path / "run", **options):
        if epoch.number == epochs:
            break
    assert equal(finish(trainer(tmp_path / "run", resume=True, **options)), whole)


# models.load_weights


def test_load_weights_leaves_modules_out():
    net, weights = network(), other_weights(classes=7)
    fresh = state_of(net)
    assert load_weights(net, weights, without=["4"]) == WeightMismatch([], [], [])
    assert torch.equal(net[4].weight, fresh["4.weight"])
    assert torch.equal(net[0].weight, weights["0.weight"])
    with pytest.raises(ValueError, match="without = 'hed' does not exist"):
        load_weights(net, weights, without=["hed"])


def test_ema_and_best_weights_come_from_a_tuned_run(tmp_path):
    run = trainer(tmp_path / "run", start=other_weights(), ema=EMA(decay=0.9), **TUNED)
    finish(run)
    saved = load_file(tmp_path / "run" / "best.safetensors")
    assert saved.keys() == network().state_dict().keys()
    assert tensors(saved).keys()


def test_an_old_gradient_of_a_frozen_weight_clips_no_step(tmp_path):
    """As a loop of the user's leaves one behind."""
    runs = [trainer(tmp_path / name, noisy=False, freeze=["0"]) for name in "ab"]
    weight = runs[0].model[0].weight
    weight.grad = torch.full_like(weight, 100.0)
    assert equal(*map(finish, runs))
    assert not runs[0].averaged.training
