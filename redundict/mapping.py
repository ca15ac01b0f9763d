"""The dict: a `RedunDict` lives in memory and commits itself with `sync`. Knows no slots.

Reading and changing it is dict's own code at dict's own speed; only `sync`, `close`, `reload`,
`rollback`, `commit` and `transaction` reach the store. Invariant: whatever fails, memory is either
as the caller left it or as the last commit was, never something in between.

Threads: `lock` is held while a state is encoded or replaced, and throughout a transaction, so that
nobody commits what another thread has half changed under it; it is not held while the disk is
written to. Changes made without it cannot make a commit fail either: where other threads are alive,
what is encoded is a snapshot (see `snapshots`).
"""

from __future__ import annotations

import copy
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Literal, Self, overload

from . import errors, lifetime
from . import loading as decoding
from .closed import closed_class
from .committer import Writer
from .engine import newest as loading
from .engine.history import RECENT
from .engine.layout import COPIES, KEEP, Layout
from .engine.newest import Loaded
from .engine.slots import Generation
from .engine.store import Store
from .engine.survey import Folders
from .events import Event, Teller
from .formats import resolve as serializers
from .loading import Path
from .recovery import put_lost_aside
from .report import Recovery, not_found, recovery_of

FLAGS: Final = ("r", "w", "c", "n")
_AT_EXIT: Final = 10.0  #: Seconds to wait, when the interpreter exits, for a thread's transaction.


class RedunDict(dict[Any, Any]):
    """A dict of which every `sync` is a durable, checksummed, numbered generation.

    `path` names the store; its files are `path` + `.a0`, `.b0`, and so on. `flag` is dbm's: ``r``
    read only, without a lock; ``w`` an existing store; ``c`` create it if need be; ``n`` start
    empty, with the old generations kept for rollback. `mode` is the files' permission bits.
    `format` is ``"json"``, ``"csv"``, ``"pickle"`` or an object with ``dumps``/``loads`` or
    ``dump``/``load``. `copies` is a number, or one folder per copy; `keep` how many generations
    stay. `history` says which: the last ones, or with ``"thinned"`` (and `keep` of 4 or more) the
    last two, the one that was there on opening, and others spread out over time, so that a state
    that went wrong an hour ago can still be rolled back. `defaults` are filled in under what was
    loaded. `timeout` is how many seconds to wait for another writer to close (0). With `shared`,
    the lock is held only while committing, and waited for as long as commits should take (10), so
    that several processes may have the store open; what they must not overwrite of each other's is
    noticed (`ConflictError`), see `commit`.

    With `autosync`, a change is committed so many seconds later at the latest, from a background
    thread; every so often that costs as much as a `sync`. `on_event` is called with an `Event` when
    damage was found on opening, when a commit is not in every copy, and when one failed in the
    background; in the thread in which it happened. The logger ``redundict`` is told the same.

    What is unsaved when the interpreter exits is saved. A store that nobody refers to any more is
    closed; if something in it was unsaved, with a `ResourceWarning`.

    Raises `LockedError`, `NotFoundError`, `LostError`, `AccessError`, `FormatError`,
    `DivergedError`, `NewerVersionError`. `recovery` is None, or says what was found damaged.
    """

    path: str
    flag: str
    format: str
    recovery: Recovery | None

    def __init__(
        self,
        path: Path,
        flag: str = "c",
        mode: int | None = None,
        *,
        format: object = "json",
        copies: int | Folders = COPIES,
        keep: int = KEEP,
        history: str = RECENT,
        defaults: Mapping[Any, Any] | None = None,
        timeout: float | None = None,
        shared: bool = False,
        autosync: float | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        super().__init__()
        if flag not in FLAGS:
            raise ValueError(f"flag must be one of {', '.join(FLAGS)}, not {flag!r}")
        if autosync is not None and (autosync <= 0 or flag == "r"):
            raise ValueError(f"autosync={autosync} needs to be above 0, and a flag other than 'r'")
        self._serializer = serializers.resolve(format)
        self._layout = Layout.of(os.fsdecode(path), copies, keep, history)
        self._teller = Teller(self._layout.path, on_event)
        self._writer = Writer(
            Store(self._layout, mode=mode, degraded=self._teller.degraded.append),
            self._serializer.name,
            _telling(weakref.ref(self._teller)),
            owner=weakref.ref(self),
            harmless=on_event is None,
            shared=shared,
            timeout=timeout,
        )
        self.lock = threading.RLock()  #: Hold it to change several items as one.
        self._transactions = 0  # how deep transactions are nested
        self._doomed = False  # one inside them failed
        self.path = self._layout.path
        self.flag = flag
        self.format = self._serializer.name
        self.recovery = None
        self._is_whole = True
        if flag != "r":
            self._writer.acquire()
        try:
            self._open(afresh=flag == "n")
            for key, value in (defaults or {}).items():
                if key not in self:
                    self[key] = copy.deepcopy(value)
            if autosync:
                self._writer.repeat(_committing(weakref.ref(self)), autosync)
        except BaseException:
            self._writer.release()
            raise
        if shared:
            self._writer.release()
        if flag != "r":
            lifetime.began(self)

    @property
    def generation(self) -> int:
        """The number of the generation last loaded or committed; 0 before the first."""
        return self._store.generation

    @overload
    def sync(self, *, wait: Literal[True] = True) -> int: ...

    @overload
    def sync(self, *, wait: Literal[False]) -> Future[int]: ...

    @overload
    def sync(self, *, wait: bool) -> int | Future[int]: ...

    def sync(self, *, wait: bool = True) -> int | Future[int]:
        """Commit the state; return its generation once that is durable.

        A state that has not changed is not written again. Raises `UnstorableError`, with nothing
        written, if the format cannot hold the state; `CommitError` if no copy could be written,
        `ConflictError` if another writer was here. Warns (`RedundancyWarning`) if a copy failed.

        With ``wait=False`` the state is taken as it is now, and written in the background: returns
        a future of the generation (`asyncio.wrap_future` makes it awaitable), which gets the errors
        of the disk; only `UnstorableError` is raised at once. Commits stay in order; one that waits
        while a newer one comes is left to that, and so is its future. `close` waits for all.
        """
        if wait:
            return self._commit()[1]
        _, future = self._hand_over()
        self._writer.commit_soon()
        return future

    def close(self) -> None:
        """Commit the state and let go of the store; do nothing if it is closed already.

        If the commit fails, the error is raised and the store stays open, so that nothing is lost:
        mend the cause and close again.
        """
        self._store.refuse_if_forked()
        with self.lock:
            if self.flag != "r":
                self._commit()
            self._release()

    def reload(self) -> int:
        """Take the newest generation from disk in place of what is in memory; return its number.

        With flag 'r', only trailers are read where nobody has committed since: memory stays as it
        is, changes made there by the reader included.
        """
        if self.flag != "r":
            with self._writing():
                self._open()
                return self.generation
        with self.lock:
            if not self._store.digest or self._store.digest != loading.newest_claim(self._layout):
                self._open()
            return self.generation

    def changed(self) -> bool:
        """Tell whether somebody else has committed since; read trailers only, take no lock."""
        newest = loading.newest_claim(self._layout)
        return bool(newest) and not self._store.knows(newest)

    def commit(self, function: Callable[[Self], object], *, retries: int = 10) -> int:
        """Take the newest state, let `function` change it, commit it; return its generation.

        For a store that is shared: what others have committed is taken first, under the lock, so
        that nothing of theirs is overwritten; what is in memory and not committed is given up. If
        somebody commits all the same (a lost lock, a network disk), it begins again, `retries`
        times. If `function` raises, nothing is committed and memory is as on disk; it is a
        transaction.
        """
        while True:
            with self._writing():
                self._open()
                try:
                    with self._as_one():
                        function(self)
                    return self._commit()[1]
                except errors.ConflictError:
                    if retries <= 0:
                        raise
                    retries -= 1
                except BaseException:
                    self._open()
                    raise

    def generations(self) -> list[Generation]:
        """Return the generations that load, newest first, from a full verification."""
        return loading.generations(self._layout)

    def rollback(self, to: int | None = None) -> int:
        """Commit an older generation as a new one, and take it into memory; return its number.

        `to` is the generation before the present one by default. What is in memory and was not
        committed is given up; what was committed stays, so a rollback can be rolled back.
        """
        with self._writing():
            before = loading.previous(self._layout, self.generation) if to is None else to
            loaded = loading.load_locked(self._layout, before)
            state = self._decoded(loaded)
            self._store.commit(loaded.payload, loaded.format, even_if_unchanged=True)
            self._teller.tell_degraded()
            self._replace(state)
            return self.generation

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Commit what happens inside as a whole at its end; on an exception, undo it.

        Changes made before it are committed first, so that to undo means to go back to the last
        commit. A transaction inside another is part of it; whatever else commits or replaces the
        state is refused inside (`TransactionError`). The objects in the dict are new ones after an
        undo. Other threads' transactions and commits wait until it is over.
        """
        with self._writing(inside=True):
            if self._transactions:
                with self._as_one():
                    yield self
                return
            before = self._commit()[0]
            try:
                with self._as_one():
                    yield self
                self._commit()
            except BaseException:
                self._replace(self._serializer.decode(before))
                raise

    @contextmanager
    def _as_one(self) -> Iterator[None]:
        """Let nothing be committed before the end, and then only if nothing inside failed."""
        self._transactions += 1
        try:
            yield
            if self._transactions == 1:
                self._refuse_doomed()
        except BaseException:
            self._doomed = True
            raise
        finally:
            self._transactions -= 1
            self._doomed = self._doomed and self._transactions > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except BaseException:
            self._release()  # the name is going out of scope: nobody could close it again
            raise

    def __reduce_ex__(self, _: object) -> tuple[Any, ...]:
        # A copy or a pickle is a plain dict: there is one writer to a store.
        return dict, (dict(self),)

    def __del__(self) -> None:
        if lifetime.is_open(self):
            self._abandoned()

    def _open(self, *, afresh: bool = False) -> None:
        """Take the newest generation into memory, or what the recipe left; `afresh`: nothing."""
        store, lost = self._store.again(), None
        if self.flag == "r":
            loaded, healed = loading.load(self._layout), None
            store.generation, store.digest = loaded.generation, loaded.digest
        else:
            self._refuse_read_only()
            lost = put_lost_aside(self._layout) if afresh else None
            loaded, healed = store.open()
        try:
            if not afresh:
                self._replace(self._state_of(loaded))
        except BaseException:
            self._store.ledger.doubt(store.ledger)
            raise
        self._writer.store = store
        if afresh or loaded.is_empty:
            store.forget_content()
        self.recovery = lost or recovery_of(loaded, healed)
        if self.recovery:
            self._teller.recovered(self.recovery)

    def _state_of(self, loaded: Loaded) -> dict[Any, Any]:
        return self._starting_state() if loaded.is_empty else self._decoded(loaded)

    def _decoded(self, loaded: Loaded) -> dict[Any, Any]:
        return decoding.decoded(loaded, self._serializer)

    def _starting_state(self) -> dict[Any, Any]:
        """Return what a store without a slot starts with: a plain file's content, or nothing."""
        state = decoding.left_by_the_recipe(self._layout, self._serializer)
        if state is None and self.flag != "c":
            raise not_found(self.path)
        return state or {}

    def _commit(self) -> tuple[bytes, int]:
        """Commit the state and return its payload and generation."""
        payload, future = self._hand_over()
        self._writer.commit_waiting()
        self._teller.tell_degraded()
        return payload, future.result()

    def _hand_over(self) -> tuple[bytes, Future[int]]:
        """Let the state as it is now wait for its commit."""
        self._refuse_read_only()
        self._store.refuse_if_forked()  # before a lock that no thread of a child can let go of
        with self.lock:
            self._refuse_inside()
            self._writer.refuse_interrupting()
            with self._writer.taking():
                payload = self._encoded()
                return payload, self._writer.put(payload)

    @contextmanager
    def _writing(self, *, inside: bool = False) -> Iterator[None]:
        """Keep other threads out, and other writers; `inside`: in a transaction as well."""
        self._refuse_read_only()
        self._store.refuse_if_forked()
        with self.lock, self._writer.turn():
            if not inside:
                self._refuse_inside()
            self._teller.tell_degraded()
            yield

    def _encoded(self) -> bytes:
        if not self._is_whole:
            raise errors.BusyError(
                "an interrupt left the state in memory half replaced",
                path=self.path,
                safe=f"generation {self.generation} stands",
                action="reload()",
            )
        try:
            return self._serializer.encode(self)
        except errors.FormatError as error:
            error.path = self.path
            raise

    def _replace(self, state: dict[Any, Any]) -> None:
        self._is_whole = False  # an interrupt in between must not let half of it be committed
        self.clear()
        self.update(state)
        self._is_whole = True

    @property
    def _store(self) -> Store:
        return self._writer.store

    def _release(self) -> None:
        lifetime.ended(self)
        self._writer.stop()
        self._writer.release()
        self.__class__ = closed_class(type(self))

    def _abandoned(self) -> None:
        """Close what nobody refers to any more; say so if something in it was not saved."""
        before = self.generation
        RedunDict.__exit__(self)
        if self.generation != before:
            text = f"{self.path} was not closed, and not all of it was saved: it is saved now"
            warnings.warn(text, ResourceWarning, stacklevel=3, source=self)

    def _at_exit(self) -> None:
        """Save what is unsaved; whoever runs after this may still go on."""
        if not self.lock.acquire(timeout=_AT_EXIT):
            raise TimeoutError(f"{self.path}: a thread holds its lock, and may be changing it")
        try:
            self._commit()
            self._writer.release()
        finally:
            self.lock.release()

    def _in_child(self) -> None:
        self.lock = threading.RLock()
        self._writer.begin_alone()
        self._store.lock.leave_to_parent()

    def _refuse_read_only(self) -> None:
        if self.flag == "r":
            raise errors.ReadOnlyError(
                "it was opened with flag 'r'",
                path=self.path,
                safe="nothing was changed",
                action="open it with flag 'w' to write",
            )

    def _refuse_inside(self) -> None:
        if self._transactions:
            raise errors.TransactionError(
                "a transaction is going on, in this very thread, which commits at its end",
                path=self.path,
                safe="nothing was committed",
                action="do it after the transaction",
            )

    def _refuse_doomed(self) -> None:
        if self._doomed:
            raise errors.TransactionError(
                "a transaction inside this one failed, so nothing of it is committed",
                path=self.path,
                safe=f"generation {self.generation} stands, and memory is as it was committed",
            )


open = RedunDict  #: As in dbm and shelve: ``redundict.open(path, flag)``.


def _committing(state: weakref.ref[RedunDict]) -> Callable[[], None]:
    """Return what hands a store's state over, as long as that is there and open."""

    def hand_over() -> None:
        present = state()
        if present is None:
            return
        with present.lock:  # nobody closes it in between
            if lifetime.is_open(present):
                present._hand_over()  # noqa: SLF001 - of the class, but must not keep it alive

    return hand_over


def _telling(teller: weakref.ref[Teller]) -> Callable[[Exception | None], None]:
    """Return what tells how the background ended, as long as there is somebody to tell."""

    def tell(error: Exception | None) -> None:
        if present := teller():  # whose callback may be the application's, and keep all of it alive
            present.done(error)

    return tell
