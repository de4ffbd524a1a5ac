"""The verbs that train: train, study, pseudo-label and plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..runtime.output import write_line
from ..runtime.text import printable
from . import completion
from .console import closing, console, shell_text, show
from .options import Device, Set, Trust, is_main_process, slurm_options

if TYPE_CHECKING:
    from ..commands.study import Study, StudyResults


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A shipped recipe (see: sparring list recipes) or a .toml file; with --resume, "
            "also a run folder.",
            autocompletion=completion.recipes_and_runs,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/NAME).")] = None,
    set: Set = [],
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in that folder, by its own recipe and changes; or start it.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check recipe, data, network and evaluation, say how long it would take, and "
            "write nothing.",
        ),
    ] = False,
    trust: Trust = False,
    device: Device = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order and draws (default: the recipe's).")
    ] = None,
    start: Annotated[
        Path | None,
        # torchrun takes --start for a shortened option of its own.
        typer.Option(
            "--start",
            "--from",
            help="Weights to begin from: a file or a run folder. --set train.freeze=[...] and "
            "train.start_without=[...] name modules.",
            autocompletion=completion.runs,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Train by the clock: schedules are laid over this time, which ends it."),
    ] = None,
) -> None:
    """Train a model; the run folder holds its recipe, log, checkpoints and best weights.

    Ctrl-C stops it, and prints the command that goes on.
    """
    from ..commands import train
    from ..config.overrides import as_toml

    changes = set if seed is None else [*set, f"recipe.seed={seed}"]
    # in quotes: a name such as 2024 would be a number
    changes = changes if start is None else [*changes, f"train.start={as_toml(str(start))}"]
    changes = changes if seconds is None else [*changes, f"train.seconds={seconds}"]
    options = {"out": out, "set": changes, "resume": resume, "trust": trust, "device": device}
    if dry_run:
        _dry_run(recipe, options)
        return
    try:
        folder = train.train(recipe, **options, progress=True)
    except train.TrainingInterrupted as interrupted:
        more = ["--trust"] * trust + (["--device", device] if device else [])
        resumes = ["sparring", "train", interrupted.run, "--resume", *more]
        stop(resumes if train.is_run(interrupted.run) else [])
    if is_main_process():
        closing([folder], ["sparring", "evaluate", folder])


def stop(resumes: list[str | Path]) -> NoReturn:
    """Say which command goes on, and exit with 130."""
    from rich.text import Text

    if is_main_process():
        text = f"to go on: {shell_text(resumes)}" if resumes else "nothing was written yet"
        console(error=True).print(Text(f"stopped; {text}"), soft_wrap=True)
    raise typer.Exit(130)


def _dry_run(recipe: str, options: dict[str, Any]) -> None:
    from ..commands import show

    run, summary = show.rehearse(recipe, **options)
    if is_main_process():
        write_line(summary.header())
        write_line(f"checked; nothing written. The run folder would be {printable(run)}")


def study(
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
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", help="Runs at once, each in a process with a log of its own."),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads of each run (default: all; with --jobs N, cores / N)."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only part I of N, for N machines (default: all)."),
    ] = None,
    slurm: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            help="Submit the runs to Slurm with this parameter of submitit, such as time=600 or "
            "partition=gpu. Repeatable.",
        ),
    ] = [],
    report: Annotated[Path | None, typer.Option(help="Write a page of the results too.")] = None,
    device: Device = None,
) -> None:
    """Train and evaluate several recipes and seeds alike; finished parts are kept.

    A run that fails does not stop the others; the exit code is then 2.
    """
    from ..commands import rehearsal, study

    plan = study.load(file)
    rehearsal.check_files(report=report, endings=rehearsal.PAGES)
    options = {"runs": runs, "results": results, "only": only, "shard": shard, "threads": threads}
    if slurm:
        _submitted(study.submit(plan, slurm_options(slurm), **options, device=device))
        return
    try:
        done = study.run(plan, **options, jobs=jobs, device=device, progress=True)
    except KeyboardInterrupt:
        given = {f"--{key}": value for key, value in options.items() if key != "only"}
        given |= {"--jobs": jobs if jobs > 1 else None, "--report": report, "--device": device}
        words = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
        stop(["sparring", "study", file, *words, *(w for name in only for w in ("--only", name))])
    _shown(plan, done, file, results or Path("results", plan.name), report)


def _shown(plan: Study, done: StudyResults, file: Path, results: Path, report: Path | None) -> None:
    """Print the table of a study, and write its page if that was asked for."""
    from .. import reporting
    from ..commands import study

    pages = [] if report is None else [study.page(plan, done, report)]
    if not console().is_terminal:
        write_line(reporting.study_markdown(done.results, done.metric_reports))
        closing(pages)
        return
    show(reporting.study_summary(done, plan))
    page_next = ["sparring", "study", file, "--report", f"{plan.name}.html"]
    closing([results, *pages], [] if pages else page_next)


def _submitted(numbers: dict[str, str]) -> None:
    for name, number in numbers.items():
        write_line(f"{name}: submitted as job {number}")
    write_line(f"{len(numbers)} submitted; the same command without --slurm shows what is done")


def pseudo_label(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder whose model gives the labels.", autocompletion=completion.runs
        ),
    ],
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
    closing([out] if table is None else [table, out])
