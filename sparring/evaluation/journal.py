"""What makes an evaluation resumable: one line a finished batch, appended, in a file that only fits this evaluation."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def fingerprint(model: nn.Module, x: Tensor, y: Tensor, settings: object) -> str:
    """sha256 over the model's outputs on a few samples, its weights, the data and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for tensor in (*model.state_dict().values(), x, y):
        if isinstance(tensor, Tensor):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def unpack(value: dict[str, Any]) -> np.ndarray:
    """And back."""
    raw = base64.b64decode(value["data"])
    return np.frombuffer(raw, np.dtype(value["dtype"])).reshape(value["shape"]).copy()


class Journal:
    """Finished units by key. A last line cut short by a kill is dropped; another evaluation's file is begun anew.

    Arguments:
        path: the file; None keeps nothing.
        mark: the fingerprint of this evaluation.
        resume: read what is there.
    """

    def __init__(self, path: Path | None, mark: str, *, resume: bool = True) -> None:
        self.path, self.done = path, {}
        if path is None:
            return
        lines = path.read_text(encoding="utf-8").splitlines() if resume and path.exists() else []
        rows = [row for row in map(_parsed, lines) if row is not None]
        if rows and rows[0].get("mark") == mark:
            self.done = {row["key"]: row for row in rows[1:] if "key" in row}
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [{"mark": mark}, *self.done.values()]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Note a finished unit."""
        self.done[key] = {"key": key, **row}
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(self.done[key]) + "\n")

    def close(self) -> None:
        """The evaluation is whole: the file has served."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
