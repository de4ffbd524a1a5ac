"""Pure per-sample losses in exact log space: every function maps logits `(b, k)` and labels to
`(b,)` nats.

Labels are `(b,)` integers, -1 for unlabeled (its loss is 0), or `(b, k)` probabilities. All stay
finite, with finite gradients, at logit scale 200.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _pick(values: Tensor, y: Tensor) -> Tensor:
    return values.gather(1, y.clamp_min(0)[:, None])[:, 0]


def _others(logits: Tensor, j: Tensor) -> Tensor:
    """Logits with column `j (b,)` at -inf."""
    return logits.scatter(1, j.clamp_min(0)[:, None], -torch.inf)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy −Σ_k q_k log p_k, for integer or soft labels.

    Arguments:
        logits: `(b, k)`.
        y: `(b,)` integers, -1 counts 0; or `(b, k)` probabilities.

    >>> cross_entropy(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([0.4076])
    """
    logp = logits.log_softmax(1)
    if y.ndim == 2:
        return -(y * logp).sum(1)
    return torch.where(y >= 0, -_pick(logp, y), 0.0)


def kl(logits: Tensor, other: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ_k p_k (log p_k − log q_k) with p = softmax(logits), q = softmax(other);
    differentiable in both.

    >>> kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.])
    """
    logp, logq = logits.log_softmax(1), other.log_softmax(1)
    return (logp.exp() * (logp - logq)).sum(1)


def js(logits: Tensor, other: Tensor) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2, per sample `(b,)`.

    >>> js(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.])
    """
    both = torch.stack([logits.log_softmax(1), other.log_softmax(1)])
    middle = both.logsumexp(0)  # up to log 2, which softmax takes away
    return (kl(logits, middle) + kl(other, middle)) / 2


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{k≠y} z_k − z_y: positive where the model is wrong. The CW loss without a confidence.

    Source: Carlini and Wagner 2017, f_6.

    >>> margin(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    return torch.where(y >= 0, _others(logits, y).amax(1) - _pick(logits, y), 0.0)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference-of-logits ratio (max_{k≠y} z_k − z_y) / (z_(1) − z_(3)): the margin, free of scale
    and shift.

    Source: Croce and Hein 2020, eq. 6.

    Raises:
        ValueError: for fewer than three classes, where it is undefined.

    >>> dlr(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    if logits.shape[1] < 3:
        raise ValueError(
            f"loss = 'dlr' needs at least 3 classes, this model has {logits.shape[1]}: use 'margin'"
        )
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def boosted_ce(logits: Tensor, y: Tensor) -> Tensor:
    """−log p_y − log(1 − max_{k≠y} p_k): cross-entropy plus a margin term.

    The second term is logsumexp(z) − logsumexp(z without its largest wrong class), exact where 1 −
    p underflows.

    Source: Wang et al. 2020 (MART), eq. 8. Differs: the authors' code caps the margin term at 9.21.

    >>> boosted_ce(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([0.6883])
    """
    j = _others(logits, y).argmax(1)
    far = logits.logsumexp(1) - _others(logits, j).logsumexp(1)
    return torch.where(y >= 0, cross_entropy(logits, y) + far, 0.0)


def not_confident(logits: Tensor, y: Tensor) -> Tensor:
    """1 − p_y = −expm1(log p_y): MART's weight; 0 where unlabeled."""
    return torch.where(y >= 0, -torch.expm1(_pick(logits.log_softmax(1), y)), 0.0)


BY_NAME = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
