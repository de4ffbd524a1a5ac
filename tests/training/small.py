"""A training that takes a second: small noisy classes, a net with batch norm and dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from sparring.attacks import PGD
from sparring.data import GaussianNoise, Source, Split
from sparring.methods import MART
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.threats import Linf
from sparring.training import Trainer
from sparring.weights import AWP, EMA

D, K = 6, 3


def source() -> Source:
    """Three noisy corners of a box: 64 rows of training, 16 of validation, 10 of test."""
    draw = torch.Generator().manual_seed(5)
    y = torch.arange(90) % K
    x = (torch.eye(K, D)[y] * 0.6 + 0.2 + 0.1 * torch.randn(90, D, generator=draw)).clamp(0, 1)
    train, val, test = (
        Split(a, b) for a, b in zip(x.split([64, 16, 10]), y.split([64, 16, 10]), strict=True)
    )
    return Source("corners", train, val, test, list("abc"), sha256="corners")


def network(*, noisy: bool = True) -> nn.Module:
    """A fresh net, always the same; `noisy`: with batch norm and dropout, which see the rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        inside = [nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)] if noisy else [nn.ReLU()]
        return nn.Sequential(nn.Linear(D, 16), *inside, nn.Linear(16, K))


class Unused(nn.Module):
    """A network whose logits do not depend on all of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(D, K), nn.Linear(D, K)

    def forward(self, x):
        return self.used(x)


def objective(*, eps: float = 0.1) -> Objective:
    """MART by a randomly started PGD."""
    return Objective(PGD(Linf(eps), steps=2, best=False), MART(), Mean())


def trainer(out: str | Path, *, noisy: bool = True, **more: Any) -> Trainer:
    """Everything on: augmentation, schedules, clipping, AWP, EMA, validation by PGD."""
    options: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 16,
        "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": [
            {"path": "lr", "name": "one-cycle"},
            {"path": "attack.threat.eps", "name": "ramp", "until": 0.5},
        ],
        "clip": 1.0,
        "augment": [GaussianNoise(std=0.01)],
        "climb": AWP(gamma=0.005),
        "ema": EMA(decay=0.9),
        "validation": PGD(Linf(0.1), steps=2),
    }
    return Trainer(network(noisy=noisy), objective(), source(), out=out, **{**options, **more})


def tuned() -> dict[str, Any]:
    """Options of `trainer(noisy=False)`: other weights at the start, a frozen layer, groups."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        start = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, K))
    groups = [{"modules": ["2.bias"], "lr_scale": 3.0}]
    optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9, "groups": groups}
    return {"start": start, "freeze": ["0"], "optimizer": optimizer}


def plain_steps(**more: Any) -> dict[str, Any]:
    """Settings of a `Stepper` that has nothing on but what is given."""
    off = dict.fromkeys(("amp", "freeze", "climb", "ema", "clip"))
    kept = {"channels_last": False, "compile": False, "decay_norm": True, "schedule": ()}
    return {**off, **kept, "epochs": 1, "seed": 0, **more}


def finish(run: Trainer) -> dict[str, torch.Tensor]:
    """Train to the end; every tensor that has moved, by name."""
    for _ in run:
        pass
    return tensors(run.stepper.state_dict())


def tensors(state: Any, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors and numbers inside nested dicts and lists, flat."""
    if isinstance(state, dict):
        pairs = state.items()
    elif isinstance(state, list | tuple):
        pairs = enumerate(state)
    elif isinstance(state, torch.Tensor | int | float):
        return {path: torch.as_tensor(state)}
    else:
        return {}
    return {k: v for key, value in pairs for k, v in tensors(value, f"{path}.{key}").items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def read_metadata(run: Path) -> dict[str, str]:
    """What `best.safetensors` says of itself: epoch, `which` ("weights" or "ema"), accuracies."""
    with safe_open(run / "best.safetensors", framework="pt") as file:
        return file.metadata()
