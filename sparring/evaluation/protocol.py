"""The options of an evaluation: one value that Python, recipes, studies and the shell fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, TypedDict

from ..component import check_arguments, did_you_mean, require
from ..introspect import freeze
from ..results import points
from ..runtime.first_edition import renamed_keywords
from .probes import probe_names
from .radii import Eps
from .suites import Suite, check_suite_name


@dataclass(frozen=True)
class EvaluationProtocol:
    """Hold the options of an evaluation, in plain values.

    The keywords of `evaluate`, `[evaluation]` of a recipe, `[evaluations]` of a study and the
    options of `sparring evaluate` are these fields. To add an option: a field here, its use, and
    an option in `cli/main.py`.

    Arguments:
        suite: name of a suite (`sparring list suites`), or a `Suite`.
        eps: radii in input units, for each norm; default: the threat's own.
        n: number of samples, drawn by the seed; default: all.
        first: take the first n samples in the data's order instead, as published evaluations do;
            the result's notes say so.
        split: `"test"`, `"val"` or `"train"`.
        batch_size: samples per batch. The attacks draw per batch, so results depend on it.
        fit_memory: halve the batch size before the start until memory holds a batch (see
            `batch_memory`); the notes give the size. Without it, memory that runs out halves the
            batch size, and the attacks start again.
        precision: of the model inside the attacks; float32 where the device has no units for
            bfloat16. The judge always uses float32, and attacks repeat near misses in it.
        compile: attack the compiled model (see `CompiledModel`); the judge runs the model.
            It costs up to a minute at the start.
        cascade: an attack sees only samples that all attacks before it left robust. Cheaper, with
            the same worst case up to draws, but rows can't be compared. Default: the suite's.
        sample: m: run the attacks that may be sampled (in `autoattack`, FAB-T and Square) on m
            random survivors of those before and on the nearest tenth, and on all survivors once
            one of the m breaks. The result says what the others could lose. Default: on all.
        seconds: budget of wall time for the attacks; default: no limit. When a budget is spent the
            evaluation ends. Samples not attacked then count as robust, so the accuracy is an upper
            bound, and the result reports it. With `out`, a larger budget continues later.
        queries: budget of forward passes, counted in samples, of all processes together;
            default: no limit.
        certify: lower bounds beside the attacks, as in `certification.METHODS`; default: none.
        probes: names of `probes.PROBES`, or `"all"`, run on 64 samples at the largest radius.
            Default: none; `sparring.evaluate` runs `"masking"` for methods that shape gradients.
        keep: which worst points the result holds: `"shown"`, those of at most 16 samples; `"all"`,
            as uint8 where they are multiples of 1/255, else float32; or all as `"uint8"`,
            `"float16"` or `"float32"`. The judge sees them again as stored; the notes say what
            rounding cost.

    Raises:
        ValueError: for an unknown name or a number out of range.
    """

    suite: str | Suite = "quick"
    eps: Eps = None
    n: int | None = None
    first: bool = False
    split: str = "test"
    batch_size: int = 250
    fit_memory: bool = False
    precision: str = "float32"
    compile: bool = False
    cascade: bool | None = None
    sample: int | None = None
    seconds: float | None = None
    queries: int | None = None
    certify: str | Sequence[str] = ()
    probes: str | Sequence[str] | None = None
    keep: str = points.SHOWN_ONLY

    def __post_init__(self) -> None:
        for option, value in check_arguments(type(self), vars(self)).items():
            self._set(option, value)
        # The samples check split, the radii eps, the certificates certify:
        # they know the data, the threat and the model.
        if isinstance(self.suite, str):
            check_suite_name(self.suite)
        require(isinstance(self.suite, str | Suite), "suite", self.suite, "a suite or its name")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "an integer ≥ 1")
        n, seconds, queries = self.n, self.seconds, self.queries
        require(n is None or n >= 1, "n", n, "an integer ≥ 1, or None for all")
        sample, known = self.sample, "an integer ≥ 1, or None for all survivors"
        require(sample is None or sample >= 1, "sample", sample, known)
        require(seconds is None or seconds > 0, "seconds", seconds, "a time > 0 in seconds")
        require(queries is None or queries > 0, "queries", queries, "a number of passes > 0")
        precisions = "one of " + ", ".join(freeze.PRECISIONS)
        require(self.precision in freeze.PRECISIONS, "precision", self.precision, precisions)
        if self.keep not in points.KEEP:
            raise ValueError(did_you_mean("keep", self.keep, points.KEEP))
        probe_names(self.probes or ())

    def _set(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)  # the class is frozen for its users


class EvaluationOptions(TypedDict, total=False):
    """Keywords of `evaluate`: the fields of `EvaluationProtocol`, with their defaults."""

    suite: Annotated[str | Suite, "quick"]
    eps: Annotated[float | str | Sequence[float | str] | None, None]
    n: Annotated[int | None, None]
    first: Annotated[bool, False]
    split: Annotated[str, "test"]
    batch_size: Annotated[int, 250]
    fit_memory: Annotated[bool, False]
    precision: Annotated[str, "float32"]
    compile: Annotated[bool, False]
    cascade: Annotated[bool | None, None]
    sample: Annotated[int | None, None]
    seconds: Annotated[float | None, None]
    queries: Annotated[int | None, None]
    certify: Annotated[str | Sequence[str], ()]
    probes: Annotated[str | Sequence[str] | None, None]
    keep: Annotated[str, points.SHOWN_ONLY]


OPTIONS = tuple(field.name for field in fields(EvaluationProtocol))
DEFAULT = EvaluationProtocol()


def resolve_protocol(
    protocol: EvaluationProtocol | Suite | str | None,
    options: Mapping[str, Any],
    default: EvaluationProtocol = DEFAULT,
) -> EvaluationProtocol:
    """Return a protocol with `options` changed.

    Arguments:
        protocol: a whole protocol; or a suite, or None, that changes `default`.

    Raises:
        ValueError: for an option that does not exist; or a suite in both arguments.

    >>> resolve_protocol("pgd", {"n": 100}).n
    100
    >>> resolve_protocol(None, {"batchsize": 100})
    Traceback (most recent call last):
    ValueError: option = 'batchsize' does not exist; did you mean 'batch_size'? ...
    """
    options = renamed_keywords(options, {"batch": "batch_size"})
    for name in options:
        if name not in OPTIONS:
            raise ValueError(did_you_mean("option", name, OPTIONS))
    if isinstance(protocol, EvaluationProtocol):
        return replace(protocol, **options)
    if protocol is None:
        return replace(default, **options)
    require("suite" not in options, "suite", options.get("suite"), "given once")
    return replace(default, suite=protocol, **options)
