"""What an application can tell its user: a store was restored, is degraded, was not saved.

Each event goes to the callback that the store was opened with, and to the logger ``redundict``: at
INFO what is warned about as well, at ERROR what failed in the background, where nobody may be
waiting for the error. Knows no dicts, and keeps no store alive.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from . import errors
from .report import Recovery

_log = logging.getLogger(__package__)


class EventKind(StrEnum):
    """What happened."""

    RECOVERED = "recovered"  #: Damage was found on opening; see `Event.recovery`.
    DEGRADED = "degraded"  #: A commit is durable, but not in every copy.
    FAILED = "failed"  #: Something could not be committed in the background; see `Event.error`.


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the store at `path`; `message` says it in a sentence."""

    kind: EventKind
    path: str
    message: str
    recovery: Recovery | None = None
    error: Exception | None = None


class Teller:
    """Tells the callback and the logger, in the thread in which it happened.

    What is found in the middle of a commit waits in `degraded`, and is told when that is over:
    whoever is called may want the locks of a store. What the callback raises is logged with its
    traceback and goes no further: the store is to be opened, or was committed, whatever becomes of
    the telling.
    """

    def __init__(self, path: str, callback: Callable[[Event], object] | None = None) -> None:
        self._path = path
        self._callback = callback
        self.degraded: deque[str] = deque()  #: What is to be told of generations not in every copy.
        self._telling: set[int] = set()  # the threads that are telling of them
        self._failure = ""  # the last one told: what is tried every second is told once

    def recovered(self, recovery: Recovery) -> None:
        """Tell what was found damaged on opening; warn of what is not whole again."""
        self._tell(logging.INFO, EventKind.RECOVERED, str(recovery), recovery=recovery)
        if not recovery.complete:
            errors.warn(str(recovery))

    def tell_degraded(self) -> None:
        """Tell, and warn, that a generation is not in every copy, if one is not."""
        if not self.degraded:
            return
        me = threading.get_ident()
        if me in self._telling:  # the callback commits as well: it knows
            self.degraded.clear()
        with contextlib.suppress(IndexError):  # of two threads that look at once, one is late
            while message := self.degraded.popleft():
                self._telling.add(me)
                try:
                    self._tell(logging.INFO, EventKind.DEGRADED, message)
                finally:
                    self._telling.discard(me)
                errors.warn(message)

    def done(self, error: Exception | None) -> None:
        """Tell what could not be committed in the background, unless it was told last time."""
        try:
            self.tell_degraded()
        except errors.RedundancyWarning as warning:  # a filter made an error of it
            error = error or warning
        failure = f"not saved: {error}" if error else ""
        if error and failure != self._failure:
            self._tell(logging.ERROR, EventKind.FAILED, failure, error=error)
        self._failure = failure

    def _tell(
        self,
        level: int,
        kind: EventKind,
        message: str,
        *,
        recovery: Recovery | None = None,
        error: Exception | None = None,
    ) -> None:
        _log.log(level, "%s", message)
        if self._callback is None:
            return
        try:
            self._callback(Event(kind, self._path, message, recovery, error))
        except Exception:  # noqa: BLE001 - the application's own, and logged whole
            _log.exception("%s: the callback for events raised", self._path)
