"""One training step: the adversary maximizes, the weights minimize, the duals follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..introspect import freeze
from ..introspect.precision import settled_precision
from ..objective import Objective
from ..runtime import distributed
from ..runtime.cudnn import tuned_kernels
from ..runtime.reading import start_reading
from ..runtime.seeding import derive_seed
from ..weights import EMA, WeightPerturbation
from . import parallel
from .collapse import likely_causes
from .fine_tuning import freeze_weights
from .network import check_network
from .optimizer import make_optimizer
from .schedule import bind_schedules
from .state import all_finite, check_finite


class Stepper:
    """Own everything that changes in a training: model, objective, optimizer and weight averages.

    All randomness of a batch comes from (seed, epoch, batch index), so a checkpoint needs no
    random state.

    Arguments:
        arguments: those of `Trainer`, by name.
        samples: two inputs `(2, *d)`, to find out what the model needs.
        classes: of the data.
    """

    def __init__(
        self,
        model: nn.Module,
        arguments: Mapping[str, Any],
        samples: Tensor,
        *,
        classes: int,
        device: torch.device,
    ) -> None:
        self.objective: Objective = arguments["objective"].to(device)
        _check_compile(arguments["compile"], self.objective)
        self.model = parallel.sync_batch_norm(model, device, self.objective).to(device)
        if arguments["channels_last"]:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        amp = settled_precision(arguments["amp"] or "float32", device)
        view = {"amp": amp, "channels_last": arguments["channels_last"]}
        # Before optimizer and DDP, which take the weights that have a gradient; after the
        # conversion of batch norm, which makes new modules.
        view["kept_in_eval"] = freeze_weights(self.model, arguments.get("freeze") or ())
        compiled = arguments["compile"]
        self.loss_model = freeze.ModelView(self.model, **view, compile=compiled == "all")
        self.attack_model = freeze.ModelView(self.model, **view, compile=bool(compiled))
        # AWP and SAM run eagerly: they freeze batch norm, and may begin in mid-training, where a
        # second program would be compiled.
        self.climb_model = freeze.ModelView(self.model, **view)
        self.device, self._rows = device, 0  # of the largest batch
        name, decay_norm = arguments["optimizer"], arguments["decay_norm"]
        self.optimizer = make_optimizer(name, self.model, self.objective, decay_norm=decay_norm)
        needs = check_network(self.model, samples.to(device), classes)
        self.least_rows = max(needs.rows, self.objective.method.least_rows)
        self.classes = classes
        self.minimize = parallel.distribute_loss(
            self.loss_model, self.objective, device, unused=not needs.all_parameters
        )
        self.climb: WeightPerturbation | None = arguments["climb"]
        self.ema: EMA | None = arguments["ema"] and arguments["ema"].attach(self.model)
        self.clip, self.seed = arguments["clip"], arguments["seed"]
        training = {key: arguments[key] for key in ("objective", "epochs", "climb", "ema")}
        self.schedules = bind_schedules(arguments["schedule"], optimizer=self.optimizer, **training)

    @property
    def averaged(self) -> nn.Module | None:
        """The model with averaged weights, if there is an average."""
        return None if self.ema is None else self.ema.module

    @property
    def eps(self) -> float | None:
        """The radius trained against now, if the threat has one."""
        return getattr(getattr(self.objective.attack, "threat", None), "eps", None)

    def likely_causes(self, loss: float | None = None) -> str:
        """Return what usually makes a training collapse, with the values of this one."""
        lr = float(self.optimizer.defaults["lr"])
        return likely_causes(self.objective, lr=lr, loss=loss, classes=self.classes)

    def begin_batch(self, *, epoch: int, index: int, progress: float) -> int:
        """Seed and schedule everything for a batch, and return how many steps to take on it."""
        attack, seed = self.objective.attack, derive_seed(self.seed, epoch, index)
        # Dropout must differ between ranks, or their rows would share masks; the attack draws for
        # the joint batch, so its generator must be the same on all.
        torch.manual_seed(seed + distributed.rank())
        if attack is not None:
            attack.reseed(seed)
        # Schedules are set from progress before the step instead of advanced after it: they have
        # no state, so a run resumed inside an epoch gets the same values.
        for schedule in self.schedules:
            schedule(progress)
        return 1 if attack is None else attack.replays

    def step(self, batch: Batch, *, epoch: int, number: int) -> tuple[float, Loss]:
        """Take one step, and return the total loss averaged over the processes, and the loss.

        Raises:
            NonFiniteLoss: before the weights move, naming the step's number and epoch.
        """
        self._rows = max(self._rows, len(batch))
        with tuned_kernels(self.device, on=len(batch) == self._rows):
            return self._step(batch, epoch=epoch, number=number)

    def _step(self, batch: Batch, *, epoch: int, number: int) -> tuple[float, Loss]:
        # The attack runs on the bare model: DDP expects one backward pass per forward pass, into
        # the weights, while an attack takes many, into the inputs. Only the loss goes through DDP.
        with self.attack_model.cast_once() if self.objective.attack else nullcontext():
            full = self.objective.maximize(self.attack_model, batch)
        # The adversary's points are those of θ; only then does AWP or SAM move to θ + v.
        with self._perturbed(full):
            loss: Loss = self.minimize(full)
            assert loss.total is not None
            # Averaged before the check, so that all processes stop; one that raised alone would
            # leave the others waiting.
            read_total = start_reading(distributed.mean(loss.total.detach()))
            self.optimizer.zero_grad()
            loss.total.backward()
            # Read after the backward pass is on its way, so that a GPU does not wait for Python
            # in between; checked before the step, so that weights and optimizer are those of the
            # last good one.
            total = read_total()
            if not math.isfinite(total):
                self.optimizer.zero_grad()
            check_finite(total, loss, epoch=epoch, step=number, causes=self.likely_causes)
            if self.clip is not None:
                # Without the objective's own parameters: a large dual gradient must not shorten
                # the step of the weights; nor may an old gradient of a frozen one.
                trained = [p for p in self.model.parameters() if p.requires_grad]
                nn.utils.clip_grad_norm_(trained, self.clip)
            # Inside the perturbation: the gradient at θ + v is applied there, then v is removed.
            self.optimizer.step()
        # Duals move after the weights, on the loss and cost of this step, so that a multiplier
        # never changes between the two phases of a step; the next attack pays the new one.
        self.objective.update(self.model, full)
        # The average comes last: it must include this step, and θ without v.
        if self.ema is not None:
            self.ema.update(self.model)
        return total, loss

    def _perturbed(self, batch: Batch) -> AbstractContextManager[None]:
        """Return the context in which AWP or SAM has moved the weights."""
        if self.climb is None:
            return nullcontext()

        def total() -> Tensor:
            # An exact λ moves in each pass, and the step itself passes this batch again: moved
            # twice on costs of one attack, it would not settle. A risk puts new buffers in the
            # place of the old, so that keeping the old ones is enough.
            kept = [
                (part, dict(part.named_buffers(recurse=False)))
                for part in self.objective.risk.modules()
            ]
            try:
                loss = self.objective.minimize(self.climb_model, batch).total
            finally:
                for part, buffers in kept:
                    for name, buffer in buffers.items():
                        setattr(part, name, buffer)
            assert loss is not None
            return loss

        return self.climb.perturbed(self.model, total)

    def train(self) -> None:
        """Put the model in train mode, but for frozen batch norm."""
        self.loss_model.train()

    def sync_buffers(self) -> None:
        """Average the running statistics of model and averaged model over the processes."""
        for model in (self.model, self.averaged):
            parallel.sync_buffers(model)

    def is_finite(self) -> bool:
        """Return whether all weights and statistics are finite."""
        return all_finite(self.model.state_dict())

    def _stateful(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in ("model", "objective", "optimizer", "climb", "ema")}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every piece by its name, None for a piece this training has not."""
        pieces = self._stateful().items()
        return {key: None if piece is None else piece.state_dict() for key, piece in pieces}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for key, piece in self._stateful().items():
            if piece is not None:
                piece.load_state_dict(state[key])


def _check_compile(compile: bool | str, objective: Objective) -> None:
    """Raise `ValueError` for a value of `compile` that is unknown, or that the method refuses."""
    require(compile in (False, True, "all"), "compile", compile, "false, true or 'all'")
    if compile == "all" and objective.method.differentiates_twice:
        name = type(objective.method).__name__
        raise ValueError(
            f"compile = 'all' is not allowed with the method {name}: it differentiates twice, "
            "which compiled networks refuse; compile = true compiles the attack alone"
        )
