"""Data: sources by name or file, readers, batches, augmentation."""

from .augment import Augment, Crop, Cutout, Flip, Noise, Shift
from .loader import Loader
from .mix import Extra
from .named import names
from .packed import Packed
from .rows import Generated, Rows, Unlabelled
from .shell import GaussianShell, spread
from .source import Source, load
from .split import Split
from .stream import Stream, from_torch, streamed

__all__ = [
    "Augment",
    "Crop",
    "Cutout",
    "Extra",
    "Flip",
    "GaussianShell",
    "Generated",
    "Loader",
    "Noise",
    "Packed",
    "Rows",
    "Shift",
    "Source",
    "Split",
    "Stream",
    "Unlabelled",
    "from_torch",
    "load",
    "names",
    "spread",
    "streamed",
]
