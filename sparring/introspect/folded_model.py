"""Attack a network in its folded form: the same function, with fewer passes over its images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Model
from ..runtime import exact_float32
from . import freeze
from .folded import Folded
from .forward import SafeForward

CHECKED_ROWS = 8  # on which the folded network must agree with the model
TOLERANCE = 1e-4  # of their largest logit


def agrees(folded: Folded, model: nn.Module, x: Tensor) -> bool:
    """Return whether a folded float32 network has the model's logits, up to rounding, on the first
    rows of x."""
    few = x[:CHECKED_ROWS]
    with torch.no_grad():
        expected, logits = SafeForward(model)(few), folded(few)
        if not isinstance(expected, Tensor) or expected.shape != logits.shape:
            return False
        close = TOLERANCE * float(expected.abs().max())
        return torch.allclose(logits, expected, TOLERANCE, close)


def is_plain(model: object, x: Tensor) -> bool:
    """Return whether a model is a convolutional network in eval mode, of float32 on a CPU."""
    if not isinstance(model, nn.Module):
        return False
    modules, weights = list(model.modules()), [*model.parameters(), *model.buffers()]
    return (
        (x.ndim, x.dtype, x.device.type) == (4, torch.float32, "cpu")
        and len(x) > 0
        and not any(m.training for m in modules)
        and any(isinstance(m, nn.Conv2d) for m in modules)
        and all(w.dtype == torch.float32 for w in weights if w.is_floating_point())
        and all(w.device.type == "cpu" for w in weights)
    )


class FoldedModel(nn.Module):
    """Run a network with its norms folded into its convolutions, with gradients to the inputs.

    Logits and gradients are the model's own up to rounding. The model itself runs where its true
    float32 is asked for (`exact_float32`), in train mode, in float16, and for other shapes. On a
    CPU a pass with gradient takes 0.5 to 0.8 of the model's time.

    Arguments:
        model: in eval mode; its weights are those of now.
        x: samples `(b, c, h, w)`, for the shape.

    Raises:
        ValueError: for a network that `read_network` refuses.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()).eval()
    >>> x = torch.rand(4, 1, 5, 5)
    >>> torch.allclose(FoldedModel(net, x)(x), net(x), atol=1e-6)
    True
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.model, self.training, self.shape = model, model.training, x.shape[1:]
        self.folded = {
            dtype: Folded(model, x[:1], dtype) for dtype in (torch.float32, torch.bfloat16)
        }
        self.parts = list(model.modules())

    def forward(self, x: Tensor) -> Tensor:
        folded = self._chosen(x)
        if folded is None:
            return self.model(x)
        with torch.autocast("cpu", enabled=False):  # the folded network has its dtype already
            return folded.values(x)[-1].float()

    def _chosen(self, x: Tensor) -> Folded | None:
        """Return the network for these inputs and the present precision, None for the model."""
        if exact_float32.is_requested() or x.shape[1:] != self.shape or len(x) == 0:
            return None
        if x.dtype != torch.float32 or any(part.training for part in self.parts):
            return None
        autocast = torch.is_autocast_enabled("cpu")
        return self.folded.get(torch.get_autocast_dtype("cpu") if autocast else torch.float32)


def folded_model(model: Model, x: Tensor) -> Model:
    """Return the model as a `FoldedModel`, or as it is where that can't be.

    It needs a network of convolutions on a CPU, in eval mode and float32, that `Folded` reads and
    that agrees with it on the first rows of x.
    """
    if not isinstance(model, nn.Module):
        return model
    with freeze.frozen(model, "eval"), torch.no_grad():
        if not is_plain(model, x):
            return model
        try:
            folded = FoldedModel(model, x)
        except ValueError:
            return model
        return folded if agrees(folded.folded[torch.float32], model, x) else model
