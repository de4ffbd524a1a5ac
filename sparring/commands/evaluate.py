"""From a run to a result, and from results to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import evaluation
from ..config.overrides import Overrides
from ..config.recipe import Recipe
from ..config.registry import pieces
from ..results.result import Result
from ..training.parallel import join_process_group
from .subject import _is_program, history, other, stranger, trained


def evaluate(
    model: Any,
    *,
    suite: str | None = None,
    eps: float | Sequence[float] | None = None,
    n: int | None = None,
    split: str = "test",
    precision: str = "float32",
    compile: bool = False,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    set: Overrides = (),
    trust: bool = False,
    device: str | None = None,
    progress: bool = False,
    data: Any = None,
    threat: Any = None,
    batch: int = 250,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    outputs: str = "logits",
    surrogate: Any = None,
    seconds: float | None = None,
    queries: int | None = None,
    certify: Sequence[str] = (),
    probes: str | Sequence[str] | None = None,
) -> Result:
    """ProbeValue a model under attack: a run on the data and in the threat of its recipe, any other
    model on the data and in the threat named here.

    Arguments:
        model: a run folder; or, with `recipe`, a file of weights or a model trained elsewhere; or,
            with `data` and `eps`, a program's file (see `models.load_program`), "module:Class", a
            module, a function of tensors, or a classifier of scikit-learn's kind.
        suite, eps, n: those of the recipe's `[evaluation]` where omitted; eps in input units.
        split: `"test"`, `"val"` or `"train"`.
        precision: inside the attacks; successes are confirmed in float32.
        compile: search on the compiled model, as in `evaluation.evaluate`.
        recipe: a name, a file or a `Recipe`: data, network and threat of what is no run folder.
        out: the result's file; `RUN/results/SUITE-SPLIT.json` for a run when omitted.
        set, trust: as in `config.recipe.load_recipe`; `trust` also lets a program or
            "module:Class" run.
        device: the best there is when omitted.
        progress: show it live.
        data: of a model without recipe: a name or file as in `data.load`, a source, or `(x, y)`.
        threat: a norm's name, a threat, several, or a table of names and radii, in place of the
            recipe's; it takes `eps` with it.
        batch: samples at once.
        mean, std, scale, outputs: what a model without recipe expects and gives, as in
            `models.wrap_model`.
        surrogate: a run or a model; points made on it are tried too.
        seconds, queries, certify: as in `evaluation.evaluate`.
        probes: too; where omitted, `"masking"` for a method that works on gradients, else none.

    Under torchrun the processes share the batches.
    """
    device = str(join_process_group(device))
    how = {"mean": mean, "std": std, "scale": scale, "outputs": outputs}
    known = {"data": None, **dict.fromkeys(how), "outputs": "logits"}
    given = [key for key, value in {"data": data, **how}.items() if value != known[key]]
    place = Path(model) if isinstance(model, str | Path) else None
    if recipe is not None or (place is not None and not _is_program(place)):
        if given:
            raise ValueError(
                f"{given[0]} belongs to a model without recipe; the recipe names its own: change "
                "it by --set, as --set data.name=mnist"
            )
        subject = trained(model, recipe, set=set, trust=trust)
    else:
        subject = stranger(model, data, how, eps=eps, threat=threat, trust=trust, device=device)
    chosen = subject.suite if suite is None else suite
    if subject.run is not None and out is None:
        out = subject.run / "results" / f"{chosen}-{split}.json"
    own = subject.eps if threat is None else None
    return evaluation.evaluate(
        subject.model,
        subject.data,
        subject.threat if threat is None else threat,
        chosen,
        eps=own if eps is None else eps,
        split=split,
        n=subject.n if n is None else n,
        batch=batch,
        precision=precision,
        compile=compile,
        seed=subject.seed,
        out=out,
        name=subject.name,
        recipe=subject.recipe,
        train={} if subject.run is None else history(subject.run),
        progress=progress,
        device=device,
        surrogate=other(surrogate, trust=trust),
        seconds=seconds,
        queries=queries,
        certify=certify,
        probes=_looked_for(subject.recipe) if probes is None else probes,
    )


def _looked_for(recipe: Mapping[str, Any]) -> list[str]:
    """The probes that the report of this recipe's models has unasked."""
    method, threat = (
        pieces(room).get(str(recipe.get(room, {}).get("name"))) for room in ("method", "threat")
    )
    risky = getattr(method, "shapes_gradients", False) and not getattr(threat, "binary", False)
    return ["masking"] if risky else []
