"""What happens to one batch: the adversary maximizes, the weights minimize, the duals follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..introspect import freeze
from ..objective import Objective
from ..runtime import distributed
from ..runtime.seeding import derive_seed
from ..weights import EMA, WeightPerturbation
from . import optimizer, parallel, schedule
from .state import all_finite, check_finite


class Stepper:
    """Model, objective, optimizer and whatever moves with them; `step(batch, …)` moves them.

    All randomness of a batch comes from (seed, epoch, batch), so that its place is all there is to
    remember of it.

    Arguments:
        look: keywords of `ModelView` for the loss and the attack; compile: for the attack only.
        config, decay_norm: of the optimizer.
        schedules: tables; epochs: what their places count in.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        device: torch.device,
        look: Mapping[str, Any],
        compile: bool,
        config: str | Mapping[str, Any],
        decay_norm: bool,
        schedules: Sequence[Mapping[str, Any]],
        epochs: int,
        clip: float | None,
        climb: WeightPerturbation | None,
        ema: EMA | None,
        seed: int,
    ) -> None:
        self.model = parallel.prepare(model, device).to(device)
        if look["channels_last"]:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(device)
        self.seen = freeze.ModelView(self.model, **look)
        self.attacked = freeze.ModelView(self.model, **look, compile=compile)
        self.minimize = parallel.wrap(self.seen, self.objective, device)
        self.optimizer = optimizer.make(config, self.model, self.objective, decay_norm=decay_norm)
        self.climb, self.ema = climb, None if ema is None else ema.attach(self.model)
        self.clip, self.seed = clip, seed
        self.schedules = schedule.bind(
            schedules,
            optimizer=self.optimizer,
            objective=self.objective,
            epochs=epochs,
            climb=climb,
            ema=ema,
        )

    @property
    def averaged(self) -> nn.Module | None:
        """The model with averaged weights, if there is an average."""
        return None if self.ema is None else self.ema.module

    @property
    def eps(self) -> float | None:
        """The radius trained against now, if the threat has one."""
        return getattr(getattr(self.objective.attack, "threat", None), "eps", None)

    def begin(self, *, epoch: int, batch: int, progress: float) -> int:
        """Draw and schedule for this batch; how often it is to be used."""
        attack, seed = self.objective.attack, derive_seed(self.seed, epoch, batch)
        torch.manual_seed(seed + distributed.rank())
        if attack is not None:
            attack.reseed(seed)
        for bound in self.schedules:
            bound(progress)
        return 1 if attack is None else attack.replays

    def step(self, batch: Batch, *, epoch: int, number: int) -> tuple[float, Loss]:
        """One step; the loss, and its total averaged over the processes.

        Raises:
            NonFiniteLoss: before the step, naming its number and epoch.
        """
        full = self.objective.maximize(self.attacked, batch)
        with self._climbing(full):
            loss: Loss = self.minimize(full)
            assert loss.total is not None
            total = distributed.mean(loss.total.detach()).item()
            check_finite(total, loss, epoch=epoch, step=number)
            self.optimizer.zero_grad()
            loss.total.backward()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
        self.objective.update(self.model, full)
        if self.ema is not None:
            self.ema.update(self.model)
        return total, loss

    def _climbing(self, batch: Batch) -> AbstractContextManager[None]:
        if self.climb is None:
            return nullcontext()

        def total() -> Tensor:
            loss = self.objective.minimize(self.seen, batch).total
            assert loss is not None
            return loss

        return self.climb.perturbed(self.model, total)

    def agree(self) -> None:
        """Make the running statistics of every process those of all."""
        for model in (self.model, self.averaged):
            parallel.agree(model)

    def finite(self) -> bool:
        """Whether all weights and statistics are."""
        return all_finite(self.model.state_dict())

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "objective": self.objective, "optimizer": self.optimizer}
        return {**parts, "climb": self.climb, "ema": self.ema}

    def state_dict(self) -> dict[str, Any]:
        """Everything that has moved."""
        parts = self._parts().items()
        return {key: None if part is None else part.state_dict() for key, part in parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` stands."""
        for key, part in self._parts().items():
            if part is not None:
                part.load_state_dict(state[key])
