"""A progress bar on a terminal, for work that takes more than a moment: rich's, or a plain line.

rich is an extra (`cli`), imported only when a bar is drawn.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_PATIENCE: Final = 1.0  #: Seconds before anything is shown.
_EVERY: Final = 0.2  #: Seconds between two plain lines.


@contextmanager
def bar(measure: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Yield a function to tell of bytes that are done; `measure` returns how many there are.

    Nothing is measured, and nothing is shown, unless standard error is a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    drawn = _Rich(measure()) if importlib.util.find_spec("rich") else _Plain(measure())
    try:
        yield drawn.advance
    finally:
        drawn.close()


class _Bar:
    """What both bars share: nothing is drawn at first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.started = time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.started > _PATIENCE:
            self.draw()

    def draw(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _Plain(_Bar):
    """A line that is written over."""

    _last = 0.0

    def draw(self) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        rate = self.done / (now - self.started)
        left = max(self.total - self.done, 0) / rate if rate else 0.0
        share = min(self.done / self.total, 1.0) if self.total else 1.0
        text = (
            f"{share:4.0%} of {self.total / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s, {left:.0f} s left"
        )
        sys.stderr.write(f"\r{text:<70}")
        sys.stderr.flush()

    def close(self) -> None:
        if self._last:
            sys.stderr.write(f"\r{'':<70}\r")


class _Rich(_Bar):
    """rich's bar, with rate and time left."""

    _shown: Any = None

    def draw(self) -> None:
        if self._shown is None:
            from rich import progress  # noqa: PLC0415 - an extra, and slow to import
            from rich.console import Console  # noqa: PLC0415

            self._shown = progress.Progress(
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._shown.start()
            self._task = self._shown.add_task("", total=self.total)
        self._shown.update(self._task, completed=self.done)

    def close(self) -> None:
        if self._shown is not None:
            self._shown.stop()
