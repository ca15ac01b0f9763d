"""The lock: one writer at a time, its note, and what the note may be believed for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import redundict

from . import inside

HOLD = """
import redundict, sys, time
state = redundict.open(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(path: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that has the store open."""
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_another_process_is_named(path: str, holder: subprocess.Popen[str]) -> None:
    """The error says which process holds the store, on which host and since when, and pickles."""
    with pytest.raises(redundict.LockedError) as caught:
        redundict.open(path)
    assert caught.value.pid == holder.pid
    assert caught.value.host
    assert caught.value.since
    assert f"process {holder.pid}" in str(caught.value)


def test_a_lock_that_a_dead_process_left_does_not_block(
    path: str, holder: subprocess.Popen[str]
) -> None:
    """The kernel lets go of a killed holder's lock, and its note is overwritten."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with redundict.open(path) as state:
        state["n"] = 1
        with pytest.raises(redundict.LockedError) as caught:
            redundict.open(path)
        assert caught.value.pid == os.getpid()


def test_a_timeout_waits_as_long_and_no_longer(path: str, holder: subprocess.Popen[str]) -> None:
    """With timeout=, a second writer waits for the first."""
    started = time.monotonic()
    with pytest.raises(redundict.LockedError):
        redundict.open(path, timeout=0.3)
    assert 0.3 <= time.monotonic() - started < 10  # on a machine that does something else too
    holder.kill()
    with redundict.open(path, timeout=10) as state:
        state["n"] = 1


def test_a_negative_timeout_is_refused(path: str) -> None:
    """To wait for ever is not what a mistyped number should do."""
    with pytest.raises(ValueError, match="negative"):
        redundict.open(path, timeout=-1)


def test_a_lock_file_without_a_note_still_locks(path: str) -> None:
    """Who holds the lock is a courtesy; that it is held is not."""
    with redundict.open(path):
        os.truncate(path + ".lock", 0)
        with pytest.raises(redundict.LockedError) as caught:
            redundict.open(path)
        assert caught.value.pid is None
        assert "open for writing already" in str(caught.value)


def test_a_note_tells_what_was_settled_to_the_next_holder_only(path: str) -> None:
    """The digest is handed on once: a holder that is killed hands on nothing."""
    assert inside.notes_passed_on(path + ".lock", "d1", "", "") == ["", "d1", ""]


def test_a_store_that_was_restored_in_place_is_not_taken_for_settled(path: str) -> None:
    """A backup copied over the files brings its note along, but nobody has synced the slots."""
    folder = os.path.dirname(path)
    with redundict.open(path) as state:
        state["n"] = 1
    shutil.copytree(folder, folder + "-backup")
    with redundict.open(path) as state:
        state["n"] = 2
    os.remove(path + ".a1")
    os.remove(path + ".b1")
    shutil.copytree(folder + "-backup", folder, dirs_exist_ok=True)
    state = redundict.open(path)
    assert state == {"n": 1}
    assert not inside.engine_of(state).known_durable()
    state.close()
    again = redundict.open(path)
    assert inside.engine_of(again).known_durable()
    again.close()
    shutil.rmtree(folder + "-backup")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_fork_writes_no_note_into_whatever_has_the_descriptor(path: str) -> None:
    """The lock's descriptor is closed in the child, and may be another file's by then."""
    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
        child = os.fork()
        if child == 0:
            files = [open(f"{path}.victim{n}", "w+b") for n in range(5)]  # noqa: SIM115
            inside.engine_of(state).release()
            os._exit(sum(file.seek(0, os.SEEK_END) for file in files))
        assert os.waitpid(child, 0)[1] == 0


def test_the_first_byte_of_a_note_says_nothing() -> None:
    """Windows locks one byte at offset 0 against reading, and the rest can be read."""
    note = inside.encode_note(pid=1, host="h", since="s")
    assert inside.parse_note(note[1:]) == {"pid": "1", "host": "h", "since": "s"}


def test_a_lock_at_a_link_is_refused(path: str) -> None:
    """A symbolic link planted at the lock's name is not followed."""
    os.symlink(path + ".elsewhere", path + ".lock")
    with pytest.raises(redundict.StorageError, match="lock file"):
        redundict.open(path)
    assert not os.path.exists(path + ".elsewhere")
