"""Losses of one sample, in Python floats, as the papers write them: `z` a list of logits, `y` an
int or a list."""

from __future__ import annotations

import math

Logits = list[float]


def softmax(z: Logits) -> Logits:
    """p_k = exp(z_k) / Σ_m exp(z_m)."""
    total = sum(math.exp(v) for v in z)
    return [math.exp(v) / total for v in z]


def cross_entropy(z: Logits, y: int | list[float]) -> float:
    """−log p_y, or −Σ_k q_k log p_k for soft labels q."""
    p = softmax(z)
    if isinstance(y, list):
        return -sum(q_k * math.log(p_k) for q_k, p_k in zip(y, p, strict=True))
    return -math.log(p[y])


def kl(z: Logits, other: Logits) -> float:
    """Σ_k p_k log(p_k / q_k)."""
    p, q = softmax(z), softmax(other)
    return sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True))


def probability_margin(z: list[float], y: int) -> float:
    """The largest probability of another class, minus that of y."""
    p = softmax(z)
    return max(p[k] for k in range(len(p)) if k != y) - p[y]


def margin(z: Logits, y: int) -> float:
    """max_{k≠y} z_k − z_y."""
    return max(v for k, v in enumerate(z) if k != y) - z[y]


def dlr(z: Logits, y: int) -> float:
    """−(z_y − max_{k≠y} z_k) / (z_π1 − z_π3), π sorting the logits downwards."""
    down = sorted(z, reverse=True)
    return -(z[y] - max(v for k, v in enumerate(z) if k != y)) / (down[0] - down[2])


def boosted_ce(z: Logits, y: int) -> float:
    """−log p_y − log(1 − max_{k≠y} p_k)."""
    p = softmax(z)
    return -math.log(p[y]) - math.log(1 - max(v for k, v in enumerate(p) if k != y))


def trades(clean: Logits, adversarial: Logits, y: int, beta: float) -> float:
    """CE(p, y) + beta·KL(p ‖ p')."""
    return cross_entropy(clean, y) + beta * kl(clean, adversarial)


def mart(clean: Logits, adversarial: Logits, y: int, beta: float) -> float:
    """BCE(p', y) + beta·KL(p ‖ p')·(1 − p_y)."""
    return boosted_ce(adversarial, y) + beta * kl(clean, adversarial) * (1 - softmax(clean)[y])


def mart_authors(clean: Logits, adversarial: Logits, y: int, beta: float) -> float:
    """The same with the authors' constants: their line-by-line arithmetic for one sample."""
    p, q = softmax(clean), softmax(adversarial)
    by_size = sorted(range(len(q)), key=lambda k: q[k])
    j = by_size[-2] if by_size[-1] == y else by_size[-1]
    ce = cross_entropy(adversarial, y)
    far = -math.log(1.0001 - q[j] + 1e-12)
    moved = sum(a * (math.log(a) - math.log(b + 1e-12)) for a, b in zip(p, q, strict=True))
    return ce + far + beta * moved * (1.0000001 - p[y])
