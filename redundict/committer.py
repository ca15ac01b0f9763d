"""Commits in the background: `sync_soon` and `autosync`. A waiting `sync` does not come here.

The thread is started with the first commit that nobody waits for. It commits what waits, in the
order in which it was encoded, and answers everybody who asked. Knows encoded states and no stores;
keeps the dict alive only while it is at work for it.

Invariant: every future gets its answer.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from . import errors, lifetime
from .engine.store import Outcome
from .events import Events
from .options import Options


class Encoded(NamedTuple):
    """A state as a payload; of two, the one with the greater `order` is the newer."""

    order: int
    payload: bytes


class Commit(Future[int]):
    """The generation of a commit in the background; can also be awaited.

    To cancel it, or a task that awaits it, never cancels the commit.
    """

    def __await__(self) -> Generator[Any, None, int]:
        """Wait for it in an asyncio task."""
        import asyncio  # noqa: PLC0415 - slow to import, and it is loaded already

        return asyncio.shield(asyncio.wrap_future(self)).__await__()


class _Owner(Protocol):
    """What the committer asks of the dict."""

    def _encode_unasked(self) -> Encoded | None:
        """Return the state as it is now; None if the store is closed."""
        ...

    def _commit(self, encoded: Encoded) -> Outcome:
        """Commit a state, unless a newer one is durable."""
        ...

    def _tell_unasked(self, outcome: Outcome | None, error: Exception | None) -> None:
        """Tell the application how a commit in the background ended."""


class Committer:
    """Commits states of the dict that `owner` returns, as long as it is there.

    `every` is the number of seconds between two commits that nobody asks for; 0: there are none.
    """

    def __init__(self, owner: Callable[[], _Owner | None], path: str, every: float = 0.0) -> None:
        self._owner = owner
        self._name = f"redundict {os.path.basename(path)}"
        self._every = every
        # Reentrant, since a signal handler may call. The condition's own `with` is not used: it is
        # no C code, so Ctrl-C may keep it from letting go.
        self._queue = threading.RLock()
        self._wakeup = threading.Condition(self._queue)
        self._waiting: list[tuple[Encoded, Commit]] = []
        self._thread: threading.Thread | None = None

    def commit_soon(self, encoded: Encoded) -> Commit:
        """Let a state wait for its commit; return the future of its generation."""
        future = Commit()
        with self._queue:
            self._waiting.append((encoded, future))
        try:
            self.start()
        except RuntimeError:  # the interpreter is exiting, and starts no threads any more
            if owner := self._owner():
                self.commit_waiting(owner)
        return future

    def start(self) -> None:
        """Wake the thread; start it if there is none."""
        with self._queue:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._wakeup.notify()

    def stop(self) -> None:
        """Let the thread end."""
        with self._queue:
            self._thread = None
            self._wakeup.notify()

    def commit_waiting(self, owner: _Owner) -> None:
        """Commit the newest state that waits, answer everybody who waits, and tell how it ended.

        What waits stays in the queue until it is answered. What is no error of the store, such as
        an exception of a signal handler, goes to the caller and answers nobody.
        """
        if not self._waiting:
            return
        newest = max(encoded for encoded, _ in list(self._waiting))
        outcome, error = None, None
        try:
            outcome = owner._commit(newest)
        except errors.RedundictError as refused:
            error = refused
        self._answer(newest.order, outcome, error)
        owner._tell_unasked(outcome, error)

    def _answer(self, order: int, outcome: Outcome | None, error: BaseException | None) -> None:
        """Answer all that wait for a state up to `order`; what their callbacks raise comes last."""
        raised = None
        while answered := [entry for entry in list(self._waiting) if entry[0].order <= order]:
            entry = answered[0]
            try:
                with self._queue:
                    if entry not in self._waiting:  # another thread was faster
                        continue
                    self._waiting.remove(entry)
                if not entry[1].set_running_or_notify_cancel():
                    continue
                if outcome:
                    entry[1].set_result(outcome.generation)
                else:
                    entry[1].set_exception(error)
            except SystemExit as exit:  # of a callback; other exceptions are logged by the future
                raised = exit
        if raised:
            raise raised

    def _run(self) -> None:
        due = time.monotonic() + self._every
        while True:
            with self._queue:
                pause = max(due - time.monotonic(), 0) if self._every else None
                self._wakeup.wait_for(lambda: self._waiting or self._is_dismissed(), pause)
                if self._is_dismissed():
                    return
            began = time.monotonic()
            is_due = bool(self._every) and began >= due
            # The dict is kept alive: the collector must not close it in its own commit.
            owner = self._owner()
            if owner is None:  # it is closed by its `__del__`, which answers what waits
                return
            self._work(owner, is_due=is_due)
            del owner
            if is_due:  # what changes now is committed when the next round ends, not when it begins
                took = time.monotonic() - began
                due = began + self._every - min(took, self._every / 2)

    def _is_dismissed(self) -> bool:
        return self._thread is not threading.current_thread()

    def _work(self, owner: _Owner, *, is_due: bool) -> None:
        """Do what is to be done; nobody is there to catch an error, so it is told."""
        outcome, error = None, None
        order = max((encoded.order for encoded, _ in list(self._waiting)), default=0)
        try:
            self.commit_waiting(owner)
            if is_due and (encoded := owner._encode_unasked()):
                outcome = owner._commit(encoded)
        except BaseException as raised:  # noqa: BLE001 - those who wait must not wait for ever
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{raised!r}")
            self._answer(order, None, error)
        if is_due or error:
            owner._tell_unasked(outcome, error)


class Backgrounded:
    """What a dict does for its commits in the background."""

    path: str
    lock: Any
    _options: Options
    _events: Events
    _committer: Committer | None  # is there from the first commit in the background on

    def _background(self) -> Committer:
        with self.lock:
            if self._committer is None:
                every = self._options.autosync
                self._committer = Committer(weakref.ref(self), self.path, every)
            committer = self._committer
        return committer  # noqa: RET504 - an interrupt before it must find the lock free

    def _stop_background(self) -> None:
        if self._committer:
            try:
                self._committer.commit_waiting(self)
            finally:
                self._committer.stop()

    def _encode_unasked(self) -> Encoded | None:
        with self.lock:  # nobody closes it in between
            return self._encode() if lifetime.is_registered(self) else None

    def _tell_unasked(self, outcome: Outcome | None, error: Exception | None) -> None:
        try:
            self._tell(outcome)
        except errors.RedundancyWarning as warning:  # a filter made an error of it
            error = warning
        self._events.failed(error)

    def _encode(self) -> Encoded:
        """Return the state as it is now."""
        raise NotImplementedError

    def _commit(self, encoded: Encoded) -> Outcome:
        """Commit a state, unless a newer one is durable."""
        raise NotImplementedError

    def _tell(self, outcome: Outcome | None) -> None:
        """Tell if a commit did not reach every copy."""
        raise NotImplementedError
