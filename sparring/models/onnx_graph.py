"""Walk and rewrite the graphs of ONNX models, so that converters understand them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..runtime.text import printable

DOMAINS = ("", "ai.onnx")  # of the operators that the standard defines
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
RANDOM |= {"RandomUniformLike"}
FOLDED = 1 << 24  # numbers in a constant that is computed once


def graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph, or the body of a function, and the graphs in its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            # one without nodes may hold weights: a branch that gives a constant
            for inner in [attribute.g] * attribute.HasField("g") + [*attribute.graphs]:
                yield from graphs(inner)


def tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor of a model: weights, and constants of its nodes."""
    for graph in itertools.chain.from_iterable(map(graphs, [model.graph, *model.functions])):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from [attribute.t, *attribute.tensors]
                for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
                    yield from (sparse.values, sparse.indices)


def foreign_operator(model: Any) -> str:
    """Return the name of an operator that the standard does not define; "" if there is none.

    onnx2pytorch takes an operator that it does not know for the function of torch of that name,
    which might be any: `save`, or `set_grad_enabled`.
    """
    import onnx  # type: ignore[import-not-found]

    for graph in graphs(model.graph):
        for node in graph.node:
            if node.domain not in DOMAINS or not onnx.defs.has(node.op_type):
                return printable(f"{node.domain}::{node.op_type}".removeprefix("::"))
    return ""


def has_operator(model: Any, name: str) -> bool:
    """Return whether a model uses an operator."""
    return any(node.op_type == name for graph in graphs(model.graph) for node in graph.node)


def with_neutral_names(model: Any) -> Any:
    """Return a copy of a model with numbers in place of its names.

    A converter makes attributes, and onnx2torch Python code, from the names of nodes and values:
    those of a stranger shall not get there. onnx2pytorch takes "a.b" and "a_b" for one weight.
    """
    import onnx  # type: ignore[import-not-found]

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    numbers: dict[str, str] = {"": ""}  # "" is an input that is left out

    def neutral(name: str) -> str:
        return numbers.setdefault(name, f"v{len(numbers)}")

    nodes = itertools.count()
    for graph in graphs(copied.graph):
        values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
        values += [sparse.values for sparse in graph.sparse_initializer]
        for value in values:
            value.name = neutral(value.name)
        for node in graph.node:
            node.name = f"n{next(nodes)}"
            node.input[:] = [neutral(name) for name in node.input]
            node.output[:] = [neutral(name) for name in node.output]
        del graph.quantization_annotation[:]
    return copied


def fold_constants(model: Any) -> None:
    """Compute in place what depends on no input, as the absolute value of a weight.

    Converters demand that the weights of a layer are numbers in the file.
    """
    import onnx  # type: ignore[import-not-found]

    graph, kept = model.graph, []
    inputs = {value.name for value in graph.input}
    known = {t.name: t for t in graph.initializer if t.name not in inputs}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        values = [] if outputs & {*node.output} else _computed(node, known, model.opset_import)
        if not values:
            kept.append(node)
        for name, value in zip(node.output, values, strict=False):
            known[name] = onnx.numpy_helper.from_array(value, name)
    if len(kept) == len(graph.node):
        return
    # weights that nothing reads any more take memory alone
    del graph.node[:]
    graph.node.extend(kept)
    used = outputs | {name for inner in graphs(graph) for node in inner.node for name in node.input}
    weights = [tensor for name, tensor in known.items() if name in used]
    weights += [t for t in graph.initializer if t.name in inputs]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _computed(node: Any, known: Mapping[str, Any], opsets: Any) -> list[Any]:
    """Return the arrays that a node gives, or [] if it reads others than those of known tensors."""
    import numpy as np
    import onnx  # type: ignore[import-not-found]
    from onnx.reference import ReferenceEvaluator  # type: ignore[import-not-found]

    names = list(dict.fromkeys(filter(None, node.input)))
    inner = any(len(a.g.node) or len(a.graphs) for a in node.attribute)
    if node.domain not in DOMAINS or node.op_type in RANDOM or inner or {*names} - {*known}:
        return []
    try:
        function = onnx.helper.make_function("", "f", names, [*node.output], [node], [*opsets])
        feed = {name: onnx.numpy_helper.to_array(known[name]) for name in names}
        values = ReferenceEvaluator(function).run(None, feed, {})
    except Exception:  # what the reference lacks is left to the converters
        return []
    small = all(isinstance(v, np.ndarray | np.generic) and v.size <= FOLDED for v in values)
    return [np.asarray(v) for v in values] if small else []
