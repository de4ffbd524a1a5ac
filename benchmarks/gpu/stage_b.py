"""Stage b, at most 560 seconds: train by the clock, evaluate, and compare with AutoAttack."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparring.config.recipe import load_recipe
from sparring.data import load
from sparring.evaluation import evaluate

from . import cifar, machine, peer, plan, tools
from .parts import NotRun, Part, Setting, free, read, write

EPS = 8 / 255
SHARD = 16 * 2**20 - 2**16  # bytes of a file of weights, with room for its header
SMALL = {"model": {"name": "cifar-net", "width": 8}}  # of a rehearsal
SITES = {"method.sites": ["conv1", "conv2"], "method.reference": "conv2"}
LOW = {"train.amp": "bfloat16", "train.channels_last": True}


def gather(setting: Setting) -> dict[str, Any]:
    """Gather the batches of CIFAR-10 that have arrived, in this call and in stage a's."""
    folders = (setting.work / "data", *setting.data)
    got = cifar.gather(folders, _data(setting), limit=setting.small(2000, None))
    return {"train": got.train, "test": got.test}


def _data(setting: Setting) -> Path:
    return setting.work / "cifar10.npz"


def _gathered(setting: Setting) -> Path:
    if not _data(setting).exists():
        raise NotRun("CIFAR-10 is not there: see the part `data`")
    return _data(setting)


def train(recipe: str, setting: Setting) -> dict[str, Any]:
    """Train by the clock, and keep the averaged weights; a run that was cut short goes on."""
    run = setting.work / f"run-{recipe}"
    kept = run.with_suffix(".json")
    table = read(kept) if (run / "last.pt").exists() else _begin(recipe, setting, free(run))
    write(kept, table)
    changes = {"data.name": str(_gathered(setting)), **table["changes"]}
    trainer = tools.trainer(setting, recipe, changes, run, resume=True)
    setting.note(**table)
    for epoch in trainer:
        row = {k: v for k, v in epoch.row().items() if v is not None}
        print(row, flush=True)
        setting.note(epochs=epoch.number, last=row)
    model = trainer.averaged or trainer.model
    which = "averaged" if trainer.averaged else "last"
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(tensors, _weights(setting, recipe))
    return {"weights": which, "epochs": trainer.position.epoch}


def _begin(recipe: str, setting: Setting, run: Path) -> dict[str, Any]:
    """Return the recipe's changes for this machine: its attack steps, and its seconds."""
    run.rmdir()  # the trainer makes it
    tables = load_recipe(recipe).tables
    seconds = min(setting.train_seconds / len(setting.recipes), setting.seconds - 40)
    if setting.rehearse:
        small = {"train.batch_size": 100, "attack.steps": 1, "data.val": 100}
        small |= {"validation.rows": 100, "train.compile": False, "train.seconds": 5.0}
        return {"changes": small | SMALL, "chosen": None}
    timed = [setting.found["a"].get(name, {}) for name in ("throughput", "compiled")]
    chosen = plan.choose(
        [row for found in timed for row in found.get("rows", [])],
        method=tables["method"]["name"],
        climbs=bool(tables["weights"].get("climb")),
        batch=tables["train"]["batch_size"],
        train_rows=setting.found["b"]["data"]["train"],
        seconds=seconds,
    )
    changes: dict[str, Any] = {"train.seconds": seconds}
    if chosen is not None:
        changes |= {"attack.steps": chosen.steps, "attack.size": chosen.size}
    return {"changes": changes, "chosen": chosen and chosen._asdict()}


def _weights(setting: Setting, recipe: str) -> Path:
    return setting.work / f"weights-{recipe}.safetensors"


def _model(setting: Setting, recipe: str) -> nn.Module:
    """Return the trained network with its averaged weights, on the device, in eval mode."""
    path = _weights(setting, recipe)
    if not path.exists():
        raise NotRun(f"{recipe} was not trained to its end: see its part")
    model = load_recipe(setting.work / f"run-{recipe}").network(pretrained=False)
    model.load_state_dict(load_file(path))
    return model.to(tools.device(setting)).eval()


def weights(setting: Setting) -> dict[str, Any]:
    """Hand back the weights of the first recipe, in files of at most 16 MiB."""
    path = _weights(setting, setting.recipes[0])
    if not path.exists():
        raise NotRun(f"{setting.recipes[0]} was not trained to its end: see its part")
    parts = shards(load_file(path))
    for number, tensors in enumerate(parts, start=1):
        save_file(tensors, setting.out / f"weights-{number}-of-{len(parts)}.safetensors")
    return {"files": len(parts), "recipe": setting.recipes[0]}


def shards(tensors: dict[str, Tensor], size: int = SHARD) -> list[dict[str, Tensor]]:
    """Divide tensors into as few groups of at most `size` bytes as come out, the largest first."""
    groups: list[dict[str, Tensor]] = []
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].nbytes):
        fits = (g for g in groups if sum(t.nbytes for t in g.values()) + tensor.nbytes <= size)
        group = next(fits, None)
        if group is None:
            groups.append(group := {})
        group[name] = tensor
    return groups


def attack(recipe: str, setting: Setting) -> dict[str, Any]:
    """Run `autoattack` on 1,000 test images: in bf16, compiled, float32 confirming every break."""
    model = _model(setting, recipe)
    result = evaluate(
        model,
        load(_gathered(setting)),
        "Linf",
        setting.small("quick", "autoattack"),
        name=recipe,
        eps=EPS,
        n=setting.small(20, 1000),
        batch_size=setting.small(20, 500),
        precision="bfloat16",
        compile=not setting.rehearse,
        out=setting.work / "results" / f"{recipe}.json",
        progress=False,
    )
    rows = [{"name": a.name, "accuracy": a.accuracy, "seconds": a.seconds} for a in result.attacks]
    found = {"n": result.n, "clean": result.clean.accuracy, "robust": result.robust.accuracy}
    found |= {"interval": [result.robust.low, result.robust.high], "attacks": rows}
    return found | {"verdict": str(result.verdict), "seconds": result.seconds}


def beside(setting: Setting) -> dict[str, Any]:
    """Compare with AutoAttack's own code on 100 test images, in float32 without TF32."""
    model = _model(setting, setting.recipes[0])
    test = load(_gathered(setting)).test.subset(setting.small(4, 100), 0)
    at = tools.device(setting)
    with tools.tf32(False):
        x, y = test.float(slice(None)).to(at), test.y.to(at)
        return peer.compare(setting, model, x, y, EPS)


def ratios(setting: Setting) -> dict[str, Any]:
    """Time steps against each other: OTJR and UAD beside PGD-AT, sparsity beside batches of one."""
    found: dict[str, Any] = {"k": setting.small(2, 10), "batch": setting.small(4, 128)}
    for name in ("pgd-at", "otjr-paper", "uad"):
        small = setting.small(SMALL | (SITES if name == "uad" else {}), {})
        changes = LOW | small | {"attack.steps": found["k"]}
        (found[name],) = tools.step_seconds(
            setting, f"cifar10-resnet18-{name}", changes, batch=found["batch"]
        )
        setting.note(**found)
    for name in ("otjr-paper", "uad"):
        found[f"{name} / pgd-at"] = found[name] / found["pgd-at"]
    few = {"train.amp": "float32", "train.channels_last": False}  # what a batch of one is best in
    for batch, changes in ((1, few), (setting.small(16, 512), {})):
        (step,) = tools.step_seconds(
            setting, "mnist-sparsity", changes, batch=batch, shape=(1, 28, 28)
        )
        found[f"sparsity row, batch {batch}"] = step / batch
    one, many = list(found)[-2:]
    found["sparsity speedup"] = found[one] / found[many]
    return found


def hand_back(setting: Setting) -> dict[str, Any]:
    """Hand back results, recipes and logs of the runs, in one archive."""
    names = ("recipe.toml", "log.jsonl", "machine.json")
    folder = free(setting.work / "archive")
    for run in sorted(setting.work.glob("run-*")):
        for file in (run / name for name in names):
            if file.is_file():
                (folder / run.name).mkdir(exist_ok=True)
                shutil.copy(file, folder / run.name)
    for file in sorted((setting.work / "results").glob("*")):
        shutil.copy(file, folder) if file.is_file() else None
    archive = Path(shutil.make_archive(str(setting.out / "runs"), "zip", folder))
    return {"bytes": archive.stat().st_size}


def parts(setting: Setting) -> tuple[Part, ...]:
    """Return the parts of stage b, in their order; limits are in seconds."""
    share = setting.train_seconds / len(setting.recipes) + 75
    return (
        Part("machine", machine.describe, 20),
        Part("data", gather, 30),
        *(Part(f"train {r}", functools.partial(train, r), share) for r in setting.recipes),
        Part("weights", weights, 10, always=True),
        *(Part(f"autoattack {r}", functools.partial(attack, r), 90) for r in setting.recipes),
        Part("ratios", ratios, 45),
        Part("peer", beside, 120, ("pyautoattack",)),
        Part("archive", hand_back, 10, always=True),
    )
