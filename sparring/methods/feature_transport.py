"""Compare clean and adversarial features by optimal transport: functions that methods share."""

from __future__ import annotations

from contextlib import nullcontext

from torch import Tensor, nn

from ..functional import batch_norm, optimal_transport
from ..introspect import hooks, jacobian
from ..runtime import distributed


def logits_and_features(model: nn.Module, x: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
    """Return the logits `(b, k)` and the flattened output `(b, d)` of the submodule `layer`.

    The features have the precision of x; without a `layer` they are the logits. Where x requires
    gradients, both can be differentiated twice.
    """
    with batch_norm.double_backward() if x.requires_grad else nullcontext():
        if layer is None:
            logits = model(x)
            return logits, logits
        logits, features = hooks.extract_features(model, x, [layer])
    return logits, features[layer].flatten(1).to(x.dtype)


def sliced_transport(
    adversarial: Tensor, clean: Tensor, *, count: int, law: str
) -> tuple[Tensor, Tensor]:
    """Return SW₂² `()` of two clouds, and the unit direction `(b, d)` that transports each sample.

    SW₂² keeps its graph, the directions do not. Slices are drawn at each call. Slices and clouds
    are those of all processes together; the directions are of this process's rows.

    Arguments:
        adversarial, clean: source and target `(b, d)`.
        count, law: of the slices, as in `optimal_transport.random_slices`.
    """
    generator = distributed.generator(clean.device)
    theta = optimal_transport.random_slices(clean, count, law=law, generator=generator)
    clouds = distributed.gather(adversarial), distributed.gather(clean)
    delta = optimal_transport.slice_gaps(*clouds, theta)
    rows = delta.detach().narrow(0, distributed.rank() * len(clean), len(clean))
    # A sample that does not move has no direction, and takes this random one.
    noise = distributed.draw("normal", clean, generator)
    displacement = optimal_transport.displacement(rows, theta)
    return optimal_transport.mean_square(delta), optimal_transport.trajectory(displacement, noise)


def mean_variance(cloud: Tensor) -> Tensor:
    """Return the variance `()` of the coordinates of a cloud `(b, d)` over the joint batch, in the
    mean: that of its projection on a uniform direction.

    >>> import torch
    >>> mean_variance(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).item()
    0.5
    """
    return distributed.gather(cloud).var(0, unbiased=False).mean()


def mean_squared_jacobian(outputs: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    """Return d/(n·b) Σ ‖vᵀJ‖² `()`, J = ∂outputs/∂x, with its graph.

    For random unit directions it is an unbiased estimate of the mean ‖J‖²_F.

    Arguments:
        outputs, x: `(b, d)` and `(b, *)`; x required gradients before the forward pass.
        directions: v `(b, d)`, or n of them as `(n, b, d)`.

    >>> import torch
    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> mean_squared_jacobian(x * torch.tensor([3.0, 4.0]), x, torch.eye(2)[:, None]).item()
    25.0
    """
    squares = jacobian.squared_vjp_norm(outputs, x, directions)
    return outputs.shape[1] * squares.sum() / max(squares.numel(), 1)
