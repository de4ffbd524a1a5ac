"""Several processes of one training: join and leave the group, distribute the loss.

`runtime.distributed` says who this process is; only this file starts the group and wraps in DDP.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import os
from typing import Any

import torch
import torch.distributed as td
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..batch import Batch, Loss
from ..objective import Objective
from ..runtime import distributed
from ..runtime.provenance import resolve_device
from ..runtime.torch_private import BATCH_NORM

SYNC_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # new and old name of one argument


def join_process_group(device: str | torch.device | None = None) -> torch.device:
    """Join the processes that torchrun started, if it did, and return this process's device.

    Arguments:
        device: default: CUDA if available, else the CPU; `"cuda"` under torchrun is the GPU of this
            process's local rank.
    """
    best = "cuda" if torch.cuda.is_available() else "cpu"
    name = resolve_device(best if device is None else device)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and name.type == "cuda" and name.index is None:
        name = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if name.type == "cuda" and name.index is not None:
        torch.cuda.set_device(name)
    if several and not td.is_initialized():
        td.init_process_group("nccl" if name.type == "cuda" else "gloo")
        atexit.register(leave_process_group)
    return name


def leave_process_group() -> None:
    """Leave the process group, if this process is in one."""
    if td.is_available() and td.is_initialized():
        # A DDP wrapper in a reference cycle still uses the group: collect it before the group goes.
        gc.collect()
        td.destroy_process_group()


def is_main() -> bool:
    """Return whether this is the process that writes files and shows progress.

    >>> is_main()
    True
    """
    return distributed.rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if distributed.world() > 1:
        td.barrier()


def sync_batch_norm(
    model: nn.Module, device: torch.device, objective: Objective | None = None
) -> nn.Module:
    """Return the model; with several processes on CUDA its batch norm sees the joint batch.

    PyTorch's `SyncBatchNorm` runs on CUDA only. On CPUs each process normalises its own rows.

    Raises:
        ValueError: for an objective that differentiates twice, which `SyncBatchNorm` cannot.
    """
    joint = distributed.world() > 1 and device.type == "cuda"
    method = None if objective is None else objective.method
    normed = joint and any(isinstance(module, BATCH_NORM) for module in model.modules())
    if normed and method is not None and method.differentiates_twice:
        name = type(method).__name__
        raise ValueError(
            f"method = {name!r} differentiates twice, and the batch norm of several GPUs "
            "(SyncBatchNorm) has no second derivative: train on one GPU, or take a network "
            f"without batch norm, or set the weight of {name}'s gradient term to 0"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if joint else model


def sync_buffers(model: nn.Module | None) -> None:
    """Average a model's buffers (running statistics) over the processes, in place."""
    if model is not None and distributed.world() > 1:
        with torch.no_grad():
            for buffer in filter(torch.is_floating_point, model.buffers()):
                buffer.copy_(distributed.mean(buffer))


class LossModule(nn.Module):
    """Run `objective.minimize` of one model as a module: its forward is all that DDP sees."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> Loss:
        return self.objective.minimize(self.model, batch)


def distribute_loss(
    model: nn.Module, objective: Objective, device: torch.device, *, unused: bool = False
) -> nn.Module:
    """Return the loss as a module `batch -> Loss`; its gradients are averaged over the processes.

    The model inside stays bare: an attack, hooks and `autograd.grad` never meet the wrapper.

    Arguments:
        unused: some parameters get no gradient; DDP looks for them at each step, which costs time.
    """
    loss = LossModule(model, objective)
    if distributed.world() == 1:
        return loss
    ids = [device] if device.type == "cuda" else None
    # Broadcasting buffers before each forward would overwrite every rank's running statistics with
    # the first one's; `sync_buffers` averages them once per epoch instead.
    known = inspect.signature(DistributedDataParallel).parameters
    key = next(name for name in SYNC_BUFFERS if name in known)
    options: dict[str, Any] = {key: False, "find_unused_parameters": unused}
    return DistributedDataParallel(loss, device_ids=ids, **options)
