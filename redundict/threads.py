"""Threads: whether there are any that might change a state, and some that help with the flushing.

A helper is a thread that is there from the first call that it was needed for, and waits; so no call
pays for the start of one. Knows nothing of what it calls.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

_harmless: Final[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()
_idle: list[_Helper] = []


def this_one_is_harmless() -> None:
    """Note that the thread that calls this changes no state, as long as it lives."""
    _harmless.add(threading.current_thread())


def alone() -> bool:
    """Tell whether there is no other thread that could change anything."""
    if threading.active_count() == 1:
        return True
    this = threading.current_thread()
    return all(thread is this or thread in _harmless for thread in threading.enumerate())


def side_by_side(calls: Sequence[Callable[[], None]]) -> list[Exception | None]:
    """Make the calls, each in a thread of its own, the first in this one; return their errors."""
    helpers = [_helper() for _ in calls[1:]]
    for helper, call in zip(helpers, calls[1:], strict=True):
        helper.begin(call)
    try:
        found = [error_of(call) for call in calls[:1]]
    finally:  # a signal must not leave them at work alone, nor a second one
        found_by_helpers = _in_spite_of_signals([helper.wait for helper in helpers])
        _idle.extend(helpers)
    return found + found_by_helpers


def _in_spite_of_signals(
    waits: Sequence[Callable[[], Exception | None]],
) -> list[Exception | None]:
    """Wait for all; raise only then what a signal's handler raised meanwhile."""
    found: list[Exception | None] = []
    signalled: BaseException | None = None
    while len(found) < len(waits):
        try:
            found.append(waits[len(found)]())
        except BaseException as error:  # noqa: BLE001 - whatever the handler raises
            signalled = error
    if signalled:
        raise signalled
    return found


class _Helper:
    """A thread that makes one call at a time."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ended = threading.Event()
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="redundict helper", daemon=True).start()

    def begin(self, call: Callable[[], None]) -> None:
        self._ended.clear()
        self._calls.put(call)

    def wait(self) -> Exception | None:
        # May be asked again: a signal may come between the end and the answer.
        self._ended.wait()
        return self._error

    def _run(self) -> None:
        this_one_is_harmless()
        while True:
            self._error = error_of(self._calls.get())
            self._ended.set()


class _NoHelper(_Helper):
    """What makes the call itself, where no thread can be had."""

    def __init__(self) -> None:
        self._call: Callable[[], None] = _nothing

    def begin(self, call: Callable[[], None]) -> None:
        self._call = call

    def wait(self) -> Exception | None:
        return error_of(self._call)


def _helper() -> _Helper:
    with contextlib.suppress(IndexError):  # not asked beforehand: another thread may take the last
        return _idle.pop()
    try:
        return _Helper()
    except RuntimeError:  # the interpreter is exiting, and starts no threads any more
        return _NoHelper()


def error_of(call: Callable[[], None]) -> Exception | None:
    """Make a call; return what it raised."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - it is for who asks
        return error
    return None


def _nothing() -> None:
    """Do nothing."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's
