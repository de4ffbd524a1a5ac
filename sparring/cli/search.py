"""The verb that searches: search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import completion
from .console import closing, show
from .options import Device, Set, Trust, is_main_process
from .training import stop


def search(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A shipped recipe (see: sparring list recipes) or a .toml file.",
            autocompletion=completion.recipes,
        ),
    ],
    space: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="What to search: method.beta=1..10:log, train.optimizer.lr=0.01..0.3:log, or "
            "choices as method=MART,TRADES. Repeatable.",
        ),
    ] = [],
    trials: Annotated[int, typer.Option(help="Number of trainings, all sessions together.")] = 30,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search (default: runs/NAME-search).")
    ] = None,
    fidelity: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            help="Change of the trials alone, to make them cheap, such as train.epochs=3 or "
            "data.limit=1000. Repeatable.",
        ),
    ] = [],
    prune: Annotated[
        bool,
        typer.Option(help="End trials early that are behind the median of the complete ones."),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the values that are tried.")] = 0,
    set: Set = [],
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Search the numbers of a recipe by their robust accuracy on the validation split.

    Ctrl-C stops it; the same command goes on.
    """
    options = {k: v for k, v in locals().items() if k not in ("recipe", "space")}
    from .. import reporting
    from ..commands import search

    try:
        done = search.search(recipe, space, **options, progress=True)
    except search.SearchInterrupted as interrupted:
        words: list[str | Path] = ["sparring", "search", recipe, "--trials", str(trials)]
        words += ["--out", interrupted.out]
        repeated = {"--space": space, "--set": set, "--fidelity": fidelity}
        words += [w for key, texts in repeated.items() for text in texts for w in (key, text)]
        words += ["--no-prune"] * (not prune) + ["--seed", str(seed)] * (seed != 0)
        words += ["--trust"] * trust + (["--device", device] if device else [])
        stop(words)
    if is_main_process():
        show(reporting.search_summary(done.record))
        has_best = done.best is not None
        train = ["sparring", "train", done.recipe]
        closing([done.page, *([done.recipe] if has_best else [])], train if has_best else [])
