"""A test that takes a `device` runs on the CPU, and on a GPU where there is one.

`pytest -m cuda` runs the second half alone; `scripts/gpu a` does so. Without a GPU those are
skipped, for this one reason.
"""

from __future__ import annotations

import pytest
import torch

NO_GPU = "wants a CUDA GPU"
WITH_GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)],
)
on_devices = pytest.mark.parametrize("device", ["cpu", WITH_GPU])
# the same for a body that a CPU takes a minute for
on_devices_slowly = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), WITH_GPU]
)
