"""Record a training in Weights & Biases, by default in files that `wandb sync` uploads."""

from __future__ import annotations

import os
import uuid
from typing import Any

from ...component import did_you_mean
from ...runtime.extras import import_extra
from ..state import Epoch
from .base import LoggedRun, record_id, recorded_id, scalars

MODES = ("offline", "online", "disabled", "shared")


class WandB:
    """Record a training in Weights & Biases; a resumed training goes on in the same run there.

    Arguments:
        project: that the run belongs to.
        entity: user or team; default: the account's.
        mode: "offline" writes into the run's folder `wandb`, "online" sends to the service;
            default: `$WANDB_MODE`, else "offline", so that nothing leaves the machine by itself.

    Raises:
        ValueError: if the package is not installed, or for a mode that does not exist.
    """

    def __init__(
        self, *, project: str = "sparring", entity: str | None = None, mode: str | None = None
    ) -> None:
        if mode is not None and mode not in MODES:
            raise ValueError(did_you_mean("mode", mode, MODES))
        self._wandb = import_extra("wandb", extra="wandb", purpose='log = ["wandb"]')
        self.project, self.entity = project, entity
        self.mode = mode or os.environ.get("WANDB_MODE") or "offline"

    def start(self, run: LoggedRun) -> None:
        """Create the run, or open the one that an earlier session has created."""
        before = recorded_id(run.folder, "wandb")
        name = before or uuid.uuid4().hex[:12]
        again = {"resume": "allow"} if self.mode == "online" else {}  # files know no resuming
        self._run: Any = self._wandb.init(
            project=self.project,
            entity=self.entity,
            id=name,
            name=run.name,
            dir=str(run.folder),
            mode=self.mode,
            config=dict(run.recipe),
            # its own lines would break our table of epochs, and a run folder refuses links
            settings=self._wandb.Settings(silent=True, console="off", symlink=False),
            **again,
        )
        if before is None:
            record_id(run.folder, "wandb", name)

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch: its number is the step."""
        self._run.log(scalars(epoch), step=epoch.number)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
