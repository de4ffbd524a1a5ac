import json
import signal
import subprocess
import sys

import pytest
import torch

from sparring.attacks import PGD, Noise
from sparring.evaluation import Suite, evaluate
from sparring.runtime.warning import SparringWarning


class Counting:
    """An attack that counts its calls and stops at one of them."""

    def __init__(self, attack, calls, stop):
        self.attack, self.calls, self.stop = attack, calls, stop
        self.reseed = attack.reseed

    def __call__(self, model, x, y):
        if len(self.calls) == self.stop:
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
