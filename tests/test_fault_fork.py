"""A child that inherits an open store: it writes nothing, and releases nothing of the parent's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import redundict

from . import damage, inside

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


def in_a_child(act: Callable[[], object]) -> str:
    """Run `act` in a child of fork; return what it raised, or `nothing`."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            act()
            answer = "nothing"
        except BaseException as error:  # noqa: BLE001 - it is what is asked for
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.wait()
    return answer


def everything(path: str) -> dict[str, bytes]:
    names = [f"{path}.{copy}{index}" for copy in "ab" for index in "01"] + [f"{path}.lock"]
    return {name: damage.read(name) for name in names if os.path.exists(name)}


ACTS: dict[str, Callable[[Any], object]] = {
    "sync": lambda state: state.sync(),
    "close": lambda state: state.close(),
    "reload": lambda state: state.reload(),
    "rollback": lambda state: state.rollback(),
    "leave": lambda state: state.__exit__(None, None, None),
}


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("kind", [redundict.open, redundict.PermaDict])
def test_a_child_cannot_write_and_the_parent_goes_on(path: str, kind: Any, name: str) -> None:
    """Whatever the child does with the store is a typed error, and changes no byte."""
    state = kind(path)
    for state["n"] in (1, 2):
        state.sync()
    before = everything(path)

    def act() -> None:
        state["n"] = "of the child"
        ACTS[name](state)

    assert in_a_child(act).startswith("TransactionError: ")
    assert everything(path) == before
    with pytest.raises(redundict.LockedError):
        redundict.open(path)
    state["n"] = 3
    assert state.sync() == 3
    state.close()
    assert redundict.load(path) == {"n": 3}


@pytest.mark.parametrize("name", ACTS)
def test_a_child_cannot_write_a_shared_store_either(path: str, name: str) -> None:
    """Though nobody holds its lock just then: what is in memory is the parent's to commit."""
    with redundict.open(path, shared=True) as state:
        for state["n"] in (1, 2):
            state.sync()
        before = everything(path)
        assert in_a_child(lambda: ACTS[name](state)).startswith("TransactionError: ")
        assert everything(path) == before
        state["n"] = 3
    assert redundict.load(path) == {"n": 3}


def test_a_child_that_ends_by_itself_releases_nothing(path: str) -> None:
    """An interpreter that shuts down in the child leaves the parent its lock and its store."""
    program = f"""
import os, redundict
state = redundict.open({path!r})
state["n"] = 1
state.sync()
if os.fork() == 0:
    raise SystemExit  # with all that an interpreter does at its end
os.wait()
try:
    os.spawnv(os.P_WAIT, {sys.executable!r}, [{sys.executable!r}, "-c", "import redundict;"
        "redundict.open({path!r})"])
finally:
    state["n"] = 2
    state.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "LockedError" in done.stderr
    assert redundict.load(path) == {"n": 2}


def test_a_child_may_read_and_may_open_what_the_parent_has_closed(path: str) -> None:
    """A fork takes nothing away that a process of its own would have."""
    with redundict.PermaDict(path) as state:
        state["n"] = 1
    reader = redundict.open(path, "r")

    def act() -> None:
        assert reader.reload() == 1
        state["n"] = 2  # the recipe's dict can still be used: it takes the lock anew
        state.sync()
        state.close()

    assert in_a_child(act) == "nothing"
    assert redundict.load(path) == {"n": 2}
    assert reader.reload() == 2


@pytest.mark.parametrize("name", ACTS)
def test_a_child_is_not_stuck_on_a_lock_of_its_parent_s_thread(path: str, name: str) -> None:
    """A thread that held the dict's lock at the fork is not in the child, which is told at once."""
    state = redundict.open(path)
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with state.lock, inside.background_lock_held(state):
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert in_a_child(lambda: ACTS[name](state)).startswith("TransactionError: ")
    over.set()
    thread.join()
    state.close()


def test_a_child_leaves_a_store_that_a_thread_of_the_parent_is_writing(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the child waits for must not be a thread that it does not have."""
    at_work, go_on = threading.Event(), threading.Event()

    class Stuck(inside.Disk):
        def sync_data(self, fd: int) -> None:
            at_work.set()
            go_on.wait(10)
            super().sync_data(fd)

    with redundict.open(path, keep=2) as state:
        for number in range(3):
            state["n"] = number
            state.sync()
        inside.use_disk(monkeypatch, Stuck())
        state["n"] = 3
        future = state.sync_soon()
        assert at_work.wait(10)

        def leave() -> None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)  # and ends here, without an answer, if it hangs
            state.__exit__(None, None, None)

        assert in_a_child(leave).startswith("TransactionError")
        go_on.set()
        assert future.result(10) == 4
