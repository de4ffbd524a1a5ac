"""The only place with the engine: join what torchrun started, wrap the loss, agree, leave."""

from __future__ import annotations

import atexit
import gc
import os

import torch
import torch.distributed as td
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..batch import Batch, Loss
from ..objective import Objective
from ..runtime import distributed


def start(device: str | torch.device | None = None) -> torch.device:
    """Join the processes that torchrun started, if it did; the device of this one.

    Arguments:
        device: the best there is when omitted; `"cuda"` means this process's own under torchrun.
    """
    name = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if name.type == "cuda" and not torch.cuda.is_available():
        said = "this PyTorch finds no CUDA device, use device = 'cpu'"
        raise ValueError(f"device = {device!r} is not allowed: {said}")
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if together and name.type == "cuda" and name.index is None:
        name = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if name.type == "cuda" and name.index is not None:
        torch.cuda.set_device(name)
    if together and not td.is_initialized():
        td.init_process_group("nccl" if name.type == "cuda" else "gloo")
        atexit.register(stop)
    return name


def stop() -> None:
    """Leave the group, if in one; what still hangs on it, as a DDP wrapper, goes first."""
    if td.is_available() and td.is_initialized():
        gc.collect()
        td.destroy_process_group()


def first() -> bool:
    """Whether this process is the one that writes.

    >>> first()
    True
    """
    return distributed.rank() == 0


def wait() -> None:
    """Until every process is here."""
    if distributed.world() > 1:
        td.barrier()


def prepare(model: nn.Module, device: torch.device) -> nn.Module:
    """The model; with several processes on CUDA its batch norm sees the joint batch."""
    return (
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if distributed.world() > 1 and device.type == "cuda"
        else model
    )


def agree(model: nn.Module | None) -> None:
    """Average a model's buffers (running statistics) over the processes, in place."""
    if model is not None and distributed.world() > 1:
        with torch.no_grad():
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(distributed.mean(buffer))


class Minimize(nn.Module):
    """`objective.minimize` of one model as a module: its forward is all that the engine sees."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> Loss:
        return self.objective.minimize(self.model, batch)


def wrap(model: nn.Module, objective: Objective, device: torch.device) -> nn.Module:
    """The loss as `batch -> Loss`; its gradients are averaged over the processes.

    The model inside stays bare: an attack, hooks and `autograd.grad` never meet the wrapper.
    """
    loss = Minimize(model, objective)
    if distributed.world() == 1:
        return loss
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(loss, device_ids=ids, broadcast_buffers=False)
