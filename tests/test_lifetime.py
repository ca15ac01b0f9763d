"""Stores that nobody closes: at the interpreter's exit, dropped, in a child of fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import redundict

from . import inside


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", "import redundict, sys, os\n" + program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_state_that_was_emptied_is_saved_at_exit(path: str) -> None:
    """That there is nothing in it any more is a change like any other."""
    run('state = redundict.open(sys.argv[1]); state["n"] = 1; state.sync(); state.clear()', path)
    assert redundict.load(path) == {}


@pytest.mark.parametrize("options", ["", ", shared=True", ", autosync=100"])
def test_what_is_unsaved_at_exit_is_saved(path: str, options: str) -> None:
    """A program that ends without closing its stores loses nothing, and says nothing."""
    done = run(
        f"""
state = redundict.open(sys.argv[1]{options}); state["n"] = [1]; state.sync(); state["n"].append(2)
other = redundict.open(sys.argv[1] + "2"{options}); other["m"] = 1; other.sync_soon()
""",
        path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": [1, 2]}
    assert redundict.load(path + "2") == {"m": 1}
    redundict.open(path).close()


def test_it_is_saved_after_an_exception_too(path: str) -> None:
    """A program that dies of an error of its own has its last state saved."""
    done = run('state = redundict.open(sys.argv[1]); state["n"] = 1; 1 / 0', path)
    assert done.returncode == 1
    assert redundict.load(path) == {"n": 1}


def test_what_cannot_be_saved_at_exit_is_said_and_the_others_are_saved(path: str) -> None:
    """One store with an item that JSON cannot hold does not cost another its state."""
    done = run(
        """
one = redundict.open(sys.argv[1] + "1"); one["n"] = {1}
two = redundict.open(sys.argv[1]); two["n"] = 1
""",
        path,
    )
    assert "not storable as json" in done.stderr
    assert "state['n']" in done.stderr
    assert redundict.load(path) == {"n": 1}


def test_handlers_that_run_later_can_still_use_the_store(path: str) -> None:
    """What an `atexit` handler of the application changes and syncs after ours is saved."""
    done = run(
        """
import atexit, importlib
for name in [n for n in sys.modules if n.split(".")[0] == "redundict"]: del sys.modules[name]
def last(): state["n"] = 2; state.sync(); state["n"] = 3; state.sync_soon().result(10)
atexit.register(last)  # before redundict registers its own, so it runs after that
redundict = importlib.import_module("redundict")
state = redundict.open(sys.argv[1]); state["n"] = 1
""",
        path,
    )
    assert done.stderr == ""
    assert redundict.load(path) == {"n": 3}


def test_a_thread_in_a_transaction_does_not_hold_up_the_exit(path: str) -> None:
    """A lock that a daemon thread never lets go of is an error after a while, and no deadlock."""
    done = run(
        f"""
import threading
{inside.BRIEF_AT_EXIT}
state = redundict.open(sys.argv[1]); state["n"] = 1; state.sync(); state["n"] = 2
def hold():
    with state.lock:
        held.set(); threading.Event().wait()
held = threading.Event()
threading.Thread(target=hold, daemon=True).start(); held.wait()
""",
        path,
    )
    assert "holds its lock" in done.stderr
    assert redundict.load(path) == {"n": 1}


def test_a_store_that_is_dropped_unsaved_warns_and_is_saved(path: str) -> None:
    """The warning names the store; what was in it is on disk, and the store is free."""
    state = redundict.open(path)
    state["n"] = 1
    with pytest.warns(ResourceWarning, match=r"state\.json was not closed"):
        del state
        gc.collect()
    with redundict.open(path) as again:
        assert again == {"n": 1}


def test_a_store_that_is_dropped_saved_does_not_warn(path: str) -> None:
    """Where nothing is missing there is nothing to warn of; the lock is let go of."""
    state = redundict.open(path)
    state["n"] = 1
    state.sync()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del state
        gc.collect()
    redundict.open(path).close()


def test_a_store_that_is_dropped_and_cannot_be_saved_says_why_and_nothing_else(path: str) -> None:
    """That it was saved is said only if it was; the store is let go of in any case."""
    done = run(
        """
import gc, warnings; warnings.simplefilter("always")
state = redundict.open(sys.argv[1]); state["n"] = 1; state.sync()
state["n"] = {1}
del state; gc.collect()
redundict.open(sys.argv[1]).close()
""",
        path,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "ResourceWarning" not in done.stderr
    assert "UnstorableError" in done.stderr
    assert redundict.load(path) == {"n": 1}


def test_autosync_without_a_thread_is_reported(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is open, and sync works; the report says that nothing is saved by itself."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    events: list[redundict.Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        state = redundict.open(path, autosync=0.01, on_event=events.append)
        state["n"] = 1
        assert state.sync_soon().result(0) == 1
    [event] = events
    assert event.kind is redundict.EventKind.FAILED
    assert isinstance(event.error, redundict.RedundictError)
    assert event.error.reason == "no-thread"
    assert "autosync is not running" in caplog.text
    state["n"] = 2
    state.sync_soon().result(10)  # starts the thread
    state["n"] = 3
    deadline = time.monotonic() + 10
    while redundict.load(path) != {"n": 3} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert redundict.load(path) == {"n": 3}
    state.close()


def test_a_store_in_a_cycle_is_saved_when_it_is_collected(path: str) -> None:
    """The state is still whole when the collector comes for it."""

    class Application:
        def __init__(self) -> None:
            self.state = redundict.open(path, on_event=self.told)
            self.state["n"] = [1]

        def told(self, event: redundict.Event) -> None:
            raise AssertionError(event)

    Application()
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert redundict.load(path) == {"n": [1]}


def test_a_store_is_not_collected_in_the_middle_of_its_own_commit(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector may run in the background thread: what changed after is saved nevertheless."""
    dropped = threading.Event()

    class Collecting(inside.QuickDisk):
        def sync_data(self, fd: int) -> None:
            if threading.current_thread() is not threading.main_thread():
                assert dropped.wait(10)
                gc.collect()
                with pytest.raises(redundict.LockedError):
                    redundict.open(path)

        sync_all = sync_data

    state = redundict.open(path)
    state.cycle = state
    for state["n"] in (0, 1):
        state.sync()
    inside.use_disk(monkeypatch, Collecting())
    state["n"] = 2
    future = state.sync_soon()
    state["n"] = 3
    del state
    dropped.set()
    assert future.result(10) == 3
    with pytest.warns(ResourceWarning):
        until = time.monotonic() + 30
        while not is_free(path):  # the thread that commits may hold on to it a little longer
            assert time.monotonic() < until
            gc.collect()
    assert redundict.load(path) == {"n": 3}


def is_free(path: str) -> bool:
    """Return True if the store can be opened."""
    try:
        redundict.open(path, timeout=0.01).close()
    except redundict.LockedError:
        return False
    return True


def test_a_store_whose_opening_failed_is_dropped_in_silence(path: str) -> None:
    """What was never open has nothing to save."""
    with redundict.open(path), pytest.raises(redundict.LockedError):
        redundict.open(path)
    gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("options", ["", ", shared=True", ", autosync=100"])
def test_the_exit_of_a_child_writes_nothing_of_its_parent(path: str, options: str) -> None:
    """A child that changes what it inherited leaves every byte alone, and is told once."""
    done = run(
        f"""
import warnings; warnings.simplefilter("ignore", DeprecationWarning)
state = redundict.open(sys.argv[1]{options}); state["n"] = 1; state.sync_soon().result(10)
if os.fork() == 0:
    state["n"] = 2
    sys.exit()
assert os.wait()[1] == 0
print(redundict.load(sys.argv[1]))
state["n"] = 3
""",
        path,
    )
    assert done.stdout == "{'n': 1}\n"
    assert done.stderr.count(f"RuntimeWarning: {path}: this process is a fork") == 1
    assert redundict.load(path) == {"n": 3}
    assert redundict.check(path).generation == 2


def test_a_recipe_store_that_is_changed_after_close_and_dropped_is_saved(path: str) -> None:
    """The recipe's dict lives on after `close`; what is changed then is saved, and it is said."""
    state = redundict.PermaDict(path)
    state["n"] = 1
    state.close()
    state["n"] = 2
    with pytest.warns(ResourceWarning, match="it is saved now"):
        del state
        gc.collect()
    assert redundict.load(path) == {"n": 2}
    redundict.open(path).close()


def test_a_recipe_store_that_is_not_changed_after_close_is_left_alone(path: str) -> None:
    """Nothing is written and nothing is said where there is nothing to save."""
    state = redundict.PermaDict(path)
    state["n"] = 1
    state.close()
    with redundict.open(path) as other:
        other["n"] = 2
    del state
    gc.collect()
    assert redundict.load(path) == {"n": 2}


def test_a_recipe_store_that_is_changed_after_close_is_saved_at_exit(path: str) -> None:
    """Nobody has to call `sync` again."""
    done = run(
        """
state = redundict.PermaDict(sys.argv[1]); state["n"] = 1; state.close()
state["n"] = 2
""",
        path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert redundict.load(path) == {"n": 2}


def test_a_killed_writer_saves_nothing(path: str, tmp_path: Path) -> None:
    """What the tests call a kill is one: the last commit stands, and nothing newer."""
    state = redundict.open(path)
    state["n"] = 1
    state.sync()
    state["n"] = 2
    inside.kill(state)
    del state
    gc.collect()
    assert redundict.load(path) == {"n": 1}
