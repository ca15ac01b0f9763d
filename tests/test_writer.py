"""Commits in the background: in order, merged, never torn, and their errors told."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import errno
import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Any

import pytest

import redundict

from . import inside


class SlowDisk(inside.Disk):
    """A disk of which every sync waits until it is let through, or fails."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reached = threading.Event()
        self.error: int | None = None

    def _wait(self) -> None:
        self.reached.set()
        assert self.gate.wait(20)
        if self.error is not None:
            raise OSError(self.error, "no")

    def sync_all(self, fd: int) -> None:
        self._wait()
        super().sync_all(fd)

    def sync_data(self, fd: int) -> None:
        self._wait()
        super().sync_data(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    """Return a disk that lets everything through until its gate is cleared."""
    slow = SlowDisk()
    slow.gate.set()
    inside.use_disk(monkeypatch, slow)
    yield slow
    slow.gate.set()


def hold(disk: SlowDisk) -> None:
    disk.gate.clear()
    disk.reached.clear()


def background_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "redundict state.json"]


def saved(path: str) -> dict[Any, Any] | None:
    try:
        return redundict.load(path)
    except redundict.NotFoundError:
        return None


def eventually(is_so: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_sync_that_nobody_waits_for_takes_the_state_now(path: str, disk: SlowDisk) -> None:
    """What is changed after the call is not in that generation, though it was not written yet."""
    with redundict.open(path) as state:
        state["n"] = [1]
        state.sync()
        hold(disk)
        state["n"].append(2)
        future = state.sync_soon()
        assert disk.reached.wait(10)
        state["n"].append(3)
        assert not future.done()
        disk.gate.set()
        number = future.result(10)
        assert number == 2
        assert redundict.load(path) == {"n": [1, 2]}
    assert redundict.load(path) == {"n": [1, 2, 3]}


def test_those_overtaken_are_merged_and_answered(path: str, disk: SlowDisk) -> None:
    """Of ten that wait behind one, the newest is written, and all ten know its generation."""
    with redundict.open(path) as state:
        state["n"] = -1
        state.sync()
        hold(disk)
        state["n"] = 0
        first = state.sync_soon()
        assert disk.reached.wait(10)
        futures = []
        for state["n"] in range(1, 11):
            futures.append(state.sync_soon())
        disk.gate.set()
        assert first.result(10) == 2
        assert {future.result(10) for future in futures} == {3}
        assert redundict.load(path) == {"n": 10}


def test_a_sync_that_waits_comes_after_those_that_nobody_waited_for(
    path: str, disk: SlowDisk
) -> None:
    """Whoever writes, what is on disk in the end is the state that was taken last."""
    with redundict.open(path) as state:
        for n in range(200):
            state["n"] = n
            if n % 3:
                state.sync_soon()
            else:
                number = state.sync()
                assert number == state.generation
                assert redundict.load(path) == {"n": n}
    assert redundict.load(path) == {"n": 199}


def test_commits_from_several_threads_are_one_after_the_other(path: str) -> None:
    """Threads that hand over states in order get growing numbers, and the last is the newest."""
    lock, states, futures = threading.Lock(), iter(range(1, 201)), []
    with redundict.open(path) as state:

        def work() -> None:
            for _ in range(50):
                with lock:
                    n = next(states)
                    state["n"] = n
                    futures.append((n, state.sync_soon()))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        numbers = [future.result(10) for _, future in futures]
        assert [n for n, _ in futures] == list(range(1, 201))
        assert numbers == sorted(numbers)
        assert redundict.check(path).generation == numbers[-1]
        assert redundict.load(path) == {"n": 200}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_errors_reach_the_future_and_the_callback(path: str, disk: SlowDisk, error: int) -> None:
    """A full disk is told to who asked and to the application; once mended, nothing is missing."""
    events: list[redundict.Event] = []
    with redundict.open(path, on_event=events.append) as state:
        state["n"] = 1
        state.sync()
        disk.error = error
        state["n"] = 2
        with pytest.raises(redundict.CommitError) as caught:
            state.sync_soon().result(10)
        assert caught.value.path == path
        eventually(lambda: events)
        assert [event.kind for event in events] == [redundict.EventKind.FAILED]
        assert events[0].error is caught.value
        disk.error = None
        state.sync()
        assert redundict.load(path) == {"n": 2}


def test_an_interrupt_is_for_the_thread_that_was_interrupted(
    path: str, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in one thread's `sync` leaves every other one an answer, and the store usable."""

    def interrupt(fd: int) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    with redundict.open(path) as state:
        for state["n"] in (0, 1):
            state.sync()
        with monkeypatch.context() as patch:
            for call in inside.SYNCS:
                patch.setattr(disk, call, interrupt)
            state["n"] = 2
            with pytest.raises(KeyboardInterrupt):
                state.sync()
            state["n"] = 3
            other = state.sync_soon()
            assert isinstance(other.exception(10), redundict.CommitError | None)
        assert state.sync() == state.generation
    assert redundict.load(path) == {"n": 3}


@contextlib.contextmanager
def interrupted_at(
    where: int, interrupt: Callable[[], object], is_reached: Callable[[str], bool]
) -> Iterator[Callable[[], bool]]:
    """Call `interrupt` at the n-th place at which Python looks for signals.

    That is after a call, at the beginning of a function and at a jump back, in the files for which
    `is_reached` is true. Yields what tells whether it came to that.
    """
    left, last = where, dict[FrameType, str]()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not is_reached(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= last.get(frame, "").startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
            last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if left == 0:
            left = -1
            sys.settrace(None)
            interrupt()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # without which 3.12.1 traces no instruction anywhere
    sys.settrace(trace)
    try:
        yield lambda: left < 0
    finally:
        sys.settrace(before)


def open_files(path: str) -> list[str]:
    """Return the files below a store's path that this process has open."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in found if name.startswith(path)]


def ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:unclosed file")  # which the collector closes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning")
def test_an_interrupt_anywhere_in_a_sync_leaves_a_store_that_can_be_saved(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever line Ctrl-C comes, another thread can sync, and both copies are whole."""
    inside.use_disk(monkeypatch, inside.QuickDisk())
    state = redundict.open(path)
    inside.forget(state)  # if the test fails, nobody waits for the store at the exit
    for where in itertools.count(1):
        state["n"] = -where
        with (
            contextlib.suppress(KeyboardInterrupt),
            interrupted_at(where, ctrl_c, inside.is_code) as was_interrupted,
        ):
            state.sync()
        state["n"] = where
        other = threading.Thread(target=state.sync, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()
        if not was_interrupted():
            break
        newest, *_ = redundict.check(path).generations
        assert (redundict.load(path), len(newest.slots)) == ({"n": where}, 2)
    assert where > 100
    state.close()
    gc.collect()
    assert open_files(path) == []


def test_a_signal_handler_s_sync_is_not_undone_by_the_one_it_interrupted(path: str) -> None:
    """At whatever line it comes, it is refused, or what it saved is what is on disk."""
    refused = saved = 0

    def save_what_is_newer() -> None:
        nonlocal newest, refused
        state["n"] += 1
        try:
            newest = state.sync()
        except redundict.TransactionError:
            refused += 1

    with redundict.open(path) as state:
        state["n"] = 0
        for where in itertools.count(1):
            newest = 0
            state["n"] += 1
            with interrupted_at(
                where, save_what_is_newer, inside.is_code_above_the_engine
            ) as was_interrupted:
                state.sync()
            if newest:
                saved += 1
                assert redundict.load(path) == state
            if not was_interrupted():
                break
    assert refused > 2
    assert saved > 10


def test_what_cannot_be_stored_is_refused_at_once(path: str) -> None:
    """The state is taken in the calling thread, so what is wrong with it is raised there."""
    with redundict.open(path) as state:
        state["n"] = {1}
        with pytest.raises(redundict.UnstorableError, match=r"state\['n'\]"):
            state.sync_soon()
        del state["n"]


def test_a_failed_background_commit_is_tried_again_by_close(path: str, disk: SlowDisk) -> None:
    """A future that nobody looked at loses nothing: `close` commits the state, or raises."""
    state = redundict.open(path)
    state["n"] = 1
    state.sync()
    state["n"] = 2
    disk.error = errno.ENOSPC
    failed = state.sync_soon()
    assert isinstance(failed.exception(10), redundict.CommitError)
    with pytest.raises(redundict.CommitError):
        state.close()
    disk.error = None
    state.close()
    assert redundict.load(path) == {"n": 2}


def test_close_waits_for_what_was_handed_over(path: str, disk: SlowDisk) -> None:
    """When `close` returns, every future is answered, and the thread ends."""
    state = redundict.open(path)
    state.sync()
    hold(disk)
    state["n"] = 1
    future = state.sync_soon()
    assert disk.reached.wait(10)
    threading.Timer(0.05, disk.gate.set).start()
    state.close()
    assert future.result(0.5) == 2
    assert redundict.load(path) == {"n": 1}
    eventually(lambda: not background_threads())


def test_no_background_is_started_for_a_store_that_was_closed_meanwhile(path: str) -> None:
    """Another thread may close it in the middle of `sync_soon()`."""
    state = redundict.open(path)
    futures: list[Future[int]] = []

    def hand_over() -> None:
        with contextlib.suppress(redundict.ClosedError):
            while True:
                futures.append(state.sync_soon())

    thread = threading.Thread(target=hand_over)
    thread.start()
    eventually(lambda: futures)
    state.close()
    thread.join(10)
    assert all(future.result(10) == 1 for future in futures)
    eventually(lambda: not background_threads())


@pytest.mark.parametrize("act", ["reload", "rollback", "transaction", "commit"])
def test_what_was_handed_over_is_committed_before_anything_else(
    path: str, disk: SlowDisk, act: str
) -> None:
    """Nothing that replaces the state gives up what `sync` was already asked to save."""
    with redundict.open(path, keep=6) as state:
        state["n"] = 1
        state.sync()
        hold(disk)
        state["n"] = 2
        state.sync_soon()
        assert disk.reached.wait(10)
        state["n"] = 3
        future = state.sync_soon()
        threading.Timer(0.05, disk.gate.set).start()
        if act == "reload":
            state.reload()
            assert state == {"n": 3}
        elif act == "rollback":
            state.rollback()
            assert state == {"n": 2}
        elif act == "transaction":
            with state.transaction():
                assert redundict.load(path) == {"n": 3}
        else:
            state.modify(lambda it: it.update(n=it["n"] + 1))
            assert state == {"n": 4}
        assert future.result(0) == 3
        assert redundict.load(path, 3) == {"n": 3}


def test_a_future_that_is_cancelled_is_not_answered_and_the_state_is_saved(
    path: str, disk: SlowDisk
) -> None:
    """To cancel is to be told nothing; what was to be saved is saved."""
    with redundict.open(path) as state:
        state.sync()
        hold(disk)
        state["n"] = 1
        state.sync_soon()
        assert disk.reached.wait(10)
        state["n"] = 2
        futures = [state.sync_soon(), state.sync_soon()]
        assert futures[0].cancel()
        disk.gate.set()
        futures[1].result(10)
        assert redundict.load(path) == {"n": 2}


def test_a_future_may_call_back_into_the_store(path: str) -> None:
    """A callback that changes the state and saves it meets no lock that waits for itself."""
    with redundict.open(path) as state:
        done = threading.Event()

        def again(_: Future[int]) -> None:
            with state.transaction():
                state["called"] = True
            done.set()

        for state["n"] in range(50):
            state.sync_soon().add_done_callback(again)
            with state.lock:
                state["m"] = state["n"]
        assert done.wait(10)
        state.sync()
    assert redundict.load(path) == {"called": True, "n": 49, "m": 49}


def test_asyncio_can_wait_for_a_commit(path: str) -> None:
    """A coroutine awaits the disk without holding up the event loop."""

    async def main() -> int:
        with redundict.open(path) as state:
            state["n"] = 1
            return await asyncio.wrap_future(state.sync_soon())

    assert asyncio.run(main()) == 1
    assert redundict.load(path) == {"n": 1}


def test_an_unchanged_state_writes_nothing_in_the_background(path: str) -> None:
    """As with `sync`: the answer is the generation that holds it."""
    with redundict.open(path) as state:
        state["n"] = 1
        assert state.sync() == state.sync_soon().result(10) == 1


def test_shared_stores_are_written_in_the_background_too(path: str) -> None:
    """The lock is held only while the background commits; a conflict reaches the future."""
    with redundict.open(path, shared=True) as one, redundict.open(path, shared=True) as two:
        one["a"] = 1
        assert one.sync_soon().result(10) == 1
        two["b"] = 1
        with pytest.raises(redundict.ConflictError):
            two.sync_soon().result(10)
        two.reload()
        two["b"] = 2
        assert two.sync_soon().result(10) == 2
        one.reload()
    assert redundict.load(path) == {"a": 1, "b": 2}


def test_autosync_commits_what_changes(path: str) -> None:
    """A change is on disk at most so many seconds later, without any call."""
    with redundict.open(path, autosync=0.2) as state:
        for state["n"] in range(3):
            began = time.monotonic()
            eventually(lambda n=state["n"]: saved(path) == {"n": n})
            assert time.monotonic() - began < 5  # 0.2, on a machine that does something else too
        eventually(lambda: state.generation >= 3)  # what is seen on disk may not be durable yet
    eventually(lambda: not background_threads())


def test_autosync_writes_nothing_where_nothing_changes(path: str) -> None:
    """Ten rounds over the same state are one generation."""
    with redundict.open(path, autosync=0.01) as state:
        state["n"] = 1
        eventually(lambda: state.generation == 1)
        state["m"] = 1  # the rounds go on, and each looks
        eventually(lambda: state.generation == 2)
        state.sync()
        assert state.generation == 2


def test_autosync_never_commits_half_a_transaction(path: str) -> None:
    """However often it comes, what a transaction changes as one is committed as one."""
    with redundict.open(path, keep=50, autosync=0.001) as state:
        state.update({"from": 100, "to": 0})
        for _ in range(40):
            with state.transaction():
                state["from"] -= 1
                time.sleep(0.002)
                state["to"] += 1
            with state.lock:
                state["from"] -= 1
                time.sleep(0.002)
                state["to"] += 1
    numbers = [g.number for g in redundict.open(path, "r").generations()]
    assert len(numbers) > 40
    for number in numbers:
        found = redundict.load(path, number)
        assert found["from"] + found["to"] == 100


def test_autosync_tells_a_failure_once_and_goes_on(path: str, disk: SlowDisk) -> None:
    """A disk that stays full is one event, not one a second; once mended, the state is saved."""
    events: list[redundict.Event] = []
    with redundict.open(path, autosync=0.005, on_event=events.append) as state:
        state["n"] = {1}
        eventually(lambda: events)
        assert isinstance(events[0].error, redundict.UnstorableError)
        state["n"] = {2}  # another state that cannot be saved, for the same reason
        assert len(events) == 1
        disk.error = errno.ENOSPC
        state["n"] = 1
        eventually(lambda: len(events) >= 2)
        assert isinstance(events[-1].error, redundict.CommitError)
        disk.error = None
        eventually(lambda: state.generation)
    assert redundict.load(path) == {"n": 1}


@pytest.mark.parametrize("wrong", [{"autosync": 0}, {"autosync": -1}, {"autosync": 1, "flag": "r"}])
def test_an_autosync_that_makes_no_sense_is_refused(path: str, wrong: dict[str, Any]) -> None:
    """Nothing is opened, and no lock is left."""
    redundict.open(path).close()
    with pytest.raises(ValueError, match="autosync"):
        redundict.open(path, **wrong)
    redundict.open(path).close()


def test_a_background_thread_does_not_keep_a_store_alive(path: str) -> None:
    """A store that is dropped is closed, its thread ends, and the next one can be opened."""
    state = redundict.open(path, autosync=100)
    state["n"] = 1
    state.sync_soon().result(10)
    del state
    gc.collect()
    eventually(lambda: not background_threads())
    with redundict.open(path) as again:
        assert again == {"n": 1}
