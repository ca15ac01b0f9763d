"""The life of a store around its program: exit, fork, the time after close, and readers.

At exit, what is unsaved is saved; what cannot be is raised at the end, and Python prints it. A
child of fork begins without what belongs to its parent: it neither writes it nor lets go of it.
Keeps no store alive, and knows of a dict only what `Mortal` names.
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
_AT_EXIT: Final = 10.0  #: Seconds to wait, when the interpreter exits, for a thread's transaction.
_MACHINERY: Final = {"__new__", "__init__", "__getattribute__", "__hash__", "__sizeof__"}


class Mortal:
    """What a dict does when its program ends, forks, or no longer refers to it."""

    path: str
    lock: Any
    _turn: Any
    _store: Stored

    @property
    def generation(self) -> int:
        """The number of the generation last loaded or committed; 0 before the first."""
        return self._store.generation

    def __del__(self) -> None:
        if is_registered(self):
            self._close_abandoned()

    def _close_abandoned(self) -> None:
        """Close what nobody refers to any more; say so if something in it was not saved."""
        before = self.generation
        try:
            self._close_at_last()
        finally:
            unregister(self)  # a new object may get the same id
        if self.generation != before:
            text = f"{self.path} was not closed, and not all of it was saved: it is saved now"
            warnings.warn(text, ResourceWarning, stacklevel=3, source=self)

    def _let_go(self) -> None:
        """Commit what waits, and let go of the store, whatever callbacks raise."""
        try:
            self._stop_background()
        finally:
            with self._turn:
                self._store.release()

    def _save_at_exit(self) -> None:
        """Save what is unsaved; whoever runs after this may still go on."""
        if not self.lock.acquire(timeout=_AT_EXIT):
            raise errors.lock_held_at_exit(self.path)
        try:
            self.sync()
            with self._turn:
                self._store.release()
        finally:
            self.lock.release()

    def _begin_as_child(self) -> None:
        """Begin without what belongs to the parent process."""
        self._begin_alone()
        self._store.begin_as_child()

    def sync(self) -> int:
        """Save what is unsaved."""
        raise NotImplementedError

    def _stop_background(self) -> None:
        """Commit what waits in the background, and let that end."""
        raise NotImplementedError

    def _begin_alone(self) -> None:
        """Begin without threads and with nothing under way."""
        raise NotImplementedError

    def _close_at_last(self) -> None:
        """Save what is unsaved and let go of the store, whatever happens."""
        raise NotImplementedError


_open: dict[int, weakref.ref[Mortal]] = {}


def register(state: Mortal) -> None:
    """Note that a store was opened for writing, and is to be saved at exit."""
    _open[id(state)] = weakref.ref(state)


def unregister(state: Mortal) -> None:
    """Note that nothing of a store is left to be saved."""
    _open.pop(id(state), None)


def is_registered(state: object) -> bool:
    """Tell whether a store is to be saved at exit."""
    return id(state) in _open


def _registered() -> list[Mortal]:
    # An empty dict is false, so the test is for None.
    return [state for reference in list(_open.values()) if (state := reference()) is not None]


@atexit.register
def _save_all() -> None:
    failures = []
    for state in _registered():
        try:
            state._save_at_exit()
        except Exception as error:  # noqa: BLE001 - the other stores are to be saved as well
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
    """The few methods that a closed dict still has."""

    path: str

    def close(self) -> None:
        """Do nothing: it is closed."""

    def __exit__(self, *_: object) -> None:
        """Do nothing: it is closed."""

    def __del__(self) -> None:
        """Do nothing: it is closed."""

    def __repr__(self) -> str:
        return f"<closed store {self.path!r}>"


@functools.cache
def closed_class(kind: Kind) -> Kind:
    """Return the class of `kind`'s closed instances: each method raises `ClosedError`.

    An open store pays nothing for it: `close` changes the object's class. Attributes and properties
    still answer, `close` does nothing, and `isinstance` holds.
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
    """Return the class of `kind`'s readers: a change of the dict raises `ReadOnlyError`.

    A change of a list or dict inside it cannot be caught.
    """
    refused = dict.fromkeys(_CHANGES, _refuse_change)
    return type(f"ReadOnly{kind.__name__}", (kind,), refused)  # type: ignore[return-value]


def _refuse_change(self: Closed, *_: object, **__: object) -> NoReturn:
    raise errors.read_only(self.path)
