"""Query a network at points that differ from known ones in one window: only what sees it runs."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ..batch import Model
from ..runtime.compiled import CompiledModel
from ..runtime.torch_private import cpu_speed
from .folded import Folded, Pair
from .folded_model import FoldedModel, folded_model, is_plain
from .local_plan import BORDERS, PlanTooLarge, Read, WindowPlan

CHUNK_ROWS = 64  # that run together: what they read and compute fits a CPU's caches
MAX_BYTES = 2**30  # of all images that are kept
WORTH_IT = 0.85  # of the cost of a whole pass
# A pass over windows multiplies slower than one over images, as its convolutions are small.
WINDOW_SPEED = {torch.float32: 0.8, torch.bfloat16: 0.65}
NS_PER_BYTE = {torch.float32: 0.15, torch.bfloat16: 0.2}  # read from an image or written to it
NS_PER_READ = 300  # of one sample, at CHUNK_ROWS rows


class LocalQueries(Protocol):
    """Answer queries near known points; `local_forward` returns one.

    First `prepare` the points and the size of the windows. Then each call has one proposal per
    point. `accept` makes proposals the known points, and `keep` drops points.
    """

    def prepare(self, best: Tensor, sides: Pair) -> bool:
        """Get ready for windows of `sides` (height, width) in `best (b, c, h, w)`, unless that is
        done. Return False where a whole pass is cheaper, or memory too small."""
        ...

    def __call__(self, z: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Return the logits `(b, k)` of `z (b, c, h, w)`, which differs from the known points only
        in windows with their corners at `top (b,)` and `left (b,)`."""
        ...

    def whole(self, z: Tensor) -> Tensor:
        """Return the logits `(b, k)` of any points by a whole pass, where no window is prepared."""
        ...

    def accept(self, rows: Tensor) -> None:
        """Make the last proposal the known point where the mask `rows (b,)` is true."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop all points but `rows`, a mask or numbers."""
        ...


def local_forward(
    model: Model, x: Tensor, dtype: torch.dtype = torch.float32
) -> LocalQueries | None:
    """Return an object that answers queries near known points, or None for a model that only runs
    whole.

    It needs a CPU, float32 images and weights, eval mode, and a network that `Folded` reads: of
    convolutions, norms, elementwise functions, pooling, sums, and linear layers at its end. A model
    with a method of this name, as a guard, hands out its own object.

    Arguments:
        x: images `(b, c, h, w)`; on the first ones the folded network must agree with the model.
        dtype: of its convolutions, `torch.float32` or `torch.bfloat16`.

    >>> layers = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten()
    >>> net, x = nn.Sequential(*layers, nn.Linear(18432, 3)).eval(), torch.rand(2, 1, 28, 28)
    >>> local = local_forward(net, x)
    >>> local.prepare(x, (3, 3)), local.prepare(x, (28, 28))
    (True, False)
    """
    hand_out = getattr(model, "local_forward", None)
    if hand_out is not None:
        return hand_out(x, dtype)
    model = model.model if isinstance(model, CompiledModel) else model
    if not isinstance(model, nn.Module) or not is_plain(model, x) or dtype not in WINDOW_SPEED:
        return None
    if any(hasattr(m, "local_forward") for m in model.modules()):
        return None
    if isinstance(model, FoldedModel) and model.shape != x.shape[1:]:
        model = model.model
    # an evaluation has folded the model already, once for all batches
    folded = model if isinstance(model, FoldedModel) else folded_model(model, x)
    return LocalForward(folded.folded[dtype]) if isinstance(folded, FoldedModel) else None


class LocalForward:
    """Answer queries near known points by a folded network; see `LocalQueries`.

    The images that layers read are kept for the known points. A query reads from them what its
    window is seen with, and computes only what sees the window.
    """

    def __init__(self, network: Folded) -> None:
        self.network, self.plan, self.ready = network, WindowPlan([], (0, 0)), False
        self.memories: dict[int, _Memory] = {}
        self.position = torch.zeros(0, dtype=torch.long)

    def prepare(self, best: Tensor, sides: Pair) -> bool:
        """Compute the images of `best` for windows of `sides`, as `LocalQueries` says."""
        if self.plan.sides == sides:
            return self.ready
        self.memories = {}
        try:
            self.plan = WindowPlan(self.network.layers, sides)
        except PlanTooLarge:
            self.plan, self.ready = WindowPlan([], sides), False
            return False
        self.ready = self._pays(len(best))
        if self.ready:
            self._remember(best)
        return self.ready

    def _pays(self, rows: int) -> bool:
        plan, dtype = self.plan, self.network.dtype
        speed = cpu_speed(dtype)
        whole = sum(layer.macs for layer in self.network.layers) / speed
        local = plan.macs / (speed * WINDOW_SPEED[dtype]) + plan.moved * NS_PER_BYTE[dtype]
        cheaper = local + plan.num_reads * NS_PER_READ < WORTH_IT * whole
        return cheaper and rows * plan.row_bytes() + plan.table_bytes <= MAX_BYTES

    @torch.no_grad()
    def _remember(self, best: Tensor) -> None:
        """Compute and keep the images of the known points."""
        for i in self.plan.kept:
            layer, length = self.network.layers[i], self.plan.row_pixels(i)
            self.memories[i] = _Memory(len(best), length, layer.shape, layer.dtype)
        for rows in _chunks(len(best)):
            values = self.network.values(best[rows], self.plan.kept)
            for i, memory in self.memories.items():
                memory.fill(values[i], rows)

    @torch.no_grad()
    def __call__(self, z: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Return the logits `(b, k)` of proposals, in float32."""
        self.position = top * (z.shape[3] - self.plan.sides[1] + 1) + left
        corners = self._corners(z, top, left)
        parts = [self._query(corners[rows], rows) for rows in _chunks(len(z))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def whole(self, z: Tensor) -> Tensor:
        """Return the logits `(b, k)` of any points, in float32."""
        return torch.cat([self.network(z[rows]) for rows in _chunks(len(z))])

    def _corners(self, z: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Return the windows of the proposals `(b, c, h, w)`."""
        (h, w), (b, c, _, width) = self.plan.sides, z.shape
        rows, columns = top[:, None] + torch.arange(h), left[:, None] + torch.arange(w)
        pixels = (rows[:, :, None] * width + columns[:, None]).view(b, 1, h * w)
        return z.flatten(2).gather(2, pixels.expand(b, c, h * w)).view(b, c, h, w)

    def _query(self, window: Tensor, rows: slice) -> Tensor:
        """Return the logits of some rows, and write what is new beside the kept images."""
        position, values = self.position[rows], list[Tensor]()
        for n, (layer, part) in enumerate(zip(self.network.layers, self.plan.parts, strict=True)):
            inputs = [
                values[i] if read is None else self.memories[i].read(read, position, rows)
                for i, read in zip(layer.inputs, part.reads, strict=True)
            ]
            run = layer.window.run if part.slides and layer.window else layer.run
            values.append(run(*inputs) if inputs else window)
            if n in self.memories:
                self.memories[n].write(values[n], rows)
        return values[-1].float()

    def accept(self, rows: Tensor) -> None:
        """Copy what the last query computed for these rows into the kept images."""
        if not self.memories or not rows.any():
            return
        index = rows.nonzero()[:, 0]
        for i, memory in self.memories.items():
            memory.accept(index, self.plan.kept[i].index_select(0, self.position[index]))

    def keep(self, rows: Tensor) -> None:
        """Drop the images of other rows."""
        for memory in self.memories.values():
            memory.keep(rows)


class _Memory:
    """Keep a layer's images of the known points, one row of pixels per sample.

    A row holds the image, the new values of the last query, and one pixel per kind of border.
    """

    def __init__(self, rows: int, length: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.channels, h, w = shape
        self.image, self.borders, self.length = h * w, length - len(BORDERS), length
        self.values = torch.empty(rows, length, self.channels, dtype=dtype)
        self.values[:, self.borders :] = torch.tensor(BORDERS, dtype=dtype)[:, None]
        self.base = torch.arange(rows)[:, None] * length

    def fill(self, images: Tensor, rows: slice) -> None:
        self.values[rows, : self.image] = images.permute(0, 2, 3, 1).flatten(1, 2)

    def read(self, read: Read, position: Tensor, rows: slice) -> Tensor:
        """Return what a read finds for windows at `position (r,)`: images `(r, c, h, w)`."""
        index = read.table.index_select(0, position) + self.base[rows]
        pixels = self.values.view(-1, self.channels).index_select(0, index.flatten())
        return pixels.view(len(position), *read.size, self.channels).permute(0, 3, 1, 2)

    def write(self, new: Tensor, rows: slice) -> None:
        self.values[rows, self.image : self.borders] = new.permute(0, 2, 3, 1).flatten(1, 2)

    def accept(self, rows: Tensor, pixels: Tensor) -> None:
        """Copy the new values of `rows (r,)` to `pixels (r, n)` of their images."""
        flat, base = self.values.view(-1, self.channels), self.base[rows]
        new = base + torch.arange(self.image, self.borders)
        flat.index_copy_(0, (base + pixels).flatten(), flat.index_select(0, new.flatten()))

    def keep(self, rows: Tensor) -> None:
        self.values = self.values[rows]
        self.base = self.base[: len(self.values)]


def _chunks(rows: int) -> list[slice]:
    """Return equal chunks of about `CHUNK_ROWS`: a rest of three rows would cost half a chunk."""
    size = -(-rows // max(round(rows / CHUNK_ROWS), 1))
    return [slice(start, start + size) for start in range(0, rows, size or 1)]
