"""Read pickles of plain data: an interpreter that calls nothing of what a file names.

The pickle module would call numpy's constructors with the file's arguments, which can turn bytes
into pointers, and would reserve whatever memory a file asks for.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from .text import printable

MAX_STEPS = 10_000_000  # a CIFAR batch takes at most 300,000
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
ARRAY, DTYPE = ("numpy", "ndarray"), ("numpy", "dtype")
CORE = ("numpy.core", "numpy._core")  # numpy moved it
BLANK = [(f"{core}.multiarray", "_reconstruct") for core in CORE]
BUFFER = [(f"{core}.numeric", "_frombuffer") for core in CORE]
CODEC = ("_codecs", "encode")
EMPTY = [("__builtin__", "bytes"), ("builtins", "bytes")]  # b"", in protocol 2
NAMES = {ARRAY, DTYPE, CODEC, *BLANK, *BUFFER, *EMPTY}


class PickleError(ValueError):
    """Refusal of a pickle that is damaged, or asks for more than plain data."""


class _Name(tuple):
    """Module, and a name in it."""


class _Dtype:
    """A type of numbers, built up as numpy's pickles do."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    @property
    def value(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """An array, whose numbers come one step after its name."""

    value: np.ndarray | None = None


def load(content: bytes) -> Any:
    """Return the containers, texts, numbers and arrays of a pickle.

    Raises:
        PickleError: for a damaged pickle, or one with other content.

    >>> import pickle
    >>> load(pickle.dumps({"a": [1, 2.5, None], "b": np.arange(3)}))
    {'a': [1, 2.5, None], 'b': array([0, 1, 2])}
    """
    try:
        return _finished(_Interpreter(len(content)).run(content))
    except ValueError as error:  # of ours and of pickletools
        raise PickleError(shown(str(error))) from None
    except (LookupError, TypeError, OverflowError, AttributeError):
        raise PickleError("its steps do not fit each other") from None


class _Interpreter:
    """The stack machine of pickle, without the parts that call a file's names."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left_to_encode = size  # each text is encoded once, so this suffices

    def run(self, content: bytes) -> Any:
        value: Any
        for step, (code, value, _) in enumerate(pickletools.genops(content)):
            if step >= MAX_STEPS:
                raise PickleError(f"it takes more than {MAX_STEPS:,} steps")
            name = code.name
            if name == "STOP":
                return self.stack.pop()
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in BYTES:  # genops gives these as latin-1 text
                self.stack.append(value.encode("latin-1"))
            elif name in VALUES:
                self.stack.append(value)
            elif name in STEPS:
                STEPS[name](self, value)
            elif name not in ("PROTO", "FRAME"):
                raise PickleError(f"it needs the step {name}; only plain arrays are read")
        raise PickleError("it has no end")

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def new(self, make: Callable[[list[Any]], Any], count: int | None = None) -> None:
        items = self.since_mark() if count is None else self.stack[len(self.stack) - count :]
        if count is not None:
            if len(items) != count or len(self.stack) < count:
                raise PickleError("its stack is empty")
            del self.stack[len(self.stack) - count :]
        self.stack.append(make(items))

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise PickleError("it appends to what is not a list")
        self.stack[-1].extend(items)

    def assign(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise PickleError("it assigns to what is not a dictionary")
        target.update(_pairs(items))

    def global_name(self, value: str | None) -> None:
        if value is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = value.partition(" ")
        # types first, since some tuples take years to hash
        if type(module) is not str or type(name) is not str or (module, name) not in NAMES:
            names = f"{shown(module)}.{shown(name)}"
            raise PickleError(f"it names {names}; only plain arrays are read")
        self.stack.append(_Name((module, name)))

    def call(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(arguments) is not tuple:
            raise PickleError("it calls what is not a name")
        if name == DTYPE:
            self.stack.append(_dtype(*arguments))
        elif name == CODEC:
            self.stack.append(self.encode(*arguments))
        elif name in EMPTY and not arguments:
            self.stack.append(b"")
        elif name in BUFFER:
            array = _Array()
            array.value = _array(*arguments)
            self.stack.append(array)
        elif name in BLANK and type(arguments[0]) is _Name and arguments[0] == ARRAY:
            self.stack.append(_Array())
        else:
            raise PickleError(f"it calls {name[0]}.{name[1]}; only plain arrays are read")

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise PickleError(f"it needs the codec {shown(encoding)}")
        self.left_to_encode -= len(text)
        if self.left_to_encode < 0:
            raise PickleError("it encodes one text many times")
        return text.encode("latin1")

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is _Dtype:
            target.order = _byte_order(state)
        elif type(target) is _Array and type(state) is tuple and len(state) == 5:
            _, shape, dtype, fortran, content = state
            target.value = _array(content, dtype, shape, "F" if fortran else "C")
        else:
            raise PickleError("it sets the state of what is not an array")


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
BYTES = ("STRING", "BINSTRING", "SHORT_BINSTRING")
VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
STEPS: dict[str, Callable[[_Interpreter, Any], Any]] = {
    "MARK": _Interpreter.mark,
    "POP": lambda machine, _: machine.stack.pop(),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "LIST": lambda machine, _: machine.new(list),
    "DICT": lambda machine, _: machine.new(lambda items: dict(_pairs(items))),
    "TUPLE": lambda machine, _: machine.new(tuple),
    "TUPLE1": lambda machine, _: machine.new(tuple, 1),
    "TUPLE2": lambda machine, _: machine.new(tuple, 2),
    "TUPLE3": lambda machine, _: machine.new(tuple, 3),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: _set_item(machine),
    "SETITEMS": lambda machine, _: machine.assign(machine.since_mark()),
    "MEMOIZE": _Interpreter.remember,
    "GLOBAL": _Interpreter.global_name,
    "STACK_GLOBAL": _Interpreter.global_name,
    "REDUCE": _Interpreter.call,
    "BUILD": _Interpreter.build,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Interpreter.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Interpreter.recall),
}


def _set_item(machine: _Interpreter) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.assign([key, value])


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    """Return keys and values; raise for a key that is neither text nor an integer."""
    keys = items[::2]
    if any(type(key) not in (str, bytes, int) for key in keys):
        raise PickleError("a key of a dictionary is neither text nor an integer")
    return list(zip(keys, items[1::2], strict=True))


def _text(value: Any) -> Any:
    return value.decode("latin-1") if type(value) is bytes and len(value) < 8 else value


def _dtype(code: Any, align: Any = False, copy: Any = False) -> _Dtype:
    code = _text(code)
    if type(code) is not str or code not in NUMBERS:
        raise PickleError(f"its array is of type {shown(code)}, not of {', '.join(NUMBERS)}")
    return _Dtype(code)


def _byte_order(state: Any) -> str:
    """Return the one thing that the state of a type of plain numbers says."""
    plain = type(state) is tuple and len(state) == 8 and _text(state[1]) in ("<", ">", "|", "=")
    # subtype, names and fields are None; size and alignment are the code's; no flag is set
    if not plain or state[2:5] != (None,) * 3 or state[5:] != (-1, -1, 0):
        raise PickleError("the type of its array is not one of plain numbers")
    return _text(state[1])


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Return an array of these bytes, after a check that they are as many as its shape takes."""
    if type(dtype) is not _Dtype or type(content) not in (bytes, bytearray):
        raise PickleError("its array is not given by a type and bytes")
    if type(shape) is not tuple or len(shape) > 32 or _text(order) not in ("C", "F"):
        raise PickleError("its array has no plain shape and order")
    # each size first: the product of many long ones would take minutes
    if not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise PickleError("its array has an impossible shape: its sizes must be integers ≥ 0")
    if math.prod(shape) * dtype.value.itemsize != len(content):
        raise PickleError(f"its array has {len(content):,} bytes, not as many as its shape takes")
    return np.frombuffer(content, dtype.value).reshape(shape, order=_text(order))


def _finished(value: Any) -> Any:
    """Return arrays in place of the steps that built them, at the two outer levels."""
    if type(value) is dict:
        return {k: v.value if type(v) is _Array else v for k, v in value.items()}
    return value.value if type(value) is _Array else value


def shown(value: Any, most: int = 300) -> str:
    """Return a text as `printable` does; of another value its type, as a repr may be endless.

    >>> shown("a\\x1b[2J"), shown(b"ab"), shown([[]])
    ('a\\\\x1b[2J', "b'ab'", 'a list')
    """
    if type(value) not in (str, bytes):
        return f"a {type(value).__name__}"
    return printable(value, most)
