"""Unusual platforms: folders without a flush, no locks, wrong clocks, huge files."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

import redundict

from . import damage, inside
from .inside import Exit, command_line

fcntl = pytest.importorskip("fcntl")

UNSUPPORTED = ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EISDIR", "EACCES", "EPERM")
NO_LOCKS = ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(redundict.__file__).parents[1])}
TERABYTE = 1 << 40


def number(name: str) -> int:
    return int(getattr(errno, name))


def refuse(code: int, *, folders: bool) -> Callable[[int], None]:
    """Return an fsync that fails for folders, or for everything else."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) == folders:
            raise OSError(code, os.strerror(code))
        real(fd)

    return fsync


def two_generations(path: str, **options: object) -> None:
    with redundict.open(path, **options) as state:
        for state["n"] in (1, 2):
            state.sync()


# --- folders that cannot be flushed


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_a_folder_that_cannot_be_flushed_is_told_of_once(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """A file system that cannot flush a folder is used all the same; the log says so one time."""
    monkeypatch.setattr(os, "fsync", refuse(number(code), folders=True))
    for opening in range(3):
        with redundict.open(path) as state:
            for state["n"] in range(3):
                assert state.sync()
            state["n"] = opening
    damage.flip(f"{path}.a0", 0)
    redundict.repair(path)
    assert redundict.load(path) == {"n": 2}
    told = [(r.levelno, r.getMessage()) for r in caplog.records if "flush" in r.getMessage()]
    assert [level for level, _ in told] == [logging.WARNING]
    assert told[0][1].startswith(os.path.dirname(path))


@pytest.mark.parametrize("code", ["EIO", "ENOSPC", "ESTALE"])
def test_a_folder_whose_flush_fails_is_a_failure(
    path: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """An error of the medium is not taken for a missing ability."""
    with redundict.open(path) as state:
        state["n"] = 1
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse(number(code), folders=True))
            with pytest.raises(redundict.CommitError) as caught:
                state.sync()
            assert caught.value.errno == number(code)
        state.sync()


@pytest.mark.parametrize("code", ["EINVAL", "ENOSYS", "ENOTSUP", "EIO"])
def test_a_file_that_cannot_be_flushed_is_a_failure(
    path: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Content that cannot be made durable is never reported as durable."""
    with redundict.open(path) as state:
        state["n"] = 1
        with monkeypatch.context() as patch:
            inside.fail_on(patch, inside.SYNCS, number(code))
            with pytest.raises(redundict.CommitError):
                state.sync()
        state.sync()


def test_a_log_handler_that_raises_undoes_no_commit(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is told of a folder is told after the commit, so nothing that it causes changes it."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(errno.EIO, record.getMessage())

    handler, log = Raising(), logging.getLogger("redundict")
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL, folders=True))
    log.addHandler(handler)
    try:
        with redundict.open(path) as state:
            state["n"] = 1
            assert state.sync() == 1
            state["n"] = 2
            assert state.sync() == 2
    finally:
        log.removeHandler(handler)
    assert capsys.readouterr().err.count("cannot flush a folder") == 1


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
def test_a_real_program_on_such_a_file_system_saves_and_is_told_once(tmp_path: Path) -> None:
    """If fsync refuses folders, each sync returns, and one line says what it means."""
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <sys/stat.h>\n"
        'int fsync(int fd){static int(*r)(int);if(!r)r=dlsym(RTLD_NEXT,"fsync");struct stat s;'
        "if(!fstat(fd,&s)&&S_ISDIR(s.st_mode)){errno=EINVAL;return -1;}return r(fd);}\n"
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    program = """
import redundict, sys
with redundict.open(sys.argv[1]) as state:
    for state["n"] in range(3):
        print(state.sync())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state.json")],
        env=ENVIRONMENT | {"LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "1\n2\n3\n"
    assert done.stderr.count("\n") == done.stderr.count("cannot flush a folder") == 1


# --- permission bits


@pytest.mark.parametrize("code", ["EPERM", "ENOTSUP", "EACCES"])
def test_bits_that_cannot_be_copied_cost_no_commit(
    path: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A new slot takes the permission bits of its siblings only where that is allowed."""
    two_generations(path, mode=0o660)
    old = os.umask(0o022)  # so a new file lacks a bit of its siblings
    try:
        disk = inside.fail_on(monkeypatch, "chmod", number(code))
        with redundict.open(path) as state:
            for state["n"] in (3, 4):
                state.sync()
    finally:
        os.umask(old)
    assert disk.count == 4
    assert {stat.S_IMODE(os.stat(f"{path}.a{n}").st_mode) for n in (2, 3)} == {0o640}


def test_bits_that_were_asked_for_are_set_or_nothing_is_written(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With mode=, no content is written to a file with other permissions."""
    old = os.umask(0o077)
    try:
        with monkeypatch.context() as patch:
            inside.fail_on(patch, "chmod", errno.EPERM)
            state = redundict.open(path, mode=0o640)
            state["n"] = 1
            with pytest.raises(redundict.CommitError):
                state.sync()
        state.close()
    finally:
        os.umask(old)
    assert redundict.load(path) == {"n": 1}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_every_new_slot_has_the_bits_of_its_siblings(path: str, mode: int) -> None:
    """A store that was private stays private when a program opens it without mode=."""
    two_generations(path, mode=mode)
    old = os.umask(0o002)
    try:
        with redundict.open(path) as state:
            for state["n"] in range(6):
                state.sync()
    finally:
        os.umask(old)
    assert {stat.S_IMODE(os.stat(f"{path}.{c}{n}").st_mode) for c in "ab" for n in range(4)} == {
        mode
    }


# --- no locks


@pytest.mark.parametrize("code", NO_LOCKS)
def test_a_file_system_without_locks_is_told_as_such(
    path: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """The message talks of locks and not of permissions; a reader needs none; no file is left."""

    def flock(*_: object) -> None:
        raise OSError(number(code), os.strerror(number(code)))

    two_generations(path)
    os.remove(f"{path}.lock")
    monkeypatch.setattr(fcntl, "flock", flock)
    before = sorted(os.listdir(os.path.dirname(path)))
    for act in (redundict.open, redundict.rollback, redundict.repair):
        with pytest.raises(redundict.StorageError, match="does not lock files") as caught:
            act(path)
        assert (caught.value.reason, caught.value.errno) == ("no-locks", number(code))
        assert caught.value.action is not None
        assert "-o flock" in caught.value.action
        assert "permission" not in str(caught.value)
    assert redundict.load(path) == redundict.open(path, "r") == {"n": 2}
    assert sorted(os.listdir(os.path.dirname(path))) == before


def test_a_lock_file_that_cannot_be_created_is_another_matter(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EINVAL from open says that the file system does not take such a name."""
    real = os.open

    def refusing(name: object, *args: object, **options: object) -> int:
        if str(name).endswith(".lock"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        return real(name, *args, **options)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(redundict.StorageError, match="cannot be taken") as caught:
        redundict.open(path)
    assert caught.value.reason == "storage"


def test_a_lock_that_another_program_has_is_no_missing_lock(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems answer EACCES where others answer EWOULDBLOCK."""

    def flock(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    two_generations(path)
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(redundict.LockedError):
        redundict.open(path)


# --- an opening that fails


def spoil_all(path: str) -> None:
    for slot in ("a0", "a1", "b0", "b1"):
        damage.flip(f"{path}.{slot}", 0)


def diverge(path: str) -> None:
    two_generations(path + "-other", keep=2)
    with redundict.open(path + "-other", keep=2) as state:
        state["n"] = 3
    with redundict.open(path, keep=2) as state:
        state["n"] = 4
    damage.overwrite(f"{path}.b0", damage.read(f"{path}-other.b0"))


FAILURES: dict[str, tuple[Callable[[str], object], dict[str, object]]] = {
    "lost": (spoil_all, {}),
    "diverged": (diverge, {"keep": 2}),
    "other format": (lambda _: None, {"format": "csv"}),
    "folders without that of the path": (lambda _: None, {"copies": ["gone", "away"]}),
    "default that cannot be copied": (lambda _: None, {"defaults": {"m": sys.stdout.buffer}}),
}


@pytest.mark.damages
@pytest.mark.parametrize("flag", ["w", "c"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_opening_leaves_no_file_behind(
    path: str, monkeypatch: pytest.MonkeyPatch, failure: str, flag: str
) -> None:
    """The lock file is removed if the opening that fails made it, and is as it was if not."""
    spoil, options = FAILURES[failure]
    two_generations(path, keep=2)
    spoil(path)
    folder = os.path.dirname(path)
    note = damage.read(f"{path}.lock")
    for lock in (note, None):
        if lock is None:
            os.remove(f"{path}.lock")
        before = sorted(os.listdir(folder))
        for _ in range(2):
            with pytest.raises((redundict.RedundictError, TypeError, ValueError)):
                redundict.open(path, flag, **options)
            assert sorted(os.listdir(folder)) == before
    damage.overwrite(f"{path}.lock", note)
    with pytest.raises((redundict.RedundictError, TypeError, ValueError)):
        redundict.open(path, flag, **options)
    assert damage.read(f"{path}.lock") == note


@pytest.mark.parametrize("flag", ["w", "r"])
def test_a_store_that_is_missing_stays_missing(path: str, flag: str) -> None:
    """A mistyped path leaves nothing in its folder."""
    with pytest.raises(redundict.NotFoundError):
        redundict.open(path, flag)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_rollback_that_fails_leaves_no_file_behind(path: str) -> None:
    """Repair and rollback take the lock as an opening does."""
    two_generations(path)
    os.remove(f"{path}.lock")
    before = sorted(os.listdir(os.path.dirname(path)))
    with pytest.raises(redundict.NotFoundError):
        redundict.rollback(path, 77)
    assert sorted(os.listdir(os.path.dirname(path))) == before


TAKE_TURNS = """
import contextlib, os, random, sys, time
from tests import inside
path, seed = sys.argv[1], int(sys.argv[2])
choose, taken, end = random.Random(seed), 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    lock = inside.lock_of(path)
    try:
        lock.acquire(choose.choice([0.0, 5.0]))
    except inside.errors.LockedError:
        continue
    os.close(os.open(path + ".busy", os.O_CREAT | os.O_EXCL))  # fails if another holds the lock
    taken += 1
    os.remove(path + ".busy")
    lock.release(abandoned=choose.random() < 0.8)
print(taken)
"""


def test_a_lock_file_that_is_removed_never_lets_two_writers_in(path: str) -> None:
    """Four processes take the lock, and remove its file or leave it; never do two hold it."""
    root = str(Path(__file__).parents[1])
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], root])}
    seconds = os.environ.get("REDUNDICT_TURNS", "1.5")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_TURNS, path, str(seed), seconds],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    results = [process.communicate(timeout=120 + float(seconds)) for process in running]
    assert [error for _, error in results] == [""] * 4
    assert sum(int(taken) for taken, _ in results) > 100


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("what", ["renamed", "removed"])
def test_a_lock_file_that_was_replaced_is_taken_anew(
    path: str, monkeypatch: pytest.MonkeyPatch, what: str, times: int
) -> None:
    """A lock on a file that has lost its name protects nothing, so the one at the path is taken."""
    real, replaced = fcntl.flock, []

    def flock(fd: int, how: int) -> None:
        if how & fcntl.LOCK_EX and len(replaced) < times:
            replaced.append(f"{path}.lock-{len(replaced)}")
            os.rename(f"{path}.lock", replaced[-1])
            if what == "renamed":
                Path(f"{path}.lock").touch()
            else:
                os.remove(replaced[-1])
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with redundict.open(path):
        assert len(replaced) == times
        with pytest.raises(redundict.LockedError) as caught:
            redundict.open(path)
        assert caught.value.pid == os.getpid()


# --- clocks


TIMES = {
    "1970": datetime(1970, 1, 1, tzinfo=UTC),
    "before 1970": datetime(1901, 2, 3, tzinfo=UTC),
    "year 1": datetime(1, 1, 1, tzinfo=UTC),
    "now": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "after 8999": datetime(9000, 1, 1, tzinfo=UTC),
    "year 9999": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "no year": None,
}


@pytest.fixture(params=TIMES)
def stopped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop every clock at a time, for the package and for filelock; sleeping goes on."""
    with monkeypatch.context() as patch:
        inside.stopped_clock(patch, TIMES[request.param])
        yield


@pytest.mark.usefixtures("stopped")
def test_a_clock_that_stands_still_or_is_wrong_changes_nothing(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that a store does works at any time, and every time that it writes can be read."""
    with redundict.open(path, keep=5) as state:
        for state["n"] in range(12):
            state.sync()
        assert state.modify(lambda it: it["n"]) == 11
        with state.transaction():
            state["m"] = 1
        state.rollback()
        state.reload()
        assert state == {"n": 11}
    damage.flip(f"{path}.a0", 0)
    redundict.repair(path)
    redundict.rollback(path)
    for generation in redundict.check(path).generations:
        assert 1970 <= generation.written.year <= 8999
    for command in ("check", "log", "diff"):
        assert command_line([command, path]) == Exit.OK
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("stopped")
def test_a_wait_for_a_lock_ends_by_its_pauses(path: str) -> None:
    """A clock that stands still ends no timeout, so the pauses are counted."""
    two_generations(path)
    started = time.monotonic()
    with ThreadPoolExecutor() as other, other.submit(redundict.open, path).result():
        with pytest.raises(redundict.LockedError):
            redundict.open(path, timeout=0.2)
        with redundict.open(path, "r") as reader, pytest.raises(redundict.ReadOnlyError):
            reader.modify(len, timeout=0.2)
        with pytest.raises(redundict.LockedError):
            redundict.rollback(path, timeout=0.2)
    assert 0.4 <= time.monotonic() - started < 20


@pytest.mark.usefixtures("stopped")
def test_autosync_goes_on_while_the_clock_stands_still(path: str) -> None:
    """The end of a pause counts, and not only the time."""
    with redundict.open(path, autosync=0.02) as state:
        for number in (1, 2):
            state["n"] = number
            for _ in range(500):
                if state.generation == number:
                    break
                time.sleep(0.01)
            assert redundict.load(path) == {"n": number}


@pytest.mark.usefixtures("stopped")
def test_modify_ends_by_its_pauses(path: str) -> None:
    """Others who commit again and again make `modify` raise after its timeout, not never."""
    with redundict.open(path) as mine:
        mine["n"] = 0
        mine.sync()

        def meanwhile(_: object) -> None:
            other = inside.open_store(path, keep=4)  # it ignores the lock
            other.commit(b'{"n": %d}' % other.next_number)
            mine["m"] = 1

        with pytest.raises(redundict.ConflictError):
            mine.modify(meanwhile, timeout=0.1)
        mine.reload()


@pytest.mark.damages
@pytest.mark.parametrize("ahead", [0.0, -0.5, 0.5])
def test_a_reader_s_patience_ends_by_its_pauses(
    path: str, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """By a clock that stands still, damage stays fresh; it is not waited for for ever."""
    two_generations(path)
    os.truncate(f"{path}.a1", 10)
    changed = os.stat(f"{path}.a1").st_mtime
    inside.stopped_clock(monkeypatch, datetime.fromtimestamp(changed + ahead, UTC))
    started = time.monotonic()
    assert redundict.load(path) == {"n": 2}
    assert redundict.check(path).state is redundict.StoreState.DEGRADED
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("seconds", [-3e9, -1.0, 0.0, 2**31 + 0.5, 2**33])
def test_a_time_of_a_file_says_nothing(path: str, seconds: float) -> None:
    """A slot with a time before 1970, or far ahead, is read, healed and shown like any other."""
    two_generations(path)
    damage.flip(f"{path}.a1", 0)
    for name in os.listdir(os.path.dirname(path)):
        os.utime(os.path.join(os.path.dirname(path), name), (seconds, seconds))
    assert redundict.load(path) == {"n": 2}
    assert command_line(["check", path]) == Exit.DEGRADED
    with redundict.open(path) as state:
        assert state == {"n": 2}


class Stubborn(datetime):
    """A time that the system cannot convert, as Windows cannot from the year 3001 on."""

    kind: type[Exception] = OSError

    def astimezone(self, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        raise self.kind(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("kind", [OSError, OverflowError, ValueError])
def test_a_time_that_cannot_be_converted_is_shown_in_utc(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """No report fails because of a time in it."""
    monkeypatch.setattr(Stubborn, "kind", kind)
    assert inside.local_time(Stubborn(8000, 1, 2, 3, 4, 5, tzinfo=UTC)) == "8000-01-02 03:04:05 UTC"


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati", "XYZ-24", "no such zone"])
@pytest.mark.parametrize("when", ["1970", "year 9999"])
def test_the_first_and_the_last_time_are_shown_in_every_zone(
    path: str, monkeypatch: pytest.MonkeyPatch, when: str, zone: str
) -> None:
    """The bounds of a trailer's time leave room for each offset."""
    with monkeypatch.context() as patch:
        inside.stopped_clock(patch, TIMES[when])
        two_generations(path)
    for command in ("check", "log"):
        done = subprocess.run(
            [sys.executable, "-m", "redundict", command, path],
            env=ENVIRONMENT | {"TZ": zone},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (Exit.OK, "")


def test_a_clock_that_goes_back_keeps_the_history(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generations whose times fall, or leap by centuries, are kept by their numbers."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    inside.set_clock(monkeypatch, lambda: now[0])
    with redundict.open(path, keep=5) as state:
        for step in range(30):
            now[0] += timedelta(days=(-1) ** step * 365 * (step % 7) * 300)
            state["n"] = step
            assert state.sync() == step + 1
            numbers = [generation.number for generation in state.generations()]
            assert numbers[: min(2, step + 1)] == [step + 1, step][: min(2, step + 1)]
            assert len(numbers) == min(5, step + 1)


# --- huge files


def inflate(slot: str, size: int) -> None:
    """Make a slot a sparse file with a well-formed last line, which claims all of it."""
    content = damage.read(slot)
    line = content[content.rstrip(b"\n").rfind(b"\n") + 1 :]
    fields = dict(word.partition(b"=")[::2] for word in line.split()[2:])
    line = line.replace(b"length=" + fields[b"length"], b"length=%d" % (size - 600))
    line = line.replace(b"generation=" + fields[b"generation"], b"generation=999")
    os.truncate(slot, 0)
    with open(slot, "r+b") as file:
        file.truncate(size)
        file.seek(size - len(line) - 1)
        file.write(b"\n" + line)
    damage.age(slot)


def limited() -> None:
    """Let this process have little memory, so that to ask for a huge file's is an error."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def peak(*args: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a program with little memory; return what it did and its peak of memory in kilobytes."""
    measured = "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    program = (
        f"import sys\nsys.argv = sys.argv[1:]\ncode = 0\n{args[0]}\n{measured}\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=limited,
    )
    return done, int(done.stdout.splitlines()[-1])


CHECK = "from redundict.__main__ import main; code = main()"


@pytest.mark.damages
@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files and RLIMIT_AS")
@pytest.mark.parametrize("slots", [("a1",), ("a0", "a1", "b0", "b1")])
@pytest.mark.parametrize("size", [TERABYTE, 3 * TERABYTE, 200_000_000])
def test_a_sparse_slot_costs_no_memory_and_stops_no_sweep(
    tmp_path: Path, slots: tuple[str, ...], size: int
) -> None:
    """A huge file that claims to be a slot is bad; the store beside it is checked as ever.

    A terabyte cannot be read in time, so nobody knows what it holds, and nobody overwrites it.
    """
    huge, other = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    for path in (huge, other):
        two_generations(path)
    for slot in slots:
        inflate(f"{huge}.{slot}", size)
    done, kilobytes = peak(CHECK, "check", str(tmp_path))
    unread = size >= TERABYTE
    expected = Exit.ROLLED_BACK if len(slots) == 1 else Exit.FAILED if unread else Exit.LOST
    assert done.returncode == expected, done
    assert f"store: {other}\n  state: healthy" in done.stdout
    assert kilobytes < 100_000
    if len(slots) > 1:
        with pytest.raises(redundict.AccessError if unread else redundict.LostError):
            redundict.load(huge)
        return
    with pytest.warns(redundict.RedundancyWarning):
        assert redundict.load(huge) == {"n": 2}
    with pytest.warns(redundict.RedundancyWarning), redundict.open(huge) as state:
        assert state == {"n": 2}
    if unread:
        assert os.stat(f"{huge}.a1").st_size >= TERABYTE
    redundict.repair(huge)
    assert redundict.check(huge).state is redundict.StoreState.HEALTHY
    assert os.stat(f"{huge}.a1").st_size < 10_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_a_sparse_lock_and_a_sparse_plain_file_cost_no_memory(path: str) -> None:
    """A lock file is read in part, and a plain file that is a hole is refused."""
    two_generations(path)
    os.truncate(f"{path}.lock", TERABYTE)
    with redundict.open(path) as state:
        assert state == {"n": 2}
        with pytest.raises(redundict.LockedError):
            redundict.open(path)
    assert os.stat(f"{path}.lock").st_size < 10_000
    plain = f"{path}-plain"
    Path(plain).write_text("{}")
    os.truncate(plain, TERABYTE)
    for act in (redundict.open, redundict.load):
        with pytest.raises(redundict.StorageError, match="a hole"):
            act(plain)


def test_a_plain_file_that_is_a_device_or_a_pipe_is_not_waited_for(path: str) -> None:
    """Only a regular file can be the recipe's; /dev/zero would have no end, a pipe no beginning."""
    os.mkfifo(path)
    zero = f"{path}-zero"
    os.symlink("/dev/zero", zero)
    for odd in (path, zero):
        for act in (redundict.open, redundict.load):
            with pytest.raises(redundict.StorageError, match="not a regular file"):
                act(odd)


def test_a_huge_slot_is_read_only_if_its_digest_agrees(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is taken for bytes that verify, and for no others."""
    two_generations(path)
    read: list[int] = []

    class Counting(inside.Disk):
        def read(self, file: object, size: int, offset: int) -> bytes:
            read.append(size)
            return super().read(file, size, offset)

    inside.use_disk(monkeypatch, Counting())
    inside.huge_slots(monkeypatch, 1)
    assert redundict.check(path).state is redundict.StoreState.HEALTHY
    assert redundict.load(path) == {"n": 2}
    damage.flip(f"{path}.a1", 2)
    read.clear()
    report = redundict.check(path)
    assert report.flaws["state.json.a1"].fault is redundict.Fault.DIGEST
    assert redundict.load(path) == {"n": 2}
    redundict.repair(path)


def test_a_check_that_finds_no_memory_goes_on_with_the_next_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory that is short is an error of one store, and of no other."""
    for name in ("a.json", "b.json"):
        two_generations(str(tmp_path / name))
    disk = inside.fail_on(monkeypatch, "read", MemoryError(), "a.json.a1")
    assert command_line(["check", str(tmp_path)]) == Exit.FAILED
    said = capsys.readouterr()
    assert disk.count
    assert "a.json: there is not enough memory\nsafe: " in said.err
    assert "b.json\n  state: healthy" in said.out
    monkeypatch.undo()
    inside.fail_on(monkeypatch, "read", MemoryError(), "a.json.a1")
    assert command_line(["show", str(tmp_path / "a.json")]) == Exit.FAILED
    assert "error: there is not enough memory\n" in capsys.readouterr().err
