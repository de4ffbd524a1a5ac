"""What UAD is made of, in Python floats: features as nested lists `[sample][channel][position]`,
statistics as `[sample][channel]`."""

from __future__ import annotations

import math

from . import losses

Rows = list[list[float]]
FLOOR = 1e-6


def mean(values: list[float]) -> float:
    """Σ v / n."""
    return sum(values) / len(values)


def deviation(values: list[float]) -> float:
    """√(Σ (v − mean)² / n + 1e-6)."""
    middle = mean(values)
    return math.sqrt(mean([(v - middle) ** 2 for v in values]) + FLOOR)


def channels(features: list[Rows]) -> tuple[Rows, Rows]:
    """μ_ic and σ_ic over the positions."""
    mu = [[mean(channel) for channel in sample] for sample in features]
    sigma = [[deviation(channel) for channel in sample] for sample in features]
    return mu, sigma


def spread(statistics: Rows) -> list[float]:
    """Σ_c over the samples."""
    return [deviation(list(column)) for column in zip(*statistics, strict=True)]


def resampled(features: list[Rows], e_mu: Rows, e_sigma: Rows) -> list[Rows]:
    """γ (F − μ)/σ + β with β = μ + ε_μ Σ_μ and γ = max(0, σ + ε_σ Σ_σ)."""
    mu, sigma = channels(features)
    over_mu, over_sigma = spread(mu), spread(sigma)
    result = []
    for i, sample in enumerate(features):
        rows = []
        for c, channel in enumerate(sample):
            beta = mu[i][c] + e_mu[i][c] * over_mu[c]
            gamma = max(0.0, sigma[i][c] + e_sigma[i][c] * over_sigma[c])
            rows.append([gamma * (v - mu[i][c]) / sigma[i][c] + beta for v in channel])
        result.append(rows)
    return result


def cosine(g: list[float], h: list[float]) -> float | None:
    """1 − ⟨g, h⟩/(‖g‖‖h‖); None without a direction."""
    long = [math.sqrt(sum(v * v for v in w)) for w in (g, h)]
    if min(long) <= 1e-12:
        return None
    return 1 - sum(a * b for a, b in zip(g, h, strict=True)) / (long[0] * long[1])


def nearest_right(z: Rows, y: list[int], mu: Rows, sigma: Rows) -> list[int]:
    """The sample whose prediction stands for each: its own where that is right, or none is."""
    right = [max(range(len(row)), key=lambda k: row[k]) == y[i] for i, row in enumerate(z)]
    over, points = spread(mu) + spread(sigma), []
    for means, deviations in zip(mu, sigma, strict=True):
        points.append([v / s for v, s in zip(means + deviations, over, strict=True)])
    chosen = []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if right[j] and y[j] == y[i]]
        near = min(others, key=lambda j: math.dist(points[i], points[j]), default=i)
        chosen.append(i if right[i] else near)
    return chosen


def uad(
    clean: list[float],
    attacked: list[float],
    reference: list[float],
    y: int,
    *,
    refine: str,
    **weights: float,
) -> float:
    """w CE(z') + λ_a m KL(q ‖ p'), the reference guarded by the loss on x; with refine "wrong" only
    where x is wrong."""
    right = max(range(len(clean)), key=lambda k: clean[k]) == y
    worse = losses.cross_entropy(reference, y) > losses.cross_entropy(clean, y)
    if worse or (refine == "wrong" and right):
        reference = clean
    m = 1.0 if max(range(len(reference)), key=lambda k: reference[k]) == y else 0.0
    return weights["adversarial"] * losses.cross_entropy(attacked, y) + weights[
        "matching"
    ] * m * losses.kl(reference, attacked)
