"""Record where a result comes from: versions, commit, machine and the model's hash."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import __version__
from ..batch import Model
from ..component import require
from .identity import model_hash, unhashable_part

__all__ = ["available_devices", "commit", "machine", "model_hash", "model_on_device"]
__all__ += ["resolve_device", "unhashable_part", "versions"]

ROOT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on.

    >>> sorted(versions())
    ['numpy', 'python', 'sparring', 'torch']
    """
    packages = {"torch": torch.__version__, "numpy": np.__version__, "sparring": __version__}
    return {"python": platform.python_version(), **packages}


def commit(root: Path = ROOT) -> str:
    """Return the commit of this package's checkout, `-dirty` if tracked files differ, or ""."""
    if not (root / ".git").exists():
        return ""
    call = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    # Inside a git hook GIT_DIR is set, and git would describe another repository than `root`.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        out = subprocess.check_output(call, stderr=subprocess.DEVNULL, timeout=20, env=clean)
        return out.decode().strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def machine(device: torch.device) -> str:
    """Return the device as text: the GPU's name, or the processor's and its number of threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device.type} ({_processor()}, {threads} thread{'s' * (threads > 1)})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def available_devices() -> list[str]:
    """Return the names of the devices that this PyTorch can run on.

    >>> "cpu" in available_devices()
    True
    """
    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    other = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return names if other is None or other.type == "cuda" else [*names, other.type]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of this name, if this machine has it.

    Raises:
        ValueError: for another one, with a list of those there are.

    >>> resolve_device("cpu"), resolve_device(torch.device("cpu"))
    (device(type='cpu'), device(type='cpu'))
    >>> resolve_device("gpu")
    Traceback (most recent call last):
    ValueError: device = 'gpu' is not allowed: device must be ...
    """
    names = available_devices()
    allowed = "one of " + ", ".join(names) if len(names) > 1 else "'cpu'"
    if not torch.cuda.is_available():
        allowed += "; this PyTorch finds no CUDA device, use device = 'cpu'"
    given = str(device) if isinstance(device, torch.device) else device
    require(isinstance(given, str), "device", device, allowed)
    kind, _, index = given.partition(":")
    given = kind if index == "0" and kind in names else given  # the processor has no second one
    types = {name.partition(":")[0] for name in names}
    require(given in {*names, *types}, "device", given, allowed)
    return torch.device(given)


def model_on_device(model: Model, device: str | torch.device | None) -> tuple[Model, torch.device]:
    """Return the model, or a copy of it if it is on another device, and the device it is on."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    home = tensors[0].device if tensors else torch.device("cpu")
    target = resolve_device(home if device is None else device)
    resolve_device(home)  # a model on the device "meta" has no weights
    if target.type == "cuda" and target.index is None:
        target = home if home.type == "cuda" else torch.device("cuda", torch.cuda.current_device())
    if target == home or not isinstance(model, nn.Module):
        return model, target
    # A copy: `.to` moves a module in place, and the caller's must stay on its device.
    return copy.deepcopy(model).to(target), target
