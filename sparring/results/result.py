"""What an evaluation found: records saved as JSON, with an `.npz` of arrays beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import types
import typing
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime.files import write
from .detection import Detection
from .intervals import Interval
from .intervals import wilson as wilson

SCHEMA = 1


@dataclass(frozen=True)
class AttackRow:
    """One attack at one radius: accuracy on all n samples under it, recounted outside the attack.

    Arguments:
        seconds: of the attack and its recount.
        forwards, backwards: model passes per attacked sample, on average, counted by the guard.
        attacked: samples it was run on: those the model gets right unattacked.
        infeasible: returned points outside the threat's set; they count as failed attacks.
        survivors: it saw only what the attacks before it left standing; its accuracy is then the
            cascade's so far.
        skipped: samples it was not run on because a budget was spent; they count as standing, so
            the accuracy is an upper bound.
    """

    name: str
    accuracy: float
    low: float
    high: float
    seconds: float
    forwards: float
    backwards: float
    attacked: int = 0
    infeasible: int = 0
    survivors: bool = False
    skipped: int = 0


@dataclass(frozen=True)
class Check:
    """A symptom that was looked for: `advice` for when it fired, `detail` of what was measured.

    Arguments:
        severity: what it means when it fired: `"look"` or `"do not trust"`.
    """

    name: str
    fired: bool
    advice: str
    detail: str = ""
    severity: str = "look"


@dataclass(frozen=True)
class Certificate:
    """A lower bound on robust accuracy at one radius: right, and proven right in the whole set.

    Arguments:
        n: samples it was computed on: the first of the evaluated ones.
        detail: what was proven, and how sure it is (smoothing proves another, smoothed, model).
    """

    name: str
    accuracy: float
    low: float
    high: float
    n: int
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class ProbeValue:
    """What a probe measured, averaged over samples; None where it has no such side.

    Arguments:
        probe: its name, as in `probes.PROBES`; about: what it looks at, in words.
    """

    name: str
    clean: float | None = None
    adversarial: float | None = None
    probe: str = ""
    about: str = ""


@dataclass(frozen=True)
class EpsRow:
    """One radius: the worst case over the suite, per sample, which `count` samples stand.

    `eps` is None where the threat has no radius.

    Arguments:
        threat: the name of the set, where several norms were attacked.
        certified: lower bounds at this radius, if any were asked for.
    """

    eps: float | None
    robust: Interval
    count: int
    attacks: list[AttackRow]
    threat: str = ""
    certified: list[Certificate] = field(default_factory=list)


@dataclass
class Result:
    """The outcome of one evaluation: everything a report needs, and how to reproduce it.

    Arguments:
        recipe: the resolved recipe the model was trained by, {} if unknown.
        threat: its name and numbers, at the largest radius.
        robust, attacks: at the largest radius; `by_eps` has every radius, rising. With several
            norms, `robust` is the worst case over all of them, each at its largest radius.
        verdict: `"trust"`, `"look"` or `"do not trust"`; its `reasons` are the checks that fired.
        early: why the evaluation ended before its suite, "" if it did not; `robust` is then an
            upper bound.
        compiled: whether the attacks searched on a compiled model.
        train: `seconds, epochs, device, log` (rows of log.jsonl), {} if unknown.
        arrays: `(n,)` each: `index, y, clean_pred, adv_pred` (on the worst point at the largest
            radius; -1 where logits were not finite) and a `correct_<eps>`; `show_x, show_x_adv
            (k, *d), show_y, show_clean, show_adv` of the first ≤ 16 samples right unattacked. Saved
            in `.npz`; `arrays_sha256` ties the two files. With two classes also `clean_score,
            adv_score`, the logit of class 1 minus that of class 0, clean and at the worst of the
            judged points; with bits `flips`, the fewest that broke a sample, else -1.
        detection: error rates of a detector, None where it was not computed.
        notes: what the data set says of itself.
        probes: what was measured inside the model, at the largest radius; the probe `surface` puts
            `surface (m, m)` and `surface_at (m,)` among the arrays.
    """

    name: str
    recipe: dict[str, Any]
    dataset: str
    split: str
    n: int
    threat: dict[str, Any]
    seed: int
    clean: Interval
    robust: Interval
    by_eps: list[EpsRow]
    attacks: list[AttackRow]
    checks: list[Check]
    train: dict[str, Any]
    versions: dict[str, str]
    commit: str
    data_sha256: str
    suite: str
    suite_version: int
    precision: str
    device: str
    seconds: float
    class_names: list[str]
    verdict: str = ""
    reasons: list[str] = field(default_factory=list)
    early: str = ""
    compiled: bool = False
    detection: Detection | None = None
    notes: list[str] = field(default_factory=list)
    probes: list[ProbeValue] = field(default_factory=list)
    schema: int = SCHEMA
    arrays_sha256: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def save(self, path: str | Path) -> Path:
        """Write `path` (.json) and the arrays beside it (.npz), each whole or not at all."""
        path = _json(path)
        packed = _pack(self.arrays) if self.arrays else b""
        self.arrays_sha256 = hashlib.sha256(packed).hexdigest() if packed else ""
        held = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "arrays"
        }
        text = json.dumps(
            _plain({"schema": self.schema, **held}), indent=1, ensure_ascii=False, allow_nan=False
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if packed:
            write(path.with_suffix(".npz"), packed)
        write(path, text.encode() + b"\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result and, where they are there, its arrays; runs no code of the file's.

        Raises:
            ValueError: for a file that is truncated, of another schema, or no result; or arrays of
            another one.
        """
        path = _json(path)
        try:
            data = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(
                f"{path} is no complete JSON: {error}. Evaluate again to replace it"
            ) from None
        if not isinstance(data, dict) or "schema" not in data:
            raise ValueError(f"{path} is not a result: it has no schema number")
        if data["schema"] != SCHEMA:
            raise ValueError(
                f"{path} has schema {data['schema']!r}, this version reads schema {SCHEMA}: "
                "evaluate again"
            )
        result = _read(cls, data, str(path))
        arrays = path.with_suffix(".npz")
        if arrays.exists():
            result.arrays = _unpack(arrays, result.arrays_sha256)
        return result


def correct_key(eps: float | None, threat: str = "") -> str:
    """The name of the per-sample array of a radius; with the norm where there are several.

    >>> correct_key(0.3), correct_key(None), correct_key(2.0, "L2")
    ('correct_0.3', 'correct', 'correct_L2_2')
    """
    parts = ["correct", threat, "" if eps is None else f"{eps:.12g}"]
    return "_".join(part for part in parts if part)


def _json(path: str | Path) -> Path:
    if Path(path).suffix != ".json":
        raise ValueError(
            f"path = {str(path)!r} is not allowed: a result is a .json file, its arrays stand "
            "beside it"
        )
    return Path(path)


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _unpack(path: Path, digest: str) -> dict[str, np.ndarray]:
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != digest:
        raise ValueError(
            f"{path} does not belong to the result beside it, or is damaged: evaluate again"
        )
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} can't be read: {error}") from None


def _plain(value: Any) -> Any:
    """As JSON can hold it: records are tables, numpy scalars numbers, NaN and inf null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


class _Field(NamedTuple):
    kind: Any
    needed: bool


def _fields(cls: type) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    none = dataclasses.MISSING
    return {
        f.name: _Field(hints[f.name], f.default is none and f.default_factory is none)
        for f in dataclasses.fields(cls)
        if f.name != "arrays"
    }


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` from JSON as the annotated kind, or a `ValueError` that says where it is not."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        known = _fields(typing.cast(type, kind))
        if lacks := [k for k, f in known.items() if f.needed and k not in value]:
            raise ValueError(f"{where} is not a result: it lacks {', '.join(lacks)}")
        for k in value:
            if k not in known:
                raise ValueError(f"{where} is not a result: {k!r} is unknown")
        return typing.cast(Any, kind)(
            **{k: _read(known[k].kind, v, f"{where}: {k}") for k, v in value.items()}
        )
    if typing.get_origin(kind) is list and isinstance(value, list):
        (inner,) = typing.get_args(kind)
        return [_read(inner, v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(kind, types.UnionType):
        return None if value is None else _read(typing.get_args(kind)[0], value, where)
    basic: Any = typing.get_origin(kind) or kind
    if basic is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, basic) or (isinstance(value, bool) and basic is not bool):
        raise ValueError(f"{where} = {value!r} is not allowed: it must be a {basic.__name__}")
    return value
