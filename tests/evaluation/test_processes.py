"""Two processes by torchrun share the batches and give the result of one."""

import os
import subprocess
import sys

from sparring.results.result import Result
from tests.evaluation.worker import measured


def test_two_processes_give_the_result_of_one(tmp_path, same):
    engine = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*engine, "tests/evaluation/worker.py", str(tmp_path / "two.json")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    one = measured(str(tmp_path / "one.json"))
    same(Result.load(tmp_path / "two.json"), Result.load(tmp_path / "one.json"))
    same(Result.load(tmp_path / "one.json"), one)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".npz") == [
        *("one.json", "two.json")
    ]
    assert len(list(tmp_path.iterdir())) == 4
