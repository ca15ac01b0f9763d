"""What becomes of a store that nobody closes: at the interpreter's exit, and in a forked child.

At exit, what is unsaved is saved; what cannot be is raised at the end, which Python prints. A child
begins without what belongs to its parent: it neither writes it nor lets go of it at its own exit.
Keeps no store alive.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

from . import errors


class _Open(Protocol):
    """What is asked of a store that is open."""

    def _at_exit(self) -> None:
        """Save what is unsaved."""

    def _in_child(self) -> None:
        """Begin without what belongs to the parent process."""


_open: dict[int, weakref.ref[_Open]] = {}


def began(state: _Open) -> None:
    """Note that a store was opened for writing."""
    _open[id(state)] = weakref.ref(state)


def ended(state: _Open) -> None:
    """Note that it was closed, or is no longer there."""
    _open.pop(id(state), None)


def is_open(state: _Open) -> bool:
    """Tell whether a store was opened in this process, and not closed."""
    return id(state) in _open


@atexit.register
def _save_all() -> None:
    failures = []
    for reference in list(_open.values()):
        if (state := reference()) is not None:  # an empty dict is one, too
            try:
                state._at_exit()  # noqa: SLF001 - not for users, who have `sync`
            except Exception as error:  # noqa: BLE001 - the other stores are to be saved as well
                failures.append(error)
    _open.clear()
    if failures:
        listed = "\n".join(f"- {error}" for error in failures)
        raise errors.RedundictError(f"not saved at exit:\n{listed}") from failures[0]


def _begin_as_child() -> None:
    for reference in list(_open.values()):
        if (state := reference()) is not None:  # an empty dict is one, too
            state._in_child()  # noqa: SLF001 - not for users
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_as_child)
