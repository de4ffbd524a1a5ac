"""Load models from files that are programs: TorchScript, `torch.export`, ONNX; only with trust."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import ArrayFunction

SCRIPT, EXPORT, ONNX = "TorchScript", "torch.export", "ONNX"
TRAINING = {"batch_norm": 5, "dropout": 2}  # position of the argument `training` of an operator


class RefusedFile(ValueError):
    """Refuse a file, with the reason: raised here, not by a loader of torch."""


def load_program(path: str | Path, *, trust: bool = False, device: str = "cpu") -> nn.Module:
    """Load the model in a TorchScript, `torch.export` or ONNX file, in eval mode.

    The kind is read from the content. ONNX has gradients through onnx2torch, if that is installed
    and knows the operators; otherwise onnxruntime gives scores alone.

    Arguments:
        trust: run it. All three are programs, and loading a stranger's can do harm (even an ONNX
            file: onnx2torch writes its nodes' names into Python code).
        device: to run on; the constants of a program cannot be moved later.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: without `trust`; for a damaged file, a pickle, or weights alone.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of a model at {path}")
    kind = program_kind(path)
    if not trust:
        raise ValueError(
            f"model = {str(path)!r} is a program from outside ({kind}), which runs when it is "
            "loaded; if you know what it does, pass --trust (in Python: trust=True)"
        )
    load = {SCRIPT: _script, EXPORT: _export, ONNX: _onnx}[kind]
    try:
        # torch's loaders warn: a user cannot change how a file was saved
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            return load(path, digest, device).to(device)
    except (RefusedFile, OSError):
        raise
    except Exception as error:  # each format and kind of damage raises its own
        reason = f"{type(error).__name__}: {_last_line(error)}"
        raise ValueError(f"{path} is damaged, or not a {kind} program ({reason})") from error


def program_kind(path: Path) -> str:
    """Return the kind of program in a file, from its content; nothing of it runs.

    Raises:
        ValueError: for a file without a program.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04":  # zip
        return _archive_kind(path)
    if head[:1] == b"\x80":  # pickle
        raise _pickle_error(path)
    if head[8:9] == b"{":  # safetensors: 8 bytes of length, then JSON
        raise _weights_alone(path)
    # protobuf: field 1 (ir_version), a small number
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and 0 < head[1] < 64):
        return ONNX
    raise RefusedFile(f"{path} is damaged, or not a {SCRIPT}, {EXPORT} or {ONNX} program")


def _archive_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except zipfile.BadZipFile as error:
        raise RefusedFile(f"{path} is damaged or truncated: {error}") from None
    if broken is not None:
        raise RefusedFile(f"{path} is damaged: {broken} does not have its checksum")
    inner = {name.partition("/")[2] for name in names}
    if "data.pkl" in inner and any(name.startswith("code/") for name in inner):
        return SCRIPT
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return EXPORT
    if "data.pkl" in inner:
        raise _pickle_error(path)
    raise RefusedFile(f"{path} is an archive, but not a {SCRIPT} or {EXPORT} program")


def _pickle_error(path: Path) -> ValueError:
    """Return the error for a pickle; weights_only reads it without running it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {name[1]}" if name else "it is a pickle"
        return RefusedFile(
            f"{path} was refused: {what}, and loading such an object can run any code. Save the "
            "network with torch.export.save, or its state_dict() and name the network by --recipe; "
            'or write a function that loads it and evaluate "module:function" with --trust'
        )
    except Exception as error:  # a damaged archive may raise anything
        return RefusedFile(f"{path} is damaged, or not a model ({type(error).__name__})")
    other = RefusedFile(f"{path} holds no model but a {type(content).__name__}")
    return _weights_alone(path) if isinstance(content, Mapping) else other


def _weights_alone(path: Path) -> ValueError:
    return RefusedFile(
        f"{path} holds weights without their network: name network, data and threat by --recipe; "
        'or evaluate "module:function" with --trust, which loads them'
    )


def _script(path: Path, digest: str, device: str) -> nn.Module:
    return Program(torch.jit.load(path, map_location=device).eval(), digest=digest)


def _export(path: Path, digest: str, device: str) -> nn.Module:
    from torch.export.passes import move_to_device_pass

    program = torch.export.load(path)
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise RefusedFile(f"{path} takes {len(names)} inputs; it must take one batch of samples")
    for node in program.graph.nodes:
        for operator, position in TRAINING.items():
            if operator in str(node.target) and node.args[position : position + 1] == (True,):
                raise RefusedFile(f"{path} was exported in training mode: call model.eval() first")
    (rows,) = (n.meta["val"].shape[0] for n in program.graph.nodes if n.name in names)
    if device != "cpu":
        program = move_to_device_pass(program, device)  # .to() would leave its constants behind
    return Program(program.module(), digest=digest, rows=rows if isinstance(rows, int) else None)


def _onnx(path: Path, digest: str, device: str) -> nn.Module:
    try:
        import onnx  # type: ignore[import-not-found]
        import onnx2torch  # type: ignore[import-not-found]
    except ImportError:
        return _onnxruntime(path, digest)
    graph = onnx.load(path)
    try:
        program = onnx2torch.convert(graph).eval()
    except NotImplementedError as error:
        return _onnxruntime(path, digest, f"onnx2torch does not know it: {_last_line(error)}; ")
    weights = {value.name for value in graph.graph.initializer}
    first = next(value for value in graph.graph.input if value.name not in weights)
    rows = first.type.tensor_type.shape.dim[0].dim_value
    return Program(program, digest=digest, rows=rows or None)


def _onnxruntime(path: Path, digest: str, why: str = "") -> nn.Module:
    try:
        import onnxruntime  # type: ignore[import-not-found]
    except ImportError:
        raise RefusedFile(
            f"{path} is an ONNX program: {why}install onnx2torch (pip install onnx onnx2torch) "
            "to attack it with gradients, or onnxruntime for scores alone"
        ) from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first, kinds = session.get_inputs()[0], ("tensor(float)", "tensor(double)")
    floats = [o.name for o in session.get_outputs() if o.type in kinds]
    if not floats:
        raise RefusedFile(f"{path} has no output of floats: it must give logits or probabilities")
    rows = next(iter(first.shape))  # a number, or the name of a free size
    # no digest: `Program` carries the file's
    program = ArrayFunction(lambda x: session.run(floats[:1], {first.name: x})[0])
    return Program(program, digest=digest, rows=rows if isinstance(rows, int) else None)


class Program(nn.Module):
    """Run a program from a file, always in the mode it was saved in for evaluation.

    It hides its inner modules: those of a program have no modes to set. A program of a fixed batch
    size runs in batches of that size, the last one padded with zeros.

    Arguments:
        rows: the fixed batch size; None if any size works.
    """

    def __init__(self, program: nn.Module, *, digest: str, rows: int | None = None) -> None:
        super().__init__()
        for p in program.parameters():
            p.requires_grad_(False)
        self.program, self.digest, self.rows = program, digest, rows
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is None or len(x) == self.rows:
            return _first_output(self.program(x))
        outputs = []
        for part in x.split(self.rows):
            padding = part.new_zeros(self.rows - len(part), *part.shape[1:])
            outputs.append(_first_output(self.program(torch.cat([part, padding])))[: len(part)])
        return torch.cat(outputs)

    def train(self, mode: bool = True) -> Program:
        return self  # a program has one mode

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        yield from [] if memo is not None and self in memo else [(prefix, self)]

    def __deepcopy__(self, memo: Any) -> Program:
        with warnings.catch_warnings(action="ignore"):
            return Program(copy.deepcopy(self.program, memo), digest=self.digest, rows=self.rows)

    def extra_repr(self) -> str:
        return f"{self.digest}, rows={self.rows}"


def _first_output(output: Any) -> Tensor:
    """Return the first of several outputs, in a sequence or a mapping."""
    several = list(output.values()) if isinstance(output, Mapping) else output
    return several if isinstance(several, Tensor) else several[0]


def _last_line(error: Exception) -> str:
    """Return the last line of an error: torch puts the reason there, below its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
