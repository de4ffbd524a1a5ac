"""The verb that attacks a person's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..runtime.fractions import parse_number
from . import completion
from .console import closing, show
from .options import Device, Mean, Outputs, Scale, Set, Std, Trust, numbers


def attack(
    model: Annotated[
        str,
        typer.Argument(
            help="A run folder; a file of weights, with --recipe; or, with --shape, a TorchScript, "
            'torch.export or ONNX file, or "module:Class".',
            metavar="MODEL",
            autocompletion=completion.runs,
        ),
    ],
    pictures: Annotated[
        list[Path],
        typer.Argument(help="Pictures: PNG, JPEG, WebP, BMP, TIFF.", metavar="PICTURE..."),
    ],
    eps: Annotated[
        float,
        typer.Option(
            parser=parse_number,
            metavar="FLOAT",
            help="Radius in units of the pixels' range, such as 8/255.",
        ),
    ],
    threat: Annotated[str, typer.Option(help="Norm of the ball: Linf, L2, L1 or L0.")] = "Linf",
    attack: Annotated[
        str,
        typer.Option(
            help="Attack or suite (see: sparring list attacks, sparring list suites).",
        ),
    ] = "apgd",
    argument: Annotated[
        list[str],
        typer.Option(
            "--with", metavar="KEY=VALUE", help="Argument of the attack, such as steps=200."
        ),
    ] = [],
    target: Annotated[
        str | None, typer.Option(help="Class to reach (default: any but the label).")
    ] = None,
    label: Annotated[
        list[str],
        typer.Option(
            help="True class: once for all pictures, or once for each, in order "
            "(default: the model's own answer)."
        ),
    ] = [],
    jpeg: Annotated[
        list[int],
        typer.Option(help="JPEG quality that a success must outlast, such as 75. Repeatable."),
    ] = [],
    resize: Annotated[
        list[float],
        typer.Option(
            help="Factor such as 0.5: a success must outlast resizing by it and back. Repeatable."
        ),
    ] = [],
    lead: Annotated[
        float, typer.Option(help="Logits by which the wrong class must lead; more outlasts more.")
    ] = 0.0,
    curve: Annotated[
        bool, typer.Option(help="Attack at six radii too, for confidence against eps.")
    ] = True,
    save: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the attacked pictures and their record."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Page with all pictures, which works offline.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Names of the classes, one per line (default: the run's)."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Inputs of a model without recipe: channels,height,width."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of a model trained elsewhere.")] = None,
    set: Set = [],
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    outputs: Outputs = "logits",
    trust: Trust = False,
    seed: Annotated[int, typer.Option(help="Seed of the attack's draws.")] = 0,
    device: Device = None,
) -> None:
    """Attack your own pictures; a success is one of the 8-bit file that comes out."""
    from .. import reporting
    from ..commands import attack_pictures, rehearsal

    rehearsal.check_files(out=out, endings=rehearsal.PAGES)
    record = attack_pictures.attack_pictures(
        model,
        pictures,
        eps=eps,
        threat=threat,
        attack=attack,
        options=argument,
        target=target,
        label=label,
        jpeg=jpeg,
        resize=resize,
        lead=lead,
        curve=curve,
        save=save,
        classes=classes,
        shape=shape,
        recipe=recipe,
        set=set,
        mean=numbers("mean", mean),
        std=numbers("std", std),
        scale=scale,
        outputs=outputs,
        trust=trust,
        seed=seed,
        device=device,
        progress=None,
    )
    show(reporting.pictures_table(record))
    written: list[str | Path] = [] if save is None else [save]
    if out is not None:
        written.append(reporting.pictures_page(record, out))
    closing(written)
