"""`processes` starts what torchrun starts: the result of one process, and no process left over."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sparring import evaluation
from sparring.evaluation import SUITES, EvaluationProtocol, evaluate, processes
from sparring.results.result import Result
from tests.command import call
from tests.evaluation.fixtures import Linear, Problem

PAIR = 2


class Fails(Linear):
    """A model that fails under attack in the second process."""

    def forward(self, x):
        if x.requires_grad and torch.distributed.get_rank() == 1:
            self.end()
        return super().forward(x)

    def end(self):
        raise KeyError("the second one")


class Dies(Fails):
    """A model whose second process is killed, as when memory runs out."""

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


def run(model: nn.Module, **options) -> Result:
    rows = Problem(n=60)
    options = {"eps": [0.02, 0.05], "progress": False, "batch_size": 13} | options
    return evaluate(model, (rows.x, rows.y), "Linf", "quick", **options)


def test_two_processes_give_the_result_of_one(problem, same, tmp_path):
    two = run(problem.model, processes=PAIR, out=tmp_path / "two.json")
    same(two, run(problem.model))
    same(Result.load(tmp_path / "two.json"), two)
    assert not two.notes
    assert not multiprocessing.active_children()


def test_batches_are_small_enough_for_all_and_the_result_says_so(problem, same):
    two = run(problem.model, processes=PAIR, batch_size=250)
    one = run(problem.model, batch_size=30)
    assert two.notes == [
        "2 processes share 60 samples in batches of 30, not 250: the result is that of this batch "
        "size"
    ]
    same(dataclasses.replace(two, notes=[]), one)


class TestFailures:
    def test_of_one_process_are_named_and_end_the_others(self):
        with pytest.raises(KeyError, match="the second one") as error:
            run(Fails().eval(), processes=PAIR)
        assert error.value.__notes__[0].startswith("in process 2 of 2\nTraceback")
        assert not multiprocessing.active_children()

    def test_a_killed_process_is_named(self):
        message = "process 2 of 2 was killed by signal 9 during the evaluation"
        with pytest.raises(RuntimeError, match=message):
            run(Dies().eval(), processes=PAIR)
        assert not multiprocessing.active_children()

    @pytest.mark.slow
    def test_ctrl_c_leaves_no_process(self, tmp_path):
        self.ended(tmp_path, signal.SIGINT)

    @pytest.mark.slow
    def test_nor_does_the_end_of_the_first_one(self, tmp_path):
        self.ended(tmp_path, signal.SIGKILL)

    def ended(self, folder: Path, how: signal.Signals) -> None:
        script = folder / "script.py"
        script.write_text(SCRIPT.replace("# guard", "if __name__ == '__main__':"))
        with open(folder / "log", "wb") as log:
            started = subprocess.Popen([sys.executable, script], stderr=log, env=environment())
        files = [folder / str(rank) for rank in range(PAIR)]
        until(lambda: all(file.exists() and file.read_text() for file in files))
        workers = [int(file.read_text()) for file in files]
        assert all(map(is_running, workers))
        started.send_signal(how)
        started.wait(60)
        until(lambda: not any(map(is_running, workers)))

    @pytest.mark.slow
    def test_a_script_without_its_guard_is_told_so(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.replace("# guard", "if True:"))
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, env=environment(), check=False
        )
        assert done.returncode == 1
        assert "put the call of evaluate under `if __name__ == '__main__':`" in done.stderr


SCRIPT = """
import os
import time
from pathlib import Path
import torch
from sparring.evaluation import evaluate

class Slow(torch.nn.Linear):
    def forward(self, x):
        if torch.distributed.is_initialized():
            file = Path(__file__).parent / str(torch.distributed.get_rank())
            file.write_text(str(os.getpid()))
            time.sleep(1)
        return super().forward(x)

# guard
    x = torch.rand(40, 3)
    evaluate(Slow(3, 2).eval(), (x, x[:, 0].long()), eps=0.1, processes=2, progress=False)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a process that has ended may wait to be collected
    return not status.exists() or status.read_text().rpartition(") ")[2][0] != "Z"


def until(done) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


class TestArguments:
    def test_a_model_that_cannot_be_handed_over_is_named(self, problem):
        with pytest.raises(
            ValueError, match=r"model = builtins\.function can't be handed to 2 proc"
        ):
            evaluate(lambda x: x, (problem.x, problem.y), eps=0.1, processes=PAIR)

    def test_data_too(self, problem):
        rows = torch.utils.data.TensorDataset(problem.x, problem.y)
        rows.transform = lambda x: x
        with pytest.raises(
            ValueError, match=r"data = torch\.utils\.data.* can't be handed to 2 proc"
        ):
            evaluate(problem.model, rows, eps=0.1, processes=PAIR)

    @pytest.mark.parametrize("number", [0, -1])
    def test_less_than_one_process(self, problem, number):
        with pytest.raises(ValueError, match=f"processes = {number} is not allowed"):
            run(problem.model, processes=number)

    def test_no_whole_number(self, problem):
        with pytest.raises(ValueError, match=r"processes = 1\.5 is not allowed"):
            run(problem.model, processes=1.5)

    def test_another_number_than_torchrun_started(self, monkeypatch):
        monkeypatch.setattr(processes.distributed, "world", lambda: 4)
        with pytest.raises(ValueError, match="must be 1 or 4, as many as torchrun started"):
            processes.check_processes(2)
        processes.check_processes(4)

    def test_the_command_line_hands_the_number_on(self, monkeypatch, capsys):
        def stop(*_, processes, **__):
            raise ValueError(f"stopped before {processes} of them")

        monkeypatch.setattr(evaluation, "evaluate", stop)
        words = ["torch.nn:Flatten", "--data", "digits", "--trust", "--eps", "0.1"]
        shown = call("evaluate", *words, "--processes", "3", capsys=capsys, code=2)
        assert "stopped before 3 of them" in shown

    def test_our_suites_are_handed_over_by_name(self):
        protocol = EvaluationProtocol(suite=SUITES["pgd"], n=7)
        assert processes._by_name(protocol) == EvaluationProtocol(suite="pgd", n=7)
        assert processes._by_name(SUITES["fast"]) == "fast"
