"""Call the package with bad input, and say what is wrong with how it takes it, if anything is."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparring.runtime.warning import SparringWarning

# Generated bad inputs of each kind: in every run of the suite, and in the slow mode.
COUNTS: dict[str, tuple[int, int]] = {
    "recipe values": (40, 500),
    "recipe overrides": (20, 200),
    "recipe texts": (15, 150),
    "study values": (15, 150),
    "study texts": (10, 100),
    "command lines": (40, 500),
    "result values": (20, 250),
    "result bytes": (15, 150),
    "result arrays": (15, 100),
    "data files": (50, 600),
    "pseudo-label files": (10, 100),
}
SECONDS = 10  # of the processor
WAITING = 6  # times as long, for a call that waits; a busy machine is slow too
BYTES = 2 << 30
REFUSALS = (ValueError, OSError)
ACCEPTED = "accepted without a word"
# ValueErrors that Python or a library raises when nobody has thought of the input
NOT_OURS = re.compile(
    r"too many values to unpack|not enough values|invalid literal for int|could not convert string"
    r"|embedded null|cannot reshape|broadcast|buffer size must|zero-size array|inhomogeneous"
    r"|math domain|truth value|is not in list|codec can't|max\(\) (arg|iterable)|codepoint"
)


class Hang(BaseException):
    """Interrupt a call that takes longer than `SECONDS`; no `except Exception` catches it."""


def fuzz(kind: str, check: Callable[[st.DataObject], None], *, slow: bool = False) -> None:
    """Run `check` on as many draws of a kind as `COUNTS` says; the draws are the same each time."""
    drawn = 0

    def counted(data: st.DataObject) -> None:
        nonlocal drawn
        drawn += 1
        check(data)

    least = COUNTS[kind][slow]
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    chosen = settings(max_examples=least, suppress_health_check=unhurried)
    chosen(given(data=st.data())(counted))()
    assert drawn >= least, f"{drawn} {kind} drawn, {least} are due"


def fault(call: Callable[[], object], *, lines: int = 2) -> str | None:
    """Return the fault in how `call` takes a bad input, or None: it refuses it in words in time.

    Arguments:
        lines: how many the message may have.
    """
    try:
        with bounded(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    except REFUSALS as error:
        return _fault_of_message(error, lines)
    except Hang:
        return f"took more than {SECONDS} s"
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error)[:300]}"
    warned = any(issubclass(w.category, SparringWarning) for w in caught)
    return None if warned else ACCEPTED


def command_fault(arguments: list[str]) -> str | None:
    """Return the fault in how the command line takes bad arguments, or None."""
    code, text = run_command(arguments)
    if code is None:
        return f"took more than {SECONDS} s"
    if "Traceback" in text or "--debug shows where" in text or code not in (0, 2):
        return f"exit {code}: {text[-400:]}"
    if code == 0:
        return None if "Note: " in text else f"accepted without a word: {text[-200:]}"
    if any(not c.isprintable() and c != "\n" for c in text):
        return f"prints a control character: {text[-300:]!r}"
    if "Usage: " in text:
        return None
    count = len(text.strip().splitlines())
    return (
        f"{count} lines, {len(text)} letters: {text[:300]}"
        if count > 3 or len(text) > 4000
        else None
    )


def run_command(arguments: list[str]) -> tuple[int | None, str]:
    """Run `sparring` in this process: its exit code, None for a hang, and what it printed."""
    from sparring.cli import main

    out, argv, formatter = io.StringIO(), sys.argv, warnings.formatwarning
    sys.argv = ["sparring", *arguments]
    try:
        with (
            bounded(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            warnings.simplefilter("default")
            try:
                main.main()
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            except Exception as error:
                code, _ = 1, out.write(f"Traceback: {type(error).__name__}: {error}")
    except Hang:
        return None, out.getvalue()
    finally:
        sys.argv, warnings.formatwarning = argv, formatter
    return code, out.getvalue()


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raise `Hang` after `SECONDS` of work, or `WAITING` times as many in all; let allocations
    beyond `BYTES` more fail."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    timers = {signal.ITIMER_PROF: SECONDS, signal.ITIMER_REAL: WAITING * SECONDS}
    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + BYTES, hard))
    for timer, seconds in timers.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def make_traps(folder: Path) -> list[str]:
    """Make paths that no reader or writer should follow; return their names."""
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "empty").touch()
    (folder / "page.html").write_text("<!doctype html><title>404</title>")
    (folder / "folder").mkdir()
    return ["pipe", "zero", "circle", "empty", "page.html", "folder"]


def _data_bytes() -> int:
    """Return the bytes of private memory of this process, as RLIMIT_DATA counts them."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()


def _fault_of_message(error: Exception, lines: int) -> str | None:
    text = str(error)
    kind = f"{type(error).__name__}: {text[:300]!r}"
    if not text.strip():
        return f"an error without a message: {kind}"
    if NOT_OURS.search(text):
        return f"not our own words: {kind}"
    if len(text.splitlines()) > lines or len(text) > 600 * lines:
        return f"{len(text.splitlines())} lines, {len(text)} letters: {kind}"
    if any(not c.isprintable() and c != "\n" for c in text):
        return f"a control character in the message: {kind}"
    return None
