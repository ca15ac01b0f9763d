"""Events, warnings and log messages: all reports to the application, in one place.

There are three events: damage was found, a commit is degraded, a background commit failed. Each
goes to the callback that `open` was given, and to the logger ``redundict``. The log level is INFO
if a warning may follow, and ERROR for a background commit, because no caller may get its error.
This module must not know dicts, and it keeps no store alive.

Invariant (law 14): the caller reports only after memory and store agree. An exception of a callback
is logged and not raised, so it changes neither. `SystemExit` and `KeyboardInterrupt` go on.
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
    """The kind of an event."""

    RECOVERED = "recovered"  #: Loading found damage; see `Event.recovery`.
    DEGRADED = "degraded"  #: A commit is durable, but not in every copy.
    FAILED = "failed"  #: A commit in the background failed; see `Event.error`.


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a store.

    Attributes:
        kind: The kind of the event.
        path: The path of the store.
        message: The event in a sentence.
        recovery: The damage that was found, for `EventKind.RECOVERED`; else None.
        error: The error of the commit, for `EventKind.FAILED`; else None.

    """

    kind: EventKind
    path: str
    message: str
    recovery: Recovery | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Events:
    """The reports of one store. They are made in the thread in which the event happened.

    Attributes:
        path: The path of the store.
        callback: Is called with each event. None for no callback.

    """

    path: str
    callback: Callable[[Event], object] | None = None
    _telling: set[int] = field(default_factory=set)  # threads that are inside the callback
    _failure: str = ""  # the last report: a repeated failure is reported once

    def recovered(self, recovery: Recovery) -> None:
        """Report damage that was found while loading. Warn if not all of it is healed.

        A warning that a filter turns into an error is logged, since the store is open (law 14).

        Args:
            recovery: The damage, and the slots that were healed.

        """
        message = str(recovery)
        self._tell(logging.INFO, Event(EventKind.RECOVERED, self.path, message, recovery))
        if recovery.complete:
            return
        try:
            errors.warn(message)
        except errors.RedundancyWarning:  # a filter turned the warning into an error
            _log.warning("%s", message)

    def committed(self, outcome: Outcome) -> None:
        """Report, and warn, that a commit is not durable in every copy.

        Args:
            outcome: The outcome of the commit.

        Raises:
            RedundancyWarning: If a filter turns the warning into an error. The commit is durable.

        """
        message = errors.not_in_every_copy(self.path, outcome.generation, outcome.failures)
        self._tell(logging.INFO, Event(EventKind.DEGRADED, self.path, message))
        errors.warn(message)

    def failed(self, error: Exception | None) -> None:
        """Report a background commit that failed, unless the last report was the same.

        Args:
            error: The error of the commit; None after a success, which ends the repetition.

        """
        failure = f"not saved: {error}" if error else ""
        if error and failure != self._failure:
            event = Event(EventKind.FAILED, self.path, failure, error=error)
            self._tell(logging.ERROR, event)
        self._failure = failure

    def _tell(self, level: int, event: Event) -> None:
        _log.log(level, "%s", event.message)
        me = threading.get_ident()
        if self.callback is None or me in self._telling:  # no events inside a callback
            return
        try:
            self._telling.add(me)
            self.callback(event)
        except Exception:  # noqa: BLE001 - an error of the application, logged
            _log.exception("%s: the callback for events raised", self.path)
        finally:
            self._telling.discard(me)
