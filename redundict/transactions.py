"""Who may change several items of a dict as one: one thread, and one asyncio task of it.

The dict's lock keeps other threads out. It cannot tell two tasks of one thread apart, so the task
is noted here. Knows no stores and no payloads.

Invariant: a transaction is never joined by another thread or task.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from . import errors
from .committer import Encoded
from .engine.store import Outcome

_PAUSE: Final = 0.001  #: Seconds between two looks whether another transaction has ended, at first.
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
    _task: object = None
    _has_failed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is one."""
        return self.depth > 0

    def belongs_to_other_task(self) -> bool:
        """Tell whether another task of this thread has one."""
        return self.is_open and self._task is not current_task()

    def begin(self) -> None:
        """Begin one, perhaps inside another."""
        if self.belongs_to_other_task():
            raise errors.other_task(self.path)
        self._task = current_task()
        self.depth += 1

    def end(self, *, failed: bool) -> None:
        """End the innermost; if it `failed`, the outermost cannot succeed any more."""
        self.depth -= 1
        self._has_failed = (self._has_failed or failed) and self.is_open

    def refuse_failed(self, generation: int) -> None:
        """Raise `TransactionError` if one failed that was inside the outermost one."""
        if self._has_failed:
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

    def _refuse_unready(self) -> None: ...
    def _commit_waiting(self) -> None: ...
    def _commit_before(self) -> tuple[str, bytes]: ...
    def _encode_now(self) -> Encoded: ...
    def _commit(self, encoded: Encoded) -> Outcome: ...
    def _undo_to(self, digest: str, payload: bytes) -> None: ...
    def _let_others_in(self) -> None: ...
    def _tell(self, outcome: Outcome | None) -> None: ...


State = TypeVar("State", bound=_Owner)


class Transaction(Generic[State]):
    """Changes to a dict that are committed as a whole at the end, or undone on an exception.

    ``with`` waits for the transactions of other threads and refuses to join one of another task of
    its own thread. ``async with`` waits for both, and lets the event loop go on meanwhile.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._before = "", b""  # the digest and the payload of the commit before it

    def __enter__(self) -> State:
        self._begin(wait=True)
        return self._state

    async def __aenter__(self) -> State:
        import asyncio  # noqa: PLC0415 - slow to import, and it is loaded already

        pause = _PAUSE
        while not self._begin(wait=False):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return self._state

    def __exit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, transactions, outcome = self._state, self._state._transactions, None
        try:
            if transactions.depth == 1:
                try:
                    if error is None:
                        transactions.refuse_failed(state.generation)
                        outcome = state._commit(state._encode_now())
                finally:
                    if outcome is None:
                        state._undo_to(*self._before)
        finally:
            transactions.end(failed=error is not None)
            state._let_others_in()
            state.lock.release()
        state._tell(outcome)

    async def __aexit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self, *, wait: bool) -> bool:
        """Begin; return False if another has to end first and the caller must not `wait`."""
        state, transactions, begun = self._state, self._state._transactions, False
        state._refuse_unready()
        state._commit_waiting()
        if not state.lock.acquire(blocking=wait):
            return False
        try:
            if wait or not transactions.belongs_to_other_task():
                transactions.begin()
                begun = True
                if transactions.depth == 1:
                    self._before = state._commit_before()
        except BaseException:
            if begun:
                transactions.end(failed=True)
                state._let_others_in()
            state.lock.release()
            raise
        if not begun:
            state.lock.release()
        return begun
