"""Read samples of a PyTorch data set, or of a loader of one, into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ..component import require_at_least
from ..runtime.seeding import seeded
from . import limits
from .labels import class_numbers
from .split import Pair, Split, are_flags, as_inputs, chosen_rows
from .stream import collate

CHUNK = 256  # samples that are read at once from a data set


def read_torch(
    data: Dataset[Any] | DataLoader[Any], *, n: int | None, seed: int, first: bool = False
) -> Split:
    """Return samples of a data set of pairs (x, integer label), or of a loader of such.

    Of a loader that only shuffles, or does not, the data set itself is read, so that every model
    meets the same samples. Other loaders, as with a sampler of their own, give theirs in their
    order, shuffled by the seed.

    Arguments:
        n: this many samples, drawn by the seed; None: all. Of an iterable data set, and of a loader
            with a sampler of its own, the first n.
        first: take the first n samples.

    Raises:
        ValueError: for samples of another form, or more bytes than `limits.max_bytes`.
    """
    if isinstance(data, DataLoader) and _is_whole(data):
        data = data.dataset
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        x, y = data.tensors
        split = split_of(x, y)
        return split if n is None or n >= len(split) else split.subset(n, seed, first=first)
    name = f"data, a {type(data).__name__},"
    with seeded(torch.device("cpu"), seed):  # a loader draws from the global state
        if isinstance(data, DataLoader):
            return _joined(name, _batches(name, data), n)
        if isinstance(data, IterableDataset):
            loader = DataLoader(data, batch_size=CHUNK, collate_fn=collate)
            return _joined(name, iter(loader), n)
        total = len(data)  # type: ignore[arg-type]
        require_at_least(1, **{"len(data)": total})
        rows = chosen_rows(total, total if n is None else n, seed, first=first or n is None)
        chunks = (collate([data[i] for i in part.tolist()]) for part in rows.split(CHUNK))
        split = _joined(name, chunks, None)
        return Split(split.x, split.y, rows)


def split_of(x: Any, y: Any) -> Split:
    """Return inputs `(n, *d)` and labels `(n,)` as a split; uint8 of 0 and 1 alone are flags."""
    x = as_inputs(x)
    return Split(x.float() if are_flags(x) else x, class_numbers("y", y))


def _is_whole(loader: DataLoader[Any]) -> bool:
    """Return whether a loader gives each sample of its data set as it is, once, in some order."""
    sampler = loader.sampler
    complete = isinstance(sampler, SequentialSampler)
    if isinstance(sampler, RandomSampler):
        complete = not sampler.replacement and len(sampler) == len(sampler.data_source)
    # beside a batch sampler of the user's, `sampler` is a default that nothing uses
    batches = loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler
    plain = batches and loader.collate_fn is default_collate
    return plain and complete


def _batches(name: str, loader: DataLoader[Any]) -> Iterator[Pair]:
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            kind = type(batch).__name__
            raise ValueError(f"{name} gives batches that are a {kind}: they must be (x, y)")
        x, y = batch
        yield as_inputs(x), class_numbers("y", y)


def _joined(name: str, batches: Iterator[Pair], n: int | None) -> Split:
    """Return the first n samples of the batches as one split, within the limit of memory."""
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    size = count = 0
    for x, y in batches:
        xs.append(x)
        ys.append(y)
        size, count = size + x.numel() * x.element_size(), count + len(x)
        limits.check_bytes(name, size)
        if n is not None and count >= n:
            break
    if not count:
        raise ValueError(f"{name} has no samples")
    split = split_of(torch.cat(xs), torch.cat(ys))
    return split if n is None else split.take(slice(0, n))
