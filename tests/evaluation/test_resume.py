import json
import signal
import subprocess
import sys

import pytest
import torch

from sparring.attacks import PGD, Noise, Transfer
from sparring.evaluation import Suite, evaluate
from sparring.evaluation.cache import CONTINUED
from sparring.runtime.warning import SparringWarning


class Counting:
    """An attack that counts its calls and stops at one of them."""

    def __init__(self, attack, calls, stop):
        # in a list: a plain number would be one of the attack's settings, which records are of
        self.attack, self.calls, self.stop = attack, calls, [stop]
        self.reseed = attack.reseed

    def __call__(self, model, x, y):
        if [len(self.calls)] == self.stop:
            raise KeyboardInterrupt
        self.calls.append(len(x))
        return self.attack(model, x, y)


def suite(calls, stop=-1):
    return Suite(
        "own",
        1,
        (
            ("noise", lambda t: Counting(Noise(t, draws=2), calls, stop)),
            ("PGD", lambda t: Counting(PGD(t, steps=3), calls, stop)),
        ),
    )


def run(problem, calls, stop=-1, **kw):
    kw = {"eps": [0.02, 0.05], "batch_size": 20, **kw}
    data = (problem.x, problem.y)
    return evaluate(problem.model, data, "Linf", suite(calls, stop), progress=False, **kw)


@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_a_stopped_evaluation_goes_on_and_ends_the_same(problem, tmp_path, same, stop):
    out, calls = tmp_path / "r.json", []
    with pytest.raises(KeyboardInterrupt):
        run(problem, calls, stop, out=out)
    assert not out.exists()
    whole = run(problem, every := [])
    rest = []
    same(run(problem, rest, out=out), whole)
    assert len(calls) == stop
    assert calls + rest == every
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".npz"] == ["r.json"]
    assert len(list(tmp_path.iterdir())) == 2


def interrupted(problem, out, **kw):
    calls = []
    with pytest.raises(KeyboardInterrupt):
        run(problem, calls, 6, out=out, resume=False, **kw)
    return next(out.with_name("r.json.partial").iterdir())


def test_the_state_of_another_model_or_of_other_settings_is_not_used(problem, tmp_path, same):
    out = tmp_path / "r.json"
    interrupted(problem, out)
    for change in ({"seed": 1}, {"batch_size": 19}, {"eps": 0.02}, {"cascade": True}):
        whole = run(problem, every := [], **change)
        kept = out.with_name("r.json.partial")
        with pytest.raises(KeyboardInterrupt):
            run(problem, [], 0, out=out, **change)
        assert len(list(kept.iterdir())) == 2
        same(run(problem, rest := [], out=out, **change), whole)
        assert rest == every
        assert len(list(kept.iterdir())) == 1  # the state of other settings stays
    problem.model.w.data.mul_(0.5)
    problem.model.b.data.mul_(0.5)
    whole = run(problem, every := [])
    same(run(problem, rest := [], out=out), whole)
    assert rest == every


def continued(result):
    return any(note.startswith(CONTINUED) for note in result.notes)


@pytest.mark.parametrize("wrap", [lambda attack: attack, lambda attack: Counting(attack, [], -1)])
def test_the_records_of_an_edited_attack_are_not_used(problem, tmp_path, same, wrap):
    def run_own(steps, **kw):
        own = Suite("own", 1, (("PGD", lambda t: wrap(PGD(t, steps=steps, size=0.01))),))
        options = {"eps": 0.05, "batch_size": 20, "progress": False, **kw}
        return evaluate(problem.model, (problem.x, problem.y), "Linf", own, **options)

    out = tmp_path / "r.json"
    assert run_own(2, out=out, queries=60).early
    edited = run_own(20, out=out)
    assert not continued(edited)
    same(edited, run_own(20))
    assert continued(run_own(2, out=out))


class Foreign:
    """An attack without a base class, with plain numbers as its settings."""

    size = 0.01

    def __init__(self, threat, steps):
        self.threat, self.steps = threat, steps

    def __call__(self, model, x, y):
        return PGD(self.threat, steps=self.steps, size=self.size)(model, x, y)


class Edited(Foreign):
    """The same with other code."""

    def __call__(self, model, x, y):
        return PGD(self.threat, steps=self.steps + 18, size=0.01)(model, x, y)


class Twin(Foreign):
    """The same code as `Foreign` has."""


class Larger(Foreign):
    """The same with another number."""

    size = 0.05


for kind in (Edited, Twin, Larger):  # as after an edit of the class
    kind.__qualname__ = "Twin"


def as_function(threat, steps):
    return lambda model, x, y: Foreign(threat, steps)(model, x, y)


@pytest.mark.parametrize(
    ("make", "edited"),
    [
        (lambda t: Foreign(t, 2), lambda t: Foreign(t, 20)),
        (lambda t: Twin(t, 2), lambda t: Edited(t, 2)),
        (lambda t: Twin(t, 2), lambda t: Larger(t, 2)),
        (lambda t: as_function(t, 2), lambda t: as_function(t, 20)),
    ],
    ids=["a number", "its code", "of its class", "a function"],
)
def test_the_records_of_an_edited_foreign_attack_are_not_used(
    problem, tmp_path, same, make, edited
):
    def run_own(made, **kw):
        own = Suite("own", 1, (("PGD", made),))
        options = {"eps": 0.05, "batch_size": 20, "progress": False, **kw}
        return evaluate(problem.model, (problem.x, problem.y), "Linf", own, **options)

    out = tmp_path / "r.json"
    assert run_own(make, out=out, queries=60).early
    new = run_own(edited, out=out)
    assert not continued(new)
    same(new, run_own(edited))
    assert continued(run_own(make, out=out))


def transferred(net):
    return Suite("own", 1, (("PGD", lambda t: Transfer(t, surrogate=net, attack=PGD(t, steps=2))),))


def test_the_weights_inside_of_an_attack_count(problem, tmp_path):
    surrogate, out = torch.nn.Linear(6, 2), tmp_path / "r.json"
    options = {"eps": 0.05, "batch_size": 20, "out": out, "progress": False}

    def run_own(**kw):
        own = transferred(surrogate)
        return evaluate(problem.model, (problem.x, problem.y), "Linf", own, **options, **kw)

    assert run_own(queries=20).early
    second = run_own(queries=40)
    assert continued(second)
    assert second.early
    surrogate.weight.data.mul_(-1)
    assert not continued(run_own())


def test_an_attack_that_cannot_be_hashed_keeps_no_records(problem, tmp_path):
    rows = (row for row in ())
    own = transferred(lambda x: problem.model(x) if rows else None)
    data, options = (problem.x, problem.y), {"eps": 0.05, "progress": False}
    with pytest.warns(SparringWarning, match="'rows' of the suite can't be hashed"):
        evaluate(problem.model, data, "Linf", own, out=tmp_path / "r.json", queries=60, **options)
    assert not (tmp_path / "r.json.partial").exists()


def test_without_resume_it_begins_again(problem, tmp_path, same):
    out = tmp_path / "r.json"
    interrupted(problem, out)
    whole = run(problem, every := [])
    same(run(problem, rest := [], out=out, resume=False), whole)
    assert rest == every


def test_a_damaged_record_is_run_again(problem, tmp_path, same):
    out = tmp_path / "r.json"
    folder = interrupted(problem, out)
    records = sorted(folder.glob("0-*.npz"))
    records[0].write_bytes(records[0].read_bytes()[:40])
    records[1].write_bytes(b"")
    with pytest.warns(SparringWarning, match="damaged, or written by another user"):
        same(run(problem, rest := [], out=out), run(problem, every := []))
    assert len(rest) == len(every) - 6 + 2


def test_the_state_says_what_it_is_of(problem, tmp_path):
    folder = interrupted(problem, tmp_path / "r.json")
    settings = json.loads((folder / "settings.json").read_text())
    assert [threat["eps"] for threat in settings["threat"]] == [0.02, 0.05]
    assert settings["suite"] == ["own", 1, ["noise", "PGD"]]


KILLED = """
import os, signal, torch
from sparring.attacks import PGD
from sparring.evaluation import Suite, evaluate

calls = []

class Attack:
    def __init__(self, threat):
        self.attack = PGD(threat, steps=2)
        self.reseed = self.attack.reseed
    def __call__(self, model, x, y):
        calls.append(1)
        if len(calls) == STOP:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.attack(model, x, y)

x = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
suite = Suite("own", 1, (("A", Attack),))
result = evaluate(lambda x: x, (x, x.argmax(1)), "Linf", suite, eps=[0.05, 0.1], batch_size=10,
                  out=OUT, progress=False)
"""


def test_kill_9(tmp_path, same):
    def script(stop, name):
        return f"STOP, OUT = {stop}, {str(tmp_path / name)!r}{KILLED}"

    threads = f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
    killed = subprocess.run([sys.executable, "-c", threads + script(6, "r.json")], check=False)
    assert killed.returncode == -signal.SIGKILL
    rest, whole = {"__name__": "__main__"}, {}
    exec(script(0, "r.json"), rest)
    exec(script(0, "whole.json"), whole)
    assert (len(rest["calls"]), len(whole["calls"])) == (3, 8)
    same(rest["result"], whole["result"])
