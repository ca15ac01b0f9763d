"""Commits in the background: `sync_soon` and `autosync`. A plain `sync` does not use this module.

The first background commit starts a thread. The thread commits the newest waiting state and then
completes the futures of all states up to it. This module must not know stores, only encoded states.
The thread refers to the dict only while it commits, so the dict can be collected.

Invariants: every future is completed. States are committed in the order in which they were encoded.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from typing import Any, NamedTuple, Protocol

from . import errors, lifetime
from .engine.store import Outcome
from .events import Events
from .options import Options


class Encoded(NamedTuple):
    """A state as a payload. The state with the greater `order` is the newer one."""

    order: int
    payload: bytes


_RLock: Any = type(threading.RLock())  # `threading` does not name this type


class _Condition(_RLock, threading.Condition):  # type: ignore[misc]  # the type of C code is Any
    """A condition that an interrupt cannot leave locked, because its ``with`` runs C code only.

    The ``with`` of `threading.Condition` is Python code. An interrupt in it leaves the lock held.
    """

    def __init__(self) -> None:
        # That of `Condition` would make a cycle, in which only the collector frees a future.
        self._waiters: deque[Any] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for `notify`, and take the lock again, even after an interrupt."""
        try:
            notified = super().wait(timeout)
        finally:
            if not self._is_owned():  # an interrupt came just after the release
                self.acquire()
        return bool(notified)


class Commit(Future[int]):
    """The future of a commit in the background. Its result is the generation.

    It can be awaited, too. Neither its cancellation nor that of a waiting task cancels the commit.
    Each callback is called, even if another one raises `SystemExit`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = _Condition()
        self._raised: list[BaseException] = []  # by callbacks; a `Future` logs other exceptions

    def add_done_callback(self, fn: Callable[[Future[int]], object]) -> None:
        """Call a function with this future when it is done, or at once if it is done already."""

        def call(done: Future[int]) -> None:
            try:
                fn(done)
            except Exception:
                raise
            except BaseException as raised:  # noqa: BLE001 - it goes on in `raise_from_callbacks`
                self._raised.append(raised)

        super().add_done_callback(fn if self.done() else call)

    def raise_from_callbacks(self) -> None:
        """Raise the first `SystemExit` or `KeyboardInterrupt` of a callback, if there is one."""
        raised, self._raised = self._raised, []
        if raised:
            raise raised[0]

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
        self._queue = _Condition()  # reentrant, because a signal handler may call
        self._waiting: list[tuple[Encoded, Commit]] = []
        self._thread: threading.Thread | None = None

    def commit_soon(self, encoded: Encoded) -> Commit:
        """Queue a state for a commit in the background.

        While the interpreter exits, and if no thread can be started, it is committed at once.

        Args:
            encoded: The state.

        Returns:
            The future of its generation. An error of the store becomes the future's exception.

        """
        future = Commit()
        with self._queue:
            self._waiting.append((encoded, future))
        handled = sys.exception()
        try:
            if not lifetime.stores.is_at_exit:  # a thread would be stopped in the middle of it
                self.start()
                return future
        except (RuntimeError, KeyError) as error:
            _refuse_other_errors(error, handled)
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
            self._queue.notify()

    def stop(self, seconds: float = 0) -> None:
        """Tell the thread to end after its present commit.

        Args:
            seconds: How long to wait for its end.

        """
        with self._queue:
            thread, self._thread = self._thread, None
            self._queue.notify()
        if thread and seconds:
            thread.join(seconds)

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
        """Complete the futures of states up to `order`. Raise what their callbacks raise last.

        An entry leaves the queue after its future is complete. If an interrupt comes in between,
        the next call completes it.
        """
        answered = [entry for entry in list(self._waiting) if entry[0].order <= order]
        for entry in answered:
            future = entry[1]
            with self._queue:
                is_there = entry in self._waiting
                is_finished = future.done() and not future.cancelled()
                is_wanted = is_there and not is_finished and _is_wanted(future)
            with contextlib.suppress(InvalidStateError):  # another thread completes it, too
                if is_wanted and outcome:
                    future.set_result(outcome.generation)
                elif is_wanted:
                    future.set_exception(error)
            with self._queue:
                if entry in self._waiting:
                    self._waiting.remove(entry)
        for _, future in answered:
            future.raise_from_callbacks()

    def _run(self) -> None:
        due = time.monotonic() + self._every
        while True:
            has_paused = False
            with self._queue:
                if not (self._waiting or self._is_dismissed()):
                    pause = max(due - time.monotonic(), 0) if self._every else None
                    has_paused = not self._queue.wait(pause)
                if self._is_dismissed():
                    return
            began = time.monotonic()
            # The end of the pause counts, too, because the clock may stand still.
            is_due = bool(self._every) and (has_paused or began >= due)
            # This reference keeps the dict alive: it must not be collected during its own commit.
            owner = self._owner()
            if owner is None:  # its `__del__` closes it and completes the futures
                return
            self._contained(self._commit_queue, owner)
            if is_due:
                self._contained(self._commit_present, owner)
            del owner
            if is_due:  # begin the next commit early enough to end when it is due
                took = time.monotonic() - began
                due = began + self._every - min(took, self._every / 2)

    def _is_dismissed(self) -> bool:
        return self._thread is not threading.current_thread()

    def _contained(self, step: Callable[[_Owner], None], owner: _Owner) -> None:
        """Call a step. An exception of a callback or a log handler must not end the thread."""
        try:
            step(owner)
        except BaseException:  # noqa: BLE001 - reported as Python reports it for any thread
            uncaught = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
            threading.excepthook(uncaught)

    def _commit_queue(self, owner: _Owner) -> None:
        """Commit the newest waiting state. Complete the futures even if that is interrupted."""
        order = max((encoded.order for encoded, _ in list(self._waiting)), default=0)
        try:
            self.commit_waiting(owner)
        except BaseException as raised:
            if not any(encoded.order <= order for encoded, _ in list(self._waiting)):
                raise  # a callback raised it; the state is durable
            error = _as_exception(raised)
            self._answer(order, None, error)
            owner._tell_unasked(None, error)

    def _commit_present(self, owner: _Owner) -> None:
        """Commit the present state (`autosync`), and report the end to the application."""
        outcome, error = None, None
        try:
            if encoded := owner._encode_unasked():
                outcome = owner._commit(encoded)
        except BaseException as raised:  # noqa: BLE001 - no caller could catch it
            error = _as_exception(raised)
        owner._tell_unasked(outcome, error)


def _refuse_other_errors(error: Exception, handled: BaseException | None) -> None:
    """Raise an error again if it does not say that no thread can be started.

    An interrupt in the middle of `Thread.start` may surface as a `RuntimeError` or `KeyError` of
    `threading`. Then the interrupt is raised.

    Args:
        error: An error of `Thread.start`.
        handled: The exception that the caller handled before; it is no interrupt.

    """
    if type(error) is not RuntimeError or not str(error).startswith("can't "):
        interrupt = error.__context__
        raise error if interrupt is None or interrupt is handled else interrupt


def _is_wanted(future: Commit) -> bool:
    """Return True if a future is to be completed; notify its waiters if it was cancelled."""
    return future.running() or future.set_running_or_notify_cancel()


def _as_exception(raised: BaseException) -> Exception:
    return raised if isinstance(raised, Exception) else RuntimeError(f"{raised!r}")


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

    def _start_autosync(self) -> None:
        """Start the automatic commits; report it if no thread can be started."""
        if lifetime.stores.is_at_exit:  # the store is saved at the very end
            return
        handled = sys.exception()
        try:
            self._background().start()
        except (RuntimeError, KeyError) as error:
            _refuse_other_errors(error, handled)
            self._events.failed(errors.no_thread(self.path, error))

    def _stop_background(self, seconds: float = 0) -> None:
        if self._committer:
            try:
                self._committer.commit_waiting(self)
            finally:
                self._committer.stop(seconds)

    def _encode_unasked(self) -> Encoded | None:
        with self.lock:  # so no other thread closes it in between
            return None if isinstance(self, lifetime.Closed) else self._encode()

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
