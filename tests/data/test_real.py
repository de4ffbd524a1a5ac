"""The real sets, where `$SPARRING_DATA` has them: counts, known statistics, memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparring import data
from sparring.data.fetch import plain

ROOT = Path(os.environ.get("SPARRING_DATA") or "/nowhere")
HERE = {plain(p.name) for p in ROOT.iterdir() if p.is_dir()} if ROOT.is_dir() else set()


def source(name):
    if plain(name) not in HERE:
        pytest.skip(f"$SPARRING_DATA has no {name}")
    return data.load(name)


def test_mnist():
    mnist = source("mnist")
    assert (len(mnist.train), len(mnist.val), len(mnist.test)) == (55_000, 5_000, 10_000)
    assert mnist.shape == (1, 28, 28)
    both = torch.bincount(torch.cat([mnist.train.y, mnist.val.y]))
    assert both.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train.x.dtype == torch.uint8


def test_an_epoch_of_mnist_is_small_in_memory():
    if "mnist" not in HERE:
        pytest.skip("$SPARRING_DATA has no mnist")
    code = """
from sparring import data
source = data.load("mnist")
loader = data.Loader(source.train, batch_size=250, shuffle=True, augment=[data.Shift(pixels=2)])
assert sum(len(batch) for batch in loader.epoch(0)) == 55_000
# VmHWM is this program's own; ru_maxrss counts what the process was before it became this one
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) / 2**10)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 700  # MiB


def test_fashion_mnist():
    fashion = source("fashion-mnist")
    assert fashion.class_names[9] == "ankle boot"
    assert torch.bincount(fashion.test.y).tolist() == [1000] * 10
    assert torch.bincount(fashion.val.y).tolist() == [500] * 10


def test_cifar10():
    cifar = source("cifar10")
    assert cifar.shape == (3, 32, 32)
    assert cifar.class_names[6] == "frog"
    splits = (cifar.train, cifar.val)
    total = sum(s.x.sum((0, 2, 3), dtype=torch.int64) for s in splits)
    mean = total.double() / sum(len(s) for s in splits) / 32**2 / 255
    published = torch.tensor([0.491400, 0.482158, 0.446531], dtype=torch.float64)
    assert torch.allclose(mean, published, rtol=0, atol=5e-6)
    assert torch.bincount(cifar.test.y).tolist() == [1000] * 10
