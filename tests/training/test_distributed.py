"""Two processes by torchrun are one with the joint batch; alone, the engine is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sparring.attacks import PGD, Free
from sparring.methods import AT, TRADES
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime import distributed
from sparring.threats import Linf
from sparring.training import Trainer, parallel
from sparring.training.run_folder import read_log
from tests.training.small import (
    Unused,
    finish,
    network,
    objective,
    read_metadata,
    source,
    trainer,
    tuned,
)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> tuple[Path, dict]:
    """The trainings in `worker.py`, each by two processes."""
    out = tmp_path_factory.mktemp("runs")
    engine = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*engine, "tests/training/worker.py", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, torch.load(out / "runs.pt", weights_only=True)


def test_two_processes_give_the_weights_of_one(two_processes, tmp_path):
    out, two = two_processes[0], two_processes[1]["two"]
    one = finish(trainer(tmp_path, noisy=False, resume=True))
    assert two["world"] == 2
    assert two["spread"] == 0
    assert two["state"].keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(two["state"][key], value.double(), rtol=0, atol=1e-6, msg=key)
    for joint, alone in zip(read_log(out / "two"), read_log(tmp_path), strict=True):
        assert joint["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert joint["parts"] == pytest.approx(alone["parts"], abs=1e-5)
        assert joint["clean"] == alone["clean"]


def test_two_processes_agree_and_resume(two_processes):
    out, runs = two_processes
    resumed, whole = runs["resumed"], runs["whole"]
    assert (resumed["spread"], whole["spread"]) == (0, 0)
    for key, value in whole["state"].items():
        torch.testing.assert_close(resumed["state"][key], value, rtol=0, atol=1e-6, msg=key)
    assert read_metadata(out / "resumed") == read_metadata(out / "whole")
    assert [row["epoch"] for row in read_log(out / "resumed")] == [1, 2, 3]


def test_two_processes_keep_the_perturbation_of_the_joint_batch(two_processes, tmp_path):
    goal = Objective(Free(Linf(0.1), replays=2), AT(), Mean())
    options = {"epochs": 2, "batch_size": 16}
    one = finish(Trainer(network(noisy=False), goal, source(), out=tmp_path, **options))
    two, resumed = (two_processes[1][key] for key in ("free", "free-resumed"))
    assert two.keys() == resumed.keys() == one.keys()
    assert any(value.shape == (16, 6) for key, value in one.items() if "extra" in key)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value.double(), rtol=0, atol=1e-6, msg=key)
        torch.testing.assert_close(resumed[key], two[key], rtol=0, atol=1e-12, msg=key)


def test_two_processes_resume_in_mid_epoch(two_processes):
    """Of their batch norm's statistics a checkpoint has one set: all go on with it."""
    whole, resumed = (two_processes[1][key] for key in ("mid", "mid-resumed"))
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=1e-12, msg=key)


def test_two_processes_stop_by_one_clock(two_processes):
    out, runs = two_processes
    assert runs["clock"]["spread"] == 0
    rows = read_log(out / "clock")
    assert rows[-1]["step"] == runs["clock"]["steps"] >= 1
    assert rows[-1]["epoch"] == rows[-1]["epochs"]
    assert rows[-1]["clean"] is not None


def test_parameters_without_gradient_do_not_stop_two_processes(two_processes, tmp_path):
    goal = Objective(PGD(Linf(0.1), steps=1), TRADES(), Mean())
    torch.manual_seed(1)
    one = finish(Trainer(Unused(), goal, source(), out=tmp_path, epochs=2, batch_size=16))
    two = two_processes[1]["unused"]
    assert two.keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value.double(), rtol=0, atol=1e-6, msg=key)


def test_two_processes_freeze_and_start_as_one(two_processes, tmp_path):
    options = tuned()
    one = finish(trainer(tmp_path, noisy=False, resume=True, **options))
    two = two_processes[1]["tuned"]
    assert two["spread"] == 0
    assert two["state"].keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(two["state"][key], value.double(), rtol=0, atol=1e-6, msg=key)
    for net in (".model", ".ema.averaged.module"):
        before = options["start"][0].weight.detach().double()
        assert torch.equal(two["state"][f"{net}.0.weight"], before)


def test_a_frozen_network_is_refused_by_two_processes_in_the_same_sentence(two_processes):
    assert two_processes[1]["refusal"].startswith("the model has no weights to train")


def test_alone_there_is_no_engine():
    assert parallel.join_process_group("cpu") == torch.device("cpu")
    assert not torch.distributed.is_initialized()
    assert distributed.world() == 1
    assert parallel.is_main()
    parallel.barrier()
    model = nn.BatchNorm1d(2)
    assert parallel.sync_batch_norm(model, torch.device("cpu")) is model
    assert isinstance(
        parallel.distribute_loss(model, objective(), torch.device("cpu")), parallel.LossModule
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without CUDA")
def test_a_device_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="finds no CUDA device, use device = 'cpu'"):
        parallel.join_process_group("cuda")
