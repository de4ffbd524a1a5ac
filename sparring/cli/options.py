"""What the command line is given: options that commands share, and numbers in words."""

from __future__ import annotations

from typing import Annotated

import typer

from ..runtime.fractions import number

Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change the recipe, as train.epochs=3 or method=MART. Repeatable.",
    ),
]
Radii = Annotated[
    list[float],
    typer.Option(
        parser=number, metavar="FLOAT", help="Radius in input units, as 0.3 or 8/255. Repeatable."
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
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 … By default the best there is.")
]


def norms(at: list[str], threat: str | None, eps: list[float]) -> dict[str, list[float]]:
    """Radii by norm, from "NORM=EPS" as often as there are.

    >>> norms(["Linf=0.1", "L2=1", "Linf=0.2"], None, [])
    {'Linf': [0.1, 0.2], 'L2': [1.0]}
    """
    if threat is not None or eps:
        raise ValueError("at takes the place of threat and eps: give --at NORM=EPS alone")
    found: dict[str, list[float]] = {}
    for text in at:
        name, _, radius = text.partition("=")
        found.setdefault(name, []).extend(numbers("at", radius or text) or [])
    return found


def numbers(key: str, text: str | None) -> list[float] | None:
    """One number, or several with commas between them.

    >>> numbers("mean", "0.5,0.25")
    [0.5, 0.25]
    """
    try:
        return None if text is None else [number(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{key} = {text!r} is not allowed: {key} must be a number, or several as 0.5,0.4,0.3"
        ) from None
