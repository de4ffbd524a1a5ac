"""Training steps of the papers, one after the other: free adversarial training, AWP, SAM."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

CE = nn.CrossEntropyLoss()
LossOf = Callable[[nn.Module], Tensor]


def free(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float, size: float, replays: int, lr: float
) -> tuple[Tensor, list[float]]:
    """Shafahi et al. 2019, alg. 1, on one batch: m times, one backward pass for weights and δ;
    plain SGD."""
    delta, losses = torch.zeros_like(x), []
    for _ in range(replays):
        point = (x + delta).clamp(0, 1).requires_grad_()
        loss = CE(model(point), y)
        grads = torch.autograd.grad(loss, [point, *model.parameters()])
        with torch.no_grad():
            for w, g in zip(model.parameters(), grads[1:], strict=True):
                w -= lr * g
            delta = (delta + size * grads[0].sign()).clamp(-eps, eps)
            delta = (x + delta).clamp(0, 1) - x
        losses.append(loss.item())
    return delta, losses


def n_fgsm(
    model: nn.Module, x: Tensor, y: Tensor, noise: Tensor, *, eps: float, ratio: float
) -> Tensor:
    """De Jorge et al. 2022, alg. 1: one step from x + noise; only the box clips."""
    point = (x + noise).requires_grad_()
    (grad,) = torch.autograd.grad(CE(model(point), y), point)
    return (x + noise + ratio * eps * grad.sign()).clamp(0, 1)


def atta(
    model: nn.Module,
    epochs: Iterable[Iterable[tuple[list[int], Tensor]]],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    size: float,
    steps: int,
    reset: int,
) -> list[Tensor]:
    """Zheng et al. 2020, alg. 1, without augmentation and without training: the points of every
    batch. An epoch is a list of batches: their rows, and the random starts of those."""
    delta: dict[int, Tensor] = {}
    points = []
    for number, epoch in enumerate(epochs):
        if number % reset == 0:
            delta = {}
        for rows, starts in epoch:
            made = []
            for row, start in zip(rows, starts, strict=True):
                z = x[row] + delta[row] if row in delta else start
                for _ in range(steps):
                    leaf = z[None].clone().requires_grad_()
                    (grad,) = torch.autograd.grad(CE(model(leaf), y[row : row + 1]), leaf)
                    z = z + size * grad[0].sign()
                    z = torch.minimum(torch.maximum(z, x[row] - eps), x[row] + eps).clamp(0, 1)
                delta[row] = z - x[row]
                made.append(z)
            points.append(torch.stack(made))
    return points


def awp(model: nn.Module, loss: LossOf, *, gamma: float, lr: float) -> nn.Module:
    """Wu et al. 2020: v_l = gamma·‖w_l‖·g_l/‖g_l‖ from a copy; gradient at w + v; SGD; minus v.
    Returns a new model."""
    proxy, trained = copy.deepcopy(model), copy.deepcopy(model)
    loss(proxy).backward()
    moves = {}
    for name, w in proxy.named_parameters():
        if w.dim() > 1 and "weight" in name:
            moves[name] = gamma * w.detach().norm() * w.grad / w.grad.norm()
    with torch.no_grad():
        for name, w in trained.named_parameters():
            w += moves.get(name, 0)
    _descend(trained, loss, lr)
    with torch.no_grad():
        for name, w in trained.named_parameters():
            w -= moves.get(name, 0)
    return trained


def sam(model: nn.Module, loss: LossOf, *, rho: float, lr: float) -> nn.Module:
    """Foret et al. 2021: w ← w − lr·∇L(w + rho·∇L(w)/‖∇L(w)‖₂), the norm over all weights. Returns
    a new model."""
    trained = copy.deepcopy(model)
    before = [w.detach().clone() for w in trained.parameters()]
    grads = torch.autograd.grad(loss(trained), list(trained.parameters()))
    length = sum((g**2).sum() for g in grads) ** 0.5
    with torch.no_grad():
        for w, g in zip(trained.parameters(), grads, strict=True):
            w += rho * g / length
    grads = torch.autograd.grad(loss(trained), list(trained.parameters()))
    with torch.no_grad():
        for w, start, g in zip(trained.parameters(), before, grads, strict=True):
            w.copy_(start - lr * g)
    return trained


def _descend(model: nn.Module, loss: LossOf, lr: float) -> None:
    grads = torch.autograd.grad(loss(model), list(model.parameters()))
    with torch.no_grad():
        for w, g in zip(model.parameters(), grads, strict=True):
            w -= lr * g
