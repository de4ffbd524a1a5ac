"""Define the command line: `sparring X` calls one function of `commands/X.py`."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..runtime.output import make_legible, write_line
from .console import explain, format_warning, is_mistake, show
from .options import (
    N_NAMES,
    At,
    Certify,
    Data,
    Device,
    Mean,
    Outputs,
    Probes,
    Radii,
    RobustBench,
    Samples,
    Scale,
    Set,
    Std,
    Trust,
    norms,
    numbers,
)

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


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (see: sparring list recipes) or a .toml file.")
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/NAME).")] = None,
    set: Set = [],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in that folder, or start it.")
    ] = False,
    trust: Trust = False,
    device: Device = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order and draws (default: the recipe's).")
    ] = None,
) -> None:
    """Train a model; the run folder holds its recipe, log, checkpoints and best weights."""
    from ..commands import train

    changes = set if seed is None else [*set, f"recipe.seed={seed}"]
    folder = train.train(
        recipe, out=out, set=changes, resume=resume, trust=trust, device=device, progress=True
    )
    if os.environ.get("RANK", "0") == "0":
        write_line(folder)


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
        str | None,
        typer.Option(help="Suite of attacks (see: sparring list suites; default: the recipe's)."),
    ] = None,
    eps: Radii = [],
    threat: Annotated[
        str | None, typer.Option(help="Norm, such as Linf (default: from the recipe, else Linf).")
    ] = None,
    at: At = [],
    surrogate: Annotated[
        Path | None,
        typer.Option(help="Run whose model gives transferred adversarial inputs."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Time budget of the attacks in seconds; the robust accuracy is then an upper "
            "bound (default: none)."
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(help="Budget of forward passes, counted in samples (default: none)."),
    ] = None,
    certify: Certify = None,
    probes: Probes = None,
    n: Samples = None,
    first: Annotated[
        bool | None,
        typer.Option(help="Take the first samples in the data's order, instead of drawing them."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data: test, val or train (default: test).")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", "--batch", help="Samples per batch (default: 250)."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision inside the attacks: float32, bfloat16 or float16 (default: float32)."
        ),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            help="Attack the compiled model: faster in long evaluations, slower in short ones.",
        ),
    ] = None,
    cascade: Annotated[
        bool | None,
        typer.Option(
            help="Attack only samples that all attacks before left robust (default: the suite's)."
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of a model trained elsewhere.")] = None,
    data: Data = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    outputs: Outputs = "logits",
    out: Annotated[
        Path | None,
        typer.Option(help="Result file (default: RUN/results/SUITE-SPLIT.json)."),
    ] = None,
    robustbench: RobustBench = None,
    set: Set = [],
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Attack a model with a suite; print clean and robust accuracy, judged outside the attacks."""
    # The library has the same names for all options but these three. A list of the others here
    # would be one more place to change for a new option.
    options = {
        name: value
        for name, value in locals().items()
        if name not in ("model", "at", "robustbench") and value != []
    }
    from .. import reporting
    from ..commands import evaluate, rehearsal
    from ..results import leaderboard

    if robustbench is not None:
        options["suite"] = suite = suite or leaderboard.SUITE
        rehearsal.check_files(robustbench=robustbench)
        leaderboard.check_request(path=robustbench, suite=suite, split=split or "test", eps=eps)
    if at:
        options["threat"] = norms(at, threat, eps)
    options |= {"mean": numbers("mean", mean), "std": numbers("std", std)}
    result = evaluate.evaluate(model, **options, progress=True)
    if os.environ.get("RANK", "0") != "0":
        return
    show(reporting.table([result]))
    if robustbench is not None:
        write_line(leaderboard.write_entry(result, robustbench))


@app.command()
def metrics(
    run: Annotated[str, typer.Argument(help="A run folder; or a file of weights, with --recipe.")],
    metric: Annotated[
        list[str],
        typer.Option(help="Metric, see sparring list metrics (default: all). Repeatable."),
    ] = [],
    off: Annotated[
        list[str],
        typer.Option(help="Data set unlike the training data, such as fashion-mnist. Repeatable."),
    ] = [],
    argument: Annotated[
        list[str],
        typer.Option(
            "--with",
            metavar="KEY=VALUE",
            help="Argument of a metric, such as ebd.directions=20. Repeatable.",
        ),
    ] = [],
    n: Annotated[int, typer.Option(*N_NAMES, help="Number of samples, drawn with the seed.")] = 200,
    split: Annotated[str, typer.Option(help="Split: test, val or train.")] = "test",
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch", help="Samples per pass.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the samples and of all draws.")] = 0,
    recipe: Annotated[str | None, typer.Option(help="Recipe of a model trained elsewhere.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Result file (default: RUN/metrics/SPLIT.json).")
    ] = None,
    set: Set = [],
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Measure distances to the boundary, slopes and flatness, beside accuracy under attack."""
    from .. import reporting
    from ..commands import metrics

    metric_report = metrics.metrics(
        run,
        metric,
        off=off,
        n=n,
        split=split,
        batch_size=batch_size,
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
        show(reporting.metrics_table([metric_report]))


@app.command()
def plane(
    data: Annotated[
        str, typer.Argument(help="Points: moons, circles, blobs, spirals or checkers.")
    ],
    recipes: Annotated[
        list[str],
        typer.Argument(
            help="Recipes, optionally with changes, such as plane-trades:method.beta=6.",
            metavar="RECIPE...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Figure, .png, .svg or .pdf.")] = Path("plane.png"),
    table: Annotated[Path | None, typer.Option(help="Also write numbers to this .json.")] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of trainings per recipe; the first is drawn.")
    ] = 1,
    points: Annotated[int, typer.Option(help="Number of training points.")] = 100,
    steps: Annotated[int, typer.Option(help="Number of training batches.")] = 1500,
    eps: Annotated[
        list[float],
        typer.Option(help="Radius in Linf, in standard deviations of the data. Repeatable."),
    ] = [0.2, 0.3],
) -> None:
    """Train recipes on points in the plane; draw boundary, slope, generated points, distance."""
    from ..commands import plane, rehearsal
    from ..reporting import boundary_2d

    rehearsal.check_files(out=out, table=table)
    numbers = plane.plane(
        data, recipes, seeds=seeds, points=points, steps=steps, eps=eps, out=out, table=table
    )
    show(boundary_2d.rows(numbers))
    write_line(out)


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders or result files; several are compared.", metavar="RUN..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Page (default: report.html in the run; for several, here)."),
    ] = None,
) -> None:
    """Print the table of results, and write one page of them that works offline."""
    from .. import reporting
    from ..commands import report

    done = report.report(runs, out=out)
    show(reporting.table(done.results))
    for path in done.skipped:
        write_line(f"skipped {path}, which was not evaluated yet")
    write_line(done.page)


@app.command("study")
def study_(
    file: Annotated[Path, typer.Argument(help="Study, a .toml file: runs, seeds, evaluations.")],
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs (default: runs/STUDY).")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder of the results (default: results/STUDY).")
    ] = None,
    only: Annotated[
        list[str], typer.Option(help="Only this run, with or without its seed. Repeatable.")
    ] = [],
    report: Annotated[Path | None, typer.Option(help="Write a page of the results too.")] = None,
    device: Device = None,
) -> None:
    """Train and evaluate several recipes and seeds alike; finished parts are kept."""
    from .. import reporting
    from ..commands import rehearsal, study

    plan = study.load(file)
    rehearsal.check_files(report=report)
    done = study.run(plan, runs=runs, results=results, only=only, device=device, progress=True)
    write_line(reporting.study_markdown(done.results, done.metric_reports))
    if report is not None:
        write_line(study.page(plan, done, report))


@app.command("pseudo-label")
def pseudo_label(
    run: Annotated[Path, typer.Argument(help="Run folder whose model gives the labels.")],
    data: Annotated[
        str | None,
        typer.Option(help="Data set or file to label (default: the run's own data)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Label file (default: RUN/pseudo-labels.npz).")
    ] = None,
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Label rows by a run's model, for recipes that train on unlabelled rows."""
    from ..commands import pseudo_label, rehearsal

    rehearsal.check_files(out=out)
    write_line(pseudo_label.label(run, data=data, out=out, trust=trust, device=device))


@app.command("list")
def list_(
    what: Annotated[
        str | None, typer.Argument(help="Kind to list, such as attacks (default: all kinds).")
    ] = None,
) -> None:
    """List recipes, models, data, mix, attacks, threats, methods, risks, weights, suites,
    metrics."""
    from ..commands import list

    write_line(list.listing(what))


@app.command()
def cite(
    name: Annotated[str, typer.Argument(help="Recipe, run folder, data set, or piece (TRADES).")],
) -> None:
    """Print the BibTeX of the papers behind a recipe or a piece."""
    from ..commands import cite

    write_line(cite.cite(name))


def main() -> None:
    """Run the command line; exit with 0, 2 for a mistake of the caller, 1 for a failure, or 130."""
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
