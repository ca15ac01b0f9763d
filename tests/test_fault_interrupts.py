"""Hazard: an interrupt at any line of a call that spans several steps, or a thread in between."""

from __future__ import annotations

import errno
import gc
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import redundict

from . import damage, inside

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class InterruptError(Exception):
    """What a signal handler raises."""


@contextmanager
def interrupted_at_call(number: int) -> Iterator[Callable[[], bool]]:
    """Raise where the n-th function of the package begins, as a signal may; tell if it came."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "call" and inside.is_code(frame.f_code.co_filename):
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise InterruptError
        return None

    sys.settrace(trace)
    try:
        yield lambda: left <= 0
    finally:
        sys.settrace(None)


def change(state: redundict.RedunDict) -> None:
    state["n"] = -1


def in_a_transaction(state: redundict.RedunDict) -> None:
    with state.transaction():
        change(state)


ACTS: dict[str, Callable[[redundict.RedunDict], object]] = {
    "transaction": in_a_transaction,
    "modify": lambda state: state.modify(change),
    "rollback": lambda state: state.rollback(),
    "reload": lambda state: state.reload(),
}


@pytest.mark.parametrize("act", ACTS)
def test_after_an_interrupt_at_any_call_the_with_block_saves(
    path: str, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """What the program changes then is saved, and no lock is left that another writer waits for."""
    inside.use_disk(monkeypatch, inside.QuickDisk())
    number = 0
    while True:
        number += 1
        try:
            with redundict.open(path, keep=2) as state:
                for state["n"] in (1, 2):
                    state.sync()
                with interrupted_at_call(number) as was_interrupted:
                    ACTS[act](state)
        except InterruptError:
            seen = dict(state) if not isinstance(state, inside.CLOSED) else None
            assert seen is None
        if not was_interrupted():
            break
        with redundict.open(path, keep=2) as state:
            assert state["n"] in (-1, 1, 2)
            state["after"] = number
        assert redundict.load(path)["after"] == number
    assert number > 20


@pytest.mark.parametrize("act", ["rollback", "reload", "modify"])
def test_what_is_changed_after_an_interrupt_is_not_replaced(
    path: str, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """The program goes on with the memory that it sees, and the next sync saves that."""
    inside.use_disk(monkeypatch, inside.QuickDisk())
    with redundict.open(path, keep=2) as state:
        number = 0
        while True:
            number += 1
            for state["n"] in (1, 2):
                state.sync()
            with interrupted_at_call(number) as was_interrupted:
                try:
                    ACTS[act](state)
                except InterruptError:
                    sys.settrace(None)
                    state["mine"] = number
                    state.sync()
                    assert redundict.load(path) == state
                    assert state["mine"] == number
            if not was_interrupted():
                break
        assert number > 20


def test_an_undo_needs_no_disk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of `modify` that raises leaves nothing behind, though nothing can be read."""
    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
        with monkeypatch.context() as patch, pytest.raises(KeyError):

            def spoil(it: redundict.RedunDict) -> None:
                it["n"] = 2
                inside.fail_on(patch, "open_read", errno.EMFILE)
                raise KeyError

            state.modify(spoil)
        assert state == {"n": 1}


@pytest.mark.damages
@pytest.mark.parametrize("harm", ["missing", "unreadable", "rotten"])
@pytest.mark.parametrize("keep", [2, 4])
def test_a_slot_that_may_hold_the_newest_generation_is_not_healed_with_an_older_one(
    path: str, monkeypatch: pytest.MonkeyPatch, keep: int, harm: str
) -> None:
    """What was acknowledged in one copy only is there again when that copy is."""
    state = redundict.open(path, keep=keep)
    for state["n"] in range(1, keep + 3):
        state.sync()
    with monkeypatch.context() as patch, pytest.warns(redundict.RedundancyWarning):
        inside.fail_on(patch, ("open_write", "create"), errno.ENOSPC, *COPY_B)
        state["n"] = "newest"
        state.sync()
    inside.kill(state)
    [home] = [
        slot.path
        for slot in redundict.check(path).slots
        if slot.sound and slot.generation == state.generation
    ]
    held = damage.read(home)
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if harm == "missing":
            damage.remove(home)
        elif harm == "rotten":
            damage.flip(home, 1)
        else:
            inside.fail_on(patch, "open_read", errno.EIO, home[len(path) :])
        state = redundict.open(path, keep=keep)
        assert state["n"] != "newest"
        inside.kill(state)
        if harm == "rotten":
            damage.flip(home, 1)
    if harm == "missing":
        damage.overwrite(home, held)
    assert redundict.load(path) == {"n": "newest"}


COPY_B = tuple(f".b{index}" for index in range(4))


def test_a_shared_store_is_not_let_go_of_while_another_thread_commits(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that fails at its beginning waits for the thread that writes."""
    disk = inside.WaitingDisk()

    with redundict.open(path, shared=True, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch:
            inside.use_disk(patch, disk)
            state["n"] = 3
            writer = threading.Thread(target=state.sync, daemon=True)
            writer.start()
            assert disk.reached.wait(10)
            state["bad"] = {1}

            def fail() -> None:
                with pytest.raises(redundict.UnstorableError), state.transaction():
                    pass

            other = threading.Thread(target=fail, daemon=True)
            other.start()
            other.join(0.05)
            with pytest.raises(redundict.LockedError):
                redundict.open(path)
            disk.go_on.set()
            writer.join(10)
            other.join(10)
        del state["bad"]


def test_a_state_that_was_refused_does_not_load_after_an_older_one_was_accepted(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed flush and a reload, `sync` writes above what may look whole on disk."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch:
            inside.fail_on(patch, inside.SYNCS, errno.EIO)
            state["n"] = 3
            with pytest.raises(redundict.CommitError):
                state.sync()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert state.reload() == 2
        state.sync()
        inside.kill(state)
        assert redundict.load(path) == {"n": 2}


def test_a_thread_that_waited_for_the_lock_of_a_store_that_was_closed_is_told(path: str) -> None:
    """It neither writes nor takes the store's lock again."""
    state = redundict.open(path)
    state["n"] = 1
    raised: list[BaseException] = []

    def roll_back() -> None:
        try:
            state.rollback()
        except redundict.ClosedError as error:
            raised.append(error)

    with state.lock:
        waiting = threading.Thread(target=roll_back, daemon=True)
        waiting.start()
        waiting.join(0.05)
        state.close()
    waiting.join(10)
    assert len(raised) == 1
    redundict.open(path).close()


def test_a_transaction_that_is_dropped_before_its_end_is_undone_at_once(path: str) -> None:
    """An interrupt may come before the first line of its end. No collector is needed then."""
    gc.disable()
    try:
        with redundict.open(path) as state:
            state["n"] = 1
            transaction = state.transaction()
            transaction.__enter__()
            state["n"] = 2
            del transaction
            assert state == {"n": 1}
            state["n"] = 3
            state.sync()
    finally:
        gc.enable()
    assert redundict.load(path) == {"n": 3}


@pytest.mark.parametrize("replaced", [RuntimeError("release unlocked lock"), KeyError("thread")])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, TimeoutError, RecursionError])
def test_an_interrupt_that_threading_replaces_reaches_the_caller(
    path: str, monkeypatch: pytest.MonkeyPatch, replaced: Exception, kind: type[BaseException]
) -> None:
    """An interrupt inside `Thread.start` may surface as an error of `threading`."""

    def start(_: threading.Thread) -> None:
        try:
            raise kind("mine")
        finally:
            raise replaced

    with redundict.open(path) as state:
        state["n"] = 1
        with monkeypatch.context() as patch, pytest.raises(kind, match="mine"):
            patch.setattr(threading.Thread, "start", start)
            state.sync_soon()
        with monkeypatch.context() as patch, pytest.raises(kind, match="mine"):
            patch.setattr(threading.Thread, "start", start)
            redundict.open(path + "2", autosync=1)
        state["n"] = 2
        assert state.sync_soon().result(10) == state.generation
    assert redundict.load(path) == {"n": 2}


@pytest.mark.parametrize("call", ["open_write", "sync_data", "close"])
def test_an_interrupt_at_the_end_of_a_with_block_costs_no_change(
    path: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The end of the block saves once more, and the interrupt goes on."""
    calls = []

    class Interrupted(inside.Disk):
        pass

    def interrupt(self: object, *args: object) -> object:
        calls.append(call)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return getattr(inside.Disk, call)(self, *args)

    setattr(Interrupted, call, interrupt)
    with pytest.raises(KeyboardInterrupt), redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        state["n"] = 3
        inside.use_disk(monkeypatch, Interrupted())
    assert redundict.load(path) == {"n": 3}
    redundict.open(path).close()
