"""For every test: one thread, known seeds, and annotations of the pure core and the rooms
checked."""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from beartype import BeartypeConf, beartype
from hypothesis import settings

from sparring.runtime import torch_private

SLOW = Path(__file__).with_name("slow_tests.txt")
# In the order in which they import each other, so that each sees the checked functions below it.
CHECKED = ("runtime.distributed",)
CHECKED += tuple(f"functional.{name}" for name in ("losses", "geometry", "optimal_transport"))
CHECKED += tuple(f"introspect.{name}" for name in ("freeze", "hooks", "jacobian"))
CHECKED += ("threats", "risks", "weights", "attacks", "methods", "objective")
os.environ["SPARRING_CACHE_BYTES"] = "1"  # no test writes to the cache of who runs it
AN_INT_IS_A_FLOAT = BeartypeConf(is_pep484_tower=True)


def check_annotations(module: ModuleType) -> None:
    """Every call of a function or class that this module defines has its annotations checked.

    In place of beartype's import hook, which also decorates functions inside functions, at each
    call, and keeps them: a gain and its batch would never be freed.
    """
    package = importlib.import_module(module.__package__ or module.__name__)
    for name, member in list(vars(module).items()):
        if getattr(member, "__module__", None) != module.__name__ or hasattr(member, "__wrapped__"):
            continue
        if inspect.isclass(member):
            constructor = vars(member).get("__init__")
            beartype(conf=AN_INT_IS_A_FLOAT)(member)
            if hasattr(constructor, "checked"):  # by us, with a ValueError that a user reads
                member.__init__ = constructor
        elif inspect.isfunction(member):
            checked = beartype(conf=AN_INT_IS_A_FLOAT)(member)
            setattr(module, name, checked)
            if getattr(package, name, None) is member:
                setattr(package, name, checked)


def check_rooms() -> None:
    """The annotations of all that is checked."""
    for name in CHECKED:
        room = importlib.import_module(f"sparring.{name}")
        for file in pkgutil.iter_modules(getattr(room, "__path__", ()), f"sparring.{name}."):
            importlib.import_module(file.name)
        inside = [
            m for m in sys.modules if m == f"sparring.{name}" or m.startswith(f"sparring.{name}.")
        ]
        for module in inside:
            check_annotations(sys.modules[module])


check_rooms()
torch.set_num_threads(1)
settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("quick")


def slow_tests() -> frozenset[str]:
    """Names of tests, as pytest prints them, that were measured to be slow."""
    lines = SLOW.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


@pytest.hookimpl(tryfirst=True)  # before the tests of other marks are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow_tests.txt slow."""
    slow = slow_tests()
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what collection made out of all later collections of garbage: with many thousand tests
    each would take a third of a second, and a pass that runs out of memory starts one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The global generator stands at 0 when a test begins."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def computed_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked in bfloat16 is computed in it, on processors that only emulate it too."""
    monkeypatch.setattr(torch_private, "multiplies_bfloat16", lambda device_type: True)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their number: an archive holds the time it was made at, and both processes of
    a run must collect the same names."""
    return f"{argname}-{len(val)}" if isinstance(val, bytes) and len(val) > 20 else None
