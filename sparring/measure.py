"""From a run to a result, and from results to a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import evaluation, reporting
from . import recipe as recipes
from .evaluation import Result
from .recipe import Overrides, Recipe
from .run import BEST, MACHINE, folder, weighted
from .training import folder as files


def evaluate(
    model: str | Path | nn.Module,
    *,
    suite: str | None = None,
    eps: float | Sequence[float] | None = None,
    n: int | None = None,
    split: str = "test",
    precision: str = "float32",
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    set: Overrides = (),
    trust: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> Result:
    """Measure a model under attack, on the data and in the threat of its recipe.

    Arguments:
        model: a run folder; or, with `recipe`, a file of weights or a model trained elsewhere.
        suite, eps, n: those of the recipe's `[evaluation]` where omitted; eps in input units.
        split: `"test"`, `"val"` or `"train"`.
        precision: inside the attacks; successes are confirmed in float32.
        recipe: a name, a file or a `Recipe`: data, network and threat of what is no run folder.
        out: the result's file; `RUN/results/SUITE-SPLIT.json` for a run when omitted.
        set, trust: as in `sparring.recipe.load`.
        device: the best there is when omitted.
        progress: show it live.
    """
    run = None if isinstance(model, nn.Module) or Path(model).is_file() else folder(model)
    if run is None and recipe is None:
        raise ValueError(
            "recipe is missing: a model that is no run folder needs --recipe, "
            "for its data, network and threat"
        )
    origin = run if recipe is None else recipe
    assert origin is not None
    plan = origin if isinstance(origin, Recipe) else recipes.load(origin, set=set, trust=trust)
    asked = plan.tables["evaluation"]
    chosen: str = asked["suite"] if suite is None else suite
    source = plan.source()
    plan = plan.fitted(source)
    if run is not None and out is None:
        out = run / "results" / f"{chosen}-{split}.json"
    return evaluation.evaluate(
        model
        if isinstance(model, nn.Module)
        else weighted(plan, run / BEST if run else Path(model)),
        source,
        plan.threat() or "Linf",
        chosen,
        eps=asked.get("eps") if eps is None else eps,
        split=split,
        n=asked.get("n") if n is None else n,
        precision=precision,
        seed=plan.seed,
        out=out,
        name=run.resolve().name if run else plan.name,
        recipe=plan.tables,
        train={} if run is None else history(run),
        progress=progress,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )


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
    reporting.page(results, page)
    return results, page


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
