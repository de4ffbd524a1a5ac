"""Square attack as the paper writes it: one sample, nested lists, one place at a time."""

from __future__ import annotations

from collections.abc import Callable

Image = list[list[list[float]]]  # channel, row, column
Plane = list[list[float]]


def share(query: int, queries: int, p_init: float) -> float:
    """p at a query counted from 0: halved at each of nine places of 10 000."""
    i = int(query / queries * 10_000)
    if i <= 10:
        return p_init
    if i <= 50:
        return p_init / 2
    if i <= 200:
        return p_init / 4
    if i <= 500:
        return p_init / 8
    if i <= 1000:
        return p_init / 16
    if i <= 2000:
        return p_init / 32
    if i <= 4000:
        return p_init / 64
    if i <= 6000:
        return p_init / 128
    if i <= 8000:
        return p_init / 256
    return p_init / 512


def clip(v: float, low: float, high: float) -> float:
    """The nearest number in [low, high]."""
    return max(low, min(high, v))


def stripes(x: Image, eps: float, signs: Plane) -> Image:
    """x + eps·sign of the channel and column, in the box."""
    return [
        [[clip(v + eps * s, 0.0, 1.0) for v, s in zip(row, sign, strict=True)] for row in channel]
        for channel, sign in zip(x, signs, strict=True)
    ]


def square(
    z: Image, x: Image, eps: float, *, top: int, left: int, side: int, signs: list[float]
) -> Image:
    """Add ±2·eps in a square, then clip to x ± eps and to the box."""
    new = [[list(row) for row in channel] for channel in z]
    for c, sign in enumerate(signs):
        for i in range(top, top + side):
            for j in range(left, left + side):
                v = x[c][i][j]
                moved = clip(z[c][i][j] + sign * 2 * eps, v - eps, v + eps)
                new[c][i][j] = clip(moved, 0.0, 1.0)
    return new


def search_linf(
    loss: Callable[[Image], float],
    x: Image,
    uniform: Callable[[int], list[float]],
    *,
    eps: float,
    queries: int,
    p_init: float,
) -> Image:
    """The best point of `queries` for one image; `uniform(n)` gives the next n numbers in
    [0, 1)."""
    c, h, w = len(x), len(x[0]), len(x[0][0])
    sign = [[1.0 if u < 0.5 else -1.0 for u in uniform(w)] for _ in range(c)]
    best = stripes(x, eps, sign)
    record = loss(best)
    for query in range(queries - 1):
        side = max(round((share(query, queries, p_init) * h * w) ** 0.5), 1)
        drawn = uniform(2 + c)
        z = square(
            best,
            x,
            eps,
            top=int(drawn[0] * (h - side + 1)),
            left=int(drawn[1] * (w - side + 1)),
            side=side,
            signs=[1.0 if u < 0.5 else -1.0 for u in drawn[2:]],
        )
        value = loss(z)
        if value > record:
            best, record = z, value
    return best


def size(plane: Plane, p: float) -> float:
    """‖·‖_p of all entries."""
    return sum(abs(v) ** p for row in plane for v in row) ** (1 / p)


def scaled(plane: Plane, factor: float) -> Plane:
    """Every entry times the factor."""
    return [[factor * v for v in row] for row in plane]


def hill(h: int, w: int, p: float) -> Plane:
    """Rectangles that grow from the centre, 1/(k + 1)² added in the k-th, cut at the edge; then
    ‖·‖_p = 1."""
    plane = [[0.0] * w for _ in range(h)]
    for k in range(max(h // 2, w // 2) + 1):
        for i in range(max(h // 2 - k, 0), min(h // 2 + k + 1, h)):
            for j in range(max(w // 2 - k, 0), min(w // 2 + k + 1, w)):
                plane[i][j] += 1 / (k + 1) ** 2
    return scaled(plane, 1 / size(plane, p))


def eta(s: int, p: float, *, turned: bool) -> Plane:
    """A hill over the first s // 2 rows, a valley over the rest; turned, over columns."""
    upper = hill(s // 2, s, p) if s > 1 else []
    both = upper + scaled(hill(s - s // 2, s, p), -1.0)
    both = scaled(both, 1 / size(both, p))
    return [list(column) for column in zip(*both, strict=True)] if turned else both


def moved_budget(
    delta: Image,
    eps: float,
    p: float,
    *,
    first: tuple[int, int],
    second: tuple[int, int],
    pattern: Plane,
    signs: list[float],
) -> Image:
    """Alg. 3: window one takes the budget of both windows and its share of what is unused, as its
    own shape plus the pattern; window two becomes 0. Then the whole is scaled to ‖·‖_p = eps."""
    s, c = len(pattern), len(delta)
    places = [(i, j) for i in range(s) for j in range(s)]
    one = {(first[0] + i, first[1] + j) for i, j in places}
    two = {(second[0] + i, second[1] + j) for i, j in places}
    spent = sum(size(channel, p) ** p for channel in delta)
    unused = max(eps**p - spent, 0.0) / c
    new = [[list(row) for row in channel] for channel in delta]
    for k in range(c):
        old = [[delta[k][first[0] + i][first[1] + j] for j in range(s)] for i in range(s)]
        before = size(old, p) or 1.0
        form = [[signs[k] * pattern[i][j] + old[i][j] / before for j in range(s)] for i in range(s)]
        freed = sum(abs(delta[k][i][j]) ** p for i, j in one | two)
        form = scaled(form, (unused + freed) ** (1 / p) / size(form, p))
        for i, j in two:
            new[k][i][j] = 0.0
        for i, j in places:
            new[k][first[0] + i][first[1] + j] = form[i][j]
    whole = sum(size(channel, p) ** p for channel in new) ** (1 / p)
    return [scaled(channel, eps / whole) for channel in new]
