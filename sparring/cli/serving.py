"""The verb that serves a page: serve."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.output import write_line
from . import completion
from .options import Data, Device, Mean, Outputs, Scale, Set, Std, Trust, numbers


def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders of models that take pictures; what evaluate takes as MODEL, too.",
            metavar="RUN...",
            autocompletion=completion.runs,
        ),
    ],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 is any free one.")] = 8000,
    open: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-browser",
            help="Open the page in a browser (default: on a desktop, from a terminal).",
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of a model trained elsewhere.")] = None,
    data: Data = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Inputs of a model without recipe and data: channels,height,width."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Names of the classes, one per line, of a model without data."),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    outputs: Outputs = "logits",
    set: Set = [],
    trust: Trust = False,
    device: Device = None,
) -> None:
    """Serve a page on this machine: drop or draw a picture, attack it, and compare models."""
    from ..commands import serve

    def started(address: str) -> None:
        write_line(address)
        write_line("Ctrl-C stops the server; pictures stay in memory and leave with it.")

    serve.serve(
        [Path(run) if Path(run).is_dir() else run for run in runs],
        port=port,
        open=_on_a_desktop() if open is None else open,
        recipe=recipe,
        data=data,
        shape=shape,
        classes=classes,
        mean=numbers("mean", mean),
        std=numbers("std", std),
        scale=scale,
        outputs=outputs,
        set=set,
        trust=trust,
        device=device,
        started=started,
    )
    write_line("stopped")


def _on_a_desktop() -> bool:
    """Return whether a person watches, where a browser has a screen to open on."""
    screen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return screen and sys.stdout.isatty()
