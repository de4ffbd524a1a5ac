"""Read ONNX files: input and output, weights beside them, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import torch

from ..runtime import files
from ..runtime.extras import import_extra
from ..runtime.text import printable
from .base import similar_name
from .onnx_graph import fold_constants, graphs, tensors
from .runner import ANY_SIZE, BatchSizes, RefusedFile, fits

TYPES = {  # of TensorProto
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
CHUNK = 1 << 20  # bytes


class OnnxFile(NamedTuple):
    """Hold an ONNX program, with its one input and the output that is read.

    Arguments:
        graph: the whole `ModelProto`, for converters.
        digest: over the file, and over the weights beside it.
        dims: of the input, with 0 for a free size.
        dtype: of the input.
        output: its position among `outputs`, the names.
    """

    graph: Any
    path: Path
    digest: str
    input: str
    dims: tuple[int, ...]
    dtype: torch.dtype
    output: int
    outputs: list[str]

    def takes(self, shape: Sequence[int]) -> bool:
        """Return whether it takes samples of a shape."""
        return fits(shape, self.dims[1:])

    @property
    def rows(self) -> BatchSizes:
        """The batch sizes that it takes."""
        return BatchSizes(self.dims[0], self.dims[0]) if self.dims[0] else ANY_SIZE


def read_onnx(path: Path, digest: str) -> OnnxFile:
    """Read an ONNX file and the weights beside it.

    Raises:
        ValueError: for a program of several inputs, without an output of numbers, or in training
            mode; for weights in another folder, or if the package onnx is missing.
        FileNotFoundError: for missing weights.
    """
    try:
        onnx = import_extra("onnx", extra="onnx", purpose=f"{path}, an ONNX program,")
    except ValueError as error:
        raise RefusedFile(str(error)) from error
    model = onnx.load(path, load_external_data=False)
    beside = weight_files(model, path)
    if beside:
        digest = _joint_digest(digest, beside)
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    if len(model.functions):
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    weights = {value.name for value in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise RefusedFile(f"{path} takes {len(inputs)} inputs; it must take one batch of samples")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in TYPES or not kind.HasField("shape") or not len(kind.shape.dim):
        raise RefusedFile(f"{path} must take one batch of samples: a tensor of numbers")
    floats = [k for k, o in enumerate(graph.output) if o.type.tensor_type.elem_type in (1, 10, 11)]
    outputs = [value.name for value in graph.output]
    if not floats:
        raise RefusedFile(f"{path} has no output of floats: it must give logits or probabilities")
    output = outputs.index("logits") if "logits" in outputs else floats[0]
    fold_constants(model)
    refuse_training(model, path)
    return OnnxFile(
        model,
        path,
        digest,
        inputs[0].name,
        tuple(max(dim.dim_value, 0) for dim in kind.shape.dim),  # −1 is free, too
        TYPES[kind.elem_type],
        output,
        outputs,
    )


def weight_files(model: Any, path: Path) -> list[Path]:
    """Return the files of weights that a model without them names: beside it, and nowhere else.

    Raises:
        ValueError: for a name that leaves the folder, or leads through a link.
        FileNotFoundError: for a missing file.
    """
    names: dict[str, None] = {}
    for tensor in tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            names[entries.get("location", "")] = None
    beside = []
    for name in names:
        file = path.parent / name
        parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
        rooted = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
        inside = file.resolve().is_relative_to(path.parent.resolve())
        if not name or rooted or ".." in parts or not inside or "\0" in name:
            raise RefusedFile(
                f"{path} was refused: its weights are to be read from {printable(repr(name))}, "
                "which is not beside it"
            )
        files.refuse_link(file)
        if not file.is_file():
            raise FileNotFoundError(
                f"{path} keeps its weights in {printable(repr(name))}, which is not beside it"
                f"{similar_name(file)}"
            )
        beside.append(file)
    return beside


def _joint_digest(digest: str, beside: list[Path]) -> str:
    sha = hashlib.sha256(digest.encode())
    for path in beside:
        with files.open_regular(path) as file:
            while chunk := file.read(CHUNK):
                sha.update(chunk)
    return sha.hexdigest()[:16]


def refuse_training(model: Any, path: Path) -> None:
    """Raise `ValueError` for batch norm or dropout in training mode: nothing switches it off."""
    import onnx  # type: ignore[import-not-found]

    known = {t.name: t for graph in graphs(model.graph) for t in graph.initializer}
    for node in (node for graph in graphs(model.graph) for node in graph.node):
        trains = False
        if node.op_type == "BatchNormalization":  # before opset 14, further outputs meant it
            flags = [a.i for a in node.attribute if a.name == "training_mode"]
            trains = any(flags) or sum(map(bool, node.output)) > 1
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in known:
            trains = bool(onnx.numpy_helper.to_array(known[node.input[2]]))
        if trains:
            kind = {"Dropout": "dropout"}.get(node.op_type, "batch norm")
            raise RefusedFile(
                f"{path} was exported in training mode ({kind}): call model.eval() first"
            )
