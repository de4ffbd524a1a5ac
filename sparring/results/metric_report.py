"""Records of metrics: means with intervals, saved as one JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from ..runtime.files import write
from .ranges import Amount, Count, Samples, Share
from .records import from_json, to_json


@dataclass(frozen=True)
class MetricRow:
    """Report one metric over the samples of one data set.

    Arguments:
        name, unit, better, config: of the metric; better is `"higher"` or `"lower"`.
        value, low, high, median: the mean over samples that have a value, with its 95 % t interval,
            which covers the draw of samples, not that of training; and their median; or None.
        n, undefined: number of samples, and number of those without a value.
    """

    name: str
    data: str
    value: float | None
    low: float | None
    high: float | None
    median: float | None
    n: Count
    undefined: Count
    unit: str
    better: str
    seconds: Amount
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Softmax:
    """Report mean and standard deviation of each class's probability over n samples."""

    data: str
    n: Count
    mean: list[Share]
    std: list[Amount]


@dataclass
class MetricReport:
    """Hold the metrics of one model, and how to compute them again.

    Arguments:
        clean, recipe: accuracy on these samples, as a share; the resolved recipe, {} if unknown.
        key: digest of model, samples and settings; metrics under another are not reused.
    """

    name: str
    dataset: str
    split: str
    n: Samples
    seed: int
    batch: Count
    clean: Share
    rows: list[MetricRow]
    profiles: list[Softmax]
    class_names: list[str]
    recipe: dict[str, Any]
    versions: dict[str, str]
    commit: str
    data_sha256: str
    device: str
    key: str = ""
    schema: int = 1

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False
    )

    def save(self, path: str | Path) -> Path:
        """Write the file whole or not at all."""
        path, content = Path(path), to_json(self).encode() + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
        return path

    @classmethod
    def load(cls, path: str | Path) -> MetricReport:
        """Read a metric report from JSON; runs no code of it.

        Raises:
            ValueError: if it is truncated, of another schema, something else, or has a number out
                of its range.
        """
        redo = "Measure again (sparring metrics RUN)"
        return from_json(cls, Path(path), noun="file of metrics", redo=redo)
