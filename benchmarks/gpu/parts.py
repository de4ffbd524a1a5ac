"""Run parts in turn, each in a process of its own, and keep one JSON of what they found.

A part that fails, hangs or spoils its CUDA context costs no other part. The JSON is written after
every part, whole or not at all, so that a kill loses one part at most. torch is imported by parts
alone: the process that starts them must not touch CUDA.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FORMAT = 1
DONE, NOT_RUN, FAILED, LATE = "done", "not run", "failed", "out of time"
ENDED = (DONE, NOT_RUN)  # such a part is not begun again
LEAST = 3.0  # seconds that are left, below which no part begins
PATIENCE = 20.0  # a rehearsal's limits are longer: a CPU is slower, and tells no time of a GPU
ERROR_LINES = 12
STOPPED = 143  # exit code of a script that was told to end


class NotRun(Exception):
    """Say why a part cannot run here: a device or a package is missing."""


@dataclass(frozen=True)
class Setting:
    """Hold what a part may read.

    Arguments:
        stage: `"a"` or `"b"`.
        out: the folder of what is handed back.
        work: a folder for all else; it stays, and a later call goes on from it.
        data: folders with CIFAR-10's batches, as many as have arrived.
        device: `"cuda"` or `"cpu"`.
        rehearse: take small nets and few samples, to try every line on a CPU.
        recipes: to train, one after the other, in equal shares of `train_seconds`.
        found: what earlier parts found, by stage and part.
        seconds: this part's limit.
        file: where the part keeps what it found so far.
    """

    stage: str
    out: Path
    work: Path
    data: tuple[Path, ...] = ()
    device: str = "cuda"
    rehearse: bool = False
    recipes: tuple[str, ...] = ()
    train_seconds: float = 320.0
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 60.0
    file: Path = Path()

    def small(self, rehearsed: Any, real: Any) -> Any:
        """Return the first of two values in a rehearsal, else the second."""
        return rehearsed if self.rehearse else real

    def note(self, **found: Any) -> None:
        """Keep values at once: they stay if this part is stopped later."""
        before = read(self.file).get("found", {})
        write(self.file, {"found": before | found})


@dataclass(frozen=True)
class Part:
    """Name a piece of work, its limit in seconds, and the packages that it cannot do without.

    Arguments:
        always: run it in every call: it hands back what the others have done by then.
    """

    name: str
    run: Callable[[Setting], dict[str, Any] | None]
    seconds: float
    needs: tuple[str, ...] = ()
    always: bool = False


def read(path: Path) -> dict[str, Any]:
    """Return the table of a JSON file, empty if there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def write(path: Path, table: dict[str, Any]) -> None:
    """Write a JSON file: a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps(table, indent=1) + "\n")
    os.replace(scratch, path)


def missing(packages: Sequence[str]) -> list[str]:
    """Return the packages that cannot be imported here.

    >>> missing(["json", "no_such_package"])
    ['no_such_package']
    """
    return [name for name in packages if find_spec(name) is None]


def file_of(setting: Setting, stage: str | None = None) -> str:
    """Return the name of a stage's JSON; a rehearsal has one of its own."""
    return f"gpu-{stage or setting.stage}{'-rehearsal' if setting.rehearse else ''}.json"


def earlier(setting: Setting, stage: str) -> dict[str, Any]:
    """Return a stage's JSON, from the work folder, else from what was handed back."""
    name = file_of(setting, stage)
    return read(setting.work / name) or read(setting.out / name)


def run_stage(
    parts: Sequence[Part], setting: Setting, *, seconds: float, again: Sequence[str] = ()
) -> dict[str, Any]:
    """Run the parts that are not done yet, and return the stage's table.

    Arguments:
        seconds: of the whole stage: a part gets its own limit, or what is left.
        again: names of parts to run though they are done.
    """
    end = time.monotonic() + seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    table = earlier(setting, setting.stage) or {"parts": {}}
    table |= {"format": FORMAT, "stage": setting.stage, "rehearsal": setting.rehearse}
    table |= {"device": setting.device}
    found = {stage: _found(earlier(setting, stage)) for stage in ("a", "b")}
    for part in parts:
        if _ended(table, part.name) and part.name not in again and not part.always:
            continue
        left = end - time.monotonic()
        file = setting.work / "parts" / f"{setting.stage}-{part.name}.json"
        limit = min(part.seconds * setting.small(PATIENCE, 1.0), left)
        now = replace(setting, found=found, seconds=limit, file=file)
        try:
            entry = _skipped(part, left) or _run(part, now)
        except (KeyboardInterrupt, SystemExit):
            entry = {"state": LATE, "seconds": 0.0, "why": "the script was stopped"} | read(file)
            table["parts"][part.name] = entry
            _save(table, parts, setting)
            raise
        table["parts"][part.name] = entry
        found[setting.stage] = _found(table)
        _save(table, parts, setting)
        print(f"{part.name}: {entry['state']}, {entry['seconds']:.0f} s {entry.get('why', '')}")
    _save(table, parts, setting)
    return table


def _save(table: dict[str, Any], parts: Sequence[Part], setting: Setting) -> None:
    table["whole"] = all(_ended(table, part.name) for part in parts)
    for folder in (setting.work, setting.out):
        write(folder / file_of(setting), table)


def _ended(table: dict[str, Any], name: str) -> bool:
    return table["parts"].get(name, {}).get("state") in ENDED


def _found(table: dict[str, Any]) -> dict[str, Any]:
    """Return what each part found, those that were stopped too."""
    return {name: entry.get("found", {}) for name, entry in table.get("parts", {}).items()}


def _skipped(part: Part, left: float) -> dict[str, Any] | None:
    """Return the entry of a part that does not begin, else None."""
    if lacking := missing(part.needs):
        return {"state": NOT_RUN, "seconds": 0.0, "why": f"no package {', '.join(lacking)} here"}
    if left < LEAST:
        return {"state": LATE, "seconds": 0.0, "why": "the stage's time was over"}
    return None


def _run(part: Part, setting: Setting) -> dict[str, Any]:
    """Run one part in a process of its own, and return its entry."""
    setting.file.unlink(missing_ok=True)
    began = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(part, setting))
    process.start()
    try:
        process.join(setting.seconds)
        late = process.is_alive()
    finally:
        _end(process)
    report = read(setting.file)
    entry = {"state": FAILED, "seconds": round(time.monotonic() - began, 2)}
    entry |= {"limit": round(setting.seconds, 1)} | report
    if late:
        entry |= {"state": LATE, "why": f"stopped after {setting.seconds:.0f} s"}
    elif "state" not in report:
        entry["why"] = f"the process ended with code {process.exitcode}"
    return entry


def _end(process: Any) -> None:
    """End a part and the processes that it started."""
    if process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it had no time to lead a group of its own
            process.kill()
    process.join()


def _child(part: Part, setting: Setting) -> None:
    """Run a part, its output going to the log, and write what it found or why it did not."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # the part ends with the script that began it
    _to_log(setting)
    print(f"== {part.name}, at most {setting.seconds:.0f} s", flush=True)
    entry: dict[str, Any] = {"state": DONE}
    found = None
    try:
        found = part.run(setting)
    except NotRun as reason:
        entry = {"state": NOT_RUN, "why": str(reason)}
    except BaseException as error:
        traceback.print_exc()
        text = "".join(traceback.format_exception(error)).strip().splitlines()
        entry = {"state": FAILED, "why": f"{type(error).__name__}: {error}"[:400]}
        entry["traceback"] = text[-ERROR_LINES:]
    kept = read(setting.file).get("found", {}) | (found or {})
    write(setting.file, entry | ({"found": kept} if kept else {}))
    sys.stdout.flush()


def _to_log(setting: Setting) -> None:
    log = setting.out / f"gpu-{setting.stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def free(folder: Path) -> Path:
    """Return an empty folder of this name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
