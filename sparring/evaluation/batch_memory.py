"""Choose a batch size that memory holds, before an attack runs out of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from ..batch import Model
from ..introspect import freeze
from ..runtime import distributed
from ..runtime.allocator import out_of_memory
from ..runtime.seeding import seeded

# Tensors as large as a batch's inputs at the peak of an evaluation by APGD, which keeps the start,
# the point, the one before, gradient, best points and candidates, beside those of each projection.
# Measured: 28 to 30, for a linear model of 224 × 224 pixels on a CPU.
COPIES = 32
ACTIVATIONS = 1.5  # of the bytes that a graph keeps: gradients and work space beside them
SHARE = {"cuda": 0.8, "cpu": 0.5}  # of the free memory that a batch may take
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # the limit of a container


def fitting_batch_size(
    model: Model, x: Tensor, *, batch_size: int, device: torch.device, free: int | None = None
) -> tuple[int, str]:
    """Return the first of batch_size, its half, its quarter, … that memory holds; and a remark.

    The need of a sample is counted, not timed or tried: it is the same on every machine. What is
    free is not, so the remark gives the batch size that results are of.

    Arguments:
        x: two samples at least, `(b, *d)`, on the device.
        free: bytes; default: those of the device now, shared among the processes.
    """
    need = sample_bytes(model, x)
    free = _least_over_processes(free_bytes(device) if free is None else free)
    if need is None or free is None:
        return batch_size, f"batch size: {batch_size}; what a batch needs is not known here"
    room, size = SHARE.get(device.type, 0.5) * free, batch_size
    while size > 1 and size * need > room:
        size //= 2
    amounts = f"a sample needs about {mebibytes(need)}"
    if size == batch_size:
        return size, f"batch size: {size}, as asked; {amounts}"
    return size, (
        f"batch size: {size} instead of {batch_size}, and the result is that of this size: "
        f"{amounts}, of {mebibytes(free)} free"
    )


def _least_over_processes(free: int | None) -> int | None:
    """Return the least of what the processes have: all must choose the same batches."""
    every = distributed.gather_dict({distributed.rank(): free}).values()
    return None if None in every else min(every)


def sample_bytes(model: Model, x: Tensor) -> int | None:
    """Return about how many bytes each sample of a batch takes in an attack: inputs, and what the
    model keeps for a gradient. None if the model fails at it, which its evaluation then reports.

    >>> sample_bytes(torch.nn.Linear(8, 2), torch.zeros(2, 8)) > 8 * 4
    True
    """
    try:
        with seeded(x.device, 0), distributed.alone(), freeze.preserve_grads(model):
            kept = [kept_bytes(model, x[:1].expand(b, *x.shape[1:])) for b in (1, 2)]
    except Exception as error:
        if out_of_memory(error):
            raise
        return None
    inputs = x[0].numel() * x.element_size()
    # Of two sizes the difference: the weights are kept once, whatever the batch.
    return int(COPIES * inputs + ACTIVATIONS * max(kept[1] - kept[0], 0))


def kept_bytes(model: Model, x: Tensor) -> int:
    """Return the bytes that the model's graph keeps for a gradient at `x`, and those it returns."""
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used again

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(t)
        return t

    with freeze.frozen(model, "eval") as frozen, torch.enable_grad():
        z = x.detach().clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            logits = frozen(z)
    sizes.pop(z.untyped_storage().data_ptr(), None)
    return sum(sizes.values()) + logits.numel() * logits.element_size()


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that this process may still take on a device; None where nobody knows.

    On a GPU, what PyTorch holds and does not use counts as free. On a CPU, processes started
    together share it.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    known = [free for free in (_available(), _within_container()) if free is not None]
    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if distributed.world() > 1 else 1
    return min(known) // together if known else None


def _available() -> int | None:
    """Return what the system could give without swapping."""
    try:
        match = re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _within_container() -> int | None:
    """Return what the control group leaves; None without a limit."""
    try:
        most, used = (
            (CGROUP / name).read_text(encoding="utf-8").strip()
            for name in ("memory.max", "memory.current")
        )
        return max(int(most) - int(used), 0)
    except (OSError, ValueError):  # no such file; "max": no limit
        return None


def mebibytes(size: float) -> str:
    """Return a number of bytes as text.

    >>> mebibytes(3 * 2**20), mebibytes(2**18)
    ('3 MiB', '0.25 MiB')
    """
    return f"{size / 2**20:.3g} MiB"
