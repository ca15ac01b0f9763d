"""Waits that end even if the clock stands still.

Tests freeze the clock. A machine without a battery starts in 1970. So a `Wait` does not trust the
clock alone, and counts its pauses. This module must not know files.
"""

from __future__ import annotations

import time


def distance(moment: float) -> float:
    """Return the seconds between now and a moment, in the past or in the future.

    Args:
        moment: Seconds since the epoch, for example the time of a file.

    """
    return abs(time.time() - moment)


class Wait:
    """The time that a caller has waited: by the clock, or by its pauses if they are longer."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._paused = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the wait began; at least the sum of its pauses."""
        return max(self._paused, time.monotonic() - self._began)

    def pause(self, seconds: float) -> None:
        """Sleep for some seconds, and count them."""
        time.sleep(seconds)
        self._paused += seconds
