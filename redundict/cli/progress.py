"""A progress bar on a terminal, for work that takes more than a moment: rich's, or a plain line.

rich is an extra (`cli`), imported only when a bar is drawn.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_PATIENCE: Final = 1.0  #: Seconds before anything is shown.
_EVERY: Final = 0.2  #: Seconds between two looks at it.


@contextmanager
def bar(measure: Callable[[], int]) -> Iterator[Bar]:
    """Yield a bar to tell of bytes that are done; `measure` returns how many there are.

    Nothing is measured, and nothing is shown, unless standard error is a terminal.
    """
    if not sys.stderr.isatty():
        yield Bar(0)
        return
    drawn = _Rich(measure()) if importlib.util.find_spec("rich") else _Plain(measure())
    try:
        yield drawn
    finally:
        drawn.hide()


class Bar:
    """What is done so far; this one shows nothing of it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self._last = self.started + _PATIENCE - _EVERY
        self._drawn = False

    def advance(self, count: int) -> None:
        """Count bytes as done."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last, self._drawn = now, True
            self._draw()

    def hide(self) -> None:
        """Give the terminal back to whoever prints a line; the next `advance` may take it again."""
        if self._drawn:
            self._drawn = False
            self._erase()

    def _draw(self) -> None: ...

    def _erase(self) -> None: ...


class _Plain(Bar):
    """A line that is written over."""

    def _draw(self) -> None:
        rate = self.done / max(time.monotonic() - self.started, 0.001)
        left = max(self.total - self.done, 0) / rate if rate else 0.0
        share = min(self.done / self.total, 1.0) if self.total else 1.0
        text = (
            f"{share:4.0%} of {self.total / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s, {left:.0f} s left"
        )
        self._write(text)

    def _erase(self) -> None:
        self._write("")
        sys.stderr.write("\r")
        sys.stderr.flush()

    def _write(self, text: str) -> None:
        width = min(70, shutil.get_terminal_size().columns - 1)  # one that wraps cannot be erased
        sys.stderr.write(f"\r{text[:width]:<{width}}")
        sys.stderr.flush()


class _Rich(Bar):
    """rich's bar, with rate and time left."""

    _shown: Any = None

    def _draw(self) -> None:
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
                # Else what is printed goes to the bar's terminal, and not into the pipe it is for.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._shown.add_task("", total=self.total)
        self._shown.start()
        self._shown.update(self._task, completed=self.done)

    def _erase(self) -> None:
        self._shown.stop()
