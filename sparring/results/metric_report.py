"""What metrics found: means with intervals, saved as one JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..runtime.files import write

SCHEMA = 1


@dataclass(frozen=True)
class MetricRow:
    """One metric over the samples of one data set.

    Arguments:
        name, unit, better, config: of the metric; better is `"higher"` or `"lower"`.
        data: what was measured on.
        value, low, high: the mean over samples that have a value, with its 95 % t interval; it
            covers the luck of the samples, not that of training. None where none has one.
        median: of the same.
        n, undefined: samples, and those of them without a value.
    """

    name: str
    data: str
    value: float | None
    low: float | None
    high: float | None
    median: float | None
    n: int
    undefined: int
    unit: str
    better: str
    seconds: float
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Softmax:
    """Mean and standard deviation of each class's probability over n samples of a data set."""

    data: str
    n: int
    mean: list[float]
    std: list[float]


@dataclass
class MetricReport:
    """All that was measured of one model, and how to do it again.

    Arguments:
        clean: accuracy on these samples, as a share.
        recipe: the resolved recipe the model was trained by, {} if unknown.
        key: digest of model, samples and settings: what was measured under another is not reused.
    """

    name: str
    dataset: str
    split: str
    n: int
    seed: int
    batch: int
    clean: float
    rows: list[MetricRow]
    profiles: list[Softmax]
    class_names: list[str]
    recipe: dict[str, Any]
    versions: dict[str, str]
    commit: str
    data_sha256: str
    device: str
    key: str = ""
    schema: int = SCHEMA

    def save(self, path: str | Path) -> Path:
        """Write the file whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)
        write(path, text.encode() + b"\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> MetricReport:
        """Read such a file; runs no code of it.

        Raises:
            ValueError: for a file that is truncated, of another schema, or something else.
        """
        try:
            held = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is no complete JSON: {error}") from None
        if not isinstance(held, dict) or held.get("schema") != SCHEMA or "profiles" not in held:
            raise ValueError(
                f"{path} holds no metrics of schema {SCHEMA}: measure again, sparring metrics RUN"
            )
        try:
            held["rows"] = [MetricRow(**row) for row in held["rows"]]
            held["profiles"] = [Softmax(**row) for row in held["profiles"]]
            return cls(**held)
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path} holds no metrics: {error}") from None
