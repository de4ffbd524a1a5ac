"""Check and measure on a GPU: `scripts/gpu a`, `scripts/gpu b`, and `scripts/gpu rows`.

Stage a says whether everything is right on this GPU, how often the host waits for it, and how fast
it is. Stage b trains by the clock, evaluates, and compares with AutoAttack's own code; it goes on
from what stage a left. A call that was cut short goes on where it ended.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from pathlib import Path

from . import machine, parts, report

STAGES = {"a": 170.0, "b": 560.0}
RECIPE = "cifar10-resnet18-trades-10min"
BEGAN = time.monotonic()
NOTHING, INCOMPLETE = 2, 1  # exit codes


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/gpu", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "rows"])
    parser.add_argument("files", nargs="*", type=Path, help="of `rows`: the JSONs of both stages")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="what is handed back")
    parser.add_argument("--work", type=Path, help="all else; kept. Default: .gpu in the checkout")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[Path("data")],
        help="folders with CIFAR-10; those of its batches that lie there are used",
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rehearse", action="store_true", help="small, on the CPU; no numbers")
    parser.add_argument("--recipe", nargs="+", default=[RECIPE], help="share the time of training")
    parser.add_argument("--train-seconds", type=float, default=320.0)
    parser.add_argument("--seconds", type=float, help="of the stage; default: a 170, b 560")
    parser.add_argument("--again", nargs="+", default=[], help="parts to run though they are done")
    args = parser.parse_args()
    if bool(args.files) != (args.stage == "rows"):
        parser.error("files are for `rows`, which needs them")
    return args


def main() -> int:
    """Run a stage, or print the table of two; return 0 if every part is done or cannot run here."""
    args = arguments()
    if args.stage == "rows":
        print(report.table(args.files))
        return 0
    if lacking := machine.lacking():
        print(f"packages are missing: {', '.join(lacking)}. Nothing is installed from here")
        return NOTHING
    work = args.work or machine.ROOT / ".gpu"
    if args.rehearse:
        work, args.device = work / "rehearsal", "cpu"
    for folder in (args.out, work):
        folder.mkdir(parents=True, exist_ok=True)
    # CUDA is looked for without being begun, which a process that forks must not do
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    # compiled programs stay for stage b
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(work.resolve() / "compiled"))
    stage = importlib.import_module(f"benchmarks.gpu.stage_{args.stage}")
    setting = parts.Setting(
        args.stage,
        args.out.resolve(),
        work.resolve(),
        tuple(folder.resolve() for folder in args.data),
        args.device,
        args.rehearse,
        tuple(args.recipe),
        args.train_seconds,
    )
    limit = args.seconds or (1800.0 if args.rehearse else STAGES[args.stage])
    limit -= time.monotonic() - BEGAN  # what the imports took
    table = parts.run_stage(stage.parts(setting), setting, seconds=limit, again=args.again)
    print(f"wrote {args.out / parts.file_of(setting)}")
    return 0 if table["whole"] else INCOMPLETE


if __name__ == "__main__":
    raise SystemExit(main())
