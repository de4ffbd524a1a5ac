"""Define the command line: `sparring X` calls one function of `commands/X.py`."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Annotated

import typer

from .. import __version__
from ..runtime.output import make_legible
from . import evaluation, listing, pictures, search, serving, sharing, training
from .console import explain, format_warning, is_mistake

app = typer.Typer(
    name="sparring",
    help="Train classifiers against an adversary, and measure honestly what that bought.",
    epilog="A first session: sparring train digits-mart · "
    "sparring evaluate runs/digits-mart · sparring report runs/*",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The order of the help.
PANELS = {
    "Train and measure": (
        training.train,
        evaluation.evaluate,
        evaluation.report,
        evaluation.compare,
        evaluation.metrics,
        training.study,
        search.search,
        training.plane,
        training.pseudo_label,
    ),
    "Try and share": (pictures.attack, serving.serve, sharing.export, sharing.card, sharing.push),
    "Look up": (listing.list_, listing.show, listing.runs, listing.cite),
}
for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(verb.__name__.strip("_").replace("_", "-"), rich_help_panel=panel)(verb)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"sparring {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Declare what every command takes; `main` reads `--debug` itself, wherever it is written."""


def main() -> None:
    """Run the command line; exit with 0, 1 for a failure, 2 for a mistake of the caller, 3 for a
    result below the demands of a pipeline, or 130."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    warnings.formatwarning = format_warning
    make_legible()
    try:
        app(arguments, prog_name="sparring")
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        mistake = is_mistake(error)
        explain(error, mistake)
        sys.exit(2 if mistake else 1)


if __name__ == "__main__":
    main()
