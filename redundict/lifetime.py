"""The lifetime of an open store: exit, fork, garbage collection; closed and read-only classes.

At exit, every open store is saved. If some cannot be saved, one error names them at the end, and
Python prints it. A child of fork neither writes to the stores of its parent nor releases their
locks. This module must not know more of a dict than `Mortal` names.

Invariant: the list of open stores refers to them weakly, so it keeps no store alive.
"""

from __future__ import annotations

import atexit
import functools
import os
import warnings
import weakref
from typing import Any, Final, NoReturn, TypeVar

from . import errors
from .stored import Stored

_DUNDERS: Final = ("__setitem__", "__delitem__", "__ior__")
_CHANGES: Final = (*_DUNDERS, "clear", "pop", "popitem", "setdefault", "update")
_AT_EXIT: Final = 10.0  #: Seconds to wait at exit for the transaction of a thread.
_MACHINERY: Final = {"__new__", "__init__", "__getattribute__", "__hash__", "__sizeof__"}


class Mortal:
    """The part of `RedunDict` for exit, fork and garbage collection."""

    path: str
    lock: Any
    _turn: Any
    _store: Stored

    @property
    def generation(self) -> int:
        """The number of the generation that was last loaded or committed; 0 before the first."""
        return self._store.generation

    def __del__(self) -> None:
        if is_registered(self):
            self._close_abandoned()

    def _close_abandoned(self) -> None:
        """Close a store that nothing refers to any more; warn if it had unsaved changes."""
        before = self.generation
        try:
            self._close_at_last()
        finally:
            unregister(self)  # a new object may get the same id
        if self.generation != before:
            text = f"{self.path} was not closed, and not all of it was saved: it is saved now"
            warnings.warn(text, ResourceWarning, stacklevel=3, source=self)

    def _let_go(self) -> None:
        """Commit the waiting states, then release the store, even if callbacks raise."""
        try:
            self._stop_background()
        finally:
            with self._turn:
                self._store.release()

    def _save_at_exit(self) -> None:
        """Save the store and release it. It stays open for exit handlers that run later."""
        if not self.lock.acquire(timeout=_AT_EXIT):
            raise errors.lock_held_at_exit(self.path)
        try:
            self.sync()
            with self._turn:
                self._store.release()
        finally:
            self.lock.release()

    def _begin_as_child(self) -> None:
        """Leave the lock, the threads and the open transactions to the parent process."""
        self._begin_alone()
        self._store.begin_as_child()

    def sync(self) -> int:
        """Commit the state; return its generation once it is durable."""
        raise NotImplementedError

    def _stop_background(self) -> None:
        """Commit the states that wait in the background, and end the thread."""
        raise NotImplementedError

    def _begin_alone(self) -> None:
        """Start with new locks, no thread, no transaction and no waiting state."""
        raise NotImplementedError

    def _close_at_last(self) -> None:
        """Save the store and release it. Release it even if it cannot be saved."""
        raise NotImplementedError


_open: dict[int, weakref.ref[Mortal]] = {}


def register(state: Mortal) -> None:
    """Add a store to those that are saved at exit."""
    _open[id(state)] = weakref.ref(state)


def unregister(state: Mortal) -> None:
    """Remove a store from those that are saved at exit; do nothing if it is not one of them."""
    _open.pop(id(state), None)


def is_registered(state: object) -> bool:
    """Return True if the store is saved at exit."""
    return id(state) in _open


def _registered() -> list[Mortal]:
    # Compare with None, since an empty dict is false.
    return [state for reference in list(_open.values()) if (state := reference()) is not None]


@atexit.register
def _save_all() -> None:
    failures = []
    for state in _registered():
        try:
            state._save_at_exit()
        except Exception as error:  # noqa: BLE001 - the other stores must be saved, too
            failures.append(error)
    _open.clear()
    if failures:
        listed = "\n".join(f"- {error}" for error in failures)
        raise errors.RedundictError(f"not saved at exit:\n{listed}") from failures[0]


def _begin_as_child() -> None:
    for state in _registered():
        state._begin_as_child()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_as_child)


# --- closed, and read only

Kind = TypeVar("Kind", bound=type[dict[Any, Any]])


class Closed:
    """The methods that still work on a closed dict."""

    path: str

    def close(self) -> None:
        """Do nothing, because the dict is closed already."""

    def __exit__(self, *_: object) -> None:
        """Do nothing, because the dict is closed already."""

    def __del__(self) -> None:
        """Do nothing, because the dict is closed already."""

    def __repr__(self) -> str:
        return f"<closed store {self.path!r}>"


@functools.cache
def closed_class(kind: Kind) -> Kind:
    """Return the class of closed instances of `kind`. Each of its methods raises `ClosedError`.

    `close` changes the class of the object, so an open dict needs no test in any method. Attributes
    and properties still work. `close` does nothing. `isinstance` still returns True.
    """
    methods = {
        name
        for base in kind.__mro__[:-1]
        for name, it in vars(base).items()
        if callable(it) and (not name.startswith("_") or name.startswith("__"))
    }
    refused = dict.fromkeys(methods - _MACHINERY - vars(Closed).keys(), _refuse)
    return type(f"Closed{kind.__name__}", (Closed, kind), refused)  # type: ignore[return-value]


def _refuse(self: Closed, *_: object, **__: object) -> NoReturn:
    raise errors.closed(self.path)


@functools.cache
def read_only_class(kind: Kind) -> Kind:
    """Return the class of read-only instances of `kind`. A change raises `ReadOnlyError`.

    A change of a list or dict inside the dict cannot be detected.
    """
    refused = dict.fromkeys(_CHANGES, _refuse_change)
    return type(f"ReadOnly{kind.__name__}", (kind,), refused)  # type: ignore[return-value]


def _refuse_change(self: Closed, *_: object, **__: object) -> NoReturn:
    raise errors.read_only(self.path)
