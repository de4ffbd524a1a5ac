"""CUDA graphs: are they recorded once, and do they compute what the model computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sparring.attacks import APGD
from sparring.introspect import freeze
from sparring.runtime.compiled import CompiledModel
from sparring.threats import Linf

from . import tools
from .parts import Setting


def check(setting: Setting) -> dict[str, Any]:
    """Count the graphs that each of three equal attacks records; compare logits and gradients.

    After the first attack, 0 is right: another count says that addresses or shapes changed.
    Differences are a maximum over the maximum of the model's own.
    """
    at, found = tools.device(setting), {}
    model = tools.net(setting, at)
    x, y = tools.samples(model, setting.small(8, 250), at)
    for precision in setting.small(("bfloat16",), ("bfloat16", "float32")):
        how = {"precision": precision, "channels_last": precision != "float32"}
        with tools.tf32(False):
            run = CompiledModel(model, [len(x)])
            attack = APGD(Linf(1e-7), steps=5, **how)
            recorded = []
            for _ in range(3):
                with recordings() as count:
                    attack(run, x, y)
                recorded.append(None if count is None else len(count))
            low = {"amp": precision, "channels_last": precision != "float32"}
            eager, compiled = (_passes(freeze.ModelView(m, **low), x, y) for m in (model, run))
        names = ("logits", "gradient")
        found[precision] = {"recorded": recorded} | {
            name: ((a - b).abs().max() / a.abs().max()).item()
            for name, a, b in zip(names, eager, compiled, strict=True)
        }
        setting.note(**found)
    return found


def _passes(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits `(n, k)` and the gradient of the loss to the inputs `(n, *d)`."""
    with freeze.frozen(model) as run:
        z = x.clone().requires_grad_()
        logits = run(z)
        loss = nn.functional.cross_entropy(logits, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, z)
    return logits.detach(), gradient


@contextmanager
def recordings() -> Iterator[list[int] | None]:
    """Yield a list that grows by one entry for each CUDA graph that is recorded meanwhile.

    None where they cannot be counted: without CUDA, or by a PyTorch that names them otherwise.
    """
    seen: list[int] = []
    try:  # private names of torch
        from torch._inductor.cudagraph_trees import CUDAGraphTreeManager

        record = CUDAGraphTreeManager.record_function
    except (ImportError, AttributeError):
        record = None
    if record is None or not torch.cuda.is_available():
        yield None
        return

    def counted(*args: Any, **keywords: Any) -> Any:
        seen.append(1)
        return record(*args, **keywords)

    CUDAGraphTreeManager.record_function = counted
    try:
        yield seen
    finally:
        CUDAGraphTreeManager.record_function = record
