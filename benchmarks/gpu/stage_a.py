"""Stage a, at most 170 seconds: is it right on this GPU, how often does the host wait, how fast."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from sparring.attacks import APGD, FAB, Square
from sparring.evaluation.judge import judge
from sparring.runtime.compiled import CompiledModel
from sparring.threats import Linf

from . import cifar, graphs, machine, tools, verdicts
from .parts import NotRun, Part, Setting

TINY = 1e-7  # a radius at which nothing breaks: all rows stay to the end
BATCHES = (128, 250, 500)
RECIPES_BATCH = 250
FAST = {"train.amp": "bfloat16", "train.channels_last": True}
TIMED = "cifar10-resnet18-pgd-at"
TRAINED = {"weights.ema": {"decay": 0.999}, "train.clip": 1.0}  # as the recipes of ten minutes do
ATTACK_STEPS = (2, 6)  # a line through two points: the rest of a step, and an attack step


def tests(setting: Setting) -> dict[str, Any]:
    """Run the tests marked `cuda`, each of which has a twin on the CPU in the suite."""
    files = marked(machine.ROOT / "tests")
    report = setting.work / "tests.xml"
    report.unlink(missing_ok=True)
    call = [sys.executable, "-m", "pytest", *map(str, files), "-m", "cuda", "-W", "default"]
    call += ["-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run(call, cwd=machine.ROOT, check=False)
    if not report.exists():
        raise RuntimeError("pytest ended without a report: see the log")
    return counted(report)


def marked(folder: Path) -> list[Path]:
    """Return the files with tests marked `cuda`: collecting all others would take the time."""
    words = ("import on_devices", "mark.cuda")
    files = sorted(folder.rglob("test_*.py"))
    return [f for f in files if any(word in f.read_text("utf-8") for word in words)]


def counted(report: Path) -> dict[str, Any]:
    """Return how many tests of a junit report passed, and which did not, with their error.

    Raises:
        NotRun: if there is none, or all were skipped.
    """
    found: dict[str, Any] = {"passed": 0, "skipped": 0, "failed": {}}
    cases = list(ElementTree.parse(report).iter("testcase"))
    for case in cases:
        bad = [child for child in case if child.tag in ("failure", "error")]
        if bad:
            text = (bad[0].get("message") or "").splitlines()
            found["failed"][case.get("name", "?")] = (text or ["no message"])[0][:300]
        else:
            found["skipped" if case.find("skipped") is not None else "passed"] += 1
    if not cases:
        raise RuntimeError("pytest found no test: see the log")
    if len(cases) == found["skipped"]:
        raise NotRun(f"all {len(cases)} tests were skipped: they want a GPU")
    return found


def keep_data(setting: Setting) -> dict[str, Any]:
    """Keep the batches of CIFAR-10 that have arrived: others may come with stage b."""
    return {"files": cifar.keep(setting.data, setting.work / "data")}


def check_tf32(setting: Setting) -> dict[str, Any]:
    """Compare float32 with float64, with TF32 on and off, and what the judge uses meanwhile.

    A maximum of |difference| over the maximum of |float64|, for a product and for logits.
    """
    at, size = tools.device(setting), setting.small(128, 2048)
    model = tools.net(setting, at)
    x, y = tools.samples(model, 64, at)
    a, b = torch.randn(2, size, size, device=at)
    exact_product = a.double() @ b.double()
    with torch.no_grad():
        exact = tools.net(setting, at).double()(x.double())
    found: dict[str, Any] = {}
    for on in (True, False):
        with tools.tf32(on), torch.no_grad():
            found["on" if on else "off"] = {
                "product": _error(a @ b, exact_product),
                "logits": _error(model(x), exact),
            }
    rest = exact.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = rest - exact.gather(1, y[:, None])[:, 0]
    with tools.tf32(True):
        found["judge"] = _error(judge(model, Linf(0.1), x, x, y, name="none").margin, margin)
    return found


def _error(value: torch.Tensor, exact: torch.Tensor) -> float:
    return ((value.double() - exact).abs().max() / exact.abs().max()).item()


def waits(setting: Setting) -> dict[str, Any]:
    """Count how often the host waits for the GPU: in 20 steps, and for each further step.

    The second is the count of 40 steps less that of 20, over 20: what a long run pays.
    """
    at = tools.device(setting)
    model = tools.net(setting, at)
    x, y = tools.samples(model, setting.small(4, 128), at)
    n = setting.small(3, 20)
    found: dict[str, Any] = {}
    searches = {
        "APGD": lambda k, **kw: APGD(Linf(TINY), steps=k, **kw),
        "FAB-T": lambda k, **kw: FAB(Linf(TINY), steps=k, targets=1, **kw),
        "Square": lambda k, **kw: Square(Linf(TINY), queries=k, **kw),
    }
    for precision in ("float32", "bfloat16"):
        for name, make in searches.items():
            runs = [make(k, precision=precision) for k in (n, 2 * n)]
            runs[0](model, x, y)  # libraries load, kernels are chosen
            key = f"{name} {precision}"
            found[key] = _waits(setting, [lambda run=run: run(model, x, y) for run in runs], n)
            setting.note(**{key: found[key]})
    found["pgd-at step"] = _waits(setting, [_epoch(setting, k) for k in (n, 2 * n)], n)
    return found


def _waits(setting: Setting, runs: list[Any], steps: int) -> dict[str, Any]:
    if setting.device != "cuda":  # a rehearsal: the lines run, and nothing is counted
        for run in runs:
            run()
        return {"in_20": None, "per_step": None}
    first, second = (tools.waits(run) for run in runs)
    lines = dict((second - first).most_common(6))
    per_step = (second.total() - first.total()) / steps
    return {"in_20": first.total(), "per_step": per_step, "further": lines}


def _epoch(setting: Setting, batches: int) -> Any:
    """Return a function that trains one epoch of so many batches, after one that warmed up."""
    size = setting.small(4, 128)
    data = tools.random_data(setting.work, size * batches, (3, 32, 32))
    changes = {
        "data.name": str(data),
        "data.val": tools.HELD_OUT,
        "train.batch_size": size,
        "attack.steps": 2,
    }
    changes |= {"train.epochs": 2, "validation.every": 1000, **FAST}
    changes |= setting.small({"model": {"name": "mlp", "hidden": [16]}}, {})
    run = tools.trainer(setting, TIMED, changes, tools.free(setting.work / f"waits-{batches}"))
    epochs = iter(run)
    next(epochs)
    return lambda: next(epochs)


def throughput(compiled: bool, setting: Setting) -> dict[str, Any]:
    """Time a ResNet-18's training step and 20 steps of APGD, by batch size: images a second.

    In bf16 and channels last. Compiled, the batch of the recipes comes first: compiling takes most
    of the time, and a part that is stopped keeps its rows.
    """
    at, rows = tools.device(setting), []
    batches = setting.small((8,), BATCHES)
    for batch in sorted(batches, key=lambda size: size != RECIPES_BATCH) if compiled else batches:
        rows.append({"batch": batch, "compiled": compiled, **_step(setting, batch, compiled)})
        setting.note(rows=rows)
        rows[-1] |= _apgd(setting, at, batch, compiled)
        setting.note(rows=rows)
    return {"rows": rows}


def _step(setting: Setting, batch: int, compiled: bool) -> dict[str, float]:
    changes = {**FAST, **TRAINED, "train.compile": "all" if compiled else False}
    few, many = tools.step_seconds(setting, TIMED, changes, batch=batch, attack_steps=ATTACK_STEPS)
    attack_step = max(0.0, many - few) / (ATTACK_STEPS[1] - ATTACK_STEPS[0])
    rest = max(0.0, few - ATTACK_STEPS[0] * attack_step)
    ten = rest + 10 * attack_step
    return {"attack_step": attack_step, "rest_of_step": rest, "images_at_10": batch / ten}


def _apgd(setting: Setting, at: torch.device, batch: int, compiled: bool) -> dict[str, float]:
    model = tools.net(setting, at)
    x, y = tools.samples(model, batch, at)
    steps = setting.small(2, 20)
    attack = APGD(Linf(TINY), steps=steps, precision="bfloat16", channels_last=True)
    run = CompiledModel(model, [batch]) if compiled else model
    first = tools.seconds(at, lambda: attack(run, x, y))
    took = min(tools.seconds(at, lambda: attack(run, x, y)) for _ in range(2))
    return {"apgd": took, "apgd_images": batch * steps / took, "apgd_first": first}


def parts(setting: Setting) -> tuple[Part, ...]:
    """Return the parts of stage a, in their order; limits are in seconds."""
    return (
        Part("machine", machine.describe, 20),
        Part("data", keep_data, 30, always=True),
        Part("tests", tests, 60, ("pytest", "beartype", "hypothesis")),
        Part("tf32", check_tf32, 15),
        Part("waits", waits, 30),
        Part("throughput", functools.partial(throughput, False), 30),
        Part("verdicts", verdicts.compare, 75),
        Part("graphs", graphs.check, 60),
        Part("compiled", functools.partial(throughput, True), 90),
    )
