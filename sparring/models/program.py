"""Load models from files that are programs: TorchScript, `torch.export`, ONNX; only with trust."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..runtime.importing import reason
from .base import ArrayFunction, missing_file
from .outputs import read_logits, weight_dtype

SCRIPT, EXPORT, ONNX = "TorchScript", "torch.export", "ONNX"
TRAINING = {"batch_norm": 5, "dropout": 2}  # position of the argument `training` of an operator
TRACED = (
    "was traced in training mode ({}): call model.eval() before it is traced, and hand "
    "training=self.training to functions as F.dropout"
)


ONNX_TYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64}  # of TensorProto
RUNTIME_TYPES = {"float": torch.float32, "float16": torch.float16, "double": torch.float64}


class Rows(NamedTuple):
    """The batch sizes that a program takes; `most` None: any from `least` on."""

    least: int = 0
    most: int | None = None

    def __str__(self) -> str:
        if self.least == self.most or self == (0, None):
            return str(self.most)
        return f"{self.least}..{'' if self.most is None else self.most}"


ANY_SIZE = Rows()


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


def _script(path: Path, digest: str, device: str) -> Program:
    return scripted(torch.jit.load(path, map_location=device).eval(), digest, str(path))


def scripted(script: torch.jit.ScriptModule, digest: str, where: str) -> Program:
    """Return a TorchScript module as a program.

    Raises:
        ValueError: for one that was traced in training mode, which `eval` does not change.
    """
    nodes = list(_graph_nodes(script.inlined_graph))
    for node in nodes:
        for operator, position in TRAINING.items():
            if operator in node.kind() and _is_always_training(node, position):
                raise RefusedFile(f"{where} {TRACED.format(operator)}")
    constants = [node.output().toIValue() for node in nodes if node.kind() == "prim::Constant"]
    weights = [c for c in constants if isinstance(c, Tensor) and c.is_floating_point()]
    # A frozen script keeps its weights as constants.
    largest = max(weights, key=torch.numel, default=None)
    return Program(script, digest=digest, dtype=None if largest is None else largest.dtype)


def _is_always_training(node: Any, position: int) -> bool:
    """Return whether an operator's argument `training` is the constant True, and not because batch
    norm has no running statistics to use."""
    inputs = [value.node() for value in node.inputs()]
    if len(inputs) <= position or inputs[position].kind() != "prim::Constant":
        return False
    statistics = inputs[3].mustBeNone() if position > 3 else False
    return inputs[position].output().toIValue() is True and not statistics


def _graph_nodes(block: Any) -> Iterator[Any]:
    """Yield the nodes of a script's graph, and of the blocks inside them."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _graph_nodes(inner)


def _export(path: Path, digest: str, device: str) -> Program:
    return exported(torch.export.load(path), digest, str(path), device)


def exported(program: Any, digest: str, where: str, device: str = "cpu") -> Program:
    """Return an exported program, on a device.

    Raises:
        ValueError: for one of several inputs, or one exported in training mode.
    """
    from torch.export.passes import move_to_device_pass

    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise RefusedFile(f"{where} takes {len(names)} inputs; it must take one batch of samples")
    for node in program.graph.nodes:
        for operator, position in TRAINING.items():
            if operator in str(node.target) and node.args[position : position + 1] == (True,):
                raise RefusedFile(f"{where} was exported in training mode: call model.eval() first")
    (first,) = (node.meta["val"] for node in program.graph.nodes if node.name in names)
    rows, dtype = _export_rows(first.shape[0], program.range_constraints), first.dtype
    if device != "cpu":
        program = move_to_device_pass(program, device)  # .to() would leave its constants behind
    return Program(program.module(), digest=digest, rows=rows, dtype=dtype)


def _export_rows(size: Any, constraints: Mapping[Any, Any]) -> Rows:
    """Return the batch sizes that an exported program takes: one, or those of a dynamic size."""
    if isinstance(size, int):
        return Rows(size, size)
    limits = constraints.get(size.node.expr)
    if limits is None:
        return ANY_SIZE
    most = str(limits.upper)  # a number, or infinity
    return Rows(int(limits.lower), int(most) if most.isdecimal() else None)


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
    rows = Rows(size, size) if size else ANY_SIZE
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
    first, kinds = _only_input(session.get_inputs(), path), ("tensor(float)", "tensor(double)")
    floats = [o.name for o in session.get_outputs() if o.type in kinds]
    if not floats:
        raise RefusedFile(f"{path} has no output of floats: it must give logits or probabilities")
    name = "logits" if "logits" in floats else floats[0]
    size = next(iter(first.shape))  # a number, or the name of a free size
    rows = Rows(size, size) if isinstance(size, int) else ANY_SIZE
    dtype = RUNTIME_TYPES.get(re.sub(r"tensor\((.*)\)", r"\1", getattr(first, "type", "")))
    # no digest: `Program` carries the file's
    program = ArrayFunction(lambda x: session.run([name], {first.name: x})[0])
    return Program(program, digest=digest, rows=rows, dtype=dtype)


def as_program(model: Any) -> Any:
    """Return a program in memory that has no modes to set as a `Program`, anything else as it is.

    Raises:
        ValueError: for a program that was traced or exported in training mode.
    """
    if isinstance(model, torch.jit.ScriptModule):
        program = scripted(model, _digest(model.save_to_buffer()), "model")
        return model if hasattr(model, "training") else program  # a frozen one has no modes
    if isinstance(model, torch.export.ExportedProgram):
        return exported(model, _digest(str(model.graph).encode()), "model")
    if isinstance(model, torch.fx.GraphModule) and "train" in vars(model):
        return Program(model, digest=_digest(model.code.encode()))  # `ExportedProgram.module()`
    return model


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


class Program(nn.Module):
    """Run a program from a file, always in the mode it was saved in for evaluation.

    It hides its inner modules: those of a program have no modes to set. A program that does not
    take every batch size runs in batches that it takes, the last one padded with zeros.

    Arguments:
        rows: the batch sizes that it takes.
        dtype: of its inputs, if it has no parameters to tell.
        names: of its outputs, in order, if it returns them without.
    """

    def __init__(
        self,
        program: nn.Module,
        *,
        digest: str,
        rows: Rows = ANY_SIZE,
        dtype: torch.dtype | None = None,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.program, self.digest, self.rows = program, digest, rows
        self.dtype, self.names = dtype, names
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        dtype = weight_dtype(self.program) or self.dtype or x.dtype
        z = self._in_batches(x.to(dtype))
        return z if dtype == x.dtype else z.to(torch.promote_types(x.dtype, torch.float32))

    def _in_batches(self, x: Tensor) -> Tensor:
        """Return the logits of `x`, in batches of sizes that the program takes."""
        least, most = self.rows
        if least <= len(x) <= (len(x) if most is None else most):
            return self._run(x)
        outputs = []
        for part in x.split(most or len(x)):
            padding = part.new_zeros(max(least - len(part), 0), *part.shape[1:])
            outputs.append(self._run(torch.cat([part, padding]))[: len(part)])
        return torch.cat(outputs)

    def _run(self, x: Tensor) -> Tensor:
        try:
            output = self.program(x)
        except AssertionError as error:  # a guard of an exported program
            text = f"the program does not take a batch of shape {tuple(x.shape)}"
            raise ValueError(f"{text}: {str(error).splitlines()[-1]}") from error
        if "logits" in self.names and not isinstance(output, Tensor | Mapping):
            output = output[self.names.index("logits")]
        return read_logits(output)

    def train(self, mode: bool = True) -> Program:
        return self  # a program has one mode

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        yield from [] if memo is not None and self in memo else [(prefix, self)]

    def __deepcopy__(self, memo: Any) -> Program:
        with warnings.catch_warnings(action="ignore"):
            program = copy.deepcopy(self.program, memo)
        options = {"rows": self.rows, "dtype": self.dtype, "names": self.names}
        return Program(program, digest=self.digest, **options)

    def extra_repr(self) -> str:
        return f"{self.digest}, rows={self.rows}"
