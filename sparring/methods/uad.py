"""Uncertainty-aware distributional adversarial training: our reading of arXiv 2411.02871.

Of that paper only the abstract was at hand: every formula here is our own, and no number that comes
out of it is the paper's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional import batch_norm
from ..functional.geometry import alignment
from ..functional.losses import cross_entropy, js, kl
from ..introspect import feature_statistics, freeze, hooks, jacobian
from ..introspect.feature_statistics import Pair, Seen, class_spreads, downhill, mixed, watched
from ..runtime import distributed
from .base import Method

STATISTICS, REFINE = ("batch", "class", "worst"), ("step", "draws")
MATCH, ALIGN, BACKPROP = ("kl", "js"), ("cosine", "l2", "none"), ("adv", "clean", "both")
KEEP = 0.9  # of the average of class-wise spreads, a step


class UAD(Method):
    """ℓ = w·CE(z', y) + λ_a·m·KL(q ‖ p') + λ_c·CE(z, y), with the penalty λ_g·(1 − cos(G, G')) +
    λ_w·W₂².

    Our reading of the abstract of arXiv 2411.02871, in four parts:

    A. z' are logits on x' while the channel statistics of its features are drawn anew within their
       spread over the batch, at `sites`, in train mode only.
    B. q is the prediction on x with the statistics at `reference` moved one step down the loss, at
       most kappa spreads, wherever that lowers the loss; m is 0 where it is still wrong.
    C. KL matches the two.
    D. G, G' are the input gradients of cross-entropy on x and on x'; no other network is asked.

    Arguments:
        sites: dotted names of submodules that give `(b, c, ...)`; `[]` leaves A out.
        reference: such a name; or `"input"`, to move x itself by `inverse`; or `"none"`: q is the
            plain prediction on x.
        statistics: of A: `"batch"` spreads; `"class"` spreads, averaged over steps, where a class
            has had 4 samples; or `"worst"`: a whole spread up the loss instead of a draw.
        refine: `"step"`; or `"draws"`, the best of so many draws within the spread.
        match: `"kl"` or `"js"`. align: `"cosine"`; `"none"`; or `"l2"`, in units of gradients: a
            `gradient` of 0.2 can diverge with it.
        adversarial, matching, gradient, natural, transport: w, λ_a, λ_g, λ_c, λ_w; all ≥ 0. W₂² is
            between the laws of clean and adversarial statistics at the sites.
        p: how likely a site is at work in a step.
        kappa: in spreads; inverse: in input units, its point is not clipped.
        masked: whether m counts. ref_grad: whether gradients flow through q.
        backprop: whose gradient the weights answer for in D: `"adv"`, `"clean"` or `"both"`.
        detach_spread, detach_stats: no gradient through spreads; through the statistics A moves.
        clamp: deviations drawn by A stay ≥ 0.
        refresh: take batch norm's running statistics from x and x' without A, after every so many
            steps; 0 leaves them to the passes of the loss; 4 where omitted, if A is on and there is
            batch norm.

    Raises:
        ValueError: for what is not allowed; and by `loss`, for names that the model does not have,
            a (joint) batch of one where spreads are needed, `refresh` on a model without batch
            norm, and a compiled model.

    Source: our own formulas, by the abstract of Dong et al. 2024. Lineage: A is near DSU (Li et al.
    2022), D near GradAlign (Andriushchenko and Flammarion 2020). Differs: from DSU by biased
    variances, deviations kept ≥ 0 and no gradient through spreads.

    >>> UAD(sites=["layer1"], reference="layer2").matching
    3.0
    """

    paper = "dong2024uad"
    shapes_gradients = True

    def __init__(
        self,
        *,
        sites: Sequence[str],
        reference: str,
        statistics: str = "batch",
        refine: str = "step",
        match: str = "kl",
        align: str = "cosine",
        adversarial: float = 1.0,
        matching: float = 3.0,
        gradient: float = 0.2,
        natural: float = 0.0,
        transport: float = 0.0,
        p: float = 0.5,
        kappa: float = 1.0,
        draws: int = 4,
        inverse: float = 4 / 255,
        masked: bool = True,
        ref_grad: bool = True,
        backprop: str = "adv",
        detach_spread: bool = True,
        detach_stats: bool = False,
        clamp: bool = True,
        refresh: int | None = None,
    ) -> None:
        super().__init__()
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        for key in ("adversarial", "matching", "gradient", "natural", "transport"):
            require(given[key] >= 0, key, given[key], "a weight ≥ 0")
        for key in ("kappa", "inverse"):
            require(given[key] >= 0, key, given[key], "a length ≥ 0")
        choices = {"statistics": STATISTICS, "refine": REFINE, "match": MATCH, "align": ALIGN}
        for key, allowed in {**choices, "backprop": BACKPROP}.items():
            require(given[key] in allowed, key, given[key], "one of " + ", ".join(allowed))
        require(0 <= p <= 1, "p", p, "a probability in [0, 1]")
        require(draws >= 1, "draws", draws, "an integer ≥ 1")
        require(refresh is None or refresh >= 0, "refresh", refresh, "a number of steps ≥ 0")
        require(not isinstance(sites, str), "sites", sites, "a list of names")
        self.sites, self.reference = sites, reference
        self.statistics, self.refine, self.match, self.align = statistics, refine, match, align
        self.adversarial, self.matching, self.gradient = adversarial, matching, gradient
        self.natural, self.transport = natural, transport
        self.p, self.kappa, self.draws, self.inverse = p, kappa, draws, inverse
        self.masked, self.ref_grad, self.backprop = masked, ref_grad, backprop
        self.detach_spread, self.detach_stats, self.clamp = detach_spread, detach_stats, clamp
        self.refresh = refresh
        self._steps = 0
        self._classes: dict[str, Tensor] = {}
        self._latest: dict[str, Tensor] = {}

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        twice = self.align != "none" and self.gradient > 0
        with (
            freeze.frozen_bn(model) if self._refreshes(model) else nullcontext(),
            batch_norm.double_backward() if twice else nullcontext(),
        ):
            return self._loss(model, batch)

    def _loss(self, model: nn.Module, batch: Batch) -> Loss:
        assert batch.x_adv is not None
        y, aligned = batch.y, bool(self.align != "none" and self.gradient)
        x, x_adv = (t.detach().clone().requires_grad_() for t in (batch.x, batch.x_adv))
        z_adv, stats = self._uncertain(model, x_adv, y)
        attacked = cross_entropy(z_adv, y)
        loss = Loss(self.adversarial * attacked, attacked.new_zeros(()), {"adversarial": attacked})
        if not (self.matching or self.natural or self.transport or aligned):
            return _logged(loss)

        inside = self.matching and self.reference not in ("none", "input")
        names = {self.reference: None} if inside else {}
        names |= dict.fromkeys(self.sites if self.transport else ())
        z, seen = watched(model, x, names)
        clean = cross_entropy(z, y)
        loss.per_sample = loss.per_sample + self.natural * clean
        by = seen[self.reference].by if inside else ()
        slopes = _slopes(clean, (x, *by), twice=aligned and self.backprop != "adv")
        if self.matching:
            at = seen[self.reference] if inside else None
            q = self._referred(model, x, y, z, at, [s.detach() for s in slopes])
            right = q.argmax(1) == y
            match = (kl if self.match == "kl" else js)(q, z_adv)
            match = torch.where(right, match, 0.0) if self.masked else match
            loss.per_sample = loss.per_sample + self.matching * match
            wrong = {"unreliable": ~right, "unreliable_clean": z.argmax(1) != y}
            loss.terms |= {"match": match, **{k: v.to(z.dtype) for k, v in wrong.items()}}
        if aligned:
            (there,) = _slopes(attacked, (x_adv,), twice=self.backprop != "clean")
            gaps, valid = map(distributed.gather, alignment(slopes[0], there, kind=self.align))
            term = gaps.sum() / valid.sum().clamp_min(1)
            loss.penalty = loss.penalty + self.gradient * term
            loss.terms |= {"misaligned": term, "directed": valid.to(term.dtype)}
        if self.transport and self.sites:
            laws = [feature_statistics.apart(seen[name].stats, stats[name]) for name in self.sites]
            loss.penalty = loss.penalty + self.transport * torch.stack(laws).mean()
            loss.terms["laws"] = torch.stack(laws)
        return _logged(loss)

    def _uncertain(self, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Pair]]:
        """A: the logits on x, and the statistics at the sites before they are moved."""
        if not self.sites:
            return model(x), {}
        draw = distributed.generator(x.device)
        here = torch.Generator().manual_seed(draw.initial_seed())  # no wait for the device
        gates = torch.rand(len(self.sites), generator=here) < self.p
        gates &= freeze.bare(model).training
        fires = {name for name, on in zip(self.sites, gates.tolist(), strict=True) if on}
        worst = self.statistics == "worst" and fires
        ascent = self._ascent(model, x, y, fires) if worst else {}
        stats: dict[str, Pair] = {}

        def change(name: str) -> hooks.Change:
            def run(features: Tensor) -> Tensor:
                mean, std = stats[name] = feature_statistics.channels(features)
                if name not in fires:
                    return features
                bounds = self._bounds(name, (mean, std), y)
                free = ascent.get(name) or [
                    distributed.draw("normal", mean, draw) for _ in range(2)
                ]
                by_mean, by_std = (s * e for s, e in zip(bounds, free, strict=True))
                if self.detach_stats:
                    mean, std = mean.detach(), std.detach()
                by_std = torch.maximum(by_std, -std) if self.clamp else by_std
                return feature_statistics.moved(features, mean, std, by_mean, by_std)

            return run

        return hooks.replace(model, x, {name: change(name) for name in self.sites}), stats

    def _ascent(
        self, model: nn.Module, x: Tensor, y: Tensor, names: Iterable[str]
    ) -> dict[str, Pair]:
        """The signs of the loss's slopes in the statistics at these sites."""
        with freeze.frozen_bn(model):
            z, seen = watched(model, x.detach(), names)
        wrt = [zeros for at in seen.values() for zeros in at.by]
        up = [slope.sign() for slope in _slopes(cross_entropy(z, y), wrt)]
        return dict(zip(seen, zip(up[::2], up[1::2], strict=True), strict=True))

    def _bounds(self, name: str, stats: Pair, y: Tensor) -> Tensor:
        """The spreads `(2, 1 or b, c)` at a site."""
        batch = torch.stack([feature_statistics.spread(s) for s in stats])
        if self.statistics == "class":
            found = self._latest[name] = class_spreads(stats, y)
            table = mixed(self._classes.get(name), found, keep=1.0)
            own = table[:, y.clamp_min(0)]
            batch = torch.where((y >= 0)[:, None] & own.isfinite(), own, batch)
        return batch.detach() if self.detach_spread else batch

    def _referred(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        z: Tensor,
        at: Seen | None,
        slopes: Sequence[Tensor],
    ) -> Tensor:
        """B: the logits that x' is to match, never of a higher loss than those on x."""
        if self.reference == "none":
            return z if self.ref_grad else z.detach()
        with torch.set_grad_enabled(self.ref_grad), freeze.frozen_bn(model):
            if at is None:
                refined = model(x.detach() - self.inverse * slopes[0].sign())
            else:
                move = self._descent(model, x, y, at, slopes[1:])
                refined = hooks.tail(model, self.reference, at.moved(*move), x=x)
            lower = cross_entropy(refined, y) <= cross_entropy(z, y)
            return torch.where(lower[:, None], refined, z)

    @torch.no_grad()
    def _descent(
        self, model: nn.Module, x: Tensor, y: Tensor, at: Seen, slopes: Sequence[Tensor]
    ) -> Pair:
        """How to move the statistics at the reference: one step, or the best of some draws."""
        if self.refine == "step":
            return downhill(at, slopes, length=self.kappa)
        spreads = [feature_statistics.spread(s) for s in at.stats]
        draw = distributed.generator(x.device)
        best: list[Tensor] = []
        least = torch.full_like(at.stats[0][:, 0], torch.inf)
        for _ in range(self.draws):
            move = [self.kappa * s * distributed.draw("normal", at.stats[0], draw) for s in spreads]
            found = cross_entropy(hooks.tail(model, self.reference, at.moved(*move), x=x), y)
            lower = (found < least)[:, None]
            best = [torch.where(lower, m, b) for m, b in zip(move, best or move, strict=True)]
            least = torch.minimum(least, found)
        return best[0], best[1]

    def _refreshes(self, model: nn.Module) -> int:
        """After how many steps the running statistics are taken anew; 0 is never."""
        if self.refresh == 0 or (self.refresh is None and not self.sites):
            return 0
        normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        require(
            normed or self.refresh is None,
            "refresh",
            self.refresh,
            "0 or omitted: this model has no batch norm",
        )
        return (4 if self.refresh is None else self.refresh) if normed else 0

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch) -> None:
        """Mix the class-wise spreads in; every so many steps, show batch norm x and x' without
        A."""
        for name, found in self._latest.items():
            self._classes[name] = mixed(self._classes.get(name), found, keep=KEEP)
        self._latest = {}
        every = self._refreshes(model)
        if every and model.training:
            assert batch.x_adv is not None
            if self._steps % every == 0:
                model(batch.x)
                model(batch.x_adv)
            self._steps += 1

    def get_extra_state(self) -> dict[str, Any]:
        """Steps and class-wise spreads, for the checkpoint."""
        return {"steps": self._steps, "classes": dict(self._classes)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` stands."""
        self._steps, self._classes = state["steps"], dict(state["classes"])


def _slopes(loss: Tensor, wrt: Sequence[Tensor], *, twice: bool = False) -> list[Tensor]:
    """Gradients of the sum of `loss (b,)`; those of one sample do not depend on how many there
    are."""
    if twice:
        jacobian.twice(loss)
    return list(torch.autograd.grad(loss.sum(), wrt, create_graph=twice, retain_graph=True))


def _logged(loss: Loss) -> Loss:
    """With every part averaged and without its graph."""
    loss.terms = {name: part.detach().mean() for name, part in loss.terms.items()}
    return loss
