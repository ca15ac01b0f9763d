"""The dict: a `RedunDict` lives in memory and commits its state with `sync`.

Reads and changes run the code of `dict` itself, at its speed. (In a transaction, changes are noted;
see `noting`.) Only the methods below use the store.
This module knows the store by the Protocol `Stored`. It must not know slots.

Invariants: after any failure, memory is as the caller left it or as a commit left it, and never a
mixture. Memory and store agree before anything is reported (law 14).

Threads: a thread holds `lock` while it encodes or replaces a state, and during a transaction. So no
thread commits a state that another one is changing under the lock. A `sync` does not hold `lock`
while it writes to the disk. States are committed in the order in which they were encoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Self, TypeVar

from . import errors, evidence, lifetime, loading, options, recovery
from .committer import Backgrounded, Commit, Encoded
from .engine.history import History
from .engine.layout import COPIES, KEEP, Copies
from .engine.newest import Loaded
from .engine.slots import Generation
from .engine.store import Outcome, Store
from .events import Event, Events
from .formats.resolve import safe_format
from .noting import Notes, end_noting
from .options import Flag, K, Path, V
from .report import Recovery, file_of_a_store, not_found, recovery_of
from .stored import Stored
from .transactions import Transaction, Transactions, modify

Result = TypeVar("Result")
_SMALL: Final = 1 << 20  #: Bytes of a payload that is encoded again at a fork.


class RedunDict(Backgrounded, lifetime.Mortal, dict[K, V]):
    """A dict whose every `sync` writes a durable, checksummed, numbered generation.

    When the interpreter exits, unsaved changes are saved. When nothing refers to a store any more,
    it is closed; if it had unsaved changes, they are saved and a `ResourceWarning` says so.

    Args:
        path: The path of the store. Its files are `path` + ``.a0``, ``.b0``, and so on.
        flag: As in dbm. ``r`` reads without a lock. ``w`` opens an existing store. ``c`` creates
            the store if it does not exist. ``n`` starts empty and keeps the old generations for a
            rollback.
        mode: The permission bits of the files. They are set before content is written.
        format: ``"json"``, ``"csv"``, ``"literal"``, ``"pickle"``, or an object with
            ``dumps``/``loads`` or ``dump``/``load``.
        copies: The number of copies, or a list of their folders.
        keep: How many generations each copy holds.
        history: ``"recent"`` keeps the last generations. ``"thinned"`` keeps the last two, the one
            that this opening found, and others that are spread out over time. The default is
            ``"thinned"`` from ``keep=4`` on.
        defaults: Values for keys that a loaded state lacks, also in nested dicts.
        timeout: Seconds to wait for another writer. The default is 0, or 10 if `shared`.
        shared: Hold the lock only during a commit, so several processes can have the store open. If
            another process has committed in between, `sync` raises a `ConflictError`.
        autosync: Seconds between two automatic commits in a background thread. Each one costs as
            much as a `sync`. None for no automatic commits.
        on_event: A function that is called with an `Event` when damage was found, when a commit is
            not durable in every copy, and when a background commit failed. It runs in the thread in
            which that happened. The logger ``redundict`` gets the same messages.

    Attributes:
        path: The absolute path of the store.
        flag: The flag that was given.
        format: The name of the format.
        recovery: The damage that the last load found; None if there was none.
        lock: A reentrant lock. Hold it to change several items as one.

    Raises:
        LockedError: If another writer has the store open.
        NotFoundError: With flag ``r`` or ``w``, if there is no store.
        LostError: If no slot verifies.
        AccessError: If a slot that may hold the newest generation may not be read.
        StorageError: If the lock file cannot be created or locked.
        DivergedError: If two copies hold different content under one number.
        FormatError: If the store has another format.
        NewerVersionError: If a newer version of redundict wrote it.
        ValueError: If an argument is out of range, or does not fit another one.
        TypeError: If an argument has the wrong type.

    """

    _is_assignable: ClassVar = False  #: True if flag 'r' allows changes in memory.

    path: str
    flag: Flag
    format: str
    recovery: Recovery | None
    lock: Any  # an RLock, whose type `threading` does not name
    _turn: Any  # an RLock for each use of the store; a thread that needs both takes `lock` first
    _transactions: Transactions
    _notes: Notes
    _order: int  # the number of states that were encoded; see `Encoded`
    _committed: int  # states up to this order are durable, or a load has replaced them
    _incoming: tuple[str | None, dict[Any, Any]] | None  # see `_adopt_incoming`
    _inherited: bytes | None  # in a child of fork: the digest of the parent's uncommitted state
    _overlooked: str | None  # the warning of a newer plain file
    _loaded: Loaded | None  # of a shared store, until it commits; see `_is_as_loaded`

    def __init__(
        self,
        path: Path,
        flag: Flag = "c",
        mode: int | None = None,
        *,
        format: object = "json",
        copies: Copies = COPIES,
        keep: int = KEEP,
        history: History | None = None,
        defaults: Mapping[Any, Any] | None = None,
        timeout: float | None = None,
        shared: bool = False,
        autosync: float | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if "_store" in vars(self):
            raise errors.opened_twice(self.path)
        super().__init__()
        chosen = options.checked(
            path, flag, copies, keep, history, format, defaults, timeout, shared, autosync
        )
        self._options = chosen
        self.path, self.flag, self.format = chosen.layout.path, flag, chosen.format.name
        self.recovery = None
        self._store: Stored = Store(chosen.layout, mode=mode, is_state=evidence.is_state)
        self._events = Events(self.path, on_event)
        self._incoming = self._loaded = self._inherited = self._overlooked = None
        self._begin_alone()
        try:
            if flag != "r":
                self._store.acquire(chosen.timeout)
            self._open()
            if autosync:
                self._start_autosync()
            self._let_others_in()
            lifetime.stores.add(self)
        except BaseException:
            lifetime.stores.remove(self)
            self._store.abandon()
            del self._store  # nothing is open, so `__init__` may be called again
            raise
        if flag == "r" and not self._is_assignable:
            self.__class__ = lifetime.read_only_class(type(self))

    # --- public methods

    def sync(self) -> int:
        """Commit the state; return when it is durable in at least one copy.

        An unchanged state is not written again. A copy that cannot be written is reported with a
        `RedundancyWarning`. The next `sync` writes it again. After a crash, this generation loads.
        If the crash came before this returned, the generation before it may load instead.

        Returns:
            The number of the durable generation.

        Raises:
            UnstorableError: If the format cannot store the state. Nothing was written.
            CommitError: If no copy could be written. The generation before is untouched.
            ConflictError: If another writer has committed. Nothing was overwritten.
            LockedError: If another process holds the lock of a shared store after `timeout`.
            ReadOnlyError: If the store was opened with flag ``r``.
            TransactionError: Inside a transaction, which commits at its end; in a fork of the
                process that opened the store; in a signal handler that interrupts a commit.

        """
        outcome = self._commit(self._encode())
        self._tell(outcome)
        return outcome.generation

    def sync_soon(self) -> Commit:
        """Encode the present state, and commit it in the background.

        States are committed in order. If a newer state comes while one waits, only the newer one is
        written, and its generation is the result for both. `close` waits for all commits. After a
        crash, the state is sure to load only if the future was completed.

        Returns:
            A `concurrent.futures.Future` of the generation, which can also be awaited. An error of
            the store becomes its exception. Its cancellation does not cancel the commit.

        Raises:
            UnstorableError: If the format cannot store the state.
            ReadOnlyError: If the store was opened with flag ``r``.
            TransactionError: As `sync` raises it.

        """
        return self._background().commit_soon(self._encode())

    def close(self) -> None:
        """Commit the state and release the store; do nothing if it is closed already.

        If the commit fails, the store stays open and nothing is lost. Remove the cause and close
        again. With flag ``r``, nothing is committed.

        Raises:
            RedundictError: As `sync` raises it. The store is still open.
            RedundancyWarning: If a filter turns the warning of a copy that could not be written
                into an error. The state is durable, and the store is closed.

        """
        if isinstance(self, lifetime.Closed):  # a method that was bound before the close
            return
        self._store.refuse_in_child()
        with self.lock:
            outcome = self._commit_at_end() if self.flag != "r" else None
            self._stop_background()  # complete the futures, while an interrupt leaves it open
            self._release()
        self._tell(outcome)

    def reload(self) -> int:
        """Replace the state in memory by the newest generation on disk.

        Changes that were not committed are lost. With flag ``r``, memory is replaced only if
        another process has committed; otherwise only trailers are read.

        Returns:
            The number of the loaded generation.

        Raises:
            RedundictError: As opening the store raises it. Memory is unchanged.
            TransactionError: As `sync` raises it. Memory is unchanged.

        """
        self._refuse_busy()
        self._commit_waiting()
        is_reader = self.flag == "r"
        with self.lock, self._turn:
            try:
                if not is_reader:
                    self._begin_exclusive()
                is_stale = not (is_reader and self._store.digest) or self._store.has_changed()
                if is_stale:
                    self._load()
            finally:
                try:
                    self._adopt_incoming()
                finally:
                    self._adopt_incoming()  # works only if an interrupt ended the first
                    self._let_others_in()
        if is_stale:
            self._tell_recovery()
        return self.generation

    def changed(self) -> bool:
        """Return True if another process has committed since this one last loaded or committed.

        This reads only trailers and takes no lock.

        Raises:
            RedundictError: If a slot cannot be judged: a newer version of redundict wrote it, or
                the folder cannot be listed.

        """
        return self._store.has_changed()

    def modify(self, function: Callable[[Self], Result], *, timeout: float | None = None) -> Result:
        """Load the newest state, let a function change it, and commit it.

        This is the safe way to change a shared store. The newest state is loaded under the lock, so
        no commit of another process is overwritten. Changes in memory that were not committed are
        lost. If the function raises, nothing is committed, and memory is as on disk. After a crash,
        all changes of the function load, or none.

        Args:
            function: Is called with this dict. It is called again if another process committed in
                spite of the lock (a network disk may lose a lock).
            timeout: Seconds to try. The default is the `timeout` that the store was opened with.

        Returns:
            The result of the function.

        Raises:
            LockedError: If another process holds the lock after `timeout` seconds.
            ConflictError: If other processes still commit in between after `timeout` seconds.
            RedundictError: As `sync` and `reload` raise it.

        """
        return modify(self, function, self._options.timeout if timeout is None else timeout)

    def generations(self) -> list[Generation]:
        """Read and verify every slot; return the generations that load, newest first."""
        return self._store.generations()

    def rollback(self, to: int | None = None) -> int:
        """Commit an older generation again as a new one, and load it into memory.

        Changes in memory that were not committed are lost. The present generation stays on disk, so
        a second rollback can undo the first. After a crash, the new generation loads. If the crash
        came before this returned, the present one may load instead.

        Args:
            to: The number of the generation. None takes the one before the present one.

        Returns:
            The number of the new generation.

        Raises:
            NotFoundError: If that generation does not load, or is the present one. Nothing was
                changed.
            RedundictError: As `sync` raises it.

        """
        self._refuse_unready()
        self._commit_waiting()
        with self.lock, self._turn:
            try:
                self._begin_exclusive()
                target = recovery.rollback_target(self._options.layout, self.generation, to)
                self._incoming = (self._store.digest, self._state_of(target))
                outcome = recovery.commit_again(self._store, target)
            finally:
                try:
                    self._adopt_incoming()
                finally:
                    self._adopt_incoming()  # works only if an interrupt ended the first
                    self._let_others_in()
        self._tell(outcome)
        return outcome.generation

    def transaction(self) -> Transaction[Self]:
        """Return a context manager that commits all changes at its end, or undoes them.

        An exception undoes the changes. Earlier changes are committed at the beginning, so an undo
        goes back to that commit. It puts new objects into the dict. After a crash, all changes of
        the transaction load, or none.

        An inner transaction is part of the outer one. Any other commit inside raises a
        `TransactionError`. A transaction belongs to one thread and one asyncio task. Other threads
        wait for its end. Another task waits with ``async with``; with ``with``, it gets a
        `TransactionError`.

        Returns:
            A context manager for ``with`` and ``async with``. The end of both waits for the disk.

        """
        return Transaction(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_at_last()

    def _close_at_last(self) -> None:
        """Save and close, or report why not. In any case, release: nobody can close it again."""
        try:
            self._end()
        except errors.RedundictError:
            raise
        except BaseException:  # an interrupt, which goes on when the state is saved
            try:
                self._end()
            except errors.RedundictError as error:
                self._events.failed(error)
            raise
        finally:
            self._release()

    def _end(self) -> None:
        with self.lock:  # the transaction of another thread ends by itself
            self._transactions.end_abandoned()
        self.close()

    def __reduce_ex__(self, _: object) -> tuple[Any, ...]:
        # A copy or a pickle is a plain dict, because a store has only one writer.
        # Its items come last, so a copy of a store that contains itself contains itself.
        return dict, (), None, None, iter(list(self.items()))

    # --- memory to store

    def _encode(self) -> Encoded:
        """Return the present state as a payload, with the order in which encoding began."""
        self._refuse_unready()
        with self.lock:
            self._refuse_closed()
            self._transactions.refuse_inside()
            encoded = self._encode_now()
        return encoded  # noqa: RET504 - an interrupt before `return` must find the lock released

    def _encode_now(self) -> Encoded:
        self._adopt_incoming()
        self._order = order = self._order + 1
        try:
            encoded = Encoded(order, self._options.format.encode(self))
        except errors.FormatError as error:
            error.path = self.path
            raise
        return encoded

    def _commit(self, encoded: Encoded) -> Outcome:
        """Commit a state, unless a newer one is durable or has replaced it in memory."""
        outcome = None
        with self._turn:
            is_due = encoded.order > self._committed
            if is_due and self._options.shared:  # unchanged: the commits of others do not matter
                is_unchanged = self._store.is_committed(encoded.payload, self.format)
                is_due = not (is_unchanged and self._store.is_kept())
            if is_due:
                try:
                    self._store.acquire(self._options.timeout)
                    outcome = self._store.commit(encoded.payload, self.format)
                finally:
                    self._let_others_in()
            self._committed = max(self._committed, encoded.order)
            self._loaded = None
        return outcome or Outcome(self.generation, {})

    def _commit_at_end(self) -> Outcome | None:
        """Commit the state, unless it is as it was loaded and another process has committed."""
        encoded = self._encode()
        try:
            return self._commit(encoded)
        except errors.ConflictError as conflict:
            if isinstance(conflict, errors.DivergedError):
                raise
            if self._is_as_loaded(encoded):
                return None
            if not self._store.is_committed(encoded.payload, self.format):
                raise
            self._events.noticed(errors.overtaken(conflict))
            return None

    def _is_as_loaded(self, encoded: Encoded) -> bool:
        """Return True if nothing was changed since a shared store was loaded.

        The payload on disk cannot tell. A format may write an equal state in another way, and
        defaults may have been added.
        """
        if self._loaded is None:
            return False
        try:
            return self._options.format.encode(self._state_of(self._loaded)) == encoded.payload
        except errors.RedundictError:
            return False

    def _sync_at_end(self) -> None:
        """Commit the state at exit."""
        self._tell(self._commit_at_end())

    def _begin_exclusive(self, timeout: float | None = None) -> None:
        """Commit the states of `sync_soon`, then take the lock of the store. `_turn` is held."""
        self._refuse_closed()
        self._transactions.refuse_inside()
        self._commit_waiting()
        self._store.acquire(self._options.timeout if timeout is None else timeout)

    def _commit_waiting(self) -> None:
        """Commit the states of `sync_soon` before memory is replaced."""
        if self._committer and not self._transactions.is_open:
            self._committer.commit_waiting(self)

    def _let_others_in(self) -> None:
        """Release the lock of a shared store between two commits."""
        with self._turn:  # wait for the commit of another thread
            if self._options.shared and not self._transactions.is_open:
                self._store.release()

    # --- store to memory

    def _open(self) -> None:
        """Load the newest generation, or the recipe's plain file. With flag ``n``, start empty."""
        put_aside = None
        if self.flag == "n":
            put_aside = recovery.put_lost_aside(self._options.layout)
            found = self._store.read(anew=True)
            self._refuse_file_of_a_store(found)
            self._store.heal(found)
            self._store.forget_content()
            self._replace(options.filled_in({}, self._options.defaults))
        else:
            self._load()
        self.recovery = put_aside or self.recovery
        self._tell_recovery()

    def _load(self) -> Loaded:
        """Load the newest generation into memory and return it; an error changes nothing."""
        found = self._store.read()
        self._refuse_file_of_a_store(found)
        state = self._state_of(found)
        self._incoming = (self._store.digest, state)
        found, healed = self._store.heal(found)
        self._replace(state)
        self._loaded = found if self._options.shared else None
        if found.is_empty:
            self._store.forget_content()
        is_in_order = not found.flaws() and not found.misses_noted
        self.recovery = None if is_in_order else recovery_of(found, healed)
        if not found.is_empty:
            self._overlooked = loading.newer_plain_file(found, state, self._options.format)
        return found

    def _tell(self, outcome: Outcome | None) -> None:
        """Report the end of a commit. Memory and store agree (law 14)."""
        if outcome and not outcome.is_silent:
            self._events.committed(outcome)

    def _tell_recovery(self) -> None:
        if self.recovery:
            self._events.recovered(self.recovery)
        if self._overlooked:
            self._events.noticed(self._overlooked)

    def _state_of(self, found: Loaded) -> dict[Any, Any]:
        chosen = self._options
        is_new = found.is_empty
        state = self._starting_state() if is_new else loading.decoded(found, chosen.format)
        return options.filled_in(state, chosen.defaults)

    def _starting_state(self) -> dict[Any, Any]:
        """Return the first state of a new store: the content of the recipe's file, or nothing."""
        state = loading.left_by_the_recipe(self._options.layout, self._options.format)
        if state is None and self.flag != "c":
            raise not_found(self.path)
        return state or {}

    def _replace(self, state: dict[Any, Any]) -> None:
        """Replace memory, even if an interrupt comes. States that were encoded before are void."""
        self._incoming = (None, state)
        try:
            dict.clear(self)
            dict.update(self, state)
        except BaseException:
            dict.clear(self)
            dict.update(self, state)
            self._incoming = None
            raise
        self._committed = self._order
        self._incoming = None

    def _undo(self, state: dict[Any, Any]) -> None:
        """Replace memory at the end of a transaction; keep the items that others assigned."""
        with self._notes.lock:
            self._notes.add_to(state)
            self._replace(state)

    def _adopt_incoming(self) -> None:
        """Load into memory the state that an interrupted call made durable (law 14)."""
        if self._incoming is None:
            return
        before, state = self._incoming
        if before is None or before != self._store.digest:
            self._replace(state)
        self._incoming = None

    # --- refusals

    def _refuse_file_of_a_store(self, found: Loaded) -> None:
        """Raise if the path is that of a slot or of a lock, so that no second store is made."""
        if found.survivor is None and (error := file_of_a_store(self.path)):
            raise error
        if found.survivor is None and os.path.exists(self.path) and not os.path.isfile(self.path):
            raise errors.plain_file_refused(OSError("not a regular file"), self.path)

    def _refuse_unready(self) -> None:
        """Raise if this store cannot be written, or not at this moment."""
        if self.flag == "r":
            raise errors.read_only(self.path)
        self._refuse_busy()

    def _refuse_closed(self) -> None:
        """Raise if another thread closed the store while this one waited for `lock`."""
        if isinstance(self, lifetime.Closed):
            raise errors.closed(self.path)

    def _refuse_busy(self) -> None:
        """Raise in a child of fork, and in a signal handler that interrupts a call."""
        self._store.refuse_in_child()  # first: a fork may hold a lock for ever
        if self._turn._is_owned():  # noqa: SLF001 - as `threading.Condition` does
            raise errors.busy(self.path)

    # --- the end

    def _begin_alone(self) -> None:
        """Start with new locks and without threads, in `__init__` and in a child of fork."""
        self.lock = threading.RLock()
        self._turn = threading.RLock()
        self._transactions = Transactions(self.path)
        self._notes = self._transactions.notes
        self._committer = None
        self._order = self._committed = 0

    def _begin_as_child(self) -> None:
        end_noting(self, self._notes)  # a child is in no transaction of its parent
        super()._begin_as_child()

    def _has_unsaved_changes(self) -> bool:
        if self.flag == "r" or not (self or self.generation):
            return False
        try:
            payload = self._options.format.encode(self)
        except errors.FormatError:
            return True
        if self._inherited == hashlib.sha256(payload).digest():
            return False
        return not self._store.is_committed(payload, self.format)

    def _note_inherited_state(self) -> None:
        # A fork must stay cheap. And it must not run code of the application, which may wait for a
        # lock of a thread that the child does not have.
        own = safe_format(self.format)
        if type(own) is type(self._options.format) and self._store.length <= _SMALL:
            with contextlib.suppress(errors.FormatError):
                payload = self._options.format.encode(self)
                self._inherited = hashlib.sha256(payload).digest()

    def _release(self) -> None:
        """Release the store and close the dict. After an interrupt, call it again."""
        if isinstance(self, lifetime.Closed):
            return
        self._let_go()
        lifetime.stores.remove(self)
        self.__class__ = lifetime.closed_class(type(self))


open = RedunDict  #: As in dbm and shelve: ``redundict.open(path, flag)``.
