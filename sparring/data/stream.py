"""Stream data that do not fit in memory from any `torch.utils.data` data set."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from ..component import require_at_least
from ..runtime import distributed
from ..runtime.seeding import derive_seed, seeded
from ..runtime.text import printable
from . import limits
from .split import Bounds, Pair, Split, check_samples, chosen_rows, to_float32

Sample = tuple[Tensor, Tensor, Tensor]


class Stream:
    """Hold a split that `Loader` reads batch by batch; see `from_torch`.

    Samples are pairs of x (a tensor, an array or a Pillow picture; uint8 is value/255) and an
    integer y (-1 is unlabeled). Each batch is checked against bounds and classes when it is read.
    """

    def __init__(
        self, dataset: Dataset, *, classes: int, n: int, bounds: Bounds, workers: int, name: str
    ) -> None:
        self.dataset, self.classes, self.n, self.bounds = dataset, classes, n, bounds
        self.workers, self.name = workers, name

    def __len__(self) -> int:
        return self.n

    @property
    def sequential(self) -> bool:
        """Whether the samples can only be read in the data set's order."""
        return isinstance(self.dataset, IterableDataset)

    def to(self, device: str | torch.device) -> Stream:
        """Return itself: `Loader` moves the batches."""
        return self

    def subset(self, n: int, seed: int = 0, *, first: bool = False) -> Split:
        """Read `n` samples into memory: drawn by the seed; or the first, as of an iterable."""
        require_at_least(1, n=n)
        return self._in_memory(chosen_rows(self.n, n, seed, first=first or self.sequential))

    def _in_memory(self, rows: Tensor) -> Split:
        plan = list(rows.split(256))
        x, y, index = (torch.cat(parts) for parts in zip(*self.read(plan, seed=0), strict=True))
        return Split(x, y, index)

    def read(self, plan: Sequence[Tensor], *, seed: int) -> Iterator[Sample]:
        """Yield `(x, y, rows)` for each batch of rows, x float32.

        Arguments:
            plan: rows of each batch.
            seed: for the reading processes.
        """
        dataset: Any = self.dataset
        options: dict[str, Any] = {"collate_fn": collate, "num_workers": self.workers}
        options["generator"] = torch.Generator().manual_seed(seed)  # else DataLoader draws globally
        if self.sequential:
            largest = max(len(rows) for rows in plan)
            chunks: Any = DataLoader(dataset, batch_size=largest, **options)
            pairs = self._rechunk(plan, self._drawn(iter(chunks), seed))
        else:
            batches: Any = map(Tensor.tolist, plan)  # lists of integers, made one at a time
            loader: Any = DataLoader(dataset, batch_sampler=batches, **options)
            pairs = self._drawn(iter(loader), seed)
        for rows, (x, y) in zip(plan, self._whole(pairs), strict=True):
            check_samples(self.name, x, y, self.classes, self.bounds)
            yield to_float32(x), y, rows

    def _drawn(self, pairs: Iterator[Pair], seed: int) -> Iterator[Pair]:
        """Yield the batches, whose samples may draw from PyTorch's global generator.

        Without a seed of each batch, they would depend on the caller's state and on every draw of
        the training between two batches, and a resumed run would go on differently.
        """
        for number in itertools.count():
            if self.workers:  # which PyTorch seeds by the generator
                pair = next(pairs, None)
            else:
                drawn = derive_seed(seed, distributed.rank(), number)
                with seeded(torch.device("cpu"), drawn):
                    pair = next(pairs, None)
            if pair is None:
                return
            yield pair

    def _whole(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """Yield the batches; raise `ValueError` if the data set has no sample where it says so."""
        try:
            yield from pairs
        except (IndexError, KeyError) as error:
            what = f"{self.name} failed to give one of its n = {self.n} samples"
            raise ValueError(f"{what}: {type(error).__name__}: {_last_line(error)}") from error
        except ValueError as error:
            if "worker process" not in str(error):
                raise
            text = _last_line(error).removeprefix("ValueError: ")  # below its traceback
            raise ValueError(f"{self.name}: {text}") from error

    def _rechunk(self, plan: Sequence[Tensor], chunks: Iterator[Pair]) -> Iterator[Pair]:
        """Yield rows first..last of each batch from chunks of any length."""
        # with several workers, each ends with a short chunk; and a rank skips the others' rows
        buffer: list[Pair] = []
        first = 0
        for rows in plan:
            start, stop = int(rows[0]), int(rows[-1]) + 1
            while first + sum(len(y) for _, y in buffer) < stop:
                chunk = next(chunks, None)
                if chunk is None:
                    raise ValueError(f"{self.name} ended before its n = {self.n} samples")
                buffer.append(chunk)
            x, y = (torch.cat(parts) for parts in zip(*buffer, strict=True))
            yield x[start - first : stop - first], y[start - first : stop - first]
            buffer, first = [(x[stop - first :], y[stop - first :])], stop


def collate(samples: list[Any]) -> Pair:
    """Stack a list of (x, y) into one batch.

    Raises:
        ValueError: for samples that are not such pairs, or x of several shapes.
    """
    if isinstance(samples[0], Mapping):
        keys = ", ".join(printable(k, 20) for k in list(samples[0])[:4])
        raise ValueError(f"a data set must give pairs (x, integer label), not a mapping of {keys}")
    try:
        pairs = [(x, operator.index(y)) for x, y in samples]
    except (TypeError, ValueError) as error:
        raise ValueError(f"a data set must give pairs (x, integer label): {error}") from None
    if beyond := next((y for _, y in pairs if not -(2**63) <= y < 2**63), None):
        raise ValueError(f"a data set must give integer labels of its classes, not {beyond:.3g}")
    xs = [_tensor(x) for x, _ in pairs]
    shapes = sorted({tuple(x.shape) for x in xs})
    if len(shapes) > 1:
        raise ValueError(f"a data set must give x of one shape, not {shapes[0]} and {shapes[1]}")
    return torch.stack(xs), torch.tensor([y for _, y in pairs])


def _last_line(error: BaseException) -> str:
    """Return what an error says; that of a reading process begins with its traceback."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), "")


def _tensor(x: Any) -> Tensor:
    if hasattr(x, "getbands"):  # a Pillow picture
        a = np.array(x)
        return torch.from_numpy(a[None] if a.ndim == 2 else a.transpose(2, 0, 1).copy())
    try:
        x = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"a data set must give x of numbers, not a {type(x).__name__}") from None
    return x if x.dtype == torch.uint8 else x.float()


def from_torch(
    dataset: Dataset,
    *,
    classes: int,
    n: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    workers: int = 0,
    name: str = "the data set",
    seed: int = 0,
) -> Stream:
    """Return a split that streams any `torch.utils.data` data set of (x, y).

    Arguments:
        n: samples per epoch; needed for an iterable data set without a length. Of a longer data set
            with numbered rows, the same n are read in each epoch, drawn from all of it by the seed;
            an iterable gives its first n.
        workers: number of reading processes.
        seed: draws the n rows.

    Raises:
        ValueError: for an empty data set, a `DataLoader`, fewer than 2 classes, or no n where it is
            needed.

    >>> from torch.utils.data import TensorDataset
    >>> len(from_torch(TensorDataset(torch.rand(3, 2), torch.tensor([0, 1, 0])), classes=2))
    3
    """
    if isinstance(dataset, DataLoader):
        raise ValueError(f"{name} is a DataLoader: give the data set that it reads, loader.dataset")
    if not hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset):
        what = f"{name} is a {type(dataset).__name__}"
        raise ValueError(f"{what}: it must be a torch.utils.data.Dataset, or a sequence of (x, y)")
    length = len(dataset) if hasattr(dataset, "__len__") else None  # type: ignore[arg-type]
    if n is None and length is None:
        raise ValueError("n is needed, samples per epoch: this iterable data set has no length")
    if length == 0:
        raise ValueError(f"{name} is empty")
    n = min(v for v in (n, length) if v is not None)
    require_at_least(1, n=n)
    require_at_least(2, classes=classes)
    limits.check_classes(name, classes)
    if length is not None and n < length and not isinstance(dataset, IterableDataset):
        # the first rows of a data set that is sorted would be of one class
        dataset = Subset(dataset, chosen_rows(length, n, seed).tolist())
    return Stream(dataset, classes=classes, n=n, bounds=bounds, workers=workers, name=name)
