"""Per-sample losses in log space: each function maps logits `(b, k)` and labels to `(b,)` nats.

Labels are `(b,)` integers, -1 for unlabeled (its loss is 0), or `(b, k)` probabilities. All stay
finite, with finite gradients, at logit scale 200.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _at_label(values: Tensor, y: Tensor) -> Tensor:
    return values.gather(1, y.clamp_min(0)[:, None])[:, 0]


def _without(logits: Tensor, j: Tensor) -> Tensor:
    """Return the logits with column `j (b,)` at -inf."""
    return logits.scatter(1, j.clamp_min(0)[:, None], -torch.inf)


def hard_labels(y: Tensor) -> Tensor:
    """Return labels as integers `(b,)`: of probabilities the likeliest class, -1 where all are 0.

    >>> hard_labels(torch.tensor([[0.1, 0.9], [0.0, 0.0]]))
    tensor([ 1, -1])
    """
    return y if y.ndim == 1 else torch.where(y.amax(1) > 0, y.argmax(1), -1)


def smoothed_labels(y: Tensor, classes: int, amount: float) -> Tensor:
    """Return labels as probabilities `(b, k)`: (1 − amount)·y + amount/k; 0 where unlabeled.

    Arguments:
        y: `(b,)` integers, or `(b, k)` probabilities.

    Source: Szegedy et al. 2016, sec. 7.

    >>> smoothed_labels(torch.tensor([1, -1]), 2, 0.2)
    tensor([[0.1000, 0.9000],
            [0.0000, 0.0000]])
    """
    labelled = hard_labels(y) >= 0
    if y.ndim == 1:
        y = torch.nn.functional.one_hot(y.clamp_min(0), classes).to(torch.get_default_dtype())
    return torch.where(labelled[:, None], (1 - amount) * y + amount / classes, 0.0)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Compute the cross-entropy −Σ_k q_k log p_k, for integer or soft labels.

    Arguments:
        logits: `(b, k)`.
        y: `(b,)` integers, -1 for a loss of 0; or `(b, k)` probabilities.

    >>> cross_entropy(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([0.4076])
    """
    logp = logits.log_softmax(1)
    if y.ndim == 2:
        # 0·log 0 = 0: a label may leave out a masked class, whose logit is −inf
        return -(y * logp.masked_fill((y == 0) & (logp == -torch.inf), 0.0)).sum(1)
    return torch.where(y >= 0, -_at_label(logp, y), 0.0)


def kl(logits: Tensor, other: Tensor) -> Tensor:
    """Compute KL(p ‖ q) = Σ_k p_k (log p_k − log q_k), p = softmax(logits), q = softmax(other).

    It is differentiable in both.

    >>> kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.])
    """
    logp, logq = logits.log_softmax(1), other.log_softmax(1)
    # 0·log 0 = 0, masked before the product so that gradients are finite too
    gap = (logp - logq).masked_fill(logp == -torch.inf, 0.0)
    return (logp.exp() * gap).sum(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Compute the margin max_{k≠y} z_k − z_y: positive where the model is wrong.

    It is the CW loss with confidence 0.

    Source: Carlini and Wagner 2017, f_6.

    >>> margin(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    return torch.where(y >= 0, _without(logits, y).amax(1) - _at_label(logits, y), 0.0)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Compute the difference-of-logits ratio (max_{k≠y} z_k − z_y) / (z_(1) − z_(3)).

    It is the margin, free of scale and shift.

    Source: Croce and Hein 2020, eq. 6.

    Raises:
        ValueError: for fewer than three classes, where the ratio is undefined.

    >>> dlr(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    if logits.shape[1] < 3:
        raise ValueError(
            f"loss = 'dlr' needs at least 3 classes, this model has {logits.shape[1]}: use 'margin'"
        )
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / finite_scale(top[:, 0] - top[:, 2])


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Compute the margin of the probabilities, max_{k≠y} p_k − p_y with p = softmax(z), in [−1, 1].

    It weighs a sample by what it can gain: far beyond the boundary, as far before it, it is flat.

    Source: arXiv 2411.15210 (PMA).

    >>> probability_margin(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([-0.4205])
    """
    return margin(logits.softmax(1), y)


def finite_scale(scale: Tensor) -> Tensor:
    """Return a difference of logits ≥ 0 to divide by; 1 where a masked class made it infinite."""
    return torch.where(scale == torch.inf, 1.0, scale).clamp_min(1e-12)


def boosted_ce(logits: Tensor, y: Tensor) -> Tensor:
    """Compute −log p_y − log(1 − max_{k≠y} p_k): cross-entropy plus a margin term.

    Of labels `(b, k)` the first term takes the probabilities, the second their likeliest class y.

    The second term is computed as logsumexp(z) − logsumexp(z without its largest wrong class),
    which is exact where 1 − p underflows.

    Source: Wang et al. 2020 (MART), eq. 8. Differs: the authors' code caps the margin term at 9.21.

    >>> boosted_ce(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([0.6883])
    """
    hard = hard_labels(y)
    j = _without(logits, hard).argmax(1)
    far = logits.logsumexp(1) - _without(logits, j).logsumexp(1)
    return torch.where(hard >= 0, cross_entropy(logits, y) + far, 0.0)


def misclassification_weight(logits: Tensor, y: Tensor) -> Tensor:
    """Compute MART's weight 1 − p_y, y the likeliest class of soft labels; 0 where unlabeled."""
    y = hard_labels(y)
    # 1 − p_y from the logarithm: exact where p_y rounds to 1
    return torch.where(y >= 0, -torch.expm1(_at_label(logits.log_softmax(1), y)), 0.0)


BY_NAME = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "probability-margin": probability_margin,
}
