"""Helper threads: at the same time, reused, and never a reason to hang."""

from __future__ import annotations

import _thread
import subprocess
import sys
import threading
import time

import pytest

from redundict.engine import files as durable
from redundict.engine import threads
from redundict.engine.threads import side_by_side


def test_calls_are_made_at_the_same_time() -> None:
    """Each waits for the other to be there, which none could if they came one after the other."""
    barrier = threading.Barrier(3, timeout=10)
    assert side_by_side([lambda: barrier.wait() and None] * 3) == [None] * 3


def test_what_each_raised_is_returned_in_their_order() -> None:
    """The error of one keeps no other from its end."""
    made = []
    errors = [ValueError("first"), None, OSError("third")]

    def call(number: int) -> None:
        made.append(number)
        if error := errors[number]:
            raise error

    assert side_by_side([lambda n=n: call(n) for n in range(3)]) == errors
    assert sorted(made) == [0, 1, 2]


def test_no_thread_is_started_for_a_call_that_a_helper_is_there_for() -> None:
    """A thousand calls are made by the helper of the first."""
    side_by_side([lambda: None] * 2)
    before = _thread._count()
    for _ in range(1000):
        side_by_side([lambda: None] * 2)
    assert _thread._count() == before


def test_a_signal_waits_for_the_helpers() -> None:
    """Nobody goes on while a helper is still at work on a file."""
    ended = threading.Event()

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side([interrupted, lambda: ended.wait(0.1) or ended.set()])
    assert ended.is_set()


def test_a_signal_that_comes_while_they_are_waited_for_waits_as_well() -> None:
    """However often it comes: it is raised when all have ended, and they can be used again."""
    ended = threading.Event()

    def work() -> None:
        for _ in range(3):
            time.sleep(0.05)
            _thread.interrupt_main()
        time.sleep(0.05)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        side_by_side([lambda: None, work])
    assert ended.is_set()
    assert side_by_side([lambda: None] * 2) == [None, None]


def test_an_interrupt_in_a_helper_is_an_error_and_no_hang() -> None:
    """Whatever ends a call, it has ended, and the helper is there for the next one."""

    def interrupted() -> None:
        raise SystemExit

    (_, error) = side_by_side([lambda: None, interrupted])
    assert "SystemExit" in str(error)
    assert side_by_side([lambda: None] * 2) == [None, None]


def test_a_helper_starts_though_threading_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may close a store while this thread holds a lock of `threading` itself."""
    monkeypatch.setattr(threads, "_idle", [])
    done: list[object] = []

    def interrupted() -> None:
        with threading._active_limbo_lock:
            done.append(side_by_side([lambda: None] * 2))

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(10)
    assert done == [[None, None]]


def test_the_last_idle_helper_may_be_taken_by_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A helper that was there a moment ago and is not any more is no error."""

    class Raced(list[object]):
        def __bool__(self) -> bool:
            return True

    monkeypatch.setattr(threads, "_idle", Raced())
    assert side_by_side([lambda: None] * 2) == [None] * 2


def test_helpers_do_not_count_as_threads_that_change_a_state() -> None:
    """A program of one thread stays one, and pays for no snapshots."""
    assert threads.alone()
    side_by_side([lambda: None] * 3)
    assert threads.alone()
    other = threading.Thread(target=threading.Event().wait, args=(0.2,))
    other.start()
    assert not threads.alone()
    other.join()


def test_at_the_exit_of_the_interpreter_calls_are_made_without_helpers() -> None:
    """Where no thread can be started any more, the calls are made all the same."""
    program = """
import atexit, sys
from redundict.engine.threads import side_by_side
made = []
calls = [lambda n=n: made.append(n) for n in range(2)]
atexit.register(lambda: print(side_by_side(calls), sorted(made)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("[None, None] [0, 1]\n", "")


def test_two_copies_are_flushed_at_once_where_a_flush_is_slow(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time shows that the second takes long; from then on, the two meet."""

    class Slow(durable.Disk):
        barrier: threading.Barrier | None = None

        def sync_data(self, fd: int) -> None:
            super().sync_data(fd)
            if self.barrier:
                self.barrier.wait()
            else:
                threading.Event().wait(0.005)

    disk = Slow()
    monkeypatch.setattr(durable, "disk", disk)
    monkeypatch.setattr(durable, "_WORTH_A_THREAD", 0.002)
    monkeypatch.setattr(durable, "_TIMES", 2)
    overwrite_two(path)  # new files are slower than any later ones
    assert not disk._together
    overwrite_two(path)
    assert disk._together == 2
    disk.barrier = threading.Barrier(2, timeout=10)
    for _ in range(2):
        overwrite_two(path)
    assert not disk.barrier.broken
    disk.barrier = None  # it is asked again, one after the other, whether it pays still
    overwrite_two(path)
    assert disk._together == 2


def test_one_after_the_other_where_only_the_first_flush_is_slow(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive that has nothing left to flush answers at once: a thread would save nothing."""
    calls = []

    class OneCache(durable.Disk):
        def write_out(self, fd: int) -> None:
            calls.append("begun")

        def sync_data(self, fd: int) -> None:
            time.sleep(0.0 if calls[-1] == "synced" else 0.01)
            calls.append("synced")
            assert threading.current_thread() is threading.main_thread()

    monkeypatch.setattr(durable, "disk", OneCache())
    monkeypatch.setattr(durable, "_WORTH_A_THREAD", 0.005)
    for _ in range(3):
        overwrite_two(path)
    assert calls == ["begun"] * 2 + ["begun", "begun", "synced", "synced"] * 2


def overwrite_two(path: str) -> None:
    """Make two files hold a block, as a commit does in its steady state."""
    names = [f"{path}.{n}" for n in range(2)]
    files = [durable.Overwriting(n, b"x" * 4096, sync_size=False, sync_name=False) for n in names]
    assert durable.overwrite_all(files) == {}
