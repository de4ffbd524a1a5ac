"""Data: sources by name or file, readers, batches, augmentation."""

from .added_rows import AddedRows
from .augment import Augment, Crop, Cutout, Flip, Noise, Shift
from .dataset_rows import Generated, Rows, Unlabelled
from .gaussian_shell import GaussianShell, spread
from .loader import Loader
from .named import names
from .packed import Packed
from .source import Source, load
from .split import Split
from .stream import Stream, from_torch, streamed

__all__ = [
    "AddedRows",
    "Augment",
    "Crop",
    "Cutout",
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
