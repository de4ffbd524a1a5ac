"""What the machine is, and which packages it has."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .parts import Setting, missing

ROOT = Path(__file__).resolve().parents[2]
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn", "tomli-w": "tomli_w"}
OPTIONAL = ("pytest", "beartype", "hypothesis", "pyautoattack", "torchvision", "triton")


def required() -> dict[str, str]:
    """Return the name to import each required package by, from `pyproject.toml`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=!~ ]", text)[0] for text in project["dependencies"]]
    return {name: IMPORTED_AS.get(name, name) for name in names}


def lacking() -> list[str]:
    """Return the required packages that are not installed here."""
    return [name for name, module in required().items() if missing([module])]


def source_hash() -> str:
    """Return the sha256 of the package's source: a copy of the tree may know no commit."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "sparring").rglob("*.py")):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that are here, required and optional."""
    found = {"python": sys.version.split()[0]}
    for name in (*required(), *OPTIONAL):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # it may still be importable, from a folder without metadata
            continue
    return found


def describe(setting: Setting) -> dict[str, Any]:
    """Return versions, commit, processor, and the GPU if there is one."""
    import torch

    from sparring.runtime import provenance

    found: dict[str, Any] = {"versions": versions(), "commit": provenance.commit()}
    found["source_sha256"] = source_hash()
    found["absent"] = missing(OPTIONAL)
    found["threads"] = os.cpu_count()
    found["cuda"] = torch.version.cuda
    found["cpu"] = provenance.machine(torch.device("cpu"))
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        found["gpu"], found["gib"] = about.name, round(about.total_memory / 2**30, 1)
        found["capability"] = f"{about.major}.{about.minor}"
        found["cudnn"] = torch.backends.cudnn.version()
        matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
        found["fp32_precision"] = {"matmul": matmul.fp32_precision, "conv": conv.fp32_precision}
    elif setting.device == "cuda":
        raise RuntimeError("PyTorch finds no CUDA device: --device cpu --rehearse tries the script")
    return found
