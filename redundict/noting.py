"""The items that others assign during a transaction: other threads, and other tasks of the thread.

A dict calls nobody when an item is assigned. So during a transaction, it has another class. The
methods of that class note what others assign, and then do it. Outside of transactions, all methods
are those of the dict's own class. This module must not know stores.

Invariant: a note and its change are one step for an undo, because both hold `Notes.lock`.
"""

from __future__ import annotations

import functools
import sys
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

_GONE: Final = object()  #: In place of the value of an item that was deleted.
#: The marks of the transactions that the running code is part of.
_OWN: Final[ContextVar[tuple[_Mark, ...]]] = ContextVar("redundict transactions", default=())

Kind = TypeVar("Kind", bound=type[dict[Any, Any]])


def current_task() -> object:
    """Return the asyncio task that runs in this thread; None if there is none."""
    if "asyncio" not in sys.modules:
        return None
    import asyncio  # noqa: PLC0415 - slow to import, and it is loaded already

    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return None


class _Mark:
    """Marks the code that belongs to one transaction."""

    is_open = True


@dataclass(slots=True)
class Notes:
    """The items that others assigned since the beginning of a transaction."""

    _thread: int = 0
    _task: object = None
    _mark: _Mark | None = None  # in `_OWN` of the transaction's own code; None outside of one
    _items: dict[Any, Any] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)  #: Makes a note and its change one step.

    def begin(self) -> None:
        """Forget all items. From now on, this thread and task are not others."""
        self._thread, self._task = threading.get_ident(), current_task()
        if self._mark:  # an interrupt prevented its end
            self._mark.is_open = False
        self._items, self._mark = {}, _Mark()
        _OWN.set((*[mark for mark in _OWN.get() if mark.is_open], self._mark))

    def end(self) -> None:
        """Forget all items, and note no more."""
        if self._mark:
            self._mark.is_open = False
        self._task = self._mark = None
        self._items = {}

    def is_own(self) -> bool:
        """Return True if this thread and task began the transaction."""
        return threading.get_ident() == self._thread and current_task() is self._task

    def note(self, key: object, value: object = _GONE) -> None:
        """Note an item that is assigned or deleted, unless the transaction's own code does it.

        A task that it starts, and a function for `asyncio.to_thread`, are its own code, too.
        """
        mark = self._mark
        if mark and mark not in _OWN.get():
            self._items[key] = value

    def note_removal(self, state: dict[Any, Any], key: object) -> None:
        """Note that an item is removed, if it is there; otherwise, nothing is removed."""
        if key in state:
            self.note(key)

    def add_to(self, state: dict[Any, Any]) -> None:
        """Do to a dict what others did since the beginning."""
        for key, value in self._items.items():
            if value is _GONE:
                state.pop(key, None)
            else:
                state[key] = value


class _Noting(dict[Any, Any]):
    """The methods by which a dict is changed. They note each item that others change.

    They call the methods of `dict` by name. With `super()`, they would fail if the transaction
    ends, and takes this class away, while another thread is in one of them.
    """

    __slots__ = ()
    _notes: Notes

    def __setitem__(self, key: Any, value: Any) -> None:
        with self._notes.lock:
            self._notes.note(key, value)
            dict.__setitem__(self, key, value)

    def __delitem__(self, key: Any) -> None:
        with self._notes.lock:
            self._notes.note_removal(self, key)
            dict.__delitem__(self, key)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]  # its overloads are not needed
        self.update(other)
        return self

    def clear(self) -> None:
        with self._notes.lock:
            for key in list(self):
                self._notes.note(key)
            dict.clear(self)

    def pop(self, key: Any, *default: Any) -> Any:
        with self._notes.lock:
            self._notes.note_removal(self, key)
            value = dict.pop(self, key, *default)
        return value  # noqa: RET504 - an interrupt before `return` must find the lock released

    def popitem(self) -> Any:
        with self._notes.lock:
            item = dict.popitem(self)
            self._notes.note(item[0])
        return item

    def setdefault(self, key: Any, default: Any = None) -> Any:
        with self._notes.lock:
            if key not in self:
                self._notes.note(key, default)
            value = dict.setdefault(self, key, default)
        return value  # noqa: RET504 - an interrupt before `return` must find the lock released

    def update(self, /, *others: Any, **more: Any) -> None:
        new = dict(*others, **more)
        with self._notes.lock:
            for key, value in new.items():
                self._notes.note(key, value)
            dict.update(self, new)


class Quiet:
    """Keeps the ``__init_subclass__`` of an application's class from being called."""

    def __init_subclass__(cls) -> None:
        """Do nothing."""


@functools.cache
def _noting_class(kind: Kind) -> Kind:
    facts = {"_without_notes": kind, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (Quiet, kind, _Noting), facts)  # type: ignore[return-value]


def begin_noting(state: Any) -> None:
    """Give a dict the class that notes what others assign."""
    if not isinstance(state, _Noting):
        kind: Any = type(state)
        state.__class__ = _noting_class(kind)


def end_noting(state: Any, notes: Notes) -> None:
    """Give a dict its own class again, and forget all notes."""
    notes.end()
    own = vars(type(state)).get("_without_notes")
    if own:
        state.__class__ = own
