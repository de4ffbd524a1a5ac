"""Convert a result to an entry of RobustBench's leaderboards: one JSON file per model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..component import require
from ..runtime import files
from ..runtime.text import printable
from .result import EpsRow, Result
from .verdicts import NOT_SOUND

SUITE = "autoattack"
NORMS = ("Linf", "L2")
TEST_SIZES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000}  # samples of the test sets
EXTRA_FIELDS = {  # their fields that no evaluation knows
    "link": "https://arxiv.org/abs/…",
    "name": "the paper's title",
    "authors": "first and last names, with commas",
    "additional_data": "true if trained on more than the data set",
    "number_forward_passes": "1 unless one prediction takes more",
    "venue": "as ICML 2020",
    "architecture": "as WideResNet-28-10",
    "reported": "robust accuracy in the paper, in %",
    "footnote": "shown below the table",
}


def robustbench_entry(
    result: Result,
    *,
    eps: float | None = None,
    threat: str | None = None,
    external: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """Return the entry of a result, accuracies in % as text; unknown fields are null.

    A footnote names who measured, with which suite, and on how many samples.

    Arguments:
        eps, threat: the row, if the result has several.
        external: the suite is not AutoAttack: its accuracy goes to `external`, which the
            leaderboards show in place of `autoattack_acc`, and the footnote names the suite.
        fields: those of `EXTRA_FIELDS`, as `name="…"`, `venue="…"`, `additional_data=False`.

    Raises:
        ValueError: if the entry would claim more than was measured: another suite or norm, a
            split other than test, an evaluation that ended early, a measurement that is not sound.

    Source: github.com/RobustBench/robustbench, `ModelInfo` and the README's "Claim".
    """
    for key in fields:
        require(key in EXTRA_FIELDS, "field", key, "one of " + ", ".join(EXTRA_FIELDS))
    row = _row(result, eps, threat)
    norm = row.threat or str(result.threat.get("name"))
    check_request(suite=None if external else result.suite, split=result.split, threats=[norm])
    _check_complete(result, row)
    extra = {key: fields.get(key) for key in EXTRA_FIELDS}
    note = " ".join(filter(None, (extra.pop("footnote"), _note(result))))
    return {
        **extra,
        "dataset": result.dataset,
        "threat_model": norm,
        "eps": _eps(row.eps or 0.0, norm),
        "clean_acc": f"{100 * result.clean.accuracy:.2f}",
        "external" if external else "autoattack_acc": f"{100 * row.robust.accuracy:.2f}",
        "footnote": note,
    }


def write_entry(result: Result, path: str | Path, **options: Any) -> Path:
    """Write `robustbench_entry(result, **options)` to a `.json` file, whole or not at all."""
    path = Path(path)
    check_request(path=path)
    text = json.dumps(robustbench_entry(result, **options), indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, text.encode() + b"\n")
    return path


def check_request(
    *,
    path: Path | None = None,
    suite: str | None = None,
    split: str | None = None,
    threats: Sequence[str] = (),
    eps: Sequence[float] = (),
) -> None:
    """Refuse given requests that cannot become an entry, before hours are spent on them.

    >>> check_request(suite="quick")
    Traceback (most recent call last):
    ValueError: suite = 'quick' is not allowed: suite must be 'autoattack' for RobustBench's ...
    """
    is_json = path is None or path.suffix == ".json"
    require(is_json, "robustbench", str(path), "the name of a .json file")
    known = f"{SUITE!r} for RobustBench's autoattack_acc; in Python, external=True marks another"
    require(suite in (None, SUITE), "suite", suite, known)
    require(split in (None, "test"), "split", split, "'test' for an entry of RobustBench")
    for norm in threats:
        require(norm in NORMS, "threat", norm, f"{' or '.join(NORMS)} for an entry of RobustBench")
    for key, several in (("threat", threats), ("eps", eps)):
        require(len(several) < 2, key, list(several), "one only: an entry has one accuracy")


def _row(result: Result, eps: float | None, threat: str | None) -> EpsRow:
    rows = [row for row in result.by_eps if eps in (None, row.eps)]
    norm = str(result.threat.get("name"))
    rows = [row for row in rows if threat is None or (row.threat or norm) == threat]
    known = ", ".join(f"{row.threat} {row.eps}".strip() for row in result.by_eps)
    if len(rows) != 1:
        raise ValueError(f"the result has {printable(known)}: choose one with eps and threat")
    return rows[0]


def _check_complete(result: Result, row: EpsRow) -> None:
    if row.sampled is not None and not row.sampled.complete:
        raise ValueError(
            f"{row.sampled}: an entry of RobustBench takes all survivors, so leave out sample"
        )
    skipped = sum(attack.skipped for attack in row.attacks)
    if why := result.early or (skipped and f"{skipped} samples were skipped"):
        raise ValueError(
            f"the evaluation ended before its suite did ({printable(why)}): its robust accuracy is "
            "an upper bound that later attacks may lower, so it makes no entry of RobustBench"
        )
    if result.verdict == NOT_SOUND:
        why = printable(", ".join(result.reasons) or "see its checks")
        raise ValueError(f"the measurement is not sound ({why}): it makes no entry")
    bounds = [result.threat.get(key, default) for key, default in (("low", 0), ("high", 1))]
    require(bounds == [0, 1], "bounds", bounds, "[0, 1]: RobustBench's eps is in their units")


def _note(result: Result) -> str:
    size = TEST_SIZES.get(result.dataset)
    of = "" if size in (None, result.n) else f" of {size}"
    suite = "AutoAttack" if result.suite == SUITE else f"suite {result.suite!r}, not AutoAttack,"
    return (
        f"Measured on {result.n}{of} test samples by sparring "
        f"{result.versions.get('sparring', '?')}: its own {suite} version {result.suite_version}, "
        f"{result.precision}, seed {result.seed}."
    )


def _eps(eps: float, norm: str) -> str:
    """Return a radius as RobustBench writes it: for Linf in 255ths if it is a whole number of them.

    >>> _eps(8 / 255, "Linf"), _eps(0.3, "Linf"), _eps(0.5, "L2")
    ('8/255', '0.3', '0.5')
    """
    steps = round(eps * 255)
    exact = norm == "Linf" and steps > 0 and abs(eps * 255 - steps) < 1e-3
    return f"{steps}/255" if exact else f"{eps:.6g}"
