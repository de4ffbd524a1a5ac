"""Shared by all networks: stages, image shapes, normalisation, residual blocks, array functions."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..component import LARGEST, require

Numbers: TypeAlias = float | Sequence[float] | Tensor | Any  # Any: an array of numpy's


def stages(**modules: nn.Module) -> nn.Sequential:
    """Return a flat `Sequential` of named stages.

    >>> stages(flatten=nn.Flatten(), linear=nn.Linear(4, 2))[:1]
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
    )
    """
    return nn.Sequential(OrderedDict(modules))


def image_shape(shape: Sequence[int], *, least: int = 1) -> tuple[int, int, int]:
    """Return `shape` as (channels, height, width); raise unless both sides have `least` pixels.

    >>> image_shape([1, 28, 28], least=16)
    (1, 28, 28)
    """
    allowed = f"(channels, height, width) of at least {least} pixels a side for this network"
    require(len(shape) == 3 and min(shape[1:]) >= least, "shape", tuple(shape), allowed)
    return cast("tuple[int, int, int]", tuple(shape))


def standardize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (x − mean) / std of `x (b, c, ...)`, with one number, or one per channel `(c,)`."""
    tail = [1] * (x.ndim - 2)
    return (x - mean.view(-1, *tail)) / std.view(-1, *tail)


def kind_names(one: object) -> set[str]:
    """Return the names of an object's class and of those it inherits from."""
    return {kind.__name__ for kind in type(one).__mro__}


def missing_file(path: Path, what: str) -> FileNotFoundError:
    """Return the error for a file that does not exist, with the nearest name in its folder."""
    shown = str(path)[:300]
    return FileNotFoundError(f"there is no file of {what} at {shown!r}{similar_name(path)}")


def similar_name(path: Path) -> str:
    """Return a hint at the nearest name in a path's folder, to end a message with; "" if none."""
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        names = []
    close = difflib.get_close_matches(path.name[:300], names, n=1)
    return f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def as_numbers(key: str, value: Numbers) -> list[float]:
    """Return one number, or a sequence, array or tensor of one per channel, as floats.

    >>> as_numbers("mean", torch.tensor([[[0.5]], [[0.25]]]))
    [0.5, 0.25]
    """
    try:
        numbers = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # words, or lists of unequal lengths
        numbers = torch.zeros(0)
    in_a_row = numbers.numel() == max(numbers.shape, default=1)
    ok = numbers.numel() and in_a_row and (numbers.abs() <= LARGEST).all()
    shape = getattr(value, "shape", None)  # an array's own repr takes many lines
    shown = value if shape is None else f"{type(value).__name__} {tuple(shape)}"
    allowed = f"one finite number, or one per channel, at most {LARGEST:g} from 0"
    require(ok, key, shown, allowed)
    return numbers.flatten().tolist()


def register_mean_std(
    module: nn.Module, *, device: torch.device | None = None, **given: Numbers
) -> dict[str, list[float]]:
    """Register `mean` and `std` (one number, or one per channel) as buffers; return the numbers."""
    numbers = {key: as_numbers(key, value) for key, value in given.items()}
    for key, values in numbers.items():
        # configuration, not weights: they stay out of the state dict
        with torch.inference_mode(False):  # or no gradient would pass them
            module.register_buffer(key, torch.tensor(values, device=device), persistent=False)
    require(min(numbers["std"]) > 0, "std", given["std"], "above 0")
    return numbers


def residual_layer(
    block: type[nn.Module], first: int, out: int, *, blocks: int, stride: int, **kw: float
) -> nn.Sequential:
    """Stack `blocks` residual blocks from `first` to `out` channels; only the first one strides."""
    return nn.Sequential(
        *(block(out if i else first, out, stride=1 if i else stride, **kw) for i in range(blocks))
    )


def residual_layers(block: type[nn.Module], width: int, **kw: int) -> dict[str, nn.Module]:
    """Build four layers of two blocks, (1, 2, 4, 8) × width channels; three halve sides."""
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    return {
        f"layer{i}": residual_layer(block, a, b, blocks=2, stride=1 + (i > 1), **kw)
        for i, (a, b) in enumerate(pairwise(widths), start=1)
    }


class PreActBlock(nn.Module):
    """Residual block with batch norm and ReLU before each convolution.

    a = relu(bn₁(x))
    out = conv₂(drop(relu(bn₂(conv₁(a))))) + (x, or a strided conv₁ₓ₁(a) where the shape changes)

    Source: He et al. 2016, "Identity mappings in deep residual networks".
    """

    def __init__(self, first: int, out: int, *, stride: int, drop: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(first)
        self.conv1 = nn.Conv2d(first, out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.drop = nn.Dropout(drop)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or first != out:
            self.shortcut = nn.Sequential(nn.Conv2d(first, out, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(a)
        return self.conv2(self.drop(F.relu(self.bn2(self.conv1(a))))) + skip


class ArrayFunction(nn.Module):
    """Wrap a model outside torch as a module without weights or gradient.

    Arguments:
        scores: maps an array `(b, *d)` to scores `(b, k)`.
        digest: identifies the model in `repr`, which shows nothing else of it.
        without_gradient: it is of a kind that has none, as trees; a network that only runs outside
            torch is not.
    """

    def __init__(
        self,
        scores: Callable[[Any], Any],
        *,
        digest: str = "",
        without_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.scores, self.digest, self.without_gradient = scores, digest, without_gradient
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        array = x.detach().cpu()
        array = array.float() if array.dtype == torch.bfloat16 else array  # numpy has none
        z = torch.as_tensor(self.scores(array.numpy())).to(x.device)
        return z.to(x.dtype) if x.is_floating_point() else z

    def __deepcopy__(self, memo: Any) -> ArrayFunction:
        return self  # a session of a runtime outside torch cannot be copied

    def _get_name(self) -> str:
        # the names of its first two classes: the fingerprint of a model covers its repr
        return "Scores" if self.digest else "Scored"

    def extra_repr(self) -> str:
        return self.digest
