"""Look inside a model, or hold it still, without changing it.

Names are dotted names of submodules, as `model.named_modules()` gives them, of the bare model:
a `View`, an average (`AveragedModel`) or a DDP wrapper around it is looked through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from . import dist
from .part import nearest, require

Change = Callable[[Tensor], Tensor]

MODES = ("eval", "train", "keep")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _batchnorms(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def hold(model: nn.Module | Callable[[Tensor], Tensor], mode: str = "eval") -> Iterator[None]:
    """Freeze the weights and put every module in `mode`; restore each module's own mode and flag on
    the way out.

    Arguments:
        mode: `"eval"`, `"train"` (batch statistics, running ones untouched) or `"keep"`.
    """
    require(mode in MODES, "mode", mode, "one of " + ", ".join(MODES))
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(m, m.training) for m in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        if mode != "keep":
            model.train(mode == "train")
        model.requires_grad_(False)
        with frozen_bn(model):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def frozen_bn(model: nn.Module) -> Iterator[None]:
    """Running batch-norm statistics and counters stay as they are, whatever the mode."""
    saved = [(m, m.momentum, m.num_batches_tracked) for m in _batchnorms(model)]
    try:
        for module, _, count in saved:
            module.momentum = 0.0
            if count is not None:
                module.num_batches_tracked = count.clone()
        yield
    finally:
        for module, momentum, count in saved:
            module.momentum = momentum
            module.num_batches_tracked = count


@contextmanager
def channels_last(model: nn.Module | Callable[[Tensor], Tensor], on: bool = True) -> Iterator[None]:
    """Convolution weights stand in channels-last layout inside; values and the tensors themselves
    come back after."""
    weights = (
        [p for p in model.parameters() if p.ndim == 4]
        if on and isinstance(model, nn.Module)
        else []
    )
    saved = [p.data for p in weights]
    try:
        for p in weights:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for p, data in zip(weights, saved, strict=True):
            p.data = data


class View(nn.Module):
    """A way of running a model: precision inside, memory layout, compiled or not. Shares its
    weights.

    Inputs and outputs stay float32 (or wider): bf16 spacing just below 1 is 1/256, an 8/255 ball
    would have 8 levels.

    Arguments:
        amp: None, `"bfloat16"` or `"float16"`: autocast inside the model only.
        channels_last: hand images to the model in that layout.
        compile: run `torch.compile(model)`; it refuses double backward.
    """

    _run: Callable[[Tensor], Tensor]

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
        *,
        amp: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        amp = amp or "float32"
        require(amp in PRECISIONS, "amp", amp, "one of " + ", ".join(PRECISIONS))
        self.model = model
        self.dtype = PRECISIONS[amp]
        self.channels_last = channels_last
        run = torch.compile(model) if compile else model
        object.__setattr__(self, "_run", run)

    @property
    def compiled(self) -> bool:
        """Whether a compiled form is run, not the model itself."""
        return self._run is not self.model

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(self._run, x)

    def inside(self, run: Change, x: Tensor) -> Tensor:
        """`run(x)` in this view's precision and layout."""
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.dtype is None:
            return run(x)
        with torch.autocast(x.device.type, self.dtype):
            return run(x).float()


def bare(model: nn.Module) -> nn.Module:
    """The network inside views, averages and DDP wrappers.

    Raises:
        ValueError: for a compiled model: its submodules are not run one by one, so that nothing can
            be seen or replaced there.
    """
    while True:
        compiled = isinstance(model, View) and model.compiled
        if compiled or hasattr(model, "_orig_mod"):
            raise ValueError(
                "model is compiled: its submodules are not run one by one; give the model itself, "
                "as probe.View(model) or compile = false"
            )
        if isinstance(model, View) and isinstance(model.model, nn.Module):
            model = model.model
        elif isinstance(
            model,
            nn.parallel.DistributedDataParallel
            | nn.DataParallel
            | torch.optim.swa_utils.AveragedModel,
        ):
            model = model.module
        else:
            return model


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
                nearest("submodule", name, [k for k in known if k.count(".") <= name.count(".")])
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
        names: dotted names; under a View with `amp` the outputs have that precision.

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

    >>> tail(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "0", torch.tensor([[-1.0, 1.0]]))
    tensor([[0., 1.]])
    """
    locate(model, [name])
    rest = _after(bare(model), name.split("."))
    if rest is None:
        if x is None:
            raise ValueError(f"x is needed: {name!r} does not stand in plain Sequentials")
        return replace(model, x, {name: value})
    return model.inside(rest, value) if isinstance(model, View) else rest(value)


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


def directions(like: Tensor, count: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
    """`(count, b, k)` unit vectors, uniform on the sphere of the rows of `like (b, k)`; as many
    processes draw what one does.

    >>> directions(torch.zeros(2, 3), 5).norm(dim=2).allclose(torch.ones(5, 2))
    True
    """
    rows = torch.zeros(len(like), count, *like.shape[1:], dtype=like.dtype, device=like.device)
    drawn = dist.draw("normal", rows, generator).transpose(0, 1)
    return drawn / drawn.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def vjp_norm(
    outputs: Tensor, x: Tensor, directions: Tensor, *, create_graph: bool = True
) -> Tensor:
    """‖vᵀJ‖² per sample, J = ∂outputs/∂x: one backward pass over the batch.

    Where samples do not see each other (batch norm in eval mode) it is exact; batch statistics add
    the small gradient of the other samples' outputs.

    Arguments:
        outputs: `(b, k)`; x: `(b, *d)`, required gradients before the forward pass.
        directions: `(b, k)` gives `(b,)`; `(m, b, k)` gives `(m, b)`, a backward pass each.
        create_graph: so that the norm can itself be differentiated.

    Raises:
        ValueError: if x does not require gradients, or the outputs come from a compiled model and
            `create_graph` is asked for: compiled graphs refuse a second derivative.

    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> vjp_norm(x * torch.tensor([3.0, 4.0]), x, torch.ones(1, 2))
    tensor([25.])
    """
    require(x.requires_grad, "x.requires_grad", False, "True before the forward pass")
    if create_graph:
        twice(outputs)
    rows = directions if directions.ndim > outputs.ndim else directions[None]
    squares = []
    for row in rows:
        (g,) = torch.autograd.grad(outputs, x, row, create_graph=create_graph, retain_graph=True)
        squares.append(g.flatten(1).square().sum(1))
    return torch.stack(squares).reshape(directions.shape[:-1])


def jacobian_norm(outputs: Tensor, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """‖J‖²_F per sample `(b,)`, exactly: a backward pass an output.

    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> jacobian_norm(x * torch.tensor([3.0, 4.0]), x)
    tensor([25.])
    """
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for column in torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device):
        one = column.expand_as(outputs)
        total = total + vjp_norm(outputs, x, one, create_graph=create_graph)
    return total


def twice(outputs: Tensor) -> None:
    """Refuse outputs that cannot be differentiated twice.

    Raises:
        ValueError: if a compiled model gave them.
    """
    seen: set[Any] = set()
    nodes = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        if node.name().startswith("CompiledFunction"):
            raise ValueError(
                "outputs come from a compiled model, which refuses double backward: "
                "run the model itself, as probe.View(model) or compile = false"
            )
        seen.add(node)
        nodes += [after for after, _ in node.next_functions]
