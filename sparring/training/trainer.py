"""The trainer is an iterator: `for epoch in Trainer(…): print(epoch)`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from .. import dist, probe
from ..attacks.base import Attack
from ..batch import Batch
from ..data.augment import Augment
from ..data.loader import Loader
from ..data.source import Source
from ..objective import Objective
from ..part import require
from ..weights.base import Climb
from ..weights.ema import EMA
from . import checkpoint, distributed
from .display import Display
from .optim import build
from .schedule import Schedules
from .validate import accuracy


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite; the last good checkpoint is on disk."""


@dataclass
class Epoch:
    """What an epoch came to, and a line of `log.jsonl`. Accuracies are on the validation split; seconds add up over
    the training steps alone."""

    epoch: int
    step: int
    loss: float
    clean: float
    robust: float | None
    ema_clean: float | None
    ema_robust: float | None
    lr: float
    eps: float | None
    seconds: float
    val_seconds: float
    samples_per_second: float
    best: bool
    parts: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Trains `model` on `objective` over `source.train`, and keeps the best of it on `source.val`.

    Arguments:
        out: the run folder: `recipe.toml`, `log.jsonl`, `last.pt`, `best.safetensors`.
        epochs, batch: passes over train; rows of the joint batch of all processes.
        optimizer: `{name, …}`: any of `torch.optim` with its own arguments.
        schedule: `{path, name, …}` each; see `schedule.Schedules`.
        augment: applied to training batches on the device.
        climb: `AWP`, `SAM` or None.
        ema: averaged weights kept and evaluated beside; None for none.
        validation: the attack that chooses the best epoch; None chooses by clean accuracy.
        rows: of the validation split used for it; None is all.
        every: epochs between validations (the last is always validated).
        clip: largest gradient norm; None for no limit.
        amp: `"bfloat16"` or `"float16"` inside the model; inputs, perturbations and losses stay float32.
        channels_last: memory layout of image models.
        compile: compile the attack's view of the model.
        decay_norm: weight decay on normalisation and biases, too.
        device: the GPU if there is one when None.
        seed: of everything random in here.
        recipe: the resolved recipe, stored with the run.
        resume: go on from `last.pt` if the folder has one; on a CPU the result is the same bit for bit.
        progress: show a live display.
        tensorboard: write event files into the run folder as well.

    Raises:
        FileExistsError: if there is a run in `out` and `resume` is False.
        NonFiniteLoss: while iterating.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        source: Source,
        *,
        out: str | Path,
        epochs: int,
        batch: int = 128,
        optimizer: Mapping[str, Any] = {"name": "SGD", "lr": 0.1, "momentum": 0.9},  # noqa: B006
        schedule: Sequence[Mapping[str, Any]] = (),
        augment: Sequence[Augment] = (),
        climb: Climb | None = None,
        ema: EMA | None = None,
        validation: Attack | None = None,
        rows: int | None = None,
        every: int = 1,
        clip: float | None = None,
        amp: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
        decay_norm: bool = True,
        device: str | None = None,
        seed: int = 0,
        recipe: Mapping[str, Any] | None = None,
        resume: bool = False,
        progress: bool = True,
        tensorboard: bool = False,
    ) -> None:
        for key, value in {"epochs": epochs, "batch": batch, "every": every, "rows": rows}.items():
            require(value is None or value >= 1, key, value, "an integer ≥ 1")
        require(clip is None or clip > 0, "clip", clip, "a gradient norm > 0")
        self.device = distributed.begin(device)
        self.out, self.epochs, self.every, self.clip, self.seed = Path(out), epochs, every, clip, seed
        self.batch, self.progress, self.recipe = batch, progress, dict(recipe or {})
        self.model = model.to(self.device)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.objective, self.climb, self.ema = objective.to(self.device), climb, ema
        if ema is not None:
            ema.attach(self.model)
        self.validation, self.val = validation, source.val.take(slice(rows)).to(self.device)
        self.loader = Loader(source.train, batch=batch, shuffle=True, seed=seed, augment=augment, device=self.device)
        self.optimizer = build(optimizer, self.model, self.objective, decay_norm=decay_norm)
        self.schedules = Schedules(
            schedule, epochs=epochs, optimizer=self.optimizer, objective=objective, climb=climb, ema=ema
        )
        self.attack_view = probe.View(self.model, amp=amp, channels_last=channels_last, compile=compile)
        self.view = probe.View(self.model, amp=amp, channels_last=channels_last)
        self.loss_pass = distributed.wrap(self.objective, self.view)
        self.replays = objective.attack.replays if objective.attack is not None else 1
        self.steps = len(self.loader) * self.replays
        self.log: list[dict[str, Any]] = []
        self.best: list[float] = []
        if distributed.first():
            checkpoint.begin(self.out, tomli_w.dumps(self.recipe), resume=resume)
        distributed.barrier()
        if resume and (self.out / checkpoint.LAST).exists():
            self._restore()
        self.board = _board(self.out) if tensorboard and distributed.first() else None

    @property
    def averaged(self) -> nn.Module | None:
        """The model with averaged weights, if there is one."""
        return None if self.ema is None else self.ema.module

    def __iter__(self) -> Iterator[Epoch]:
        first = distributed.first()
        done = len(self.log)
        show = self.progress and first
        with Display(steps=self.epochs * self.steps, done=done * self.steps, show=show) as display:
            for number in range(done + 1, self.epochs + 1):
                row = self._epoch(number, display)
                if first:
                    checkpoint.save_last(self.out, self._state(number))
                    checkpoint.write_log(self.out, self.log)
                    display.epoch(self.log[-1], self.epochs)
                    self._write_board(row)
                distributed.barrier()
                yield row

    def _epoch(self, number: int, display: Display) -> Epoch:
        started, before = time.perf_counter(), self.log[-1]["seconds"] if self.log else 0.0
        torch.manual_seed(mix(self.seed, number))
        if self.objective.attack is not None:
            self.objective.attack.reseed(mix(self.seed, number))
        self.model.train()
        total, parts, seen, step = torch.zeros((), device=self.device), {}, 0, (number - 1) * self.steps
        for batch in self.loader.epoch(number):
            for _ in range(self.replays):
                self.schedules.apply(step / (self.epochs * self.steps))
                loss, noted = self._step(batch, step)
                step += 1
                seen += len(batch) * dist.world()
                total += loss
                for key, value in noted.items():
                    parts[key] = parts.get(key, 0) + value
                speed = seen / (time.perf_counter() - started)
                display.step(epoch=f"{number}/{self.epochs}", loss=loss.item(), speed=speed)
        used = time.perf_counter() - started
        row = Epoch(
            epoch=number,
            step=step,
            loss=float(total) / self.steps,
            lr=self.optimizer.param_groups[0]["lr"],
            eps=getattr(getattr(self.objective.attack, "threat", None), "eps", None),
            seconds=before + used,
            samples_per_second=seen / used,
            parts={k: float(v) / self.steps for k, v in parts.items()},
            **self._validate(number),
        )
        self.log.append(asdict(row))
        return row

    def _step(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The step of DESIGN: maximize on the bare model, climb, minimize through the wrapper, update."""
        batch = self.objective.maximize(self.attack_view, batch)
        climbing = nullcontext()
        if self.climb is not None:
            climbing = self.climb.climb(self.model, lambda: self.objective.minimize(self.view, batch).total)
        with climbing:
            loss = self.loss_pass(batch)
            value = dist.mean(loss.total.detach())
            if not torch.isfinite(value):
                raise NonFiniteLoss(_advice(step, loss.parts, self.out))
            self.optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
        self.objective.update(self.model, batch)
        if self.ema is not None:
            self.ema.update(self.model)
        return value, loss.parts

    def _validate(self, number: int) -> dict[str, Any]:
        """Accuracies of the weights and of their average; the better of all epochs goes to `best.safetensors`."""
        started, found = time.perf_counter(), {"clean": float("nan"), "robust": None, "ema_clean": None, "ema_robust": None}
        better = False
        if number % self.every == 0 or number == self.epochs:
            for name, model in {"": self.model, "ema_": self.averaged}.items():
                if model is None:
                    continue
                clean, robust = accuracy(model, self.val, self.validation, batch=max(self.batch, 250))
                found[name + "clean"], found[name + "robust"] = clean, robust
                score = [clean if robust is None else robust, clean]
                if score > self.best:
                    self.best, better = score, True
                    about = {"epoch": number, "weights": "ema" if name else "plain", "clean": clean, "robust": robust}
                    if distributed.first():
                        checkpoint.save_best(self.out, model.state_dict(), about)
        return {**found, "best": better, "val_seconds": time.perf_counter() - started}

    def _state(self, number: int) -> dict[str, Any]:
        return {
            "epoch": number,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "best": self.best,
            "log": json.dumps(self.log),
            "random": torch.get_rng_state(),
        }

    def _restore(self) -> None:
        state = checkpoint.read_last(self.out)
        try:
            self.model.load_state_dict(state["model"])
            self.objective.load_state_dict(state["objective"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"{self.out / checkpoint.LAST} belongs to another model or optimizer: {error}") from None
        torch.set_rng_state(state["random"])
        self.best, self.log = list(state["best"]), json.loads(state["log"])
        if distributed.first():
            checkpoint.write_log(self.out, self.log)

    def _write_board(self, row: Epoch) -> None:
        if self.board is None:
            return
        for key, value in asdict(row).items():
            if isinstance(value, float):
                self.board.add_scalar(key, value, row.epoch)
        self.board.flush()


def mix(seed: int, number: int) -> int:
    """One seed from two."""
    return (seed * 1_000_003 + number * 7_919) % 2**31


def _advice(step: int, parts: Mapping[str, Tensor], out: Path) -> str:
    shown = ", ".join(f"{k} = {float(v):.4g}" for k, v in parts.items()) or "no parts"
    return (
        f"the loss is not finite at step {step} ({shown}). Try a smaller optimizer.lr, a warm-up, clip = 1.0, or amp off; "
        f"the checkpoint of the last good epoch stays in {out}"
    )


def _board(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError('tensorboard = true needs the package: pip install "sparring[tensorboard]"') from None
    return SummaryWriter(str(out / "tensorboard"))
