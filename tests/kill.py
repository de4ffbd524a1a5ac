"""Trainings and evaluations in forked children, killed at chosen calls or at random times.

Run as `python -m tests.kill FOLDER CALLS TIMES`: a fresh process that has computed nothing,
since a fork of one that has may hang. It prints what it did, and fails where a resumed run differs
from an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
import torch._dynamo  # an optimizer imports it

from sparring.commands import evaluate, train
from sparring.config.recipe import load_recipe
from sparring.results.result import Result
from sparring.training.checkpoint import load_last
from sparring.training.run_folder import read_log

RECIPE = {
    "recipe": {"name": "tiny"},
    "data": {"name": "moons", "limit": 60, "val": 20, "test": 40},
    "model": {"name": "mlp", "hidden": [8]},
    "threat": {"name": "Linf", "eps": 0.05},
    "attack": {"name": "PGD", "steps": 2, "size": 0.02},
    "method": {"name": "AT"},
    "weights": {"ema": {"name": "EMA"}},
    "train": {"epochs": 3, "batch_size": 20, "save_every": 2},
}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}
CLOCK = {"seconds", "samples_per_second", "notes", "train", "commit"}  # and "…seconds"
Work = Callable[[Path], object]


def train_run(folder: Path) -> object:
    return train.train(load_recipe(RECIPE), out=folder / "run", resume=True, device="cpu")


def evaluate_run(folder: Path, suite: str = "quick", n: int = 24) -> Result:
    options = {"suite": suite, "eps": [0.02, 0.05], "batch_size": 8, "n": n}
    return evaluate.evaluate(folder / "run", device="cpu", **options)


def state(folder: Path) -> dict[str, Any]:
    """What a folder holds, but for the clock: bytes, or values where the clock is inside."""
    content: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "last.pt":
            content[name] = repr(_timeless(load_last(path.parent)))
        elif path.name == "log.jsonl":
            content[name] = repr(_timeless(read_log(path.parent)))
        elif path.suffix == ".json":
            content[name] = repr(_timeless(json.loads(path.read_bytes())))
        else:
            content[name] = path.read_bytes()
    return content


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not CLOCK & {k, str(k)[-7:]}}
    return [_timeless(v) for v in value] if isinstance(value, list | tuple) else value


class Killer:
    """Count the calls that change a folder; at one of them, end the process as a power cut would.

    Arguments:
        at: the number of that call, from 1; 0 only counts.
        half: leave half of the file that the call was about.
    """

    def __init__(self, folder: Path, at: int, *, half: bool) -> None:
        self.folder, self.at, self.half, self.calls = str(folder), at, half, 0
        self.sync = os.fsync
        os.fsync = self.fsync
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = (event in CHANGES or writes) and str(arguments[0]).startswith(self.folder)
        if inside:
            self.count(arguments[0] if event == "os.rename" else None)

    def fsync(self, file: int) -> None:
        self.count(file)
        self.sync(file)

    def count(self, file: Any) -> None:
        self.calls += 1
        if self.calls == self.at:
            if self.half and file is not None:
                with contextlib.suppress(OSError):  # a folder
                    size, name = os.stat(file).st_size, file
                    if isinstance(file, int):
                        name = os.readlink(f"/proc/self/fd/{file}")
                    # Of a log only the last line is new.
                    os.truncate(file, size - 7 if name.endswith("log.jsonl") else size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def start(work: Work, folder: Path, at: int = -1, *, half: bool = False) -> int:
    """Fork a child that works; `outcome` waits for it."""
    process = os.fork()
    if process:
        return process
    message = ""
    try:
        warnings.simplefilter("error")
        torch.set_num_threads(1)
        killer = Killer(folder, at, half=half) if at >= 0 else None
        work(folder)
        message = str(killer.calls) if killer else ""
    except BaseException as error:
        message = f"{type(error).__name__}: {error}"
        if not isinstance(error, ValueError):
            traceback.print_exc()
    folder.with_name(f"{os.getpid()}.message").write_text(message)
    os._exit(message != "" and not message.isdecimal())


def outcome(process: int, folder: Path) -> tuple[int, str]:
    """The exit status of a child, negative for a signal, and what it said."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    message = folder.with_name(f"{process}.message")
    text = message.read_text() if message.exists() else ""
    message.unlink(missing_ok=True)
    return status, text


def whole(work: Work, folder: Path, at: int = -1) -> str:
    """Work to the end in a child; what it said."""
    status, text = outcome(start(work, folder, at), folder)
    assert status == 0, text
    return text


def kills(work: Work, folder: Path, calls: int, times: int) -> str:
    """Kill as often, resume each time, and compare with the uninterrupted run."""
    begin = folder / "begin"
    begin.mkdir()
    if work is not train_run:
        whole(train_run, begin)
    shutil.copytree(begin, folder / "whole")
    started = time.perf_counter()
    whole(work, folder / "whole")
    duration, expected = time.perf_counter() - started, state(folder / "whole")
    shutil.copytree(begin, folder / "count")
    total = int(whole(work, folder / "count", 0))
    draw, killed = random.Random(0), 0
    chosen = [round(v) for v in np.linspace(1, total, calls)]
    plan = [(at, 0.0) for at in chosen] + [(-1, draw.uniform(0, duration)) for _ in range(times)]
    for number, (at, wait) in enumerate(plan):
        out = folder / str(number)
        shutil.copytree(begin, out)
        child = start(work, out, at, half=number % 2 == 1)
        if at < 0:
            time.sleep(wait)
            os.kill(child, signal.SIGKILL)
        status, text = outcome(child, out)
        assert status == -signal.SIGKILL or (at < 0 and status == 0), (at, wait, status, text)
        killed += status != 0
        for result in (out / "run" / "results").glob("*.json"):
            Result.load(result)  # a reader finds none or a whole one
        whole(work, out)
        found = state(out)
        different = {k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)}
        assert not different, (at, wait, number, different)
        shutil.rmtree(out)
    return f"{killed} killed of {len(plan)}, at {total} calls or within {duration:.2f} s"


def warm() -> None:
    """Import here, not in each child, what takes seconds; compute nothing."""
    assert scipy.stats
    assert torch._dynamo
    load_recipe(RECIPE).source()


WORKS: dict[str, Work] = {"train": train_run, "evaluate": evaluate_run}

if __name__ == "__main__":
    warm()
    for name, work in WORKS.items():
        part = Path(sys.argv[1], name)
        part.mkdir()
        print(f"{name}:", kills(work, part, *map(int, sys.argv[2:4])))
