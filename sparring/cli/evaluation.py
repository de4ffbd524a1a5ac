"""The verbs that measure: evaluate, metrics, compare and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..runtime.output import write_line
from ..runtime.text import printable
from . import completion
from .console import GATE_FAILED, closing, explain_gate, show
from .options import (
    N_NAMES,
    AddOnly,
    At,
    Certify,
    Classes,
    Data,
    Details,
    Device,
    FailOn,
    FailUnder,
    Junit,
    Keep,
    Mean,
    Mutable,
    Outputs,
    Points,
    Probes,
    Processes,
    Radii,
    Radius,
    RobustBench,
    Sample,
    Samples,
    Scale,
    Set,
    Std,
    Trust,
    is_main_process,
    norms,
    numbers,
)

OF_THREAT = ("add_only", "mutable", "classes")
ONLY_HERE = ("at", "points", "robustbench", "details", "fail_under", "fail_on", "junit", *OF_THREAT)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A run folder; a file of weights, with --recipe; or, with --data and --eps, a "
            'TorchScript, torch.export, ONNX or skops file, or "module:Class".',
            metavar="MODEL",
            autocompletion=completion.runs,
        ),
    ],
    suite: Annotated[
        str | None,
        typer.Option(
            help="Suite of attacks (see: sparring list suites; default: the recipe's).",
            autocompletion=completion.suites,
        ),
    ] = None,
    eps: Radii = [],
    threat: Annotated[
        str | None,
        typer.Option(help="Norm, such as Linf, or Bits (default: from the recipe, else Linf)."),
    ] = None,
    add_only: AddOnly = None,
    mutable: Mutable = None,
    classes: Classes = [],
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
    keep: Keep = None,
    points: Points = None,
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
    fit_memory: Annotated[
        bool | None,
        typer.Option(
            help="Halve the batch size until memory holds a batch; the notes say to what."
        ),
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
    sample: Sample = None,
    processes: Processes = 1,
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
    fail_under: FailUnder = None,
    fail_on: FailOn = None,
    junit: Junit = None,
    set: Set = [],
    trust: Trust = False,
    details: Details = False,
    device: Device = None,
) -> None:
    """Attack a model with a suite; print clean and robust accuracy, judged outside the attacks.

    The exit code is 3 if the result fails --fail-under or --fail-on.
    """
    # The library has the same names for all other options. A list of them here would be one more
    # place to change for a new option.
    options = {
        name: value
        for name, value in locals().items()
        if name not in ("model", *ONLY_HERE) and value != []
    }
    from .. import reporting
    from ..commands import evaluate, rehearsal
    from ..commands.requested_threat import RequestedThreat
    from ..results import gates, leaderboard
    from ..results.points import SHOWN_ONLY, check_file

    gate = gates.Gate(fail_under, fail_on).check()
    rehearsal.check_files(junit=junit, endings=(".xml",))
    if points is not None:
        rehearsal.check_files(points=points)
        check_file(points)
        options["keep"] = "all" if keep in (None, SHOWN_ONLY) else keep
    if robustbench is not None:
        options["suite"] = suite = suite or leaderboard.SUITE
        rehearsal.check_files(robustbench=robustbench)
        leaderboard.check_request(path=robustbench, suite=suite, split=split or "test", eps=eps)
    if at:
        options["threat"] = norms(at, threat, eps)
    if add_only is not None or mutable is not None or classes:
        if at:
            raise ValueError(
                "at takes no add-only, mutable or classes: give one --threat and --eps"
            )
        options["threat"] = RequestedThreat(threat, add_only, mutable, classes)
    options |= {"mean": numbers("mean", mean), "std": numbers("std", std)}
    result, file = evaluate.evaluate_to_file(model, **options, progress=True)
    if not is_main_process():
        return
    show(reporting.table([result], details=details))
    written = [] if file is None else [file]
    if points is not None:
        written.append(result.save_points(points))
    if junit is not None:
        written.append(gates.write_junit(result, gate, junit))
    refused = None
    if robustbench is not None:
        try:
            written.append(leaderboard.write_entry(result, robustbench))
        except ValueError as error:
            refused = error  # once the gate has said what it has to say
    run = Path(model)
    subject = run if out is None and run.is_dir() else file
    closing(written, ["sparring", "report", subject] if subject else [])
    if failures := gate.failures(result):
        for failure in failures:
            explain_gate(failure)
        raise typer.Exit(GATE_FAILED) from refused
    if refused is not None:
        raise refused


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders or result files.",
            metavar="RUN...",
            autocompletion=completion.runs,
        ),
    ],
    at: Radius = None,
    details: Details = False,
) -> None:
    """Print one table of several runs, best first, and their differences; write nothing."""
    from .. import reporting
    from ..commands import compare

    compared = compare.compare(runs, at=at)
    show(reporting.table(compared.results, at=at, details=details))
    for reason in compared.skipped:
        write_line(f"skipped: {reason}")


def metrics(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder; or a file of weights, with --recipe.",
            autocompletion=completion.runs,
        ),
    ],
    metric: Annotated[
        list[str],
        typer.Option(
            help="Metric, see sparring list metrics (default: all). Repeatable.",
            autocompletion=completion.metrics,
        ),
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
    if is_main_process():
        show(reporting.metrics_table([metric_report]))
        # As `commands.metrics` names it.
        file = out or (Path(run, "metrics", f"{split}.json") if Path(run).is_dir() else None)
        closing([file] if file else [])


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders or result files; several are compared.",
            metavar="RUN...",
            autocompletion=completion.runs,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Page (default: report.html in the run; for several, here)."),
    ] = None,
    at: Radius = None,
) -> None:
    """Write one page of results that works offline; print a line per result.

    Runs that were not evaluated yet are left out, and named.
    """
    from .. import reporting
    from ..commands import report

    done = report.report(runs, out=out, at=at)
    show(reporting.summary_lines(done.results, at=at))
    for run in done.skipped:
        write_line(
            f"skipped {printable(run)}, not evaluated yet: sparring evaluate {printable(run)}"
        )
    closing([done.page])
