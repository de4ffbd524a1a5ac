"""Write a threat of your own, and attack with it: an Linf ball inside a window of the image.

python examples/own_threat.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparring import data
from sparring.attacks import PGD
from sparring.batch import Batch
from sparring.functional.geometry import norm, project_linf
from sparring.models import build
from sparring.threats import Threat


class Window(Threat):
    """{x' : x' = x outside the top `rows` rows, ‖x' − x‖_∞ ≤ eps} ∩ [0, 1]^d."""

    eps: float

    def __init__(self, eps: float, *, rows: int = 4) -> None:
        super().__init__()
        self.eps, self.rows = eps, rows

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        """Take the sign step of Linf; `project` undoes it outside the window."""
        return z + size * grad.sign()

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        """Clip to the ball, and restore the rows below the window."""
        inside = project_linf(z, batch.x, self.eps, self.low, self.high)
        return torch.cat([inside[:, :, : self.rows], batch.x[:, :, self.rows :]], 2)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return the Linf distance, in the units of eps."""
        return norm(x_adv - x, torch.inf)


def main() -> float:
    """Attack an untrained network; return how far any pixel below the window moved: 0."""
    torch.manual_seed(0)
    digits = data.load("digits")
    model = build("mlp", shape=digits.shape, classes=digits.classes)
    x, y = digits.test.float(slice(100)), digits.test.y[:100]
    x_adv = PGD(Window(0.3), steps=10)(model, x, y)
    with torch.no_grad():
        before, after = ((model(v).argmax(1) == y).float().mean().item() for v in (x, x_adv))
    print(f"accuracy {before:.2f} -> {after:.2f}")
    return (x_adv - x)[:, :, 4:].abs().max().item()


if __name__ == "__main__":
    main()
