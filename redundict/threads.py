"""Threads: whether there are any that might change a state, and some that help with the flushing.

A helper is a thread that is there from the first call that it was needed for, and waits; so no call
pays for the start of one. Knows nothing of what it calls.
"""

from __future__ import annotations

import _thread
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

_harmless: Final[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()
_idle: list[_Helper] = []


def note(thread: threading.Thread, *, is_harmless: bool) -> None:
    """Note whether a thread is one that changes no state."""
    (_harmless.add if is_harmless else _harmless.discard)(thread)


def alone() -> bool:
    """Tell whether Python knows of no other thread that could change anything."""
    me = threading.get_ident()
    return all(thread.ident == me or thread in _harmless for thread in threading.enumerate())


def side_by_side(calls: Sequence[Callable[[], None]]) -> list[Exception | None]:
    """Make the calls, each in a thread of its own, the first in this one; return their errors."""
    helpers = [_helper() for _ in calls[1:]]
    try:
        for helper, call in zip(helpers, calls[1:], strict=True):
            helper.begin(call)
        found = [error_of(call) for call in calls[:1]]
    finally:  # a signal must not leave them at work alone
        found_by_helpers = _ends_of(helpers)
    return found + found_by_helpers


def _ends_of(helpers: Sequence[_Helper]) -> list[Exception | None]:
    """Wait until all helpers are idle again; a signal that comes meanwhile is raised then."""
    interrupt = None
    while True:
        try:
            ends = [helper.wait() for helper in helpers]
            break
        except BaseException as error:  # noqa: BLE001 - not swallowed, only put off
            interrupt = error
    _idle.extend(helpers)
    if interrupt:
        raise interrupt
    return ends


class _Task:
    """A call, and how it ended once it has."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._ended = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._error = error_of(self._call)
        except BaseException as interrupt:  # noqa: BLE001 - it must not end the helper
            self._error = RuntimeError(f"interrupted: {interrupt!r}")
        self._call = _nothing  # what it was to write may be large
        self._ended.set()

    def wait(self) -> Exception | None:
        self._ended.wait()
        return self._error


class _Helper:
    """A thread that makes one call at a time.

    `threading` does not know it. To start one of those means to wait for it, and for a lock that
    this very thread may hold, if the collector interrupted it to close a store.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._task = _Task(_nothing)
        self._task.run()
        self._start()

    def begin(self, call: Callable[[], None]) -> None:
        self._task = _Task(call)
        self._tasks.put(self._task)

    def wait(self) -> Exception | None:
        return self._task.wait()

    def _start(self) -> None:
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            self._tasks.get().run()


class _NoHelper(_Helper):
    """What makes the call itself, where no thread can be had."""

    def begin(self, call: Callable[[], None]) -> None:
        super().begin(call)
        self._tasks.get().run()

    def _start(self) -> None:
        """Start nothing."""


def _helper() -> _Helper:
    try:
        return _idle.pop() if _idle else _Helper()
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
