"""A guard between attack and model: it counts passes, and refuses inputs no model can take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..batch import Model
from ..functional.geometry import box_slack
from ..introspect.folded_model import FoldedModel
from ..introspect.forward import SafeForward, check_labels, check_outputs
from ..introspect.local import LocalQueries, local_forward
from .budget import Budget

__all__ = ["Guard", "check_inputs", "check_labels", "check_outputs", "count_outside"]


class Guard(nn.Module):
    """Wrap a model: count the samples passed forward and backward, check inputs and outputs.

    Arguments:
        low, high: bounds of valid inputs.
        shape: of one sample; default: that of the first batch.
        strict: raise for a query outside the bounds or with NaN, and for a model that changes its
            own mode. If False, count such queries only: attacks may try any point, and what they
            return is judged anyway.
        budget: counts every pass; once it is spent, a pass raises `BudgetSpent`.

    Attributes:
        forwards, backwards: samples passed, by any caller.
        classes: k of the logits `(b, k)`, None before the first pass.

    Raises:
        ValueError: for inputs that are not finite floats of the shape within the bounds, or outputs
            that are not `(b, k)`.

    >>> guard = Guard(lambda x: x)
    >>> x = torch.rand(4, 3, requires_grad=True)
    >>> guard(x).sum().backward()
    >>> guard.forwards, guard.backwards, guard.classes
    (4, 4, 3)
    """

    def __init__(
        self,
        model: Model,
        *,
        low: float = 0.0,
        high: float = 1.0,
        shape: tuple[int, ...] | None = None,
        strict: bool = True,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self.model, self._safe_run = model, SafeForward(model)
        self.low, self.high, self.shape, self.strict, self.budget = low, high, shape, strict, budget
        self.classes: int | None = None
        self.training = getattr(model, "training", False)
        self.reset()

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's logits `(b, k)`."""
        self.admit(x)
        before = self._modes() if self.strict else []
        logits = self._safe_run(x)
        if self.strict and self._modes() != before:
            raise ValueError(
                "the model changes its own mode when it is called: in evaluation every module must "
                "stay in the mode it is put in"
            )
        self.classes = check_outputs(logits, len(x), self.classes)
        self.forwards += len(x)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def admit(self, x: Tensor) -> None:
        """Check the inputs of a pass, and count them against the budget."""
        self.shape = self.shape or tuple(x.shape[1:])
        check_inputs(x, self.low, self.high, self.shape, strict=self.strict)
        if not self.strict:
            # Summed on the device: `int` here would wait for the GPU at every pass.
            self._outside = self._outside + count_outside(x, self.low, self.high)
        if self.budget is not None:
            # Check before counting: the pass that spends the budget is still made.
            self.budget.check()
            self.budget.count(len(x))

    @property
    def approximates(self) -> bool:
        """Return whether passes equal the model's up to rounding only: float32 confirms them."""
        return isinstance(self.model, FoldedModel)

    def local_forward(self, x: Tensor, dtype: torch.dtype) -> LocalQueries | None:
        """Return the model's `local_forward`, guarded: each query counts as a pass of its rows."""
        # A model's own method could answer otherwise than its forward, which the judge runs.
        answers_itself = hasattr(self.model, "local_forward")
        local = None if answers_itself else local_forward(self.model, x, dtype)
        return None if local is None else GuardedQueries(self, local)

    def _modes(self) -> list[bool]:
        return [m.training for m in self.modules()]

    def _count_backward(self, grad: Tensor) -> None:
        self.backwards += len(grad)

    def reset(self) -> None:
        """Set all counts to zero."""
        self.forwards = self.backwards = 0
        self._outside: Tensor | int = 0

    @property
    def outside(self) -> int:
        """Return the number of samples passed outside the bounds, or with NaN."""
        return int(self._outside)


class GuardedQueries:
    """Check and count queries near known points as a guard does whole passes.

    Preparing for new windows computes images of points that were queried before, and tells nothing
    about them: it is not counted.
    """

    def __init__(self, guard: Guard, local: LocalQueries) -> None:
        self._guard, self._local = guard, local
        self.prepare, self.accept, self.keep = local.prepare, local.accept, local.keep

    def __call__(self, z: Tensor, top: Tensor, left: Tensor) -> Tensor:
        return self._counted(z, lambda z: self._local(z, top, left))

    def whole(self, z: Tensor) -> Tensor:
        """Return the logits `(b, k)` of a whole pass."""
        return self._counted(z, self._local.whole)

    def _counted(self, z: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        self._guard.admit(z)
        logits = run(z)
        self._guard.classes = check_outputs(logits, len(z), self._guard.classes)
        self._guard.forwards += len(z)
        return logits


def count_outside(x: Tensor, low: float, high: float) -> Tensor:
    """Count the rows of `x (b, *d)` with NaN or values outside [low, high]: `()`, on its device."""
    if x.numel() == 0:
        return torch.zeros((), dtype=torch.long, device=x.device)
    x_min, x_max = torch.aminmax(x.detach().flatten(1), dim=1)
    slack = box_slack(low, high)
    return (~((x_min >= low - slack) & (x_max <= high + slack))).sum()


def check_inputs(
    x: Tensor, low: float, high: float, shape: tuple[int, ...], *, strict: bool = True
) -> None:
    """Raise a `ValueError` for inputs that are not floats of the shape; if `strict`, also for those
    outside the bounds."""
    got, box = tuple(x.shape[1:]), f"[{low:g}, {high:g}]"
    if got != tuple(shape):
        raise ValueError(f"x has samples of shape {got}, the data have {tuple(shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}: a model is evaluated on floats in {box}")
    if not strict or not count_outside(x, low, high):
        return
    x_min, x_max = (t.item() for t in torch.aminmax(x.detach()))
    if x_min != x_min:
        raise ValueError(f"x has NaN values: the model takes finite floats in {box}")
    raise ValueError(
        f"x reaches from {x_min:.4g} to {x_max:.4g}, its bounds are {box}: "
        "hand over unnormalised inputs and put normalisation into the model"
    )
