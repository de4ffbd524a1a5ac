"""Keep freed memory in the process: on Linux, large tensors otherwise cost a page fault a page."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

TRIM, MMAP = -1, -3  # parameters of mallopt
KEPT = 1 << 30
USUAL = 1 << 25  # where glibc's own threshold ends after a few large tensors
_depth = 0


@contextmanager
def kept() -> Iterator[None]:
    """Inside, memory of freed tensors up to 1 GiB each is used again instead of given back.

    glibc maps large tensors freshly at each pass, and the kernel then clears every page of them: a
    third of the time of a float32 pass over a small convolutional net. On the way out the memory
    goes back. Nothing happens where there is no glibc.

    >>> with kept():
    ...     pass
    """
    global _depth
    libc = _glibc()
    _depth += 1
    try:
        if libc is not None and _depth == 1:
            libc.mallopt(MMAP, KEPT)
            libc.mallopt(TRIM, 2 * KEPT - 1)
        yield
    finally:
        _depth -= 1
        if libc is not None and _depth == 0:
            libc.mallopt(MMAP, USUAL)
            libc.mallopt(TRIM, 2 * USUAL)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    known = all(hasattr(libc, name) for name in ("mallopt", "malloc_trim", "gnu_get_libc_version"))
    return libc if known else None


def retry_smaller_batch(run: Callable[[int], T], size: int) -> T:
    """`run(size)`, with half the size as often as memory runs out.

    >>> retry_smaller_batch(lambda size: size, 250)
    250
    """
    while True:
        try:
            return run(size)
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in PyTorch's allocator on the CPU.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"))
    True
    """
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "not enough memory" in str(error)
