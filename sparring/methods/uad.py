"""Uncertainty-aware distributional adversarial training: our reading of arXiv 2411.02871.

Only the abstract of that paper was at hand. Every formula here is our own, and no number computed
with it is the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional import batch_norm
from ..functional.geometry import alignment
from ..functional.losses import cross_entropy, hard_labels, kl
from ..introspect import feature_statistics, freeze, hooks, jacobian
from ..runtime import distributed
from ..runtime.torch_private import BATCH_NORM
from .base import Method, adversarial_pair

ALIGN = ("cosine", "l2", "none")
REFINED = ("wrong", "all", "nearest")
REFRESH_EVERY = 4  # steps between the passes that update batch norm's running statistics


class UAD(Method):
    """Train on perturbed features, match refined predictions, and align input gradients.
    ℓ = w·CE(z', y) + λ_a·m·KL(q ‖ p'), with the penalty λ_g·(1 − cos(G, G')). Our reading of the
    abstract of arXiv 2411.02871, in four parts:

    A. z' are logits on x' with random channel statistics at `sites`: in train mode, each mean and
       deviation is drawn from a Gaussian, `scale` times as wide as its spread over the batch.
    B. q is the prediction on x; where that is wrong, it is refined as `refined` says, and kept if
       that lowers the loss. m is 0 where q is still wrong.
    C. KL matches the two.
    D. G, G' are the input gradients of cross-entropy on x and x'; weights are trained through G'.

    With batch norm, A would inflate the running variance. Running statistics therefore come from x
    and x' without A, in two extra passes after every fourth step.

    Arguments:
        sites: dotted names of submodules that return `(b, c, ...)`; `[]` leaves A out.
        reference: such a name; or `"none"`, where q is the plain prediction on x.
        refined: `"wrong"`, one step of the statistics at `reference` down the loss, for samples
            whose prediction is wrong; `"all"`, for every sample, which also sharpens right
            predictions; or `"nearest"`, the prediction of the right sample of that class in the
            batch whose statistics at `reference` are nearest, in spreads.
        align: `"cosine"`; `"none"`, without D; or `"l2"`, in units of gradients: a `gradient` of
            0.2 can diverge with it.
        adversarial, matching, gradient: w, λ_a and λ_g, all ≥ 0.
        p: probability that a site is active in a step.
        scale: width of A's Gaussians, in spreads, ≥ 0.
        kappa: length of B's step, in spreads.

    Raises:
        ValueError: for an argument out of range; and from `loss`, for an unknown submodule, a
            (joint) batch of one where spreads are needed, and a compiled model.

    Source: our own formulas, after the abstract of Dong et al. 2024. Lineage: A is near DSU (Li et
    al. 2022), D near GradAlign (Andriushchenko and Flammarion 2020). Differs: from DSU by biased
    variances, deviations kept ≥ 0 and no gradient through spreads.

    >>> UAD(sites=["layer1"], reference="layer2").matching
    3.0
    """

    paper = "dong2024uad"
    shapes_gradients = True
    least_rows = 2  # for a spread

    def __init__(
        self,
        *,
        sites: Sequence[str],
        reference: str,
        align: str = "cosine",
        adversarial: float = 1.0,
        matching: float = 3.0,
        gradient: float = 0.2,
        p: float = 0.5,
        kappa: float = 1.0,
        refined: str = "wrong",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require(not isinstance(sites, str), "sites", sites, "a list of names")
        require(align in ALIGN, "align", align, "one of " + ", ".join(ALIGN))
        require(adversarial >= 0, "adversarial", adversarial, "a weight ≥ 0")
        require(matching >= 0, "matching", matching, "a weight ≥ 0")
        require(gradient >= 0, "gradient", gradient, "a weight ≥ 0")
        require(0 <= p <= 1, "p", p, "a probability in [0, 1]")
        require(kappa >= 0, "kappa", kappa, "a length ≥ 0")
        require(refined in REFINED, "refined", refined, "one of " + ", ".join(REFINED))
        require(scale >= 0, "scale", scale, "a width ≥ 0, in spreads")
        self.sites, self.reference, self.align = sites, reference, align
        self.adversarial, self.matching, self.gradient = adversarial, matching, gradient
        self.p, self.kappa, self.refined, self.scale = p, kappa, refined, scale
        self._steps = 0

    @property
    def differentiates_twice(self) -> bool:
        return self.align != "none" and self.gradient > 0

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        aligns = self.differentiates_twice
        with freeze.frozen_bn(model) if self._refreshes(model) else nullcontext():
            return self._loss(model, batch, aligns=aligns)

    def _loss(self, model: nn.Module, batch: Batch, *, aligns: bool) -> Loss:
        x_adv, _ = adversarial_pair(batch)
        y = batch.y
        # without part D nothing needs a gradient in the inputs
        x, x_adv = (t.detach().requires_grad_(aligns) for t in (batch.x, x_adv))
        # the one pass that is differentiated twice
        with batch_norm.double_backward() if aligns else nullcontext():
            z_adv = self._uncertain_logits(model, x_adv)
        adversarial = cross_entropy(z_adv, y)
        loss = Loss(self.adversarial * adversarial, adversarial.new_zeros(()))
        loss.terms = {"adversarial": adversarial}
        if not (self.matching or aligns):
            return _with_logged_terms(loss)

        refines = self.matching > 0 and self.reference != "none"
        names = [self.reference] if refines else []
        z, sites = feature_statistics.extract_statistics(model, x, names)
        shift = sites[self.reference].shift if refines and self.refined != "nearest" else ()
        inputs = (*shift, x) if aligns else shift
        slopes = _gradients(cross_entropy(z, y), inputs) if inputs else []
        hard = hard_labels(y)
        if self.matching:
            q = z
            if refines and self.refined == "nearest":
                q = _nearest_right(z, hard, sites[self.reference].stats)
            elif refines:
                site = sites[self.reference]
                shift = feature_statistics.descent_step(site, slopes[:2], length=self.kappa)
                q = self._refined_logits(model, x, y, z, site.shifted(*shift))
            right = q.argmax(1) == hard
            match = torch.where(right, kl(q, z_adv), 0.0)
            loss.per_sample = loss.per_sample + self.matching * match
            wrong = {"unreliable": ~right, "unreliable_clean": z.argmax(1) != hard}
            loss.terms |= {"match": match, **{k: v.to(z.dtype) for k, v in wrong.items()}}
        if aligns:
            jacobian.require_double_backward(adversarial)
            (gradient,) = _gradients(adversarial, (x_adv,), graph=True)
            # The mean is over all processes' samples with a direction, not each process's own.
            pair = alignment(slopes[-1], gradient, kind=self.align)
            gaps, valid = map(distributed.gather, pair)
            misaligned = gaps.sum() / valid.sum().clamp_min(1)
            loss.penalty = loss.penalty + self.gradient * misaligned
            loss.terms |= {"misaligned": misaligned, "directed": valid.to(misaligned.dtype)}
        return _with_logged_terms(loss)

    def _uncertain_logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the logits on x with random channel statistics at the active sites (A)."""
        if not self.sites:
            return model(x)
        generator = distributed.generator(x.device)
        # On the CPU, from the same seed: the gates decide which code runs, and reading them from
        # the device would wait for it.
        cpu_generator = torch.Generator().manual_seed(generator.initial_seed())
        active = torch.rand(len(self.sites), generator=cpu_generator) < self.p
        active &= freeze.unwrap(model).training

        def randomize(features: Tensor) -> Tensor:
            mean, std = feature_statistics.channel_statistics(features)
            # Both spreads before the first draw, so that a batch of one is refused at once.
            stats = (s.detach() for s in (mean, std))
            spreads = [self.scale * feature_statistics.batch_spread(s) for s in stats]
            by_mean, by_std = (s * distributed.draw("normal", mean, generator) for s in spreads)
            by_std = torch.maximum(by_std, -std)  # a deviation below 0 would flip the features
            return feature_statistics.shift_statistics(features, mean, std, by_mean, by_std)

        # Inactive sites too, so that an unknown name is refused in the first step.
        states = zip(self.sites, active.tolist(), strict=True)
        transforms = {name: randomize if on else nn.Identity() for name, on in states}
        return hooks.replace_outputs(model, x, transforms)

    def _refined_logits(
        self, model: nn.Module, x: Tensor, y: Tensor, z: Tensor, features: Tensor
    ) -> Tensor:
        """Return logits after a step of the statistics (B), where that lowers the loss."""
        with freeze.frozen_bn(model):
            refined = hooks.forward_from(model, self.reference, features, x=x)
        taken = cross_entropy(refined, y) <= cross_entropy(z, y)
        if self.refined == "wrong":
            taken = taken & (z.argmax(1) != hard_labels(y))
        return torch.where(taken[:, None], refined, z)

    def _refreshes(self, model: nn.Module) -> bool:
        """Return whether running statistics come from passes without A."""
        return bool(self.sites) and any(isinstance(m, BATCH_NORM) for m in model.modules())

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch) -> None:
        if self._refreshes(model) and model.training:
            x_adv, _ = adversarial_pair(batch)
            if self._steps % REFRESH_EVERY == 0:
                model(batch.x)
                model(x_adv)
            self._steps += 1

    def get_extra_state(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]


def _nearest_right(z: Tensor, y: Tensor, stats: feature_statistics.MeanStd) -> Tensor:
    """Return logits z `(b, k)`, those of a wrong sample replaced by those of the nearest right
    sample of its class, by statistics in spreads; without one they stay."""
    right = z.argmax(1) == y
    units = [s.detach() / feature_statistics.batch_spread(s.detach()) for s in stats]
    points = torch.cat(units, 1)
    # (b, b), not (b, b, c): the differences would not fit a large batch
    distance = torch.cdist(points, points)
    others = right[None] & (y[:, None] == y[None])
    distance = torch.where(others, distance, torch.inf)
    nearest = distance.argmin(1)
    moves = ~right & others.any(1)
    return torch.where(moves[:, None], z[nearest], z)


def _gradients(loss: Tensor, inputs: Sequence[Tensor], *, graph: bool = False) -> list[Tensor]:
    """Return the gradients of each sample's loss `(b,)`: of the sum, so b does not scale them."""
    return list(torch.autograd.grad(loss.sum(), inputs, create_graph=graph, retain_graph=True))


def _with_logged_terms(loss: Loss) -> Loss:
    """Return the loss with its terms averaged and without their graph."""
    loss.terms = {name: term.detach().mean() for name, term in loss.terms.items()}
    return loss
