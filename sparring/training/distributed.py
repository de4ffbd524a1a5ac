"""The engine of several processes: torchrun's environment, gloo or nccl, DDP around the loss alone."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as td
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .. import dist
from ..batch import Batch, Loss
from ..objective import Objective


def begin(device: str | None) -> torch.device:
    """Join the group that torchrun describes, if any; returns the device of this process."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    cuda = torch.cuda.is_available() and (device is None or device.startswith("cuda"))
    if several and not td.is_initialized():
        td.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=30))
    if device is not None and not (several and device == "cuda"):
        return torch.device(device)
    if not cuda:
        return torch.device("cpu")
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(place)
    return place


def first() -> bool:
    """Whether this process writes the files."""
    return dist.rank() == 0


def barrier() -> None:
    """Wait for the others."""
    if dist.world() > 1:
        td.barrier()


class LossPass(nn.Module):
    """`objective.minimize` as one forward, so that one wrapper serves losses with any number of model passes."""

    def __init__(self, objective: Objective, view: nn.Module) -> None:
        super().__init__()
        self.objective, self.view = objective, view

    def forward(self, batch: Batch) -> Loss:
        return self.objective.minimize(self.view, batch)


def wrap(objective: Objective, view: nn.Module) -> nn.Module:
    """The loss phase, through DDP where there are several processes."""
    loss = LossPass(objective, view)
    return DistributedDataParallel(loss) if dist.world() > 1 else loss
