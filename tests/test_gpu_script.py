"""`scripts/gpu`: its parts fail alone, its JSON is whole, it goes on, a rehearsal runs it all."""

from __future__ import annotations

import doctest
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import cifar, machine, parts, plan, report, stage_a, stage_b, verdicts
from benchmarks.gpu.parts import NotRun
from sparring.results.result import Result
from tests.devices import NO_GPU

ROOT = Path(__file__).parents[1]
COMMITTED = 8_000_000  # bytes of results: the checkout travels to the GPU whole
RESULTS = ROOT / "benchmarks" / "results"
TOY = """
import os, sys, time
from pathlib import Path
from benchmarks.gpu.parts import NotRun, Part, Setting, run_stage

def good(setting): return {"two": 2, "before": setting.found["a"].get("late")}
def bad(setting): raise ValueError("broken")
def absent(setting): raise NotRun("no GPU")
def late(setting): setting.note(kept=1); time.sleep(60)
def dies(setting): os._exit(7)
def again(setting): return {"times": 1}

parts = (Part("late", late, 0.5), Part("good", good, 9), Part("bad", bad, 9),
         Part("absent", absent, 9), Part("dies", dies, 9), Part("again", again, 9, always=True),
         Part("needs", good, 9, ("no_such_package",)))
setting = Setting("a", Path(sys.argv[1]), Path(sys.argv[2]), device="cpu")
if len(sys.argv) > 3:
    parts = tuple(p for p in parts if p.name in ("good", "absent", "again", "needs"))
table = run_stage(parts, setting, seconds=float(sys.argv[4]) if len(sys.argv) > 4 else 99)
"""


def toy(tmp_path: Path, *more: str) -> tuple[dict, str]:
    """Run a stage of toy parts, and return its JSON and what it printed."""
    (tmp_path / "toy.py").write_text(TOY)
    call = [sys.executable, "toy.py", "out", "work", *more]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        call, cwd=tmp_path, env=os.environ | path, text=True, capture_output=True, check=True
    )
    return json.loads((tmp_path / "out" / "gpu-a.json").read_text()), done.stdout


def wait_until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_part_that_fails_costs_no_other(tmp_path):
    table, printed = toy(tmp_path)
    states = {name: entry["state"] for name, entry in table["parts"].items()}
    assert states == {
        "late": "out of time",
        "good": "done",
        "bad": "failed",
        "absent": "not run",
        "dies": "failed",
        "again": "done",
        "needs": "not run",
    }
    parts = table["parts"]
    assert parts["late"]["found"] == {"kept": 1}
    assert parts["good"]["found"] == {"two": 2, "before": {"kept": 1}}
    assert parts["bad"]["why"] == "ValueError: broken"
    assert parts["absent"]["why"] == "no GPU"
    assert parts["dies"]["why"] == "the process ended with code 7"
    assert parts["needs"]["why"] == "no package no_such_package here"
    assert table["whole"] is False
    assert "late: out of time" in printed
    assert "== late, at most 0 s" in (tmp_path / "out" / "gpu-a.log").read_text()


def test_a_second_call_goes_on_and_knows_a_whole_table(tmp_path):
    toy(tmp_path, "some")
    table, printed = toy(tmp_path, "some")
    assert table["whole"] is True
    assert "good" not in printed
    assert "again: done" in printed
    shutil.rmtree(tmp_path / "work")  # what was handed back is enough
    assert "good" not in toy(tmp_path, "some")[1]


def test_a_script_that_is_stopped_keeps_what_a_part_had_found(tmp_path):
    (tmp_path / "toy.py").write_text(TOY.replace("late, 0.5", "late, 50"))
    call = [sys.executable, "toy.py", "out", "work"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(call, cwd=tmp_path, env=env)
    part = tmp_path / "work" / "parts" / "a-late.json"
    wait_until(part.exists)
    process.terminate()
    assert process.wait(30) == parts.STOPPED
    table = json.loads((tmp_path / "out" / "gpu-a.json").read_text())
    entry = table["parts"]["late"]
    assert (entry["state"], entry["why"]) == ("out of time", "the script was stopped")
    assert entry["found"] == {"kept": 1}
    assert not table["whole"]


def test_no_part_begins_when_the_stage_is_over(tmp_path):
    table, _ = toy(tmp_path, "some", "0")
    assert table["parts"]["good"]["why"] == "the stage's time was over"
    assert table["whole"] is False


def test_batches_are_read_as_they_lie_in_any_folder(tmp_path):
    draw = np.random.default_rng(0)
    names = ("data_batch_2", "data_batch_5", "test_batch")
    pixels = {name: draw.integers(0, 256, (32, 64, 3), dtype=np.uint8) for name in names}
    for folder, name in zip(("one", "two/deep", "two"), names, strict=True):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        path = tmp_path / folder / f"{name}.webp"
        Image.fromarray(pixels[name]).save(path, lossless=True)
    with pytest.raises(NotRun, match="nothing of CIFAR-10 lies in"):
        cifar.keep([tmp_path / "none"], tmp_path / "empty")
    with pytest.raises(NotRun, match=r"labels\.npz, test_batch\.webp and a data_batch; found data"):
        cifar.gather([tmp_path / "two"], tmp_path / "all.npz", limit=2)
    labels = np.arange(50_000) % 7
    np.savez(tmp_path / "one" / "labels.npz", train=labels, test=labels[:10_000])
    got = cifar.gather([tmp_path / "one", tmp_path / "two"], tmp_path / "all.npz", limit=2)
    assert (got.train, got.test) == (2, 2)
    assert cifar.keep([tmp_path / "one"], tmp_path / "kept") == ["data_batch_2.webp", "labels.npz"]
    (tmp_path / "one" / "data_batch_2.webp").unlink()
    folders = [tmp_path / name for name in ("kept", "one", "two")]
    got = cifar.gather(folders, tmp_path / "all.npz")
    with np.load(got.path) as arrays:
        assert arrays["x_train"].shape == (4, 3, 32, 32)
        first = pixels["data_batch_5"][:, :32].transpose(2, 0, 1)
        assert (arrays["x_train"][2] == first).all()


def test_the_attack_steps_are_those_that_time_allows():
    row = {"batch": 250, "compiled": True, "attack_step": 0.002, "rest_of_step": 0.005}
    options = {"climbs": False, "batch": 250, "train_rows": 50_000}
    slow = plan.choose([row], method="AT", seconds=1.0, **options)
    fast = plan.choose([row], method="AT", seconds=1e4, **options)
    assert (slow.steps, fast.steps) == (plan.LEAST, plan.MOST)
    assert fast.size == pytest.approx(2 / 255, abs=1e-6)
    middle = plan.choose([row], method="AT", seconds=150.0, **options)
    trades = plan.choose([row], method="TRADES", seconds=150.0, **options)
    assert trades.steps < middle.steps
    assert middle.epochs >= plan.EPOCHS
    # rest 5 ms, k steps of 2 ms, 200 steps an epoch, 40 epochs, 0.9 · 150 s: k = 5
    assert middle.steps == 5
    eager = row | {"compiled": False, "attack_step": 1.0}
    assert (
        plan.choose([eager, row | {"batch": 500}], method="AT", seconds=1e4, **options).steps == 10
    )
    assert plan.choose([{"batch": 250}], method="AT", seconds=1.0, **options) is None


def test_weights_are_divided_into_files_that_fit():
    sizes = {"a": 5, "b": 9, "c": 2, "d": 8, "e": 1}
    tensors = {name: torch.zeros(n, dtype=torch.uint8) for name, n in sizes.items()}
    groups = stage_b.shards(tensors, size=10)
    assert sorted(sorted(g) for g in groups) == [["a"], ["b", "e"], ["c", "d"]]
    from sparring import models

    net = models.build("resnet18", shape=(3, 32, 32), classes=10).state_dict()
    files = stage_b.shards(net)
    assert len(files) <= 4
    assert sum(len(f) for f in files) == len(net)


def test_the_examples_are_right():
    for module in (parts, plan):
        assert doctest.testmod(module).failed == 0


def test_a_report_of_tests_is_counted(tmp_path):
    path = tmp_path / "tests.xml"
    path.write_text(
        "<testsuites><testsuite><testcase name='a'/><testcase name='b'><skipped/></testcase>"
        "<testcase name='c'><failure message='E  1 != 2\nmore'/></testcase>"
        "</testsuite></testsuites>"
    )
    found = stage_a.counted(path)
    assert found == {"passed": 1, "skipped": 1, "failed": {"c": "E  1 != 2 more"}}
    path.write_text("<testsuite/>")
    with pytest.raises(RuntimeError, match="found no test"):
        stage_a.counted(path)
    path.write_text("<testsuite><testcase name='b'><skipped/></testcase></testsuite>")
    with pytest.raises(NotRun, match="all 1 tests were skipped: they want a GPU"):
        stage_a.counted(path)


def test_verdicts_are_compared_in_the_datas_order():
    arrays = {"index": np.array([5, 1, 3]), "correct_0.2": np.array([True, False, False])}
    result = Result.__new__(Result)
    object.__setattr__(result, "arrays", arrays)
    assert verdicts.robust(result).tolist() == [False, False, True]
    assert next(iter(verdicts.runs("cuda"))) == verdicts.BASE
    assert verdicts.runs("cuda")["gpu float32, TF32"].tf32


def test_every_required_package_is_looked_for():
    assert machine.lacking() == []
    assert {"PIL", "sklearn", "tomli_w", "torch"} <= set(machine.required().values())
    assert len(machine.source_hash()) == 64


def test_a_table_has_what_was_measured_and_why_the_rest_was_not(tmp_path):
    found = {"passed": 9, "skipped": 0, "failed": {}}
    tests = {"state": "done", "seconds": 1, "found": found}
    ratios = {"state": "out of time", "seconds": 1, "why": "stopped after 45 s"}
    ratios["found"] = {"k": 10, "batch": 128, "uad / pgd-at": 1.4}
    path = tmp_path / "gpu-a.json"
    path.write_text(json.dumps({"parts": {"tests": tests, "ratios": ratios}}))
    assert report.table([path]).splitlines()[2:] == [
        "| tests marked `cuda` | 9 passed, failed: none |",
        "| uad / pgd-at, K = 10, batch 128 | 1.40 |",
        "| ratios | out of time: stopped after 45 s |",
    ]
    path.write_text(json.dumps({"parts": {}, "rehearsal": True}))
    with pytest.raises(ValueError, match="is not the JSON of a stage that ran on a GPU"):
        report.table([path])


def test_the_pages_say_what_was_measured_on_a_gpu_and_nothing_else():
    page = (ROOT / "docs" / "how-to" / "gpu.md").read_text(encoding="utf-8")
    files = sorted(RESULTS.glob("gpu-*.json"))
    if files:
        assert report.table(files) in page
    else:
        assert "**No speed on a GPU has been measured.**" in page
        assert "| on the GPU | measured |" not in page


def test_the_page_names_every_part_and_its_limit():
    page = (ROOT / "docs" / "how-to" / "gpu.md").read_text(encoding="utf-8")
    setting = parts.Setting("a", Path(), Path(), recipes=("x",))
    listed = (*stage_a.parts(setting), *stage_b.parts(setting))
    cells = {p.name.replace(" x", " …"): f"{p.seconds:.0f}" for p in listed}
    cells["train …"] = "time + 75"
    assert not [name for name, limit in cells.items() if f"| `{name}` | {limit} |" not in page]


def test_committed_results_stay_small():
    folders = (ROOT / "results", RESULTS)
    sizes = [f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file()]
    assert sum(sizes) < COMMITTED


def test_tests_that_want_a_gpu_have_one_reason():
    assert ROOT / "tests" / "test_on_a_gpu.py" in stage_a.marked(ROOT / "tests")
    texts = {f.name: f.read_text(encoding="utf-8") for f in (ROOT / "tests").rglob("*.py")}
    marked = {name for name, text in texts.items() if "mark.cuda" + "," in text}
    assert marked == {"devices.py"}
    assert NO_GPU == "wants a CUDA GPU"


def copy_of_the_tree(out: Path) -> None:
    """Copy what a checkout has, without its history and what is ignored."""
    names = ("sparring", "benchmarks", "scripts", "tests", "pyproject.toml", "README.md")
    drop = shutil.ignore_patterns("__pycache__", ".gpu", "*.pyc")
    for name in names:
        path = ROOT / name
        copy = shutil.copy if path.is_file() else shutil.copytree
        copy(path, out / name, **({} if path.is_file() else {"ignore": drop}))


def pictures(folder: Path, *, batches: int) -> None:
    """Write mosaics like CIFAR-10's, of 2,000 pictures each whose colours tell the class."""
    draw, folder = np.random.default_rng(0), folder / "cifar-10"
    folder.mkdir(parents=True)
    labels = np.arange(50_000) % 10
    for name in (*(f"data_batch_{k + 1}" for k in range(batches)), "test_batch"):
        tone = np.repeat(25 * labels[:2000].reshape(20, 100), 32, axis=0).repeat(32, axis=1)
        noise = draw.integers(0, 25, (640, 3200, 3))
        picture = (tone[..., None] + noise).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.webp", lossless=True, method=0)
    np.savez(folder / "labels.npz", train=labels, test=labels[:10_000])


@pytest.mark.slow
def test_both_stages_are_rehearsed_from_a_copy_of_the_tree(tmp_path):
    tree, data, out = tmp_path / "tree", tmp_path / "anywhere", tmp_path / "out"
    tree.mkdir()
    copy_of_the_tree(tree)
    pictures(data, batches=1)

    def stage(letter: str, *more: str) -> dict:
        call = [tree / "scripts" / "gpu", letter, "--rehearse", "--out", out, "--work", "scratch"]
        done = subprocess.run(
            [*map(str, call), "--data", str(data), *more],
            cwd=tmp_path,
            env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            text=True,
            capture_output=True,
            check=False,
        )
        table = json.loads((out / f"gpu-{letter}-rehearsal.json").read_text())
        log = (out / f"gpu-{letter}.log").read_text()
        assert done.returncode == 0, (done.stdout, done.stderr, log[-3000:])
        assert table["whole"]
        return table["parts"]

    first, second = stage("a"), stage("b")
    idle = {name for name, entry in (first | second).items() if entry["state"] != "done"}
    assert idle <= {"tests", "peer"}  # no GPU here, and perhaps not AutoAttack's own code
    assert second["data"]["found"] == {"train": 2000, "test": 2000}
    assert set(first["verdicts"]["found"]["rows"]) == set(verdicts.runs("cpu"))
    assert len(list(out.iterdir())) <= 8
    assert all(f.stat().st_size <= 16 * 2**20 for f in out.iterdir())
    with zipfile.ZipFile(out / "runs.zip") as archive:
        assert any(name.endswith("log.jsonl") for name in archive.namelist())
    assert not (tree / ".gpu").exists()  # all scratch lies where it was asked for
