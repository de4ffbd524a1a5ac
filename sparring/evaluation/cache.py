"""The state of an evaluation under way: a file a finished batch, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.files import write

Record = dict[str, np.ndarray]


class BatchCache:
    """Records by key in `<out>.partial/<fingerprint>/`; kept nowhere if there is no `out`.

    The fingerprint is that of the settings, so the state of another model or of other settings is
    never read.

    Arguments:
        out: the result's file, or None.
        settings: everything the records depend on.
        resume: False forgets what these settings left.
    """

    def __init__(
        self, out: Path | None, settings: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        text = json.dumps(settings, sort_keys=True, indent=1, default=str)
        self.root = None if out is None else out.with_name(out.name + ".partial")
        self.folder = (
            None
            if self.root is None
            else self.root / hashlib.sha256(text.encode()).hexdigest()[:16]
        )
        if self.folder is None:
            return
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / "settings.json", text.encode())

    def get(self, key: str) -> Record | None:
        """The record of a finished batch; None where there is none, or it is damaged."""
        path = None if self.folder is None else self.folder / f"{key}.npz"
        if path is None or not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (ValueError, EOFError, OSError, zipfile.BadZipFile):
            return None

    def put(self, key: str, record: Record) -> Record:
        """Keep a record, whole or not at all; returns it."""
        if self.folder is not None:
            file = io.BytesIO()
            np.savez(file, **record)  # type: ignore[arg-type]
            write(self.folder / f"{key}.npz", file.getvalue(), sync=False)
        return record

    def done(self) -> None:
        """Remove the state, and what other settings left for the same file."""
        if self.root is not None:
            shutil.rmtree(self.root, ignore_errors=True)
