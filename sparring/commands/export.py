"""Export the model of a run as a program that other software runs, checked on test rows."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import models
from ..component import did_you_mean, require
from ..data import Source
from ..runtime import files, provenance
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from .rehearsal import new_file
from .subject import EvaluationTarget, existing_run, recipe_target

ROWS = 256  # of the test split, on which the file is compared with the model
TOLERANCE = 1e-5  # of the largest logit, or of 1
INPUT, OUTPUT = "input", "logits"
METADATA = "sparring.json"  # of a torch.export file
LEAST_OPSET = 18  # of torch's exporter
PURPOSE = "sparring export --to onnx"


class ExportedProgram(NamedTuple):
    """Describe an exported file.

    Arguments:
        difference: largest absolute difference of its logits from those of the run's model.
        largest: logit in absolute value.
        rows: of the test split that were compared.
        data, threat, eps: of the run's evaluation, for the next command.
    """

    path: Path
    format: str
    opset: int | None
    difference: float
    largest: float
    rows: int
    data: str
    threat: str
    eps: float | None

    def __str__(self) -> str:
        kind = "torch.export" if self.opset is None else f"ONNX, opset {self.opset}"
        gap = f"largest difference {self.difference:.1e}, largest logit {self.largest:.3g}"
        return f"{kind}: on {self.rows} test rows, {gap}"


def export(
    run: str | Path,
    to: str = "onnx",
    *,
    out: str | Path | None = None,
    opset: int | None = None,
    trust: bool = False,
) -> ExportedProgram:
    """Write the model of a run, with its normalisation and for any batch size, as one file.

    The file is loaded again and compared with the model on test rows. It carries the names of the
    classes and the bounds of the inputs. Without agreement nothing is written.

    Arguments:
        to: "onnx", or "pt2" for `torch.export`.
        out: the file, whose ending is the format; default: `RUN/model.onnx` or `RUN/model.pt2`.
        opset: of ONNX; default: torch's.
        trust: as in `config.recipe.load_recipe`.

    Raises:
        ValueError: for a format that does not exist, a missing package, a network that cannot be
            exported, or a file whose logits differ by more than 1e-5 of the largest.
        FileNotFoundError: if this is not a run folder, or has no weights or data.
    """
    if to not in FORMATS:
        raise ValueError(did_you_mean("to", to, FORMATS))
    require(opset is None or to == "onnx", "opset", opset, "given with --to onnx alone")
    folder = existing_run(run)
    path = folder / f"model.{to}" if out is None else new_file(out, endings=(f".{to}",))
    files.refuse_target(path)
    target = recipe_target(run, None, trust=trust)
    data: Source = target.data
    x = data.test.float(slice(ROWS))
    # Its parameters would get gradients; those of a run are read alone.
    model = target.model.requires_grad_(False)
    with torch.no_grad():
        want = model(x)
    facts = _facts(target)
    try:
        # torch warns of its own code, and the exporter's notes are no user's concern
        with warnings.catch_warnings(action="ignore"):
            content, opset = FORMATS[to](model, x[:2], facts, opset)
    except ValueError:
        raise
    except Exception as error:  # each operator that an exporter lacks raises its own
        raise ValueError(f"{run} cannot be exported to {to}: {reason(error)}") from error
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, f"model.{to}")
        copy.write_bytes(content)
        difference = max((outputs - want).abs().max().item() for outputs in _outputs(copy, x))
    largest = want.abs().max().item()
    if not difference <= TOLERANCE * max(largest, 1.0):
        raise ValueError(
            f"{run} was not exported: logits of the {to} file differ from those of the model by "
            f"{difference:.1e}, where the largest is {largest:.3g}"
        )
    files.write(path, content)
    name = facts["data"]
    radii = target.protocol.eps or 0.0
    eps = max(map(float, radii if isinstance(radii, Sequence) else [radii])) or None
    threat = str(target.recipe["evaluation"].get("threat", {}).get("name", "Linf"))
    return ExportedProgram(path, to, opset, difference, largest, len(x), name, threat, eps)


def _facts(target: EvaluationTarget) -> dict[str, Any]:
    """Return what a user of the file needs to know, without paths of this machine."""
    data: Source = target.data
    low, high = (torch.as_tensor(bound).tolist() for bound in data.bounds)
    return {
        "name": target.name,
        "classes": data.class_names,
        "bounds": [low, high],
        "shape": list(data.shape),
        "data": Path(data.name).name,
        "data_sha256": data.sha256,
        "sparring": provenance.versions()["sparring"],
    }


Exporter = Callable[[nn.Module, Tensor, Mapping[str, Any], int | None], tuple[bytes, int | None]]


def _onnx(
    model: nn.Module, x: Tensor, facts: Mapping[str, Any], opset: int | None
) -> tuple[bytes, int | None]:
    onnx = import_extra("onnx", extra="onnx", purpose=PURPOSE)
    for package in ("onnxscript", "onnxruntime"):  # which write it, and check it
        import_extra(package, extra="onnx", purpose=PURPOSE)
    most = onnx.defs.onnx_opset_version()
    known = opset is None or LEAST_OPSET <= opset <= most
    require(known, "opset", opset, f"{LEAST_OPSET} to {most} with the packages installed here")
    with _quiet("torch.onnx"):  # which logs that torchvision is missing
        program = torch.onnx.export(
            model,
            (x,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    written = {entry.domain: entry.version for entry in proto.opset_import}[""]
    require(opset in (None, written), "opset", opset, f"{written}: no other could be written")
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    return proto.SerializeToString(), written


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger pass errors alone, inside."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _pt2(
    model: nn.Module, x: Tensor, facts: Mapping[str, Any], opset: int | None
) -> tuple[bytes, int | None]:
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: json.dumps(facts)})
    return buffer.getvalue(), None


FORMATS: dict[str, Exporter] = {"onnx": _onnx, "pt2": _pt2}


def _outputs(path: Path, x: Tensor) -> list[Tensor]:
    """Return the logits that the file gives: as sparring loads it, and by onnxruntime."""
    program = models.load_program(path, trust=True, samples=x)
    with torch.no_grad():
        outputs = [program(x)]
    if path.suffix == ".onnx":
        import onnxruntime  # type: ignore[import-not-found]

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs.append(torch.as_tensor(session.run([OUTPUT], {INPUT: x.numpy()})[0]))
    return outputs
