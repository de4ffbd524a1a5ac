"""Combine two methods: one for labelled rows, another for unlabelled rows."""

from __future__ import annotations

from torch import Tensor, nn

from ..batch import Batch, Loss
from ..functional.losses import hard_labels
from ..runtime.torch_private import BATCH_NORM
from .base import Method, SampleGain


def _loss(method: Method, model: nn.Module, batch: Batch) -> Loss:
    """Return the loss of a part; a single row that batch norm refuses takes running statistics."""
    try:
        return method.loss(model, batch)
    except ValueError:
        norms = [m for m in model.modules() if isinstance(m, BATCH_NORM) and m.training]
        if len(batch) > 1 or not norms:
            raise
        try:
            for norm in norms:
                norm.eval()
            return method.loss(model, batch)
        finally:
            for norm in norms:
                norm.train()


class SemiSupervised(Method):
    """Train labelled rows by one method and unlabelled rows by another.
    ℓ = 1[y ≥ 0]·ℓ_of + 1[y = −1]·ℓ_unlabelled; each gain acts on its method's rows. Each method
    runs its rows alone, so no row runs twice, and batch statistics are those of the part.
    Pseudo-labelled rows have a label; their weight γ against the others is the `weight` of the
    piece of `[data] mix` that adds them.

    Arguments:
        of: the method for labelled rows, as MART.
        unlabelled: the method for unlabelled rows, as TRADES or UAT, whose stability terms need no
            label.

    Source: the pattern of Alayrac et al. 2019 and Carmon et al. 2019.

    >>> from sparring.methods import AT, UAT
    >>> SemiSupervised(of=AT(), unlabelled=UAT(fixed=0.0)).table()["unlabelled"]
    {'name': 'UAT', 'online': 1.0, 'fixed': 0.0}
    """

    one_class_per_sample = True

    def __init__(self, *, of: Method, unlabelled: Method) -> None:
        super().__init__()
        self.of, self.unlabelled = of, unlabelled

    @property
    def differentiates_twice(self) -> bool:
        return self.of.differentiates_twice or self.unlabelled.differentiates_twice

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        halves = []
        for method, rows in self._halves(batch):
            half = batch.take(rows)
            halves.append((rows, method.gain(model, half)))
            for key, note in half.extra.items():  # what the method noted, where `loss` reads it
                whole = batch.extra.get(key, note.new_zeros(len(batch), *note.shape[1:]))
                batch.extra[key] = whole.index_put((rows,), note)

        def f(x_adv: Tensor, y_adv: Tensor) -> Tensor:
            value = x_adv.new_zeros(len(batch))
            for rows, gain in halves:
                value = value.index_put((rows,), gain(x_adv[rows], y_adv[rows]))
            return value

        return f

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        whole = Loss(batch.x.new_zeros(len(batch)))
        for method, rows in self._halves(batch):
            part = _loss(method, model, batch.take(rows))
            whole.per_sample = whole.per_sample.index_put((rows,), part.per_sample)
            whole.penalty = whole.penalty + part.penalty
            prefix = "unlabelled " if method is self.unlabelled else ""
            whole.terms |= {prefix + key: value for key, value in part.terms.items()}
        return whole

    def update(self, model: nn.Module, batch: Batch) -> None:
        for method, rows in self._halves(batch):
            method.update(model, batch.take(rows))

    def _halves(self, batch: Batch) -> list[tuple[Method, Tensor]]:
        """Return each method with its row numbers, if it has any."""
        y = hard_labels(batch.y)
        numbers = [mask.nonzero()[:, 0] for mask in (y >= 0, y < 0)]
        halves = zip((self.of, self.unlabelled), numbers, strict=True)
        return [(method, rows) for method, rows in halves if len(rows)]
