"""Measure how the cost of an evaluation, a certificate and a training step grows with their size.

Each point is a process of its own, on one thread, so that its peak memory is its own. Points are
saved as they are measured: `--resume` measures only those that the file lacks. The whole takes some
five minutes on a quiet machine.

    .venv/bin/python benchmarks/scale.py
    .venv/bin/python -m scripts.scale_page   # the page and its figure
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, cpu_model
from torch import Tensor, nn

BATCH = 100
EPS = 1e-5  # so small that every sample stays robust: the dearest case
STEPS, TARGETS, QUERIES, ATTACK_STEPS = 2, 5, 20, 3
CERTIFIED_EPS = 0.002  # intervals alone prove few samples there
ENOUGH = 5.0  # seconds in which a point is repeated, three times at most


@dataclass(frozen=True)
class Work:
    """What one point measures: `"evaluate"`, `"certify"` or `"step"`, and its size.

    Arguments:
        n: samples; of a training step, those of its batch.
        side: of the images, in pixels.
        radii: of the evaluation.
    """

    kind: str
    n: int = 200
    classes: int = 10
    side: int = 32
    radii: int = 1
    processes: int = 1


EVALUATION, STEP = Work("evaluate"), Work("step", n=BATCH)
CERTIFICATE = Work("certify", n=20)


def series() -> dict[str, tuple[str, list[Work]]]:
    """Return for each series the size that grows, and its points."""

    def grown(base: Work, key: str, *values: int) -> tuple[str, list[Work]]:
        return key, [replace(base, **{key: value}) for value in values]

    small = replace(EVALUATION, n=50)
    return {
        "evaluation, samples": grown(EVALUATION, "n", 100, 200, 400, 800, 1600, 3200),
        "evaluation, classes": grown(EVALUATION, "classes", 10, 100, 1000),
        "evaluation, side": grown(small, "side", 32, 64, 128, 224),
        "evaluation, radii": grown(EVALUATION, "radii", 1, 2, 4),
        "evaluation, processes": grown(replace(EVALUATION, n=400), "processes", 1, 2),
        "certificates, classes": grown(CERTIFICATE, "classes", 10, 100, 1000),
        "step, batch": grown(STEP, "n", 25, 50, 100, 200, 400),
        "step, classes": grown(STEP, "classes", 10, 100, 1000),
        "step, side": grown(STEP, "side", 32, 64, 128, 224),
    }


def make_net(work: Work) -> nn.Module:
    """Return a small convolutional net; its cost is in proportion to the pixels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, work.classes),
    ).eval()


def make_images(work: Work) -> Tensor:
    """Return images `(n, 3, side, side)`, each of one colour with noise: their classes differ."""
    generator = torch.Generator().manual_seed(1)
    colour = torch.rand(work.n, 3, 1, 1, generator=generator)
    noise = torch.rand(work.n, 3, work.side, work.side, generator=generator)
    return 0.1 + 0.6 * colour + 0.2 * noise


def make_suite() -> Any:
    """Return a cascade as AutoAttack's, with fewer steps."""
    from sparring import attacks
    from sparring.evaluation.suites import Entry, Suite

    def targeted(threat: Any) -> Any:
        return attacks.APGD(threat, steps=STEPS, loss="dlr-targeted", targets=TARGETS)

    entries = (
        Entry("APGD-CE", lambda t: attacks.APGD(t, steps=STEPS)),
        Entry("APGD-T", targeted),
        Entry("FAB-T", lambda t: attacks.FAB(t, steps=STEPS, targets=TARGETS)),
        Entry("Square", lambda t: attacks.Square(t, queries=QUERIES), "black"),
    )
    return Suite("short cascade", 1, entries, cascade=True)


def evaluation(work: Work) -> Callable[[], dict[str, float]]:
    """Return an evaluation of samples that all stay robust."""
    from sparring.evaluation import evaluate

    model, x = make_net(work), make_images(work)
    with torch.no_grad():
        y = torch.cat([model(part).argmax(1) for part in x.split(BATCH)])
    radii = [EPS * (k + 1) / work.radii for k in range(work.radii)]
    options: dict[str, Any] = {"batch_size": BATCH, "progress": False}

    def run() -> dict[str, float]:
        result = evaluate(model, (x, y), "Linf", make_suite(), eps=radii, **options)
        rows = [row for radius in result.by_eps for row in radius.attacks]
        return {
            "robust": result.robust.accuracy,
            "forwards": sum(row.forwards for row in rows),
            "backwards": sum(row.backwards for row in rows),
        }

    return run


def certificate(work: Work) -> Callable[[], dict[str, float]]:
    """Return which samples CROWN-IBP proves."""
    from sparring.certification import certify
    from sparring.threats import Linf

    model, x = make_net(work), make_images(work)
    y, threat = model(x).argmax(1), Linf(CERTIFIED_EPS)

    def run() -> dict[str, float]:
        return {"robust": certify(model, x, y, threat=threat).double().mean().item()}

    return run


def step(work: Work) -> Callable[[], dict[str, float]]:
    """Return a step of PGD-AT."""
    from sparring.attacks import PGD
    from sparring.batch import Batch
    from sparring.introspect import freeze
    from sparring.methods import AT
    from sparring.objective import Objective
    from sparring.risks import Mean
    from sparring.threats import Linf

    model = make_net(work)
    batch = Batch(make_images(work), torch.arange(work.n) % work.classes)
    attack = PGD(Linf(8 / 255), steps=ATTACK_STEPS, best=False)
    objective, view = Objective(attack, AT(), Mean()), freeze.ModelView(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def run() -> dict[str, float]:
        loss = objective.minimize(view, objective.maximize(view, batch))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        return {}

    return run


MAKERS = {"evaluate": evaluation, "certify": certificate, "step": step}


def measure(work: Work) -> dict[str, float]:
    """Return the cost of a point, in this process: seconds of its processors and of the clock, and
    the MiB that it adds to the memory of a process that has run it once in small."""
    from sparring.runtime import allocator, distributed

    torch.set_num_threads(1)
    MAKERS[work.kind](replace(work, n=8, side=32, radii=1))()
    run, before, times, values = MAKERS[work.kind](work), memory("VmRSS"), [], {}
    while len(times) < 3 and (not times or sum(t for t, _ in times) < ENOUGH):
        clock, processor = time.perf_counter(), time.process_time()
        with allocator.keep_freed_memory():  # as training and evaluation do
            values = run()
        times.append((time.process_time() - processor, time.perf_counter() - clock))
    mine = {
        "seconds": statistics.median(t for t, _ in times),
        "wall": statistics.median(t for _, t in times),
        "mib": memory("VmHWM") - before,
        **values,
    }
    ranks = distributed.gather_dict({distributed.rank(): mine}).values()
    return {
        **mine,
        "seconds": sum(one["seconds"] for one in ranks),
        "wall": max(one["wall"] for one in ranks),
        "mib": max(one["mib"] for one in ranks),
    }


def memory(key: str) -> float:
    """Return this process's memory in MiB now (VmRSS), or at its peak (VmHWM)."""
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else math.nan


def point(text: str) -> None:
    """Measure one point and print it; a process of torchrun joins the others first."""
    if joined := "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    values = measure(Work(**json.loads(text)))
    if not joined or torch.distributed.get_rank() == 0:
        print(json.dumps(values))
    if joined:
        torch.distributed.destroy_process_group()


def in_own_process(work: Work) -> dict[str, float]:
    """Return the cost of a point, from one new process or as many as it names."""
    several = ["-m", "torch.distributed.run", "--nproc-per-node", str(work.processes)]
    command = [sys.executable, *(several if work.processes > 1 else ()), __file__]
    command += ["--point", json.dumps(asdict(work))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return the slope of log y over log x by least squares: 1 is linear, 2 is quadratic."""
    if len(x) < 2 or min(*x, *y) <= 0:
        return None
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def summary(points: dict[Work, dict[str, float]]) -> dict[str, Any]:
    """Return for each series its size, its values, and the slopes of time and memory."""
    found: dict[str, Any] = {}
    for name, (key, works) in series().items():
        done = [(getattr(work, key), points[work]) for work in works if work in points]
        x = [value for value, _ in done]
        one: dict[str, Any] = {"size": key, "values": x}
        for column in ("seconds", "wall", "mib"):
            y = [values[column] for _, values in done]
            one |= {column: y, f"{column}_slope": slope(x, y)}
        found[name] = one
    return found


def save(path: Path, points: dict[Work, dict[str, float]]) -> None:
    """Write what has been measured, and the slopes."""
    about = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": 1,
        "batch_size": BATCH,
        "suite": {"steps": STEPS, "targets": TARGETS, "queries": QUERIES},
        "step": {"attack_steps": ATTACK_STEPS},
    }
    rows = [{**asdict(work), **values} for work, values in points.items()]
    table = {"about": about, "series": summary(points), "points": rows}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def saved(path: Path) -> dict[Work, dict[str, float]]:
    """Return the points of a file."""
    names = list(asdict(EVALUATION))
    rows = json.loads(path.read_text(encoding="utf-8"))["points"] if path.exists() else []
    return {Work(**{k: row.pop(k) for k in names}): row for row in rows}


def main() -> None:
    """Measure all points, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", help="measure this one, and print it")
    parser.add_argument("--resume", action="store_true", help="keep the points of the file")
    parser.add_argument("--only", default="", help="series whose name contains this text")
    parser.add_argument("--out", type=Path, default=RESULTS / f"scale-{cpu_model()}.json")
    args = parser.parse_args()
    if args.point:
        point(args.point)
        return
    chosen = {w for name, (_, works) in series().items() if args.only in name for w in works}
    every = dict.fromkeys(work for _, works in series().values() for work in works)
    points = saved(args.out)
    points = points if args.resume else {w: v for w, v in points.items() if w not in chosen}
    started = time.perf_counter()
    for work in every:
        if work in chosen and work not in points:
            points[work] = in_own_process(work)
            save(args.out, points)
            values = points[work]
            print(f"{work}: {values['seconds']:.2f} s, {values['mib']:.0f} MiB", flush=True)
    save(args.out, points)
    for name, one in summary(points).items():
        print(f"{name:24s} slopes: time {one['seconds_slope']}, memory {one['mib_slope']}")
    print(f"wrote {args.out} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
