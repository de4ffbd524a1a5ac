"""Do the jobs of a study in several processes at once, each with a log of its own.

A worker is `python -m sparring.commands.study_workers STUDY JOB …`: a process that dies, as when
memory runs out, takes only its own job along.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..component import require, require_at_least
from ..runtime.lock import Locked
from ..runtime.output import write_line
from ..runtime.text import printable
from . import study_plan
from .study_grid import Job
from .study_jobs import (
    StudyFolders,
    do_job,
    error_text,
    failed_teacher,
    is_done,
    threads_set,
    under_torchrun,
)
from .study_plan import Study

PAUSE = 0.05  # seconds between two looks at the workers
GRACE = 20.0  # seconds that a worker has to end after Ctrl-C, before it is killed
REASON_BYTES = 4000
GPUS = "CUDA_VISIBLE_DEVICES"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
FAILED, LOCKED = 1, 75  # exit codes of a worker; 75, EX_TEMPFAIL: the same may succeed later
MODULE = "sparring.commands.study_workers"


class Worker(NamedTuple):
    """Hold a running job with its process, its log and the place of its GPU."""

    job: Job
    process: subprocess.Popen
    log: Path
    slot: int
    started: float


def at_once(
    study: Study,
    jobs: Sequence[Job],
    folders: StudyFolders,
    *,
    jobs_at_once: int,
    threads: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Do jobs in worker processes; return the reasons of those that failed, by name.

    A job that another process is doing comes again at the end: it may be done by then. Ctrl-C ends
    the workers; what they trained goes on at the next call.

    Raises:
        ValueError: for less than one worker, under torchrun, or a study that is not in a file.
    """
    require_at_least(1, jobs=jobs_at_once)
    require(not under_torchrun(), "jobs", jobs_at_once, "1 under torchrun, which shares each run")
    threads = max(1, (os.cpu_count() or 1) // jobs_at_once) if threads is None else threads
    require_at_least(1, threads=threads)
    waiting = [job for job in jobs if not is_done(study, job, folders)]
    failed: dict[str, str] = {}
    running: list[Worker] = []
    again: set[str] = set()
    try:
        while waiting or running:
            for worker in [w for w in running if w.process.poll() is not None]:
                running.remove(worker)
                reason, name = _reason(worker), worker.job.name
                in_use = worker.process.returncode == LOCKED and name not in again
                if in_use:
                    again.add(name)
                    waiting.append(worker.job)
                elif reason:
                    failed[name] = reason
                _announce(worker, reason, progress, in_use=in_use)
            for job in [job for job in waiting if failed_teacher(job, failed)]:
                waiting.remove(job)
                failed[job.name] = failed_teacher(job, failed)
            while len(running) < jobs_at_once and (job := _ready(waiting, running, again)):
                waiting.remove(job)
                slot = min({*range(jobs_at_once)} - {w.slot for w in running})
                running.append(_start(study, job, folders, slot, threads, device))
                if progress:
                    write_line(f"{job.name}: started; log {printable(running[-1].log)}")
            time.sleep(PAUSE if running else 0)
    finally:
        _end(running)
    return {job.name: failed[job.name] for job in jobs if job.name in failed}


def _ready(
    waiting: Sequence[Job], running: Sequence[Worker], again: Collection[str] = ()
) -> Job | None:
    """Return the first job whose teachers are done, and which no running job trains too.

    Arguments:
        again: names of jobs that come again; they wait until the others have ended.
    """
    at_end = all(worker.job.name in again for worker in running)
    unfinished = {job.name for job in waiting} | {worker.job.name for worker in running}
    # A teacher outside the selection is trained by its first student: one at a time.
    taught = {name for worker in running for name in worker.job.pseudo.values()}
    for job in waiting:
        needs = {*job.pseudo.values()}
        may_start = at_end or job.name not in again
        if may_start and not needs & unfinished and not needs & taught:
            return job
    return None


def _start(
    study: Study, job: Job, folders: StudyFolders, slot: int, threads: int, device: str | None
) -> Worker:
    log = folders.runs / f"{job.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {name: str(threads) for name in THREADS}
    gpus = torch.cuda.device_count()
    if gpus > 1 and device in (None, "cuda"):
        environment[GPUS] = _gpu_names(gpus)[slot % gpus]
    content = order(study, job, folders, threads=threads, device=device)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, content],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return Worker(job, process, log, slot, time.perf_counter())


def _gpu_names(count: int) -> list[str]:
    """Return what a worker calls each GPU of this process, which may see a part of them alone."""
    given = os.environ.get(GPUS)
    names = [str(k) for k in range(count)] if given is None else given.split(",")
    return [name.strip() for name in names]


def order(
    study: Study, job: Job, folders: StudyFolders, *, threads: int | None, device: str | None
) -> str:
    """Return what a worker is to do, as JSON; the study must come from a file."""
    require(study.file is not None, "study", study.name, "read from a file by study.load")
    return json.dumps(
        {
            "study": str(study.file),
            "job": job.name,
            "runs": str(folders.runs.resolve()),
            "results": str(folders.results.resolve()),
            "threads": threads,
            "device": device,
        }
    )


def _reason(worker: Worker) -> str:
    """Return why a worker that ended has failed; "" if it has not."""
    code = worker.process.returncode
    if code == 0:
        return ""
    if code < 0:
        return f"its process was ended by signal {-code}, as when memory runs out; {worker.log}"
    with worker.log.open("rb") as file:
        file.seek(max(0, worker.log.stat().st_size - REASON_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    ours = last.startswith("Error: ")
    reason = last.removeprefix("Error: ") if ours else f"exit code {code}"
    return f"{printable(reason, 500)} ({printable(worker.log)})"


def _announce(worker: Worker, reason: str, progress: bool, *, in_use: bool) -> None:
    if progress:
        seconds = time.perf_counter() - worker.started
        ended = "comes again at the end" if in_use else "failed"
        state = f"{ended}: {reason}" if reason else f"done in {seconds:.0f} s"
        write_line(f"{worker.job.name}: {state}")


def _end(running: Sequence[Worker]) -> None:
    """End workers that still run: after Ctrl-C they have had the signal themselves."""
    until = time.perf_counter() + GRACE
    for worker in running:
        worker.process.terminate()
    for worker in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.1, until - time.perf_counter()))
        worker.process.kill()
        worker.process.wait()


def work(content: str) -> int:
    """Do the job of an order, with its error as the last line of the log; return the exit code."""
    try:
        work_or_raise(content)
    except Exception as error:  # foreign pieces may raise anything
        print(f"Error: {error_text(error)}", flush=True)
        return LOCKED if isinstance(error, Locked) else FAILED
    return 0


def work_or_raise(content: str) -> None:
    """Do the job of an order."""
    values = json.loads(content)
    study = study_plan.load(values["study"])
    job = next(one for one in study.jobs if one.name == values["job"])
    folders = StudyFolders(Path(values["runs"]), Path(values["results"]))
    with threads_set(values["threads"]):
        do_job(study, job, folders, {"device": values["device"], "progress": True})


if __name__ == "__main__":
    sys.exit(work(sys.argv[1]))
