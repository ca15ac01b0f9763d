"""Who writes a store, and when: one thread at a time, under the store's lock, newest state last.

A state comes as a payload and waits in a queue of one: a newer one overtakes the one that still
waits, and answers for both. Whoever has the turn commits what waits, be it the thread that asked or
the background thread, which is started with the first commit that nobody waits for. Knows stores
and payloads; no dicts, and keeps one alive only while the background is at work for it.

Invariants: what waits is taken only in a turn, so that commits come in the order of `put`; every
future gets its answer. A thread that needs the dict's lock as well takes it before its turn.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .engine import threads
from .engine.store import Store

_PATIENCE: Final = 10.0  #: Seconds.


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A payload, and everybody who is to know its generation."""

    payload: bytes
    futures: list[Future[int]]


class _Answer(Future[int]):
    """The future of a commit; `expect_changes` is told if there is somebody for it to call."""

    def __init__(self, expect_changes: Callable[[], None]) -> None:
        super().__init__()
        self._expect_changes = expect_changes

    def add_done_callback(self, fn: Callable[[Future[int]], object]) -> None:
        if getattr(fn, "__module__", "") != "asyncio.futures":  # that only wakes its loop
            self._expect_changes()
        super().add_done_callback(fn)


class Writer:
    """Commits payloads of one `format` to `store`, which, if `shared`, other processes write too.

    `timeout` is how many seconds to wait for the store's lock where it is not held; by default, as
    long as a commit of another should take, if there are others. `done` is told,
    in the background thread, how what was done there ended: None, or what went wrong. Only if it
    is `harmless`, and changes no state, can a state be encoded beside that thread as it stands.
    `owner` returns the dict, as long as it is there.
    """

    def __init__(
        self,
        store: Store,
        format: str,
        done: Callable[[Exception | None], object],
        *,
        owner: Callable[[], object] = lambda: None,
        harmless: bool = True,
        shared: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.store = store
        self.shared = shared
        self._format = format
        self._done = done
        self._owner = owner
        self._harmless = harmless
        self._timeout = (_PATIENCE if shared else 0.0) if timeout is None else timeout
        self._depth = 0  # how deep in calls that hold the store's lock
        self._work: Callable[[], object] | None = None  # what the background does by itself
        self._every = 0.0  # and how often, in seconds
        self.begin_alone()

    def begin_alone(self) -> None:
        """Begin without threads and with nothing waiting: a child's are its parent's."""
        self._turn = threading.RLock()
        # Not the condition's own `with`: Ctrl-C may keep that from letting go, not being in C.
        self._queue = threading.RLock()
        self._wakeup = threading.Condition(self._queue)
        self._waiting: _Waiting | None = None
        self._thread: threading.Thread | None = None
        self._taking: set[int] = set()  # threads

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take a state and hand it on, without a newer one in between."""
        me = threading.get_ident()
        try:
            self._taking.add(me)
            yield
        finally:
            self._taking.discard(me)

    def refuse_interrupting(self) -> None:
        """Raise `BusyError` in what interrupted this very thread while it was `taking` a state."""
        if threading.get_ident() in self._taking:
            raise self.store.busy()

    def put(self, payload: bytes) -> Future[int]:
        """Let a state wait for its commit; return what will know its generation.

        The caller holds the dict's lock, so that the order is that of the states. To cancel the
        future is to be told nothing; the state is committed all the same.
        """
        future = _Answer(self._expect_changes)
        with self._queue:
            overtaken = self._waiting.futures if self._waiting else []
            self._waiting = _Waiting(payload, [*overtaken, future])
        return future

    def commit_waiting(self) -> Exception | None:
        """Commit what waits, in this thread; return what went wrong, which the futures know too."""
        waiting, generation = None, 0
        self.refuse_interrupting()
        try:
            with self._turn, self.taking():
                with self._queue:
                    waiting, self._waiting = self._waiting, None
                if waiting:
                    generation = self._commit(waiting.payload)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for who waits
            _answer(waiting, error)
            return error
        except BaseException:  # it is for this thread; another's future must not end that one
            _answer(waiting, self.store.interrupted())
            raise
        # Not in the turn any more: a future may call somebody who needs the dict's lock.
        _answer(waiting, generation)
        return None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other threads and other writers away; what waits is committed before."""
        self.store.refuse_if_forked()  # before a lock that no thread of a child can let go of
        with self._turn:
            self.commit_waiting()
            with self._locked():
                yield

    def commit_soon(self) -> None:
        """Let the background commit what waits."""
        try:
            with self._queue:
                if self._waiting:  # or somebody was faster, who may have closed the store since
                    self._start()
                    self._wakeup.notify()
        except RuntimeError:  # the interpreter is exiting, and starts no threads any more
            self.commit_waiting()

    def repeat(self, work: Callable[[], object], every: float) -> None:
        """Let the background do `work`, and commit what waits then, every so many seconds."""
        self._work, self._every = work, every
        self._start()

    def acquire(self) -> None:
        """Take the store's lock."""
        self.store.lock.acquire(self._timeout)

    def stop(self) -> None:
        """Let the background thread end; what waits is left to whoever calls this."""
        with self._queue:
            self._thread = None
            self._wakeup.notify()

    def release(self) -> None:
        """Let go of the store, once whoever has the turn is done."""
        with self._turn:
            self.store.release()

    # --- in a turn

    def _commit(self, payload: bytes) -> int:
        if self.shared and self.store.unchanged(payload, self._format):
            return self.store.generation  # others may have committed since: that is no conflict
        with self._locked():
            return self.store.commit(payload, self._format)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock; let others in again if the store is shared."""
        lock, ledger = self.store.lock, self.store.ledger
        if not lock.held:  # shared, or the recipe's after close()
            self.acquire()
            if lock.settled != ledger.note():
                ledger.unsettle()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self.shared and self._depth == 0:
                self.store.release()

    # --- the background

    def _start(self) -> None:
        with self._queue:
            if self._thread and self._thread.is_alive():
                return
            name = f"redundict {os.path.basename(self.store.layout.path)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._thread = thread
            threads.note(thread, is_harmless=self._harmless)

    def _expect_changes(self) -> None:
        with self._queue:
            self._harmless = False
            if self._thread:
                threads.note(self._thread, is_harmless=False)

    def _run(self) -> None:
        due = time.monotonic() + self._every
        while True:
            with self._queue:
                pause = max(due - time.monotonic(), 0) if self._work else None
                self._wakeup.wait_for(lambda: self._waiting or self._is_dismissed(), pause)
                if self._is_dismissed():
                    return
            began = time.monotonic()
            work = self._work if began >= due else None
            self._done(self._do(work))
            if work:  # what changes now is committed when the next round ends, not when it begins
                took = time.monotonic() - began
                due = began + self._every - min(took, self._every / 2)

    def _is_dismissed(self) -> bool:
        return self._thread is not threading.current_thread()

    def _do(self, work: Callable[[], object] | None) -> Exception | None:
        # The collector runs anywhere: it must not close a dict from within the commit of it.
        owner = self._owner()  # noqa: F841
        try:
            if work:
                work()
        except Exception as error:  # noqa: BLE001 - nobody is there to catch it: it is told
            return error
        return self.commit_waiting()


def _answer(waiting: _Waiting | None, outcome: int | BaseException) -> None:
    for future in waiting.futures if waiting else ():
        if not future.set_running_or_notify_cancel():
            continue
        if isinstance(outcome, int):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
