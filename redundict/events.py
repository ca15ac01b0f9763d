"""What the application is told: a store was restored, is degraded, was not saved.

Each event goes to the callback that the store was opened with, and to the logger ``redundict``: at
INFO if a warning says it as well, at ERROR if it failed in the background, where nobody may wait
for the error. Knows no dicts, and keeps no store alive.

Invariant (law 14): nothing is told before memory and store agree. What a callback raises is logged
and goes no further.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from . import errors
from .engine.store import Outcome
from .report import Recovery

_log = logging.getLogger(__package__)


class EventKind(StrEnum):
    """What happened."""

    RECOVERED = "recovered"  #: Damage was found on opening; see `Event.recovery`.
    DEGRADED = "degraded"  #: A commit is durable, but not in every copy.
    FAILED = "failed"  #: A commit in the background failed; see `Event.error`.


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the store at `path`; `message` says it in a sentence."""

    kind: EventKind
    path: str
    message: str
    recovery: Recovery | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Events:
    """Tells the callback and the logger, in the thread in which it happened."""

    path: str
    callback: Callable[[Event], object] | None = None
    _telling: set[int] = field(default_factory=set)  # the threads that are in the callback
    _failure: str = ""  # the last one told: what is tried every second is told once

    def recovered(self, recovery: Recovery) -> None:
        """Tell of damage that was found on opening; warn if not all of it is healed."""
        message = str(recovery)
        self._tell(logging.INFO, Event(EventKind.RECOVERED, self.path, message, recovery))
        if recovery.complete:
            return
        try:
            errors.warn(message)
        except errors.RedundancyWarning:  # a filter made an error of it; the store is open (law 14)
            _log.warning("%s", message)

    def committed(self, outcome: Outcome) -> None:
        """Tell, and warn, that a commit did not reach every copy."""
        message = errors.not_in_every_copy(self.path, outcome.generation, outcome.failures)
        self._tell(logging.INFO, Event(EventKind.DEGRADED, self.path, message))
        errors.warn(message)

    def failed(self, error: Exception | None) -> None:
        """Tell of a commit in the background that failed, unless the same was told last."""
        failure = f"not saved: {error}" if error else ""
        if error and failure != self._failure:
            event = Event(EventKind.FAILED, self.path, failure, error=error)
            self._tell(logging.ERROR, event)
        self._failure = failure

    def _tell(self, level: int, event: Event) -> None:
        _log.log(level, "%s", event.message)
        me = threading.get_ident()
        if self.callback is None or me in self._telling:  # a callback that commits knows already
            return
        try:
            self._telling.add(me)
            self.callback(event)
        except Exception:  # noqa: BLE001 - the application's own, and logged whole
            _log.exception("%s: the callback for events raised", self.path)
        finally:
            self._telling.discard(me)
