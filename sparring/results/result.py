"""Records of an evaluation, saved as JSON with an `.npz` of arrays beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field

from . import cards, frames, packing, pairing, pictures, points
from .detection import Detection
from .intervals import Interval
from .ranges import Amount, Count, Digest, Samples, Share, check_arrays
from .records import SCHEMA, checked, from_json, is_record, to_json
from .sampled import SampledClaim
from .verdicts import LOOK, short_reason

# Columns of a training log that a report draws; a stripped result keeps no others.
DRAWN = ("epoch", "loss", "clean", "robust", "ema_robust")


@dataclass(frozen=True)
class AttackRow:
    """Report one attack at one radius: accuracy on all n samples, recounted outside the attack.

    Arguments:
        seconds: of the attack and its recount.
        forwards, backwards: model passes per attacked sample, on average, counted by the guard.
        attacked: samples it was run on: those the model gets right unattacked.
        infeasible: returned points outside the threat's set; they count as failed attacks.
        skipped: samples not attacked as a budget was spent: robust, so accuracy is an upper bound.
    """

    name: str
    accuracy: Share
    low: Share
    high: Share
    seconds: Amount
    forwards: Amount
    backwards: Amount
    attacked: Count = 0
    infeasible: Count = 0
    skipped: Count = 0


@dataclass(frozen=True)
class Check:
    """Report a symptom of masked gradients: its measured `detail`, and `advice` if it fired.

    Where it fires, it forces the verdict `severity`: `"look"` or `"not sound"`.
    """

    name: str
    fired: bool
    advice: str = ""
    detail: str = ""
    severity: str = LOOK

    def brief(self) -> Check:
        """Return the check without advice, and without what its value means.

        >>> Check("zero gradients", False, detail="share: 0 (fires above 0.05)").brief().detail
        '0 (fires above 0.05)'
        """
        return dataclasses.replace(self, advice="", detail=self.detail.rpartition(": ")[2])


@dataclass(frozen=True)
class Certificate:
    """Report a certificate: the share of samples proven right in the whole set.

    Arguments:
        n: samples it was computed on: the first of the evaluated ones.
        robust: the share of the same samples that the attacks left robust; None if unknown.
        contradicted: samples proven and yet broken by an allowed point: 0, or one of the two is
            wrong.
        detail: the claim and its confidence (smoothing certifies another, smoothed, model).
    """

    name: str
    accuracy: Share
    low: Share
    high: Share
    n: Count
    seconds: Amount
    detail: str = ""
    robust: Share | None = None
    contradicted: Count = 0


@dataclass(frozen=True)
class ProbeValue:
    """Report one number of a probe, clean and adversarial; None for a side it does not measure.

    `probe` is its name, as in `probes.PROBES`, and `about` its subject, in words.
    """

    name: str
    clean: float | None = None
    adversarial: float | None = None
    probe: str = ""
    about: str = ""


@dataclass(frozen=True)
class EpsRow:
    """Report one radius: the worst case over the suite, in which `count` samples are robust.

    The worst case is per sample: a sample is robust if no attack of the suite breaks it, since an
    attacker may pick another attack for each sample.

    Arguments:
        eps, threat: None where the threat has no radius; its name, if several were attacked.
        certified: lower bounds at this radius, if any were computed.
        sampled: what the later attacks of the suite were run on, if on a sample of the survivors.
    """

    eps: Amount | None
    robust: Interval
    count: Count
    attacks: list[AttackRow]
    threat: str = ""
    certified: list[Certificate] = field(default_factory=list)
    sampled: SampledClaim | None = None


@dataclass
class Result:
    """Hold the outcome of one evaluation: everything a report needs, and how to reproduce it.

    Arguments:
        recipe, threat: the resolved recipe, {} if unknown; name and numbers at the largest radius.
        robust, attacks: at the largest radius; `by_eps` has every radius, rising. With several
            norms, `robust` is the worst case over all of them, each at its largest radius.
        verdict: on the measurement, not on the model: `"sound"`, `"look"` or `"not sound"`.
        reason, reasons: the gravest reason in a short sentence; every reason, as checks that fired.
        early: why the evaluation ended before its suite, or ""; `robust` is then an upper bound.
        compiled: whether the attacks searched on a compiled model.
        train: `seconds, epochs, device, log` (rows of log.jsonl), {} if unknown.
        arrays: `(n,)` each: `index, y, clean_pred, adv_pred` (on the worst point at the largest
            radius; -1 where logits were not finite) and a `correct_<eps>`; `show_x, show_x_adv
            (k, *d), show_y, show_clean, show_adv` of at most 16 samples right unattacked, up to 12
            of them broken; with `keep`, `x_adv (n, *d)`, the worst points of all samples. Saved in
            `NAME.HASH.npz`; `arrays_sha256` ties the two files. With two classes `clean_score,
            adv_score`, the logit of class 1 minus that of class 0, clean and at the worst of the
            judged points; with bits `flips`, the fewest that broke a sample, else -1.
        detection, notes: a detector's error rates, if computed; remarks of the data set, and
            whether the evaluation was continued after a kill.
        probes: measurements inside the model, at the largest radius; the probe `surface` puts
            `surface (m, m)` and `surface_at (m,)` among the arrays.
    """

    name: str
    recipe: dict[str, Any]
    dataset: str
    split: str
    n: Samples
    threat: dict[str, Any]
    seed: int
    clean: Interval
    robust: Interval
    by_eps: Annotated[list[EpsRow], Field(min_length=1)]
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
    seconds: Amount
    class_names: list[str]
    verdict: str = ""
    reason: str = ""
    reasons: list[str] = field(default_factory=list)
    early: str = ""
    compiled: bool = False
    detection: Detection | None = None
    notes: list[str] = field(default_factory=list)
    probes: list[ProbeValue] = field(default_factory=list)
    stripped: bool = False
    schema: int = SCHEMA
    arrays_sha256: Digest = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )

    def __post_init__(self) -> None:
        if not self.reason:  # as in files of schema 1
            self.reason = short_reason(self.verdict, self.checks, self.reasons, self.early)

    def __repr__(self) -> str:
        return f"Result({cards.headline(self)})"

    def _repr_html_(self) -> str:
        """Return a card for a notebook: accuracies, the verdict with its reason, a small chart."""
        return cards.card(self)

    def summary(self) -> str:
        """Return the accuracies, the verdict and its reason in a few lines of text."""
        return cards.summary(self)

    def plot(self) -> cards.Chart:
        """Return accuracy against eps with its intervals, which a notebook draws.

        Raises:
            ValueError: for a result of several norms, or of a threat without a radius.
        """
        return cards.Chart(self)

    def show_samples(self, worst: int = 8) -> pictures.SampleGrid:
        """Return pictures of at most `worst` samples and their adversarial points, broken first.

        A notebook shows them, and `.save("samples.png")` writes them.

        Raises:
            ValueError: for a stripped result, or samples that are no pictures.
        """
        return pictures.samples(self, worst)

    @property
    def x_adv(self) -> np.ndarray:
        """Return the worst point of every sample `(n, *d)`, float32: the first that breaks it,
        else the nearest miss. Row i belongs to `arrays["index"][i]`.

        Raises:
            ValueError: for a result that was evaluated without `keep="all"`, or stripped.
        """
        return points.of_arrays(self.arrays)

    def save_points(self, path: str | Path) -> Path:
        """Write `x_adv` as one float32 tensor (`.pt`) or array (`.npy`), as leaderboards ask."""
        return points.write(self.x_adv, path)

    def to_frame(self) -> Any:
        """Return a pandas `DataFrame`: clean accuracy, then a row per radius and attack.

        Raises:
            ImportError: if pandas is not installed.
        """
        return frames.frame(frames.rows(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as nested tables of plain values, as its JSON file has them; the arrays
        stay behind."""
        return json.loads(to_json(self))

    def save(self, path: str | Path) -> Path:
        """Write `path` (.json), and the arrays beside it as `NAME.<hash>.npz`.

        A reader at the same time, or after a kill, gets the old result or the new one, whole. A
        stripped result is written without spaces, default values and wide integers.
        """
        path = _json(path)
        arrays = packing.shrink(self.arrays) if self.stripped else self.arrays
        packed = packing.pack(arrays) if arrays else b""
        self.arrays_sha256 = hashlib.sha256(packed).hexdigest() if packed else ""
        text = to_json(self, compact=self.stripped, first="schema")
        pairing.write_pair(path, text.encode() + b"\n", packed, self.arrays_sha256)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result and its arrays, if they are beside it; runs no code of the file's.

        Raises:
            ValueError: if the file is truncated, of another schema or not a result, if a number
                is out of its range, or the arrays are another result's; it says which version
                wrote the file.
        """
        path, noun, redo = _json(path), "result", "Evaluate again"
        result, arrays = pairing.read_pair(
            path, lambda: from_json(cls, path, noun=noun, redo=redo), lambda r: r.arrays_sha256
        )
        if arrays is not None:
            unpacked = packing.unpack(*arrays, result.arrays_sha256)
            with checked(arrays[0], noun, redo):
                result.arrays = packing.grow(unpacked) if result.stripped else unpacked
                check_arrays(result.arrays, n=result.n, classes=len(result.class_names))
        return result

    def strip(self) -> Result:
        """Return a result of verdicts, predictions and counts, without pictures.

        Sample pictures and the loss surface go; scores become the corners of their ROC curves. The
        log keeps what a report draws, to 6 digits. Checks that did not fire keep their name, value
        and threshold alone. Accuracies, tables and comparisons stay as they are.
        """
        log = self.train.get("log")
        rows = [_drawn(row) for row in log or ()]
        return dataclasses.replace(
            self,
            train=self.train | {"log": rows} if log else self.train,
            checks=[c if c.fired else c.brief() for c in self.checks],
            arrays=packing.without_pictures(self.arrays),
            stripped=True,
        )


def _drawn(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report draws of a log's row."""
    return {
        key: float(f"{row[key]:.6g}") if isinstance(row[key], float) else row[key]
        for key in DRAWN
        if row.get(key) is not None
    }


def correct_key(eps: float | None, threat: str = "") -> str:
    """Return the name of the per-sample array of a radius; with the norm where there are several.

    >>> correct_key(0.3), correct_key(None), correct_key(2.0, "L2")
    ('correct_0.3', 'correct', 'correct_L2_2')
    """
    return "_".join(filter(None, ("correct", threat, "" if eps is None else f"{eps:.12g}")))


def strip_results(path: str | Path) -> int:
    """Strip a result file, or all in a folder and below, in place; return how many there were.

    Files of metrics and other JSON stay as they are.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.rglob("*.json"))
    results = [file for file in files if is_record(file, "arrays_sha256")]
    for file in results:
        with pairing.locked_result(file, "stripping"):
            Result.load(file).strip().save(file)
    return len(results)


def _json(path: str | Path) -> Path:
    if Path(path).suffix != ".json":
        allowed = "a result is a .json file, its arrays are beside it"
        raise ValueError(f"path = {str(path)!r} is not allowed: {allowed}")
    return Path(path)
