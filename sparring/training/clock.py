"""Take the time of what runs, lap by lap."""

from __future__ import annotations

import time


class Clock:
    """Split the running time into laps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds
