"""The lifetime of a store: exit, worker, fork, garbage collection; closed and read-only classes.

What a program leaves behind is saved or reported (law 16):

- At exit, every open store is saved, and its lock is kept. Exit handlers that were registered
  earlier run later and may change a store again. After all of them, Python collects garbage once
  while its modules are still whole (`Py_FinalizeEx`). Then each store is compared and saved again.
- A worker of `multiprocessing` ends without exit handlers. There, a finalizer of `multiprocessing`
  saves the stores.
- A child of fork has copies of its parent's stores. It cannot save them, so a warning names each
  one that it changed.

This module must not know more of a dict than `Mortal` names.

Invariant: the list of open stores refers to them weakly until exit, so it keeps no store alive.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from . import errors
from .events import Events
from .noting import Quiet
from .options import Flag
from .stored import Stored

_AT_EXIT: Final = 10.0  #: Seconds to wait at exit for the transaction of a thread.
_LAST: Final = -100  #: The priority of the finalizer in a worker; those of applications come first.
_MACHINERY: Final = {"__new__", "__init__", "__getattribute__", "__hash__", "__sizeof__"}


class Mortal:
    """The part of `RedunDict` for exit, worker, fork and garbage collection."""

    path: str
    flag: Flag
    lock: Any
    _turn: Any
    _store: Stored
    _events: Events

    @property
    def generation(self) -> int:
        """The number of the generation that was last loaded or committed; 0 before the first."""
        return self._store.generation

    def __del__(self) -> None:
        if stores.has(self):
            self._close_abandoned()

    def _close_abandoned(self) -> None:
        """Close a store that nothing refers to any more; warn if it had unsaved changes."""
        before = self.generation
        try:
            if self._store.is_inherited():
                self._report_unsaved_copy()
            else:
                self._close_at_last()
        finally:
            stores.remove(self)  # a new object may get the same id
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

    def _save_at_exit(self, deadline: float) -> None:
        """Save the store. It stays open and locked for exit handlers that run later.

        Args:
            deadline: The time, by `time.monotonic`, until which to wait for other threads.

        """
        if self._store.is_inherited():
            self._report_unsaved_copy()
        elif self.flag != "r":
            try:
                self._save(max(deadline - time.monotonic(), 0))
            finally:
                # Python stops a daemon thread at any place, also in the middle of a commit.
                self._stop_background(max(deadline - time.monotonic(), 0))

    def _save_at_the_very_end(self) -> None:
        """Save what later exit handlers changed, and release. No other thread runs any more."""
        try:
            if self._store.is_inherited():
                self._report_unsaved_copy()
            elif self._has_unsaved_changes():
                if not self._turn.acquire(blocking=False):  # a stopped thread holds it
                    raise errors.lock_held_at_exit(self.path)
                self._turn.release()
                self._save(0)
        finally:
            self._store.release()

    def _save(self, seconds: float) -> None:
        """Commit the state; wait so many seconds for a transaction of another thread."""
        try:
            if not self.lock.acquire(timeout=seconds):
                raise errors.lock_held_at_exit(self.path)
            try:
                self._sync_at_end()
            finally:
                self.lock.release()
        except errors.RedundictError as error:
            self._events.failed(error, is_printed=True)
            raise

    def _report_unsaved_copy(self) -> None:
        """Warn once that this child of fork cannot save the changes in its copy, if it has any."""
        if self._has_unsaved_changes():
            stores.remove(self)
            error = errors.copy_not_saved(self.path)
            self._events.failed(error, is_printed=True)
            errors.warn(f"{error}", RuntimeWarning)

    def _begin_as_child(self) -> None:
        """Leave the lock, the threads and the open transactions to the parent process."""
        self._begin_alone()
        self._adopt_incoming()  # another thread of the parent may have been replacing the state
        if self._is_held_by_parent():
            self._store.begin_as_child()
            self._note_inherited_state()

    def _is_held_by_parent(self) -> bool:
        """Return True in a child of fork if only the parent may write to the store."""
        return self.flag != "r"

    def _note_inherited_state(self) -> None:
        """Remember the uncommitted state of the parent, so that a child need not report it."""
        raise NotImplementedError

    def _has_unsaved_changes(self) -> bool:
        """Return True if the state differs from the last one that was loaded or committed."""
        raise NotImplementedError

    def _adopt_incoming(self) -> None:
        """Load into memory the state that an interrupted call made durable."""
        raise NotImplementedError

    def _sync_at_end(self) -> None:
        """Commit the state, unless another process has committed and nothing was changed here."""
        raise NotImplementedError

    def _stop_background(self, seconds: float = 0) -> None:
        """Commit the states that wait in the background; end the thread, and wait so long."""
        raise NotImplementedError

    def _begin_alone(self) -> None:
        """Start with new locks, no thread, no transaction and no waiting state."""
        raise NotImplementedError

    def _close_at_last(self) -> None:
        """Save the store and release it. Release it even if it cannot be saved."""
        raise NotImplementedError


class OpenStores:
    """The open stores of this process. The only instance is `stores`."""

    def __init__(self) -> None:
        self._open: dict[int, weakref.ref[Mortal]] = {}
        self._at_exit: list[Mortal] = []  # this keeps the stores alive from the exit on
        self.is_at_exit = False  #: True from the exit on. Background threads are of no use then.
        self._reported: set[str] = set()
        self._worker = 0  # the process in which `multiprocessing` saves the stores

    def add(self, state: Mortal) -> None:
        """Add a store to those that are saved at exit."""
        self._open[id(state)] = weakref.ref(state)
        if "multiprocessing.process" in sys.modules:
            self.watch_worker()
        if self.is_at_exit:
            self._keep()

    def remove(self, state: Mortal) -> None:
        """Remove a store from those that are saved at exit; do nothing if it is not one of them."""
        self._open.pop(id(state), None)
        self._at_exit = [other for other in self._at_exit if other is not state]

    def has(self, state: Mortal) -> bool:
        """Return True if the store is saved when it is dropped."""
        return id(state) in self._open

    def save_all(self) -> None:
        """Save every store at exit. Keep it open, and keep its lock, for later exit handlers.

        Raises:
            RedundictError: If some cannot be saved. It names each of them, once.

        """
        if not self.is_at_exit:
            self.is_at_exit = True
            gc.enable()  # otherwise, the last collection is left out
            gc.callbacks.append(self._end_all)
        self._keep()
        deadline = time.monotonic() + _AT_EXIT  # one for all stores
        self._each(lambda state: state._save_at_exit(deadline))

    def _end_all(self, *_: object) -> None:
        """Save what later exit handlers changed, and release every store.

        Each collection calls this. It acts in the first one that comes after all exit handlers. An
        error is printed by Python.
        """
        if sys.is_finalizing():
            self._each(lambda state: state._save_at_the_very_end())
            self._at_exit = []

    def begin_as_child(self) -> None:
        """Leave all stores to the parent process, in a child of fork."""
        for state in self._all():
            state._begin_as_child()
        if "multiprocessing.util" in sys.modules:
            from multiprocessing import util  # noqa: PLC0415 - it is loaded already

            # If the child is a worker, `multiprocessing` deletes all finalizers, then calls this.
            util.register_after_fork(self, OpenStores.watch_worker)

    def watch_worker(self) -> None:
        """Let `multiprocessing` save the stores at the end of this process, if it is a worker."""
        process = sys.modules["multiprocessing.process"]
        if process.parent_process() and self._worker != os.getpid():
            from multiprocessing import util  # noqa: PLC0415 - it is loaded already

            self._worker = os.getpid()
            util.Finalize(None, self.save_all, exitpriority=_LAST)

    def _keep(self) -> None:
        self._at_exit, self._open = self._all(), {}

    def _all(self) -> list[Mortal]:
        # Compare with None, since an empty dict is false.
        found = [reference() for reference in list(self._open.values())]
        return self._at_exit + [state for state in found if state is not None]

    def _each(self, save: Callable[[Mortal], None]) -> None:
        failures = []
        interrupt = None
        for state in self._at_exit:
            try:
                save(state)
            except Exception as error:  # noqa: BLE001 - the other stores must be saved, too
                failures.append(error)
            except BaseException as raised:  # noqa: BLE001 - a callback's `SystemExit`, raised last
                interrupt = raised
        if interrupt:
            raise interrupt
        new = [error for error in failures if str(error) not in self._reported]
        self._reported.update(map(str, new))
        if new:
            raise errors.not_saved_at_exit(new) from new[0]


stores: Final = OpenStores()
atexit.register(stores.save_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=stores.begin_as_child)


# --- closed, and read only

Kind = TypeVar("Kind", bound=type[dict[Any, Any]])


class Closed(Quiet):
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
    return type(f"ReadOnly{kind.__name__}", (_ReadOnly, kind), {})  # type: ignore[return-value]


class _ReadOnly(Quiet):
    """The methods by which a dict would be changed."""

    path: str

    def _refuse_change(self, *_: object, **__: object) -> NoReturn:
        raise errors.read_only(self.path)

    __setitem__ = __delitem__ = __ior__ = _refuse_change
    clear = pop = popitem = setdefault = update = _refuse_change
