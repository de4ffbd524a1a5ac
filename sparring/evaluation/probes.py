"""Named probes: measurements inside a model, on clean and adversarial samples, for the report.

A probe is a function of a `ProbeContext`; `PROBES` has them by name. No probe changes an accuracy;
only `masking` feeds checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, product, starmap

import numpy as np
import torch
from torch import Tensor, nn

from ..attacks import PGD
from ..batch import Batch, Model
from ..component import did_you_mean, require
from ..functional import losses, optimal_transport
from ..functional.geometry import alignment, norm
from ..introspect import feature_statistics, freeze, hooks
from ..introspect.forward import SafeForward
from ..introspect.jacobian import random_directions, squared_jacobian_norm, squared_vjp_norm
from ..introspect.predict import logits
from ..results.result import ProbeValue
from ..runtime.exact_float32 import exact_float32
from ..threats.base import Threat, on_rows
from . import diagnose

ROWS = 64
EXACT = 20  # up to this many outputs, a Jacobian is computed row by row
DIRECTIONS = 16  # random directions for more outputs
SLICES = 256
SIDE, FEW, REACH = 15, 16, 1.5  # of the surface: points per side, samples, radii to each side


@dataclass
class ProbeContext:
    """Hold what probes measure: a model in eval mode, samples `x (n, *d)` with labels `y (n,)`, at
    least 2 in a batch, and adversarial samples by PGD-10."""

    model: Model
    threat: Threat
    x: Tensor
    y: Tensor
    batch_size: int = ROWS
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.x) >= 2, "n", len(self.x), "at least 2 samples to probe")
        name = type(self.threat).__name__
        require(not self.threat.binary, "threat", name, "one of real inputs, to probe with PGD")
        # a model may write to its input, or have another dtype than x
        module = isinstance(self.model, nn.Module)
        self.run = freeze.ModelView(self.model) if module else SafeForward(self.model)

    @cached_property
    def x_adv(self) -> Tensor:
        """Return the last points of PGD-10 on cross-entropy."""
        # best=False: a sample broken at the first step would stop just past the boundary.
        attack = PGD(self.threat, steps=10, best=False, seed=self.seed)
        points, every = [], torch.arange(len(self.x), device=self.x.device)
        for p in self.chunks():
            batch = Batch(self.x[p], self.y[p], index=every[p])

            def f(z: Tensor, batch: Batch = batch) -> Tensor:
                out = self.run(self.threat.unpack(z, batch)[0]).float()
                return losses.cross_entropy(out, batch.y)

            z = self.threat.discretize(attack.maximize(f, batch), batch)
            points.append(self.threat.unpack(z, batch)[0].detach())
        return torch.cat(points)

    @property
    def eps(self) -> float:
        """Return the threat's radius; a tenth of the box if it has none."""
        return float(getattr(self.threat, "eps", None) or (self.threat.high - self.threat.low) / 10)

    def chunks(self) -> Iterator[slice]:
        """Return slices of `batch_size` rows; a single last row joins the slice before it."""
        # Alignments and statistics need two samples.
        cuts = [*range(0, len(self.x) - 1, max(2, self.batch_size)), len(self.x)]
        return starmap(slice, pairwise(cuts))

    def both(self) -> tuple[Tensor, Tensor]:
        """Return clean and adversarial samples."""
        return self.x, self.x_adv

    def generator(self) -> torch.Generator:
        """Return a fresh generator, so that probes draw alike in any selection."""
        return torch.Generator(self.x.device).manual_seed(self.seed)

    @cached_property
    def stages(self) -> list[str]:
        """Return the outermost submodules that have weights and are called once per pass.

        Raises:
            ValueError: for a model that is not a module, or has no such submodule.
        """
        require(isinstance(self.model, nn.Module), "model", type(self.model).__name__, "a module")
        assert isinstance(self.model, nn.Module)
        model, above = freeze.unwrap(self.model), ""
        while len(inner := dict(model.named_children())) == 1:
            ((name, model),) = inner.items()
            above += f"{name}."
        calls = dict.fromkeys((n for n, m in inner.items() if any(True for _ in m.parameters())), 0)

        def count(name: str) -> Callable[..., None]:
            def run(module: nn.Module, inputs: object, output: object) -> None:
                calls[name] += 1 if isinstance(output, Tensor) else 2

            return run

        handles = [inner[name].register_forward_hook(count(name)) for name in calls]
        try:
            logits(self.model, self.x[:2])
        finally:
            for handle in handles:
                handle.remove()
        stages = [above + name for name, n in calls.items() if n == 1]
        require(stages, "model", type(model).__name__, "one with submodules that are called once")
        return stages

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the stages on x, without gradients."""
        assert isinstance(self.run, nn.Module)
        with torch.no_grad():
            return hooks.extract_features(self.run, x, self.stages)[1]

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of x, computed by chunks."""
        return torch.cat([logits(self.model, x[p]) for p in self.chunks()])

    def logits_with_graph(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits with a graph, and the leaf they were computed from."""
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            return self.run(leaf), leaf


@dataclass
class ProbeResult:
    """Hold what a probe measured: rows of a table, arrays of a figure, values of symptoms, and how
    many samples these are shares of."""

    rows: list[ProbeValue] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    symptoms: dict[str, float] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)


def _pair(name: str, clean: Sequence[Tensor], adversarial: Sequence[Tensor]) -> ProbeResult:
    """Return one row: the means over clean and over adversarial samples."""
    a, b = (float(torch.cat(list(values)).mean()) for values in (clean, adversarial))
    return ProbeResult([ProbeValue(name, a, b)])


def _differences(values: Mapping[str, float | None]) -> ProbeResult:
    """Return rows of numbers that clean and adversarial samples have together."""
    return ProbeResult([ProbeValue(name, None, value) for name, value in values.items()])


def jacobian(context: ProbeContext) -> ProbeResult:
    """Compute ‖J‖_F of the logits in the input: exact up to 20 classes, else from 16 random
    directions."""

    def one(x: Tensor) -> Tensor:
        z, leaf = context.logits_with_graph(x)
        if z.shape[1] <= EXACT:
            return squared_jacobian_norm(z, leaf).sqrt()
        v = random_directions(z.detach(), DIRECTIONS, generator=context.generator())
        squares = [squared_vjp_norm(z, leaf, w, create_graph=False) for w in v]
        return (z.shape[1] * torch.stack(squares).mean(0)).sqrt()

    return _pair("‖J‖_F", *([one(x[p]) for p in context.chunks()] for x in context.both()))


def trajectory(context: ProbeContext) -> ProbeResult:
    """Compute ‖vᵀJ‖ along the unit direction v in which optimal transport moves each sample's
    adversarial logits to the clean ones."""
    clean, adversarial = map(context.logits, context.both())
    theta = optimal_transport.random_slices(clean, SLICES, generator=context.generator())
    gaps = optimal_transport.slice_gaps(adversarial, clean, theta)
    delta = optimal_transport.displacement(gaps, theta)
    v = optimal_transport.trajectory(delta, torch.ones_like(delta))

    def one(x: Tensor, rows: slice) -> Tensor:
        z, leaf = context.logits_with_graph(x[rows])
        return squared_vjp_norm(z, leaf, v[rows], create_graph=False).sqrt()

    return _pair("‖vᵀJ‖", *([one(x, p) for p in context.chunks()] for x in context.both()))


def transport(context: ProbeContext) -> ProbeResult:
    """Compute the sliced Wasserstein distance of clean and adversarial logits, and the mean square
    of their paired differences, which bounds it."""
    clean, adversarial = map(context.logits, context.both())
    theta = optimal_transport.random_slices(clean, SLICES, generator=context.generator())
    sw = optimal_transport.sliced_wasserstein(adversarial, clean, theta).item()
    paired = (adversarial - clean).square().mean().item()
    return _differences({"SW₂² of logits": sw, "paired MSE": paired})


def gradient(context: ProbeContext) -> ProbeResult:
    """Compute ‖∇ₓCE‖₁."""
    y = context.y
    grads = [[_gradient(context, x[p], y[p]) for p in context.chunks()] for x in context.both()]
    return _pair("‖∇ₓCE‖₁", *([g.flatten(1).abs().sum(1) for g in half] for half in grads))


def introspection(context: ProbeContext) -> ProbeResult:
    """Measure how well input gradients on x and x' align (cosine), where both have a direction."""
    cosines = []
    for p in context.chunks():
        apart, valid = alignment(*(_gradient(context, x[p], context.y[p]) for x in context.both()))
        cosines.append((1 - apart)[valid])
    every = torch.cat(cosines)
    mean = every.mean().item() if len(every) else None
    return _differences({"cos(G, G')": mean, "share with a direction": len(every) / len(context.x)})


def drift(context: ProbeContext) -> ProbeResult:
    """Compute ‖h(x') − h(x)‖/‖h(x)‖ of every stage."""
    ratios: dict[str, list[Tensor]] = {name: [] for name in context.stages}
    for p in context.chunks():
        h, moved = context.features(context.x[p]), context.features(context.x_adv[p])
        for name in context.stages:
            far, size = (norm(t.flatten(1), 2) for t in (moved[name] - h[name], h[name]))
            ratios[name].append(far / size.clamp_min(1e-12))
    return _differences({name: torch.cat(v).mean().item() for name, v in ratios.items()})


def statistics(context: ProbeContext) -> ProbeResult:
    """Compute how far channel means and deviations move in each stage, in units of their spread
    over clean samples."""
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for p in context.chunks():
        h, moved = context.features(context.x[p]), context.features(context.x_adv[p])
        for name in context.stages:
            if h[name].ndim >= 3:
                a, b = (feature_statistics.channel_statistics(t[name]) for t in (h, moved))
                kept.setdefault(name, []).append((torch.stack(a), torch.stack(b)))
    require(kept, "model", type(context.model).__name__, "one with stages (b, c, positions ...)")
    moves = {}
    for name, pairs in kept.items():
        clean, adversarial = (torch.cat(half, 1) for half in zip(*pairs, strict=True))
        for label, a, b in zip("μσ", clean, adversarial, strict=True):
            move = (b - a).abs() / feature_statistics.batch_spread(a)
            moves[f"{name}, {label}"] = move.mean().item()
    return _differences(moves)


def references(context: ProbeContext) -> ProbeResult:
    """Measure clean error before and after one step of the middle stage's channel statistics down
    the loss, within their spread, kept where it lowers the loss."""
    stages, model, shapes = context.stages, context.run, context.features(context.x[:2])
    assert isinstance(model, nn.Module)
    wide = [name for name in stages if shapes[name].ndim >= 3]
    require(wide, "model", type(context.model).__name__, "one with stages (b, c, positions ...)")
    site, wrong = wide[len(wide) // 2], []
    for p in context.chunks():
        x, y = context.x[p], context.y[p]
        with torch.enable_grad():
            z, seen = feature_statistics.extract_statistics(model, x, [site])
            site_features = seen[site]
            slopes = torch.autograd.grad(losses.cross_entropy(z, y).sum(), site_features.shift)
        with torch.no_grad():
            move = feature_statistics.descent_step(site_features, slopes)
            refined = hooks.forward_from(model, site, site_features.shifted(*move), x=x)
            lower = losses.cross_entropy(refined, y) <= losses.cross_entropy(z, y)
            q = torch.where(lower[:, None], refined, z)
        wrong.append(torch.stack([t.argmax(1) != y for t in (z, q)]))
    shares = torch.cat(wrong, 1).float().mean(1).tolist()
    names = ("as predicted", f"refined at {site}")
    return ProbeResult([ProbeValue(*row) for row in zip(names, shares, strict=True)])


def surface(context: ProbeContext) -> ProbeResult:
    """Compute the mean cross-entropy of 16 samples over the plane of the steepest and a random
    step: `surface (15, 15)`, rows along the gradient, and `surface_at (15,)`, in radii."""
    threat, x, y = context.threat, context.x[:FEW], context.y[:FEW]
    batch, noise = Batch(x, y), torch.empty_like(x).normal_(generator=context.generator())
    ways = [threat.step(x, g, context.eps, batch) - x for g in (_gradient(context, x, y), noise)]
    positions = torch.linspace(-REACH, REACH, SIDE)
    heights = []
    for a, b in product(positions.tolist(), repeat=2):
        z = (x + a * ways[0] + b * ways[1]).clamp(threat.low, threat.high)
        heights.append(losses.cross_entropy(logits(context.model, z), y).mean())
    grid = torch.stack(heights).view(SIDE, SIDE).cpu().numpy()
    return ProbeResult(arrays={"surface": grid, "surface_at": positions.numpy()})


def masking(context: ProbeContext) -> ProbeResult:
    """Measure whether gradients mislead: the share of correct samples that are robust to PGD-20 on
    logits × 1, 10 and 100 and on the margin, and to PGD with 1, 5 and 100 steps."""
    model, threat = context.run, context.threat
    keep = context.logits(context.x).argmax(1) == context.y
    x, y = context.x[keep], context.y[keep]
    if not len(x):
        return ProbeResult()

    def broken(attack: PGD, factor: float = 1.0) -> Tensor:
        scaled = diagnose.ScaledLogits(model, torch.tensor(1 / factor, device=x.device))

        # Attacked on scaled logits, judged on the model's own.
        def run(x: Tensor, y: Tensor) -> Tensor:
            return diagnose.is_adversarial(model, threat, attack(scaled, x, y), x, y)

        with on_rows([threat], keep.nonzero()[:, 0], x):
            return diagnose.over_chunks(run, threat, x, y, context.batch_size)

    pgd_options = {"seed": context.seed, "best": True}
    runs = {f"logits × {f}": broken(PGD(threat, steps=20, **pgd_options), f) for f in (1, 10, 100)}
    runs["margin"] = broken(PGD(threat, steps=20, loss="margin", **pgd_options))
    runs |= {f"{n} steps": broken(PGD(threat, steps=n, **pgd_options)) for n in (1, 5, 100)}
    plain = runs["logits × 1"]
    symptoms = {
        "scaled logits break more": (runs["logits × 10"] | runs["logits × 100"]) & ~plain,
        "margin breaks more": runs["margin"] & ~plain,
    }
    return ProbeResult(
        [ProbeValue(name, 1.0, 1 - mask.float().mean().item()) for name, mask in runs.items()],
        symptoms={name: mask.float().mean().item() for name, mask in symptoms.items()},
        checked=dict.fromkeys(symptoms, len(x)),
    )


OF_GRADIENTS = (jacobian, trajectory, gradient, introspection)
OF_OUTPUTS = (drift, statistics, references, transport, surface, masking)
OF_SYMPTOMS = ("masking",)  # the probes that measure any
Probe = Callable[[ProbeContext], ProbeResult]
PROBES: dict[str, Probe] = {probe.__name__: probe for probe in (*OF_GRADIENTS, *OF_OUTPUTS)}


def probe_names(names: str | Sequence[str]) -> list[str]:
    """Return the names of probes, each once; `"all"` stands for every probe.

    Raises:
        ValueError: for a name that does not exist.

    >>> probe_names("drift")
    ['drift']
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in {*PROBES, "all"}:
            raise ValueError(did_you_mean("probe", name, [*PROBES, "all"]))
    return list(PROBES) if "all" in names else list(dict.fromkeys(names))


def run_probes(context: ProbeContext, names: str | Sequence[str]) -> ProbeResult:
    """Run probes and join their results; each row has the name of its probe."""
    joined = ProbeResult()
    with freeze.frozen(context.model, "eval"), exact_float32(context.x.device):
        for name in probe_names(names):
            result = PROBES[name](context)
            about = " ".join((PROBES[name].__doc__ or "").split())
            joined.rows += [replace(row, probe=name, about=about) for row in result.rows]
            joined.arrays |= result.arrays
            joined.symptoms |= result.symptoms
            joined.checked |= result.checked
    return joined


def _gradient(context: ProbeContext, x: Tensor, y: Tensor) -> Tensor:
    grad, name = diagnose.loss_gradient(context.model, x, y), type(context.model).__name__
    require(grad is not None, "model", name, "one that has gradients, to probe with them")
    assert grad is not None
    return grad
