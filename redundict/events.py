"""Events, warnings and log messages: all reports to the application, in one place.

There are three events: damage was found, a commit is degraded, a background commit failed. Each
goes to the callback that `open` was given, and to the logger ``redundict``. The log level is
WARNING, and ERROR for a background commit, because no caller may get its error. Without a handler,
logging prints to standard error, as `warnings` does. So a sentence that is also a warning is logged
only if there is a handler, and so is damage that was healed. This module must not know dicts, and
it keeps no store alive.

Invariant (law 14): the caller reports only after memory and store agree. An exception of a callback
is logged and not raised, so it changes neither. `SystemExit` and `KeyboardInterrupt` go on.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from . import errors
from .engine import files
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
        message, aloud = str(recovery), False
        if not recovery.complete:
            try:
                errors.warn(message)
            except errors.RedundancyWarning:  # a filter turned the warning into an error
                aloud = True
        event = Event(EventKind.RECOVERED, self.path, message, recovery)
        self._tell(logging.WARNING, event, aloud=aloud)

    def committed(self, outcome: Outcome) -> None:
        """Report, and warn, that a commit is not durable in every copy.

        Also log each slot that was put aside, and each folder whose names the file system cannot
        flush, once for each process.

        Args:
            outcome: The outcome of the commit.

        Raises:
            RedundancyWarning: If a filter turns the warning into an error. The commit is durable.

        """
        for folder, reason in files.take_unflushed().items():
            _write(logging.WARNING, errors.unflushed(folder, reason))
        for slot, aside in outcome.aside.items():
            _write(logging.WARNING, errors.was_put_aside(slot, aside))
        if not outcome.failures:
            return
        message = errors.not_in_every_copy(self.path, outcome.generation, outcome.failures)
        self._tell(logging.WARNING, Event(EventKind.DEGRADED, self.path, message), aloud=False)
        errors.warn(message)

    def noticed(self, message: str) -> None:
        """Warn of something that the store does not decide. It is logged, too.

        Args:
            message: A whole sentence with the path of the store.

        """
        if _log.hasHandlers():
            _write(logging.WARNING, message)
        try:
            errors.warn(message)
        except errors.RedundancyWarning:  # a filter turned the warning into an error
            if not _log.hasHandlers():
                _write(logging.WARNING, message)

    def failed(self, error: Exception | None, *, is_printed: bool = False) -> None:
        """Report a background commit that failed, unless the last report was the same.

        Args:
            error: The error of the commit; None after a success, which ends the repetition.
            is_printed: True if Python prints the error, too.

        """
        failure = f"not saved: {error}" if error else ""
        if error and failure != self._failure:
            event = Event(EventKind.FAILED, self.path, failure, error=error)
            self._tell(logging.ERROR, event, aloud=not is_printed)
        self._failure = failure

    def _tell(self, level: int, event: Event, *, aloud: bool = True) -> None:
        if aloud or _log.hasHandlers():
            _write(level, event.message)
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


def _write(level: int, message: str) -> None:
    try:
        _log.log(level, "%s", message)
    except Exception:  # noqa: BLE001 - an error of a log handler, shown as `logging` shows it
        traceback.print_exc()
