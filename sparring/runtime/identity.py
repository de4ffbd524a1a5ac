"""Hash a model, so that a result of one is never taken for a result of another."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import pickle
import re
import sys
import types
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import Model

MAX_DEPTH = 60
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis))
FACTS = (torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype)
IMMUTABLE = (tuple, frozenset, types.CodeType, np.generic, *FACTS)
MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


def model_hash(model: Model) -> str:
    """Return the sha256 of a model: structure, parameters, buffers, and the code of functions.

    Functions count with their bytecode, constants, defaults, and the values they read from
    closures and globals. Where a part can't be hashed, no two calls return the same.

    >>> a, b = (lambda x, c=c: x * c for c in (1, 2))
    >>> model_hash(a) == model_hash(a), model_hash(a) == model_hash(b)
    (True, False)
    """
    digest = ModelDigest(model)
    if digest.unknown:
        digest.text(uuid.uuid4().hex)
    return digest.sha.hexdigest()


def unhashable_part(model: Model) -> str:
    """Return the name of a part of the model that can't be hashed; "" if there is none.

    >>> unhashable_part(lambda x: x)
    ''
    """
    return next(iter(ModelDigest(model).unknown), "")


def modules_of(model: Model) -> list[nn.Module]:
    """Return the modules that a model consists of: itself, or those that a function reads.

    >>> net = nn.Linear(2, 2)
    >>> modules_of(lambda x, net=net: net(x)) == [net]
    True
    """
    return [model] if isinstance(model, nn.Module) else ModelDigest(model).modules


def tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the sha256 of named tensors: shapes, types and values."""
    sha = hashlib.sha256()
    for name, t in tensors:
        with contextlib.suppress(RuntimeError, NotImplementedError, TypeError):  # as sparse ones
            _update_tensor(sha, name, t)
    return sha.hexdigest()


class ModelDigest:
    """Hash a model and everything its output may depend on.

    Attributes:
        unknown: names of the parts that can't be hashed.
        modules: the outermost modules among the parts.
    """

    def __init__(self, model: Model) -> None:
        self.sha, self.unknown, self.modules = hashlib.sha256(), list[str](), list[nn.Module]()
        self.seen: dict[int, Any] = {}  # the values too: a freed one would lend its id to another
        self.depth = 0
        self.add(model, "model")

    def text(self, text: str) -> None:
        """Add a text, and its length, so that no two sequences of texts read alike."""
        self.sha.update(f"{len(text)}:{text};".encode("utf-8", "surrogatepass"))

    def add(self, value: Any, name: str) -> None:
        """Add a value; `name` is where it was read."""
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return self.text(f"{type(value).__name__} {value!r}")
        # How often Python shares one of the immutable values is its own choice.
        if not isinstance(value, IMMUTABLE):
            if id(value) in self.seen:
                return self.text("seen")
            self.seen[id(value)] = value
        self.text(type(value).__qualname__)
        self.depth += 1
        try:
            # A chain this long is a structure like a graph of nodes, not a model's setting.
            self.unknown.append(name) if self.depth > MAX_DEPTH else self._add(value, name)
        finally:
            self.depth -= 1

    def _add(self, value: Any, name: str) -> None:
        if isinstance(value, nn.Module):
            self._add_module(value, name)
        elif isinstance(value, Tensor):
            self._add_tensor(value, name)
        elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            self.text(f"{value.shape} {value.dtype}")
            self.sha.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, FACTS):
            self.text(repr(value))
        elif isinstance(value, types.ModuleType):
            self.text(value.__name__)
        elif isinstance(value, types.CodeType):
            self._add_code(value, name)
        elif isinstance(value, types.FunctionType):
            self._add_function(value, name)
        elif isinstance(value, type):
            self._add_class(value, name)
        elif isinstance(value, functools.partial):
            self._add_all([value.func, value.args, value.keywords], name)
        elif isinstance(value, types.MethodType):
            self._add_all([value.__func__, value.__self__], name)
        elif isinstance(value, Mapping):
            self._add_all([part for item in value.items() for part in item], name)
        elif isinstance(value, list | tuple):
            self._add_all(value, name)
        elif isinstance(value, set | frozenset):
            self._add_all(sorted(value, key=repr), name)
        else:
            self._add_object(value, name)

    def _add_all(self, values: Iterable[Any], name: str) -> None:
        for i, value in enumerate(values):
            self.add(value, f"{name}[{i}]")

    def _add_tensor(self, t: Tensor, name: str) -> None:
        try:
            _update_tensor(self.sha, "", t)
        except (RuntimeError, NotImplementedError, TypeError):  # sparse, quantized, meta
            self.unknown.append(name)

    def _add_module(self, module: nn.Module, name: str) -> None:
        self.modules.append(module)
        self.text(ADDRESS.sub("", repr(module)))
        tensors = [*module.state_dict().items(), *module.named_buffers()]
        for key, t in dict(tensors).items():
            self.text(key)
            self.add(t, f"{name}.{key}")
        for path, inner in module.named_modules():
            self._add_settings(inner, f"{name}.{path}" if path else name)

    def _add_settings(self, module: nn.Module, name: str) -> None:
        """Add what a module's output depends on beside its tensors: code, attributes, hooks."""
        self.seen[id(module)] = module
        self.add(type(module), name)
        settings = {k: v for k, v in vars(module).items() if k not in MODULE_ATTRIBUTES}
        if isinstance(settings.get("digest"), str):  # it names the content that it carries
            settings = {"digest": settings["digest"]}
        elif _is_installed(type(module).__module__):
            # The text of a known layer has its numbers: only functions are missing there.
            settings = {k: v for k, v in settings.items() if isinstance(v, types.FunctionType)}
        for key, value in settings.items():
            self.text(key)
            self.add(value, f"{name}.{key}")
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            self._add_all(list(hooks.values()), f"{name}'s hooks")
        code = getattr(module, "code", "")  # of a program: traced, scripted or exported
        self.text(code if isinstance(code, str) else "")

    def _add_function(self, f: types.FunctionType, name: str) -> None:
        self.text(f"{f.__module__}.{f.__qualname__}")
        if _is_installed(f.__module__ or ""):
            return self._add_all([f.__defaults__, f.__kwdefaults__, *_cells(f)], name)
        self.add(f.__code__, name)
        self._add_all([f.__defaults__, f.__kwdefaults__], name)
        for free, cell in zip(f.__code__.co_freevars, _cells(f), strict=True):
            self.add(cell, free)
        for read in sorted(_names_read(f.__code__)):
            if read in f.__globals__:
                self.text(read)
                self.add(f.__globals__[read], read)

    def _add_code(self, code: types.CodeType, name: str) -> None:
        self.sha.update(code.co_code)
        counts = (code.co_argcount, code.co_kwonlyargcount, code.co_flags)
        self._add_all([code.co_names, code.co_varnames, code.co_freevars, counts], name)
        self._add_all(code.co_consts, name)

    def _add_class(self, kind: type, name: str) -> None:
        for one in kind.__mro__:
            self.text(f"{one.__module__}.{one.__qualname__}")
            if not _is_installed(one.__module__):
                for key, value in sorted(vars(one).items()):
                    value = inspect.unwrap(getattr(value, "fget", None) or value)
                    value = getattr(value, "__func__", value)
                    if isinstance(value, (types.FunctionType, *PLAIN)) and key[:2] != "__":
                        self.text(key)
                        self.add(value, f"{name}.{key}")
                if "__call__" in vars(one):
                    self.add(vars(one)["__call__"], f"{name}.__call__")

    def _add_object(self, value: Any, name: str) -> None:
        self.add(type(value), name)
        attributes = getattr(value, "__dict__", None)
        if attributes is not None and not _is_installed(type(value).__module__):
            for key, part in attributes.items():
                self.text(key)
                self.add(part, f"{name}.{key}")
        elif callable(value) and isinstance(getattr(value, "__qualname__", None), str):
            self.text(f"{getattr(value, '__module__', '')}.{value.__qualname__}")  # a builtin
        else:
            try:
                self.sha.update(pickle.dumps(value, protocol=4))
            except Exception:  # pickling runs the object's own code
                self.unknown.append(name)


def _update_tensor(sha: Any, name: str, t: Tensor) -> None:
    sha.update(f"{name}{tuple(t.shape)}{t.dtype}".encode())
    flat = t.detach().cpu().contiguous().reshape(-1)
    sha.update(flat.view(torch.uint8).numpy())


def _cells(f: types.FunctionType) -> list[Any]:
    """Return the values of a function's closure; the text "empty" for a cell without one."""
    values = []
    for cell in f.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            values.append("empty")
    return values


def _names_read(code: types.CodeType) -> set[str]:
    """Return names of globals that code, or a function defined in it, may read."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*map(_names_read, inner))


@functools.cache
def _is_installed(module: str) -> bool:
    """Return whether a module comes with Python or a package, whose version is recorded."""
    top = module.partition(".")[0]
    if top == "__main__":  # a script, whatever file runs it
        return False
    if top in sys.stdlib_module_names or top in ("sparring", "torch", "numpy"):
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
