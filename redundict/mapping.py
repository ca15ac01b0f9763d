"""The dict: a `RedunDict` lives in memory and commits itself with `sync`. Knows no slots.

Reading and changing it is dict's own code at dict's own speed; only `sync`, `close`, `reload`,
`rollback` and `transaction` reach the store. Invariant: whatever fails, memory is either as the
caller left it or as the last commit was, never something in between.

Threads: `lock` is held while a state is encoded and committed or replaced, and throughout a
transaction, so that nobody commits what another thread has half changed under it. Changes made
without it cannot make a commit fail either: where other threads are alive, what is encoded is a
snapshot (see `snapshot`).
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn, Self

from . import durable, errors, loading, serializers
from .closed import closed_class
from .history import RECENT
from .integrity import Recovery, not_found, recovery_of
from .loading import Loaded
from .recovery import put_lost_aside
from .slots import COPIES, KEEP, Generation, Layout, Slot
from .snapshots import alone, snapshot
from .store import Store
from .survey import Folders

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
FLAGS: Final = ("r", "w", "c", "n")


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
    loaded. `timeout` is how many seconds to wait for another writer to close. With `shared`, the
    lock is held only while committing, so that several processes may have the store open; what
    they must not overwrite of each other's is noticed (`ConflictError`), see `commit`.

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
        timeout: float = 0.0,
        shared: bool = False,
    ) -> None:
        super().__init__()
        if flag not in FLAGS:
            raise ValueError(f"flag must be one of {', '.join(FLAGS)}, not {flag!r}")
        self._serializer = serializers.resolve(format)
        self._layout = Layout.of(os.fsdecode(path), copies, keep, history)
        self._store = Store(self._layout, mode=mode)
        self.lock = threading.RLock()  #: Hold it to change several items as one.
        self._shared, self._timeout = shared, timeout
        self._writers = 0  # how deep in calls that hold the store's lock, if it is shared
        self._transactions = 0  # how deep transactions are nested
        self._doomed = False  # one inside them failed
        self.path = self._layout.path
        self.flag = flag
        self.format = self._serializer.name
        self.recovery = None
        self._must_commit = True  # what is in memory is not what was loaded or committed last
        self._is_whole = True
        if flag != "r":
            self._store.lock.acquire(timeout)
        try:
            self._open(afresh=flag == "n")
            for key, value in (defaults or {}).items():
                if key not in self:
                    self[key] = copy.deepcopy(value)
        except BaseException:
            self._store.release()
            raise
        if shared:
            self._store.release()

    @property
    def generation(self) -> int:
        """The number of the generation last loaded or committed; 0 before the first."""
        return self._store.generation

    def sync(self) -> int:
        """Commit the state; return its generation once that is durable.

        A state that has not changed is not written again. Raises `UnstorableError`, with nothing
        written, if the format cannot hold the state; `CommitError` if no copy could be written,
        `ConflictError` if another writer was here. Warns (`RedundancyWarning`) if a copy failed.
        """
        self._commit()
        return self.generation

    def close(self) -> None:
        """Commit the state and let go of the store; do nothing if it is closed already.

        If the commit fails, the error is raised and the store stays open, so that nothing is lost:
        mend the cause and close again.
        """
        self._store.refuse_if_forked()
        with self.lock:
            if self.flag != "r":
                self.sync()
            self._release()

    def reload(self) -> int:
        """Take the newest generation from disk in place of what is in memory; return its number."""
        with self._writing() if self.flag != "r" else self.lock:
            self._open()
            return self.generation

    def changed(self) -> bool:
        """Tell whether somebody else has committed since; read trailers only, take no lock."""
        return loading.claimed(self._layout) not in (0, self.generation)

    def commit(self, function: Callable[[Self], object], *, retries: int = 10) -> int:
        """Take the newest state, let `function` change it, commit it; return its generation.

        For a store that is shared: what others have committed is taken first, under the lock, so
        that nothing of theirs is overwritten; what is in memory and not committed is given up. If
        somebody commits all the same (a lost lock, a network disk), it begins again, `retries`
        times. If `function` raises, nothing is committed and memory is as on disk.
        """
        while True:
            with self._writing():
                self._open()
                try:
                    function(self)
                    return self.sync()
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
            self._must_commit = False
            self._replace(state)
            return self.generation

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Commit what happens inside as a whole at its end; on an exception, undo it.

        Changes made before it are committed first, so that to undo means to go back to the last
        commit. A transaction inside another is part of it. The objects in the dict are new ones
        after an undo. Other threads' transactions and commits wait until it is over.
        """
        with self._writing():
            yield from self._transaction()

    def _transaction(self) -> Iterator[Self]:
        outermost = self._transactions == 0
        before = self._commit() if outermost else b""
        self._transactions += 1
        try:
            yield self
            if outermost:
                self._refuse_doomed()
                self._commit()
        except BaseException:
            self._doomed = True
            if outermost:
                self._replace(self._serializer.decode(before))
            raise
        finally:
            self._transactions -= 1
            self._doomed = self._doomed and not outermost

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

    def _open(self, *, afresh: bool = False) -> None:
        """Take the newest generation into memory, or what the recipe left; `afresh`: nothing."""
        store, lost = self._store.again(), None
        if self.flag == "r":
            loaded, healed = loading.load(self._layout), None
            store.generation = loaded.generation
        else:
            self._prepare_to_write()
            lost = put_lost_aside(self._layout) if afresh else None
            loaded, healed = store.open()
        try:
            if not afresh:
                self._replace(self._starting_state() if loaded.is_empty else self._decoded(loaded))
        except BaseException:
            self._store.ledger.doubt(store.ledger)
            raise
        self._store, self._must_commit = store, afresh or loaded.is_empty
        self.recovery = lost or recovery_of(loaded, healed)
        if self.recovery and not self.recovery.complete:
            errors.warn(str(self.recovery))

    def _starting_state(self) -> dict[Any, Any]:
        """Return what a store without a slot starts with: a plain file's content, or nothing."""
        content = plain_file(self.path)
        if content is not None:
            with _located(self._layout):
                return serializers.read_plain(content, self._serializer)
        if self.flag != "c":
            raise not_found(self.path)
        return {}

    def _decoded(self, loaded: Loaded) -> dict[Any, Any]:
        if loaded.survivor and loaded.format != self.format:
            refuse_format(self._layout, loaded.survivor, self.format)
        with _located(self._layout, loaded):
            return self._serializer.decode(loaded.payload)

    def _commit(self) -> bytes:
        """Commit the state and return its payload."""
        with self._writing():
            return self._commit_held()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other threads out, and other writers; let those in again if the store is shared."""
        self._store.refuse_if_forked()  # before a lock that no thread of a child can let go of
        with self.lock:
            self._prepare_to_write()
            self._writers += 1
            try:
                yield
            finally:
                self._writers -= 1
                if self._shared and self._writers == 0:
                    self._store.release()

    def _commit_held(self) -> bytes:
        if not self._is_whole:
            raise errors.BusyError(
                "an interrupt left the state in memory half replaced",
                path=self.path,
                safe=f"generation {self.generation} stands",
                action="reload()",
            )
        try:
            payload = self._serializer.encode(self if alone() else snapshot(self))
        except errors.FormatError as error:
            error.path = self.path
            raise
        if self._shared and not self._must_commit and self._store.unchanged(payload, self.format):
            return payload  # others may have committed since: that is no conflict
        self._store.commit(payload, self.format, even_if_unchanged=self._must_commit)
        self._must_commit = False
        return payload

    def _replace(self, state: dict[Any, Any]) -> None:
        self._is_whole = False  # an interrupt in between must not let half of it be committed
        self.clear()
        self.update(state)
        self._is_whole = True

    def _release(self) -> None:
        self._store.release()
        self.__class__ = closed_class(type(self))

    def _prepare_to_write(self) -> None:
        """Do what has to come before the store may be written to."""
        if self.flag == "r":
            raise errors.ReadOnlyError(
                "it was opened with flag 'r'",
                path=self.path,
                safe="nothing was changed",
                action="open it with flag 'w' to write",
            )
        # Shared, or the recipe's after close(). Who committed meanwhile is noticed at the commit.
        if not self._store.lock.held:
            self._store.lock.acquire(self._timeout)
            if self._store.lock.settled != self._store.ledger.note():
                self._store.ledger.unsettle()

    def _refuse_doomed(self) -> None:
        if self._doomed:
            raise errors.TransactionError(
                "a transaction inside this one failed, so nothing of it is committed",
                path=self.path,
                safe=f"generation {self.generation} stands, and memory is as it was committed",
            )


def load(
    path: Path,
    generation: int | None = None,
    *,
    format: object = None,
    folders: Folders | None = None,
) -> dict[Any, Any]:
    """Return the newest state at `path`, or that of `generation`, as a plain dict; take no lock.

    The format is what the slot says, if that is JSON or CSV; any other, pickle above all, only if
    `format` asks for it. Raises `NotFoundError`, `NoGenerationError`, `LostError`, `AccessError`,
    `FormatError`, `NewerVersionError`.
    """
    layout = Layout.of(os.fsdecode(path), folders or COPIES, KEEP)
    loaded = loading.load(layout, generation)
    if loaded.is_empty and generation is not None:
        raise not_found(layout.path)
    if loaded.is_empty:
        content = plain_file(layout.path)
        if content is None:
            raise not_found(layout.path)
        with _located(layout):
            return serializers.read_plain(content, serializers.resolve(format or "json"))
    chosen = (
        serializers.by_trailer_name(loaded.format)
        if format is None
        else serializers.resolve(format)
    )
    if chosen is None or chosen.name != loaded.format:
        raise errors.FormatError(
            f"it is stored as {loaded.format}",
            path=layout.path,
            generation=loaded.generation,
            safe="nothing was changed, and nothing was decoded",
            action=f"pass format={loaded.format!r}, if you trust who wrote it",
        )
    with _located(layout, loaded):
        return chosen.decode(loaded.payload)


@contextmanager
def _located(layout: Layout, loaded: Loaded | None = None) -> Iterator[None]:
    """Tell a `FormatError` where it happened."""
    try:
        yield
    except errors.FormatError as error:
        error.path = layout.path
        error.safe = "nothing was changed"
        error.action = layout.command("show")
        if loaded and loaded.survivor:
            error.slot, error.generation = loaded.survivor.name, loaded.generation
        raise


def refuse_format(layout: Layout, slot: Slot, format: str) -> NoReturn:
    """Raise, for a store that is to be opened in another format than it is stored in."""
    stored = slot.trailer.format if slot.trailer else "?"
    raise errors.FormatError(
        f"it is stored as {stored}, not as {format}",
        path=layout.path,
        slot=slot.name,
        generation=slot.generation,
        safe="nothing was changed",
        action=f"open it with format={stored!r}",
    )


def plain_file(path: str) -> bytes | None:
    """Return the content of the file at the store's own path, None if there is none."""
    try:
        return durable.read_plain(path)
    except OSError as error:
        raise errors.refusal(
            error,
            "the plain file there cannot be read",
            path=path,
            safe="nothing was changed, and the store is not taken for empty",
            action="make it readable, or move it away",
        ) from error
