"""The trainer is an iterator: `for epoch in Trainer(...): print(epoch)`."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..attacks.base import Attack
from ..batch import Batch
from ..component import check_classes, require
from ..data import AddedRows, Augment, Loader, Source
from ..objective import Objective
from ..runtime import allocator, distributed, files
from ..weights import EMA, WeightPerturbation
from . import checkpoint, parallel, run_folder
from .display import Display, TensorBoardLog
from .state import Epoch, NonFiniteLoss, Position, settings
from .stepper import Stepper
from .validate import Score, check_output, measure


class Trainer:
    """Trains `model` by `objective` on `source.train`; iterate over it: it yields an `Epoch` each.

    A kill at any moment leaves a run that goes on with `resume=True` as if nothing had been, bit
    for bit on a CPU. Between epochs the model is in eval mode. Under torchrun the processes share
    every batch, and the run folder.

    Arguments:
        model: inputs in the source's bounds to logits `(b, classes)`; it is moved to the device
            and trained in place.
        objective: what is fought over; moved to the device too.
        source: its test split is never looked at.
        out: the run folder; one that holds a run is an error unless `resume`.
        epochs, batch: how many epochs, and the rows of a (joint) batch.
        optimizer: of `torch.optim`, by name or as `{name, lr, momentum, weight_decay, …}`.
        schedule: `{path, name, …}` each, see `sparring.training.schedule`.
        clip: largest norm of the gradient of all weights together; None is off.
        amp: None, `"float32"` or `"bfloat16"` inside the model, for loss and attack; logits are
            float32.
        channels_last: run image models in that memory layout.
        compile: compile the model for the attack; the loss stays eager.
        device: the best there is when omitted.
        decay_norm: let weight decay act on biases and normalisation too.
        augment: pieces of `sparring.data`, applied in turn to training batches.
        mix: pieces of `sparring.data` that add rows to every batch; `batch` does not count them.
        climb: AWP or SAM.
        ema: an average of the weights, measured beside them.
        validation: the attack whose accuracy on `source.val` decides which weights are best;
            clean accuracy does when None.
        rows: only the first so many of `source.val`.
        every: validate after so many epochs, and after the last.
        save_every: also write `last.pt` after so many batches; None is once an epoch.
        seed: of the order, augmentation, attack and dropout.
        recipe: the resolved recipe as tables; it is kept in the folder.
        resume: go on with the run in `out`, or begin it; its settings must be the same.
        progress: show it.
        tensorboard: write scalars to `out/tensorboard`.

    Raises:
        ValueError: for what is not allowed, or a damaged checkpoint.
        FileExistsError: for a folder with a run.
        NonFiniteLoss: while training, when the loss becomes infinite or NaN.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        source: Source,
        *,
        out: str | Path,
        epochs: int = 10,
        batch: int = 128,
        optimizer: str | dict[str, Any] = "AdamW",
        schedule: Sequence[dict[str, Any]] = (),
        clip: float | None = None,
        amp: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
        device: str | None = None,
        decay_norm: bool = True,
        augment: Sequence[Augment] = (),
        mix: Sequence[AddedRows] = (),
        climb: WeightPerturbation | None = None,
        ema: EMA | None = None,
        validation: Attack | None = None,
        rows: int | None = None,
        every: int = 1,
        save_every: int | None = None,
        seed: int = 0,
        recipe: Mapping[str, Any] | None = None,
        resume: bool = False,
        progress: bool = False,
        tensorboard: bool = False,
    ) -> None:
        without = {"self", "model", "source", "recipe"} | (set() if mix else {"mix"})
        given = {k: v for k, v in locals().items() if k not in {*without, "without"}}
        counts = {"epochs": epochs, "batch": batch, "every": every}
        for key, value in {**counts, "rows": rows, "save_every": save_every}.items():
            require(value is None or value >= 1, key, value, "an integer ≥ 1")
        require(clip is None or clip > 0, "clip", clip, "a norm > 0, or None")
        require(amp in (None, "float32", "bfloat16"), "amp", amp, "float32 or bfloat16")
        self.out, self.epochs, self.every = Path(out), epochs, every
        self.save_every, self.progress = save_every, progress
        self.settings = settings(recipe, given, source)
        if not resume:
            run_folder.require_empty(self.out)
        self.device = parallel.start(device)
        self.stepper = Stepper(
            model,
            objective,
            device=self.device,
            look={"amp": amp, "channels_last": channels_last},
            compile=compile,
            config=optimizer,
            decay_norm=decay_norm,
            schedules=schedule,
            epochs=epochs,
            clip=clip,
            climb=climb,
            ema=ema,
            seed=seed,
        )
        self.val = source.val if rows is None else source.val.take(slice(0, rows))
        self.validation = copy.deepcopy(validation)
        check_output(self.model, self.val, source.classes, self.device)
        for judged in filter(None, (objective, validation)):
            check_classes(judged, source.classes)
        for piece in mix:
            piece.prepare(source, device=self.device)
        more = {"seed": seed, "augment": augment, "mix": mix, "device": self.device}
        self.loader = Loader(source.train, batch_size=batch, shuffle=True, **more)
        self.batches = len(self.loader)
        self.position = Position()
        self._open(recipe, resume)
        wanted = tensorboard and parallel.first()
        self.board = TensorBoardLog(self.out, done=self.position.epoch) if wanted else None

    @property
    def model(self) -> nn.Module:
        """The bare model."""
        return self.stepper.model

    @property
    def averaged(self) -> nn.Module | None:
        """The model with averaged weights, if there is an average."""
        return self.stepper.averaged

    def _open(self, recipe: Mapping[str, Any] | None, resume: bool) -> None:
        """Begin the run folder, or go on with what is in it."""
        state = checkpoint.load_last(self.out, self.device) if resume else None
        parallel.wait()
        if state is not None:
            checkpoint.same(self.out, state, self.settings)
            self.stepper.load_state_dict(state)
            self.position = Position(**state["position"])
        if parallel.first() and state is None:
            run_folder.begin(self.out, recipe)
        elif parallel.first():
            files.remove_temporary(self.out)
            run_folder.cut(self.out, self.position.epoch)
        parallel.wait()

    def __iter__(self) -> Iterator[Epoch]:
        shown, done = self.progress and parallel.first(), self.position.epoch
        with Display(shown=shown, epochs=self.epochs, batches=self.batches, done=done) as display:
            while self.position.epoch < self.epochs:
                epoch = self._epoch(display)
                display.epoch(epoch)
                if self.board is not None:
                    self.board.epoch(epoch)
                yield epoch
        if self.board is not None:
            self.board.close()

    def _epoch(self, display: Display) -> Epoch:
        """Train one epoch, validate, write: the best weights, the log, what to go on from."""
        self.model.train()
        with (
            allocator.kept(),
            torch.random.fork_rng([self.device] if self.device.type == "cuda" else []),
        ):
            self._train(display)
        self.model.eval()
        self.stepper.agree()
        self._check_weights()
        place, lr = self.position, self.stepper.optimizer.param_groups[0]["lr"]
        place.settle()
        (loss, parts), rate, step = place.means(), place.rate, place.step
        own, average = self._validate()
        place.turn()
        best = self._choose(own, average)
        epoch = Epoch(
            number=place.epoch,
            step=step,
            loss=loss,
            terms=parts,
            clean=own and own.clean,
            robust=own and own.robust,
            ema_clean=average and average.clean,
            ema_robust=average and average.robust,
            lr=lr,
            eps=self.stepper.eps,
            seconds=place.seconds,
            val_seconds=place.val_seconds,
            samples_per_second=rate,
            best=best,
        )
        if parallel.first():
            run_folder.append(self.out, epoch.row())
        self._save()
        return epoch

    def _train(self, display: Display) -> None:
        """The batches of this epoch that are still to come."""
        place = self.position
        began, clock = time.perf_counter(), place.epoch_seconds
        earlier = place.seconds - clock
        for batch in islice(self.loader.epoch(place.epoch + 1), place.batch, None):
            loss = self._batch(batch)
            place.epoch_seconds = clock + time.perf_counter() - began
            place.seconds = earlier + place.epoch_seconds
            display.step(epoch=place.epoch + 1, batch=place.batch, loss=loss, rate=place.rate)
            due = self.save_every is not None and place.batch % self.save_every == 0
            if due and place.batch != self.batches:
                self._check_weights()
                self._save()

    def _batch(self, batch: Batch) -> float:
        """One batch, as often as the attack replays it; the last loss."""
        place, total = self.position, 0.0
        progress = place.progress(self.epochs, self.batches)
        replays = self.stepper.begin(epoch=place.epoch + 1, batch=place.batch, progress=progress)
        for _ in range(replays):
            total, loss = self.stepper.step(batch, epoch=place.epoch + 1, number=place.step + 1)
            place.add(total, loss, len(batch) * distributed.world())
        place.batch += 1
        return total

    def _validate(self) -> tuple[Score | None, Score | None]:
        """The scores of the weights and of their average, where they are due."""
        number, began = self.position.epoch + 1, time.perf_counter()
        due = number % self.every == 0 or number == self.epochs
        own, average = (
            measure(model, self.val, self.validation, device=self.device)
            if due and model is not None
            else None
            for model in (self.model, self.averaged)
        )
        self.position.val_seconds += time.perf_counter() - began
        return own, average

    def _choose(self, own: Score | None, average: Score | None) -> bool:
        """Keep the weights, or their average, if they are the best so far; whether they are."""
        found = {"weights": (own, self.model), "ema": (average, self.averaged)}
        which = max(found, key=lambda name: found[name][0] or Score(-1.0, -1.0))
        score, model = found[which]
        best = self.position.best
        if score is None or model is None or (best and score <= tuple(best["score"])):
            return False
        about = {"epoch": self.position.epoch, "which": which, **score.named()}
        self.position.best = {**about, "score": list(score)}
        if parallel.first():
            checkpoint.save_best(self.out, model.state_dict(), **about)
        return True

    def _check_weights(self) -> None:
        if not self.stepper.finite():
            raise NonFiniteLoss(
                f"the weights are not finite after step {self.position.step}, though the loss was: "
                "try a lower lr, clip = 1.0 or amp = 'float32'; the last good checkpoint stays"
            )

    def _save(self) -> None:
        """Write `last.pt`, by the first process while the others wait."""
        self.position.settle()
        if parallel.first():
            state = {**self.stepper.state_dict(), "position": asdict(self.position)}
            checkpoint.save_last(self.out, state, self.settings)
        parallel.wait()
