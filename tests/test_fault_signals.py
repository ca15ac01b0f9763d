"""Hazard: a signal handler raises in the middle of a call."""

from __future__ import annotations

import functools
import gc
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import redundict

from . import inside

#: The collector closes a file that an interrupt left open, and Python warns of that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let the collector find what an interrupt left open in the test that left it."""
    yield
    gc.collect()


class SoftTimeLimitError(Exception):
    """What an application's handler raises."""


@contextmanager
def alarm(seconds: float, raised: Callable[[], BaseException]) -> Iterator[None]:
    """Let a handler raise after so many seconds."""

    def handle(*_: object) -> None:
        raise raised()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [SoftTimeLimitError, TimeoutError, MemoryError, KeyboardInterrupt])
def test_a_handler_s_exception_reaches_the_caller_of_sync(
    path: str, kind: type[BaseException]
) -> None:
    """It is never taken for the failure of a copy, even if it is an `OSError`."""
    with redundict.open(path) as state:
        state["n"] = 0
        state.sync()
        for number in range(20):
            with warnings.catch_warnings():
                warnings.simplefilter("error", redundict.RedundancyWarning)
                until = time.monotonic() + 10
                with pytest.raises(kind), alarm(0.001 + 0.0003 * number, kind):
                    while time.monotonic() < until:
                        state["n"] += 1
                        state.sync()
            state["n"] += 1
            state.sync()
            assert redundict.load(path) == state


@pytest.mark.parametrize("call", ["open_write", "write", "sync_data", "close"])
def test_a_handler_s_os_error_inside_a_system_call_is_no_failure_of_the_medium(
    path: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The slot is not trusted, no copy is reported, and the next sync writes it again."""

    class Interrupted(inside.Disk):
        pass

    def interrupt(self: object, *args: object) -> object:
        signal.raise_signal(signal.SIGALRM)
        return getattr(inside.Disk, call)(self, *args)

    setattr(Interrupted, call, interrupt)
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            inside.use_disk(patch, Interrupted())
            state["n"] = 3
            with pytest.raises(TimeoutError, match="mine"), alarm(10, lambda: TimeoutError("mine")):
                state.sync()
        assert state == {"n": 3}
        state.sync()
        assert redundict.load(path) == {"n": 3}


class Bound:
    """Handlers of other kinds than a plain function."""

    def method(self, number: int, _: object) -> None:
        give_up(number)

    def __call__(self, number: int, *_: object, more: int = 0) -> None:
        give_up(number)


def give_up(number: int) -> None:
    """Let the second signal kill, as many programs do, and raise."""
    signal.signal(number, signal.SIG_DFL)
    raise TimeoutError("mine")


@pytest.mark.parametrize(
    "handler",
    [
        lambda number, _: give_up(number),
        lambda *given: give_up(given[0]),
        Bound().method,
        Bound(),
        functools.partial(Bound.method, Bound()),
    ],
)
def test_a_handler_that_resets_itself_is_still_no_failure_of_the_medium(
    path: str, monkeypatch: pytest.MonkeyPatch, handler: Callable[..., None]
) -> None:
    """It is known by the frame that Python gave it, although it is a handler no more."""

    class Interrupted(inside.Disk):
        def sync_data(self, fd: object) -> None:
            signal.raise_signal(signal.SIGALRM)
            super().sync_data(fd)

    before = signal.getsignal(signal.SIGALRM)
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            inside.use_disk(patch, Interrupted())
            signal.signal(signal.SIGALRM, handler)
            state["n"] = 3
            with pytest.raises(TimeoutError, match="mine"):
                state.sync()
            signal.signal(signal.SIGALRM, before)
    assert redundict.load(path) == {"n": 3}


def test_what_interrupts_the_wait_for_another_thread_reaches_the_caller(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `sync` that waits for its turn raises what the handler raised."""
    disk = inside.WaitingDisk()

    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch:
            inside.use_disk(patch, disk)
            state["n"] = 3
            other = threading.Thread(target=state.sync, daemon=True)
            other.start()
            assert disk.reached.wait(10)
            state["n"] = 4
            with (
                pytest.raises(TimeoutError, match="mine"),
                alarm(0.05, lambda: TimeoutError("mine")),
            ):
                state.sync()
            disk.go_on.set()
            other.join(10)
            assert not other.is_alive()
    assert redundict.load(path) == {"n": 4}


def test_with_saves_after_a_ctrl_c_in_the_middle_of_a_sync(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block ends with the interrupt, and its end saves what was changed until then."""

    class Interrupted(inside.Disk):
        calls = 0

        def sync_data(self, fd: object) -> None:
            type(self).calls += 1
            if self.calls == 1:
                raise KeyboardInterrupt
            super().sync_data(fd)

    with pytest.raises(KeyboardInterrupt), redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        inside.use_disk(monkeypatch, Interrupted())
        state["n"] = 3
        state.sync()
    assert redundict.load(path) == {"n": 3}
    redundict.open(path).close()
