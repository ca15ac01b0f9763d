"""`healing`: what is written is not trusted before it is durable; the survivor is made whole."""

from __future__ import annotations

import contextlib
import dis
import errno
import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import redundict
from redundict.engine import files as durable
from redundict.engine import threads

from . import damage
from .test_store import writer


def test_the_last_slot_of_a_copy_that_holds_the_newest_is_not_written_to(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were swapped in copy A, and B's cannot follow: B keeps what it has."""

    class NoB1(durable.Disk):
        def open_write(self, path: str) -> int:
            if path.endswith(".b1"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().open_write(path)

    one = writer(path)
    for number in (1, 2, 3):
        one.commit(b"%d" % number, "json")
    for old, new in ((".a0", ".x"), (".a1", ".a0"), (".x", ".a1")):
        os.rename(path + old, path + new)
    newest = damage.read(path + ".b0")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", NoB1())
        two = writer(path)
        with pytest.warns(redundict.RedundancyWarning, match="the only slot of its copy"):
            assert two.commit(b"4", "json") == 4
        assert damage.read(path + ".b0") == newest
    for number in (5, 6):
        two.commit(b"%d" % number, "json")


def test_a_failed_copy_is_warned_of_and_tried_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One durable copy is a commit; the other is healed as soon as it can be, by a bare sync."""

    class NoSpaceOnB(durable.Disk):
        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            if ".b" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(fd, data, offset)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
        with monkeypatch.context() as patch:
            patch.setattr(durable, "disk", NoSpaceOnB())
            state["n"] = 2
            with pytest.warns(redundict.RedundancyWarning, match="No space left") as caught:
                assert state.sync() == 2
            assert caught[0].filename == __file__
            assert damage.read(path + ".a1") != damage.read(path + ".b1")
        assert state.sync() == 2
    assert damage.read(path + ".a1") == damage.read(path + ".b1")


class NotSynced(durable.Disk):
    """A disk of which the files with some names cannot be synced."""

    def __init__(self, *endings: str) -> None:
        self.endings = endings
        self.paths: dict[int, str] = {}

    def open_write(self, path: str) -> int:
        fd = super().open_write(path)
        self.paths[fd] = path
        return fd

    def sync_data(self, fd: int) -> None:
        self.sync_all(fd)

    def sync_all(self, fd: int) -> None:
        if self.paths.get(fd, "").endswith(self.endings):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_all(fd)


@pytest.mark.parametrize("anew", [False, True])
def test_a_commit_that_failed_is_no_generation_however_whole_it_looks(
    path: str, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """The one before stands, for who opens anew too; the slot is the next victim."""
    one = writer(path)
    for number in (1, 2):
        one.commit(b"%d" % number, "json")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", NotSynced(".a0", ".b0"))
        for _ in range(2):
            with pytest.raises(redundict.CommitError, match="generation 2 stands"):
                one.commit(b"3", "json")
    if anew:
        one = one.again()
        assert one.open()[0].payload == b"2"
    assert one.commit(b"4", "json") == 5
    assert [generation.number for generation in redundict.check(path).generations] == [5, 2]


def test_a_copy_that_cannot_be_settled_is_told_of(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that has nothing new to write says that one copy is not known to be durable."""
    writer(path).commit(b"1", "json")
    two = writer(path)  # the first one was killed
    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", NotSynced(".b0"))
        for _ in range(2):
            with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.b0"):
                assert two.commit(b"1", "json") == 1
    assert two.commit(b"1", "json") == 1


@pytest.mark.parametrize("rotten", ["a", "b"])
def test_what_rots_between_opening_and_the_first_commit_is_not_passed_on(
    path: str, rotten: str
) -> None:
    """Each byte that is written onto itself, or onto a sibling, has verified just before."""
    writer(path).commit(b"1", "json")
    two = writer(path)  # the first one was killed, so that this one has to settle its generation
    damage.flip(f"{path}.{rotten}0", 0)
    assert two.commit(b"2", "json") == 2
    assert damage.read(path + ".a0") == damage.read(path + ".b0")
    assert [len(held.slots) for held in redundict.check(path).generations] == [2, 2]


def test_what_a_failed_sync_left_is_not_trusted_however_often_it_is_looked_at(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads as whole, as one of our own, and stays distrusted until it is written again."""

    class Failing(durable.Disk):
        fails_to_sync, closed = True, ""

        def open_write(self, path: str) -> int:
            if path == self.closed:
                raise PermissionError(errno.EACCES, "no")
            return super().open_write(path)

        def sync_data(self, fd: int) -> None:
            if self.fails_to_sync:
                raise OSError(errno.EIO, "no")

    store, disk = writer(path), Failing()
    for number in (1, 2):
        store.commit(b"%d" % number, "json")
    monkeypatch.setattr(durable, "disk", disk)
    with pytest.raises(redundict.CommitError):
        store.commit(b"failed", "json")
    (left,) = [p for p, at in store.ledger.places.items() if at.distrusted and ".b" in p]
    disk.fails_to_sync, disk.closed = False, left
    with pytest.warns(redundict.RedundancyWarning):
        store.commit(b"in one copy", "json")
    assert b"failed" in damage.read(left)
    store.ledger.look_again(store.generation)
    assert store.ledger.places[left].distrusted
    disk.closed = ""
    store.commit(b"in both", "json")


def test_a_slot_that_failed_and_was_denied_for_a_moment_is_written_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it could not be read between two commits is over once it can be read."""

    class Denied(durable.Disk):
        def open_read(self, path: str) -> int:
            if path.endswith(".b0"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return super().open_read(path)

    store = writer(path)
    for number in (1, 2):
        store.commit(b"%d" % number, "json")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "disk", NotSynced(".b0"))
        with pytest.warns(redundict.RedundancyWarning):
            store.commit(b"3", "json")
        patch.setattr(durable, "disk", Denied())
        store.commit(b"4", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in (5, 6):
            store.commit(b"%d" % number, "json")


def test_a_program_that_is_interrupted_anywhere_in_a_commit_writes_nothing_after_the_next(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever Ctrl-C comes: no helper that it left behind undoes what comes then."""

    class Slow(durable.Disk):
        _together = 10**9

        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            if threading.get_ident() != threading.main_thread().ident:
                time.sleep(0.002)
            return super().write(fd, data, offset)

    monkeypatch.setattr(durable, "disk", Slow())
    store = writer(path)
    for where in itertools.count(1):
        with interrupted_at(where) as was_interrupted, contextlib.suppress(KeyboardInterrupt):
            store.commit(b"interrupted %d" % where, "json")
        number = store.commit(b"whole %d" % where, "json")
        if not was_interrupted():
            break
        newest, *_ = redundict.check(path).generations
        assert (newest.number, len(newest.slots)) == (number, 2)
    assert where > 20


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
def test_a_store_is_let_go_of_when_nobody_writes_it_however_often_that_is_interrupted(
    path: str,
) -> None:
    """A second Ctrl-C, and a third, wait for the thread that the first one left at work."""
    store = writer(path)
    store.lock.acquire()
    left = store.ledger.at(0)[0].writing = durable.Overwriting(path, b"")
    at_work, main, held = threading.Event(), threading.main_thread().ident, []

    def work() -> None:
        with left._guard:
            at_work.set()
            for _ in range(2):
                time.sleep(0.05)
                signal.pthread_kill(main or 0, signal.SIGINT)
            time.sleep(0.05)
            held.append(store.lock.held)

    thread = threading.Thread(target=work)
    thread.start()
    assert at_work.wait(10)
    with pytest.raises(KeyboardInterrupt):
        store.release()
    assert held == [True]
    assert not store.lock.held
    thread.join()


@contextlib.contextmanager
def interrupted_at(where: int) -> Iterator[Callable[[], bool]]:
    """Raise `KeyboardInterrupt` at the n-th place in `threads` at which Python looks for signals.

    That is after a call, at the beginning of a function and at a jump back. Yields what tells
    whether it came to that.
    """
    left, last = where, dict[FrameType, str]()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != threads.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= last.get(frame, "").startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
            last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if left == 0:
            left = -1
            raise KeyboardInterrupt
        return trace

    sys._getframe().f_trace_opcodes = True  # without which 3.12.1 traces no instruction anywhere
    sys.settrace(trace)
    try:
        yield lambda: left < 0
    finally:
        sys.settrace(None)
