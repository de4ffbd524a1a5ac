"""Options that commands share, and numbers written as text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.annotations import shortened
from ..runtime.fractions import parse_number
from . import completion

# torchrun takes --n for a shortened option of its own, even behind the command.
N_NAMES = ("--n", "--samples")
Samples = Annotated[
    int | None,
    typer.Option(
        *N_NAMES,
        help="Number of samples, drawn with the recipe's seed (default: the recipe's, else all).",
    ),
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change the recipe, such as train.epochs=3 or method=MART; or, with --data, how the "
        "data are read, such as data.label=kind. Repeatable.",
    ),
]
Radii = Annotated[
    list[float],
    typer.Option(
        parser=parse_number,
        metavar="FLOAT",
        help="Radius in input units, such as 0.3 or 8/255 (default: the recipe's). Repeatable.",
    ),
]
Radius = Annotated[
    float | None,
    typer.Option(
        parser=parse_number,
        metavar="FLOAT",
        help="Radius at which to compare, such as 0.1 or 8/255 (default: the recipe's own, else "
        "the one nearest to 50 % robust accuracy).",
    ),
]
Details = Annotated[
    bool, typer.Option("--details", help="Print every attack with its cost, and all pairs, too.")
]
Certify = Annotated[
    list[str] | None,
    typer.Option(
        help="Lower bounds on robust accuracy: ibp, crown-ibp, crown or smoothing. Repeatable."
    ),
]
Probes = Annotated[
    list[str] | None,
    typer.Option(
        help="Measurements inside the model: jacobian, trajectory, gradient, introspection, "
        "drift, statistics, references, transport, surface, masking, or all. Repeatable."
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        help="Worst points in the result: shown (of at most 16 samples), all, or all as uint8, "
        "float16 or float32 (default: shown)."
    ),
]
Sample = Annotated[
    int | None,
    typer.Option(
        help="Run the costly last attacks of a suite, such as autoattack, on this many random "
        "survivors and the nearest ones; on all once one of the random ones breaks (default: on "
        "all). The result says what that leaves open."
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        help="Processes of this machine that share the batches, each with its part of the threads."
    ),
]
Points = Annotated[
    Path | None,
    typer.Option(
        help="Also write the worst point of every sample to this .pt or .npy file, float32. "
        "Implies --keep all."
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help='Allow pieces from outside, named "module:Class", and programs as models. '
        "Loading them runs their code.",
    ),
]
At = Annotated[
    list[str],
    typer.Option(
        help="Norm and radius, in place of --threat and --eps, such as --at Linf=0.1 --at L2=1.5. "
        "Repeatable."
    ),
]
AddOnly = Annotated[
    bool | None,
    typer.Option(
        "--add-only/--add-and-remove",
        help="With --threat Bits: may features only be added, or removed too (default: added).",
    ),
]
Mutable = Annotated[
    Path | None,
    typer.Option(
        help="With --threat Bits: file of the features that an attacker can change, a name per "
        "line, or a 0 or 1 per feature (default: all, or those that the data name).",
    ),
]
Classes = Annotated[
    list[str],
    typer.Option(
        help="Attack only the samples of this class, a name or a number, such as malware "
        "(default: all). Repeatable.",
    ),
]
RobustBench = Annotated[
    Path | None,
    typer.Option(help="File for a RobustBench leaderboard entry; the suite is then autoattack."),
]
FailUnder = Annotated[
    float | None,
    typer.Option(
        help="Exit with 3 if robust accuracy at the largest radius is below this share, such as "
        "0.5 (default: no demand)."
    ),
]
FailOn = Annotated[
    str | None,
    typer.Option(
        help="Exit with 3 if the measurement is not sound (not-sound), or if it needs a look "
        "(look); default: no demand."
    ),
]
Junit = Annotated[
    Path | None, typer.Option(help="Also write the outcome as JUnit XML, for a pipeline.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data for a model without recipe: a name (see: sparring list data) or a file.",
        autocompletion=completion.data,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Mean that normalizes inputs of a model without recipe: one number, or one per "
        "channel, such as 0.49,0.48,0.45."
    ),
]
Std = Annotated[
    str | None, typer.Option(help="Standard deviation that normalizes inputs, as --mean.")
]
Scale = Annotated[
    float | None,
    typer.Option(help="Largest input of a model without recipe: 255 for inputs in 0..255."),
]
Outputs = Annotated[
    str, typer.Option(help="Outputs of a model without recipe: logits or probabilities.")
]
Device = Annotated[
    str | None, typer.Option(help="Device: cpu, cuda, cuda:1 … (default: the best available).")
]


def is_main_process() -> bool:
    """Return whether this process prints: under torchrun, the first one alone does."""
    return os.environ.get("RANK", "0") == "0"


def norms(at: list[str], threat: str | None, eps: list[float]) -> dict[str, list[float]]:
    """Collect radii by norm from texts "NORM=EPS".

    >>> norms(["Linf=0.1", "L2=1", "Linf=0.2"], None, [])
    {'Linf': [0.1, 0.2], 'L2': [1.0]}
    """
    if threat is not None or eps:
        raise ValueError("at takes the place of threat and eps: give --at NORM=EPS alone")
    radii: dict[str, list[float]] = {}
    for text in at:
        name, _, radius = text.partition("=")
        radii.setdefault(name, []).extend(numbers("at", radius or text) or [])
    return radii


def numbers(key: str, text: str | None) -> list[float] | None:
    """Read one number, or several with commas between them.

    >>> numbers("mean", "0.5,0.25")
    [0.5, 0.25]
    """
    try:
        return None if text is None else [parse_number(part) for part in text.split(",")]
    except ValueError:
        allowed = f"{key} must be a number, or several: 0.5,0.4,0.3"
        raise ValueError(f"{key} = {shortened(text)} is not allowed: {allowed}") from None


def slurm_options(texts: list[str]) -> dict[str, int | str]:
    """Read parameters of Slurm from texts "KEY=VALUE"; whole numbers become integers.

    >>> slurm_options(["time=600", "partition=gpu"])
    {'time': 600, 'partition': 'gpu'}
    """
    options: dict[str, int | str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise ValueError(f"slurm = {shortened(text)} is not allowed: it must be KEY=VALUE")
        options[key.strip()] = int(value) if value.strip().isdecimal() else value.strip()
    return options
