"""Models in files that are programs: TorchScript, `torch.export`, ONNX; nothing runs unasked."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SCRIPT, EXPORT, ONNX = "TorchScript", "torch.export", "ONNX"
TRAINING = {"batch_norm": 5, "dropout": 2}  # where these operators say whether they are training


class Refused(ValueError):
    """What we say of a file ourselves."""


def load_program(path: str | Path, *, trust: bool = False, device: str = "cpu") -> nn.Module:
    """The model in a file, told by its content: TorchScript, `torch.export` or ONNX; in eval mode.

    ONNX has gradients through onnx2torch where that is installed and knows the operators, and
    gives scores alone through onnxruntime elsewhere.

    Arguments:
        trust: run it. All three are programs: loading one from a stranger can do harm (even an
            ONNX file: onnx2torch writes its nodes' names into Python code).
        device: where it will run: what a program holds as a constant can't be moved later.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: without `trust`; for a file that is damaged, a pickle, or weights alone.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of a model at {path}")
    kind = told(path)
    if not trust:
        raise ValueError(
            f"model = {str(path)!r} is a program from outside ({kind}), which runs when it is "
            "loaded; if you know what it does, pass --trust (in Python: trust=True)"
        )
    load = {SCRIPT: _script, EXPORT: _export, ONNX: _onnx}[kind]
    try:
        with _quiet():
            return load(path, _digest(path), device).to(device)
    except (Refused, OSError):
        raise
    except Exception as error:  # each format and kind of damage has its own
        said = f"{type(error).__name__}: {brief(error)}"
        raise ValueError(f"{path} is damaged, or no {kind} program ({said})") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def told(path: Path) -> str:
    """Which kind of program a file holds, from its content; nothing of it is run.

    Raises:
        ValueError: if it holds none.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04":
        return _archive(path)
    if head[:1] == b"\x80":
        raise _pickled(path)
    if head[8:9] == b"{":
        raise _bare(path)
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and 0 < head[1] < 64):
        return ONNX
    raise Refused(f"{path} is damaged, or no {SCRIPT}, {EXPORT} or {ONNX} program")


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except zipfile.BadZipFile as error:
        raise Refused(f"{path} is damaged or truncated: {error}") from None
    if broken is not None:
        raise Refused(f"{path} is damaged: {broken} does not have its checksum")
    inner = {name.partition("/")[2] for name in names}
    if "data.pkl" in inner and any(name.startswith("code/") for name in inner):
        return SCRIPT
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return EXPORT
    if "data.pkl" in inner:
        raise _pickled(path)
    raise Refused(f"{path} is an archive, but no {SCRIPT} or {EXPORT} program")


def _pickled(path: Path) -> ValueError:
    """What to say of a pickle, found out without running what is in it."""
    try:
        with _quiet():
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {named[1]}" if named else "it is a pickle"
        return Refused(
            f"{path} was refused: {what}, and loading such an object can run any code. Save the "
            "network with torch.export.save, or its state_dict() and name the network by --recipe; "
            'or write a function that loads it and evaluate "module:function" with --trust'
        )
    except Exception as error:  # a damaged archive raises whatever it wants to
        return Refused(f"{path} is damaged, or no model ({type(error).__name__})")
    if isinstance(held, Mapping):
        return _bare(path)
    return Refused(f"{path} holds no model but a {type(held).__name__}")


def _bare(path: Path) -> ValueError:
    return Refused(
        f"{path} holds weights without their network: say with --recipe which network, data and "
        'threat they belong to; or evaluate "module:function" with --trust, which loads them'
    )


def _script(path: Path, digest: str, device: str) -> nn.Module:
    return Program(torch.jit.load(path, map_location=device).eval(), digest=digest)


def _export(path: Path, digest: str, device: str) -> nn.Module:
    from torch.export.passes import move_to_device_pass

    program = torch.export.load(path)
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise Refused(f"{path} takes {len(names)} inputs; it must take one batch of samples")
    for node in program.graph.nodes:
        for operator, place in TRAINING.items():
            if operator in str(node.target) and node.args[place : place + 1] == (True,):
                raise Refused(f"{path} was exported in training mode: call model.eval() first")
    (rows,) = (n.meta["val"].shape[0] for n in program.graph.nodes if n.name in names)
    if device != "cpu":
        program = move_to_device_pass(program, device)
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
        return _onnxruntime(path, digest, f"onnx2torch does not know it: {brief(error)}; ")
    weights = {value.name for value in graph.graph.initializer}
    first = next(value for value in graph.graph.input if value.name not in weights)
    rows = first.type.tensor_type.shape.dim[0].dim_value
    return Program(program, digest=digest, rows=rows or None)


def _onnxruntime(path: Path, digest: str, why: str = "") -> nn.Module:
    try:
        import onnxruntime  # type: ignore[import-not-found]
    except ImportError:
        raise Refused(
            f"{path} is an ONNX program: {why}install onnx2torch (pip install onnx onnx2torch) "
            "to attack it with gradients, or onnxruntime for scores alone"
        ) from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    floats = [
        o.name for o in session.get_outputs() if o.type in ("tensor(float)", "tensor(double)")
    ]
    if not floats:
        raise Refused(f"{path} has no output of floats: it must give logits or probabilities")

    rows = next(iter(first.shape))  # a number, or the name of a free size
    program = Scored(lambda x: session.run(floats[:1], {first.name: x})[0])
    return Program(program, digest=digest, rows=rows if isinstance(rows, int) else None)


class Program(nn.Module):
    """A program from a file, always as it was saved for evaluation.

    It shows no inner modules: those of a program have no modes to set. One of a fixed batch size is
    run in such batches, the last one filled up with zeros.

    Arguments:
        digest: of its file.
        rows: the fixed batch size, None if any will do.
    """

    def __init__(self, program: nn.Module, *, digest: str, rows: int | None = None) -> None:
        super().__init__()
        for p in program.parameters():
            p.requires_grad_(False)
        self.program, self.digest, self.rows = program, digest, rows
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """What the program gives for `x (b, *d)`."""
        if self.rows is None or len(x) == self.rows:
            return _first(self.program(x))
        found = []
        for part in x.split(self.rows):
            rest = part.new_zeros(self.rows - len(part), *part.shape[1:])
            found.append(_first(self.program(torch.cat([part, rest])))[: len(part)])
        return torch.cat(found)

    def train(self, mode: bool = True) -> Program:
        """Nothing: there is one mode."""
        return self

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Itself alone."""
        yield from [] if memo is not None and self in memo else [(prefix, self)]

    def __deepcopy__(self, memo: Any) -> Program:
        with _quiet():
            return Program(copy.deepcopy(self.program, memo), digest=self.digest, rows=self.rows)

    def extra_repr(self) -> str:
        """Which one it is."""
        return f"{self.digest}, rows={self.rows}"


class Scored(nn.Module):
    """A function of arrays, `(b, *d)` to scores `(b, k)`, as a module without gradient."""

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        super().__init__()
        self.ask = ask

    def forward(self, x: Tensor) -> Tensor:
        """Scores `(b, k)`."""
        return torch.as_tensor(self.ask(x.detach().cpu().numpy())).to(x.device, x.dtype)

    def __deepcopy__(self, memo: Any) -> Scored:
        return self


def _first(found: Any) -> Tensor:
    """The first of several outputs, by place or by name."""
    several = list(found.values()) if isinstance(found, Mapping) else found
    return several if isinstance(several, Tensor) else several[0]


def brief(error: Exception) -> str:
    """The line of an error that says what is wrong: its last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns of its own loaders; who is handed a file can't change it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
