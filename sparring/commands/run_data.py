"""The data of a run: recorded by its training, found again and compared by its evaluation."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

from ..config.recipe import Recipe
from ..data import Source, named
from ..data.split import fingerprint
from ..runtime import files
from ..runtime.warning import SparringWarning
from ..training.record import RECORD

RECORD_LIMIT = 2**16  # bytes


def source_of(recipe: Recipe, run: Path) -> Source:
    """Read the data of a run by its recipe: by their name, or else where they were in training.

    Warns, and says in the source's notes, if the data or the rows held out are not those of the
    training: then the test split may have rows that the model was trained on.

    Raises:
        FileNotFoundError: for a missing file; the message says where it was looked for.
        ValueError: as `data.load`.
    """
    about, table = recorded(run), recipe.tables["data"]
    name = str(table["name"])
    path, moved = Path(name).expanduser(), run / about.get("path", "")
    if named.find(name) is None and not path.exists() and "path" in about:
        if name != about.get("name") or not moved.exists():
            where = f"in {Path.cwd()}" if not path.is_absolute() else "any more"
            was = f", nor at {moved}, as in training" if name == about.get("name") else ""
            how = "--set data.name=PATH names it"
            raise FileNotFoundError(f"no file or folder {name} {where}{was}: {how}")
        tables = {**recipe.tables, "data": {**table, "name": str(moved)}}
        source = replace(recipe, tables=tables).source()
    else:
        source = recipe.source()
    if note := _difference(about, name, source):
        if name == about.get("name"):  # other data were not asked for
            warnings.warn(note, SparringWarning, stacklevel=3)
        source = replace(source, notes=[*source.notes, note])
    return source


def recorded(run: Path) -> dict[str, str]:
    """Return the record, empty for a run of before or a damaged one."""
    files.refuse_link(run / RECORD)
    try:
        about = json.loads(files.read(run / RECORD, limit=RECORD_LIMIT))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    ok = isinstance(about, dict) and all(isinstance(v, str) for v in about.values())
    return about if ok else {}


def _difference(about: dict[str, str], name: str, source: Source) -> str:
    """Return how the data differ from those of the training, or ""."""
    if about.get("name", name) != name:
        return f"evaluated on {source.name}, not the data of the training"
    leak = "rows of its test split may be rows that the model was trained on"
    if about.get("sha256", source.sha256) != source.sha256:
        return f"{source.name} changed since the training (other data, by their sha256): {leak}"
    parts = {p: fingerprint(getattr(source, p).index) for p in ("val", "test") if p in about}
    if any(about[p] != digest for p, digest in parts.items()):
        return f"{source.name} is split otherwise than in training: {leak}"
    return ""
