"""Names that PyTorch keeps private, each with a public stand-in."""

from __future__ import annotations

from torch import nn

try:
    BATCH_NORM = nn.modules.batchnorm._BatchNorm
except AttributeError:
    BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
