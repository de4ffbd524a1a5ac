"""Measure a model under attack: one call, a whole split, every point judged from outside."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import probe
from ..data import Source, Split
from ..part import require
from ..threats.base import Threat
from . import checks, level, provenance, suites
from .display import Display
from .guard import Model
from .partial import Partial
from .result import Result, wilson
from .samples import radii, samples
from .session import Session, own_draws, untouched


def evaluate(
    model: Model,
    data: Source | Split | Sequence[Any],
    threat: str | Threat = "Linf",
    suite: str | suites.Suite = "quick",
    *,
    eps: float | Sequence[float] | None = None,
    split: str = "test",
    n: int | None = None,
    batch: int = 250,
    precision: str = "float32",
    cascade: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    name: str = "model",
    recipe: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Result:
    """Clean accuracy, then the worst case over a suite at each radius, judged outside the attacks.

    A sample counts as robust if the model is right on it and on every allowed point the attacks
    return for it. The model comes back as it was: weights, modes, `.grad`; the global random state
    too.

    Arguments:
        model: inputs `(b, *d)` in the data's bounds to logits `(b, k)`.
        data: a source, a split, or `(x (n, *d), y (n,))`; inputs in [0, 1] unless the source or
            threat says otherwise.
        threat: a norm's name (`"Linf"`, `"L2"`, `"L1"`) or a threat.
        suite: its name, or a `Suite`.
        eps: radii in input units; the threat's own where omitted.
        n: only so many samples, drawn by the seed.
        batch: samples at once; the draws of the attacks depend on it.
        precision: inside the attacks; judgement is float32.
        cascade: an attack sees only what those before it left standing: cheaper, with the same
            worst case up to draws, but rows can't be compared with each other.
        out: the result's `.json`; beside it the state of a killed evaluation, which `resume` goes
            on from.
        recipe, train: written into the result as they are.
        device: where to run; the model's own where omitted.

    Raises:
        ValueError: for data, labels, outputs, names or numbers that do not fit.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0])
    >>> result = evaluate(lambda x: x, (x, y), "Linf", eps=[0.05, 0.2], progress=False)
    >>> result.clean.accuracy, [row.count for row in result.by_eps]
    (1.0, [2, 1])
    """
    begun = time.perf_counter()
    require(batch >= 1, "batch", batch, "an integer ≥ 1")
    require(
        precision in probe.PRECISIONS,
        "precision",
        precision,
        "one of " + ", ".join(probe.PRECISIONS),
    )
    out, chosen = None if out is None else Path(out), suites.named(suite)
    require(out is None or out.suffix == ".json", "out", str(out), "the name of a .json file")
    given = samples(data, split, n=n, seed=seed, dataset=_dataset(recipe))
    levels = radii(threat, eps, given.bounds)
    model, place = _placed(model, device)
    settings = {
        "model": provenance.of_model(model),
        "data": provenance.of_tensors(given.rows.x, given.rows.y),
        "threat": _described(levels[-1][1]),
        "eps": [e for e, _ in levels],
        "suite": [chosen.name, chosen.version, [label for label, _ in chosen.attacks]],
        "run": [batch, precision, cascade, seed, str(place), provenance.versions()],
    }
    state = Partial(out, settings, resume=resume)
    with untouched(model), Display(progress) as display:
        session = Session(
            model, given.rows, levels[-1][1], place=place, batch=batch, state=state, display=display
        )
        session.begin()
        measured = _looked(session, levels[-1][1], seed)
        tables = [
            level.attack(
                session, chosen, t, key=str(i), precision=precision, cascade=cascade, seed=seed
            )
            for i, (_, t) in enumerate(levels)
        ]
    rows = [table.row() for table in tables]
    result = Result(
        name=name,
        recipe=dict(recipe or {}),
        dataset=given.dataset,
        split=split,
        n=len(session.y),
        threat=_described(levels[-1][1]),
        seed=seed,
        clean=wilson(int(session.right.sum()), len(session.y)),
        robust=rows[-1].robust,
        by_eps=rows,
        attacks=rows[-1].attacks,
        checks=checks.check(measured | level.counted(session, tables)),
        train=dict(train or {}),
        versions=provenance.versions(),
        commit=provenance.commit(),
        data_sha256=given.sha256,
        suite=chosen.name,
        suite_version=chosen.version,
        precision=precision,
        device=provenance.machine(place),
        seconds=time.perf_counter() - begun + session.earlier,
        class_names=given.class_names or [str(k) for k in range(session.classes)],
        arrays=level.arrays(session, tables),
    )
    if out is not None:
        result.save(out)
    state.done()
    return result


def _looked(session: Session, threat: Threat, seed: int) -> dict[str, float]:
    """The symptoms of the model, and of its gradients on samples it gets right."""
    right = np.flatnonzero(session.right)
    few = right[np.linspace(0, len(right) - 1, min(checks.ROWS, len(right))).astype(int)]
    some, _ = session.pick(np.arange(min(checks.ROWS, session.batch, len(session.y))))
    x, y = session.pick(few)
    found = checks.of_range(session.least, session.most, low=session.low, high=session.high)
    with own_draws(session.place, seed):
        found |= checks.of_model(session.model, some)
        return found | checks.of_gradients(
            session.model, threat, x, y, batch=session.batch, seed=seed
        )


def _described(threat: Threat) -> dict[str, Any]:
    return {"name": type(threat).__name__, **threat.config()}


def _dataset(recipe: Mapping[str, Any] | None) -> str:
    data = (recipe or {}).get("data")
    return str(data["name"]) if isinstance(data, Mapping) and "name" in data else "given samples"


def _placed(model: Model, device: str | torch.device | None) -> tuple[Model, torch.device]:
    """The model, or a copy of it where it lives elsewhere, and the device it is on."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    home = tensors[0].device if tensors else torch.device("cpu")
    place = home if device is None else torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = home if home.type == "cuda" else torch.device("cuda", torch.cuda.current_device())
    if place == home or not isinstance(model, nn.Module):
        return model, place
    return copy.deepcopy(model).to(place), place
