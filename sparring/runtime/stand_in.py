"""Import a package without torchvision, where the package names it and does not need it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

TORCHVISION = ("torchvision", "torchvision.io", "torchvision.ops")


class _Missing:
    """Stand for a function or class of torchvision, and fail where it is called or read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{self._name} needs torchvision, which cannot be imported here")

    def __getattr__(self, name: str) -> Any:
        return self()


def import_without_torchvision(module: str) -> Any:
    """Import a module that imports torchvision for operators that few of its callers use.

    torchvision must fit the installed PyTorch exactly, and a `pip install` of it may replace that
    PyTorch. Where its import fails, for any reason, modules of its name stand in while `module` is
    imported. Then they are removed, so that no other package takes them for torchvision.

    Raises:
        ModuleNotFoundError: if `module` itself is missing.
    """
    if module in sys.modules:
        return importlib.import_module(module)
    try:
        importlib.import_module(TORCHVISION[0])
    except Exception:  # one for another PyTorch fails with RuntimeError, OSError or AttributeError
        with _stand_ins():
            return importlib.import_module(module)
    return importlib.import_module(module)


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Put stand-ins into `sys.modules` inside, and what was there before back afterwards."""
    before = {name: sys.modules.pop(name) for name in TORCHVISION if name in sys.modules}
    modules = {name: ModuleType(name) for name in TORCHVISION}
    for name, module in modules.items():
        # Called for each name that a `from torchvision.ops import ...` asks for.
        vars(module)["__getattr__"] = lambda key, name=name: _missing_name(name, key)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in TORCHVISION:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def _missing_name(module: str, name: str) -> _Missing:
    if name.startswith("__"):  # asked for by the import system, as __path__
        raise AttributeError(name)
    return _Missing(f"{module}.{name}")
