"""Evaluate a run, or a model from elsewhere, under attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch

from .. import evaluation
from ..config.overrides import Overrides
from ..config.recipe import Recipe
from ..config.registry import pieces
from ..data.samples import SampleData
from ..evaluation import EvaluationProtocol, Suite
from ..evaluation.protocol import EvaluationOptions, resolve_protocol
from ..evaluation.radii import Threats, norm_names, threats_at_radii
from ..results.result import Result
from ..runtime.files import plain_name
from ..training import parallel
from .rehearsal import new_file
from .requested_threat import RequestedThreat, is_bits
from .subject import (
    existing_run,
    external_target,
    is_program,
    recipe_target,
    surrogate_model,
    training_history,
)


def evaluate(
    model: Any,
    data: str | Path | SampleData | None = None,
    threat: Threats | RequestedThreat | None = None,
    protocol: EvaluationProtocol | Suite | str | None = None,
    *,
    recipe: str | Path | Recipe | None = None,
    set: Overrides = (),
    trust: bool = False,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    outputs: str = "logits",
    surrogate: Any = None,
    name: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    processes: int = 1,
    **options: Unpack[EvaluationOptions],
) -> Result:
    """Compute clean and robust accuracy of a run, by its recipe, or of any model, by `data` and
    `threat`; return the result of `evaluation.evaluate`.

    Under torchrun, or with `processes`, several processes share the batches.

    Arguments:
        model: a run folder; or, with `recipe`, a file of weights or a model trained elsewhere; or,
            with `data` and `eps`, a program's file (see `models.load_program`), a skops file of a
            classifier, "module:Class", a module, a function of tensors, or a classifier of
            scikit-learn's kind.
        data: for a model without recipe: a name or file as in `data.load`, a source, a split,
            `(x, y)`, or a PyTorch `Dataset` or `DataLoader` of these pairs.
        threat: a norm's name, a threat, several, or a table of names and radii; `"Bits"` takes its
            mask and groups from the data. Default: the recipe's threat and eps, else Linf.
        protocol: an `EvaluationProtocol`, or only its suite; default: `[evaluation]` of the recipe.
        recipe: a name, a file or a `Recipe`: data, network and threat for a model without a run
            folder.
        set, trust: as in `config.recipe.load_recipe`; for a model without recipe, `data.KEY=VALUE`
            are arguments of `data.load`. `trust` also allows running a program or "module:Class".
        mean, std, scale, outputs: inputs and outputs of a model without recipe, as in
            `models.wrap_model`.
        surrogate: a run, a program's file, "module:Class" or a model; points computed on it are
            tried too.
        out: the result's file; default: `RUN/results/SUITE-SPLIT.json` for a run, or, under other
            norms than the recipe's, `SUITE-SPLIT-NORM.json`.
        name: of the model, in the result; default: the run's, the recipe's, or its class.
        seed: of the samples and of all draws; default: the recipe's, else 0.
        device: default: the best there is.
        progress: show progress; default: on a terminal and in a notebook.
        processes: of this machine, that share the batches; see `evaluation.evaluate`.
        options: fields of `EvaluationProtocol`, as `suite="pgd", eps=0.1, n=1000`; None: default.

    Raises:
        ValueError: for a model, data or options that do not fit.
        FileNotFoundError: for a run folder or weights that do not exist.
    """
    arguments = {key: value for key, value in locals().items() if key != "options"}
    return evaluate_to_file(**arguments, **options)[0]


def evaluate_to_file(
    model: Any,
    data: str | Path | SampleData | None = None,
    threat: Threats | RequestedThreat | None = None,
    protocol: EvaluationProtocol | Suite | str | None = None,
    *,
    recipe: str | Path | Recipe | None = None,
    set: Overrides = (),
    trust: bool = False,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    outputs: str = "logits",
    surrogate: Any = None,
    name: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    processes: int = 1,
    **options: Unpack[EvaluationOptions],
) -> tuple[Result, Path | None]:
    """Evaluate as `evaluate`; return the result, and its file if it was written."""
    out = None if out is None else new_file(out, endings=(".json",))
    device = str(parallel.join_process_group(None if device is None else str(device)))
    preprocessing = {"mean": mean, "std": std, "scale": scale, "outputs": outputs}
    defaults = {"data": None, **dict.fromkeys(preprocessing), "outputs": "logits"}
    changed = [k for k, v in {"data": data, **preprocessing}.items() if v != defaults[k]]
    path = Path(model) if isinstance(model, str | Path) else None
    if path is not None and recipe is None and not is_program(path):
        existing_run(path)  # before what is said of data for a run
    if recipe is not None or (path is not None and not is_program(path)):
        if changed:
            raise ValueError(
                f"{changed[0]} belongs to a model without recipe; the recipe names its own: change "
                "it by --set, as --set data.name=mnist"
            )
        target = recipe_target(model, recipe, set=set, trust=trust)
    else:
        eps = protocol.eps if isinstance(protocol, EvaluationProtocol) else None
        target = external_target(
            model,
            data,
            preprocessing,
            eps=options.get("eps") if eps is None else eps,
            threat=threat,
            set=set,
            trust=trust,
            device=device,
        )
    if is_bits(threat):
        threat = RequestedThreat()
    # Another threat does not take the recipe's radii: they are in another norm's units.
    same = threat is None or (isinstance(threat, RequestedThreat) and threat.name is None)
    default = target.protocol if same else replace(target.protocol, eps=None)
    if isinstance(threat, RequestedThreat):
        threat = threat.build(target.data, options.get("eps"), target.threat)
    given = {key: value for key, value in options.items() if value is not None}
    protocol = resolve_protocol(protocol, given, default)
    if protocol.probes is None:
        protocol = replace(protocol, probes=default_probes(target.recipe))
    if target.run is not None and out is None:
        out = target.run / "results" / _file_name(protocol, target, threat)
    result = evaluation.evaluate(
        target.model,
        target.data,
        target.threat if threat is None else threat,
        protocol,
        surrogate=surrogate_model(surrogate, target.data, trust=trust, device=device),
        seed=target.seed if seed is None else seed,
        out=out,
        name=target.name if name is None else name,
        recipe=target.recipe,
        train={} if target.run is None else training_history(target.run),
        progress=progress,
        device=device,
        processes=processes,
    )
    return result, out


def _file_name(protocol: EvaluationProtocol, target: Any, threat: Any) -> str:
    """Return the name of a run's result; one under another norm does not replace the recipe's."""
    suite = protocol.suite.name if isinstance(protocol.suite, Suite) else protocol.suite
    names = [suite, protocol.split]
    if threat is not None:
        bounds = getattr(target.data, "bounds", None)
        given = [one for _, one in threats_at_radii(threat, protocol.eps, bounds)]
        norms = dict.fromkeys(norm_names(given))
        names += [] if [*norms] == norm_names([target.threat]) else norms
    return plain_name("-".join(names), "suite") + ".json"


def default_probes(recipe: Mapping[str, Any]) -> list[str]:
    """Return the probes run by default for models of this recipe."""
    method, threat = (
        pieces(room).get(str(recipe.get(room, {}).get("name"))) for room in ("method", "threat")
    )
    # Methods that shape gradients may mask them; probes attack with PGD, which bits do not take.
    shapes = getattr(method, "shapes_gradients", False)
    return ["masking"] if shapes and not getattr(threat, "binary", False) else []
