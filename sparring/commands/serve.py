"""Serve a page on which a person attacks a picture, and compares what several models answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import models
from ..config.overrides import Overrides
from ..data import Source
from ..introspect.float32 import on_float32
from ..introspect.predict import logits
from ..runtime import provenance
from ..runtime.importing import reason
from ..runtime.text import printable
from ..serving import server
from ..serving.app import make_app
from ..serving.served import ServedModel, named_classes
from ..serving.session import Session
from ..threats import NORMS
from ..training import parallel
from .attack_pictures import picture_subject
from .subject import EvaluationTarget, external_target, is_program, recipe_target

MOST = 8  # models of one page


def serve(
    runs: Sequence[str | Path],
    *,
    port: int = server.DEFAULT_PORT,
    open: bool = False,
    data: str | None = None,
    recipe: str | None = None,
    shape: str | None = None,
    classes: str | Path | None = None,
    mean: Any = None,
    std: Any = None,
    scale: float | None = None,
    outputs: str = "logits",
    set: Overrides = (),
    trust: bool = False,
    device: str | None = None,
    started: Any = print,
) -> None:
    """Serve the page of one or more models on 127.0.0.1 until Ctrl-C.

    Arguments:
        runs: run folders; with `recipe`, files of weights; with `data`, programs, as `evaluate`
            takes them.
        port: 0 is any free one.
        open: open the page in a browser.
        data, mean, std, scale, outputs: of models without recipe, as in `evaluate`.
        shape, classes: of a model without recipe and data, as in `attack_pictures`.
        started: called with the page's address once the server listens.

    Raises:
        ValueError: for a model that takes no pictures, a port in use, or a missing package.
        FileNotFoundError: for a run folder that does not exist.
    """
    if not 1 <= len(runs) <= MOST:
        raise ValueError(f"{len(runs)} models are not allowed: give 1 to {MOST} runs")
    listening = server.listen(port)  # first: loading models may take longer than a person waits
    try:
        options = {
            "data": data,
            "recipe": recipe,
            "shape": shape,
            "classes": classes,
            "preprocessing": {"mean": mean, "std": std, "scale": scale, "outputs": outputs},
        }
        served = [served_model(run, **options, set=set, trust=trust, device=device) for run in runs]
        address = server.address_of(listening)

        def announce() -> None:
            started(address)
            if open:
                server.open_browser(address)

        server.run(make_app(Session(_with_names(served, runs))), listening, started=announce)
    finally:
        listening.close()


def served_model(
    run: str | Path,
    *,
    data: str | None = None,
    recipe: str | None = None,
    shape: str | None = None,
    classes: str | Path | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    set: Overrides = (),
    trust: bool = False,
    device: str | None = None,
) -> ServedModel:
    """Return a model ready to be served: on its device, with names for its classes.

    Raises:
        ValueError: for a model that takes no pictures in [0, 1], or fails on one.
    """
    at = str(parallel.join_process_group(device))
    options = {"set": set, "trust": trust}
    if recipe is None and is_program(Path(run)):
        if data is None:
            bare = {"shape": shape, "classes": classes, "preprocessing": preprocessing}
            subject = picture_subject(str(run), **bare, **options, device=at)
            model, on = provenance.model_on_device(subject.model, at)
            names = named_classes(subject.classes, len(subject.classes))
            return ServedModel(subject.name, on_float32(model), on, subject.shape, names)
        known = preprocessing or {}
        target = external_target(run, data, known, eps=1.0, **options, device=at)
    else:
        target = recipe_target(run, recipe, **options)
    source: Source = target.data
    require_pictures(target.name, source)
    model, on = provenance.model_on_device(models.wrap_model(target.model), at)
    model = on_float32(model)
    try:
        outputs = logits(model, torch.zeros(1, *source.shape, device=on)).shape[1]
    except Exception as error:  # a model from elsewhere may raise anything
        raise ValueError(
            f"{printable(target.name)} does not take pictures of {source.shape}: {reason(error)}"
        ) from error
    norm, eps, about = _facts(target)
    names = named_classes(source.class_names, outputs)
    name = printable(target.name)
    return ServedModel(name, model, on, source.shape, names, source.test, norm, eps, about)


def require_pictures(name: str, source: Source) -> None:
    """Raise `ValueError` unless samples are grey or coloured pictures in [0, 1]."""
    shape, (low, high) = source.shape, source.bounds
    what = f"inputs of {shape}"
    if len(shape) == 1:
        what = f"vectors of {shape[0]:,} features"
    elif (low, high) != (0.0, 1.0):
        what = f"inputs in [{low:g}, {high:g}]"
    elif len(shape) == 3 and shape[0] in (1, 3):
        return
    raise ValueError(
        f"{printable(name)} takes {what}: sparring serve is for models of pictures in [0, 1], "
        "(1, h, w) or (3, h, w); sparring evaluate attacks other inputs"
    )


def _facts(target: EvaluationTarget) -> tuple[str, float | None, str]:
    """Return norm and radius to begin with, and the line that tells models apart."""
    threat = target.threat
    norm = threat if isinstance(threat, str) else type(threat).__name__
    eps = None if isinstance(threat, str) else threat.eps
    method = (target.recipe.get("method") or {}).get("name")
    data = target.data.name
    about = " · ".join(part for part in (method, printable(data)) if part)
    return (norm, eps, about) if norm in NORMS else ("Linf", None, about)


def _with_names(served: Sequence[ServedModel], runs: Sequence[str | Path]) -> list[ServedModel]:
    """Return the models, those of one name called by their paths, those of one path numbered."""
    names = [one.name for one in served]
    paths = [printable(run) for run in runs]
    names = [p if names.count(n) > 1 else n for n, p in zip(names, paths, strict=True)]
    names = [f"{n} ({k + 1})" if names.count(n) > 1 else n for k, n in enumerate(names)]
    return [one._replace(name=name) for one, name in zip(served, names, strict=True)]
