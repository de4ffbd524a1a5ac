"""Run the blocks of a page in order, in an empty folder, and show output and seconds of each.

* a block with `title="FILE"` is written to that file;
* `python` runs as a script; `console` runs its lines behind `$`, `bash` and `sh` run whole;
* other blocks are output, and text.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r'title="([^"]+)"')
SHELLS = ("console", "bash", "sh", "shell")


class Step(NamedTuple):
    """What a page asks for: a file to write, or a command to run."""

    kind: str  # "file", "python" or "shell"
    name: str
    text: str


def steps(markdown: str) -> Iterator[Step]:
    """Yield the steps of a page, in order."""
    for language, rest, text in BLOCK.findall(markdown):
        if title := TITLE.search(rest):
            yield Step("file", title[1], text)
        elif language == "python":
            yield Step("python", "a Python block", text)
        elif language in SHELLS:
            joined = re.sub(r" *\\\n\s*", " ", text)
            lines = re.findall(r"^\$ (.*)$", joined, re.MULTILINE) if "$ " in joined else [joined]
            yield from (Step("shell", line.strip(), line) for line in lines)


def walk(page: Path, venv: Path, wheel: Path) -> bool:
    """Run a page; print what it prints; return whether every command succeeded."""
    folder = Path(tempfile.mkdtemp(prefix="walk-"))
    path = f"{venv.resolve() / 'bin'}{os.pathsep}{os.environ['PATH']}"
    keep = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment = {**keep, "PATH": path, "VIRTUAL_ENV": str(venv.resolve())}
    started, ok = time.perf_counter(), True
    for number, step in enumerate(steps(page.read_text(encoding="utf-8"))):
        if step.kind == "file":
            target = folder / step.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.text, encoding="utf-8")
            print(f"--- wrote {step.name}")
            continue
        print(f"$ {step.name}", flush=True)
        if step.kind == "python":
            script = folder / f".block-{number}.py"
            script.write_text(step.text, encoding="utf-8")
            command = [str(venv.resolve() / "bin" / "python"), str(script)]
            environment["PYTHONPATH"] = str(folder)
        else:
            text = re.sub(
                r"(['\"]?)sparring\[([\w,-]+)\]\1", rf"'{wheel.resolve()}[\2]'", step.text
            )
            constrained = text.replace(
                "pip install ", f"pip install -q -c {Path('constraints.txt').resolve()} "
            )
            command = ["bash", "-c", constrained]
        before = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
        print(done.stdout, done.stderr, sep="", end="")
        print(f"--- {time.perf_counter() - before:.1f} s, exit code {done.returncode}", flush=True)
        expected = int((re.search(r"# exit code (\d+)", step.text) or (0, 0))[1])
        ok &= done.returncode == expected
    print(
        f"=== {page}: {'every command did' if ok else 'A COMMAND FAILED'}, "
        f"{time.perf_counter() - started:.0f} s"
    )
    shutil.rmtree(folder)
    return ok


def main() -> None:
    """Walk the pages that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("pages", type=Path, nargs="+")
    options = parser.parse_args()
    failed = [page for page in options.pages if not walk(page, options.venv, options.wheel)]
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
