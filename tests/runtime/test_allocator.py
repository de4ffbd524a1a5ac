"""Freed memory is used again inside, and goes back outside."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparring.runtime import allocator


def faults(rounds: int = 10) -> int:
    """Pages the kernel had to map for large tensors that come and go."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.zeros(32_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(autouse=True)
def outermost(monkeypatch):
    """No other context is open: a training that another test left in its middle keeps its own open
    until it is collected."""
    monkeypatch.setattr(allocator, "_depth", 0)
    if (libc := allocator._glibc()) is not None:
        allocator._return_freed_memory(libc)


only_glibc = pytest.mark.skipif(
    allocator._glibc() is None, reason="only glibc gives memory back so soon"
)


def printed(code: str) -> list[int]:
    """Numbers that code prints in a fresh process, whose heap no test has used."""
    command = [sys.executable, "-c", f"from {__name__} import *\n{code}"]
    run = {"cwd": Path(__file__).parents[2], "check": True, "capture_output": True, "text": True}
    return [int(word) for word in subprocess.run(command, **run).stdout.split()]


@only_glibc
def test_pages_are_mapped_once():
    code = (
        "outside = faults()\n"
        "with allocator.keep_freed_memory():\n"
        # until the heap is steady: small objects take places beside the freed tensors, whose
        # chunks then are a little too short for the next one
        "    faults(20)\n"
        "    with allocator.keep_freed_memory():\n"
        "        inside = faults()\n"
        "    print(outside, inside, faults())\n"
    )
    outside, inside, still = printed(code)
    assert max(inside, still) < outside / 4


@only_glibc
def test_memory_goes_back_on_the_way_out():
    code = (
        "with allocator.keep_freed_memory():\n"
        "    faults(1)\n"
        "    inside = resident()\n"
        "print(inside, resident())\n"
    )
    inside, outside = printed(code)
    assert inside - outside > 50_000_000  # of the tensor's 128


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator._glibc() is None
    with allocator.keep_freed_memory():
        torch.zeros(10)
    assert allocator._depth == 0
