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


def told(program: str, path: str) -> str:
    """Run a program that forks; return what it printed, warnings and the log included."""
    begin = "import logging, os, redundict, sys, warnings\n"
    begin += "warnings.simplefilter('ignore', DeprecationWarning)\n"
    begin += "logging.basicConfig(format='log: %(message)s')\nlogging.captureWarnings(False)\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + program, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("options", ["", ", autosync=100", ", shared=True"])
@pytest.mark.parametrize(
    "change", ["state['n'] = 2", "state['list'].append(2)", "state['n'] = {1}"]
)
@pytest.mark.parametrize("end", ["sys.exit()", "del state; import gc; gc.collect()"])
def test_a_child_that_changed_its_copy_is_told_once(
    path: str, options: str, change: str, end: str
) -> None:
    """A warning and the log name the store, whether the child exits or drops the store."""
    out = told(
        f"""
state = redundict.open(sys.argv[1]{options}); state["list"] = [1]; state.sync()
if os.fork() == 0:
    {change}
    {end}
    sys.exit()
os.wait()
""",
        path,
    )
    assert out.count("RuntimeWarning: ") == out.count("log: not saved: ") == 1
    assert out.count(f"{path}: this process is a fork") == 2
    assert redundict.load(path) == {"list": [1]}


@pytest.mark.parametrize("options", ["", ", autosync=100", ", shared=True"])
@pytest.mark.parametrize("state", ["", 'state["n"] = 1; state.sync(); state["n"] += 0'])
def test_a_child_that_changed_nothing_is_told_nothing(path: str, options: str, state: str) -> None:
    """A child that only reads ends in silence."""
    out = told(
        f"""
state = redundict.open(sys.argv[1]{options})
{state}
if os.fork() == 0:
    len(state)
    sys.exit()
os.wait()
""",
        path,
    )
    assert out == ""


def test_a_worker_that_changed_its_copy_is_told_once(path: str) -> None:
    """The same for a worker of `multiprocessing`, which ends without exit handlers."""
    out = told(
        """
import multiprocessing
state = redundict.open(sys.argv[1]); state["n"] = 1; state.sync()
def work():
    state["n"] = 2
worker = multiprocessing.get_context("fork").Process(target=work); worker.start(); worker.join()
""",
        path,
    )
    assert out.count("RuntimeWarning: ") == out.count("log: not saved: ") == 1
    assert redundict.load(path) == {"n": 1}


def test_a_child_reads_on_although_a_thread_of_the_parent_held_the_lock(path: str) -> None:
    """A reader that a thread of the parent reloads can be reloaded in the child at once."""
    with redundict.open(path) as state:
        state["n"] = 1
    reader = redundict.open(path, "r")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with reader.lock:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def act() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)  # and ends here, without an answer, if it hangs
        assert reader.reload() == 1
        assert reader == {"n": 1}

    assert in_a_child(act) == "nothing"
    over.set()
    thread.join()


@pytest.mark.parametrize("flag", ["r", "w"])
def test_a_child_of_a_reload_has_a_whole_state(
    path: str, monkeypatch: pytest.MonkeyPatch, flag: Any
) -> None:
    """A fork while another thread replaces the state in memory leaves no mixture in the child."""
    with redundict.open(path, shared=True) as state:
        state["n"] = 1
    reader = redundict.open(path, flag, shared=flag == "w")
    with redundict.open(path, shared=True) as state:
        state["n"] = 2
    answers: list[str] = []

    def fork() -> None:
        answers.append(in_a_child(lambda: reader == {"n": 2} or pytest.fail(f"{reader}")))

    inside.call_while_replacing(monkeypatch, fork)
    thread = threading.Thread(target=reader.reload)
    thread.start()
    thread.join()
    assert answers == ["nothing"]
    assert reader == {"n": 2}
    reader.close()


@pytest.mark.parametrize("format", ["json", "csv", "literal"])
def test_a_child_is_not_told_of_what_its_parent_had_not_saved(path: str, format: str) -> None:
    """The parent saves it. Only a change of the child's own is lost."""
    begin = f"""
state = redundict.open(sys.argv[1], format={format!r}); state["n"] = "1"
def child(act):
    if os.fork() == 0:
        act()
        sys.exit()
    os.wait()
"""
    assert told(begin + "child(lambda: len(state))", path) == ""
    out = told(begin + "child(lambda: state.update(n='2'))", path + "2")
    assert out.count("RuntimeWarning: ") == 1
    assert redundict.load(path, format=format) == {"n": "1"}


def test_workers_of_a_program_with_unsaved_changes_say_nothing(path: str) -> None:
    """A pool that is made beside a store that is not saved yet is no occasion for warnings."""
    out = told(
        """
import multiprocessing
state = redundict.open(sys.argv[1]); state["n"] = 1
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(len, [state, state]) == [1, 1]
    pool.close(); pool.join()
state.close()
""",
        path,
    )
    assert out == ""
    assert redundict.load(path) == {"n": 1}
