"""Transactions: one thread and one asyncio task changes several items of a dict as one.

The lock of the dict keeps other threads out. It cannot tell two tasks of one thread apart, so this
module records the task. It also contains `modify`. It must not know slots or files.

Invariants: no other thread or task ever joins a transaction. After an exception, memory is as it
was at the last commit, except for items that other threads and tasks assigned meanwhile.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from . import errors
from .committer import Encoded
from .engine.clock import Wait
from .engine.newest import Loaded
from .engine.store import Outcome
from .noting import Notes, begin_noting, end_noting
from .options import Options, filled_in
from .stored import Stored

_PAUSE: Final = 0.001  #: Seconds before the second try to begin a transaction; then twice as many.
_CONFLICT_PAUSE: Final = 0.01  #: Seconds before `modify` tries again after a conflict.
_LONGEST_PAUSE: Final = 0.05  #: Seconds between two tries to begin a transaction, at most.


@dataclass(slots=True)
class Transactions:
    """The open transactions of one dict, each inside the one before.

    The caller of each method holds the lock of the dict.
    """

    path: str
    depth: int = 0  #: The number of open transactions.
    has_failed: bool = False  #: An inner transaction failed, so the outermost cannot commit.
    notes: Notes = field(default_factory=Notes)  #: The items that others assigned meanwhile.
    _outermost: Callable[[], Transaction[Any] | None] = lambda: None

    @property
    def is_open(self) -> bool:
        """True if a transaction is open."""
        return self.depth > 0

    def belongs_to_other_task(self) -> bool:
        """Return True if another task of this thread has an open transaction."""
        return self.is_open and not self.notes.is_own()

    def begin(self, transaction: Callable[[], Transaction[Any] | None]) -> None:
        """Begin a transaction, alone or inside another one of the same task.

        Args:
            transaction: Returns the object to undo if an interrupt prevents its end; None if there
                is none.

        Raises:
            TransactionError: If another task of this thread has an open transaction.

        """
        if self.belongs_to_other_task():
            raise errors.other_task(self.path)
        if not self.is_open:
            self._outermost = transaction
            self.notes.begin()
        self.depth += 1

    def end_abandoned(self) -> None:
        """Undo a transaction whose end an interrupt prevented, if there is one."""
        if self.is_open and (abandoned := self._outermost()):
            abandoned.close()
        self.depth, self.has_failed = 0, False

    def refuse_failed(self, generation: int) -> None:
        """Raise `TransactionError` if an inner transaction has failed.

        Args:
            generation: The number of the last commit, for the error.

        """
        if self.has_failed:
            raise errors.failed_inside(self.path, generation)

    def refuse_inside(self) -> None:
        """Raise `TransactionError` inside a transaction, which commits at its end."""
        if self.belongs_to_other_task():
            raise errors.other_task(self.path)
        if self.is_open:
            raise errors.inside_transaction(self.path)


class _Owner(Protocol):
    """The part of the dict that a transaction uses."""

    path: str
    lock: Any
    _transactions: Transactions

    @property
    def generation(self) -> int: ...

    _options: Options
    _store: Stored
    _turn: Any

    def _refuse_unready(self) -> None: ...
    def _refuse_closed(self) -> None: ...
    def _commit_waiting(self) -> None: ...
    def _begin_exclusive(self, timeout: float) -> None: ...
    def _load(self) -> Loaded: ...
    def _state_of(self, found: Loaded) -> dict[Any, Any]: ...
    def _tell_recovery(self) -> None: ...
    def _encode_now(self) -> Encoded: ...
    def _commit(self, encoded: Encoded) -> Outcome: ...
    def _let_others_in(self) -> None: ...
    def _undo(self, state: dict[Any, Any]) -> None: ...
    def _tell(self, outcome: Outcome | None) -> None: ...


State = TypeVar("State", bound=_Owner)
Result = TypeVar("Result")


class Transaction(Generic[State]):
    """A context manager: commit all changes at its end, or undo them on an exception.

    ``with`` waits for transactions of other threads. It raises `TransactionError` if another task
    of the same thread has one. ``async with`` waits for both, and the event loop runs meanwhile.

    After a crash, all changes of a transaction load, or none.

    The steps of a transaction are a generator. Python closes a generator that is dropped. So if an
    interrupt prevents the end of a transaction, its changes are undone and the lock is released.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._running: list[Generator[None]] = []  # one at most

    def __enter__(self) -> State:
        steps = _steps(self._state, weakref.ref(self))
        self._running.append(steps)
        if self._running[0] is not steps:  # also if another thread begins it at the same time
            self._running.remove(steps)
            raise errors.begun_already(self._state.path)
        try:
            next(steps)
        except BaseException:
            self._running.clear()
            raise
        return self._state

    async def __aenter__(self) -> State:
        import asyncio  # noqa: PLC0415 - slow to import, and it is loaded already

        pause, state = _PAUSE, self._state
        while True:
            if state.lock.acquire(blocking=False):
                try:
                    if not state._transactions.belongs_to_other_task():
                        return self.__enter__()
                finally:
                    state.lock.release()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def __exit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._running:
            return
        try:
            if error is None:
                next(self._running[0], None)
            else:
                self._running[0].throw(error)
        except BaseException as raised:
            # Python replaces a StopIteration that leaves a generator.
            if raised is not error and not (_is_stop(error) and raised.__cause__ is error):
                raise
        finally:
            self._running.clear()

    async def __aexit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def close(self) -> None:
        """Undo the transaction if it has not ended. `end_abandoned` calls this."""
        for steps in self._running:
            steps.close()


def _is_stop(error: BaseException | None) -> bool:
    return isinstance(error, StopIteration | StopAsyncIteration)


def _steps(state: _Owner, transaction: weakref.ref[Transaction[Any]]) -> Generator[None]:
    """Begin, yield while the caller changes the dict, and then commit or undo.

    The transaction is referred to weakly. In a cycle, Python would not close this generator when
    the transaction is dropped.
    """
    transactions, outcome = state._transactions, None
    state._refuse_unready()
    state._commit_waiting()
    with state.lock:
        state._refuse_closed()
        transactions.begin(transaction)
        failed, is_outermost, before = True, transactions.depth == 1, None
        try:
            begin_noting(state)
            before = _commit_before(state) if is_outermost else None
            yield
            if is_outermost:
                transactions.refuse_failed(state.generation)
                outcome = state._commit(state._encode_now())
            failed = False
        finally:
            try:
                if before and not outcome:
                    _undo(state, *before)
            finally:  # assign first: Python raises an interrupt where a function begins
                transactions.depth -= 1
                transactions.has_failed = not is_outermost and (failed or transactions.has_failed)
                if is_outermost:
                    end_noting(state, transactions.notes)
                state._let_others_in()
    state._tell(outcome)


def _commit_before(state: _Owner) -> tuple[str, bytes]:
    """Commit the state before the transaction, so that an undo can go back to it.

    Returns:
        Its digest and payload.

    """
    encoded = state._encode_now()
    with state._turn:  # hold the lock of a shared store until the end
        state._store.acquire(state._options.timeout)
    outcome = state._commit(encoded)
    before = state._store.digest, encoded.payload
    state._tell(outcome)
    return before


def _undo(state: _Owner, digest: str, payload: bytes) -> None:
    """Restore the state before the transaction, unless a commit came after it."""
    if state._store.digest == digest:
        chosen = state._options
        state._undo(filled_in(chosen.format.decode(payload), chosen.defaults))


class _TryAgainError(Exception):
    """Another process committed while `modify` ran, so `modify` must run again."""

    def __init__(self, cause: errors.ConflictError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def modify(state: State, function: Callable[[State], Result], timeout: float) -> Result:
    """Load the newest state, let a function change it, and commit it.

    `RedunDict.modify` says more.

    Args:
        state: The dict.
        function: Changes the dict. It is called again after a conflict with another process.
        timeout: Seconds to try.

    Returns:
        The result of the function.

    Raises:
        LockedError: If another process holds the lock after `timeout` seconds.
        ConflictError: If other processes still commit in between after `timeout` seconds.

    """
    state._refuse_unready()
    state._commit_waiting()
    wait = Wait()
    while True:
        try:
            result, outcome = _modify_once(state, function, max(timeout - wait.elapsed, 0.0))
        except _TryAgainError as again:
            if wait.elapsed + _CONFLICT_PAUSE > timeout:
                raise again.cause from None
            wait.pause(_CONFLICT_PAUSE)
            continue
        state._tell_recovery()
        state._tell(outcome)
        return result


def _modify_once(
    state: State, function: Callable[[State], Result], timeout: float
) -> tuple[Result, Outcome]:
    transactions, outcome, found, start = state._transactions, None, None, None
    with state.lock:
        before = transactions.depth, transactions.has_failed
        try:
            with state._turn:
                state._begin_exclusive(timeout)
                transactions.begin(lambda: None)
                found = state._load()
                begin_noting(state)
            if found.is_empty:
                start = state._state_of(found)  # may read a plain file; an undo must not read
            result = function(state)
            transactions.refuse_failed(state.generation)
            encoded = state._encode_now()
            try:
                outcome = state._commit(encoded)
            except errors.ConflictError as conflict:
                raise _TryAgainError(conflict) from conflict
        finally:
            try:
                if found and not outcome and state._store.digest == found.digest:
                    state._undo(state._state_of(found) if start is None else start)
            finally:
                transactions.depth, transactions.has_failed = before
                if not transactions.is_open:
                    end_noting(state, transactions.notes)
                state._let_others_in()
    return result, outcome
