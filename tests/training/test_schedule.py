"""Schedules against their closed forms, PyTorch's own, and what a recipe may get wrong."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from sparring.attacks import PGD
from sparring.methods import MART, Standard
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from sparring.training.optimizer import make_optimizer
from sparring.training.schedule import SCHEDULES, BoundSchedule, bind_schedules
from sparring.weights import AWP, EMA

GRID = [k / 20 for k in range(21)]


def pieces(config=None, **more):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    config = config or {"name": "SGD", "lr": 0.2, "momentum": 0.9, "weight_decay": 0.1}
    objective = Objective(PGD(Linf(0.3)), MART(beta=4.0), Mean())
    return {
        "optimizer": make_optimizer(config, model, **more),
        "objective": objective,
        "epochs": 10,
    }


def values(name, base=2.0, **keywords):
    return [SCHEDULES[name](p, base=base, **keywords) for p in GRID]


def torch_values(make, n):
    weight = torch.nn.Parameter(torch.zeros(1))
    inside = torch.optim.SGD([weight], lr=2.0)
    scheduler = make(inside)
    rates = []
    for _ in range(n):
        rates.append(inside.param_groups[0]["lr"])
        inside.step()
        scheduler.step()
    return rates


def test_constant():
    assert set(values("constant")) == {2.0}
    assert set(values("constant", value=0.5)) == {0.5}


def test_ramp_is_a_line_between_two_levels():
    result = values("ramp", start=1.0, since=0.25, until=0.75)
    assert result == pytest.approx([1 + min(1, max(0, (p - 0.25) / 0.5)) for p in GRID])
    assert values("ramp", end=0.4)[-1] == 0.4
    assert values("ramp", until=0.0) == [2.0] * 21


def test_warmup_is_a_ramp_to_the_base():
    assert values("warmup", until=0.5) == pytest.approx([2 * min(1, 2 * p) for p in GRID])
    assert values("warmup", start=0.1, until=0.5)[0] == pytest.approx(0.2)


def test_cosine_is_pytorchs():
    theirs = torch_values(lambda o: CosineAnnealingLR(o, T_max=20, eta_min=0.2), 21)
    assert values("cosine", end=0.1) == pytest.approx(theirs)
    warm = values("cosine", warmup=0.2)
    assert warm[:5] == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert warm[-1] == pytest.approx(0, abs=1e-12)
    halfway = 0.2 + 0.8 / 2
    assert SCHEDULES["cosine"](halfway, base=2.0, warmup=0.2) == pytest.approx(1.0)
    late = values("cosine", warmup=0.2, since=0.5)
    assert late[:11] == pytest.approx([0, 0.5, 1, 1.5] + [2.0] * 7)
    assert late[15] == pytest.approx(1.0)
    assert late[20] == pytest.approx(0.0)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_one_cycle_is_pytorchs(shape):
    strategy = {"cosine": "cos", "linear": "linear"}[shape]

    def make(inside):
        more = {"total_steps": 21, "pct_start": 7 / 21, "cycle_momentum": False}
        return OneCycleLR(inside, max_lr=2.0, anneal_strategy=strategy, **more)

    theirs = torch_values(make, 20)  # its phases are counted one step short
    ours = [SCHEDULES["one-cycle"](p, base=2.0, up=6 / 20, shape=shape) for p in GRID]
    assert ours[:20] == pytest.approx(theirs, abs=1e-5)
    assert ours[-1] == pytest.approx(2.0 * 4e-6)


def test_piecewise_counts_places():
    result = values("piecewise", at=[0.5, 0.75], factor=0.1)
    assert result == pytest.approx([2 * 0.1 ** ((p >= 0.5) + (p >= 0.75)) for p in GRID])
    assert values("piecewise", at=[0.5], warmup=0.1)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_is_finite_and_not_negative(name):
    more = {"at": [0.5]} if name == "piecewise" else {}
    assert all(math.isfinite(v) and 0 <= v <= 2 for v in values(name, **more))


def test_epochs_and_shares_name_the_same_places():
    options = pieces()
    shares = BoundSchedule({"path": "lr", "name": "piecewise", "at": [0.5, 0.75]}, **options)
    epochs = BoundSchedule({"path": "lr", "name": "piecewise", "at": [5, 7.5]}, **options)
    assert [shares(p) for p in GRID] == [epochs(p) for p in GRID]
    assert epochs(5 / 10) == pytest.approx(0.02)


def test_paths_reach_every_room():
    climb, ema, options = AWP(gamma=0.01), EMA(decay=0.9), pieces(decay_norm=False)
    paths = {
        "lr": 0.2,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 0.1,
        "threat.eps": 0.3,
        "method.beta": 4.0,
        "natural": 0.0,
        "weights.climb.gamma": 0.01,
        "weights.ema.decay": 0.9,
    }
    tables = [{"path": path, "name": "ramp"} for path in paths]
    bound = bind_schedules(tables, climb=climb, ema=ema, **options)
    assert [schedule(0.5) for schedule in bound] == [base / 2 for base in paths.values()]
    decayed, kept = options["optimizer"].param_groups
    assert (decayed["lr"], decayed["momentum"], decayed["weight_decay"]) == (0.1, 0.45, 0.05)
    assert (kept["lr"], kept["momentum"], kept["weight_decay"]) == (0.1, 0.45, 0.0)
    objective = options["objective"]
    assert (objective.attack.threat.eps, objective.method.beta) == (0.15, 2.0)
    assert (climb.gamma, ema.decay) == (0.005, 0.45)


def test_a_schedule_goes_on_with_a_loaded_optimizer():
    options = pieces()
    bound = BoundSchedule({"path": "lr", "name": "ramp"}, **options)
    options["optimizer"].load_state_dict(options["optimizer"].state_dict())
    bound(0.5)
    assert options["optimizer"].param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"path": "lr", "name": "cosin"}, "did you mean 'cosine'"),
        ({"path": "lr", "name": "cosine", "ends": 0}, "did you mean 'end'"),
        ({"path": "lr", "name": "cosine", "epochs": 3}, "schedule cosine: key = 'epochs'"),
        ({"path": "lr", "name": "cosine", "end": "low"}, "schedule.end = 'low' is not allowed"),
        ({"path": "lr", "name": "warmup", "until": -1}, "schedule.until = -1 is not allowed"),
        ({"path": "lr", "name": "piecewise"}, "at = None is not allowed: at must be set"),
        ({"path": "lr", "name": "one-cycle", "shape": "round"}, "shape = 'round'"),
        ({"path": "lr"}, "schedule.name = None"),
        ({"name": "cosine"}, "schedule.path = None"),
        ({"path": "optimizer.momentun", "name": "cosine"}, "did you mean 'optimizer.momentum'"),
        ({"path": "attack.threat.epz", "name": "cosine"}, "Linf has no 'epz'; it has eps"),
        ({"path": "method.gamma", "name": "cosine"}, "MART has no 'gamma'; it has beta"),
        ({"path": "attack.threat", "name": "cosine"}, "must be a number"),
        ({"path": "attack.loss", "name": "cosine"}, "must be a number"),
        ({"path": "weights.climb.gamma", "name": "cosine"}, "has no 'gamma' to set"),
    ],
)
def test_mistakes_are_told(table, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("(", r"\(")):
        BoundSchedule(table, **pieces())


def test_no_attack_and_two_on_one_path():
    options = pieces()
    without = {**options, "objective": Objective(None, Standard(), Mean())}
    with pytest.raises(ValueError, match="has no 'threat' to set"):
        BoundSchedule({"path": "attack.threat.eps", "name": "ramp"}, **without)
    with pytest.raises(ValueError, match="scheduled once"):
        bind_schedules(
            [{"path": "lr", "name": "ramp"}, {"path": "lr", "name": "cosine"}], **options
        )


def test_one_number_under_two_spellings_is_refused():
    options = pieces()
    for pair in (("lr", "optimizer.lr"), ("threat.eps", "attack.threat.eps")):
        tables = [{"path": path, "name": "ramp"} for path in pair]
        with pytest.raises(ValueError, match=f"scheduled once, as {pair[1]}"):
            bind_schedules(tables, **options)
    # others of the same last name are other numbers
    two = [{"path": path, "name": "ramp"} for path in ("lr", "threat.eps")]
    assert len(bind_schedules(two, **options)) == 2


@pytest.mark.parametrize("name", ["steps", "restarts"])
def test_a_whole_number_stays_whole(name):
    options = pieces()
    options["objective"].attack.restarts = 4
    attack, table = options["objective"].attack, {"path": f"attack.{name}", "name": "ramp"}
    base = getattr(attack, name)
    bound = BoundSchedule({**table, "start": 1}, **options)
    seen = [bound(p) for p in GRID]
    assert seen == [round(1 + (base - 1) * p) for p in GRID]
    assert all(type(value) is int for value in (*seen, getattr(attack, name)))
    bound(0.55)
    x, y = torch.rand(3, 2), torch.tensor([0, 1, 0])
    assert attack(torch.nn.Linear(2, 2), x, y).shape == x.shape
    with pytest.raises(ValueError, match=f"{name} = 0 is not allowed"):
        BoundSchedule({**table, "start": 0.4}, **options)
