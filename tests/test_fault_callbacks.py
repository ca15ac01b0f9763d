"""Hazard: a callback, a done-callback or a log handler of the application raises."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import redundict

from . import inside

pytestmark = [
    pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

KINDS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError]
ONE_COPY = ("open_write", "create"), 28, ".b0", ".b1"  #: Copy B cannot be written.


def raising(kind: type[BaseException]) -> Callable[..., object]:
    def wrong(*_: object) -> None:
        raise kind("of the application")

    return wrong


class WrongHandler(logging.Handler):
    """A log handler that raises."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind

    def emit(self, record: logging.LogRecord) -> None:
        raise self.kind("of the application")


@pytest.fixture
def log_handler(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let each message to the log raise the exception that is the parameter."""
    handler, log = WrongHandler(request.param), logging.getLogger("redundict")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield
    log.setLevel(logging.NOTSET)
    log.removeHandler(handler)


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert is_true()


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_that_raises_does_not_stop_autosync(
    path: str, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """Whatever a report of a failure raises, the next change is saved as well."""
    told = threading.Event()

    def wrong(_: redundict.Event) -> None:
        told.set()
        raise kind("of the application")

    with redundict.open(path, autosync=0.02, on_event=wrong) as state:
        state.sync()
        with monkeypatch.context() as patch:
            inside.fail_on(patch, inside.SYNCS, 28)
            state["n"] = 1
            assert told.wait(10)
        state["n"] = 2
        wait_until(lambda: redundict.load(path) == {"n": 2})


@pytest.mark.parametrize("log_handler", KINDS, indirect=True)
@pytest.mark.usefixtures("log_handler")
def test_a_log_handler_that_raises_does_not_stop_autosync(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the log."""
    with redundict.open(path, autosync=0.02) as state:
        state.sync()
        with monkeypatch.context() as patch:
            failing = inside.fail_on(patch, inside.SYNCS, 28)
            state["n"] = 1
            wait_until(lambda: failing.count >= 4)
        state["n"] = 2
        wait_until(lambda: redundict.load(path) == {"n": 2})


@pytest.mark.parametrize("log_handler", [ValueError], indirect=True)
@pytest.mark.usefixtures("log_handler")
def test_a_log_handler_that_raises_fails_neither_opening_nor_sync(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its error is printed, as `logging` prints one, and the callback is still called."""
    events: list[redundict.Event] = []
    with redundict.open(path, keep=2, on_event=events.append) as state:
        for state["n"] in (1, 2, 3):
            with monkeypatch.context() as patch:
                inside.fail_on(patch, *ONE_COPY)
                state.sync()
        inside.kill(state)
    assert len(events) == 3
    with redundict.open(path, keep=2, on_event=events.append) as state:
        assert state == {"n": 3}
        for state["n"] in (4, 5):
            state.sync()
    assert events[-1].kind is redundict.EventKind.RECOVERED
    assert "of the application" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_done_callback_that_raises_stops_no_other_waiter(
    path: str, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """Every other callback, thread and task gets its generation, and so does the next commit."""
    found: list[int] = []
    disk = inside.WaitingDisk()

    async def wait(future: Any) -> int:
        return int(await future)

    with redundict.open(path, keep=2) as state, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch:
            inside.use_disk(patch, disk)
            futures = []
            for state["n"] in (3, 4, 5):
                future = state.sync_soon()
                future.add_done_callback(raising(kind))
                future.add_done_callback(lambda done: found.append(done.result()))
                futures.append(future)
            assert disk.reached.wait(10)
            answers = [pool.submit(asyncio.run, wait(future)) for future in futures]
            disk.go_on.set()
            numbers = [future.result(10) for future in futures]
            assert [answer.result(10) for answer in answers] == numbers
        state["n"] = 6
        assert state.sync_soon().result(10) == numbers[-1] + 1
        wait_until(lambda: found == numbers)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_a_done_callback_raises_in_the_caller_s_thread_reaches_the_caller(
    path: str, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """The state is durable, all other callbacks were called, and `close` can be called again."""
    found: list[int] = []
    state = redundict.open(path)
    with monkeypatch.context() as patch:
        inside.commit_nothing_soon(patch)
        for state["n"] in (1, 2):
            future = state.sync_soon()
            future.add_done_callback(raising(kind))
            future.add_done_callback(lambda done: found.append(done.result()))
        with pytest.raises(kind):
            state.close()
    assert found == [1, 1]
    state.close()
    assert redundict.load(path) == {"n": 2}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_future_that_is_done_raises_what_its_callback_raises_at_once(
    path: str, kind: type[BaseException]
) -> None:
    """As with every other future, the caller of add_done_callback gets it."""
    with redundict.open(path) as state:
        state["n"] = 1
        future = state.sync_soon()
        future.result(10)
        with pytest.raises(kind):
            future.add_done_callback(raising(kind))


def test_a_future_whose_completion_was_interrupted_is_completed_by_the_next_call(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread waits for an answer that never comes."""
    state = redundict.open(path)
    with monkeypatch.context() as patch:
        inside.commit_nothing_soon(patch)
        state["n"] = 1
        future = state.sync_soon()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(future), "set_result", raising(KeyboardInterrupt))
        state.close()
    assert not future.done()
    with pytest.raises(redundict.LockedError):
        redundict.open(path)  # nobody else can come in between
    state.close()
    assert future.result(0) == 1


@pytest.mark.usefixtures("no_writer_is_waited_for")
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_callback_raises_changes_neither_memory_nor_disk(
    path: str, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """A commit in one copy only is told after it is adopted; `sync` raises no `Exception` of it."""
    with redundict.open(path, keep=2, on_event=raising(kind)) as state:
        for state["n"] in (1, 2, 3):
            with monkeypatch.context() as patch, warnings.catch_warnings():
                inside.fail_on(patch, *ONE_COPY)
                if issubclass(kind, Exception):
                    state.sync()
                else:
                    with pytest.raises(kind):
                        state.sync()
            assert redundict.load(path) == state
        for state["n"] in (4, 5):
            state.sync()


@pytest.mark.parametrize("enter", ["result", "add_done_callback", "cancel"])
def test_an_interrupt_at_the_lock_of_a_future_leaves_it_free(path: str, enter: str) -> None:
    """The background must not wait for ever for a lock that an interrupted thread left behind."""
    acts: dict[str, Callable[[Any], object]] = {
        "result": lambda future: future.result(0),
        "add_done_callback": lambda future: future.add_done_callback(len),
        "cancel": lambda future: future.cancel(),
    }

    def interrupt(frame: Any, event: str, _: object) -> None:
        inside_lock = (
            "threading" in frame.f_code.co_filename and frame.f_code.co_name == "__enter__"
        )
        if event == "return" and inside_lock:  # it has the lock, and `with` does not know it yet
            raise KeyboardInterrupt

    with redundict.open(path) as state:
        with inside.background_lock_held(state):
            state["n"] = 1
            future = state.sync_soon()
            before = sys.getprofile()
            sys.setprofile(interrupt)
            try:
                acts[enter](future)
            except (KeyboardInterrupt, TimeoutError):
                pass
            finally:
                sys.setprofile(before)
        thread = threading.Thread(target=lambda: future.add_done_callback(len), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        if enter != "cancel":
            assert future.result(10) == 1


def test_an_interrupt_in_the_wait_for_a_future_reaches_the_caller(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes just after the lock is released, and does not become an error of `threading`."""

    def interrupt(_: Any, event: str, called: Any) -> None:
        if event == "c_return" and called.__name__ == "_release_save":
            raise KeyboardInterrupt("mine")

    with redundict.open(path) as state:
        with monkeypatch.context() as patch:
            inside.commit_nothing_soon(patch)
            state["n"] = 1
            future = state.sync_soon()
        before = sys.getprofile()
        try:
            sys.setprofile(interrupt)
            with pytest.raises(KeyboardInterrupt, match="mine"):
                future.result(5)
        finally:
            sys.setprofile(before)
        state["n"] = 2
        assert state.sync_soon().result(10) == future.result(10) == 1
