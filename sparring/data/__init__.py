"""Data: sources by name or file, readers, batches, augmentation."""

from .augment import Augment, Crop, Cutout, Flip, Noise, Shift
from .load import load, names
from .loader import Loader, Stream, from_torch
from .source import Source, Split

__all__ = [
    "Augment",
    "Crop",
    "Cutout",
    "Flip",
    "Loader",
    "Noise",
    "Shift",
    "Source",
    "Split",
    "Stream",
    "from_torch",
    "load",
    "names",
]
