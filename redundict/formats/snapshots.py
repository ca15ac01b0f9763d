"""Take a copy of a state that other threads may go on changing. This module knows no format.

Each dict, list and set is copied by one call of its own method `copy`. The interpreter makes that
call as a whole: with the GIL no other thread runs meanwhile, and a free-threaded build holds the
container's own lock (PEP 703). So no container is seen in the middle of a change, and no iteration
meets a container that changes its size. Two containers may be copied on both sides of a change;
a program that needs them to agree changes them in a transaction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from redundict import errors


def undisturbed(state: dict[Any, Any], encode: Callable[[dict[Any, Any]], bytes]) -> bytes:
    """Return what `encode` returns for a copy of a state that does not change meanwhile.

    Without other threads, only the outermost dict is copied first. If that fails, a signal handler
    or a finalizer may have changed the state in the middle, so it is tried again with a snapshot.

    Args:
        state: The state, which other threads may be changing.
        encode: Takes the copy, a plain dict.

    Returns:
        The payload.

    Raises:
        UnstorableError: `encode` raised it, and the state is at fault.

    """
    if not other_threads_running():
        try:
            return encode(dict(state))
        except (RuntimeError, errors.UnstorableError) as error:
            errors.reraise_interrupt(error)
    return encode(snapshot(state))


def other_threads_running() -> bool:
    """Return True if another thread runs Python code or waits in it.

    That includes threads that the module `threading` did not start and does not list.
    """
    return len(sys._current_frames()) > 1  # noqa: SLF001 - no public function lists all threads


def snapshot(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return a copy of a state in which every dict, list and set is a copy, at any depth.

    A container that stands in several places, or contains itself, does so in the copy. Objects of
    other types, and subclasses of these three except the state itself, are not copied. A program
    changes those under the dict's lock, or not while it commits.

    Args:
        state: The state, which other threads may be changing.

    Returns:
        A plain dict.

    >>> inner = [1]
    >>> copy = snapshot({"a": inner, "b": inner})
    >>> copy["a"] is copy["b"], copy["a"] is inner
    (True, False)

    """
    root = dict(state)
    copies: dict[int, Any] = {id(state): root}
    originals: list[Any] = [state]  # While an object is kept here, no other object gets its id.
    unfinished: list[Any] = [root]
    while unfinished:
        container = unfinished.pop()
        items = enumerate(container) if type(container) is list else container.items()
        for key, value in items:
            kind = type(value)
            if kind is not dict and kind is not list and kind is not set:
                continue
            copy = copies.get(id(value))
            if copy is None:
                copy = copies[id(value)] = value.copy()
                originals.append(value)
                if kind is not set:  # No container that can change fits into a set.
                    unfinished.append(copy)
            container[key] = copy
    return root
