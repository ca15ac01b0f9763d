"""`shared=True`: several processes have one store open, none overwrites what it has not seen."""

from __future__ import annotations

import errno
import gc
import marshal
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import redundict

from . import damage, inside


def opened(path: str, **options: Any) -> redundict.RedunDict:
    return redundict.open(path, shared=True, timeout=10, **options)


def test_what_another_has_committed_is_not_overwritten(path: str) -> None:
    """A commit on top of it is a conflict; after a reload, the change can be made again."""
    one, other = opened(path), opened(path)
    one["from"] = "one"
    one.sync()
    assert other.changed()
    other["from"] = "other"
    with pytest.raises(redundict.ConflictError):
        other.sync()
    assert redundict.load(path) == {"from": "one"}
    other.reload()
    assert not other.changed()
    assert other == {"from": "one"}
    other["too"] = "other"
    other.close()
    assert redundict.load(path) == {"from": "one", "too": "other"}
    one.close()  # nothing was changed in it, so there is nothing to conflict
    assert redundict.load(path) == {"from": "one", "too": "other"}


@pytest.mark.parametrize("others", [0, 1])
def test_what_another_holder_of_the_lock_may_have_touched_is_settled_again(
    path: str, writes_noted: Callable[[], list[int]], others: int
) -> None:
    """A holder that was killed may have written the newest again, and not synced it."""
    with opened(path) as state:
        state["n"] = 1
        state.sync()
        for _ in range(others):
            inside.kill(redundict.open(path))
        written = writes_noted()
        state["n"] = 2
        state.sync()
        assert written == [4096] * (2 + 2 * others)


def test_modify_takes_the_newest_state_first(path: str) -> None:
    """Both changes are there, in whatever order the commits came."""
    one, other = opened(path), opened(path)
    assert one.modify(lambda state: state.setdefault("a", 1)) == 1
    assert other.modify(lambda state: state.setdefault("b", 2)) == 2
    assert one.modify(lambda state: state.setdefault("c", 3)) == 3
    assert (other.generation, one.generation) == (2, 3)
    assert one == {"a": 1, "b": 2, "c": 3}
    assert redundict.load(path) == one
    one.close()
    other.close()


def test_a_function_that_raises_changes_nothing(path: str) -> None:
    """Neither memory nor disk keeps half of what it did."""
    with opened(path) as state:
        state["n"] = 1
        state.sync()

        def fail(inside: redundict.RedunDict) -> None:
            inside["n"] = 2
            raise KeyError

        with pytest.raises(KeyError):
            state.modify(fail)
        assert state == {"n": 1}
    assert redundict.load(path) == {"n": 1}


@pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning")  # of what it rolled back
def test_modify_succeeds_once_a_disk_that_could_not_sync_can(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the failed commit left looks whole: it is our own, and no other writer's."""

    with opened(path) as state:
        for n in (1, 2):
            state.modify(lambda inside, n=n: inside.update(n=n))
        with monkeypatch.context() as patch:
            inside.fail_on(patch, inside.SYNCS, errno.EIO)
            with pytest.raises(redundict.CommitError):
                state.modify(lambda inside: inside.update(n=3))
        assert state.reload() == 2
        state.modify(lambda inside: inside.update(n=inside["n"] + 2))
        assert state.generation == 4
        assert redundict.load(path) == {"n": 4}


def test_modify_begins_again_when_a_writer_slipped_past_the_lock(path: str) -> None:
    """Where the lock was lost, the trailers tell, and both changes are kept."""
    with opened(path) as state:
        state["n"] = 0
        state.sync()
        calls = []

        def change(inside: redundict.RedunDict) -> None:
            calls.append(dict(inside))
            if len(calls) == 1:
                os.remove(f"{path}.lock")
                with redundict.open(path) as past:
                    past["past"] = past.generation
            inside["n"] += 1

        state.modify(change)
        assert len(calls) == 2
        assert state == {"n": 1, "past": 1}
        with pytest.raises(redundict.ConflictError):
            calls.clear()
            state.modify(change, timeout=0)
        state.reload()
    assert redundict.load(path) == {"n": 1, "past": 3}


def test_the_lock_is_free_between_commits_and_held_in_a_transaction(path: str) -> None:
    """A writer of its own gets in between, and waits for a transaction."""
    with opened(path) as state:
        state["n"] = 1
        state.sync()
        with redundict.open(path) as alone:
            assert alone == {"n": 1}
            with pytest.raises(redundict.LockedError):
                redundict.open(path, shared=True, timeout=0)
        with state.transaction(), pytest.raises(redundict.LockedError):
            redundict.open(path)


def test_another_s_commit_is_waited_for(path: str) -> None:
    """Without a word about it: it is over soon, and no error for anybody."""
    with redundict.open(path, shared=True) as one, redundict.open(path, shared=True) as other:
        begun, go_on = threading.Event(), threading.Event()

        def slowly(state: redundict.RedunDict) -> None:
            begun.set()
            assert go_on.wait(10)
            state["one"] = 1

        first = threading.Thread(target=one.modify, args=(slowly,))
        first.start()
        assert begun.wait(10)
        change = lambda state: state.update(other=2)
        second = threading.Thread(target=other.modify, args=(change,))
        second.start()
        second.join(0.05)
        assert second.is_alive()
        go_on.set()
        first.join()
        second.join()
    assert redundict.load(path) == {"one": 1, "other": 2}


def test_a_reader_is_told_of_changes(path: str) -> None:
    """Without a lock, and without reading a payload."""
    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
        reader = redundict.open(path, "r")
        assert not reader.changed()
        state["n"] = 2
        state.sync()
        assert reader.changed()
        reader.reload()
        assert reader == {"n": 2}
        assert not reader.changed()


WORKER = """
import os, sys
import redundict
with redundict.open(sys.argv[1], shared=True, timeout=60) as state:
    def count(state):
        state["n"] = state.get("n", 0) + 1
    for _ in range(int(sys.argv[2])):
        state.modify(count)
        os.write(1, b".")
"""


def test_every_increment_that_returned_is_counted_whoever_is_killed(path: str) -> None:
    """Four processes count, some are killed and started again: no increment is lost or doubled."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, path, "25"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    kills = returned = 0
    workers = [start() for _ in range(4)]
    for number, worker in enumerate(workers[:2]):
        returned += len(worker.stdout.read(1 + number))  # it is at work
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            kills += 1
        workers.append(start())
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert worker.returncode in (0, -signal.SIGKILL), err.decode()
        returned += len(out)
    assert returned <= redundict.load(path)["n"] <= returned + kills
    assert returned >= 100


@pytest.mark.damages
def test_an_older_state_that_was_restored_under_a_store_is_a_change(path: str) -> None:
    """An older generation that takes the place of the newest is a change, however recent it is."""
    with redundict.open(path, shared=True, keep=2) as state:
        for number in range(6):
            state["n"] = number
            state.sync()
            if number == 2:
                backup = {slot: damage.read(slot) for slot in map(path.__add__, SLOTS)}
        assert not state.changed()
        for slot, content in backup.items():
            damage.overwrite(slot, content)
        assert state.changed()
        state.reload()
        assert state == {"n": 2}


SLOTS = (".a0", ".a1", ".b0", ".b1")


@pytest.mark.parametrize("end", ["close", "with", "drop"])
@pytest.mark.parametrize(
    ("format", "begin"),
    [
        ("json", {"n": 1}),
        ("pickle", {"n": {"abc", "def", "ghi"}}),
        (marshal, {"n": [1]}),
        ("json", {}),
    ],
)
def test_a_process_that_changed_nothing_gets_no_conflict(
    path: str, format: object, begin: dict[str, object], end: str
) -> None:
    """It closes in peace, although another one has committed, in every format."""
    if begin:
        with redundict.open(path, format=format) as first:
            first.update(begin)
    one = redundict.open(path, format=format, shared=True, defaults={"more": {"x": 1}})
    with redundict.open(path, format=format, shared=True) as other:
        other["m"] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if end == "close":
            one.close()
        elif end == "with":
            with one:
                pass
        del one
        gc.collect()
    assert redundict.load(path, format=format) == {**begin, "m": 2}


@pytest.mark.parametrize("begin", [{"n": 1}, {}])
def test_a_process_that_changed_something_gets_its_conflict(
    path: str, begin: dict[str, object]
) -> None:
    """What cannot be saved without overwriting the other's commit is an error of `close`."""
    if begin:
        with redundict.open(path) as first:
            first.update(begin)
    one = redundict.open(path, shared=True)
    with redundict.open(path, shared=True) as other:
        other["m"] = 2
    one["o"] = 3
    with pytest.raises(redundict.ConflictError):
        one.close()
    inside.kill(one)
    assert redundict.load(path) == {**begin, "m": 2}


def test_a_process_that_changed_nothing_exits_in_silence(path: str) -> None:
    """The exit of the interpreter is no occasion for a conflict either."""
    program = f"""
import redundict, subprocess, sys
one = redundict.open({path!r}, shared=True, defaults={{"a": 1}})
with redundict.open({path!r}, shared=True) as other:
    other["m"] = 2
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"m": 2}
