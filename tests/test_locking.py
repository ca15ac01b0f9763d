"""The lock: one writer at a time, its note, and what the note may be believed for."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

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


@pytest.mark.parametrize("options", [{}, {"timeout": 30}, {"shared": True}])
def test_a_thread_that_has_the_store_open_is_told_so_at_once(
    path: str, options: dict[str, Any]
) -> None:
    """A cell of a notebook that runs twice gets an error, and does not wait for itself."""
    with redundict.open(path):
        began = time.monotonic()
        with pytest.raises(redundict.LockedError) as caught:
            redundict.open(path, **options)
        assert time.monotonic() - began < 5
    assert caught.value.reason == "open-already"
    assert caught.value.pid == os.getpid()
    assert f"this very process (number {os.getpid()})" in str(caught.value)
    assert str(caught.value.since) in str(caught.value)
    assert "close()" in str(caught.value.action)


def test_modify_does_not_wait_for_a_transaction_of_its_own_thread(path: str) -> None:
    """Two objects of one shared store in one thread cannot wait for each other."""
    one, other = redundict.open(path, shared=True), redundict.open(path, shared=True)
    began = time.monotonic()
    with one.transaction(), pytest.raises(redundict.LockedError) as caught:
        other.modify(lambda state: state.update(n=1))
    assert time.monotonic() - began < 5
    assert caught.value.reason == "open-already"
    other.modify(lambda state: state.update(n=1))
    other.close()
    one.close()


def test_a_thread_waits_for_another_thread_of_its_process(path: str) -> None:
    """The other thread may close the store meanwhile, so the wait is no wait for itself."""
    opened, over = threading.Event(), threading.Event()

    def hold() -> None:
        with redundict.open(path) as state:
            state["n"] = 1
            opened.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(10)
    with pytest.raises(redundict.LockedError) as caught:
        redundict.open(path, timeout=0.05)
    assert caught.value.reason == "open-already"
    threading.Timer(0.1, over.set).start()
    with redundict.open(path, timeout=10) as state:
        assert state == {"n": 1}
    thread.join()


def test_a_store_whose_name_is_bound_again_can_be_opened_once_the_old_one_is_gone(
    path: str,
) -> None:
    """Nothing but the application keeps a store open, not even an error that it caught."""
    state = redundict.open(path)
    state["n"] = 1
    try:
        state = redundict.open(path)
    except redundict.LockedError:
        state.sync()
    del state
    with redundict.open(path) as state:
        assert state == {"n": 1}


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_lock_that_cannot_be_released_is_a_typed_error_and_close_works_again(
    path: str, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The state is durable; the store is open until the lock could be released."""
    fcntl = pytest.importorskip("fcntl")
    state = redundict.open(path)
    state["n"] = 1
    real = fcntl.flock

    def refuse(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            raise OSError(error, os.strerror(error))
        real(fd, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(redundict.StorageError, match="cannot be unlocked") as caught:
            state.close()
        assert caught.value.errno == error
    assert redundict.load(path) == {"n": 1}
    state["n"] = 2
    state.close()
    assert redundict.load(path) == {"n": 2}
    redundict.open(path).close()


def test_waiting_for_a_lock_beside_threads_that_open_stores_is_no_error(path: str) -> None:
    """The wait looks at the locks of this process, whose number changes meanwhile."""
    over = threading.Event()

    def open_others() -> None:
        while not over.is_set():
            for number in range(20):
                redundict.open(f"{path}{number}").close()

    with redundict.open(path):
        thread = threading.Thread(target=open_others)
        thread.start()
        errors = []
        waiting = threading.Thread(target=lambda: errors.append(refused(path)))
        waiting.start()
        waiting.join()
        over.set()
        thread.join()
    assert [type(error) for error in errors] == [redundict.LockedError]


def refused(path: str) -> Exception | None:
    try:
        redundict.open(path, timeout=0.3).close()
    except Exception as error:  # noqa: BLE001 - its type is what is asked for
        return error
    return None


def test_a_lock_that_is_dropped_is_free_without_the_collector(path: str) -> None:
    """As after an interrupt in the middle of an opening, which leaves nobody to release it."""
    with redundict.open(path) as state:
        state["n"] = 1
    gc.disable()
    try:
        held = inside.open_store(path, keep=4, locked=True)
        with pytest.raises(redundict.LockedError):
            redundict.open(path)
        del held
        redundict.open(path).close()
    finally:
        gc.enable()


@pytest.mark.parametrize("why", ["newer", "unlisted"])
def test_an_opening_that_is_refused_leaves_no_lock_file(
    path: str, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A newer version wrote the store, or its folder cannot be listed."""
    with redundict.open(path) as state:
        state["n"] = 1
    os.remove(f"{path}.lock")

    class Unlisted(inside.Disk):
        def names(self, directory: str) -> list[str]:
            raise OSError(errno.ESTALE, "stale", directory)

    def refuse(slot: object) -> None:
        raise inside.errors.newer_version(path)

    with monkeypatch.context() as patch, pytest.raises(redundict.RedundictError):
        if why == "newer":
            inside.watch_verification(patch, lambda _, slot: refuse(slot))
        else:
            inside.use_disk(patch, Unlisted())
        redundict.open(path)
    assert not os.path.exists(f"{path}.lock")
    redundict.open(path).close()
