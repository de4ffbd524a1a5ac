"""Check the arguments of an evaluation, and settle what it runs, before anything runs."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import Model
from ..component import Component, check_classes, require
from ..data.samples import SampleData, Samples, dataset_name, select_samples
from ..data.split import fingerprint
from ..introspect.float32 import on_float32
from ..introspect.precision import settled_precision
from ..runtime import provenance
from ..runtime.identity import PLAIN
from ..runtime.warning import SparringWarning
from ..threats.base import Threat
from .batch_memory import fitting_batch_size
from .cache import BatchCache
from .protocol import EvaluationProtocol, resolve_protocol
from .radii import Radius, Threats, check_reachable, threats_at_radii
from .sampling import check_sample
from .suites import Suite, find_suite
from .worst_points import check_points

FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
SETTINGS = (*PLAIN, types.FunctionType, tuple, np.ndarray, Tensor, nn.Module)
RECORDED = ("sparring", "torch", "builtins")  # a result has the versions of their code


@dataclass(frozen=True)
class Plan:
    """Hold what an evaluation runs: nothing in it is a default any more.

    Arguments:
        original, model: as given, on the device; and one that takes float32.
        radii: (eps, threat) for each radius, rising, norm by norm.
    """

    original: Model
    model: Model
    surrogate: Model | None
    device: torch.device
    protocol: EvaluationProtocol
    suite: Suite
    sampled: Samples
    radii: list[Radius]
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> Threat:
        """Return the threat at the last radius."""
        return self.radii[-1][1]

    @property
    def certificates(self) -> Sequence[str]:
        """Return the names of the certificates to compute."""
        names = self.protocol.certify
        return [names] if isinstance(names, str) else names or ()

    def with_batch_size(self, batch_size: int) -> Plan:
        """Return the same plan in batches of another size."""
        return replace(self, protocol=replace(self.protocol, batch_size=batch_size))

    def cache(self, out: Path | None, *, resume: bool) -> BatchCache:
        """Return the records of finished batches; nowhere for a model or an attack that can't be
        recognised."""
        if out is None:
            return BatchCache(None, {})
        attacks = self._attacks()
        pieces = [("model", self.original), ("model", self.surrogate), ("suite", attacks)]
        for name, piece in pieces:
            if part := provenance.unhashable_part(piece):  # type: ignore[arg-type]
                warnings.warn(
                    f"{part!r} of the {name} can't be hashed, so finished batches are not kept: a "
                    "killed evaluation starts again",
                    SparringWarning,
                    stacklevel=4,
                )
                return BatchCache(None, {})
        # A hash, as a table may hold networks; without it an edited suite would take old records.
        digest = provenance.model_hash(attacks)  # type: ignore[arg-type]
        return BatchCache(out, {**self._settings(), "attacks": digest}, resume=resume)

    def _attacks(self) -> list[dict[str, Any]]:
        """Return the settings of every attack at every radius."""
        return [
            _attack_table(entry.make(threat))
            for _, threat in self.radii
            for entry in self.suite.entries_for(threat)
        ]

    def _settings(self) -> dict[str, Any]:
        """Return what finished batches depend on, beside the attacks' settings."""
        protocol, rows = self.protocol, self.sampled.rows
        run = [protocol.batch_size, protocol.precision, protocol.compile, protocol.cascade]
        run += [protocol.keep]
        run += [] if protocol.sample is None else [f"sample {protocol.sample}"]
        other = None if self.surrogate is None else provenance.model_hash(self.surrogate)
        return {
            "model": provenance.model_hash(self.original),
            "surrogate": other,
            "data": fingerprint(rows.x, rows.y, rows.index),
            "threat": [threat.table() for _, threat in self.radii],
            "suite": [self.suite.name, self.suite.version, self.suite.labels],
            "run": [*run, self.seed, str(self.device), provenance.versions()],
        }


def _attack_table(attack: Any) -> dict[str, Any]:
    """Return an attack's settings and code; of one that is no `Component`, what its attributes
    hold: components, networks, tensors, plain values and functions.

    Lists and other objects do not count: they may change as it runs, as a log of calls does.
    """
    if isinstance(attack, FUNCTIONS):
        return {"name": type(attack).__qualname__, "function": attack}
    code = _user_code(type(attack))
    if isinstance(attack, Component):
        return {**attack.table(), **code}
    inner = dict(getattr(attack, "__dict__", {}))
    if isinstance(attack, nn.Module):
        inner |= dict(attack.named_children()) | attack.state_dict()
    settings = {
        k: v.table() if isinstance(v, Component) else v
        for k, v in inner.items()
        if isinstance(v, SETTINGS)
    }
    return {"name": type(attack).__qualname__, **settings, **code}


def _user_code(kind: type) -> dict[str, Any]:
    """Return the code of a class's methods and its plain values, but for those of classes whose
    version is recorded."""
    return {
        f"{number}.{name}": getattr(value, "__code__", value)
        for number, one in enumerate(kind.__mro__)
        if one.__module__.partition(".")[0] not in RECORDED
        for name, value in vars(one).items()
        if isinstance(value, types.FunctionType)
        or (isinstance(value, PLAIN) and not name.startswith("__"))
    }


def make_plan(
    model: Model,
    data: SampleData,
    threat: Threats,
    protocol: EvaluationProtocol | Suite | str | None,
    *,
    surrogate: Model | None,
    seed: int,
    recipe: Mapping[str, Any] | None,
    device: str | torch.device | None,
    options: Mapping[str, Any],
) -> Plan:
    """Return the plan of an evaluation; the arguments are those of `evaluate`.

    Raises:
        ValueError: for data, labels, names or numbers that do not fit.
    """
    require(callable(model), "model", type(model).__name__, "a module or a function of tensors")
    protocol = resolve_protocol(protocol, options)
    other = None if surrogate is None else on_float32(surrogate)
    suite = find_suite(protocol.suite, other)
    if protocol.cascade is None:
        protocol = replace(protocol, cascade=suite.cascade)
    drawn = {"n": protocol.n, "first": protocol.first, "seed": seed}
    sampled = select_samples(data, protocol.split, **drawn, dataset=dataset_name(recipe))
    radii = threats_at_radii(threat, protocol.eps, sampled.bounds)
    check_reachable(radii, sampled.rows.x.shape[1:])
    check_points(protocol.keep, sampled.rows, radii[-1][1])
    check_sample(protocol, suite, [level_threat for _, level_threat in radii])
    for _, level_threat in radii:
        suite.entries_for(level_threat)  # raises before the clean pass if there are none
        if sampled.class_names is not None:
            check_classes(level_threat, len(sampled.class_names))
    model, at = provenance.model_on_device(model, device)
    protocol = replace(protocol, precision=settled_precision(protocol.precision, at))
    runs = on_float32(model)
    notes: tuple[str, ...] = ()
    if protocol.fit_memory:
        x = sampled.rows.float(slice(0, 2)).to(at)
        size, note = fitting_batch_size(runs, x, batch_size=protocol.batch_size, device=at)
        protocol, notes = replace(protocol, batch_size=size), (note,)
    return Plan(model, runs, surrogate, at, protocol, suite, sampled, radii, seed, notes)
