"""Hold the models of a page, and what each answers on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..data.outside_pictures import Picture
from ..data.split import Split
from ..introspect.predict import has_class, logits
from ..runtime.text import printable

SHOWN_CLASSES = 10  # bars of an answer
NO_CLASS = "no class"  # of logits that are NaN or infinite


class ServedModel(NamedTuple):
    """Hold a model on its device with the facts that the page shows.

    Arguments:
        shape: `(c, h, w)` of the pictures that the model takes, c = 1 or 3, in [0, 1].
        samples: test samples to pick from; None for a model without data.
        threat, eps: of its training or evaluation, as the page's first choice.
        about: one line, as "MART · Linf 0.1 · digits".
    """

    name: str
    model: Model
    device: torch.device
    shape: tuple[int, ...]
    class_names: list[str]
    samples: Split | None = None
    threat: str = "Linf"
    eps: float | None = None
    about: str = ""

    def label(self, name: str | None) -> int | None:
        """Return the number of a class by its name, or None if the model has no such class."""
        return self.class_names.index(name) if name in self.class_names else None


class ServedAnswer(NamedTuple):
    """Hold the class that a model answers, -1 for none, and its probabilities `(k,)`."""

    pred: int
    probabilities: Tensor

    def confidence(self, k: int) -> float:
        """Return the probability of class k; 0 where the model names no class."""
        return float(self.probabilities[k]) if self.pred >= 0 else 0.0


def answer(served: ServedModel, x: Tensor) -> ServedAnswer:
    """Return the answer of a model on a picture `x (c, h, w)`, judged in float32."""
    z = logits(served.model, x[None].to(served.device))
    known = bool(has_class(z)[0])
    probabilities = z[0].double().softmax(0).cpu()
    return ServedAnswer(int(z[0].argmax()) if known else -1, probabilities.nan_to_num(0.0))


def class_table(
    served: ServedModel, given: ServedAnswer, *, also: Sequence[int] = ()
) -> dict[str, Any]:
    """Return the answer as JSON: its class, and its most probable classes, those in `also` too."""
    top = given.probabilities.topk(min(SHOWN_CLASSES, len(given.probabilities))).indices.tolist()
    shown = list(dict.fromkeys([*top, *(k for k in also if k >= 0)])) if given.pred >= 0 else []
    names = served.class_names
    return {
        "answer": names[given.pred] if given.pred >= 0 else NO_CLASS,
        "classes": [{"name": names[k], "confidence": given.confidence(k)} for k in shown],
    }


def named_classes(names: Sequence[str], outputs: int) -> list[str]:
    """Return a name per output of a model, each once; a class without a name has its number.

    >>> named_classes(["cat", "dog"], 3)
    ['cat', 'dog', '2']
    """
    require(outputs >= 1, "outputs", outputs, "one or more classes")
    unique: list[str] = []
    for k in range(outputs):
        name = printable(names[k]) if k < len(names) else str(k)
        unique.append(name if name not in unique else f"{name} ({k})")
    return unique


def num_samples(served: ServedModel) -> int:
    """Return how many test samples a model brings."""
    return 0 if served.samples is None else len(served.samples)


def sample_picture(served: ServedModel, row: int) -> tuple[Picture, str | None]:
    """Return a test sample as a picture of 8 bits, and the name of its class, if it has one."""
    assert served.samples is not None
    x = served.samples.float(slice(row, row + 1))[0]
    pixels = (255 * x).round().clamp(0, 255).to(torch.uint8)
    y = int(served.samples.y[row])
    name = served.class_names[y] if 0 <= y < len(served.class_names) else None
    return Picture(f"{served.name}, test sample {row}", pixels, []), name
