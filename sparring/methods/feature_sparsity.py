"""Data sparsity in feature space: noise is added to features instead of inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import cross_entropy
from ..introspect import hooks
from .base import Method
from .softmax_slope import mean_squared_slope, neighbour_noise, scaled_length


class FeatureSparsity(Method):
    """Flatten predictions in feature space, at the features of x and at noisy points near them.
    ℓ = (1[y ≥ 0]·CE(f(x), y) + beta·Σ_a GR(a)) / (1 + N_u) over anchors a: with h the output of a
    submodule on x, h and its N_u unlabelled points h + sigma_u·ξ. GR is that of `Sparsity`, with
    neighbours a + sigma_n·ζ, distances between features, and the softmax of what follows the
    submodule. x runs up to the submodule once.

    Arguments:
        site: dotted name of the submodule, called once in a forward pass, as "pool" or "maxpool2".
        beta: weight of GR, ≥ 0.
        unlabelled: N_u per input, ≥ 0; 0 flattens predictions at the features of the data only.
        neighbours: N_n per anchor, ≥ 1.
        sigma_u, sigma_n: standard deviations in units of the features, > 0.

    The notes `xi` `(b, N_u, …)` and `zeta` `(b, 1 + N_u, N_n, …)` in `Batch.extra`, of a feature's
    shape, replace the draws.

    Raises:
        ValueError: for a value out of range; from `loss`, for an unknown submodule.

    Source: the noise-injection variant in the code of Paknezhad et al. 2022. Differs: batches of
    any size, one step for all anchors of an input together, any network.

    >>> FeatureSparsity(site="pool").config()["site"]
    'pool'
    """

    paper = "paknezhad2022sparsity"

    def __init__(
        self,
        *,
        site: str,
        beta: float = 0.1,
        unlabelled: int = 1,
        neighbours: int = 1,
        sigma_u: float = 0.5,
        sigma_n: float = 0.05,
    ) -> None:
        super().__init__()
        require(beta >= 0, "beta", beta, "a weight ≥ 0")
        require(unlabelled >= 0, "unlabelled", unlabelled, "an integer ≥ 0")
        require(neighbours >= 1, "neighbours", neighbours, "an integer ≥ 1")
        require(sigma_u > 0, "sigma_u", sigma_u, "a standard deviation > 0")
        require(sigma_n > 0, "sigma_n", sigma_n, "a standard deviation > 0")
        self.site, self.beta, self.unlabelled = site, beta, unlabelled
        self.neighbours, self.sigma_u, self.sigma_n = neighbours, sigma_u, sigma_n

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        distance = batch.x.new_zeros(0)  # of neighbours from their anchors, set inside the pass

        def add_points(h: Tensor) -> Tensor:
            """Return anchors, then neighbours, in place of the features h `(b, …)`."""
            nonlocal distance
            xi = neighbour_noise(batch, "xi", h, self.unlabelled)
            anchors = torch.cat([h[:, None], h[:, None] + self.sigma_u * xi], 1)
            zeta = neighbour_noise(batch, "zeta", h, 1 + self.unlabelled, self.neighbours)
            near = anchors[:, :, None] + self.sigma_n * zeta
            step = (near - anchors[:, :, None]).detach().flatten(0, 1)
            step = step.float() if h.dtype != torch.float64 else step
            distance = scaled_length(step, h.new_ones(()))
            return torch.cat([anchors.flatten(0, 1), near.flatten(0, 2)])

        logits = hooks.replace_outputs(model, batch.x, {self.site: add_points})
        b, a = len(batch), 1 + self.unlabelled
        anchors, near = logits[: b * a], logits[b * a :]
        p, q = anchors.softmax(1), near.softmax(1).unflatten(0, (b * a, self.neighbours))
        gr = mean_squared_slope(p, q, distance).reshape(b, a).sum(1)
        ce = cross_entropy(anchors[::a], batch.y)
        terms = {"natural": ce.mean().detach(), "slope": gr.mean().detach() / a}
        return Loss((ce + self.beta * gr) / a, terms=terms)
