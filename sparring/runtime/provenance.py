"""Record where a result comes from: versions, commit, machine and the model's hash."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..batch import Model

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


def model_on_device(model: Model, device: str | torch.device | None) -> tuple[Model, torch.device]:
    """Return the model, or a copy of it if it is on another device, and the device it is on."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    home = tensors[0].device if tensors else torch.device("cpu")
    target = home if device is None else torch.device(device)
    if target.type == "cuda" and target.index is None:
        target = home if home.type == "cuda" else torch.device("cuda", torch.cuda.current_device())
    if target == home or not isinstance(model, nn.Module):
        return model, target
    # A copy: `.to` moves a module in place, and the caller's must stay on its device.
    return copy.deepcopy(model).to(target), target


def model_hash(model: Model) -> str:
    """Return the sha256 of a module's structure, parameters and buffers; of a function's name."""
    if not isinstance(model, nn.Module):
        named = model if hasattr(model, "__qualname__") else type(model)
        return hashlib.sha256(f"{named.__module__}.{named.__qualname__}".encode()).hexdigest()
    digest = hashlib.sha256(repr(model).encode())
    for name, t in model.state_dict().items():
        if isinstance(t, Tensor):
            digest.update(f"{name}{tuple(t.shape)}{t.dtype}".encode())
            flat = t.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{name}{t!r}".encode())
    return digest.hexdigest()
