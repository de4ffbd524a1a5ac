"""Derive seeds, and draw from them without touching the caller's random state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*numbers: int) -> int:
    """Return a seed below 2^63 derived from several numbers, unrelated to seeds of other numbers.

    >>> derive_seed(0, 1, 2) == derive_seed(0, 1, 2), derive_seed(0, 1, 2) == derive_seed(0, 2, 1)
    (True, False)
    """
    # Hashed, not added or multiplied: sums of (seed, epoch, batch) collide, as (0, 1) and (1, 0).
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_of_text(text: str) -> int:
    """Return a seed below 2^56 derived from a text: the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Start the global random state at `seed` inside; restore it on the way out."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
