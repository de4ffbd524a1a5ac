"""Prepare a user's network for training, and check with two samples what it takes and returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data import Split
from ..introspect import freeze
from ..introspect.lazy import shape_lazy_layers
from ..runtime.torch_private import tensor_version

WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)
WRAP_MODEL = "return its logits alone, or hand over sparring.models.wrap_model(model)"


class Needs(NamedTuple):
    """What a network needs of the training.

    Arguments:
        rows: of a batch, at least: 2 where it normalises over the batch.
        all_parameters: whether its output depends on every parameter.
    """

    rows: int
    all_parameters: bool


def prepare_network(model: Any, samples: Tensor, *, seed: int) -> nn.Module:
    """Return the network inside `torch.compile`, DDP and DataParallel; the weights are shared.

    Lazy layers get their shapes from the samples, and their initial weights from the seed.

    Raises:
        ValueError: for anything but a network with float32 weights that can be saved as tensors.
    """
    while isinstance(model, WRAPPERS) or isinstance(getattr(model, "_orig_mod", None), nn.Module):
        model = model.module if isinstance(model, WRAPPERS) else model._orig_mod
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ValueError(f"model is a {kind}: only an nn.Module of PyTorch can be trained")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(
                f"model has {name} in {kind}: training takes float32 weights, as model.float() "
                "makes them; amp = 'bfloat16' computes faster inside"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        with _clear_errors(model, samples):
            shape_lazy_layers(model, samples)
    _check_extra_state(model)
    return model


def _check_extra_state(model: nn.Module) -> None:
    """Raise `ValueError` for extra state (`get_extra_state`) that is no tensor."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"model has extra state, {name}, that is a {type(value).__name__}: a run keeps "
                "tensors only, so let get_extra_state return one, or register a buffer instead"
            )


def check_network(model: nn.Module, samples: Tensor, classes: int) -> Needs:
    """Return what a network needs, after passes of two samples in both modes.

    Running statistics, random states and gradients stay as they were. A network that works in
    place on its input gets a copy of it from now on: a batch passes through it several times, and
    validation would change the data themselves.

    Raises:
        ValueError: unless it takes the samples and returns logits `(2, classes)`.
    """
    x = samples.clone()
    for mode in ("eval", "train"):
        with _as_before(model), freeze.frozen(model, mode):
            _check_logits(_output(model, x), classes, mode)
    if tensor_version(x) or not torch.equal(x, samples):
        model.register_forward_pre_hook(_copied_input)
    all_parameters = _uses_all_parameters(model, samples)
    return Needs(1 if _takes_one_row(model, samples, classes) else 2, all_parameters)


def two_samples(split: Split) -> Tensor:
    """Return two inputs `(2, *d)` of a split that is not empty."""
    x = split.float(slice(0, 2))
    return x if len(x) == 2 else x.repeat(2, *[1] * (x.ndim - 1))


def _copied_input(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].clone(), *inputs[1:])


def _output(model: nn.Module, x: Tensor) -> Any:
    with _clear_errors(model, x), torch.no_grad():
        return model(x)


@contextmanager
def _clear_errors(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Turn the errors of a user's forward into one that names the shape of the samples."""
    try:
        yield
    except Exception as error:  # a user's code may raise anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {' '.join(lines[-1:])[:300]}"
        mode = " in training" if model.training else ""
        raise ValueError(
            f"the model does not take the data's samples of shape {tuple(x.shape[1:])}{mode}: "
            f"{reason}"
        ) from error


def _check_logits(output: Any, classes: int, mode: str) -> None:
    when = " in training" if mode == "train" else ""
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise ValueError(
            f"the model returns a {kind}{when}; it must give logits (b, {classes}): {WRAP_MODEL}"
        )
    if output.shape != (2, classes):
        shape = ", ".join(map(str, ("b" if output.shape[:1] == (2,) else "", *output.shape[1:])))
        raise ValueError(f"the model returns ({shape}){when}; it must return logits (b, {classes})")
    if not output.is_floating_point():
        raise ValueError(f"the model returns {output.dtype}{when}; logits must be floating point")


def _takes_one_row(model: nn.Module, samples: Tensor, classes: int) -> bool:
    """Return whether a batch of one row passes in training; batch norm refuses it."""
    with _as_before(model), freeze.frozen(model, "train"):
        try:
            return _output(model, samples[:1]).shape == (1, classes)
        except ValueError:
            return False


def _uses_all_parameters(model: nn.Module, samples: Tensor) -> bool:
    """Return whether the logits depend on all parameters.

    Raises:
        ValueError: if they depend on none, or have no gradient.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return True
    with _as_before(model), freeze.frozen_bn(model), torch.enable_grad():
        try:
            logits = model.train()(samples)
            grads = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:300]
            raise ValueError(
                f"the model can't be trained: its logits have no gradient to its weights: {reason}"
            ) from error
    return all(g is not None for g in grads)


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Restore modes, buffers, as those of spectral norm, and random states on the way out."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng([*devices]):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                setattr(module, name, buffer.copy_(value))
