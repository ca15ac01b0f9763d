"""Commits in the background: `sync_soon` and `autosync`. A plain `sync` does not use this module.

The first background commit starts a thread. The thread commits the newest waiting state and then
completes the futures of all states up to it. This module must not know stores, only encoded states.
The thread refers to the dict only while it commits, so the dict can be collected.

Invariants: every future is completed. States are committed in the order in which they were encoded.
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
    """A state as a payload. The state with the greater `order` is the newer one."""

    order: int
    payload: bytes


class Commit(Future[int]):
    """The future of a commit in the background. Its result is the generation.

    It can be awaited, too. Neither its cancellation nor that of a waiting task cancels the commit.
    """

    def __await__(self) -> Generator[Any, None, int]:
        """Wait for the commit in an asyncio task."""
        import asyncio  # noqa: PLC0415 - slow to import, and it is loaded already

        return asyncio.shield(asyncio.wrap_future(self)).__await__()


class _Owner(Protocol):
    """The part of the dict that the committer uses."""

    def _encode_unasked(self) -> Encoded | None:
        """Return the present state; None if the store is closed."""
        ...

    def _commit(self, encoded: Encoded) -> Outcome:
        """Commit a state, unless a newer one is durable."""
        ...

    def _tell_unasked(self, outcome: Outcome | None, error: Exception | None) -> None:
        """Report the end of a background commit to the application."""


class Committer:
    """The background commits of one dict.

    Args:
        owner: Returns the dict; None once it was collected.
        path: The path of the store. It names the thread.
        every: Seconds between two automatic commits (`autosync`); 0 for none.

    """

    def __init__(self, owner: Callable[[], _Owner | None], path: str, every: float = 0.0) -> None:
        self._owner = owner
        self._name = f"redundict {os.path.basename(path)}"
        self._every = every
        # The lock is reentrant, because a signal handler may call. The `with` of the condition is
        # not used: it is Python code, so Ctrl-C could prevent its release.
        self._queue = threading.RLock()
        self._wakeup = threading.Condition(self._queue)
        self._waiting: list[tuple[Encoded, Commit]] = []
        self._thread: threading.Thread | None = None

    def commit_soon(self, encoded: Encoded) -> Commit:
        """Queue a state for a commit in the background.

        While the interpreter exits, no thread can be started, so the state is committed at once.

        Args:
            encoded: The state.

        Returns:
            The future of its generation. An error of the store becomes the future's exception.

        """
        future = Commit()
        with self._queue:
            self._waiting.append((encoded, future))
        try:
            self.start()
        except RuntimeError:  # the interpreter is exiting
            if owner := self._owner():
                self.commit_waiting(owner)
        return future

    def start(self) -> None:
        """Wake the thread. Start it if there is none.

        Raises:
            RuntimeError: If the interpreter is exiting and starts no threads.

        """
        with self._queue:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._wakeup.notify()

    def stop(self) -> None:
        """Tell the thread to end after its present commit. Do not wait for it."""
        with self._queue:
            self._thread = None
            self._wakeup.notify()

    def commit_waiting(self, owner: _Owner) -> None:
        """Commit the newest waiting state, complete the futures up to it, and report the end.

        A state stays in the queue until its future is completed. An error of the store becomes the
        exception of the futures. Any other exception, for example of a signal handler, goes to the
        caller and completes no future.

        Args:
            owner: The dict.

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
        """Complete the futures of states up to `order`. Raise a callback's `SystemExit` last."""
        raised = None
        while answered := [entry for entry in list(self._waiting) if entry[0].order <= order]:
            entry = answered[0]
            try:
                with self._queue:
                    if entry not in self._waiting:  # another thread completes it
                        continue
                    self._waiting.remove(entry)
                if not entry[1].set_running_or_notify_cancel():
                    continue
                if outcome:
                    entry[1].set_result(outcome.generation)
                else:
                    entry[1].set_exception(error)
            except SystemExit as exit:  # from a callback; the future logs any other exception
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
            # This reference keeps the dict alive: it must not be collected during its own commit.
            owner = self._owner()
            if owner is None:  # its `__del__` closes it and completes the futures
                return
            self._work(owner, is_due=is_due)
            del owner
            if is_due:  # begin the next commit early enough to end when it is due
                took = time.monotonic() - began
                due = began + self._every - min(took, self._every / 2)

    def _is_dismissed(self) -> bool:
        return self._thread is not threading.current_thread()

    def _work(self, owner: _Owner, *, is_due: bool) -> None:
        """Commit. Report any error to the application, since no caller could catch it."""
        outcome, error = None, None
        order = max((encoded.order for encoded, _ in list(self._waiting)), default=0)
        try:
            self.commit_waiting(owner)
            if is_due and (encoded := owner._encode_unasked()):
                outcome = owner._commit(encoded)
        except BaseException as raised:  # noqa: BLE001 - every future must be completed
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{raised!r}")
            self._answer(order, None, error)
        if is_due or error:
            owner._tell_unasked(outcome, error)


class Backgrounded:
    """The part of `RedunDict` that serves background commits."""

    path: str
    lock: Any
    _options: Options
    _events: Events
    _committer: Committer | None  # None before the first background commit

    def _background(self) -> Committer:
        with self.lock:
            if self._committer is None:
                every = self._options.autosync
                self._committer = Committer(weakref.ref(self), self.path, every)
            committer = self._committer
        return committer  # noqa: RET504 - an interrupt before `return` must find the lock released

    def _stop_background(self) -> None:
        if self._committer:
            try:
                self._committer.commit_waiting(self)
            finally:
                self._committer.stop()

    def _encode_unasked(self) -> Encoded | None:
        with self.lock:  # so no other thread closes it in between
            return self._encode() if lifetime.is_registered(self) else None

    def _tell_unasked(self, outcome: Outcome | None, error: Exception | None) -> None:
        try:
            self._tell(outcome)
        except errors.RedundancyWarning as warning:  # a filter made an error of it
            error = warning
        self._events.failed(error)

    def _encode(self) -> Encoded:
        """Return the present state as a payload."""
        raise NotImplementedError

    def _commit(self, encoded: Encoded) -> Outcome:
        """Commit a state, unless a newer one is durable."""
        raise NotImplementedError

    def _tell(self, outcome: Outcome | None) -> None:
        """Report a commit that is not durable in every copy."""
        raise NotImplementedError
