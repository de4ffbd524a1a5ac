"""Named probes: what goes on inside a model on clean and on attacked samples, for the report.

A probe is a function of a `Scene`; `PROBES` has them by name. None of them enters an accuracy, and
`masking` alone feeds checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ..attacks import PGD
from ..batch import Batch, Model
from ..component import did_you_mean, require
from ..functional import losses, optimal_transport
from ..functional.geometry import alignment, norm
from ..introspect import feature_statistics, freeze, hooks
from ..introspect.jacobian import random_directions, squared_jacobian_norm, squared_vjp_norm
from ..introspect.predict import full_precision, logits
from ..results.result import ProbeValue
from ..threats.base import Threat
from . import diagnose

ROWS = 64
EXACT = 20  # outputs up to which a Jacobian is computed row by row
DIRECTIONS = 16  # else so many random ones
SLICES = 256
SIDE, FEW, REACH = 15, 16, 1.5  # of the surface: points a side, samples, radii to each side


@dataclass
class Scene:
    """A model in eval mode, samples `x (n, *d)` with labels, and points that PGD-10 made of them.

    Arguments:
        batch: samples at once.
    """

    model: Model
    threat: Threat
    x: Tensor
    y: Tensor
    batch: int = ROWS
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.x) >= 2, "n", len(self.x), "at least 2 samples to probe")
        name = type(self.threat).__name__
        require(not self.threat.binary, "threat", name, "one of real inputs, to probe with PGD")

    @cached_property
    def x_adv(self) -> Tensor:
        """Where PGD-10 on cross-entropy ends for x, be the sample broken earlier or not."""
        attack = PGD(self.threat, steps=10, best=False, seed=self.seed)
        found = []
        for p in self.parts():
            batch = Batch(self.x[p], self.y[p])

            def f(z: Tensor, batch: Batch = batch) -> Tensor:
                out = self.model(self.threat.unpack(z, batch)[0]).float()
                return losses.cross_entropy(out, batch.y)

            z = attack.maximize(f, batch)
            found.append(self.threat.unpack(self.threat.discretize(z, batch), batch)[0].detach())
        return torch.cat(found)

    @property
    def eps(self) -> float:
        """The radius; a tenth of the box where the threat has none."""
        threat = self.threat
        return float(getattr(threat, "eps", None) or (threat.high - threat.low) / 10)

    def parts(self) -> Iterator[slice]:
        """The rows, `batch` at a time, no rest of one."""
        cuts = [*range(0, len(self.x) - 1, max(2, self.batch)), len(self.x)]
        for start, stop in pairwise(cuts):
            yield slice(start, stop)

    def both(self) -> tuple[Tensor, Tensor]:
        """Clean and adversarial samples."""
        return self.x, self.x_adv

    def draw(self) -> torch.Generator:
        """Random numbers of one's own."""
        return torch.Generator(self.x.device).manual_seed(self.seed)

    @cached_property
    def stages(self) -> list[str]:
        """The outermost submodules that have weights and are called once in a pass.

        Raises:
            ValueError: for a model that is no module, or has no such submodule.
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
        found = [above + name for name, n in calls.items() if n == 1]
        require(found, "model", type(model).__name__, "one with submodules that are called once")
        return found

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs of the stages on x, without gradients."""
        assert isinstance(self.model, nn.Module)
        with torch.no_grad():
            return hooks.extract_features(self.model, x, self.stages)[1]

    def tracked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits with a graph, and the leaf they come from."""
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            return self.model(leaf), leaf


@dataclass
class Found:
    """What a probe tells: rows of a table, arrays for a picture, values of symptoms."""

    rows: list[ProbeValue] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    symptoms: dict[str, float] = field(default_factory=dict)


def _pair(name: str, clean: Sequence[Tensor], adversarial: Sequence[Tensor]) -> Found:
    """One row: the means over samples."""
    a, b = (float(torch.cat(list(values)).mean()) for values in (clean, adversarial))
    return Found([ProbeValue(name, a, b)])


def jacobian(s: Scene) -> Found:
    """‖J‖_F of the logits in the input, exact up to 20 classes, else from 16 random directions."""

    def one(x: Tensor) -> Tensor:
        z, leaf = s.tracked(x)
        if z.shape[1] <= EXACT:
            return squared_jacobian_norm(z, leaf).sqrt()
        v = random_directions(z.detach(), DIRECTIONS, generator=s.draw())
        squares = [squared_vjp_norm(z, leaf, w, create_graph=False) for w in v]
        return (z.shape[1] * torch.stack(squares).mean(0)).sqrt()

    return _pair("‖J‖_F", *([one(x[p]) for p in s.parts()] for x in s.both()))


def trajectory(s: Scene) -> Found:
    """‖vᵀJ‖ along the unit direction v in which optimal transport carries each sample's adversarial
    logits to the clean cloud."""
    clean, adversarial = (torch.cat([logits(s.model, x[p]) for p in s.parts()]) for x in s.both())
    theta = optimal_transport.random_slices(clean, SLICES, generator=s.draw())
    delta = optimal_transport.displacement(
        optimal_transport.slice_gaps(adversarial, clean, theta), theta
    )
    v = optimal_transport.trajectory(delta, torch.ones_like(delta))

    def one(x: Tensor, rows: slice) -> Tensor:
        return squared_vjp_norm(*s.tracked(x[rows]), v[rows], create_graph=False).sqrt()

    return _pair("‖vᵀJ‖", *([one(x, p) for p in s.parts()] for x in s.both()))


def transport(s: Scene) -> Found:
    """Sliced Wasserstein distance of clean and adversarial logits, and the mean square of their
    paired differences, which bounds it."""
    clean, adversarial = (torch.cat([logits(s.model, x[p]) for p in s.parts()]) for x in s.both())
    theta = optimal_transport.random_slices(clean, SLICES, generator=s.draw())
    sw = optimal_transport.sliced_wasserstein(adversarial, clean, theta).item()
    paired = (adversarial - clean).square().mean().item()
    return Found([ProbeValue("SW₂² of logits", None, sw), ProbeValue("paired MSE", None, paired)])


def gradient(s: Scene) -> Found:
    """‖∇ₓCE‖₁."""
    grads = [[_gradient(s, x[p], s.y[p]) for p in s.parts()] for x in s.both()]
    return _pair("‖∇ₓCE‖₁", *([g.flatten(1).abs().sum(1) for g in half] for half in grads))


def introspection(s: Scene) -> Found:
    """Cosine of the input gradients on x and on x', where both have a direction."""
    cosines = []
    for p in s.parts():
        apart, valid = alignment(*(_gradient(s, x[p], s.y[p]) for x in s.both()))
        cosines.append((1 - apart)[valid])
    every = torch.cat(cosines)
    mean = every.mean().item() if len(every) else None
    return Found(
        [
            ProbeValue("cos(G, G')", None, mean),
            ProbeValue("share with a direction", None, len(every) / len(s.x)),
        ]
    )


def drift(s: Scene) -> Found:
    """‖h(x') − h(x)‖/‖h(x)‖ of every stage."""
    ratios: dict[str, list[Tensor]] = {name: [] for name in s.stages}
    for p in s.parts():
        h, moved = s.features(s.x[p]), s.features(s.x_adv[p])
        for name in s.stages:
            far, size = (norm(t.flatten(1), 2) for t in (moved[name] - h[name], h[name]))
            ratios[name].append(far / size.clamp_min(1e-12))
    means = {name: torch.cat(values).mean().item() for name, values in ratios.items()}
    return Found([ProbeValue(name, None, value) for name, value in means.items()])


def statistics(s: Scene) -> Found:
    """How far channel means and deviations move, in their spreads over clean samples, by stage."""
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for p in s.parts():
        h, moved = s.features(s.x[p]), s.features(s.x_adv[p])
        for name in s.stages:
            if h[name].ndim >= 3:
                pair = [
                    torch.stack(feature_statistics.channel_statistics(t))
                    for t in (h[name], moved[name])
                ]
                kept.setdefault(name, []).append((pair[0], pair[1]))
    require(kept, "model", type(s.model).__name__, "one with stages (b, c, positions ...)")
    rows = []
    for name, pairs in kept.items():
        clean, adversarial = (torch.cat(half, 1) for half in zip(*pairs, strict=True))
        for label, a, b in zip("μσ", clean, adversarial, strict=True):
            rows.append(
                ProbeValue(
                    f"{name}, {label}",
                    None,
                    ((b - a).abs() / feature_statistics.batch_spread(a)).mean().item(),
                )
            )
    return Found(rows)


def references(s: Scene) -> Found:
    """Share of samples whose clean prediction is wrong; and after one step of their channel
    statistics down the loss, within their spread, at the middle stage, where that lowers it."""
    assert isinstance(s.model, nn.Module) or s.stages
    shapes = s.features(s.x[:2])
    wide = [name for name in s.stages if shapes[name].ndim >= 3]
    require(wide, "model", type(s.model).__name__, "one with stages (b, c, positions ...)")
    site, wrong = wide[len(wide) // 2], []
    for p in s.parts():
        x, y = s.x[p], s.y[p]
        with torch.enable_grad():
            z, seen = feature_statistics.extract_statistics(s.model, x, [site])  # type: ignore[arg-type]
            at = seen[site]
            slopes = torch.autograd.grad(losses.cross_entropy(z, y).sum(), at.shift)
        with torch.no_grad():
            move = feature_statistics.descent_step(at, slopes)
            refined = hooks.forward_from(s.model, site, at.shifted(*move), x=x)  # type: ignore[arg-type]
            lower = losses.cross_entropy(refined, y) <= losses.cross_entropy(z, y)
            q = torch.where(lower[:, None], refined, z)
        wrong.append(torch.stack([t.argmax(1) != y for t in (z, q)]))
    before, after = torch.cat(wrong, 1).float().mean(1).tolist()
    return Found([ProbeValue("as predicted", before), ProbeValue(f"refined at {site}", after)])


def surface(s: Scene) -> Found:
    """Mean cross-entropy of 16 samples over the plane of the steepest step and a random one, as an
    array `surface (15, 15)`, rows along the gradient, and its places in radii."""
    x, y = s.x[:FEW], s.y[:FEW]
    batch, noise = Batch(x, y), torch.empty_like(x).normal_(generator=s.draw())
    ways = [s.threat.step(x, g, s.eps, batch) - x for g in (_gradient(s, x, y), noise)]
    places = torch.linspace(-REACH, REACH, SIDE)
    heights = [
        losses.cross_entropy(
            logits(s.model, (x + a * ways[0] + b * ways[1]).clamp(s.threat.low, s.threat.high)), y
        ).mean()
        for a in places.tolist()
        for b in places.tolist()
    ]
    grid = torch.stack(heights).view(SIDE, SIDE).cpu().numpy()
    return Found(arrays={"surface": grid, "surface_at": places.numpy()})


def masking(s: Scene) -> Found:
    """Whether gradients mislead: the share of right samples that stand PGD-20 on logits × 1, 10 and
    100 and on the margin, and PGD of 1, 5 and 100 steps on cross-entropy."""
    keep = torch.cat([logits(s.model, s.x[p]).argmax(1) == s.y[p] for p in s.parts()])
    x, y = s.x[keep], s.y[keep]
    if not len(x):
        return Found()

    def broken(attack: PGD, factor: float = 1.0) -> Tensor:
        model = diagnose.Scaled(s.model, torch.tensor(1 / factor, device=x.device))
        parts = zip(x.split(s.batch), y.split(s.batch), strict=True)
        found = [diagnose.wrong(s.model, s.threat, attack(model, *p), *p) for p in parts]
        return torch.cat(found)

    more = {"seed": s.seed, "best": True}
    runs = {f"logits × {f}": broken(PGD(s.threat, steps=20, **more), f) for f in (1, 10, 100)}
    runs["margin"] = broken(PGD(s.threat, steps=20, loss="margin", **more))
    runs |= {f"{n} steps": broken(PGD(s.threat, steps=n, **more)) for n in (1, 5, 100)}
    plain = runs["logits × 1"]
    symptoms = {
        "scaled logits break more": (runs["logits × 10"] | runs["logits × 100"]) & ~plain,
        "margin breaks more": runs["margin"] & ~plain,
    }
    return Found(
        [ProbeValue(name, 1.0, 1 - hit.float().mean().item()) for name, hit in runs.items()],
        symptoms={name: hit.float().mean().item() for name, hit in symptoms.items()},
    )


PROBES: dict[str, Callable[[Scene], Found]] = {
    probe.__name__: probe
    for probe in (
        jacobian,
        trajectory,
        gradient,
        introspection,
        drift,
        statistics,
        references,
        transport,
        surface,
        masking,
    )
}


def chosen(names: str | Sequence[str]) -> list[str]:
    """The names of probes, each once; `"all"` stands for every one.

    Raises:
        ValueError: for a name that does not exist.

    >>> chosen("drift")
    ['drift']
    """
    asked = [names] if isinstance(names, str) else list(names)
    for name in asked:
        if name not in {*PROBES, "all"}:
            raise ValueError(did_you_mean("probe", name, [*PROBES, "all"]))
    return list(PROBES) if "all" in asked else list(dict.fromkeys(asked))


def look(scene: Scene, names: str | Sequence[str]) -> Found:
    """What the probes of these names find, each row with the name of its probe."""
    whole = Found()
    with freeze.frozen(scene.model, "eval"), full_precision(scene.x.device):
        for name in chosen(names):
            found = PROBES[name](scene)
            about = " ".join((PROBES[name].__doc__ or "").split())
            whole.rows += [replace(row, probe=name, about=about) for row in found.rows]
            whole.arrays |= found.arrays
            whole.symptoms |= found.symptoms
    return whole


def _gradient(s: Scene, x: Tensor, y: Tensor) -> Tensor:
    grad = diagnose.gradient(s.model, x, y, losses.cross_entropy)[1]
    name = type(s.model).__name__
    require(grad is not None, "model", name, "one that has gradients, to probe with them")
    assert grad is not None
    return grad
