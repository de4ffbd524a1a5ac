"""Begin a training from other weights, and freeze some of them."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..component import require
from ..introspect.patterns import select
from ..models.base import similar_name
from ..models.state_dict import described, inner_state_dict, match_weights, mismatch_text
from ..runtime import files
from ..runtime.identity import tensors_hash
from ..runtime.text import printable
from ..runtime.torch_private import BATCH_NORM
from ..runtime.warning import SparringWarning
from .run_folder import BEST, START

Start = str | Path | Mapping[str, Any] | nn.Module
RECORD_LIMIT = 1 << 20  # bytes of the record in a run folder
NAMED = 5  # modules that a message proposes to leave out


class StartWeights(NamedTuple):
    """Record which weights a training began from.

    Arguments:
        weights: their file or run folder, or "state dict".
        sha256: of the tensors that were loaded, by the model's names.
        left_out: names of the model's weights that were not loaded.
    """

    weights: str
    sha256: str
    left_out: list[str]


def begin(
    model: nn.Module, start: Start | None, without: Sequence[str], *, run: Path | None
) -> StartWeights | None:
    """Load start weights into the model, and return their record; None where there are none.

    Arguments:
        run: the folder of a run that goes on from its checkpoint: nothing is loaded.
    """
    if start is None:
        require(not without, "start_without", without, "left out: there is no start")
        return None
    if run is None:
        return load_start(model, start, without)
    check_start(run, model, start, without)
    return None


def load_start(model: nn.Module, start: Start, without: Sequence[str] = ()) -> StartWeights:
    """Load the weights and statistics that a training begins from; return their record.

    Arguments:
        start: a file as `models.load_weights` reads, a run folder, a state dict or a module.
        without: names or patterns of modules that keep their own weights.

    Raises:
        FileNotFoundError: for a missing file, or a run without weights.
        ValueError: for weights that do not fit; the model stays as it was.
    """
    source = _source(start)
    values, mismatch = match_weights(model, source, without=without, key="start_without")
    if any(mismatch):
        raise ValueError(
            f"start = {printable(described(source))} does not fit the model "
            f"({printable(mismatch_text(mismatch))}){_advice(model, mismatch, without)}"
        )
    require(values, "start_without", list(without), "patterns that leave some weights to load")
    model.load_state_dict(values, strict=False)
    left_out = sorted(name for name, _ in model.named_parameters() if name not in values)
    named = str(start) if isinstance(start, str | Path) else described(source)
    return StartWeights(named, tensors_hash(sorted(values.items())), left_out)


def check_start(run: Path, model: nn.Module, start: Start, without: Sequence[str] = ()) -> None:
    """Warn if the start weights of a run have changed since; missing ones are not needed any more.

    Arguments:
        model: of the run; it stays as it is.
    """
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        recorded = json.loads(files.read(run / START, limit=RECORD_LIMIT))["sha256"]
        with contextlib.suppress(FileNotFoundError):
            try:
                values = match_weights(model, _source(start), without=without).values
                now = tensors_hash(sorted(values.items()))
            except FileNotFoundError:
                raise
            except ValueError:  # it does not read, or does not fit, any more
                now = "unreadable"
            if now != recorded:
                warnings.warn(
                    f"the start weights {printable(start)} have changed since {run} began from "
                    f"them (sha256 {printable(recorded)[:12]}…, now {now[:12]}…): the run goes on "
                    "from its own checkpoint",
                    SparringWarning,
                    stacklevel=4,
                )


def start_text(start: Start) -> str:
    """Return what the settings of a run say of its start: the path, or the sha256 of tensors."""
    if isinstance(start, str | Path):
        return str(start)
    state = inner_state_dict(_source(start), "state dict")
    tensors = sorted((str(k), v) for k, v in state.items() if isinstance(v, Tensor))
    return f"sha256:{tensors_hash(tensors)}"


def freeze_weights(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Freeze the weights of modules, and return their batch norms.

    Arguments:
        patterns: names or patterns of modules or weights.

    Raises:
        ValueError: for a pattern that matches nothing, and if no weight remains to train.
    """
    if not patterns:
        return []
    norms = {name: m for name, m in model.named_modules() if isinstance(m, BATCH_NORM)}
    # with duplicates: a weight that two modules share is frozen by the name of either
    weights = dict(model.named_parameters(remove_duplicate=False))
    chosen = select([*weights, *norms], patterns, key="freeze")
    trained = {id(p) for p in weights.values() if p.requires_grad}
    frozen = {id(weights[name]) for name in chosen if name in weights}
    require(trained - frozen, "freeze", list(patterns), "patterns that leave weights to train")
    for name in chosen:
        if name in weights:
            weights[name].requires_grad_(False)
    return [norm for name, norm in norms.items() if name in chosen]


def _source(start: Start) -> Mapping[str, Any] | Path:
    """Return the state dict or the file of start weights."""
    if isinstance(start, nn.Module):
        return start.state_dict()
    if isinstance(start, Mapping):
        return start
    kinds = "a file of weights, a run folder, a state dict or a module"
    require(isinstance(start, str | Path), "start", start, kinds)
    path = Path(start).expanduser()
    if not path.exists():
        where = f"there is no file or run folder at {printable(path)}"
        raise FileNotFoundError(f"start: {where}{similar_name(path)}")
    if not path.is_dir():
        return path
    files.refuse_link(path / BEST)
    if not (path / BEST).is_file():
        raise FileNotFoundError(
            f"start = {printable(path)} has no {BEST}: a run writes it after its first epoch"
        )
    return path / BEST


def _advice(model: nn.Module, mismatch: Any, without: Sequence[str]) -> str:
    """Return the end of a message: which modules to leave out, where these are few."""
    keys = [text.split(" ")[0] for part in mismatch for text in part]
    modules = list(dict.fromkeys(printable(key.rpartition(".")[0] or key) for key in keys))
    if len(modules) > NAMED or len(keys) >= len(model.state_dict()):
        return ": these are the weights of another network"
    patterns = json.dumps([*without, *modules])
    return (
        f": to leave these out, and train them from their first weights, start_without = {patterns}"
    )
