"""From a run to a result, and from results to a report."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from . import evaluation, models, probe, reporting
from . import recipe as recipes
from .data import Source, Split, load
from .evaluation import Result
from .evaluation.metrics import Measures
from .models.external import find
from .recipe import Overrides, Recipe
from .run import BEST, MACHINE, folder, weighted
from .schema import pieces
from .training import distributed
from .training import folder as files

METRICS = "metrics"


class Subject(NamedTuple):
    """What is evaluated, on what, and what its recipe says of how; None where nobody does."""

    model: nn.Module
    data: Any
    threat: Any
    name: str
    suite: str = "quick"
    eps: Any = None
    n: int | None = None
    seed: int = 0
    recipe: Mapping[str, Any] = {}
    run: Path | None = None


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
    """Measure a model under attack: a run on the data and in the threat of its recipe, any other
    model on the data and in the threat named here.

    Arguments:
        model: a run folder; or, with `recipe`, a file of weights or a model trained elsewhere; or,
            with `data` and `eps`, a program's file (see `models.foreign`), "module:Class", a
            module, a function of tensors, or a classifier of scikit-learn's kind.
        suite, eps, n: those of the recipe's `[evaluation]` where omitted; eps in input units.
        split: `"test"`, `"val"` or `"train"`.
        precision: inside the attacks; successes are confirmed in float32.
        compile: search on the compiled model, as in `evaluation.evaluate`.
        recipe: a name, a file or a `Recipe`: data, network and threat of what is no run folder.
        out: the result's file; `RUN/results/SUITE-SPLIT.json` for a run when omitted.
        set, trust: as in `sparring.recipe.load`; `trust` also lets a program or "module:Class" run.
        device: the best there is when omitted.
        progress: show it live.
        data: of a model without recipe: a name or file as in `data.load`, a source, or `(x, y)`.
        threat: a norm's name, a threat, several, or a table of names and radii, in place of the
            recipe's; it takes `eps` with it.
        batch: samples at once.
        mean, std, scale, outputs: what a model without recipe expects and gives, as in
            `models.adapt`.
        surrogate: a run or a model; points made on it are tried too.
        seconds, queries, certify: as in `evaluation.evaluate`.
        probes: too; where omitted, `"masking"` for a method that works on gradients, else none.

    Under torchrun the processes share the batches.
    """
    device = str(distributed.start(device))
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


def other(surrogate: Any, *, trust: bool = False) -> Any:
    """The model that a run folder holds, or the model itself."""
    if not isinstance(surrogate, str | Path):
        return surrogate
    return trained(surrogate, None, trust=trust).model


def trained(
    model: Any, recipe: str | Path | Recipe | None, *, set: Overrides = (), trust: bool = False
) -> Subject:
    """A run; or a file of weights, or a model trained elsewhere, with its recipe."""
    path = Path(model) if isinstance(model, str | Path) else None
    run = None if path is None or path.is_file() else folder(path)
    origin = run if recipe is None else recipe
    assert origin is not None
    plan = origin if isinstance(origin, Recipe) else recipes.load(origin, set=set, trust=trust)
    asked = plan.tables["evaluation"]
    source = plan.source()
    plan = plan.fitted(source, "evaluation")
    if path is not None:
        network = weighted(plan, run / BEST if run else path)
    else:
        network = model if isinstance(model, nn.Module) else models.adapt(model)
    return Subject(
        network,
        source,
        plan.threat() or "Linf",
        run.resolve().name if run else plan.name,
        suite=asked["suite"],
        eps=asked.get("eps") or None,
        n=asked.get("n"),
        seed=plan.seed,
        recipe=plan.tables,
        run=run,
    )


def stranger(
    model: Any,
    data: Any,
    how: Mapping[str, Any],
    *,
    eps: Any = None,
    threat: Any = None,
    trust: bool = False,
    device: str = "cpu",
) -> Subject:
    """A model that came without recipe, with its preprocessing inside, tried on a sample.

    Raises:
        ValueError: if data or eps are missing, or the model does not take the data's samples.
    """
    if data is None:
        raise ValueError(
            "data is missing: a model without recipe needs --data, a name (sparring list data) or "
            "a file, and --eps; bare weights need --recipe instead"
        )
    if eps is None and (threat is None or isinstance(threat, str)):
        raise ValueError(
            f"eps is missing: a model without recipe needs --eps, the radius of the "
            f"{threat or 'Linf'} ball in the data's units"
        )
    if isinstance(model, str | Path) and Path(model).is_file():
        loaded, name = models.foreign(model, trust=trust, device=device), Path(model).stem
    elif isinstance(model, str):
        loaded, name = made(find(model, key="model", trust=trust)), model.partition(":")[2]
    else:
        loaded, name = model, type(model).__name__
    source = load(data) if isinstance(data, str | Path) else data
    if isinstance(source, Source) and (labels := getattr(loaded, "classes_", None)) is not None:
        words = all(isinstance(label, str) for label in labels)
        how = {**how, "classes": source.class_names if words else source.classes}
    adapted = models.adapt(loaded, **how)
    adapted = adapted if loaded is model else adapted.to(device)
    _fits(adapted, source)
    return Subject(adapted, source, "Linf", name)


def made(found: Any) -> Any:
    """The model that "module:Class" names: what a class or a function without arguments makes, or
    the object itself."""
    if isinstance(found, nn.Module) or not callable(found):
        return found
    try:
        inspect.signature(found).bind()
    except TypeError:
        if isinstance(found, type):
            raise ValueError(
                f"model = {found.__name__} takes arguments: name a function without, which makes "
                "and loads it"
            ) from None
        return found
    except ValueError:  # a builtin that does not say what it takes
        return found
    return found()


def _is_program(path: Path) -> bool:
    """Whether a path is no run but a file, or "module:Class"."""
    return path.is_file() or (":" in str(path) and not path.exists())


def _fits(model: nn.Module, data: Any) -> None:
    """Ask the model about two samples at the lower bound, where `adapt` put its numbers."""
    rows = data.test if isinstance(data, Source) else data
    x = rows.x if isinstance(rows, Split) else torch.as_tensor(rows[0])
    low = data.bounds[0] if isinstance(data, Source) else 0.0
    try:
        with torch.no_grad(), probe.hold(model):
            model(torch.full((2, *x.shape[1:]), low, device=model.get_buffer("mean").device))
    except Exception as error:  # it is someone else's code
        said = [line for line in str(error).splitlines() if line.strip()][-1:]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"the model does not take the data's samples of shape {tuple(x.shape[1:])}: "
            f"{kind}{' '.join(said).strip()}"
        ) from error


def history(run: Path) -> dict[str, Any]:
    """What the folder says of the training: seconds, epochs, device and the log's rows."""
    log = files.log(run)
    machine = (
        json.loads((run / MACHINE).read_text(encoding="utf-8")) if (run / MACHINE).is_file() else {}
    )
    return {
        "seconds": log[-1]["seconds"] if log else 0.0,
        "epochs": len(log),
        **machine,
        "log": log,
    }


def report(
    runs: Sequence[str | Path], *, out: str | Path | None = None
) -> tuple[list[Result], Path]:
    """Write the results of runs as one page that needs no network; results and page's path.

    Arguments:
        runs: run folders, each with the results in it, or single result files.
        out: the page; `report.html` in the run, or here for several, when omitted.
    """
    results = [Result.load(path) for run in runs for path in found(Path(run))]
    single = len(runs) == 1 and Path(runs[0]).is_dir()
    page = Path(out) if out is not None else Path(runs[0] if single else ".", "report.html")
    reporting.page(results, page, measures=[m for run in runs for m in measured(Path(run))])
    return results, page


def measured(run: Path) -> list[Measures]:
    """The metrics that a run folder holds, as `sparring metrics` leaves them."""
    return [Measures.load(path) for path in sorted((run / METRICS).glob("*.json"))]


def found(run: Path) -> list[Path]:
    """The result files that `run` is or holds.

    Raises:
        FileNotFoundError: if there are none.
    """
    if run.is_file():
        return [run]
    results = sorted((run / "results").glob("*.json"))
    if not results:
        what = "holds no results: evaluate it first" if run.is_dir() else "does not exist"
        raise FileNotFoundError(f"{run} {what}")
    return results
