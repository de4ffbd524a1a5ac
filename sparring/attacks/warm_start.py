"""Start each epoch's attack from the points of the last epoch."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..batch import Batch
from ..component import require, require_at_least
from ..functional.geometry import broadcast_rows
from ..runtime import distributed
from ..threats.base import Threat
from . import base
from .base import Float32Execution, Gain, Maximizer

STORAGE = {"float16": torch.float16, "float32": torch.float32}


def moved(delta: Tensor, pixel: Tensor) -> Tensor:
    """Move perturbations of images `(b, c, h, w)` as augmentation moved the pixels.

    Arguments:
        pixel: `(b, h, w)` from which pixel each came, counted from 1; 0: from none, which gives 0.

    >>> moved(torch.tensor([[[[0.1, 0.2]]]]), torch.tensor([[[2, 0]]]))
    tensor([[[[0.2000, 0.0000]]]])
    """
    padded = functional.pad(delta.flatten(2), (1, 0))
    return padded.gather(2, _columns(pixel, delta)).reshape(delta.shape)


def placed(delta: Tensor, pixel: Tensor, kept: Tensor) -> Tensor:
    """Put moved perturbations back where their pixels came from, over those that are `kept`.

    >>> placed(torch.tensor([[[[0.2, 0.0]]]]), torch.tensor([[[2, 0]]]), torch.ones(1, 1, 1, 2))
    tensor([[[[1.0000, 0.2000]]]])
    """
    padded = functional.pad(kept.flatten(2), (1, 0))
    padded.scatter_(2, _columns(pixel, delta), delta.flatten(2))
    return padded[:, :, 1:].reshape(delta.shape)


def _columns(pixel: Tensor, delta: Tensor) -> Tensor:
    return pixel.flatten(1)[:, None].expand(-1, delta.shape[1], -1)


class WarmStart(Maximizer):
    """Climb by projected gradient steps from the sample's perturbation of the last epoch; for
    training alone.
    z₀ = project(x_i + δ_i), `steps` PGD steps; δ_i ← x' − x_i after the optimizer's step.

    A sample's first start is random, and so is every `reset`-th after it; rows that a mix adds
    always start at random. Perturbations are kept by `batch.index`: rows × features × 2 bytes in
    float16, 301 MB for 49,000 rows of CIFAR-10, on the device and in every `last.pt`. A
    perturbation belongs to the pixels of the image before augmentation, and moves with them: by
    `batch.extra["pixel"]`, as `Loader` notes it. Pixels that a crop leaves out keep theirs.

    Arguments:
        threat: where it may go; without labels.
        steps: gradient steps per batch, ≥ 1.
        size: length of a step in input units; default: None, 2.5·eps/steps.
        reset: epochs after which a sample starts at random again; None: never.
        best: return the best iterate (one more forward pass), not the last.
        storage: of the perturbations, "float16" or "float32".
        mode, seed: as in `Execution`.

    Source: Zheng et al. 2020, alg. 1 and sec. 4 (through augmentation). Differs: a sample counts
    its own epochs to the next random start.

    >>> import torch
    >>> from sparring.threats import Linf
    >>> attack = WarmStart(Linf(0.1, init="zero"), steps=1, size=0.04)
    >>> batch, gain = Batch(torch.full((1, 2), 0.5), torch.tensor([0])), lambda z: z.sum(1)
    >>> for _ in range(2):
    ...     batch.x_adv = attack.maximize(gain, batch)
    ...     attack.update(torch.nn.Identity(), batch)
    >>> batch.x_adv
    tensor([[0.5800, 0.5800]])
    """

    paper = "zheng2020atta"
    random_start = True

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 2,
        size: float | None = None,
        reset: int | None = 10,
        best: bool = False,
        storage: str = "float16",
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, steps=steps, **({} if reset is None else {"reset": reset}))
        lengths = "a length > 0 in input units, or None for 2.5·eps/steps"
        require(size is None or size > 0, "size", size, lengths)
        require(storage in STORAGE, "storage", storage, "one of " + ", ".join(STORAGE))
        require(not threat.labels, "threat", threat, "a threat without labels for WarmStart")
        self.threat, self.steps, self.size, self.best = threat, steps, size, best
        self.reset, self.storage = reset, storage
        self._rows = 0  # of the data; 0: as many as are seen
        self._delta: Tensor | None = None  # (rows, *d)
        self._uses: Tensor | None = None  # (rows,) epochs since the sample's random start

    @property
    def step_size(self) -> float:
        """The step length in use, in input units."""
        return 2.5 * self.threat.reach / self.steps if self.size is None else self.size

    def prepare(self, rows: int) -> None:
        """Keep perturbations of `rows` rows: then no batch is asked for its largest index, which
        would wait for the GPU."""
        self._rows = rows

    def get_extra_state(self) -> dict[str, Tensor] | None:
        # so that a resumed run starts from the same points
        if self._delta is None or self._uses is None:
            return None
        return {"delta": self._delta, "uses": self._uses}

    def set_extra_state(self, state: dict[str, Tensor] | None) -> None:
        if state is None:
            self._delta = self._uses = None
            return
        delta, uses = state["delta"], state["uses"]
        fits = delta.dtype == STORAGE[self.storage] and uses.dtype == torch.int16
        if not fits or uses.shape != delta.shape[:1]:
            raise ValueError("the perturbations of WarmStart are damaged")
        self._delta, self._uses = delta, uses

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """Return the last iterate; with `best`, the highest, start included."""
        z, best, best_value = self._start(batch), None, None
        for _ in range(self.steps):
            value, grad = base.value_and_grad(f, z)
            if self.best:
                best, best_value = base.higher(best, best_value, z, value)
            z = self.threat.project(self.threat.step(z, grad, self.step_size, batch), batch)
        if self.best:
            z, _ = base.higher(best, best_value, z, base.value_no_grad(f, z))
        return self.threat.discretize(z, batch).detach()

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Keep the perturbations of a batch, and of those of the other processes."""
        if batch.x_adv is None:
            return
        delta = distributed.gather((batch.x_adv - batch.x).detach())
        index, pixel = distributed.gather(batch.index), batch.extra.get("pixel")
        self._make_room(delta, index)
        assert self._delta is not None
        assert self._uses is not None
        if pixel is not None:
            kept = self._delta[index] * broadcast_rows(self._uses[index] > 0, delta)
            delta = placed(delta.to(kept), distributed.gather(pixel), kept)
        self._delta[index] = delta.to(self._delta.dtype)
        uses = self._uses[index] + 1
        self._uses[index] = uses if self.reset is None else uses % self.reset
        self._uses[-1] = 0  # rows that are of no data set, index −1, share the last place

    def _start(self, batch: Batch) -> Tensor:
        # Drawn for every row, so that the draws do not depend on which rows need one.
        start = self.threat.random_start(batch, self.generator(batch.x.device))
        if self._delta is None:
            return start
        self._make_room(batch.x, batch.index)
        assert self._uses is not None
        kept = self._delta[batch.index].to(batch.x.dtype)
        if "pixel" in batch.extra:
            kept = moved(kept, batch.extra["pixel"])
        kept = self.threat.project(self.threat.pack(batch) + kept, batch)
        has_one = broadcast_rows(self._uses[batch.index] > 0, start)
        return torch.where(has_one, kept, start)

    def _make_room(self, like: Tensor, index: Tensor) -> None:
        """Make sure that there is a perturbation for every row that an index names."""
        have = 0 if self._delta is None else len(self._delta)
        rows = 1 + (self._rows or (int(index.max()) + 1 if len(index) else 0))
        if rows <= have:
            return
        delta = like.new_zeros((rows, *like.shape[1:]), dtype=STORAGE[self.storage])
        uses = torch.zeros(rows, dtype=torch.int16, device=like.device)
        if self._delta is not None and self._uses is not None:
            delta[:have], uses[:have] = self._delta, self._uses
        self._delta, self._uses = delta, uses
