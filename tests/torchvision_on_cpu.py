"""Let a torchvision that was built for CUDA be imported beside a PyTorch for CPUs.

The wheels of torchvision on Linux need CUDA's libraries. Without them its operators are missing,
and the import fails at the first that Python code refers to. Its transforms, which timm and others
use, are Python alone: so the operators are declared here, without an implementation.
"""

from __future__ import annotations

import importlib
import sys

import torch

OPERATORS = ("nms", "qnms")  # those that `torchvision._meta_registrations` decorates
_declared: list[torch.library.Library] = []  # a library that is freed takes its operators along


def declare_operators() -> None:
    """Declare what is missing, once; where torchvision works, do nothing."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
