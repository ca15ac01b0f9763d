"""The dict: a `RedunDict` lives in memory and commits itself with `sync`. Knows no slots.

To read and to change it is dict's own code at dict's own speed. Only the methods below reach the
store, which this module knows as `Stored` only.

Invariants: whatever fails, memory is as the caller left it or as a commit was, never something in
between. Memory and store agree before anything is told (law 14).

Threads: `lock` is held while a state is encoded or replaced, and throughout a transaction, so no
thread commits what another one has half changed under it. It is not held while the disk is written
to. Commits come in the order in which their states were encoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from . import errors, lifetime, loading, options, recovery
from .committer import Backgrounded, Commit, Encoded
from .engine.history import History
from .engine.layout import COPIES, KEEP, Copies
from .engine.newest import Loaded
from .engine.slots import Generation
from .engine.store import Outcome, Store
from .events import Event, Events
from .options import Flag, K, Path, V
from .report import Recovery, not_found, recovery_of
from .stored import Stored
from .transactions import Transaction, Transactions, modify

Result = TypeVar("Result")


class RedunDict(Backgrounded, lifetime.Mortal, dict[K, V]):
    """A dict of which every `sync` is a durable, checksummed, numbered generation.

    What is unsaved when the interpreter exits is saved. A store that nobody refers to any more is
    closed; if something in it was unsaved, with a `ResourceWarning`.

    Args:
        path: Names the store. Its files are `path` + ``.a0``, ``.b0``, and so on.
        flag: As in dbm: ``r`` read only, without a lock; ``w`` an existing store; ``c`` create it
            if need be; ``n`` start empty, with the old generations kept for a rollback.
        mode: The permission bits of the files, set before they have content.
        format: ``"json"``, ``"csv"``, ``"pickle"``, or an object with ``dumps``/``loads`` or
            ``dump``/``load``.
        copies: A number, or one folder for each copy.
        keep: How many generations stay.
        history: Which generations stay: the last ones (``"recent"``), or the last two, the one that
            this opening found, and others that are spread out over time (``"thinned"``). By
            default, thinned from ``keep=4`` on.
        defaults: Lie under every state that enters memory; nested dicts are filled in, too.
        timeout: Seconds to wait for another writer; by default 0, or 10 if `shared`.
        shared: Hold the lock only while committing, so several processes can have the store open.
            A commit on top of what another process committed is a `ConflictError`.
        autosync: Seconds after which a change is committed, in a background thread. Each round
            costs as much as a `sync`. None: never.
        on_event: Is called with an `Event` when damage was found on opening, when a commit is not
            in every copy, and when one failed in the background; in the thread in which it
            happened. The logger ``redundict`` is told the same.

    Attributes:
        path: The absolute path of the store.
        flag: As given.
        format: The name of the format.
        recovery: What was found damaged when memory was last loaded; None if nothing was.
        lock: Hold it to change several items as one.

    Raises:
        LockedError: If another writer has the store open.
        NotFoundError: With flag ``r`` or ``w``, if there is no store.
        LostError: If no slot verifies.
        AccessError: If a slot that may be the newest cannot be looked at.
        DivergedError: If two copies hold different content under one number.
        FormatError: If the store has another format.
        NewerVersionError: If a newer redundict wrote it.

    """

    _is_assignable: ClassVar = False  #: Whether a reader may change what it has in memory.

    path: str
    flag: Flag
    format: str
    recovery: Recovery | None
    lock: Any  # a reentrant lock: a type that threading does not name
    _turn: Any  # to read and to write the store; whoever takes `lock` as well takes that first
    _transactions: Transactions
    _order: int  # the number of states that were encoded; see `Encoded`
    _committed: int  # states up to this order are durable, or were given up
    _incoming: tuple[str | None, dict[Any, Any]] | None  # see `_adopt_incoming`

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
        self._store: Stored = Store(chosen.layout, mode=mode)
        self._events = Events(self.path, on_event)
        self._begin_alone()
        try:
            if flag != "r":
                self._store.acquire(chosen.timeout)
            self._open()
            if autosync:
                self._background().start()
        except BaseException:
            self._store.release()
            del self._store  # nothing is open, so `__init__` may be called again
            raise
        self._let_others_in()
        if flag != "r":
            lifetime.register(self)
        elif not self._is_assignable:
            self.__class__ = lifetime.read_only_class(type(self))

    # --- what a program calls

    def sync(self) -> int:
        """Commit the state; return its generation once that is durable.

        A state that has not changed is not written again. A copy that could not be written is
        reported (`RedundancyWarning`) and tried again by the next `sync`. After a crash, this
        generation loads; or the one before, if the crash came before this returned.

        Raises:
            UnstorableError: If the format cannot hold the state; nothing was written.
            CommitError: If no copy could be written; the generation before is untouched.
            ConflictError: If another writer has committed; nothing was overwritten.
            TransactionError: Inside a transaction, which commits at its end.

        """
        outcome = self._commit(self._encode())
        self._tell(outcome)
        return outcome.generation

    def sync_soon(self) -> Commit:
        """Take the state as it is now and commit it in the background.

        Commits stay in order. A state that waits while a newer one comes is left to the newer one,
        which answers for both. `close` waits for all.

        Returns:
            A `concurrent.futures.Future` of the generation, which can also be awaited. It gets the
            errors of the disk. To cancel it does not cancel the commit.

        Raises:
            UnstorableError: If the format cannot hold the state.
            TransactionError: Inside a transaction.

        """
        return self._background().commit_soon(self._encode())

    def close(self) -> None:
        """Commit the state and let go of the store; do nothing if it is closed already.

        If the commit fails, the error is raised and the store stays open, so nothing is lost: mend
        the cause and close again.

        Raises:
            UnstorableError, CommitError, ConflictError, TransactionError: As `sync`.

        """
        if isinstance(self, lifetime.Closed):  # a bound method of before
            return
        self._store.refuse_in_child()
        with self.lock:
            outcome = self._commit(self._encode()) if self.flag != "r" else None
            self._release()
        self._tell(outcome)

    def reload(self) -> int:
        """Take the newest generation from disk in place of what is in memory; return its number.

        Changes in memory that were not committed are given up. With flag ``r``, only trailers are
        read if nobody has committed since, and memory stays as it is.

        Raises:
            LostError, AccessError, DivergedError, FormatError: As on opening. Memory then stays as
                it is.

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
                    self._adopt_incoming()  # does nothing, unless an interrupt came in between
                    self._let_others_in()
        if is_stale:
            self._tell_recovery()
        return self.generation

    def changed(self) -> bool:
        """Return True if another process has committed since this one last loaded or committed.

        Reads trailers only, and takes no lock.
        """
        return self._store.has_changed()

    def modify(self, function: Callable[[Self], Result], *, timeout: float | None = None) -> Result:
        """Take the newest state, let `function` change it, and commit it.

        For a store that is shared: what others have committed is taken first, under the lock, so
        nothing of theirs is overwritten. What is in memory and not committed is given up. It is a
        transaction: if `function` raises, nothing is committed, and memory is as on disk.

        Args:
            function: Is called with this dict. It is called again if another process committed all
                the same (a lost lock, a network disk).
            timeout: Seconds to try; by default those that the store was opened with.

        Returns:
            What `function` returned.

        Raises:
            LockedError, ConflictError: If it did not succeed in time.

        """
        return modify(self, function, self._options.timeout if timeout is None else timeout)

    def generations(self) -> list[Generation]:
        """Return the generations that load, newest first, from a full verification."""
        return self._store.generations()

    def rollback(self, to: int | None = None) -> int:
        """Commit an older generation as a new one, and take it into memory; return its number.

        What is in memory and was not committed is given up. What was committed stays, so a rollback
        can be rolled back. After a crash, the new generation loads; or the one before, if the crash
        came before this returned.

        Args:
            to: The number of the generation; by default, that of the one before the present one.

        Raises:
            NotFoundError: If that generation does not load; nothing was changed.
            CommitError, ConflictError, TransactionError: As `sync`.

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
                    self._adopt_incoming()  # does nothing, unless an interrupt came in between
                    self._let_others_in()
        self._tell(outcome)
        return outcome.generation

    def transaction(self) -> Transaction[Self]:
        """Commit what happens inside as a whole at its end; on an exception, undo it.

        Changes made before it are committed first, so to undo means to go back to the last commit.
        A transaction inside another is part of it. Any other commit is refused inside
        (`TransactionError`). It belongs to a thread and an asyncio task: other threads wait, and
        another task waits with ``async with`` and is refused with ``with``. The objects in the dict
        are new ones after an undo.

        Returns:
            A context manager, for ``with`` and for ``async with``. The end of either waits for the
            disk.

        """
        return Transaction(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_at_last()

    def _close_at_last(self) -> None:
        try:
            self._transactions.end_abandoned()
            self.close()
        except BaseException:
            self._release()  # the name is going out of scope: nobody could close it again
            raise

    def __reduce_ex__(self, _: object) -> tuple[Any, ...]:
        # A copy or a pickle is a plain dict: there is one writer to a store.
        return dict, (dict(self),)

    # --- memory to store

    def _encode(self) -> Encoded:
        """Return the state as it is now, as a payload. Its place in the order is when it began."""
        self._refuse_unready()
        with self.lock:
            self._refuse_closed()
            self._transactions.refuse_inside()
            encoded = self._encode_now()
        return encoded  # noqa: RET504 - an interrupt before it must find the lock free

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
            if is_due and self._options.shared:  # others may have committed: that is no conflict
                is_due = not self._store.is_committed(encoded.payload, self.format)
            if is_due:
                try:
                    self._store.acquire(self._options.timeout)
                    outcome = self._store.commit(encoded.payload, self.format)
                finally:
                    self._let_others_in()
            self._committed = max(self._committed, encoded.order)
        return outcome or Outcome(self.generation, {})

    def _begin_exclusive(self, timeout: float | None = None) -> None:
        """Commit what `sync_soon` was given, then take the store's lock, in a turn."""
        self._refuse_closed()
        self._transactions.refuse_inside()
        self._commit_waiting()
        self._store.acquire(self._options.timeout if timeout is None else timeout)

    def _commit_waiting(self) -> None:
        """Commit what `sync_soon` was given, before anything else happens to memory."""
        if self._committer and not self._transactions.is_open:
            self._committer.commit_waiting(self)

    def _let_others_in(self) -> None:
        """Let go of the lock between two commits, if the store is shared."""
        with self._turn:  # another thread may be in the middle of a commit
            if self._options.shared and not self._transactions.is_open:
                self._store.release()

    # --- store to memory

    def _open(self) -> None:
        """Take the newest generation into memory, or what the recipe left; flag ``n``: nothing."""
        put_aside = None
        if self.flag == "n":
            put_aside = recovery.put_lost_aside(self._options.layout)
            self._store.heal(self._store.read())
            self._store.forget_content()
            self._replace(options.filled_in({}, self._options.defaults))
        else:
            self._load()
        self.recovery = put_aside or self.recovery
        self._tell_recovery()

    def _load(self) -> Loaded:
        """Take the newest generation into memory and return it; raise with memory as it was."""
        found = self._store.read()
        state = self._state_of(found)
        self._incoming = (self._store.digest, state)
        found, healed = self._store.heal(found)
        self._replace(state)
        if found.is_empty:
            self._store.forget_content()
        self.recovery = recovery_of(found, healed) if found.flaws() else None
        return found

    def _tell(self, outcome: Outcome | None) -> None:
        """Tell if a commit did not reach every copy. Memory and store agree already (law 14)."""
        if outcome and outcome.failures:
            self._events.committed(outcome)

    def _tell_recovery(self) -> None:
        if self.recovery:
            self._events.recovered(self.recovery)

    def _state_of(self, found: Loaded) -> dict[Any, Any]:
        chosen = self._options
        is_new = found.is_empty
        state = self._starting_state() if is_new else loading.decoded(found, chosen.format)
        return options.filled_in(state, chosen.defaults)

    def _starting_state(self) -> dict[Any, Any]:
        """Return what a store without a slot starts with: a plain file's content, or nothing."""
        state = loading.left_by_the_recipe(self._options.layout, self._options.format)
        if state is None and self.flag != "c":
            raise not_found(self.path)
        return state or {}

    def _replace(self, state: dict[Any, Any]) -> None:
        """Replace memory, whatever interrupts it; what was encoded before is given up."""
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

    def _adopt_incoming(self) -> None:
        """Take into memory what an interrupted call made durable (law 14)."""
        if self._incoming is None:
            return
        before, state = self._incoming
        if before is None or before != self._store.digest:
            self._replace(state)
        self._incoming = None

    # --- what may not be done now

    def _refuse_unready(self) -> None:
        """Raise if this store is not to be written at all, or not at this moment."""
        if self.flag == "r":
            raise errors.read_only(self.path)
        self._refuse_busy()

    def _refuse_closed(self) -> None:
        """Raise if another thread has closed the store while this one waited for its lock."""
        if isinstance(self, lifetime.Closed):
            raise errors.closed(self.path)

    def _refuse_busy(self) -> None:
        """Raise in a child of fork, and in a signal handler that interrupts a call."""
        self._store.refuse_in_child()  # before a lock that no thread of a child can let go of
        if self._turn._is_owned():  # noqa: SLF001 - as `threading.Condition` asks it
            raise errors.busy(self.path)

    # --- the end

    def _begin_alone(self) -> None:
        """Begin without threads and with nothing under way: a child's are its parent's."""
        self.lock = threading.RLock()
        self._turn = threading.RLock()
        self._transactions = Transactions(self.path)
        self._committer = None
        self._order = self._committed = 0
        self._incoming = None

    def _release(self) -> None:
        try:
            self._let_go()
        finally:
            lifetime.unregister(self)
            self.__class__ = lifetime.closed_class(type(self))


open = RedunDict  #: As in dbm and shelve: ``redundict.open(path, flag)``.
