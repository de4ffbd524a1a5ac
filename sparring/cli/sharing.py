"""The verbs that share a run: export, card and push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..runtime.fractions import exact_number
from ..runtime.output import write_line
from . import completion
from .console import closing
from .options import Trust

Run = Annotated[
    Path,
    typer.Argument(help="Run folder.", metavar="RUN", autocompletion=completion.runs),
]

License = Annotated[
    str | None,
    typer.Option(help="License of the weights, such as apache-2.0 (default: none is stated)."),
]


def export(
    run: Run,
    to: Annotated[str, typer.Option(help="Format: onnx, or pt2 for torch.export.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="File (default: RUN/model.onnx or RUN/model.pt2).")
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Opset of ONNX (default: torch's).")] = None,
    trust: Trust = False,
) -> None:
    """Write a run's model as an ONNX or torch.export file, checked against the model."""
    from ..commands import export

    exported = export.export(run, to, out=out, opset=opset, trust=trust)
    write_line(exported)
    words = ["sparring", "evaluate", exported.path, "--data", exported.data]
    words += [] if exported.threat == "Linf" else ["--threat", exported.threat]
    words += [] if exported.eps is None else ["--eps", exact_number(exported.eps)]
    closing([exported.path], [*words, "--trust"])


def card(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="File (default: RUN/README.md).")] = None,
    license: License = None,
    trust: Trust = False,
) -> None:
    """Write the model card of a run: accuracies with verdicts, training, use, limits, papers."""
    from ..commands import card

    closing([card.card(run, out=out, license=license, trust=trust)])


def push(
    run: Run,
    repo: Annotated[str, typer.Option(help="Repository on Hugging Face, user/name.")],
    private: Annotated[
        bool, typer.Option("--private", help="Create it so that others do not see it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files with their sizes; upload nothing.")
    ] = False,
    license: License = None,
    trust: Trust = False,
) -> None:
    """Upload a run to Hugging Face: weights, recipe, results, card; nothing of this machine."""
    from ..commands import push

    options = {"private": private, "dry_run": dry_run, "license": license, "trust": trust}
    pushed = push.push(run, repo, **options)
    for name, size in pushed.sizes.items():
        write_line(f"{size:>12,}  {name}")
    if dry_run:
        write_line(f"checked; nothing was uploaded to {repo}")
    else:
        closing([pushed.url])
