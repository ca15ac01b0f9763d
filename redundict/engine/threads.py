"""Threads: whether there are any that might change a state, and some that help with a commit.

A helper is a thread that is there from the first call that it was needed for, and waits; so no call
pays for the start of one. `threading` does not know it: to start one of those means to wait for it,
and for a lock that this very thread may hold, if the collector interrupted it to close a store.
Knows nothing of what it calls.
"""

from __future__ import annotations

import _thread
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

Result = TypeVar("Result")

_harmless: Final[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()
_idle: list[_Helper] = []


def note(thread: threading.Thread, *, is_harmless: bool) -> None:
    """Note whether a thread is one that changes no state."""
    (_harmless.add if is_harmless else _harmless.discard)(thread)


def alone() -> bool:
    """Tell whether Python knows of no other thread that could change anything."""
    me = threading.get_ident()
    return all(thread.ident == me or thread in _harmless for thread in threading.enumerate())


def begin(call: Callable[[], Result]) -> Callable[[], Result]:
    """Make a call in a helper; return what waits for its end, and returns or raises what it did."""
    task = _Task(call)
    try:
        _helper().tasks.put(task)
    except RuntimeError:  # the interpreter is exiting, and starts no threads any more
        task.make()
        task.end()
    return task.result


def side_by_side(calls: Sequence[Callable[[], object]]) -> list[Exception | None]:
    """Make the calls, each in a thread of its own, the first in this one; return their errors."""
    others: list[Callable[[], object]] = []
    try:
        others.extend(begin(call) for call in calls[1:])
        found = [error_of(call) for call in calls[:1]]
    finally:
        wait_for(others)
    return found + [error_of(other) for other in others]


def error_of(call: Callable[[], object]) -> Exception | None:
    """Make a call; return what it raised."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - it is for who asks
        return error
    return None


def wait_for(others: Sequence[Callable[[], object]]) -> None:
    """Wait for all: no signal may leave one at work alone; what it raises is raised then.

    Each is called, until it has returned or has raised an `Exception`, which is for who asks again.
    """
    interrupt = None
    for other in others:
        while True:
            try:
                error_of(other)
                break
            except BaseException as error:  # noqa: BLE001 - not swallowed, only put off
                interrupt = error
    if interrupt:
        raise interrupt


class _Task(Generic[Result]):
    """A call, and what came of it once it has ended."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call: Callable[[], Result] | None = call
        self._going_on = _thread.allocate_lock()  # in C: no interrupt can leave it locked
        self._going_on.acquire()
        self._result: Any = None
        self._error: Exception | None = None

    def make(self) -> None:
        """Make the call."""
        call, self._call = self._call, None  # what it was to write may be large
        try:
            self._result = call() if call else None
        except Exception as error:  # noqa: BLE001 - it is for who asks
            self._error = error
        except BaseException as interrupt:  # noqa: BLE001 - it must not end the helper
            self._error = RuntimeError(f"interrupted: {interrupt!r}")

    def end(self) -> None:
        """Let those who wait go on."""
        self._going_on.release()

    def result(self) -> Result:
        """Wait for the end, and return or raise what the call did."""
        with self._going_on:
            pass
        if self._error:
            raise self._error
        result: Result = self._result
        return result


class _Helper:
    """A thread that makes one call after the other."""

    def __init__(self) -> None:
        self.tasks: SimpleQueue[_Task[Any]] = SimpleQueue()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            task = self.tasks.get()
            task.make()
            _idle.append(self)
            task.end()
            del task  # and with it what the call returned


def _helper() -> _Helper:
    try:
        return _idle.pop()
    except IndexError:
        return _Helper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's
