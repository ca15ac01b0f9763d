"""`files`: bytes, names and permissions, on a real file system."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from . import damage, inside
from .inside import Disk, files


class Recording(Disk):
    """A disk that notes which calls were made, and takes at most `most` bytes a write."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.calls: list[str] = []
        self.most = most

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.calls.append("write")
        return super().write(fd, data[: self.most], offset)

    def sync_data(self, fd: int) -> None:
        self.calls.append("sync_data")

    def sync_all(self, fd: int) -> None:
        self.calls.append("sync_all")

    def sync_directory(self, path: str) -> None:
        self.calls.append("sync_directory")

    def truncate(self, fd: int, size: int) -> None:
        self.calls.append("truncate")
        super().truncate(fd, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Put a recording disk in place."""
    recording = Recording()
    inside.use_disk(monkeypatch, recording)
    return recording


def known(path: str, content: bytes, ending: bytes = b"") -> None:
    """Overwrite a file whose size and name are on the medium."""
    inside.overwrite(path, content, ending, durable=True)


def test_overwriting_in_place_syncs_no_more_than_it_changes(path: str, disk: Recording) -> None:
    """Same size: data. Another size, or a new file: metadata too, and the name of a new file."""
    known(path, b"a" * 4096)
    assert disk.calls == ["write", "sync_all", "sync_directory"]
    disk.calls.clear()
    known(path, b"b" * 4000, b"c" * 96)
    assert disk.calls == ["write", "sync_data"]  # what is small is written in one call
    disk.calls.clear()
    known(path, b"d" * 8192)
    assert disk.calls == ["write", "sync_all"]
    disk.calls.clear()
    known(path, b"e" * 4096)
    assert disk.calls == ["write", "truncate", "sync_all"]
    assert damage.read(path) == b"e" * 4096
    disk.calls.clear()
    inside.overwrite(path, b"f" * 4096)
    assert disk.calls == ["write", "sync_all", "sync_directory"]


def test_a_close_that_fails_after_the_sync_is_no_success(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that writes on close (NFS) says there that it could not."""

    class NotClosed(Disk):
        def close(self, fd: int) -> None:
            super().close(fd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    inside.use_disk(monkeypatch, NotClosed())
    with pytest.raises(OSError, match="No space left"):
        inside.overwrite(path, b"x")
    with pytest.raises(OSError, match="No space left"):
        inside.overwrite(f"{path}.other", b"x", afresh=True)
    assert not os.path.exists(f"{path}.other")


def test_a_sparse_file_is_not_synced_by_data_alone(path: str, disk: Recording) -> None:
    """A file with holes gets its blocks when it is written, which is metadata."""
    damage.overwrite(path, b"")
    os.truncate(path, 1 << 16)
    known(path, b"x" * (1 << 16))
    assert "sync_all" in disk.calls


def test_short_writes_are_continued(path: str, disk: Recording) -> None:
    """A system that takes a few bytes at a time gets all of them, in order."""
    disk.most = 100
    known(path, bytes(range(256)) * 4)
    assert damage.read(path) == bytes(range(256)) * 4


def test_a_write_without_progress_is_an_error(path: str, disk: Recording) -> None:
    """A system that takes nothing and says nothing does not hang the commit."""
    disk.most = 0
    with pytest.raises(OSError, match="no progress"):
        known(path, b"x")


def test_what_is_large_is_not_copied_to_be_written_in_one_call(path: str, disk: Recording) -> None:
    """The content of a large file, and then its ending, are written as they are."""
    known(path, b"a" * 100_000, b"b" * 4096)
    assert disk.calls[:3] == ["write", "write", "sync_all"]
    assert damage.read(path) == b"a" * 100_000 + b"b" * 4096


def test_a_created_file_appears_whole(path: str, disk: Recording) -> None:
    """It has another name until its content is synced, and its name is synced then."""
    inside.overwrite(path, b"x" * 10, afresh=True)
    assert disk.calls == ["write", "sync_all", "sync_directory"]
    assert os.listdir(os.path.dirname(path)) == ["state.json"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_permissions_are_exact_whatever_the_umask(path: str, umask: int) -> None:
    """A mode is set exactly; `mode_if_new` only on a file that is created."""
    before = os.umask(umask)
    try:
        inside.overwrite(path, b"x", mode=0o640)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        inside.overwrite(path, b"x", mode_if_new=0o600)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        inside.overwrite(path + "2", b"x", mode_if_new=0o600)
        assert stat.S_IMODE(os.stat(path + "2").st_mode) == 0o600
    finally:
        os.umask(before)


def test_what_is_no_regular_file_is_neither_followed_nor_opened(path: str) -> None:
    """A link, a folder, a FIFO, a device: named as such, none blocks, none is written."""
    target = path + ".target"
    damage.overwrite(target, b"precious")
    os.symlink(target, path + ".link")
    os.mkdir(path + ".folder")
    os.mkfifo(path + ".fifo")
    for name in (path + ".link", path + ".folder", path + ".fifo", "/dev/null"):
        with pytest.raises(inside.NotAFileError):
            files.read(name)
        with pytest.raises(inside.NotAFileError):
            inside.overwrite(name, b"overwritten")
    assert damage.read(target) == b"precious"


def test_reading_the_end_of_a_file_reads_no_more(path: str) -> None:
    """With a limit, the last bytes come back, and what the inode says of all of it."""
    damage.overwrite(path, b"0123456789")
    content = files.read(path, 4)
    assert (content.data, content.stat.size) == (b"6789", 10)
    assert files.read(path, 400).data == b"0123456789"


def test_putting_aside_overwrites_nothing(path: str, disk: Recording) -> None:
    """Two files put aside in one second get two names, and the names are files."""
    names = []
    for content in (b"one", b"two", b"three"):
        damage.overwrite(path, content)
        names.append(files.put_aside(path))
    assert [damage.read(name) for name in names] == [b"one", b"two", b"three"]
    assert disk.calls == ["sync_directory"] * 3


def test_no_descriptor_is_left_open_when_a_call_fails(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call fails, the file is closed."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    before = len(os.listdir("/proc/self/fd"))
    for call in ("stat", "read", "write", "truncate", "sync_data", "sync_all", "chmod"):
        damage.overwrite(path, b"x" * 100)
        os.chmod(path, 0o644)
        inside.fail_on(monkeypatch, call, errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            files.read(path)
            inside.overwrite(path, b"y", mode=0o600, durable=True)
            inside.overwrite(path, b"y", durable=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_interrupt_between_two_files_leaves_neither_open(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the second is written: the first, which is not synced yet, is closed as well."""
    is_open = set()

    class Interrupted(Disk):
        def create(self, path: str, mode: int) -> int:
            fd = super().create(path, mode)
            is_open.add(fd)
            return fd

        def close(self, fd: int) -> None:
            super().close(fd)
            is_open.discard(fd)

        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            if len(is_open) == 2:
                raise KeyboardInterrupt
            return super().write(fd, data, offset)

    inside.use_disk(monkeypatch, Interrupted())
    with pytest.raises(KeyboardInterrupt):
        files.overwrite_all([files.Overwriting(f"{path}.{n}", [b"x"]) for n in range(2)])
    assert not is_open


def test_files_for_which_no_descriptor_is_left_are_written_when_the_others_are_closed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that has used up all but one loses no copy for it."""

    class OneLeft(Disk):
        is_open = 0

        def create(self, path: str, mode: int) -> int:
            if self.is_open:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self.is_open += 1
            return super().create(path, mode)

        def close(self, fd: int) -> None:
            super().close(fd)
            self.is_open -= 1

    inside.use_disk(monkeypatch, OneLeft())
    targets = [files.Overwriting(f"{path}.{n}", [b"x"]) for n in range(3)]
    assert files.overwrite_all(targets) == {}
    assert [damage.read(file.path) for file in targets] == [b"x"] * 3
