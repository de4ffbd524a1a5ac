"""Augment by a transform of torchvision, drawn from the piece's generator alone."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..component import did_you_mean, require
from ..runtime import distributed
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from ..runtime.text import printable
from .augment import Augment

SEEDS = 2**53  # that a float64 on [0, 1) tells apart


class Torchvision(Augment):
    """Change images by a transform of `torchvision.transforms.v2`, as TrivialAugmentWide.

    Each sample gets draws of its own. CutMix and MixUp mix each sample with its neighbour in the
    batch, and their labels, which become probabilities `(b, k)`. On several processes, neighbours
    are rows of one process. The global random state stays as it is.

    Arguments:
        transform: name of the class.
        arguments: of its constructor; `size` and `num_classes` come from the data by default.

    Raises:
        ValueError: at the first batch or in `prepare`: without torchvision, for an unknown name or
            argument, for a transform that changes the shape, for unlabelled rows to mix, and for
            data with bounds other than [0, 1].

    >>> Torchvision(transform="TrivialAugmentWide")
    Torchvision(transform='TrivialAugmentWide')
    """

    def __init__(self, *, transform: str, arguments: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.transform, self.arguments = transform, arguments
        self._classes: int | None = None
        self._built: dict[tuple[int, ...], Any] = {}

    def prepare(self, source: Any) -> None:
        # the transforms are of images in [0, 1], and what they give is clamped to it
        allowed = f"[0, 1], where {printable(self.transform)} keeps inputs"
        require(tuple(source.bounds) == (0, 1), f"bounds of {source.name}", source.bounds, allowed)
        self._classes = source.classes
        self._transform(source.shape)

    @property
    def mixes_labels(self) -> bool:
        return "num_classes" in inspect.signature(self._maker()).parameters

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.mixes_labels:
            raise ValueError(f"{self.transform} mixes labels, too: it needs them beside the inputs")
        if x.ndim != 4:
            name = self.transform
            raise ValueError(f"{name} changes images (b, c, h, w); this batch is {tuple(x.shape)}")
        # One seed per sample, so that any number of processes gives the same images.
        like = torch.empty(len(x), dtype=torch.float64, device=x.device)
        seeds = (distributed.draw("uniform", like, generator) * SEEDS).long().tolist()
        transform = self._transform(tuple(x.shape[1:]))
        with _separate_draws(x.device) as seed_draws:
            rows = []
            for row, seed in zip(x, seeds, strict=True):
                seed_draws(seed)
                rows.append(self._checked(transform, row))
        return torch.stack(rows) if rows else x

    def apply_to(
        self, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        if not self.mixes_labels:
            return self(x, generator), y
        if y.ndim == 1 and len(y) and int(y.min()) < 0:
            raise ValueError(f"{self.transform} mixes labels, and some rows have none (-1)")
        device = x.device if generator is None else generator.device
        seed = int(torch.randint(SEEDS, (1,), generator=generator, device=device))
        if len(x) < 2:
            return x, self._probabilities(y, x)
        with _separate_draws(x.device) as seed_draws:
            seed_draws(seed)
            mixed, labels = self._transform(tuple(x.shape[1:]))(x, y)
        return mixed.clamp(0, 1), labels.to(x.dtype)

    def _probabilities(self, y: Tensor, x: Tensor) -> Tensor:
        if y.ndim == 2 or self._classes is None:
            return y
        return one_hot(y, self._classes).to(x.dtype)

    def _checked(self, transform: Any, row: Tensor) -> Tensor:
        name = printable(self.transform)
        try:
            out = transform(row)
        except Exception as error:  # each transform takes other images
            shape = tuple(row.shape)
            raise ValueError(f"transform = {name!r} fails on {shape}: {reason(error)}") from error
        if not isinstance(out, Tensor) or out.shape != row.shape:
            shape = tuple(getattr(out, "shape", ()))
            text = f"gives {shape} for images of {tuple(row.shape)}: it must keep the shape"
            raise ValueError(f"transform = {name!r} {text}")
        return out.clamp(0, 1)

    def _maker(self) -> Any:
        """Return the class; raise `ValueError` for a name that is none."""
        v2 = import_extra(
            "torchvision.transforms.v2", extra="timm", purpose="the augmentation Torchvision"
        )
        known = {
            name: kind
            for name, kind in vars(v2).items()
            if inspect.isclass(kind) and issubclass(kind, v2.Transform) and kind is not v2.Transform
        }
        if self.transform not in known:
            raise ValueError(did_you_mean("transform", self.transform, known))
        return known[self.transform]

    def _transform(self, shape: tuple[int, ...]) -> Any:
        """Return the transform for images of a shape."""
        if shape not in self._built:
            maker, given = self._maker(), dict(self.arguments or {})
            takes = inspect.signature(maker).parameters
            facts = {"size": list(shape[1:]), "num_classes": self._classes}
            given |= {k: v for k, v in facts.items() if k in takes and k not in given}
            for key in given:
                allowed = sorted(takes)
                require(key in takes, "arguments", key, f"arguments of {', '.join(allowed)}")
            try:
                self._built[shape] = maker(**given)
            except Exception as error:  # each transform has its own checks
                name = printable(self.transform)
                raise ValueError(
                    f"transform = {name!r} cannot be made of {given}: {reason(error)}"
                ) from error
        return self._built[shape]


@contextlib.contextmanager
def _separate_draws(device: torch.device) -> Iterator[Any]:
    """Yield a function that seeds the global generators; restore their states on the way out."""
    index = [] if device.type != "cuda" else [device.index or 0]

    def seed_draws(seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        for i in index:
            torch.cuda.default_generators[i].manual_seed(seed)

    with torch.random.fork_rng(devices=index):
        yield seed_draws
