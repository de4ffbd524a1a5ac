"""Count on a CPU how often the host would wait for a GPU: a device that is only believed in.

`believed_gpu` makes every tensor say `is_cuda`, so that code takes its GPU branches; `HostWaits`
counts the operations that read a value back from the device, or that copy one there from ordinary
memory. Either stops the host until the device's queue is empty.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# their output has a size, or a Python value, that only the device knows
READS = {
    "_local_scalar_dense",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave",
    "bincount",
    "argwhere",
}
COPIES_BACK = {"cpu", "numpy", "tolist"}
FROM_NUMBERS = {"tensor", "as_tensor", "new_tensor", "scalar_tensor"}
# on a GPU these check their arguments there, without the host
CHECKED_ON_DEVICE = {"one_hot"}


@contextmanager
def believed_gpu() -> Iterator[None]:
    """Make every tensor say that it is on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "is_cuda", property(lambda self: True), raising=False)
        yield


class HostWaits:
    """Count waits within a `with` block.

    Attributes:
        places: how often the host waits, by the operation and the line of the package.
    """

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self._host_tensors: dict[int, weakref.ref[Tensor]] = {}
        self._exempt = 0
        self._modes = [_Functions(self), _Operations(self)]

    def __enter__(self) -> HostWaits:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    @property
    def total(self) -> int:
        """Return the number of waits."""
        return sum(self.places.values())

    def add(self, name: str) -> None:
        """Count one wait in the operation of this name."""
        if not self._exempt:
            self.places[f"{name} {_caller()}"] += 1

    def is_on_host(self, value: object) -> bool:
        """Return whether a tensor was made without a device: it would lie in ordinary memory."""
        reference = self._host_tensors.get(id(value))
        return reference is not None and reference() is value

    def note_on_host(self, value: object) -> None:
        """Note a tensor that would lie in ordinary memory."""
        if isinstance(value, Tensor):
            self._host_tensors[id(value)] = weakref.ref(value)

    def forget(self, value: object) -> None:
        """Note that a tensor lies on the device."""
        self._host_tensors.pop(id(value), None)


class _Operations(TorchDispatchMode):
    """See the operations as the device would: below autograd, one by one."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, waits = op.overloadpacket.__name__, self.waits
        output = op(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if tensors and all(map(waits.is_on_host, tensors)):
            for value in tree_leaves(output):
                waits.note_on_host(value)
        elif name in READS:
            waits.add(name)
        elif name in ("index", "index_put_", "index_put", "_index_put_impl_"):
            indices = [index for index in args[1] if index is not None]
            masked = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
            # one number goes to the places of a mask without their count
            if masked and (name == "index" or args[2].numel() > 1):
                waits.add(f"{name} by a mask")
            elif any(map(waits.is_on_host, indices)):
                waits.add(f"{name} by numbers of the host")
        return output


class _Functions(TorchFunctionMode):
    """See the calls as they are written: which name a device, and which leave it."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name, waits = getattr(function, "__name__", ""), self.waits
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        data = args[1:2] if name == "new_tensor" else args[:1]
        numbers = name in FROM_NUMBERS and not isinstance(data[0] if data else None, Tensor)
        named = kwargs.get("device") is not None
        copied = numbers and (name == "new_tensor" or named)
        on_host = bool(tensors) and all(map(waits.is_on_host, tensors[:1]))
        moved = name in ("to", "cuda") and on_host and _names_device(args[1:], kwargs)
        if copied or moved or (name in COPIES_BACK and not on_host):
            waits.add(name)
        exempt = name in CHECKED_ON_DEVICE or name in COPIES_BACK
        waits._exempt += exempt
        try:
            value = function(*args, **kwargs)
        finally:
            waits._exempt -= exempt
        if not tensors and not named:
            waits.note_on_host(value)
        if moved or copied:
            waits.forget(value)
        return value


def _names_device(args: Any, kwargs: Any) -> bool:
    """Return whether the arguments of `Tensor.to` name a device, itself or by a tensor."""
    values = (*args, kwargs.get("device"), kwargs.get("other"))
    return any(isinstance(value, torch.device | Tensor | str) for value in values)


def _caller() -> str:
    """Return file and line of the package's frame nearest to the operation."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "sparring" in path.parts[:-1]:
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def waits_per_step(run: Callable[[int], object], few: int = 20, many: int = 60) -> float:
    """Return the waits of one step of `run(steps)` on a believed GPU: those that more steps add."""
    counts = []
    for steps in (few, many):
        with believed_gpu(), HostWaits() as waits:
            run(steps)
        counts.append(waits.total)
    return (counts[1] - counts[0]) / (many - few)
