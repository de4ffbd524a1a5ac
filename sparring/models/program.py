"""Load models from files that are programs: TorchScript, `torch.export`, ONNX; only with trust."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..runtime.importing import reason
from .archive import ZIP, archive_names, printable
from .base import ArrayFunction, missing_file
from .runner import ANY_SIZE, BatchSizes, Program, RefusedFile, exported, scripted

SCRIPT, EXPORT, ONNX = "TorchScript", "torch.export", "ONNX"
ONNX_TYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64}  # of TensorProto
RUNTIME_TYPES = {"float": torch.float32, "float16": torch.float16, "double": torch.float64}


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
        raise missing_file(path, "a model")
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
            program = load(path, digest, device)
    except (RefusedFile, OSError):
        raise
    except Exception as error:  # each format and kind of damage raises its own
        text = f"{path} is damaged, or not a {kind} program ({reason(error)})"
        raise ValueError(text) from error
    for p in program.program.parameters():
        p.requires_grad_(False)
    return program.to(device)


def program_kind(path: Path) -> str:
    """Return the kind of program in a file, from its content; nothing of it runs.

    Raises:
        ValueError: for a file without a program.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == ZIP:
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
        names = archive_names(path)
    except zipfile.BadZipFile as error:
        raise RefusedFile(f"{path} is damaged: {error}") from None
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
        what = f"it holds {printable(name[1])}" if name else "it is a pickle"
        return RefusedFile(
            f"{path} was refused: {what}, and loading such an object can run any code. Save the "
            "network with torch.export.save, or its state_dict() and name the network by --recipe; "
            "save a classifier of scikit-learn with skops.io.dump; "
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


def _script(path: Path, digest: str, device: str) -> Program:
    return scripted(torch.jit.load(path, map_location=device).eval(), digest, str(path))


def _export(path: Path, digest: str, device: str) -> Program:
    return exported(torch.export.load(path), digest, str(path), device)


def _onnx(path: Path, digest: str, device: str) -> Program:
    try:
        import onnx  # type: ignore[import-not-found]
        import onnx2torch  # type: ignore[import-not-found]
    except ImportError:
        return _onnxruntime(path, digest)
    graph = onnx.load(path)
    try:
        program = onnx2torch.convert(graph).eval()
    except NotImplementedError as error:
        return _onnxruntime(path, digest, f"onnx2torch does not know it: {reason(error)}; ")
    weights = {value.name for value in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in weights]
    kind = _only_input(inputs, path).type.tensor_type
    size = kind.shape.dim[0].dim_value
    rows = BatchSizes(size, size) if size else ANY_SIZE
    dtype = ONNX_TYPES.get(getattr(kind, "elem_type", 0))
    names = [value.name for value in getattr(graph.graph, "output", ())]
    return Program(program, digest=digest, rows=rows, dtype=dtype, names=names)


def _only_input(inputs: list[Any], path: Path) -> Any:
    if len(inputs) != 1:
        raise RefusedFile(f"{path} takes {len(inputs)} inputs; it must take one batch of samples")
    return inputs[0]


def _onnxruntime(path: Path, digest: str, why: str = "") -> Program:
    try:
        import onnxruntime  # type: ignore[import-not-found]
    except ImportError:
        raise RefusedFile(
            f"{path} is an ONNX program: {why}install onnx2torch (pip install onnx onnx2torch) "
            "to attack it with gradients, or onnxruntime for scores alone"
        ) from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first, kinds = _only_input([*session.get_inputs()], path), ("tensor(float)", "tensor(double)")
    floats = [o.name for o in session.get_outputs() if o.type in kinds]
    if not floats:
        raise RefusedFile(f"{path} has no output of floats: it must give logits or probabilities")
    name = "logits" if "logits" in floats else floats[0]
    size = next(iter(first.shape))  # a number, or the name of a free size
    rows = BatchSizes(size, size) if isinstance(size, int) else ANY_SIZE
    dtype = RUNTIME_TYPES.get(re.sub(r"tensor\((.*)\)", r"\1", getattr(first, "type", "")))
    # no digest: `Program` carries the file's
    program = ArrayFunction(lambda x: session.run([name], {first.name: x})[0])
    return Program(program, digest=digest, rows=rows, dtype=dtype)
