"""Hand the jobs of a study to Slurm, through submitit."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..component import did_you_mean
from ..runtime import files
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from ..runtime.text import printable
from .study_grid import Job
from .study_jobs import StudyFolders, is_done
from .study_plan import Study
from .study_workers import order, work_or_raise

FOLDER = "slurm"  # beside the run folders: scripts, logs and the numbers of jobs
NUMBERS = "jobs.json"
NUMBERS_LIMIT = 1 << 20
OURS = ("dependency", "job_name")  # which the study sets
IN_QUEUE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "UNKNOWN"}


def submit(
    study: Study,
    jobs: Sequence[Job],
    folders: StudyFolders,
    *,
    options: Mapping[str, Any],
    threads: int | None = None,
    device: str | None = None,
) -> dict[str, str]:
    """Submit the jobs that are not done and not in the queue; return their numbers by name.

    A job that trains on pseudo-labels waits in the queue for the one that writes them. The same
    call later submits what has failed meanwhile.

    Arguments:
        options: parameters of submitit's `SlurmExecutor`, as `partition` and `time` (minutes).
        threads: CPU threads of each run; default: `cpus_per_task` of the options, else PyTorch's.

    Raises:
        ValueError: if submitit or Slurm are missing, for an unknown option, or if Slurm refuses.
    """
    submitit = import_extra("submitit", extra="slurm", purpose="sparring study --slurm")
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError("slurm: there is no sbatch here; submit from a node of a Slurm cluster")
    folder = folders.runs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder.resolve())
    numbers = _read_numbers(folder)
    submitted: dict[str, str] = {}
    threads = options.get("cpus_per_task") if threads is None else threads
    for job in jobs:
        earlier = numbers.get(job.name)
        if is_done(study, job, folders) or (earlier and _in_queue(submitit, folder, earlier)):
            continue
        after = [numbers[name] for name in job.pseudo.values() if name in numbers]
        _configure(executor, options, job, after)
        try:
            content = order(study, job, folders, threads=threads, device=device)
            number = executor.submit(work_or_raise, content).job_id
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            raise ValueError(f"slurm: sbatch refused {job.name}: {reason(error)}") from error
        numbers[job.name] = submitted[job.name] = str(number)
        # At once: a kill must not make the next call submit the job again.
        files.write(folder / NUMBERS, json.dumps(numbers, indent=1).encode())
    return submitted


def _configure(executor: Any, options: Mapping[str, Any], job: Job, after: Sequence[str]) -> None:
    """Give the executor its options for one job.

    Raises:
        ValueError: for an option that does not exist, or that the study sets.
    """
    known = executor._valid_parameters() - {*OURS}
    for key in options:
        if key not in known:
            raise ValueError(did_you_mean("slurm", key, sorted(known)))
    values = {**options, "job_name": job.name}
    if after:
        more = dict(values.get("additional_parameters") or {})
        values["additional_parameters"] = more | {"dependency": f"afterok:{':'.join(after)}"}
    else:
        values.setdefault("additional_parameters", {})
    executor.update_parameters(**values)


def _in_queue(submitit: Any, folder: Path, number: str) -> bool:
    """Return whether Slurm still holds a job; one that it no longer knows has ended."""
    if not shutil.which("sacct"):
        return False
    job = submitit.SlurmJob(folder.resolve(), number)
    return str(job.watcher.get_state(number, mode="force")).split(" ")[0] in IN_QUEUE


def _read_numbers(folder: Path) -> dict[str, str]:
    """Return the numbers of earlier submissions; none if the file is missing.

    Raises:
        ValueError: if it is damaged.
    """
    file = folder / NUMBERS
    if not file.is_file():
        return {}
    try:
        content = json.loads(files.read(file, limit=NUMBERS_LIMIT))
        return {str(name): str(number) for name, number in dict(content).items()}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{printable(file)} is damaged: {reason(error)}; remove it") from error
