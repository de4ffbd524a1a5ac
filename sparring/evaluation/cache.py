"""Records of finished batches on disk, so that a killed evaluation can resume."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import io
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..results.pairing import locked_result
from ..runtime import distributed, files
from ..runtime.npz import read_npz
from ..runtime.text import printable
from ..runtime.user_key import signature, user_key
from ..runtime.warning import SparringWarning

Record = dict[str, np.ndarray]
RECORD_LIMIT = 4 << 30  # bytes
SIGNATURE = 32  # bytes, at the end of a record
CONTINUED = "continued from"
P = ParamSpec("P")
T = TypeVar("T")


class BatchCache:
    """Keep records by key in `<out>.partial/<fingerprint>/`; nowhere if `out` is None.

    The fingerprint is a hash of the settings, so records of another model or of other settings are
    never read. Each record is signed with the user's key: a record that somebody else has written
    could change a verdict, so it is not read either.

    Arguments:
        settings: everything the records depend on.
        resume: if False, delete the records that these settings left.

    Raises:
        ValueError: if a folder of records is a link.
    """

    def __init__(
        self, out: Path | None, settings: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        self.folder: Path | None = None
        self.reused, self.warned = 0, False
        if out is None:
            return
        text = json.dumps(settings, sort_keys=True, indent=1, default=str)
        root = out.with_name(out.name + ".partial")
        folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        for path in (root, folder):  # before anything is removed or written there
            files.refuse_link(path)
        try:
            self.key = user_key()
        except (OSError, ValueError) as error:
            reason = printable(error)
            self._warn(f"no batches are kept, so a killed evaluation begins again: {reason}")
            return
        self.folder = folder
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / "settings.json", text.encode())

    def get(self, name: str) -> Record | None:
        """Return the record of a finished batch; None if it is missing, damaged or not ours.

        Raises:
            ValueError: if there is no regular file in its place, so that none can be written.
        """
        if self.folder is None:
            return None
        path = self.folder / f"{name}.npz"
        files.refuse_target(path)
        try:
            content = files.read(path, limit=RECORD_LIMIT)
            packed, mark = content[:-SIGNATURE], content[-SIGNATURE:]
            if not hmac.compare_digest(mark, self._signature(name, packed)):
                raise ValueError("another signature")
            record = read_npz(packed, path, limit=RECORD_LIMIT)
        except FileNotFoundError:
            return None
        except (ValueError, OSError):
            self._warn(
                f"records of finished batches in {printable(self.folder)} are damaged, or written "
                "by another user or on another machine: these batches are run again"
            )
            return None
        self.reused += 1
        return record

    def put(self, name: str, record: Record) -> None:
        """Write a record, whole or not at all."""
        if self.folder is not None:
            file = io.BytesIO()
            np.savez(file, **record)  # type: ignore[arg-type]
            packed = file.getvalue()
            content = packed + self._signature(name, packed)
            # No fsync: a record lost in a power cut is computed again, and a damaged one not read.
            files.write(self.folder / f"{name}.npz", content, sync=False)

    def clear(self) -> None:
        """Delete the records of these settings; those of others stay."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # records of other settings are in it
                self.folder.parent.rmdir()

    def notes(self) -> list[str]:
        """Return a sentence for the result if batches, of any process, were not run again."""
        reused = sum(distributed.gather_dict({distributed.rank(): self.reused}).values())
        batches = f"batch{'es' * (reused != 1)}"
        return [f"{CONTINUED} {reused} {batches} of an interrupted evaluation"] * (reused > 0)

    def _signature(self, name: str, packed: bytes) -> bytes:
        assert self.folder is not None
        return signature(self.key, self.folder.name.encode(), name.encode(), packed)

    def _warn(self, text: str) -> None:
        if not self.warned:
            warnings.warn(text, SparringWarning, stacklevel=2)
        self.warned = True


def locks_result(evaluate: Callable[P, T]) -> Callable[P, T]:
    """Return a function that holds the lock of the result at its keyword `out`, if there is one,
    and removes first what killed processes have left there."""

    @functools.wraps(evaluate)
    def alone(*args: P.args, **keywords: P.kwargs) -> T:
        out = keywords.get("out")
        writes = isinstance(out, str | Path) and distributed.rank() == 0
        with locked_result(Path(str(out)), "evaluating") if writes else contextlib.nullcontext():
            return evaluate(*args, **keywords)

    return alone
