"""Labels for rows that have none, by the model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config.recipe import load_recipe
from ..data import Split, load
from ..data.dataset_rows import read_rows
from ..data.pseudo_labels import PseudoLabels
from ..data.split import fingerprint
from ..introspect import freeze
from .subject import BEST, existing_run, network_with_weights

FILE = "pseudo-labels.npz"
ALL = ("augment", "mix", "labels", "repeat", "limit", "balance")  # leave out, to see every row


class Labelled(NamedTuple):
    """The file of labels, what is in it, and on how many of its rows with a label of their own it
    agrees with that; of a run's own data, only rows that it trained without a label count."""

    path: Path
    labels: PseudoLabels
    agree: int
    known: int

    def __str__(self) -> str:
        said = f"{self.path}: {len(self.labels.y)} rows labelled"
        if not self.known:
            return said
        share = self.agree / self.known
        return f"{said}; {share:.2%} of {self.known} agree with the data's own labels"


def label(
    run: str | Path,
    *,
    data: str | None = None,
    out: str | Path | None = None,
    trust: bool = False,
    device: str | None = None,
    batch: int = 500,
) -> Labelled:
    """Label the training rows of a run's own data, or those of another set or file, by its model.

    A recipe on the run's data set takes the file as `labels` of `Unlabelled`, or of
    `Rows(of = data)`; one on another data set refuses it.

    Arguments:
        run: a run folder.
        data: a known name or a file, as of `Rows`; the run's own data when omitted.
        out: the file; `RUN/pseudo-labels.npz` when omitted.
        trust: as in `config.recipe.load_recipe`.

    Raises:
        ValueError: for rows of another shape than the run's data.
    """
    plan = load_recipe(existing_run(run), trust=trust)
    table = plan.tables["data"]
    source = load(**{k: v for k, v in table.items() if k not in ALL})
    if data is None:
        rows, digest = source.train, source.sha256
        trained = load(**{k: v for k, v in table.items() if k not in ("augment", "mix")}).train
        known = (rows.y >= 0) & ~torch.isin(rows.index, trained.index)
    else:
        rows = read_rows(data)
        digest, known = fingerprint(rows.x), rows.y >= 0
        if tuple(rows.x.shape[1:]) != source.shape:
            raise ValueError(
                f"data = {data!r} has samples of shape {tuple(rows.x.shape[1:])}, the run's data "
                f"{source.name} of {source.shape}"
            )
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    y, confidence = predict(
        network_with_weights(plan, Path(run, BEST)).to(place), rows, batch=batch
    )
    labels = PseudoLabels(
        y, rows.index, confidence, source.sha256, digest, run=Path(run).resolve().name
    )
    path = labels.save(Path(run, FILE) if out is None else out)
    return Labelled(path, labels, int((y == rows.y)[known].sum()), int(known.sum()))


def predict(model: nn.Module, rows: Split, *, batch: int = 500) -> tuple[Tensor, Tensor]:
    """Classes `(n,)` and their probabilities `(n,)`, on the CPU."""
    place = next(model.parameters()).device
    found = []
    with freeze.frozen(model, "eval"), torch.no_grad():
        for part in torch.arange(len(rows)).split(batch):
            p = model(rows.float(part).to(place)).softmax(1)
            found.append(p.max(1))
    return (
        torch.cat([top.indices for top in found]).cpu(),
        torch.cat([top.values for top in found]).cpu(),
    )
