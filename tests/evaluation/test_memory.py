"""Memory that runs out makes batches smaller, and the result that of the smaller size."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from sparring import metrics
from sparring.evaluation import evaluate
from sparring.runtime.allocator import out_of_memory, retry_smaller_batch

TEXTS = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)",
    "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate",
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "MPS backend out of memory (MPS allocated: 8.00 GB)",
    "Failed to allocate memory for requested buffer of size 1048576",
    "Unable to allocate 3.64 TiB for an array with shape (1000000, 1000000)",
)
OTHERS = ("mat1 and mat2 shapes cannot be multiplied", "", "index out of range in self")


class Tight(nn.Module):
    """A model for which memory ends above a number of samples; only with a graph if `graph`."""

    def __init__(self, inner, most, error, *, graph=False):
        super().__init__()
        self.inner, self.most, self.error, self.graph = inner, most, error, graph

    def forward(self, x):
        if len(x) > self.most and (x.requires_grad or not self.graph):
            raise self.error
        return self.inner(x)


def run(problem, model, **options):
    data, options = (problem.x, problem.y), {"eps": 0.05, "batch_size": 40, **options}
    return evaluate(model, data, "Linf", **options, progress=False)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_all_allocators_are_known(text):
    for kind in (RuntimeError, torch.OutOfMemoryError):
        assert out_of_memory(kind(text))


@pytest.mark.parametrize("text", OTHERS)
def test_other_errors_are_not_memory(text):
    assert not out_of_memory(RuntimeError(text))
    assert out_of_memory(MemoryError(text))
    with pytest.raises(RuntimeError):
        retry_smaller_batch(lambda size: Tight(None, 0, RuntimeError(text))(torch.ones(size)), 8)


def test_files_that_memory_cannot_hold_are_memory():
    assert out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not out_of_memory(OSError(2, "No such file: out of memory"))


@pytest.mark.parametrize(
    ("graph", "error"),
    [(False, RuntimeError(TEXTS[0])), (True, RuntimeError(TEXTS[5])), (True, MemoryError())],
    ids=["clean pass", "attacks", "attacks without text"],
)
def test_the_result_is_that_of_the_smaller_batch_size(problem, same, graph, error):
    options = {"probes": ["jacobian"], "seed": 3}
    tight = run(problem, Tight(problem.model, 12, error, graph=graph), **options)
    small = run(problem, problem.model, batch_size=10, **options)
    assert tight.notes == [
        "memory ran out at a batch size of 40: it was 10, and the result is that of this size"
    ]
    tight.notes = []
    same(tight, small)


def test_records_of_the_batches_that_fitted_are_kept(problem, same, tmp_path):
    out, model = tmp_path / "r.json", Tight(problem.model, 12, RuntimeError(TEXTS[0]))
    first = run(problem, model, out=out, queries=200)
    assert first.early
    again = run(problem, model, out=out)
    assert not again.early
    assert not out.with_name("r.json.partial").exists()
    same(again, run(problem, model))


def test_one_sample_that_does_not_fit_is_the_error_itself(problem):
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run(problem, Tight(problem.model, 0, RuntimeError(TEXTS[0])))


def test_checks_and_probes_shrink_alone(problem):
    calls = []

    class Late(Tight):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    # 30 fit a batch of the attacks, which have 25 samples; the checks pass more at once.
    model = Late(problem.model, 30, RuntimeError(TEXTS[1]))
    result = run(problem, model, batch_size=25, probes=["surface"])
    assert result.notes == []
    assert max(calls) <= 25


FEW = {  # each pass that does not fit costs a collection of garbage
    "clever": {"batches": 3, "samples": 3, "pool": 2},
    "thickness": {"steps": 3, "points": 8},
    "ebd": {"directions": 3},
}


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_metrics_shrink_their_batches(problem, name):
    data, options = (problem.x, problem.y), {"progress": False, "seed": 1}
    arguments = {name: {"steps": 3} if name.startswith("deepfool") else FEW.get(name, {})}
    tight = Tight(problem.model, 12, RuntimeError(TEXTS[3]))
    small = metrics.run(problem.model, data, arguments, batch_size=10, **options)
    shrunk = metrics.run(tight, data, arguments, batch_size=40, **options)
    assert shrunk.batch == 10
    assert [(r.value, r.median) for r in shrunk.rows] == [(r.value, r.median) for r in small.rows]


LIMITED = """
import resource, sys, torch
from torch import nn
from sparring import attacks
from sparring.evaluation import Suite, evaluate

SUITE = Suite("one", 1, (("PGD", lambda t: attacks.PGD(t, steps=2)),))
torch.manual_seed(0)
torch.set_num_threads(1)
class Wide(nn.Module):
    def forward(self, x):
        torch.empty(len(x), ROOM, dtype=torch.uint8)  # allocated, and never written to
        return x

ROOM, SPARE = 10_000_000, 700_000_000
net = nn.Sequential(nn.Flatten(), Wide(), nn.Linear(64, 2)).eval()
x = torch.rand(160, 64)
with torch.no_grad():
    y = torch.cat([net(p).argmax(1) for p in x.split(20)])
evaluate(net, (x[:4], y[:4]), "Linf", SUITE, eps=0.01, progress=False)  # imports
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE, resource.RLIM_INFINITY))
size = 160 if sys.argv[1] == "limited" else int(sys.argv[1])
result = evaluate(net, (x, y), "Linf", SUITE, eps=0.01, batch_size=size, progress=False)
print(result.robust.accuracy, result.clean.accuracy, result.notes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_a_process_with_little_memory_ends_with_the_same_numbers():
    def call(argument: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-c", LIMITED, argument]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split(maxsplit=2)

    limited = call("limited")
    assert limited[2].startswith("['memory ran out at a batch size of 160: it was ")
    size = limited[2].split("it was ")[1].split(",")[0]
    assert call(size)[:2] == limited[:2]
