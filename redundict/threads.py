"""Threads: whether there are any that might change a state, and some that help with a commit.

A helper is there from the first call that it was needed for, and waits; so no call pays for the
start of one. Knows nothing of what it calls.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

# Not when it is needed: an interpreter that is exiting refuses that.
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Final, TypeVar

Result = TypeVar("Result")
#: A call that waits for another was begun after it, so any number will do.
_MOST: Final = 4
_harmless: Final[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()


def this_one_is_harmless() -> None:
    """Note that the thread that calls this changes no state, as long as it lives."""
    _harmless.add(threading.current_thread())


def alone() -> bool:
    """Tell whether there is no other thread that could change anything."""
    if threading.active_count() == 1:
        return True
    this = threading.current_thread()
    return all(thread is this or thread in _harmless for thread in threading.enumerate())


def begin(call: Callable[[], Result]) -> Future[Result]:
    """Make a call in a helper, and return the future of what it returns."""
    try:
        return _helpers().submit(call)
    except RuntimeError:  # the interpreter is exiting, and starts no threads any more
        future: Future[Result] = Future()
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - it is for who asks
            future.set_exception(error)
        return future


def side_by_side(calls: Sequence[Callable[[], object]]) -> list[Exception | None]:
    """Make the calls, each in a thread of its own, the first in this one; return their errors."""
    others = [begin(call) for call in calls[1:]]
    try:
        found = [error_of(call) for call in calls[:1]]
    finally:  # a signal must not leave them at work alone
        wait(others)
    return found + [error_of(other.result) for other in others]


def error_of(call: Callable[[], object]) -> Exception | None:
    """Make a call; return what it raised."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - it is for who asks
        return error
    return None


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST, "redundict helper", this_one_is_harmless)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # they are the parent's
