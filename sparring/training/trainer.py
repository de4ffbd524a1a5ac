"""The trainer is an iterator: `for epoch in Trainer(...): print(epoch)`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..attacks import WarmStart
from ..attacks.base import Attack
from ..batch import Batch
from ..component import check_classes, checked, require
from ..data import AddedRows, Augment, Loader, Source
from ..objective import Objective
from ..runtime import allocator, distributed, files
from ..runtime.training_progress import TrainingProgress
from ..weights import EMA, WeightPerturbation
from . import checkpoint, checks, collapse, describe, parallel, record, run_folder
from .fine_tuning import begin, start_text
from .length import Length, make_length
from .loggers import LoggedRun, Loggers
from .network import prepare_network, two_samples
from .ranges import check_numbers
from .saving import Saver
from .settings import run_settings
from .state import Epoch, NonFiniteLoss, Position
from .stepper import Stepper
from .validate import Score, score

NOT_SETTINGS = {"self", "model", "source", "recipe"}  # arguments beside a run's settings


class Trainer:
    """Train `model` by `objective` on `source.train`; iterate over it: it yields an `Epoch` each.

    A run that was killed at any moment resumes (`resume=True`) with the results of one that was
    not, bit for bit on a CPU. Between epochs the model is in eval mode. Under torchrun the
    processes share every batch, and the run folder.

    Arguments:
        model: inputs in the source's bounds to logits `(b, classes)`; it is moved to the device
            and trained in place.
        objective: attack, method and risk; moved to the device too.
        source: its test split is never used.
        out: the run folder; one that holds a run is an error unless `resume`.
        epochs, batch_size: how many epochs, and the rows of a (joint) batch.
        seconds: train by the clock instead: schedules are laid over this time, and the last epoch
            ends early enough to be validated and written within it. `epochs` then only says what
            part of the training a schedule's position in epochs is. Such a run does not repeat its
            numbers.
        passes: train for this many passes over the training rows instead, as `PassLength` counts
            them, so that methods whose steps cost more take fewer. Not with `compile`.
        optimizer: of `torch.optim`, by name or as `{name, lr, momentum, weight_decay, …}`.
        schedule: `{path, name, …}` each, see `sparring.training.schedule`.
        clip: largest norm of the gradient of all weights together; None is off.
        amp: None, `"float32"` or, where the device has units for it, `"bfloat16"` inside the
            model, for loss and attack; logits are float32.
        channels_last: run image models in that memory layout.
        compile: compile the model for the attack; `"all"`: for the loss too, unless the method
            differentiates twice.
        device: default: CUDA, else the CPU.
        decay_norm: let weight decay act on biases and normalisation too.
        augment, mix: pieces of `sparring.data`, applied in turn to training batches; those of `mix`
            add rows, which `batch_size` does not count.
        start: weights to begin from, with running statistics: a file as `models.load_weights`
            reads, a run folder, a state dict or a module. A run that goes on needs it no more.
        start_without: names or patterns of modules that do not take them, as `["head"]`.
        freeze: names or patterns of modules, as `["stem", "layers.*"]`, whose weights stay; their
            batch norm normalises by its running statistics, in training too, and keeps them.
        climb, ema: AWP or SAM; an average of the weights, validated beside them.
        validation: the attack whose accuracy on `source.val` selects the best weights, if not clean
            accuracy.
        rows: use only the first n of `source.val`; default: all.
        every: validate every n epochs, and after the last.
        save_every: also write `last.pt` every n batches; default: once per epoch.
        save_seconds: seconds that the end of an epoch waits after the last `last.pt` before it
            writes the next, with the best weights; the last epoch waits for none. Default: none.
        seed: of the order, augmentation, attack and dropout.
        recipe: the resolved recipe as tables, kept in the folder. Default: one is recorded from
            these arguments, without network or data where no recipe can name them.
        resume: continue the run in `out`, or begin it; its settings must be the same.
        progress: show it.
        log: loggers, by name ("tensorboard", "mlflow", "wandb"), as `{name, …}`, or objects with
            `start`, `epoch` and `close`, see `training.loggers`. One that fails is left out.
        tensorboard: deprecated: `log=["tensorboard"]`.

    Raises:
        ValueError: for an argument that is not allowed, or a damaged checkpoint.
        FileExistsError: for a folder with a run.
        NonFiniteLoss: while training, when the loss becomes infinite or NaN.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        source: Source,
        *,
        out: str | Path,
        epochs: int = 10,
        seconds: float | None = None,
        passes: float | None = None,
        batch_size: int = 128,
        optimizer: str | dict[str, Any] = "AdamW",
        schedule: Sequence[dict[str, Any]] = (),
        clip: float | None = None,
        amp: str | None = None,
        channels_last: bool = False,
        compile: bool | str = False,
        device: str | None = None,
        decay_norm: bool = True,
        augment: Sequence[Augment] = (),
        mix: Sequence[AddedRows] = (),
        start: str | Path | Mapping[str, Any] | nn.Module | None = None,
        start_without: Sequence[str] | None = None,
        freeze: Sequence[str] | None = None,
        climb: WeightPerturbation | None = None,
        ema: EMA | None = None,
        validation: Attack | None = None,
        rows: int | None = None,
        every: int = 1,
        save_every: int | None = None,
        save_seconds: float | None = None,
        seed: int = 0,
        recipe: Mapping[str, Any] | None = None,
        resume: bool = False,
        progress: bool = False,
        log: Sequence[Any] | None = None,
        tensorboard: bool | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in NOT_SETTINGS}
        for key in ("mix", "start_without", "freeze", "seconds", "passes", "save_seconds"):
            if arguments[key] in (None, (), []):
                del arguments[key]  # runs from before it existed have no such setting
        del arguments["start"]
        if start is not None:
            arguments["start"] = start_text(start)
        check_numbers(arguments)
        self._length_text = describe.length_text(arguments)
        if tensorboard is not None:
            what = "tensorboard=True is log=['tensorboard'] since 0.2"
            warnings.warn(what, DeprecationWarning, stacklevel=3)
        self._loggers = Loggers([*(log or ()), *(["tensorboard"] if tensorboard else [])])
        kind = type(objective).__name__
        require(isinstance(objective, Objective), "objective", kind, "a sparring Objective")
        kind = type(source).__name__
        require(isinstance(source, Source), "source", kind, "a Source of sparring.data")
        source.require_train()
        self.out, self.epochs, self.seconds, self.every = Path(out), epochs, seconds, every
        self.save_every, self.progress, self.recipe = save_every, progress, recipe
        # Taken now: their text is of the arguments as given, before schedules and `attach` act.
        self.settings = run_settings(recipe, arguments, source)
        if not resume:
            run_folder.require_empty(self.out)
        self.val = source.val if rows is None else source.val.take(slice(0, rows))
        checks.check_data(source, self.val, mixed=bool(mix))
        samples = two_samples(self.val)
        model = prepare_network(model, samples, seed=seed)
        goes_on = resume and (self.out / run_folder.LAST).exists()
        began = begin(model, start, start_without or (), run=self.out if goes_on else None)
        self.device = parallel.join_process_group(device)
        self.stepper = Stepper(
            model, arguments, samples, classes=source.classes, device=self.device
        )
        # A copy: where the caller shares one threat with the objective, a schedule of its eps must
        # not move the radius that epochs are compared at.
        self.validation = copy.deepcopy(validation)
        for root in filter(None, (objective, self.validation)):
            check_classes(root, source.classes)
        checks.check_radii(objective.attack, self.stepper.schedules, source.shape)
        checks.check_radii(self.validation, (), source.shape)
        for piece in mix:
            piece.prepare(source, device=self.device)
        for piece in augment:
            piece.prepare(source)
        checks.check_mixed_labels(objective, augment)
        checks.prepare_warm_start(objective.attack, source.train, augment, mixed=bool(mix))
        options = {"seed": seed, "augment": augment, "mix": mix, "device": self.device}
        options["follow_pixels"] = isinstance(objective.attack, WarmStart) and not mix
        least_rows = 1 if mix else self.stepper.least_rows  # rows that are added are rows too
        self.loader = Loader(
            source.train, batch_size=batch_size, shuffle=True, least_rows=least_rows, **options
        )
        self.batches = len(self.loader)  # per epoch
        if compile:
            checks.warn_of_short_batch(len(source.train), batch_size)
        self.position, self._collapse = Position(), collapse.Watch()
        options = {"batches": self.batches, "device": self.device, "rows": len(source.train)}
        self.length: Length = make_length(arguments, **options, model=self.model, samples=samples)
        self.saver = Saver(self.out, self.settings, seconds=save_seconds, device=self.device)
        about = {"arguments": arguments, "model": model, "source": source}
        # Last of all, so that a mistake in any argument leaves no folder behind.
        self._open(record.recorded(self.out, recipe, **about), resume, began and began._asdict())
        if recipe is None and source.origin and parallel.is_main():
            record.record_data(self.out, str(source.origin["name"]), source)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.length.is_over(self.position)

    @property
    def model(self) -> nn.Module:
        """The bare model."""
        return self.stepper.model

    @property
    def averaged(self) -> nn.Module | None:
        """The model with averaged weights, if there is an average."""
        return self.stepper.averaged

    def _open(
        self, recipe: Mapping[str, Any] | None, resume: bool, start: Mapping[str, Any] | None
    ) -> None:
        """Create the run folder, or continue the run in it."""
        state = checkpoint.load_last(self.out, self.device) if resume else None
        # Every process must have looked for a checkpoint before the first one writes the folder.
        parallel.barrier()
        if state is not None:
            checkpoint.check_settings(self.out, state, self.settings)
            self.position = checkpoint.restore(self.out, state, self.stepper)
            self.saver.resumed()
        if parallel.is_main() and state is None:
            run_folder.create_run(self.out, recipe, start)
        elif parallel.is_main():
            files.remove_temporary(self.out)
            run_folder.truncate_log(self.out, self.position.epoch)
            self._collapse.resume(run_folder.read_log(self.out))
        parallel.barrier()

    def __iter__(self) -> Iterator[Epoch]:
        with self._display() as progress, self._logged() as loggers:
            while not self.is_over:
                epoch = self._epoch(progress)
                progress.epoch(epoch.number, epoch.cells())
                loggers.epoch(epoch)
                try:
                    yield epoch
                except GeneratorExit:  # the caller's loop ends here
                    if self.saver.behind:
                        self._save()
                    raise

    @contextmanager
    def _logged(self) -> Iterator[Loggers]:
        """Begin the loggers' records, of the first process alone, and close them on the way out."""
        loggers = Loggers(()) if self.is_over or not parallel.is_main() else self._loggers
        name, done = describe.run_name(self.recipe, self.out), self.position.epoch
        expected = self.length.expected(self.position)
        loggers.start(LoggedRun(name, self.out, self.recipe or {}, expected, done))
        try:
            yield loggers
        finally:
            loggers.close()

    def _display(self) -> TrainingProgress:
        measured, done = {"robust": self.validation, "averaged": self.averaged}, self.position.epoch
        facts = describe.facts(
            self.stepper.objective,
            self.model,
            self.recipe,
            length=self._length_text,
            epochs_done=done,
            device=self.device,
        )
        return TrainingProgress(
            enabled=self.progress and parallel.is_main(),
            epochs=done if self.is_over else self.length.expected(self.position),
            batches=self.batches,
            epochs_done=done,
            name=describe.run_name(self.recipe, self.out),
            facts=facts,
            measured=["clean", *(name for name, piece in measured.items() if piece is not None)],
        )

    def _epoch(self, progress: TrainingProgress) -> Epoch:
        """Train one epoch, validate, and write best weights, log and checkpoint."""
        self.stepper.train()
        # `keep_freed_memory`: a step frees and allocates the same large tensors again and again,
        # and clearing their pages takes up to a third of a small model's time. `fork_rng`: each
        # batch seeds the global generator, which must not reach the caller.
        devices = [self.device] if self.device.type == "cuda" else []
        with allocator.keep_freed_memory(), torch.random.fork_rng(devices):
            self._train(progress)
        self.model.eval()
        # Before validation, since processes share its rows and must judge one and the same model.
        self._settle_weights()
        position, length = self.position, self.length
        position.all_reduce()
        loss, terms = position.means()
        last = length.is_last(position)
        weights, average = self._validate()
        if last or (weights is not None and length.is_last(position)):
            length.finish(position)
        epoch = Epoch(
            number=position.epoch + 1,
            step=position.step,
            loss=loss,
            terms=terms,
            clean=weights and weights.clean,
            robust=weights and weights.robust,
            ema_clean=average and average.clean,
            ema_robust=average and average.robust,
            lr=self.stepper.optimizer.param_groups[0]["lr"],
            eps=self.stepper.eps,
            seconds=position.seconds,
            val_seconds=position.val_seconds,
            samples_per_second=position.rate,
            best=self.saver.choose(
                position, {"weights": (weights, self.model), "ema": (average, self.averaged)}
            ),
            at_chance=weights and weights.at_chance,
            progress=length.progress(position) if length.open_ended else None,
            epochs=length.expected(position) if length.open_ended else None,
        )
        position.next_epoch()
        # Best weights, log, checkpoint, in this order: a kill in between leaves an epoch that the
        # checkpoint does not know, and resuming writes it again; none can be missing.
        if parallel.is_main():
            run_folder.append_log(self.out, epoch.row())
        self.saver.behind = True
        if self.is_over or self.saver.is_due():
            self._save()
            length.saved(position)
        expected = length.expected(position) or self.epochs
        self._collapse.notice(epoch, expected, self.stepper, rows=len(self.val))
        return epoch

    def _train(self, progress: TrainingProgress) -> None:
        """Train on the batches of this epoch that remain."""
        position, length, epoch = self.position, self.length, self.position.epoch + 1
        length.begin()
        # Batches done before a resume are drawn and skipped, since later ones continue their draws.
        for batch in islice(self.loader.epoch(epoch), position.batch_index, None):
            with length.counting(position, len(batch) * distributed.world()):
                loss = self._train_batch(batch)
            length.trained(position)
            number, rate, clock = position.batch_index, position.rate, length.shown(position)
            progress.step(epoch=epoch, batch_number=number, loss=loss, rate=rate, clock=clock)
            if length.stops_epoch(position):
                break
            if self.save_every and number % self.save_every == 0 and number != self.batches:
                self._settle_weights()
                self._save()
                length.saved(position)

    def _train_batch(self, batch: Batch) -> float:
        """Take the steps of one batch, several for an attack that replays it; return the last loss.

        Replays are Free adversarial training's: the perturbation goes on from step to step.
        """
        position, epoch, total = self.position, self.position.epoch + 1, 0.0
        index, progress = position.batch_index, self.length.progress(position)
        for _ in range(self.stepper.begin_batch(epoch=epoch, index=index, progress=progress)):
            total, loss = self.stepper.step(batch, epoch=epoch, number=position.step + 1)
            position.add(total, loss, len(batch) * distributed.world())
        position.batch_index += 1
        return total

    def _validate(self) -> tuple[Score | None, Score | None]:
        """Return the scores of the weights and of their average, None if not due."""
        due = (self.position.epoch + 1) % self.every == 0
        due = due or self.length.needs_validation(self.position)
        models = (self.model, self.averaged) if due else (None, None)
        weights, average = (
            None if m is None else score(m, self.val, self.validation, device=self.device)
            for m in models
        )
        if due:
            self.length.validated(self.position)
        return weights, average

    def _settle_weights(self) -> None:
        """Make the processes' statistics one; raise `NonFiniteLoss` unless the weights are finite.

        A finite loss may have an infinite gradient; the next loss would show it, but the last step
        before a checkpoint has none.
        """
        # all processes of a resumed run begin with what is written, the first one's
        self.stepper.sync_buffers()
        if not self.stepper.is_finite():
            raise NonFiniteLoss(
                f"the weights are not finite after step {self.position.step}, though the loss was: "
                "try a lower lr, clip = 1.0 or amp = 'float32'; the last good checkpoint stays"
            )

    def _save(self) -> None:
        """Write `last.pt`, by the first process while the others wait."""
        self.position.all_reduce()
        position = self.position
        self.saver.save(lambda: {**self.stepper.state_dict(), "position": position.state_dict()})
