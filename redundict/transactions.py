"""Who may change several items of a dict as one: one thread, and one asyncio task of it.

The dict's lock keeps other threads out. It cannot tell two tasks of one thread apart, so the task
is noted here. Knows no slots.

Invariant: a transaction is never joined by another thread or task.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from . import errors
from .committer import Encoded
from .engine.newest import Loaded
from .engine.store import Outcome
from .options import Options, filled_in
from .stored import Stored

_PAUSE: Final = 0.001  #: Seconds between two looks whether another transaction has ended, at first.
_CONFLICT_PAUSE: Final = 0.01  #: Seconds before `modify` tries again.
_LONGEST_PAUSE: Final = 0.05  #: Seconds.


def current_task() -> object:
    """Return the asyncio task that runs in this thread, None if there is none."""
    if "asyncio" not in sys.modules:
        return None
    import asyncio  # noqa: PLC0415 - slow to import, and it is loaded already

    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return None


@dataclass(slots=True)
class Transactions:
    """The transactions that are open in one dict, each inside the one before.

    The caller of a method holds the dict's lock.
    """

    path: str
    depth: int = 0  #: How many are open.
    has_failed: bool = False  #: One inside the outermost did, so that cannot succeed any more.
    _task: object = None
    _outermost: Callable[[], Transaction[Any] | None] = lambda: None

    @property
    def is_open(self) -> bool:
        """Whether there is one."""
        return self.depth > 0

    def belongs_to_other_task(self) -> bool:
        """Tell whether another task of this thread has one."""
        return self.is_open and self._task is not current_task()

    def begin(self, transaction: Transaction[Any] | None) -> None:
        """Begin one, perhaps inside another."""
        if self.belongs_to_other_task():
            raise errors.other_task(self.path)
        if transaction and not self.is_open:
            self._outermost = weakref.ref(transaction)
        self._task = current_task()
        self.depth += 1

    def end_abandoned(self) -> None:
        """Undo the transaction that an interrupt kept from its end, if there is one."""
        if self.is_open and (abandoned := self._outermost()):
            abandoned.close()
        self.depth, self.has_failed = 0, False

    def refuse_failed(self, generation: int) -> None:
        """Raise `TransactionError` if one failed that was inside the outermost one."""
        if self.has_failed:
            raise errors.failed_inside(self.path, generation)

    def refuse_inside(self) -> None:
        """Raise `TransactionError` if there is one: it commits at its end."""
        if self.is_open:
            raise errors.inside_transaction(self.path)


class _Owner(Protocol):
    """What a transaction asks of the dict."""

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
    def _replace(self, state: dict[Any, Any]) -> None: ...
    def _tell_recovery(self) -> None: ...
    def _encode_now(self) -> Encoded: ...
    def _commit(self, encoded: Encoded) -> Outcome: ...
    def _let_others_in(self) -> None: ...
    def _tell(self, outcome: Outcome | None) -> None: ...


State = TypeVar("State", bound=_Owner)
Result = TypeVar("Result")


class Transaction(Generic[State]):
    """Changes to a dict that are committed as a whole at the end, or undone on an exception.

    ``with`` waits for the transactions of other threads and refuses to join one of another task of
    its own thread. ``async with`` waits for both, and lets the event loop go on meanwhile.

    Its steps are those of a generator, which ends them when it is dropped: so a transaction that an
    interrupt kept from its end is undone, and the lock is free.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._running: Generator[None] | None = None

    def __enter__(self) -> State:
        self._running = self._steps()
        next(self._running)
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
        running = self._running
        if running is None:
            return
        try:
            if error is None:
                next(running, None)
            else:
                running.throw(error)
        except BaseException as raised:
            if raised is not error:
                raise

    async def __aexit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def close(self) -> None:
        """Undo what an interrupt kept from its end."""
        if self._running:
            self._running.close()

    def _steps(self) -> Generator[None]:
        """Begin; let the caller change the dict; commit, or undo."""
        state, transactions, outcome = self._state, self._state._transactions, None
        state._refuse_unready()
        state._commit_waiting()
        with state.lock:
            state._refuse_closed()
            transactions.begin(self)
            failed, is_outermost, before = True, transactions.depth == 1, None
            try:
                before = self._commit_before() if is_outermost else None
                yield
                if is_outermost:
                    transactions.refuse_failed(state.generation)
                    outcome = state._commit(state._encode_now())
                failed = False
            finally:
                try:
                    if before and not outcome:
                        self._undo(*before)
                finally:  # plain assignments first: an interrupt comes where a function begins
                    transactions.depth -= 1
                    transactions.has_failed = not is_outermost and (
                        failed or transactions.has_failed
                    )
                    state._let_others_in()
        state._tell(outcome)

    def _commit_before(self) -> tuple[str, bytes]:
        """Commit what came before, so that to undo means to go back to that; return it."""
        state = self._state
        encoded = state._encode_now()
        with state._turn:  # a store that is shared is held until the end
            state._store.acquire(state._options.timeout)
        outcome = state._commit(encoded)
        before = state._store.digest, encoded.payload
        state._tell(outcome)
        return before

    def _undo(self, digest: str, payload: bytes) -> None:
        """Take memory back to where it was, unless something was committed since."""
        if self._state._store.digest == digest:
            chosen = self._state._options
            self._state._replace(filled_in(chosen.format.decode(payload), chosen.defaults))


class _TryAgainError(Exception):
    """Another process committed while `modify` was at work."""

    def __init__(self, cause: errors.ConflictError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def modify(state: State, function: Callable[[State], Result], timeout: float) -> Result:
    """Take the newest state, let `function` change it, and commit it; see `RedunDict.modify`."""
    state._refuse_unready()
    state._commit_waiting()
    deadline = time.monotonic() + timeout
    while True:
        try:
            result, outcome = _modify_once(state, function, max(deadline - time.monotonic(), 0))
        except _TryAgainError as again:
            if time.monotonic() + _CONFLICT_PAUSE > deadline:
                raise again.cause from None
            time.sleep(_CONFLICT_PAUSE)
            continue
        state._tell_recovery()
        state._tell(outcome)
        return result


def _modify_once(
    state: State, function: Callable[[State], Result], timeout: float
) -> tuple[Result, Outcome]:
    transactions, outcome, found, start = state._transactions, None, None, None
    depth = transactions.depth
    with state.lock:
        try:
            with state._turn:
                state._begin_exclusive(timeout)
                transactions.begin(None)
                found = state._load()
            if found.is_empty:
                start = state._state_of(found)  # from a plain file; an undo must not read
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
                    state._replace(state._state_of(found) if start is None else start)
            finally:
                transactions.depth = depth
                transactions.has_failed = False
                state._let_others_in()
    return result, outcome
