"""OTJR and its relatives of one batch, in Python floats: lists of logits, of labels, and of each
sample's Jacobian (a row a logit)."""

from __future__ import annotations

import math

from .losses import cross_entropy
from .transport import Matrix, Point, divergence, dot, movement, sliced


def energy(jacobian: Matrix, v: Point) -> float:
    """‖vᵀJ‖²."""
    columns = zip(*jacobian, strict=True)
    return sum(dot(v, list(column)) ** 2 for column in columns)


def otjr(
    clean: list[Point],
    adversarial: list[Point],
    y: list[int],
    jacobians: list[Matrix],
    slices: list[Point],
    sw: float,
    jac: float,
) -> float:
    """CE(z', y) + sw·SW + jac·(C/B) Σ_i ‖v_iᵀ J_i‖² with v_i = Δ_i/‖Δ_i‖."""
    b, classes = len(y), len(clean[0])
    loss = sum(cross_entropy(z, k) for z, k in zip(adversarial, y, strict=True)) / b
    loss += sw * sliced(adversarial, clean, slices)
    for delta, jacobian in zip(movement(adversarial, clean, slices), jacobians, strict=True):
        size = math.sqrt(dot(delta, delta))
        loss += jac * classes / b * energy(jacobian, [part / size for part in delta])
    return loss


def mean_variance(cloud: list[Point]) -> float:
    """Σ_j Var_i(z_ij)/k."""
    columns = [list(column) for column in zip(*cloud, strict=True)]
    means = [sum(column) / len(column) for column in columns]
    parts = zip(columns, means, strict=True)
    return sum(sum((v - m) ** 2 for v in column) / len(column) for column, m in parts) / len(means)


def alp(clean: list[Point], adversarial: list[Point], y: list[int], beta: float) -> float:
    """½CE(z, y) + ½CE(z', y) + beta·mean over samples and classes of (z − z')²."""
    total = 0.0
    for z, w, k in zip(clean, adversarial, y, strict=True):
        total += (cross_entropy(z, k) + cross_entropy(w, k)) / 2
        total += beta * sum((p - q) ** 2 for p, q in zip(z, w, strict=True)) / len(z)
    return total / len(y)


def sat(clean: list[Point], adversarial: list[Point], y: list[int], weight: float, eps: float):
    """CE(z', y) + weight·S_eps(z, z')."""
    loss = sum(cross_entropy(z, k) for z, k in zip(adversarial, y, strict=True)) / len(y)
    return loss + weight * divergence(clean, adversarial, eps)
