"""Turn ONNX files into PyTorch, for gradients, or else run them in onnxruntime for scores."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..runtime.importing import reason
from ..runtime.stand_in import import_without_torchvision
from ..runtime.text import printable
from .base import ArrayFunction
from .onnx_file import OnnxFile, read_onnx
from .onnx_graph import foreign_operator, has_operator, with_neutral_names
from .runner import Program, RefusedFile
from .straight_through import pass_gradients_through

ROWS = 8  # that a converted program is compared on
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of the largest logit; default: 1e-5
COUPLED = 1e-2  # of the largest logit: more is no rounding
BLOCKING = "DynamicQuantizeLinear"  # to whole numbers, by a scale of the batch
SIDES = (32, 28, 64, 224)  # to try for a picture whose size is free
PIP = "pip install --no-deps onnx2pytorch"
RUNTIME_PIP = "pip install onnxruntime"
KINDS = ("tensor(float)", "tensor(double)", "tensor(float16)")


def load_onnx(path: Path, digest: str, samples: Tensor | None = None) -> Program:
    """Load an ONNX file: with gradients if a converter gives what onnxruntime gives.

    onnx2pytorch is tried first, then onnx2torch. A converter is passed over if it fails, if its
    outputs for 8 rows differ from those of onnxruntime, or if no gradient reaches the input.
    Without a converter, onnxruntime gives scores alone. The program's notes say what was not as
    it should be.

    Arguments:
        samples: rows `(b, *d)` to compare on; default: in [0, 1] in the shape that the file names.

    Raises:
        ValueError: for a file that is refused, or if no package can run it.
        FileNotFoundError: for missing weights beside the file.
    """
    file = read_onnx(path, digest)
    reference = _Reference.of(file, samples)
    reasons = []
    for name, convert in CONVERTERS.items():
        try:
            program = convert(file)
        except ModuleNotFoundError as error:
            missing = str(error.name).partition(".")[0]
            reasons.append(f"{name} needs {missing}" if missing != name else f"{name} is missing")
            continue
        except Exception as error:  # each operator that a converter lacks raises its own
            reasons.append(f"{name} does not convert it ({_line(error)})")
            continue
        lack = reference.difference(program, file)
        if not lack:
            notes = (*program.notes, *reference.notes(name, reasons))
            program.notes = tuple(f"{path.name}: {note}" for note in notes)
            return program
        reasons.append(f"{name} {lack}")
    if reference.program is None:
        raise RefusedFile(
            f"{path} is an ONNX program that cannot run here: {'; '.join(reasons)}; "
            f"{reference.failure}. For gradients: {PIP}; for scores alone: {RUNTIME_PIP}"
        )
    hint = f". For gradients: {PIP}" if "onnx2pytorch is missing" in reasons else ""
    text = f"scores alone, without gradients: {'; '.join(reasons)}{hint}"
    notes = (text, *reference.coupling())
    reference.program.notes = tuple(f"{path.name}: {note}" for note in notes)
    return reference.program


def _by_onnx2pytorch(file: OnnxFile) -> Program:
    foreign = foreign_operator(file.graph)
    if foreign:
        raise NotImplementedError(f"the ONNX standard has no operator {foreign}")
    if has_operator(file.graph, BLOCKING):
        raise NotImplementedError(f"no gradient passes {BLOCKING}")
    graph = with_neutral_names(file.graph)
    program = import_without_torchvision("onnx2pytorch").ConvertModel(graph).eval()
    # The weights are buffers by now. The program walks the nodes at each call, and copies them.
    del program.onnx_model.graph.initializer[:]
    quantised = pass_gradients_through(program)
    notes = ["gradients pass straight through its quantised operators"] * quantised
    return _program(program, file, notes)


def _by_onnx2torch(file: OnnxFile) -> Program:
    onnx2torch = import_without_torchvision("onnx2torch")
    return _program(onnx2torch.convert(with_neutral_names(file.graph)).eval(), file)


CONVERTERS: dict[str, Callable[[OnnxFile], Program]] = {
    "onnx2pytorch": _by_onnx2pytorch,
    "onnx2torch": _by_onnx2torch,
}


def _program(converted: nn.Module, file: OnnxFile, notes: Sequence[str] = ()) -> Program:
    """Return a converted module as a program of one output, whose weights have no gradient."""
    for p in converted.parameters():
        p.requires_grad_(False)
    return Program(
        OneOutput(converted, file.output, len(file.outputs)),
        digest=file.digest,
        rows=file.rows,
        dtype=file.dtype,
        shape=file.dims[1:],
        rounded=True,
        notes=notes,
    )


class OneOutput(nn.Module):
    """Run a module of several outputs, and return one of them."""

    def __init__(self, module: nn.Module, position: int, count: int) -> None:
        super().__init__()
        self.module, self.position, self.count = module, position, count

    def forward(self, x: Tensor) -> Any:
        with warnings.catch_warnings(action="ignore"):  # of a converter's own code, at each call
            out = self.module(x)
        return out if self.count == 1 else [*out][self.position]


class _Reference(NamedTuple):
    """Hold onnxruntime's program, and the rows to compare on; None, and why, without it."""

    program: Program | None
    rows: Tensor | None
    failure: str

    @classmethod
    def of(cls, file: OnnxFile, samples: Tensor | None) -> _Reference:
        if importlib.util.find_spec("onnxruntime") is None:
            return cls(None, None, "onnxruntime is missing")
        try:
            program = _by_onnxruntime(file)
        except RefusedFile:
            raise
        except Exception as error:  # as of an operator or an opset that it does not know
            return cls(None, None, f"onnxruntime does not run it ({_line(error)})")
        failure = "onnxruntime took no rows of the sizes that were tried"
        for rows in _rows(file, samples):
            try:
                program(rows)
                return cls(program, rows, "")
            except Exception as error:
                failure = f"onnxruntime failed on {ROWS} rows ({_line(error)})"
        return cls(program, None, failure)

    def difference(self, program: Program, file: OnnxFile) -> str:
        """Return what is wrong with a converted program, in words; "" if nothing is."""
        if self.program is None or self.rows is None:
            return ""
        tolerance = TOLERANCE.get(file.dtype, 1e-5)
        try:
            with torch.enable_grad():  # whatever the caller computes in
                return self._lack(program, tolerance)
        except Exception as error:  # foreign code may raise anything
            return f"fails on {ROWS} rows that onnxruntime takes ({_line(error)})"

    def _lack(self, program: Program, tolerance: float) -> str:
        assert self.program is not None
        assert self.rows is not None
        # twice, since a state that is kept between calls would show in the second
        for rows in (self.rows, self.rows[:1], self.rows):
            x = rows.clone().requires_grad_()
            got = program(x)
            gap = relative_difference(got, self.program(rows))
            if gap > tolerance:
                return f"gives other outputs than onnxruntime (by {gap:.0e} of the largest)"
        if not got.requires_grad:
            return "lets no gradient reach the input"
        torch.autograd.grad(got.sum(), x)
        return ""

    def coupling(self) -> list[str]:
        """Return a note if the output for a row changes with the other rows of its batch."""
        if self.program is None or self.rows is None:
            return []
        alone, together = self.program(self.rows[:1]), self.program(self.rows)[:1]
        gap = relative_difference(alone, together)
        text = f"its output for a row changes with the other rows of the batch (by {gap:.0e})"
        return [f"{text}, as after an export in training mode"] * (gap > COUPLED)

    def notes(self, name: str, reasons: list[str]) -> list[str]:
        """Return what to know about a program that was converted."""
        passed_over = [text for text in reasons if not text.endswith("is missing")]
        notes = [f"converted by {name}: {'; '.join(passed_over)}"] * bool(passed_over)
        if self.failure:
            notes.append(f"its conversion was not compared with onnxruntime: {self.failure}")
        return notes + self.coupling()


def relative_difference(got: Tensor, want: Tensor) -> float:
    """Return the largest difference of outputs, as a share of the largest output or of 1.

    >>> relative_difference(torch.tensor([4.0, 10.0]), torch.tensor([5.0, 10.0]))
    0.1
    """
    if got.shape != want.shape:
        return float("inf")
    got, want = got.detach().double(), want.detach().double()
    gap = torch.where(got == want, 0.0, (got - want).abs())  # equal infinities are equal
    gap = torch.where(got.isnan() & want.isnan(), 0.0, gap).nan_to_num(float("inf"))
    scale = want[want.isfinite()].abs().max().clamp_min(1.0) if want.numel() else 1.0
    return float(gap.max() / scale) if gap.numel() else 0.0


def _rows(file: OnnxFile, samples: Tensor | None) -> Iterator[Tensor]:
    """Yield candidates for the rows to compare on."""
    free = sum(size == 0 for size in file.dims[1:])
    if samples is not None and file.takes(tuple(samples.shape[1:])):
        yield values_for(samples.detach().cpu()[:ROWS], file.dtype)
        return
    draw = torch.Generator().manual_seed(0)
    for side in SIDES if free else (0,):
        shape = [size or side for size in file.dims[1:]]
        yield values_for(torch.rand(ROWS, *shape, generator=draw), file.dtype)


def values_for(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows in [0, 1] as a program of this dtype takes them: whole numbers fill its range."""
    if dtype.is_floating_point:
        return x.float()
    info = torch.iinfo(dtype)
    return (x.float() * min(info.max, 255)).round()


def _by_onnxruntime(file: OnnxFile) -> Program:
    import onnxruntime  # type: ignore[import-not-found]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()
    # by its path: in memory, weights beside the file could not be read
    session = onnxruntime.InferenceSession(
        str(file.path), options, providers=["CPUExecutionProvider"]
    )
    outputs = [o for o in session.get_outputs() if o.name == file.outputs[file.output]]
    if not outputs or outputs[0].type not in KINDS:
        raise RefusedFile(f"{file.path} has no output of floats: it must give logits")

    def run(x: Any) -> Any:
        return session.run([outputs[0].name], {file.input: x})[0]

    return Program(
        ArrayFunction(run),
        digest=file.digest,
        rows=file.rows,
        dtype=file.dtype,
        shape=file.dims[1:],
    )


def _line(error: BaseException) -> str:
    """Return the reason of a failure in one short line."""
    return printable(reason(error), 160)
