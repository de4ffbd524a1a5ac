"""Small models ready to be served, and pictures as bytes."""

from __future__ import annotations

import io
import threading

import numpy as np
import torch
from PIL import Image
from torch import nn

from sparring.data.split import Split
from sparring.serving.served import ServedModel

NAMES = ["dark", "bright"]


class Brightness(nn.Module):
    """Two logits: the mean of the picture against a half; exact answers under attack."""

    def __init__(self, steep: float = 40.0) -> None:
        super().__init__()
        self.steep = nn.Parameter(torch.tensor(steep))
        self.gate = threading.Event()  # a test closes it to hold each pass
        self.gate.set()
        self.entered = threading.Event()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.entered.set()
        self.gate.wait(20)
        score = self.steep * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, score], 1)


def served(name: str = "one", shape=(1, 8, 8), model=None, names=NAMES, **more) -> ServedModel:
    """A model with two test samples: 0.4 everywhere, and 0.6."""
    x = torch.stack([torch.full(shape, 0.4), torch.full(shape, 0.6)])
    model = Brightness() if model is None else model
    device = torch.device("cpu")
    rows = Split(x, torch.tensor([0, 1]))
    return ServedModel(name, model.eval(), device, shape, list(names), rows, eps=0.2, **more)


def picture(value: int = 102, size=(8, 8), kind: str = "PNG", mode: str = "L") -> bytes:
    """A picture of one value as a file's bytes."""
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(file, format=kind)
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    """The pixels of a file's bytes."""
    return np.asarray(Image.open(io.BytesIO(content)))
