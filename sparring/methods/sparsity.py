"""Data sparsity: fit labels at the data, and keep the slope of softmax small there and around."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.geometry import channel_scale
from ..functional.losses import cross_entropy, hard_labels
from ..runtime import distributed
from .base import Method, SampleGain
from .softmax_slope import DIFFERENCES, neighbour_noise

NORMS = ("anchors", "labelled")


class Sparsity(Method):
    """Flatten the softmax near the inputs, labelled or not.
    ℓ = 1[y ≥ 0]·CE(f(x), y) + beta·GR(x), GR the mean squared slope of softmax to neighbours:
    GR(x) = 1/(N_n·k) Σ_j Σ_c ((p_c(x) − p_c(x_j)) / ‖x − x_j‖₂)² with x_j = x + sigma_n·ζ_j, ζ ~
    N(0, I), drawn in each step and not clipped. GR acts at every row, labelled or not (y = −1).
    Unlabelled rows come from `[data] mix`, as `GaussianShell`; without them, predictions are
    flattened at the data only.

    With an attack, a labelled row that the adversary moved to x' counts
    (CE(x) + ratio·CE(x')) / (1 + ratio) + beta·(GR(x) + GR(x')), with other neighbours for x'. A
    row that did not move counts as without an attack; unlabelled rows are not attacked.

    Arguments:
        beta: weight of GR (λ in the paper), ≥ 0; as sigma_n → 0 it acts as beta/(k·d) on ‖∂p/∂x‖².
        neighbours: N_n of a point, ≥ 1.
        sigma_n: their standard deviation, > 0, in units of `scale`.
        scale: unit of noise and distances, in input units: 1; or the standard deviation of the
            data, one number or one per channel, for the paper's standardised units.
        ratio: weight of the adversarial cross-entropy, ≥ 0.
        difference: `"forward"`, from x to x_j as published; `"central"`, from the antithetic
            x − sigma_n·ζ_j to x_j; or `"limit"`, the Jacobian-vector product for sigma_n → 0.
        ce_norm: `"anchors"` divides the cross-entropies by the number of all rows, as the authors'
            batches of one do; `"labelled"` divides by the number of labelled rows.

    The notes `zeta` and `zeta_adv` `(b, N_n, *d)` in `Batch.extra` replace the draws.

    Raises:
        ValueError: for a value out of range, as sigma_n = 0: a point has no slope to itself.

    Source: Paknezhad et al. 2022, in the form of their code. Differs: batches of any size; their
    FGSM leaves its gradient in the update and the model in eval mode, takes eps in standardised
    units, and does not clip to the box.

    >>> from torch import nn, tensor, zeros
    >>> note = {"zeta": tensor([[[1.0, 0.0]]])}
    >>> Sparsity().loss(nn.Identity(), Batch(zeros(1, 2), tensor([-1]), extra=note)).per_sample
    tensor([0.0062])
    """

    paper = "paknezhad2022sparsity"

    def __init__(
        self,
        *,
        beta: float = 0.1,
        neighbours: int = 1,
        sigma_n: float = 0.05,
        scale: float | Sequence[float] = 1.0,
        ratio: float = 0.3,
        difference: str = "forward",
        ce_norm: str = "anchors",
    ) -> None:
        super().__init__()
        require(beta >= 0, "beta", beta, "a weight ≥ 0")
        require(neighbours >= 1, "neighbours", neighbours, "an integer ≥ 1")
        require(sigma_n > 0, "sigma_n", sigma_n, "a standard deviation > 0")
        numbers = [scale] if isinstance(scale, int | float) else list(scale)
        ok = bool(numbers) and all(number > 0 for number in numbers)
        require(ok, "scale", scale, "a number > 0, or one per channel")
        require(ratio >= 0, "ratio", ratio, "a weight ≥ 0")
        allowed = "one of " + ", ".join(DIFFERENCES)
        require(difference in DIFFERENCES, "difference", difference, allowed)
        require(ce_norm in NORMS, "ce_norm", ce_norm, "one of " + ", ".join(NORMS))
        self.beta, self.neighbours, self.sigma_n, self.scale = beta, neighbours, sigma_n, scale
        self.ratio, self.difference, self.ce_norm = ratio, difference, ce_norm

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        # one wait for a GPU an attack: running the unlabelled rows too would cost their passes
        rows = (hard_labels(batch.y) >= 0).nonzero()[:, 0]  # one entry a row of mixed labels, too
        if len(rows) == len(batch):
            return super().gain(model, batch)

        def f(x_adv: Tensor, y_adv: Tensor) -> Tensor:
            value = cross_entropy(model(x_adv[rows]), y_adv[rows])
            return x_adv.new_zeros(len(batch)).index_put((rows,), value)

        return f

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x, y, b = batch.x, batch.y, len(batch)
        moved, x_adv, y_adv = self._moved(batch)
        zeta = neighbour_noise(batch, "zeta", x, self.neighbours)
        if len(moved):
            # Drawn for all rows, then chosen: the draws do not depend on which rows moved.
            zeta_adv = neighbour_noise(batch, "zeta_adv", x, self.neighbours)
            zeta = torch.cat([zeta, zeta_adv[moved]])
        scale = channel_scale(self.scale, x)
        points = torch.cat([x, x_adv]) if len(moved) else x
        step = self.sigma_n * scale * zeta
        logits, slopes = DIFFERENCES[self.difference](model, points, step, scale)
        ce = natural = cross_entropy(logits[:b], y)
        gr = slopes[:b]
        if len(moved):
            mixed = natural[moved] + self.ratio * cross_entropy(logits[b:], y_adv)
            ce = ce.index_put((moved,), mixed / (1 + self.ratio))
            gr = gr.index_add(0, moved, slopes[b:])
        labelled = (hard_labels(y) >= 0).to(x.dtype)
        terms = {
            "natural": (natural.sum() / labelled.sum().clamp_min(1)).detach(),
            "slope": gr.mean().detach(),
            "unlabelled": 1 - labelled.mean(),
        }
        return Loss(self._normalised(ce, labelled, batch) + self.beta * gr, terms=terms)

    def _moved(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the row numbers, x' and y' of the labelled rows that the adversary moved."""
        x_adv = batch.x if batch.x_adv is None else batch.x_adv
        y_adv = batch.y if batch.y_adv is None else batch.y_adv
        if x_adv is batch.x:
            return batch.index.new_zeros(0), x_adv[:0], y_adv[:0]
        # one wait for a GPU a step, for the same reason
        rows = ((x_adv != batch.x).flatten(1).any(1) & (hard_labels(batch.y) >= 0)).nonzero()[:, 0]
        return rows, x_adv[rows], y_adv[rows]

    def _normalised(self, ce: Tensor, labelled: Tensor, batch: Batch) -> Tensor:
        """Scale the cross-entropies so that their mean over the joint batch follows `ce_norm`."""
        if self.ce_norm == "anchors":
            return ce
        weight = distributed.gather(batch.weight).sum()
        share = distributed.gather(batch.weight * labelled).sum() / weight
        return ce / torch.where(share > 0, share, 1.0)
