"""The trainer: what it selects, reports, refuses and leaves behind."""

import gc
import inspect
import json
import math
import re
import tomllib
from dataclasses import replace

import pytest
import torch
from torch import nn

from sparring.attacks import PGD, Free
from sparring.batch import Loss
from sparring.data import Split
from sparring.methods import AT, MART, Method, Standard
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime.annotations import AnyReal
from sparring.threats import Linf
from sparring.training import Epoch, NonFiniteLoss, Trainer, read_weights
from sparring.training.checkpoint import load_last
from sparring.training.optimizer import make_optimizer, optimizer_names
from sparring.training.validate import Score, score
from tests.oracles import Shifted
from tests.training.small import (
    equal,
    finish,
    network,
    objective,
    read_metadata,
    source,
    trainer,
)

CPU = torch.device("cpu")


def test_it_learns_robustly(tmp_path):
    epochs = list(trainer(tmp_path / "run", epochs=12))
    assert epochs[-1].robust >= 0.9
    assert epochs[-1].loss < epochs[0].loss / 2
    assert [epoch.number for epoch in epochs] == list(range(1, 13))
    assert epochs[-1].eps == 0.1
    assert epochs[0].eps == pytest.approx(0.1 * (3 / 48) / 0.5)


def test_one_step_is_the_formulas_step(tmp_path):
    run = trainer(
        tmp_path / "run",
        epochs=1,
        noisy=False,
        augment=[],
        climb=None,
        clip=None,
        schedule=[],
        batch_size=64,
    )
    batch = next(run.loader.epoch(1))
    net, goal = network(noisy=False), objective()
    inner = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    run.stepper.begin_batch(epoch=1, index=0, progress=0.0)
    goal.attack.reseed(run.stepper.objective.attack._current_seed)
    goal.minimize(net, goal.maximize(net, batch)).total.backward()
    inner.step()
    finish(run)
    assert equal(dict(run.model.state_dict()), dict(net.state_dict()))


def test_clipping_bounds_the_step(tmp_path):
    before = network().state_dict()
    run = trainer(
        tmp_path / "run",
        epochs=1,
        batch_size=64,
        clip=1e-3,
        optimizer={"name": "SGD", "lr": 1.0},
        schedule=[],
        climb=None,
    )
    finish(run)
    named = dict(run.model.named_parameters())
    moved = torch.cat([(p - before[k]).flatten() for k, p in named.items()]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=0.05)


def test_a_stepped_average_is_measured_beside_the_weights(tmp_path):
    run = trainer(tmp_path / "run", epochs=2)
    last = list(run)[-1]
    assert run.averaged is run.stepper.ema.module
    assert (
        last.ema_robust
        == score(run.averaged, source().val, PGD(Linf(0.1), steps=2), device=CPU).robust
    )
    assert last.clean == score(run.model, source().val, None, device=CPU).clean
    without = next(iter(trainer(tmp_path / "other", epochs=1, ema=None)))
    assert (without.ema_clean, without.ema_robust) == (None, None)


class Listed:
    """In place of `score`: scores from a list."""

    def __init__(self, scores):
        self.scores = iter(scores)

    def __call__(self, *args, **keywords):
        robust, clean = next(self.scores)
        return Score(robust, clean, True)


def test_the_best_of_weights_and_average_is_kept(tmp_path, monkeypatch):
    scores = [
        (0.5, 0.9),
        (0.4, 0.9),
        (0.5, 0.8),
        (0.6, 0.7),
        (0.6, 0.7),
        (0.6, 0.7),
        (0.6, 0.71),
        (0.1, 1.0),
    ]
    monkeypatch.setattr("sparring.training.trainer.score", Listed(scores))
    run, best, kept = trainer(tmp_path / "run", epochs=4), [], []
    for epoch in run:
        best.append(epoch.best)
        kept.append(read_metadata(tmp_path / "run"))
        model = run.averaged if kept[-1]["which"] == "ema" else run.model
        assert not epoch.best or equal(read_weights(tmp_path / "run"), dict(model.state_dict()))
    assert best == [True, True, False, True]
    assert [about["which"] for about in kept] == ["weights", "ema", "ema", "weights"]
    assert [about["epoch"] for about in kept] == ["1", "2", "2", "4"]
    assert (kept[-1]["robust"], kept[-1]["clean"]) == ("0.6", "0.71")


def test_without_an_attack_clean_accuracy_decides(tmp_path):
    goal = Objective(None, Standard(), Mean())
    run = Trainer(network(), goal, source(), out=tmp_path / "run", epochs=2, batch_size=16)
    epochs = list(run)
    assert [epoch.robust for epoch in epochs] == [None, None]
    assert epochs[0].eps is None
    assert read_metadata(tmp_path / "run")["clean"] == str(max(epoch.clean for epoch in epochs))


def test_validation_by_rows_and_epochs(tmp_path, monkeypatch):
    seen = []

    def spy(model, split, attack, *, device):
        seen.append(len(split))
        return score(model, split, attack, device=device)

    monkeypatch.setattr("sparring.training.trainer.score", spy)
    epochs = list(trainer(tmp_path / "run", rows=5, every=2, ema=None))
    assert seen == [5, 5]
    assert [epoch.clean is None for epoch in epochs] == [True, False, False]
    assert not epochs[0].best


def test_validation_in_bfloat16_of_weights_and_average(tmp_path, monkeypatch):
    """The search runs in bf16, for both; what it found is judged in float32."""
    seen = []

    def spy(model, split, attack, *, device):
        found = score(model, split, attack, device=device)
        kept = attack.precision
        attack.precision = "float32"
        seen.append((kept, found, score(model, split, attack, device=device)))
        attack.precision = kept
        return found

    monkeypatch.setattr("sparring.training.trainer.score", spy)
    attack = PGD(Linf(0.1), steps=2, precision="bfloat16", channels_last=True)
    epochs = list(trainer(tmp_path / "run", epochs=2, validation=attack, rows=12))
    assert [precision for precision, _, _ in seen] == ["bfloat16"] * 4
    for _, found, exact in seen:
        assert found.clean == exact.clean  # predictions themselves are in float32
        assert found.robust == pytest.approx(exact.robust, abs=1 / 12 + 1e-9)
    assert epochs[-1].ema_robust is not None


def test_measuring_counts_and_leaves_the_model_alone():
    split = Split(torch.tensor([[0.2], [0.45], [0.55], [0.8]]), torch.tensor([0, 0, 1, 1]))
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.bias.copy_(torch.tensor([0.5, -0.5]))
    model.train()
    result = score(model, split, PGD(Linf(0.1), steps=3), device=CPU)
    assert (result.clean, result.robust) == (1.0, 0.5)
    weighted = replace(split, weight=torch.tensor([3.0, 1.0, 1.0, 1.0]))
    result = score(model, weighted, PGD(Linf(0.1), steps=3), device=CPU)
    assert result.robust == pytest.approx(4 / 6)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_free_replays_every_batch(tmp_path):
    goal = Objective(Free(Linf(0.1), replays=3), AT(), Mean())
    epochs = list(Trainer(network(), goal, source(), out=tmp_path / "run", epochs=1, batch_size=16))
    assert epochs[0].step == 12


class Fragile(Method):
    """A loss that breaks at a given call."""

    def __init__(self, *, at: int, value: AnyReal) -> None:
        super().__init__()
        self.at, self.value, self.calls = at, value, 0

    def gain(self, model, batch):
        return AT().gain(model, batch)

    def loss(self, model, batch):
        self.calls += 1
        loss = AT().loss(model, batch)
        bad = loss.per_sample * (self.value if self.calls == self.at else 1.0)
        return Loss(bad, penalty=bad.mean(), terms={"strange": bad.mean().detach()})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_reasons(tmp_path, value):
    goal = Objective(PGD(Linf(0.1), steps=1), Fragile(at=6, value=value), Mean())
    run = Trainer(network(), goal, source(), out=tmp_path / "run", epochs=3, batch_size=16)
    with pytest.raises(
        NonFiniteLoss,
        match=rf"the loss is {value} at step 6, in epoch 2 \(strange {value}.*lower lr",
    ):
        finish(run)
    state = load_last(tmp_path / "run")
    assert state["position"]["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in state["model"].values())
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    out = tmp_path / "run"
    run, steps = trainer(out, epochs=2, ema=None, climb=None), []
    move = run.stepper.optimizer.step

    def step():
        steps.append(move())
        if len(steps) == 8:
            run.model[0].weight.data.fill_(math.inf)

    monkeypatch.setattr(run.stepper.optimizer, "step", step)
    with pytest.raises(NonFiniteLoss, match="the weights are not finite after step 8"):
        finish(run)
    assert load_last(out)["position"]["epoch"] == 1
    assert all(torch.isfinite(w).all() for w in read_weights(out).values())


def test_between_epochs_the_model_is_in_eval_mode_and_bare(tmp_path):
    net = network()
    run = Trainer(
        net, objective(), source(), out=tmp_path / "run", epochs=1, batch_size=16, device="cpu"
    )
    for _ in run:
        assert run.model is net
        assert not any(m.training for m in net.modules())


def test_memory_does_not_grow_over_epochs(tmp_path):
    counts = []
    for _ in trainer(tmp_path / "run", epochs=5, save_every=3):
        gc.collect()
        counts.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    assert counts[2] >= counts[-1]


def test_validation_time_is_not_training_time(tmp_path, monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            Clock.now += 1.0
            return Clock.now

    def slow(*args, **keywords):
        Clock.now += 1000.0
        return Score(0.5, 0.5)

    monkeypatch.setattr("sparring.training.clock.time", Clock())
    monkeypatch.setattr("sparring.training.trainer.score", slow)
    last = list(trainer(tmp_path / "run", ema=None))[-1]
    assert last.seconds < 50
    assert last.val_seconds > 3000
    assert last.samples_per_second == pytest.approx(64 / 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"rows": 0}, "rows = 0"),
        ({"every": 0}, "every = 0"),
        ({"save_every": 0}, "save_every = 0"),
        ({"clip": 0.0}, "clip = 0.0"),
        ({"amp": "float8"}, "amp = 'float8'"),
        ({"optimizer": "SDG"}, "did you mean 'SGD'"),
        ({"optimizer": {"name": "SGD", "lrr": 1}}, "did you mean 'lr'"),
        ({"optimizer": {"lr": 1}}, "optimizer.name = 'None' does not exist"),
        ({"optimizer": {"name": "SGD", "lr": -1.0}}, "optimizer.lr = -1.0 is not allowed"),
        ({"schedule": [{"path": "lr", "name": "cosin"}]}, "did you mean 'cosine'"),
        ({"device": "cuda:99"}, "device"),
    ],
)
def test_mistakes_are_told_and_leave_no_folder(tmp_path, change, message):
    if change.get("device") and torch.cuda.is_available():
        pytest.skip("speaks of machines without CUDA")
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_a_model_of_other_classes_and_a_frozen_one_are_told(tmp_path):
    with pytest.raises(
        ValueError, match=r"the model returns \(b, 5\); it must return logits \(b, 3\)"
    ):
        Trainer(nn.Linear(6, 5), objective(), source(), out=tmp_path / "run")
    with pytest.raises(ValueError, match="no weights to train"):
        Trainer(network().requires_grad_(False), objective(), source(), out=tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        Trainer(network(), objective(), source(), out=tmp_path / "file")


def test_optimizers_of_pytorch_by_name():
    assert {"SGD", "AdamW", "Adam", "RMSprop"} <= set(optimizer_names())
    assert not {"Optimizer", "LBFGS"} & set(optimizer_names())
    optimizer = make_optimizer({"name": "AdamW", "betas": [0.9, 0.95]}, network())
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    plain, norms = make_optimizer(
        {"name": "SGD", "weight_decay": 0.1}, network(), decay_norm=False
    ).param_groups
    assert all(p.ndim > 1 for p in plain["params"])
    assert all(p.ndim == 1 for p in norms["params"])
    assert (plain["weight_decay"], norms["weight_decay"]) == (0.1, 0.0)
    with_dual = Objective(None, MART(), Mean())
    with_dual.risk.register_parameter("dual", nn.Parameter(torch.ones(())))
    groups = make_optimizer({"name": "SGD", "weight_decay": 0.1}, network(), with_dual).param_groups
    assert groups[-1]["params"] == [with_dual.risk.dual]
    assert groups[-1]["weight_decay"] == 0.0


def test_the_recipe_is_kept(tmp_path):
    recipe = {"recipe": {"name": "small", "seed": 0}, "train": {"epochs": 1}}
    finish(trainer(tmp_path / "run", epochs=1, recipe=recipe))
    assert tomllib.loads((tmp_path / "run" / "recipe.toml").read_text()) == recipe


def epoch(**change) -> Epoch:
    facts = {
        "number": 1,
        "step": 4,
        "loss": 1.5,
        "terms": {"kl": 0.25},
        "clean": 0.9,
        "robust": 0.5,
    }
    facts |= {
        "ema_clean": None,
        "ema_robust": None,
        "lr": 0.1,
        "eps": 0.3,
        "seconds": 2.0,
        "val_seconds": 1.0,
    }
    return Epoch(**{**facts, "samples_per_second": 32.0, "best": True, **change})


def test_an_epoch_is_a_row_of_a_table():
    cells = {"epoch": "1", "loss": "1.500", "clean": "90.0", "robust": "50.0", "averaged": ""}
    assert epoch().cells() == cells | {"s": "2.0", "best": "best"}
    assert epoch(best=False, clean=None).cells()["clean"] == ""
    assert epoch(ema_clean=0.8).cells()["averaged"] == "80.0"
    assert epoch(ema_clean=0.8, ema_robust=0.3).cells()["averaged"] == "30.0"


def test_every_keyword_is_documented():
    text = inspect.getdoc(Trainer)
    for name in inspect.signature(Trainer).parameters:
        pattern = rf"^ +([a-z_, ]+, )?{name}(, [a-z_, ]+)?:"
        assert re.search(pattern, text, re.MULTILINE), name


def test_a_row_is_plain():
    assert json.loads(json.dumps(epoch().row()))["epoch"] == 1


@pytest.mark.parametrize("attack", [None, PGD(Linf(0.1), steps=3)], ids=["clean", "attacked"])
def test_a_network_that_writes_to_its_input_has_the_score_of_its_twin(attack):
    twin, odd = Shifted(in_place=False).eval(), Shifted(in_place=True).eval()
    x = torch.rand(60, 6)
    split, kept = Split(x, twin(x).argmax(1)), x.clone()
    assert score(odd, split, attack, device=CPU) == score(twin, split, attack, device=CPU)
    assert torch.equal(x, kept)
