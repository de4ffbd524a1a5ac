"""Shared by every benchmark: paired timing, rows, and the file they are saved to."""

from __future__ import annotations

import json
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One comparison: `ratio` is ours ÷ peer (or ÷ floor), the median over paired runs.

    Passes are forward and backward samples per sample; `agreement` is the share of samples with
    equal robustness; `mib` the memory that a step adds.
    """

    work: str
    precision: str
    ours_seconds: float
    peer: str
    peer_seconds: float
    ratio: float
    ours_accuracy: float | None = None
    peer_accuracy: float | None = None
    ours_passes: list[float] | None = None
    peer_passes: list[float] | None = None
    agreement: float | None = None
    only_ours_breaks: int | None = None
    only_peer_breaks: int | None = None
    ours_mib: float | None = None
    peer_mib: float | None = None
    note: str = ""


def seconds(f: Callable[[], object]) -> float:
    """Return the wall time of one call; waits for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    f()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(
    ours: Callable[[], object], peer: Callable[[], object], *, runs: int
) -> tuple[float, float, float]:
    """Return the medians of ours, of the peer's, and of their ratio pair by pair.

    One warm-up each; the order alternates, so that a machine that slows down favours neither.
    """
    ours()
    peer()
    times: list[tuple[float, float]] = []
    for k in range(runs):
        if k % 2:
            theirs, mine = seconds(peer), seconds(ours)
        else:
            mine, theirs = seconds(ours), seconds(peer)
        times.append((mine, theirs))
    return (
        statistics.median(t[0] for t in times),
        statistics.median(t[1] for t in times),
        statistics.median(t[0] / t[1] for t in times),
    )


def cpu_model() -> str:
    """Return the processor's name, in characters fit for a file name."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = match.group(1) if match else platform.processor() or platform.machine()
    flags = info.read_text() if info.exists() else ""
    extra = "-amx" if "amx_bf16" in flags else "-avx512bf16" if "avx512_bf16" in flags else ""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + extra


def _plain(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if value not in (None, "")}


def merged(benchmark: str, rows: list[Row]) -> list[Row]:
    """Return the rows saved before on this processor, updated by these."""
    path = RESULTS / f"{benchmark}-{cpu_model()}.json"
    before = [Row(**r) for r in json.loads(path.read_text())] if path.exists() else []
    return list({(r.work, r.precision, r.peer): r for r in (*before, *rows)}.values())


def save(benchmark: str, rows: list[Row]) -> None:
    """Print the table and write `results/<benchmark>-<cpu model>.json`."""
    for r in rows:
        accuracy = (
            ""
            if r.ours_accuracy is None
            else f"  accuracy {r.ours_accuracy:.4f} | {r.peer_accuracy:.4f}"
        )
        memory = "" if r.ours_mib is None else f"  MiB {r.ours_mib:.0f} | {r.peer_mib or 0:.0f}"
        print(
            f"{r.work:34s} {r.precision:9s} ours {r.ours_seconds:8.4f} s  "
            f"{r.peer:14s} {r.peer_seconds:8.4f} s  "
            f"ratio {r.ratio:5.3f}{accuracy}{memory}"
        )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{benchmark}-{cpu_model()}.json"
    path.write_text(json.dumps([_plain(r) for r in rows], indent=1) + "\n")
    print(f"wrote {path.name}; torch {torch.__version__}, {torch.get_num_threads()} threads")
