"""Studies in several processes, in parts, and on a Slurm cluster; and runs that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparring.commands import study, study_jobs, study_workers
from sparring.commands.study_jobs import StudyFolders
from sparring.runtime.lock import LOCK, Locked, locked
from tests.command import call
from tests.commands.test_study import OWN, PSEUDO, TEXT

CLOCK = ("seconds", "samples_per_second")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(OWN)
    path = tmp_path / "both.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    own = OWN.replace('name = "digits"', 'name = "digits"\nmix = [{ name = "Unlabelled" }]')
    (tmp_path / "taught").mkdir()
    (tmp_path / "taught" / "own.toml").write_text(own)
    path = tmp_path / "taught" / "taught.toml"
    path.write_text(PSEUDO.replace("seeds = [3]", "seeds = [3, 4]"))
    return path


def without_clock(result):
    """What a result says, but for the time it took and the machine's state."""
    table = result.to_dict()

    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if not str(k).endswith(CLOCK)}
        return [strip(v) for v in value] if isinstance(value, list) else value

    arrays = {name: array.tobytes() for name, array in result.arrays.items()}
    return strip({k: v for k, v in table.items() if k != "arrays_sha256"}), arrays


def test_two_workers_give_what_one_gives(file, tmp_path):
    plan = study.load(file)
    places = [{"runs": tmp_path / k / "r", "results": tmp_path / k / "out"} for k in "ab"]
    alone = study.run(plan, only=["plain"], threads=1, **places[0])
    both = study.run(plan, only=["plain"], threads=1, jobs=2, **places[1])
    for kind, results in alone.results.items():
        assert [r.name for r in results] == [r.name for r in both.results[kind]]
        for one, other in zip(results, both.results[kind], strict=True):
            assert without_clock(one) == without_clock(other)
    assert len(both.results["weak"]) == 2
    log = tmp_path / "b" / "r" / "plain-seed0.log"
    assert "epoch" in log.read_text()
    weights = "plain-seed1/best.safetensors"
    assert (tmp_path / "a" / "r" / weights).read_bytes() == (log.parent / weights).read_bytes()


def test_a_run_that_fails_does_not_stop_the_others(taught, tmp_path, monkeypatch):
    plan, done = study.load(taught), []

    def do_job(study, job, folders, settings):
        if job.name == "teacher-seed3":
            raise RuntimeError("no memory")
        done.append(job.name)

    monkeypatch.setattr(study_jobs, "do_job", do_job)
    places = {"runs": tmp_path / "r", "results": tmp_path / "out"}
    with pytest.raises(study.FailedRuns, match=r"2 of 4 runs failed; the others are do") as caught:
        study.run(plan, **places)
    assert done == ["teacher-seed4", "student-seed4"]
    assert caught.value.reasons == {
        "teacher-seed3": "RuntimeError: no memory",
        "student-seed3": "teacher-seed3, whose pseudo-labels it needs, failed",
    }
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="no memory"):
        study.run(plan, **places)
    with pytest.raises(ValueError, match="jobs = 2 is not allowed: jobs must be 1 under torchrun"):
        study.run(plan, jobs=2, **places)


def fake_worker(program: str):
    """A `Popen` whose process runs a program in place of the worker; the order is its argument."""
    real = subprocess.Popen

    def popen(words, **options):
        return real([sys.executable, "-c", program, words[-1]], **options)

    return popen


WORKER = """
import json, os, signal, sys, time
order = json.loads(sys.argv[1])
name = order["job"]
print(name, os.environ["OMP_NUM_THREADS"], time.time(), flush=True)
if name == "teacher-seed3":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.2)
if name == "student-seed4":
    print("Error: a number is wrong")
    sys.exit(1)
"""


def test_a_worker_that_dies_takes_only_its_own_job_along(taught, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_workers.subprocess, "Popen", fake_worker(WORKER))
    plan = study.load(taught)
    with pytest.raises(study.FailedRuns, match="3 of 4 runs failed") as caught:
        study.run(plan, runs=tmp_path / "r", results=tmp_path / "out", jobs=2, progress=True)
    reasons = caught.value.reasons
    assert list(reasons) == ["teacher-seed3", "student-seed3", "student-seed4"]
    assert "ended by signal 9, as when memory runs out" in reasons["teacher-seed3"]
    assert reasons["student-seed4"].startswith("a number is wrong (")
    threads = max(1, (os.cpu_count() or 1) // 2)
    teacher, student = (
        (tmp_path / "r" / f"{name}-seed4.log").read_text().split()
        for name in ("teacher", "student")
    )
    assert teacher[:2] == ["teacher-seed4", str(threads)]
    assert float(student[2]) - float(teacher[2]) > 0.2  # it has waited for the labels
    out = capsys.readouterr().out
    assert "teacher-seed4: done in" in out
    assert "student-seed4: failed: a number is wrong" in out


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [(None, {"0", "1"}), ("5,7", {"5", "7"}), ("GPU-a, GPU-b,x", {"GPU-a", "GPU-b"})],
)
def test_workers_share_the_gpus_that_this_process_may_use(
    file, tmp_path, monkeypatch, visible, wanted
):
    program = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], end=' ')"
    monkeypatch.setattr(study_workers.subprocess, "Popen", fake_worker(program))
    monkeypatch.setattr(study_workers.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    plan, folders = study.load(file), StudyFolders(tmp_path / "r", tmp_path / "out")
    assert not study_workers.at_once(plan, plan.jobs[:2], folders, jobs_at_once=2)
    logs = [(folders.runs / f"{job.name}.log").read_text().split() for job in plan.jobs[:2]]
    assert {name for log in logs for name in log} == wanted


def test_students_of_a_teacher_outside_the_selection_run_one_by_one(taught, tmp_path):
    job = next(j for j in study.load(taught).jobs if j.name == "student-seed3")
    worker = study_workers.Worker(job._replace(name="other"), None, Path(), 0, 0.0)  # type: ignore
    assert study_workers._ready([job], [worker]) is None
    assert study_workers._ready([job], []) is job


def test_workers_end_with_the_study(file, tmp_path, monkeypatch):
    program = "import time; time.sleep(60)"
    started = []
    popen = fake_worker(program)
    monkeypatch.setattr(
        study_workers.subprocess,
        "Popen",
        lambda *a, **k: started.append(popen(*a, **k)) or started[-1],
    )

    def interrupt(seconds):
        raise KeyboardInterrupt

    clock = SimpleNamespace(sleep=interrupt, perf_counter=time.perf_counter)
    monkeypatch.setattr(study_workers, "time", clock)
    with pytest.raises(KeyboardInterrupt):
        study.run(study.load(file), runs=tmp_path / "r", results=tmp_path / "out", jobs=2)
    assert [process.poll() is not None for process in started] == [True, True]


def test_parts_hold_every_job_once_and_teachers_with_students(taught, file):
    plan = study.load(taught)
    parts = [[j.name for j in study_jobs.selected(plan, shard=f"{i}/2")] for i in (1, 2)]
    assert parts == [["teacher-seed3", "student-seed3"], ["teacher-seed4", "student-seed4"]]
    assert study_jobs.selected(plan, shard="3/3") == []
    whole = study.load(file)
    names = [j.name for i in (1, 2, 3) for j in study_jobs.selected(whole, shard=f"{i}/3")]
    assert sorted(names) == sorted(j.name for j in whole.jobs)
    assert [j.name for j in study_jobs.selected(whole, ["plain"], "2/2")] == ["plain-seed1"]
    assert study.run(whole, shard="9/9").results == {"weak": [], "val": []}
    for wrong in ("0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3"):
        with pytest.raises(ValueError, match=r"shard = .* must be i/n with 1 ≤ i ≤ n"):
            study_jobs.selected(plan, shard=wrong)


@pytest.mark.parametrize("options", [{"jobs": 0}, {"jobs": 2, "threads": 0}, {"threads": 0}])
def test_numbers_of_workers_and_threads_are_checked(file, tmp_path, options):
    with pytest.raises(ValueError, match=r"(jobs|threads) = 0 is not allowed"):
        study.run(study.load(file), runs=tmp_path / "r", results=tmp_path / "out", **options)


def test_a_study_that_is_in_no_file_has_no_workers(file, tmp_path):
    plan = study.load(file)._replace(file=None)
    with pytest.raises(ValueError, match="read from a file"):
        study.run(plan, jobs=2, runs=tmp_path / "r", results=tmp_path / "out")


def test_an_order_with_a_mistake_is_the_last_line_of_the_log(file, tmp_path, capsys):
    plan = study.load(file)
    folders = StudyFolders(tmp_path / "r", tmp_path / "out")
    order = study_workers.order(plan, plan.jobs[0], folders, threads=1, device="cdua")
    assert study_workers.work(order) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("Error: device = 'cdua'")


IN_USE = """
import json, pathlib, sys
order = json.loads(sys.argv[1])
name, calls = order["job"], pathlib.Path(order["runs"], "calls")
with calls.open("a") as file:
    file.write(name + "\\n")
first = calls.read_text().split().count(name) == 1
if name == "teacher-seed4" or (name == "teacher-seed3" and first):
    print("Error: it is in use: training by process 1")
    sys.exit(75)
"""


@pytest.mark.parametrize("jobs", [2, 3])
def test_a_worker_whose_run_is_in_use_comes_again_at_the_end(
    taught, tmp_path, monkeypatch, capsys, jobs
):
    monkeypatch.setattr(study_workers.subprocess, "Popen", fake_worker(IN_USE))
    plan = study.load(taught)
    with pytest.raises(study.FailedRuns, match="2 of 4 runs failed") as caught:
        study.run(plan, runs=tmp_path / "r", results=tmp_path / "out", jobs=jobs, progress=True)
    reasons = caught.value.reasons
    assert list(reasons) == ["teacher-seed4", "student-seed4"]
    assert reasons["teacher-seed4"].startswith("it is in use: training by process 1 (")
    calls = (tmp_path / "r" / "calls").read_text().split()
    assert sorted(calls[:2]) == sorted(calls[2:4]) == ["teacher-seed3", "teacher-seed4"]
    assert calls[4:] == ["student-seed3"]
    out = capsys.readouterr().out
    assert out.count("comes again at the end: it is in use") == 2
    assert out.count("failed: it is in use") == 1


def test_what_comes_again_waits_for_the_others_to_end(file):
    first, second, _ = study.load(file).jobs
    worker = study_workers.Worker(second, None, Path(), 0, 0.0)  # type: ignore
    assert study_workers._ready([first], [worker], {first.name}) is None
    assert study_workers._ready([first], [worker], {first.name, second.name}) is first
    assert study_workers._ready([second, first], [], {first.name}) is second


def test_a_worker_says_that_its_run_is_in_use(file, tmp_path, capsys):
    plan = study.load(file)
    folders = StudyFolders(tmp_path / "r", tmp_path / "out")
    order = study_workers.order(plan, plan.jobs[0], folders, threads=1, device="cpu")
    with locked(folders.run(plan.jobs[0].name) / LOCK, "training"):
        assert study_workers.work(order) == study_workers.LOCKED
    assert "is in use: training by process" in capsys.readouterr().out.splitlines()[-1]


SBATCH = """#!/bin/sh
# Run a copy of the script of a job in the background, as a cluster would.
number=$(($(ls "$FAKE_SLURM" | wc -l) + 100))
cp "$1" "$FAKE_SLURM/$number.sh"
export SLURM_JOB_ID=$number SLURM_JOBID=$number SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1
export SLURM_NNODES=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_JOB_NODELIST=here
[ -n "$FAKE_SLURM_WAITS" ] || sh "$FAKE_SLURM/$number.sh" > "$FAKE_SLURM/$number.log" 2>&1 &
echo "Submitted batch job $number"
"""
SRUN = """#!/bin/sh
while case "$1" in -*) true ;; *) false ;; esac; do
  case "$1" in --output|--error) shift ;; esac
  shift
done
exec "$@"
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
for id in $(echo "$@" | grep -o '[0-9][0-9]*'); do
  echo "$id|${FAKE_SLURM_STATE:-COMPLETED}|here"
done
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster whose sbatch runs jobs in the background; the folder of the scripts."""
    tools, scripts = tmp_path / "bin", tmp_path / "scripts"
    scripts.mkdir()
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(scripts))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return scripts


def test_slurm_runs_what_is_not_done(file, tmp_path, cluster):
    places = {"runs": tmp_path / "r", "results": tmp_path / "out", "only": ["plain-seed0"]}
    options = {"partition": "gpu", "time": 30, "cpus_per_task": 1}
    plan = study.load(file)
    assert study.submit(plan, options, **places) == {"plain-seed0": "100"}
    script = (cluster / "100.sh").read_text()
    for line in ("--partition=gpu", "--time=30", "--job-name=plain-seed0", "--cpus-per-task=1"):
        assert f"#SBATCH {line}" in script
    end = time.perf_counter() + 60
    while not list((tmp_path / "r" / "slurm").glob("*_result.pkl")):
        assert time.perf_counter() < end, (cluster / "100.log").read_text()
        time.sleep(0.1)
    (result,) = study.collect(plan, results=places["results"], only=["plain-seed0"]).results["weak"]
    assert result.name == "plain-seed0"
    assert study.submit(plan, options, **places) == {}


def test_slurm_waits_for_labels_and_submits_once(taught, tmp_path, cluster, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_SLURM_WAITS", "1")
    monkeypatch.setenv("FAKE_SLURM_STATE", "PENDING")
    places = ["--runs", tmp_path / "r", "--results", tmp_path / "out", "--only", "teacher-seed3"]
    places += ["--only", "student-seed3"]
    out = call("study", taught, "--slurm", "time=30", *places, capsys=capsys)
    assert out.splitlines()[:2] == [
        "teacher-seed3: submitted as job 100",
        "student-seed3: submitted as job 101",
    ]
    assert "dependency" not in (cluster / "100.sh").read_text()
    assert "#SBATCH --dependency=afterok:100" in (cluster / "101.sh").read_text()
    assert "0 submitted" in call("study", taught, "--slurm", "time=30", *places, capsys=capsys)
    monkeypatch.setenv("FAKE_SLURM_STATE", "FAILED")
    assert "2 submitted" in call("study", taught, "--slurm", "time=30", *places, capsys=capsys)
    numbers = tmp_path / "r" / "slurm" / "jobs.json"
    assert json.loads(numbers.read_text()) == {"teacher-seed3": "102", "student-seed3": "103"}
    numbers.write_text("[")
    out = call("study", taught, "--slurm", "time=30", *places, capsys=capsys, code=2)
    assert "jobs.json is damaged" in out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("tiem=3", "slurm = 'tiem' does not exist; did you mean 'time'"),
        ("job_name=x", "slurm = 'job_name' does not exist"),
        ("time", "slurm = 'time' is not allowed: it must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
    ],
)
def test_wrong_options_of_slurm_are_told(file, tmp_path, cluster, capsys, option, message):
    places = ["--runs", tmp_path / "r", "--results", tmp_path / "out"]
    assert message in call("study", file, "--slurm", option, *places, capsys=capsys, code=2)


def test_without_slurm_or_submitit_it_says_so(file, tmp_path, monkeypatch):
    places = {"runs": tmp_path / "r", "results": tmp_path / "out"}
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no sbatch here"):
        study.submit(study.load(file), {"time": 1}, **places)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"needs the package submitit: pip .*\[slurm\]"):
        study.submit(study.load(file), {"time": 1}, **places)


def test_a_run_that_another_process_does_comes_again_at_the_end(file, tmp_path, monkeypatch):
    calls = []

    def do_job(study, job, folders, settings):
        calls.append(job.name)
        if job.name == "plain-seed0" and calls.count(job.name) == 1:
            raise Locked("it is in use: training by process 1")
        if job.name == "wide-seed1":
            raise Locked("it is in use: training by process 2")

    monkeypatch.setattr(study_jobs, "do_job", do_job)
    with pytest.raises(study.FailedRuns, match=r"1 of 3 .*\nwide-seed1: .* process 2"):
        study.run(study.load(file), runs=tmp_path / "r", results=tmp_path / "out")
    assert calls == ["plain-seed0", "plain-seed1", "wide-seed1", "plain-seed0", "wide-seed1"]
