"""Trace a network by torch.fx, and leave it as it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from ..runtime.torch_private import tensor_version

TABLES = (dict, list, set, deque)
NORMALIZE = "sparring.models.normalize.Normalize"


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the graph of a network, whose layers of torch and `Normalize` are single steps.

    The model's own code runs on stand-ins for tensors; what it keeps of them is undone.
    """
    tracer = _Tracer()
    with _unchanged(model):
        graph = tracer.trace(nn.Sequential(model))  # else a bare layer would be traced into
    return fx.GraphModule(tracer.root, graph)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_normalize(m) or super().is_leaf_module(m, module_qualified_name)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put the attributes of all modules back on the way out, the lists and tables among them, and
    the content of buffers: a model that stores an activation would keep a stand-in."""
    tables: list[Any] = [vars(m) for m in model.modules()]
    tables += [v for table in tables for v in table.values() if isinstance(v, TABLES)]
    contents = [table.copy() for table in tables]
    buffers = [b for b in model.buffers() if not nn.parameter.is_lazy(b)]
    saved = [(b, b.clone(), tensor_version(b)) for b in buffers]
    try:
        yield
    finally:
        for table, content in zip(tables, contents, strict=True):
            if _ids(table) != _ids(content):
                table.clear()
                (table.update if isinstance(table, dict | set) else table.extend)(content)
        for buffer, content, version in saved:
            if tensor_version(buffer) != version:
                buffer.data.copy_(content)


def _ids(table: Any) -> list[int]:
    """Return which objects a table or list holds; equality might be that of tensors."""
    keys = [id(key) for key in table]
    return keys + [id(v) for v in table.values()] if isinstance(table, dict) else keys


def has_hooks(m: nn.Module) -> bool:
    """Return whether hooks may change what a module takes or gives.

    Those by which torch computes a weight, as for pruning, do not: they set it before the pass.
    """
    before, after = (vars(m).get(key) or {} for key in ("_forward_pre_hooks", "_forward_hooks"))
    recomputes = [type(hook).__module__.startswith("torch.nn.utils.") for hook in before.values()]
    return bool(after) or not all(recomputes)


def is_normalize(m: nn.Module) -> bool:
    """Return whether a module is our `Normalize`, which this package must not import."""
    return class_name(m) == NORMALIZE


def class_name(m: object) -> str:
    """Return the full name of an object's class."""
    return f"{type(m).__module__}.{type(m).__qualname__}"
