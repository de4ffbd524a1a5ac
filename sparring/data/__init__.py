"""Data: sources by name or file, readers, batches, augmentation."""

from .added_rows import AddedRows
from .augment import Augment, Crop, Cutout, Flip, GaussianNoise, Shift
from .dataset_rows import DatasetRows, Generated, Unlabelled
from .gaussian_shell import GaussianShell, shell_spread
from .loader import Loader
from .named import names
from .packed import PackedBits
from .source import Source, load
from .split import Split
from .stream import Stream, from_torch
from .streamed import streamed
from .torchvision_augment import Torchvision

__all__ = [
    "AddedRows",
    "Augment",
    "Crop",
    "Cutout",
    "DatasetRows",
    "Flip",
    "GaussianNoise",
    "GaussianShell",
    "Generated",
    "Loader",
    "PackedBits",
    "Shift",
    "Source",
    "Split",
    "Stream",
    "Torchvision",
    "Unlabelled",
    "from_torch",
    "load",
    "names",
    "shell_spread",
    "streamed",
]


def __dir__() -> list[str]:
    return sorted(__all__)
