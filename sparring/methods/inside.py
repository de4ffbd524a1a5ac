"""What methods share that look at how an adversary moves a batch inside the model: pure functions,
no method."""

from __future__ import annotations

from contextlib import nullcontext

from torch import Tensor, nn

from ..functional import batch_norm, optimal_transport
from ..introspect import hooks, jacobian
from ..runtime import distributed


def read(model: nn.Module, x: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
    """Logits `(b, k)`, and what is compared `(b, d)` in the precision of x: the logits themselves,
    or the flattened output of the submodule `layer`. Where x requires gradients, ready to be
    differentiated twice."""
    with batch_norm.double_backward() if x.requires_grad else nullcontext():
        if layer is None:
            logits = model(x)
            return logits, logits
        logits, seen = hooks.features(model, x, [layer])
    return logits, seen[layer].flatten(1).to(x.dtype)


def transport(adversarial: Tensor, clean: Tensor, *, count: int, law: str) -> tuple[Tensor, Tensor]:
    """How the adversarial cloud is carried back to the clean one, over random slices drawn anew:
    SW₂² `()` with its graph, and the unit direction of each sample `(b, d)` without.

    Slices and clouds are those of all processes together; the directions are of this one's rows.

    Arguments:
        adversarial, clean: `(b, d)`; count, law: of the slices, as in `random_slices`.
    """
    generator = distributed.generator(clean.device)
    theta = optimal_transport.random_slices(clean, count, law=law, generator=generator)
    delta = optimal_transport.slice_gaps(
        distributed.gather(adversarial), distributed.gather(clean), theta
    )
    mine = delta.detach().narrow(0, distributed.rank() * len(clean), len(clean))
    noise = distributed.draw("normal", clean, generator)
    return optimal_transport.mean_square(delta), optimal_transport.trajectory(
        optimal_transport.displacement(mine, theta), noise
    )


def energy(outputs: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    """d/(n·b) Σ ‖vᵀJ‖² `()`, J = ∂outputs/∂x, with a graph: for random unit directions an unbiased
    estimate of the mean ‖J‖²_F.

    Arguments:
        outputs: `(b, d)`; x: `(b, *)`, required gradients before the forward pass.
        directions: `(b, d)`, or n of them as `(n, b, d)`.

    >>> import torch
    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> energy(x * torch.tensor([3.0, 4.0]), x, torch.eye(2)[:, None]).item()
    25.0
    """
    squares = jacobian.vjp_norm(outputs, x, directions)
    return outputs.shape[1] * squares.sum() / max(squares.numel(), 1)
