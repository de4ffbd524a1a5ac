"""Keep freed memory in the process, and retry with smaller batches when memory runs out."""

from __future__ import annotations

import ctypes
import errno
import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

TRIM, MMAP = -1, -3  # parameters of mallopt
KEPT = 1 << 30
DEFAULT = 1 << 25  # the value that glibc's own, moving threshold reaches with large tensors
FULL = re.compile(
    r"(can't|cannot|could not|failed to|unable to) allocate|not enough memory|out of memory"
    r"|ALLOC_FAILED|bad_alloc|bad allocation",
    re.IGNORECASE,
)
_depth = 0


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Reuse the memory of freed tensors, up to 1 GiB each, inside; return it to the system after.

    By default glibc maps a large tensor again at each pass, and the kernel clears each of its
    pages: a third of the time of a float32 pass over a small convolutional net. Without glibc
    nothing happens.

    >>> with keep_freed_memory():
    ...     pass
    """
    global _depth
    libc = _glibc()
    _depth += 1
    try:
        if libc is not None and _depth == 1:  # nested: the outermost sets and resets
            libc.mallopt(MMAP, KEPT)
            libc.mallopt(TRIM, 2 * KEPT - 1)
        yield
    finally:
        _depth -= 1
        if libc is not None and _depth == 0:
            _return_freed_memory(libc)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc, names = ctypes.CDLL(None), ("mallopt", "malloc_trim", "gnu_get_libc_version")
    return libc if all(hasattr(libc, name) for name in names) else None


def retry_smaller_batch(run: Callable[[int], T], batch_size: int) -> T:
    """Return `run(batch_size)`, halving the batch size as long as memory runs out.

    >>> retry_smaller_batch(lambda batch_size: batch_size, 250)
    250
    """
    while True:
        try:
            return run(batch_size)
        except Exception as error:  # each library raises its own
            if batch_size == 1 or not out_of_memory(error):
                raise
        # After the except block: until there the error's traceback keeps the tensors of the failed
        # run alive.
        _release()
        batch_size //= 2


def _release() -> None:
    """Return freed memory to the system, and from now on at once: it is short."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if (libc := _glibc()) is not None:
        _return_freed_memory(libc)


def _return_freed_memory(libc: ctypes.CDLL) -> None:
    libc.mallopt(MMAP, DEFAULT)
    libc.mallopt(TRIM, 2 * DEFAULT)
    libc.malloc_trim(0)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on a GPU or the CPU.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"))
    True
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # PyTorch, its libraries and others raise plain errors: recognised by their texts.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(FULL.search(str(error)))
