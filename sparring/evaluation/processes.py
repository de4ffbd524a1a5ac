"""Share one evaluation among processes of this machine, as torchrun does among those it starts."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import pickle
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import torch.distributed as td

from ..component import require, require_at_least
from ..runtime import distributed
from ..runtime.interactive import shows_progress
from .protocol import EvaluationProtocol
from .suites import SUITES, Suite

NAME = "sparring-evaluation"
GRACE = 5.0  # seconds that a process has to end, before it is killed
SETTLE = 0.5  # seconds in which the reasons of several processes arrive
LONGEST = timedelta(days=30)  # that processes wait for each other's batches
GUARD = (
    "put the call of evaluate under `if __name__ == '__main__':`, as each of the processes runs "
    "the script from its top"
)
P = ParamSpec("P")
T = TypeVar("T")


class Member(NamedTuple):
    """Name one of the processes: its number, how many there are, its threads, and the file over
    which they find each other."""

    rank: int
    processes: int
    threads: int
    store: str


class Failure(NamedTuple):
    """Hold why a process failed, and when by a clock that all processes share."""

    when: float
    error: BaseException
    trace: str


def shared_batch_size(batch_size: int, n: int, processes: int) -> tuple[int, list[str]]:
    """Return the batch size at which each process has a batch, and a note if it is a smaller one.

    Attacks draw per batch, so a result depends on the batch size, but on no number of processes.

    >>> shared_batch_size(250, 1000, 2), shared_batch_size(250, 300, 2)[0]
    ((250, []), 150)
    """
    size = min(batch_size, math.ceil(n / processes))
    if processes == 1 or size == batch_size:
        return batch_size, []
    note = f"{processes} processes share {n} samples in batches of {size}, not {batch_size}"
    return size, [f"{note}: the result is that of this batch size"]


def check_processes(processes: int) -> None:
    """Raise `ValueError` for less than one process, or another number than torchrun started."""
    require_at_least(1, processes=processes)
    world = distributed.world()
    allowed = f"1 or {world}, as many as torchrun started"
    require(processes == 1 or world in (1, processes), "processes", processes, allowed)


def in_processes(evaluate: Callable[P, T]) -> Callable[P, T]:
    """Return a function that starts its keyword `processes` of processes, if more than one, and
    returns the result of the first."""

    @functools.wraps(evaluate)
    def start(*args: P.args, **keywords: P.kwargs) -> T:
        processes = keywords.get("processes")
        if not isinstance(processes, int) or processes < 2 or distributed.world() > 1:
            return evaluate(*args, **keywords)
        # Only this process knows whether it is on a terminal.
        progress = {"progress": shows_progress(keywords.get("progress"))}  # type: ignore[arg-type]
        return _run(start, args, {**keywords, **progress}, processes)

    return start


def _run(
    evaluate: Callable[..., Any],
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
    processes: int,
) -> Any:
    """Return what `evaluate` returns in the first of new processes.

    Raises:
        ValueError: for an argument that can't be handed to another process.
        RuntimeError: if a process ended before its work did; it names it.
    """
    if multiprocessing.current_process().name.startswith(NAME):
        raise RuntimeError(f"a process of an evaluation started another: {GUARD}")
    payload = _packed(tuple(map(_by_name, args)), keywords, processes)
    threads = max(1, torch.get_num_threads() // processes)
    context = multiprocessing.get_context("spawn")
    workers: list[SpawnProcess] = []
    pipes: list[Connection] = []
    with tempfile.TemporaryDirectory(prefix="sparring-") as folder:
        try:
            for rank in range(processes):
                ours, theirs = context.Pipe(duplex=False)
                member = Member(rank, processes, threads, str(Path(folder, "store")))
                about = (evaluate, member, theirs, payload)
                worker = context.Process(target=_work, args=about, name=f"{NAME}-{rank}")
                pipes.append(ours)
                worker.start()
                workers.append(worker)
                theirs.close()  # so that the pipe ends with its process
            return _result(workers, pipes)
        finally:
            _end(workers)
            for pipe in pipes:
                pipe.close()


def _packed(args: tuple[Any, ...], keywords: Mapping[str, Any], processes: int) -> bytes:
    """Return the arguments as bytes; name the one that has no such form."""
    keywords = {name: _by_name(value) for name, value in keywords.items()}
    try:
        return pickle.dumps((args, keywords))
    except Exception as failure:
        error = failure
    named = (*zip(("model", "data", "threat", "protocol"), args, strict=False), *keywords.items())
    name, value = next((one for one in named if not _is_picklable(one[1])), ("arguments", args))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ValueError(
        f"{name} = {kind} can't be handed to {processes} processes ({error}): its class or "
        "function must stand at the top of a module; or leave out processes"
    )


def _by_name(value: Any) -> Any:
    """Return a suite of ours as its name, also within a protocol: its attacks have no other
    form."""
    if isinstance(value, EvaluationProtocol):
        return replace(value, suite=_by_name(value.suite))
    known = isinstance(value, Suite) and SUITES.get(value.name) is value
    return value.name if known else value


def _is_picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _result(workers: list[SpawnProcess], pipes: list[Connection]) -> Any:
    """Wait for all processes; return the first one's result, or raise why one failed."""
    results: dict[int, Any] = {}
    failures: dict[int, Failure] = {}
    waiting = dict(enumerate(pipes))
    deadline = math.inf
    while waiting and time.monotonic() < deadline:
        ready = wait(list(waiting.values()), min(deadline - time.monotonic(), 3600.0))
        for rank in [rank for rank, pipe in waiting.items() if pipe in ready]:
            try:
                answer = waiting[rank].recv()
            except EOFError:
                workers[rank].join(GRACE)
                answer = _crash(workers[rank].exitcode, rank, len(workers))
            except Exception as error:  # of a class that this process does not find
                answer = Failure(time.monotonic(), error, "")
            del waiting[rank]
            kept = failures if isinstance(answer, Failure) else results
            kept[rank] = answer
        if failures:
            # A process that has lost another one fails too: wait for the cause.
            deadline = min(deadline, time.monotonic() + SETTLE)
    if failures:
        rank = min(failures, key=lambda rank: failures[rank].when)
        failure = failures[rank]
        failure.error.add_note(f"in process {rank + 1} of {len(workers)}\n{failure.trace}")
        raise failure.error
    return results[0]


def _crash(code: int | None, rank: int, processes: int) -> Failure:
    """Return the failure of a process that ended without a word: it comes before all others."""
    hint = f". If it ended at once, {GUARD}" if code == 1 else ""
    how = f"was killed by signal {-code}" if code and code < 0 else f"ended with exit code {code}"
    error = RuntimeError(f"process {rank + 1} of {processes} {how} during the evaluation{hint}")
    return Failure(-math.inf, error, "")


def _end(workers: list[SpawnProcess]) -> None:
    """End the processes that still run, and wait for them."""
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


def _work(evaluate: Callable[..., Any], member: Member, pipe: Connection, payload: bytes) -> None:
    """Evaluate as one of several processes, and send the result of the first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(member.threads)
    try:
        with _group(member):
            # Sent before this process leaves the group: the others then fail for want of it, and
            # the cause must come first.
            pipe.send(_answer(evaluate, member, payload))
    except KeyboardInterrupt:  # Ctrl-C reaches every process; the one that started them reports it
        os._exit(130)


def _answer(evaluate: Callable[..., Any], member: Member, payload: bytes) -> Any:
    """Return the result in the first process, None in the others, or why there is none."""
    try:
        try:
            args, keywords = pickle.loads(payload)
        except Exception as error:
            raise ValueError(
                f"the model or the data can't be read in another process ({error}): its class "
                "must be of a module that can be imported; or leave out processes"
            ) from None
        result = evaluate(*args, **_on_device(keywords, member.rank))
        return result if member.rank == 0 else None
    except Exception as error:
        when, trace = time.monotonic(), traceback.format_exc()
        sent = error if _is_picklable(error) else RuntimeError(f"{type(error).__name__}: {error}")
        return Failure(when, sent, trace)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however that was."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _group(member: Member) -> Iterator[None]:
    """Join the processes of this evaluation: over a file, which needs no free port."""
    td.init_process_group(
        "gloo",
        init_method=f"file://{member.store}",
        rank=member.rank,
        world_size=member.processes,
        timeout=LONGEST,
    )
    try:
        yield
    finally:
        td.destroy_process_group()


def _on_device(keywords: dict[str, Any], rank: int) -> dict[str, Any]:
    """Return the arguments with the GPU of this process in place of "cuda"."""
    device = keywords.get("device")
    if device is not None and torch.device(device) == torch.device("cuda"):
        keywords = keywords | {"device": f"cuda:{rank % torch.cuda.device_count()}"}
    return keywords
