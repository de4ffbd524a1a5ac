"""The command line: train · study · evaluate · metrics · plane · report · pseudo-label · list ·
cite.

Each calls one function of ours.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from .console import console, explain, plain
from .options import Compile, Device, Radii, Set, Trust, norms, numbers

MISTAKES = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)

app = typer.Typer(
    name="sparring",
    help="Train classifiers against an adversary, and measure honestly what that bought.",
    epilog="A first session: sparring train digits-mart · "
    "sparring evaluate runs/digits-mart · sparring report runs/*",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"sparring {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """What every command takes; `main` looks for `--debug` itself, wherever it stands."""


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (see: sparring list recipes) or a .toml file.")
    ],
    out: Annotated[Path | None, typer.Option(help="The run folder. By default runs/NAME.")] = None,
    set: Set = [],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in that folder.")
    ] = False,
    trust: Trust = False,
    device: Device = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order and draws; the recipe's by default.")
    ] = None,
) -> None:
    """Train a model; the run folder holds its recipe, log, checkpoints and best weights."""
    from ..commands import train

    changes = set if seed is None else [*set, f"recipe.seed={seed}"]
    folder = train.train(
        recipe, out=out, set=changes, resume=resume, trust=trust, device=device, progress=True
    )
    if os.environ.get("RANK", "0") == "0":
        print(folder)


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A run folder; a file of weights, with --recipe; or, with --data and --eps, a "
            'TorchScript, torch.export or ONNX file, or "module:Class".',
            metavar="MODEL",
        ),
    ],
    suite: Annotated[
        str | None, typer.Option(help="See: sparring list suites. By default the recipe's.")
    ] = None,
    eps: Radii = [],
    threat: Annotated[
        str | None, typer.Option(help="The norm, as Linf. By default the recipe's, or Linf.")
    ] = None,
    at: Annotated[
        list[str],
        typer.Option(help="Several norms: --at Linf=0.1 --at L2=1.5, in place of --threat, --eps."),
    ] = [],
    surrogate: Annotated[
        Path | None, typer.Option(help="Another run; points made on its model are tried too.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Budget of time; the accuracy is then an upper bound.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Budget of forward passes, over all samples.")
    ] = None,
    certify: Annotated[
        list[str],
        typer.Option(help="Lower bounds: ibp, crown-ibp, crown or smoothing. Repeatable."),
    ] = [],
    probes: Annotated[
        list[str] | None,
        typer.Option(
            help="Look inside the model too: jacobian, trajectory, gradient, introspection, drift, "
            "statistics, references, transport, surface, masking, or all. Repeatable."
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option(help="Only so many samples, drawn with the recipe's seed.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    batch: Annotated[int, typer.Option(help="Samples at once.")] = 250,
    precision: Annotated[
        str, typer.Option(help="float32 or bfloat16 inside the attacks.")
    ] = "float32",
    compile: Compile = False,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe of a model trained elsewhere.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="For a model without recipe: a name (sparring list data) or a file."),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="What a model without recipe subtracts first: 0.5, or one a channel."),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="What it then divides by, as 0.25 or 0.247,0.243,0.261.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="255 for a model that takes 0..255.")] = None,
    outputs: Annotated[
        str, typer.Option(help="What a model without recipe gives: logits or probabilities.")
    ] = "logits",
    out: Annotated[
        Path | None,
        typer.Option(help="The result's file. By default RUN/results/SUITE-SPLIT.json."),
    ] = None,
    robustbench: Annotated[
        Path | None,
        typer.Option(help="Write an entry of RobustBench too; the suite is then autoattack."),
    ] = None,
    set: Set = [],
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Attack a model with a suite, and recount what is left."""
    from .. import reporting
    from ..commands import evaluate
    from ..results import leaderboard

    if robustbench is not None:
        suite = suite or leaderboard.SUITE
        leaderboard.check_request(path=robustbench, suite=suite, split=split, eps=eps)
    result = evaluate.evaluate(
        model,
        suite=suite,
        eps=eps or None,
        threat=norms(at, threat, eps) if at else threat,
        surrogate=surrogate,
        seconds=seconds,
        queries=queries,
        certify=certify,
        probes=probes or None,
        n=n,
        split=split,
        batch=batch,
        precision=precision,
        compile=compile,
        recipe=recipe,
        data=data,
        mean=numbers("mean", mean),
        std=numbers("std", std),
        scale=scale,
        outputs=outputs,
        out=out,
        set=set,
        trust=trust,
        device=device,
        progress=True,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    console().print(reporting.table([result]))
    if robustbench is not None:
        print(leaderboard.write_entry(result, robustbench))


@app.command()
def metrics(
    run: Annotated[str, typer.Argument(help="A run folder; or a file of weights, with --recipe.")],
    metric: Annotated[
        list[str],
        typer.Option(help="See: sparring list metrics. Repeatable; all by default."),
    ] = [],
    off: Annotated[
        list[str],
        typer.Option(help="Other data, off the support, as fashion-mnist. Repeatable."),
    ] = [],
    argument: Annotated[
        list[str],
        typer.Option(
            "--with", metavar="KEY=VALUE", help="As ebd.directions=20 or eni.eps=0.05. Repeatable."
        ),
    ] = [],
    n: Annotated[int, typer.Option(help="Samples, drawn with the seed.")] = 200,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    batch: Annotated[int, typer.Option(help="Samples at once.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the samples and all draws.")] = 0,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe of a model trained elsewhere.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file. By default RUN/metrics/SPLIT.json.")
    ] = None,
    set: Set = [],
    trust: Trust = False,
    device: Device = None,
) -> None:
    """ProbeValue how far, how steep and how flat: metrics beside accuracy under attack."""
    from .. import reporting
    from ..commands import metrics as room

    found = room.metrics(
        run,
        metric,
        off=off,
        n=n,
        split=split,
        batch=batch,
        seed=seed,
        arguments=argument,
        recipe=recipe,
        out=out,
        set=set,
        trust=trust,
        device=device,
        progress=True,
    )
    if os.environ.get("RANK", "0") == "0":
        console().print(reporting.metrics_table([found]))


@app.command()
def plane(
    data: Annotated[str, typer.Argument(help="moons, circles, blobs, spirals or checkers.")],
    recipes: Annotated[
        list[str],
        typer.Argument(
            help="Recipes, each perhaps with changes, as plane-trades:method.beta=6.",
            metavar="RECIPE...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The figure, .png, .svg or .pdf.")] = Path("plane.png"),
    table: Annotated[Path | None, typer.Option(help="Write what was measured, as .json.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each; the first one is drawn.")] = 1,
    points: Annotated[int, typer.Option(help="Training points.")] = 100,
    steps: Annotated[int, typer.Option(help="Batches of a training.")] = 1500,
    eps: Annotated[
        list[float],
        typer.Option(help="Radius in Linf, in standard deviations of the data. Repeatable."),
    ] = [0.2, 0.3],
) -> None:
    """Train recipes on points in the plane; draw boundary, slope, generated points, distance."""
    from ..commands import plane as room
    from ..reporting import boundary_2d as figures

    found = room.plane(
        data, recipes, seeds=seeds, points=points, steps=steps, eps=eps, out=out, table=table
    )
    console().print(figures.rows(found))
    print(out)


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders or result files; several are compared.", metavar="RUN..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page. By default report.html in the run, or here for several."),
    ] = None,
) -> None:
    """Print the table of results, and write them as one page that needs no network."""
    from .. import reporting
    from ..commands import report

    results, page = report.report(runs, out=out)
    console().print(reporting.table(results))
    print(page)


@app.command("study")
def study_(
    file: Annotated[Path, typer.Argument(help="A .toml file: runs, seeds, evaluations.")],
    runs: Annotated[
        Path | None, typer.Option(help="Where run folders stand. By default runs/STUDY.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Where results go. By default results/STUDY.")
    ] = None,
    only: Annotated[list[str], typer.Option(help="A run, with or without seed. Repeatable.")] = [],
    report: Annotated[Path | None, typer.Option(help="Write a page of its results, too.")] = None,
    device: Device = None,
) -> None:
    """Train and measure several recipes and seeds alike; what is done already is kept."""
    from .. import reporting
    from ..commands import study

    plan = study.load(file)
    found = study.work(plan, runs=runs, results=results, only=only, device=device, progress=True)
    print(reporting.study_markdown(found.results, found.measures))
    if report is not None:
        print(study.page(plan, found, report))


@app.command("pseudo-label")
def pseudo_label(
    run: Annotated[Path, typer.Argument(help="The run whose model gives the labels.")],
    data: Annotated[
        str | None,
        typer.Option(help="A name or file whose rows get them. By default the run's own data."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file. By default RUN/pseudo-labels.npz.")
    ] = None,
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Label rows by a run's model, for recipes that train on them too."""
    from ..commands import pseudo_label

    print(pseudo_label.label(run, data=data, out=out, trust=trust, device=device))


@app.command("list")
def list_(
    what: Annotated[str | None, typer.Argument(help="One kind only; names, one a line.")] = None,
) -> None:
    """What there is: recipes, models, data, mix, attacks, threats, methods, risks, suites."""
    from ..commands import list

    print(list.listing(what))


@app.command()
def cite(
    name: Annotated[str, typer.Argument(help="A recipe, a run folder, or a piece, as TRADES.")],
) -> None:
    """Print the BibTeX of the papers behind a recipe or a piece."""
    from ..commands import cite

    print(cite.cite(name))


def main() -> None:
    """Run the command line: 0 done, 2 a mistake of the caller's, 1 a failure, 130 interrupted."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    warnings.formatwarning = plain
    try:
        app(arguments, prog_name="sparring")
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        mistake = isinstance(error, MISTAKES) and not isinstance(error, ArithmeticError)
        explain(error, mistake)
        sys.exit(2 if mistake else 1)


if __name__ == "__main__":
    main()
