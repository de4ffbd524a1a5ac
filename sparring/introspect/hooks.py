"""Record, replace and resume from the outputs of submodules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..component import did_you_mean, require
from .freeze import ModelView, unwrap

OutputTransform = Callable[[Tensor], Tensor]


def submodules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules with these dotted names, in this order.

    Raises:
        ValueError: for an unknown name: the nearest, and all names at most as deep.

    >>> submodules(nn.Sequential(nn.ReLU()), ["0"])
    {'0': ReLU()}
    """
    known = dict(unwrap(model).named_modules())
    known.pop("", None)
    for name in names:
        if name not in known:
            depth = name.count(".")
            names_as_deep = [k for k in known if k.count(".") <= depth]
            raise ValueError(did_you_mean("submodule", name, names_as_deep))
    return {name: known[name] for name in names}


@contextmanager
def transform_outputs(
    model: nn.Module, transforms: Mapping[str, OutputTransform]
) -> Iterator[None]:
    """Let each submodule `name` return `transforms[name](its output)`; undo it on the way out.

    Raises:
        ValueError: at once for an unknown name; in the forward pass for a submodule that does not
            return a tensor, or that is called twice, so that its output has no single meaning.
        RuntimeError: on the way out, for a submodule that was never called.
    """
    calls = dict.fromkeys(transforms, 0)

    def hook(name: str) -> Callable[..., Tensor]:
        def run(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            calls[name] += 1
            require(calls[name] == 1, "submodule", name, "one called once in a forward pass")
            allowed = f"one that gives a tensor, not a {type(output).__name__}"
            require(isinstance(output, Tensor), "submodule", name, allowed)
            return transforms[name](output)

        return run

    handles = []
    try:
        for name, module in submodules(model, list(transforms)).items():
            handles.append(module.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
    missed = [name for name, count in calls.items() if not count]
    if missed:
        raise RuntimeError(f"submodule = {missed[0]!r}: it was not called in the pass")


def extract_features(
    model: nn.Module, x: Tensor, names: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits on `x` and the outputs of the named submodules, from one forward pass.

    Both keep their graph, and the outputs lie on the path to the logits.

    Arguments:
        x: `(b, *d)`.
        names: dotted names; under a ModelView with `amp` the outputs have that precision.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    >>> logits, features = extract_features(model, torch.rand(4, 2), ["0", "1"])
    >>> {name: tuple(h.shape) for name, h in features.items()}
    {'0': (4, 3), '1': (4, 3)}
    """
    features: dict[str, Tensor] = {}

    def keep(name: str) -> OutputTransform:
        def run(output: Tensor) -> Tensor:
            features[name] = output
            return output.clone()  # or an in-place activation after it would overwrite the record

        return run

    with transform_outputs(model, {name: keep(name) for name in names}):
        logits = model(x)
    return logits, {name: features[name] for name in names}


def replace_outputs(
    model: nn.Module, x: Tensor, outputs: Mapping[str, Tensor | OutputTransform]
) -> Tensor:
    """Return the logits on `x` with the outputs of some submodules replaced.

    Arguments:
        outputs: by dotted name, a tensor, or a function of the output that returns one.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> replace_outputs(model, torch.rand(1, 2), {"0": torch.tensor([[-1.0, 1.0]])})
    tensor([[0., 1.]])
    """

    def transform(to: Tensor | OutputTransform) -> OutputTransform:
        return to if callable(to) and not isinstance(to, Tensor) else lambda output: to.clone()

    with transform_outputs(model, {name: transform(to) for name, to in outputs.items()}):
        return model(x)


def forward_from(model: nn.Module, name: str, value: Tensor, *, x: Tensor | None = None) -> Tensor:
    """Return the logits that follow when the submodule `name` returns `value`.

    Where plain `Sequential`s contain the submodule, as in our networks, only what follows it runs.
    Any other model runs whole on `x` with the output replaced: same logits, more work.

    Raises:
        ValueError: without `x`, if the model is not made of plain `Sequential`s down to `name`; for
            a submodule that is called twice.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> forward_from(model, "0", torch.tensor([[-1.0, 1.0]]))
    tensor([[0., 1.]])
    """
    (start,) = submodules(model, [name]).values()
    rest = _modules_after(unwrap(model), name.split("."))
    again = rest is not None and any(module is start for module in rest.modules())
    if rest is None or again:
        if x is None:
            require(not again, "submodule", name, "one called once in a forward pass")
            raise ValueError(f"x is needed: {name!r} is not inside Sequentials only")
        return replace_outputs(model, x, {name: value})
    return model.call(rest, value) if isinstance(model, ModelView) else rest(value)


def _modules_after(module: nn.Module, path: Sequence[str]) -> nn.Sequential | None:
    """Return the modules that run after the one at `path` in plain, nested `Sequential`s; None
    where another module contains it."""
    rest: list[nn.Module] = []
    for name in path:
        if type(module).forward is not nn.Sequential.forward:
            return None
        # not `named_children`, which leaves out a module that stands there a second time
        inner = module.named_modules(remove_duplicate=False)
        names, children = zip(*((n, m) for n, m in inner if n and "." not in n), strict=True)
        position = names.index(name)
        rest = [*children[position + 1 :], *rest]
        module = children[position]
    return nn.Sequential(*rest)
