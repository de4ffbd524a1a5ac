"""Run programs, TorchScript, exported or ONNX, in batches and a dtype that they take."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .outputs import first_weight, read_logits

TRAINING = {"batch_norm": 5, "dropout": 2}  # position of the argument `training` of an operator
TRACED = (
    "was traced in training mode ({}): call model.eval() before it is traced, and hand "
    "training=self.training to functions as F.dropout"
)


class BatchSizes(NamedTuple):
    """Batch sizes that a program takes; `most` None: any from `least` on."""

    least: int = 0
    most: int | None = None

    def __str__(self) -> str:
        if self.least == self.most or self == (0, None):
            return str(self.most)
        return f"{self.least}..{'' if self.most is None else self.most}"


ANY_SIZE = BatchSizes()


class RefusedFile(ValueError):
    """Refuse a file, with the reason: raised here, not by a loader of torch."""


class Program(nn.Module):
    """Run a program from a file, always in the mode it was saved in for evaluation.

    It hides its inner modules: those of a program have no modes to set. A program that does not
    take every batch size runs in batches that it takes, the last one padded with zeros.

    Arguments:
        rows: the batch sizes that it takes.
        dtype: of its inputs; default: of its parameters. To whole numbers inputs are rounded.
        names: of its outputs, in order, if it returns them without.
        shape: of a sample, with 0 for a free size; default: unknown.
        rounded: it takes whole numbers as floats, so that the gradient passes straight through
            the rounding.
        notes: sentences on how it was loaded, which belong beside its result.
    """

    def __init__(
        self,
        program: nn.Module,
        *,
        digest: str,
        rows: BatchSizes = ANY_SIZE,
        dtype: torch.dtype | None = None,
        names: Sequence[str] = (),
        shape: Sequence[int] | None = None,
        rounded: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.program, self.digest, self.rows = program, digest, rows
        self.dtype, self.names, self.shape = dtype, names, shape
        self.rounded, self.notes = rounded, tuple(notes)
        self.first_weight = first_weight(program)
        # Weights that compute in another dtype than that of the inputs do not name it.
        self.follows_weights = dtype is None or any(w.dtype == dtype for w in self.first_weight)
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.shape)
        follows = self.follows_weights and self.first_weight
        dtype = self.first_weight[0].dtype if follows else self.dtype or x.dtype
        if dtype.is_floating_point or dtype.is_complex:
            z = self._in_batches(x.to(dtype))
        else:
            whole = whole_numbers(x, dtype)
            z = self._in_batches(whole if self.rounded else whole.to(dtype))
        return z if dtype == x.dtype else z.to(torch.promote_types(x.dtype, torch.float32))

    def _in_batches(self, x: Tensor) -> Tensor:
        """Return the logits of `x`, in batches of sizes that the program takes."""
        # An empty batch runs as a row of zeros: instance norm of onnx2pytorch fails without rows.
        least, most = max(self.rows.least, 1), self.rows.most
        if least <= len(x) <= (len(x) if most is None else most):
            return self._run(x)
        outputs = []
        for part in x.split(most or max(len(x), 1)):
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
        options |= {"shape": self.shape, "rounded": self.rounded, "notes": self.notes}
        copied = Program(program, digest=self.digest, **options)
        copied.follows_weights = self.follows_weights  # those of the copy may have moved
        return copied

    def extra_repr(self) -> str:
        return f"{self.digest}, rows={self.rows}"


def check_shape(x: Tensor, shape: Sequence[int] | None) -> None:
    """Raise `ValueError` unless `x (b, *d)` has samples of a shape, in which 0 is a free size.

    >>> check_shape(torch.zeros(5, 3, 8, 8), (3, 32, 0))
    Traceback (most recent call last):
    ValueError: the program takes samples of shape (3, 32, any), not (3, 8, 8)
    """
    given = tuple(x.shape[1:])
    if shape is None or fits(given, shape):
        return
    wanted = ", ".join("any" if size == 0 else str(size) for size in shape)
    wanted += "," if len(shape) == 1 else ""
    raise ValueError(f"the program takes samples of shape ({wanted}), not {given}")


def fits(given: Sequence[int], shape: Sequence[int]) -> bool:
    """Return whether a shape has the sizes of another, in which 0 is a free size."""
    pairs = zip(given, shape, strict=False)
    return len(given) == len(shape) and all(size in (0, n) for n, size in pairs)


def whole_numbers(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `x` rounded into the range of an integer dtype, as floats, with the gradient of x.

    >>> whole_numbers(torch.tensor([-3.0, 7.6, 300.0]), torch.uint8)
    tensor([  0.,   8., 255.])
    """
    info = torch.iinfo(dtype)
    x = x if x.is_floating_point() else x.float()
    rounded = x.detach().round().clamp(info.min, info.max)
    return rounded + (x - x.detach())  # adds 0, exactly


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
            if operator in str(node.target) and _always_trains(node.args, position):
                raise RefusedFile(f"{where} was exported in training mode: call model.eval() first")
    (first,) = (node.meta["val"] for node in program.graph.nodes if node.name in names)
    rows, dtype = _export_rows(first.shape[0], program.range_constraints), first.dtype
    shape = [size if isinstance(size, int) else 0 for size in first.shape[1:]]
    if device != "cpu":
        program = move_to_device_pass(program, device)  # .to() would leave its constants behind
    module, spec = program.module(), program.call_spec.in_spec
    module = module if len(spec.unflatten([0])[0]) else Named(module, spec)
    return Program(module, digest=digest, rows=rows, dtype=dtype, shape=shape)


class Named(nn.Module):
    """Call a program that takes its one input by a name.

    Arguments:
        spec: PyTorch's, of all positional arguments and keywords of a call.
    """

    def __init__(self, module: nn.Module, spec: Any) -> None:
        super().__init__()
        self.module, self.spec = module, spec

    def forward(self, x: Tensor) -> Any:
        positional, named = self.spec.unflatten([x])
        return self.module(*positional, **named)


def _always_trains(arguments: Sequence[Any], position: int) -> bool:
    """Return whether an operator's argument `training` is True, and not because batch norm has no
    running statistics to use."""
    statistics = position <= 3 or (len(arguments) > 3 and arguments[3] is not None)
    return len(arguments) > position and arguments[position] is True and statistics


def _export_rows(size: Any, constraints: Mapping[Any, Any]) -> BatchSizes:
    """Return the batch sizes that an exported program takes: one, or those of a dynamic size."""
    if isinstance(size, int):
        return BatchSizes(size, size)
    limits = constraints.get(size.node.expr)
    if limits is None:
        return ANY_SIZE
    most = str(limits.upper)  # a number, or infinity
    return BatchSizes(int(limits.lower), int(most) if most.isdecimal() else None)


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
