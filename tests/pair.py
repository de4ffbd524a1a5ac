"""Two processes at once on one run, in every pairing; run as `python -m tests.pair FOLDER`.

It fails where one disturbs the other: where a file differs from that of one process alone, where
one is left behind, or where a refusal has no words.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sparring.commands import report, study
from sparring.results.result import Result
from sparring.training.run_folder import read_log
from tests.kill import RECIPE, Work, evaluate_run, outcome, start, state, train_run, warm, whole

STUDY = """
seeds = [0, 1]
[runs.one]
recipe = "tiny.toml"
[evaluations.weak]
suite = "quick"
eps = [0.02]
n = 16
"""


def both(first: Work, second: Work, folder: Path) -> None:
    """Two children at once: each ends well or is refused in words, and one at least ends well."""
    children = [start(work, folder) for work in (first, second)]
    ends = [outcome(child, folder) for child in children]
    assert 0 in {status for status, _ in ends}, ends
    for status, text in ends:
        refused = text.startswith(("Locked: ", "FailedRuns: ")) and "is in use: " in text
        assert status == 0 or refused, ends


def equal(folder: Path, expected: Path) -> None:
    """Two folders hold the same, but for the clock."""
    found, known = state(folder), state(expected)
    different = {k for k in found.keys() | known.keys() if found.get(k) != known.get(k)}
    assert not different, different


def trained(folder: Path) -> Path:
    """A folder with a whole run."""
    folder.mkdir()
    whole(train_run, folder)
    return folder


def train_and_train(folder: Path) -> None:
    expected = trained(folder / "whole")
    for k in range(3):
        (folder / str(k)).mkdir()
        both(train_run, train_run, folder / str(k))
        equal(folder / str(k), expected)


def evaluations(first: Work, second: Work, folder: Path) -> None:
    expected = trained(folder / "whole")
    for k in range(2):
        shutil.copytree(expected, folder / str(k))
    for work in (first, second):
        whole(work, expected)
    for k in range(2):
        both(first, second, folder / str(k))
        equal(folder / str(k), expected)


def pgd_run(folder: Path) -> Result:
    return evaluate_run(folder, "pgd")


def evaluate_and_report(folder: Path) -> None:
    run = trained(folder / "run")
    whole(evaluate_run, run)

    def evaluate_often(out: Path) -> None:
        for n in range(16, 22):
            Result.load(out / "run/results/quick-test.json").save(out / "run/results/other.json")
            evaluate_run(out, n=n)
        (out / "done").touch()

    def report_often(out: Path) -> None:
        while not (out / "done").exists():
            report.report([out / "run"], out=out / "page.html")

    children = [start(work, run) for work in (evaluate_often, report_often)]
    ends = [outcome(child, run) for child in children]
    assert ends == [(0, ""), (0, "")], ends


def train_and_evaluate(folder: Path) -> None:
    expected, out = trained(folder / "whole"), folder / "out"
    (folder / "count").mkdir()
    total = int(whole(train_run, folder / "count", 0))
    for share in (0.55, 0.7):  # of the calls
        out.mkdir()
        status, _ = outcome(start(train_run, out, int(share * total)), out)
        assert status < 0
        # the first epoch is done, and the last is not
        assert 1 <= len(read_log(out / "run")) < RECIPE["train"]["epochs"]
        assert (out / "run" / "best.safetensors").exists()
        children = [start(work, out) for work in (train_run, evaluate_run)]
        ends = [outcome(child, out) for child in children]
        assert ends == [(0, ""), (0, "")], ends
        Result.load(out / "run/results/quick-test.json")
        shutil.rmtree(out / "run" / "results")
        equal(out, expected)
        shutil.rmtree(out)


def run_study(folder: Path) -> None:
    plan = study.load(folder.parent / "both.toml")
    study.run(plan, runs=folder / "runs", results=folder / "results", device="cpu")


def study_and_study(folder: Path) -> None:
    import tomli_w

    (folder / "tiny.toml").write_text(tomli_w.dumps(RECIPE))
    (folder / "both.toml").write_text(STUDY)
    (folder / "whole").mkdir()
    whole(run_study, folder / "whole")
    for k in range(2):
        (folder / str(k)).mkdir()
        both(run_study, run_study, folder / str(k))
        equal(folder / str(k), folder / "whole")


PAIRS: dict[str, Callable[[Path], None]] = {
    "train+train": train_and_train,
    "evaluate+evaluate": lambda folder: evaluations(evaluate_run, evaluate_run, folder),
    "evaluate+another suite": lambda folder: evaluations(evaluate_run, pgd_run, folder),
    "evaluate+report": evaluate_and_report,
    "train+evaluate": train_and_evaluate,
    "study+study": study_and_study,
}

if __name__ == "__main__":
    warm()
    for name, pair in PAIRS.items():
        part, began = Path(sys.argv[1], name), time.perf_counter()
        part.mkdir()
        pair(part)
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
