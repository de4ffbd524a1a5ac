"""Records of finished batches on disk, so that a killed evaluation can resume."""

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
    """Keep records by key in `<out>.partial/<fingerprint>/`; nowhere if `out` is None.

    The fingerprint is a hash of the settings, so records of another model or of other settings are
    never read.

    Arguments:
        settings: everything the records depend on.
        resume: if False, delete the records that these settings left.
    """

    def __init__(
        self, out: Path | None, settings: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        self.root = self.folder = None
        if out is None:
            return
        text = json.dumps(settings, sort_keys=True, indent=1, default=str)
        self.root = out.with_name(out.name + ".partial")
        self.folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / "settings.json", text.encode())

    def get(self, key: str) -> Record | None:
        """Return the record of a finished batch; None if it is missing or damaged."""
        path = None if self.folder is None else self.folder / f"{key}.npz"
        if path is None or not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (ValueError, EOFError, OSError, zipfile.BadZipFile):
            return None

    def put(self, key: str, record: Record) -> None:
        """Write a record, whole or not at all."""
        if self.folder is not None:
            file = io.BytesIO()
            np.savez(file, **record)  # type: ignore[arg-type]
            # No fsync: a record lost in a power cut is computed again, and a damaged one not read.
            write(self.folder / f"{key}.npz", file.getvalue(), sync=False)

    def clear(self) -> None:
        """Delete all records for this result, those of other settings too."""
        if self.root is not None:
            shutil.rmtree(self.root, ignore_errors=True)
