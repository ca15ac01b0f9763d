"""A progress bar on a terminal, for work that takes more than a moment. rich draws it.

rich is an extra (`cli`), and is imported when a bar is drawn for the first time. Without rich there
is no bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress

_PATIENCE: Final = 1.0  #: Seconds before a bar is shown.
_EVERY: Final = 0.2  #: Seconds between two updates of the bar.


@contextmanager
def bar(measure: Callable[[], int]) -> Iterator[Bar]:
    """Yield a bar that is told of finished bytes; `measure` returns how many bytes there are.

    Nothing is measured or shown unless standard error is a terminal and the work takes a moment.
    """
    shown = Bar(measure if sys.stderr.isatty() else None)
    try:
        yield shown
    finally:
        shown.hide()


class Bar:
    """Counts the work that is done, and shows it; without `measure`, shows nothing."""

    def __init__(self, measure: Callable[[], int] | None) -> None:
        self._measure = measure
        self._done = 0
        self._next = time.monotonic() + _PATIENCE
        self._progress: Progress | None = None

    def advance(self, count: int) -> None:
        """Count bytes as done."""
        self._done += count
        if self._measure is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        try:
            self._progress = self._progress or _made(self._measure)
        except ImportError:
            self._measure = None
            return
        self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=self._done)

    def hide(self) -> None:
        """Give the terminal to the next line that is printed; `advance` shows the bar again."""
        if self._progress and self._progress.live.is_started:
            self._progress.stop()


def _made(measure: Callable[[], int]) -> Progress:
    from rich import progress  # noqa: PLC0415 - an extra, and slow to import
    from rich.console import Console  # noqa: PLC0415

    shares = progress.BarColumn(), progress.TaskProgressColumn(), progress.DownloadColumn()
    made = progress.Progress(
        *shares,
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Otherwise a printed record would go to the terminal of the bar instead of into its pipe.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    made.add_task("", total=measure())
    return made
