"""Data: sources by name or file, readers, batches, augmentation."""

from .augment import Augment, Crop, Cutout, Flip, Noise, Shift
from .loader import Loader
from .mix import Extra
from .named import names
from .packed import Packed
from .shell import PRESETS, GaussianShell, spread
from .source import Source, load
from .split import Split
from .stream import Stream, from_torch, streamed

__all__ = [
    "PRESETS",
    "Augment",
    "Crop",
    "Cutout",
    "Extra",
    "Flip",
    "GaussianShell",
    "Loader",
    "Noise",
    "Packed",
    "Shift",
    "Source",
    "Split",
    "Stream",
    "from_torch",
    "load",
    "names",
    "spread",
    "streamed",
]
