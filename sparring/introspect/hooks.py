"""Look inside a model, or hold it still, without changing it.

Names are dotted names of submodules, as `model.named_modules()` gives them, of the bare model:
a `ModelView`, an average (`AveragedModel`) or a DDP wrapper around it is looked through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..component import did_you_mean, require
from .freeze import ModelView, bare

Change = Callable[[Tensor], Tensor]


def locate(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The submodules with these dotted names, in this order.

    Raises:
        ValueError: for a name that does not exist: the nearest, and all that lie no deeper.

    >>> locate(nn.Sequential(nn.ReLU()), ["0"])
    {'0': ReLU()}
    """
    known = dict(bare(model).named_modules())
    known.pop("", None)
    for name in names:
        if name not in known:
            raise ValueError(
                did_you_mean(
                    "submodule", name, [k for k in known if k.count(".") <= name.count(".")]
                )
            )
    return {name: known[name] for name in names}


@contextmanager
def changed(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Inside, the submodule `name` gives `changes[name](its output)`; afterwards all is as before.

    Raises:
        ValueError: for an unknown name, at once; for a submodule that gives no tensor or that one
            forward pass calls twice (its output has no single meaning: name another), in the pass.
        RuntimeError: on the way out, for a submodule that was never called.
    """
    calls = dict.fromkeys(changes, 0)

    def hook(name: str) -> Callable[..., Tensor]:
        def run(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            calls[name] += 1
            require(calls[name] == 1, "submodule", name, "one called once in a forward pass")
            kind = type(output).__name__
            require(
                isinstance(output, Tensor),
                "submodule",
                name,
                f"one that gives a tensor, not a {kind}",
            )
            return changes[name](output)

        return run

    handles = []
    try:
        for name, module in locate(model, list(changes)).items():
            handles.append(module.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
    missed = [name for name, count in calls.items() if not count]
    if missed:
        raise RuntimeError(f"submodule = {missed[0]!r}: it was not called in the pass")


def features(model: nn.Module, x: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits on `x`, and the outputs of the submodules with these names; one forward pass.

    Both keep their graph, and the outputs lie on the path to the logits. What follows a submodule
    is handed a copy, so that an in-place activation cannot overwrite what was seen.

    Arguments:
        x: `(b, *d)`.
        names: dotted names; under a ModelView with `amp` the outputs have that precision.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    >>> logits, seen = features(model, torch.rand(4, 2), ["0", "1"])
    >>> {name: tuple(h.shape) for name, h in seen.items()}
    {'0': (4, 3), '1': (4, 3)}
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Change:
        def run(output: Tensor) -> Tensor:
            seen[name] = output
            return output.clone()

        return run

    with changed(model, {name: keep(name) for name in names}):
        logits = model(x)
    return logits, {name: seen[name] for name in names}


def replace(model: nn.Module, x: Tensor, changes: Mapping[str, Tensor | Change]) -> Tensor:
    """The logits on `x` with the outputs of some submodules replaced.

    Arguments:
        changes: by dotted name, a tensor, or a function of the output that gives one.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> replace(model, torch.rand(1, 2), {"0": torch.tensor([[-1.0, 1.0]])})
    tensor([[0., 1.]])
    """

    def change(to: Tensor | Change) -> Change:
        return to if callable(to) and not isinstance(to, Tensor) else lambda output: to.clone()

    with changed(model, {name: change(to) for name, to in changes.items()}):
        return model(x)


def tail(model: nn.Module, name: str, value: Tensor, *, x: Tensor | None = None) -> Tensor:
    """The logits when the submodule `name` gives `value`.

    Where the submodule stands in plain `Sequential`s, as in our networks, only what follows it is
    run. Any other model is run whole on `x` with the output replaced: same logits, more work.

    Raises:
        ValueError: if `x` is omitted and the model is not made of plain `Sequential`s down to
            `name`.

    >>> import torch
    >>> tail(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "0", torch.tensor([[-1.0, 1.0]]))
    tensor([[0., 1.]])
    """
    locate(model, [name])
    rest = _after(bare(model), name.split("."))
    if rest is None:
        if x is None:
            raise ValueError(f"x is needed: {name!r} does not stand in plain Sequentials")
        return replace(model, x, {name: value})
    return model.inside(rest, value) if isinstance(model, ModelView) else rest(value)


def _after(module: nn.Module, path: Sequence[str]) -> nn.Sequential | None:
    """What plain, nested `Sequential`s run after the submodule at `path`; None for another kind."""
    rest: list[nn.Module] = []
    for name in path:
        if type(module).forward is not nn.Sequential.forward:
            return None
        names, children = zip(*module.named_children(), strict=True)
        at = names.index(name)
        rest = [*children[at + 1 :], *rest]
        module = children[at]
    return nn.Sequential(*rest)
