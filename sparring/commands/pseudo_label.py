"""Label rows that have no label, by the model of a run."""

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
from ..runtime.provenance import resolve_device
from .rehearsal import new_file
from .subject import BEST, existing_run, network_with_weights

FILE = "pseudo-labels.npz"
# they hide, repeat or worsen rows
IGNORED = ("augment", "mix", "labels", "repeat", "limit", "balance", "class_shares", "label_noise")


class LabelledRows(NamedTuple):
    """Pseudo labels, their file, and their agreement with the labels that the data have.

    Arguments:
        agree: rows whose pseudo label is the data's own label.
        known: rows with a label of their own; of a run's own data, only those that it did not
            train on.
    """

    path: Path
    labels: PseudoLabels
    agree: int
    known: int

    def __str__(self) -> str:
        message = f"{self.path}: {len(self.labels.y)} rows labelled"
        if not self.known:
            return message
        share = self.agree / self.known
        return f"{message}; {share:.2%} of {self.known} agree with the data's own labels"


def label(
    run: str | Path,
    *,
    data: str | None = None,
    out: str | Path | None = None,
    trust: bool = False,
    device: str | None = None,
    batch_size: int = 500,
) -> LabelledRows:
    """Label the training rows of a run's own data, or those of another set or file, by its model.

    A recipe on the run's data set takes the file as `labels` of `Unlabelled`, or of
    `DatasetRows(of = data)`; one on another data set refuses it.

    Arguments:
        run: a run folder.
        data: a known name or a file, as for `DatasetRows`; default: the run's own data.
        out: the file, .npz; default: `RUN/pseudo-labels.npz`.
        trust: as in `config.recipe.load_recipe`.

    Raises:
        ValueError: for rows of another shape than the run's data.
    """
    out = None if out is None else new_file(out, endings=(".npz",))
    recipe = load_recipe(existing_run(run), trust=trust)
    table = recipe.tables["data"]
    source = load(**{k: v for k, v in table.items() if k not in IGNORED})
    if data is None:
        rows, digest = source.train, source.sha256
        trained = load(**{k: v for k, v in table.items() if k not in ("augment", "mix")}).train
        known = (rows.y >= 0) & ~torch.isin(rows.index, trained.index)
    else:
        rows = read_rows(data, source=source)
        digest, known = fingerprint(rows.x), rows.y >= 0
        if tuple(rows.x.shape[1:]) != source.shape:
            raise ValueError(
                f"data = {data!r} has samples of shape {tuple(rows.x.shape[1:])}, the run's data "
                f"{source.name} of {source.shape}"
            )
    best = "cuda" if torch.cuda.is_available() else "cpu"
    target = resolve_device(best if device is None else device)
    network = network_with_weights(recipe, Path(run, BEST)).to(target)
    y, confidence = predict(network, rows, batch_size=batch_size)
    labels = PseudoLabels(
        y, rows.index, confidence, source.sha256, digest, run=Path(run).resolve().name
    )
    path = labels.save(Path(run, FILE) if out is None else out)
    return LabelledRows(path, labels, int((y == rows.y)[known].sum()), int(known.sum()))


def predict(model: nn.Module, rows: Split, *, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """Predict classes `(n,)` and their probabilities `(n,)`, on the CPU."""
    device = next(model.parameters()).device
    tops = []
    with freeze.frozen(model, "eval") as run, torch.no_grad():
        for part in torch.arange(len(rows)).split(batch_size):
            p = run(rows.float(part).to(device)).softmax(1)
            tops.append(p.max(1))
    return (
        torch.cat([top.indices for top in tops]).cpu(),
        torch.cat([top.values for top in tops]).cpu(),
    )
