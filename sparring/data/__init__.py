"""Data: sources by name or file, readers, batches, augmentation."""

from .augment import Augment, Crop, Cutout, Flip, Noise, Shift
from .loader import Loader
from .named import names
from .packed import Packed
from .source import Source, load
from .split import Split
from .stream import Stream, from_torch, streamed

__all__ = [
    "Augment",
    "Crop",
    "Cutout",
    "Flip",
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
    "streamed",
]
