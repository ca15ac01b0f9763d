"""Bytes that stay: the one module that knows how a system call becomes a fact on a medium.

`Disk` has one method for each system call that a store makes; the functions below it are all that
the rest of the package uses, and they reach the system only through `disk`. A fault test puts
another `Disk` there, so every write, sync and close of the product can be made to fail, tear or
be lost. Knows nothing of slots, copies or trailers.

Sources: open(2), fsync(2), rename(2); fcntl(2) of macOS for F_FULLFSYNC.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The medium answered, and the answer is that the data is gone: damage, not a refusal.
DAMAGE: Final = frozenset({errno.EIO, getattr(errno, "EUCLEAN", -1), getattr(errno, "EBADMSG", -1)})
#: There is no such file.
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
#: The process has run out of something: says nothing about any slot.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class NotAFileError(OSError):
    """What has the name is not a regular file; it was neither followed nor opened for writing."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a file's inode says."""

    regular: bool
    size: int  #: Bytes.
    allocated: int  #: Bytes that the file system has set aside for it; -1 where it cannot tell.
    modified: float  #: Seconds since the epoch.
    mode: int  #: Permission bits.
    changed: int = 0  #: When the inode last changed, nanoseconds; nobody can set it.


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes read from a file, and what its inode said once they were read."""

    data: bytes
    stat: Stat


class Disk:
    """The system calls that a store makes, one method each: the seam of every fault test."""

    _READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a FIFO at a slot's name must not block
    _WRITE = os.O_RDWR | getattr(os, "O_NONBLOCK", 0)
    # Windows: no newline translation, no inheritance by children. Elsewhere: never follow a link.
    _ALWAYS = (
        getattr(os, "O_BINARY", 0)
        | getattr(os, "O_NOINHERIT", 0)
        | getattr(os, "O_CLOEXEC", 0)
        | getattr(os, "O_NOFOLLOW", 0)
    )

    def open_read(self, path: str) -> int:
        """Open an existing file for reading."""
        return self._open(path, self._READ)

    def open_write(self, path: str) -> int:
        """Open an existing file for reading and writing."""
        return self._open(path, self._WRITE)

    def create(self, path: str, mode: int) -> int:
        """Create a file that must not exist, and open it for reading and writing."""
        return self._open(path, self._WRITE | os.O_CREAT | os.O_EXCL, mode)

    def _open(self, path: str, flags: int, mode: int = 0) -> int:
        # Where the system cannot refuse a link (Windows), a look beforehand has to do.
        if not hasattr(os, "O_NOFOLLOW") and os.path.islink(path):
            raise OSError(errno.ELOOP, "a symbolic link", path)
        return os.open(path, flags | self._ALWAYS, mode)

    def stat(self, fd: int) -> Stat:
        """Return what the inode says."""
        found = os.fstat(fd)
        blocks = getattr(found, "st_blocks", None)
        return Stat(
            regular=stat.S_ISREG(found.st_mode),
            size=found.st_size,
            allocated=-1 if blocks is None else blocks * 512,
            modified=found.st_mtime,
            mode=stat.S_IMODE(found.st_mode),
            changed=found.st_ctime_ns,
        )

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at `offset`."""
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at `offset`; return how many bytes were taken."""
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        """Set the file's size."""
        os.ftruncate(fd, size)

    def chmod(self, fd: int, mode: int) -> None:
        """Set the permission bits, where the platform has them."""
        if hasattr(os, "fchmod"):
            os.fchmod(fd, mode)

    def sync_data(self, fd: int) -> None:
        """Flush content; of the metadata, what is needed to read it back (fdatasync)."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            self.sync_all(fd)

    def sync_all(self, fd: int) -> None:
        """Flush content and metadata, through the drive's own cache."""
        try:
            # macOS: fsync stops at the drive's cache.
            from fcntl import F_FULLFSYNC, fcntl  # type: ignore[attr-defined,unused-ignore] # noqa: PLC0415 - not on every platform
        except ImportError:
            os.fsync(fd)
            return
        try:
            fcntl(fd, F_FULLFSYNC)
        except OSError as refused:  # pragma: no cover - macOS, on a medium without F_FULLFSYNC
            if refused.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(fd)

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        # Windows has no handle to sync; NTFS journals names, FlushFileBuffers writes the journal.
        # Asked by the separator, at call time, so that a simulated Windows is believed.
        if os.sep == "\\":
            return
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def forget(self, fd: int) -> None:
        """Drop what the page cache holds of a file and has written: a read asks the medium."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, over what has the name."""
        os.replace(old, new)

    def exists(self, path: str) -> bool:
        """Tell whether anything has this name."""
        return os.path.lexists(path)

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory."""
        return os.listdir(directory)


disk = Disk()


def read(path: str, limit: int | None = None) -> Content:
    """Return a file's content, or its last `limit` bytes.

    Raises `NotAFileError` for a link, a directory or a device, else what the system raises.
    """
    fd = _open(path)
    try:
        size = disk.stat(fd).size
        start = 0 if limit is None else max(size - limit, 0)
        data = _read(fd, size - start, start)
        return Content(data, disk.stat(fd))  # after the read: a write meanwhile shows in it
    finally:
        _close_quietly(fd)


def read_plain(path: str) -> bytes | None:
    """Return the content of a file that is no slot, links followed; None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def overwrite(
    path: str,
    parts: Iterable[bytes],
    *,
    mode: int | None = None,
    mode_if_new: int | None = None,
    sync_size: bool = True,
    sync_name: bool = True,
) -> None:
    """Make the file hold `parts`, one after the other, durably; create it if it is absent.

    `mode` (permission bits) is set before any content is there; without it, `mode_if_new` is, on a
    file that is created; without both, the umask decides. `sync_size` and `sync_name` may be False
    where the file's size and allocation, and its name, are known to be on the medium already; what
    this call changes of them is synced in any case. If it raises, the file may hold anything, and
    what a later read sees need not be on the medium.
    """
    wanted = mode if mode is not None else mode_if_new
    fd, created = _open_or_create(path, 0o666 if wanted is None else wanted)
    try:
        before = disk.stat(fd)
        if (created or wanted == mode) and wanted not in (None, before.mode):
            disk.chmod(fd, wanted)
        size = 0
        for part in parts:
            size = _write(fd, part, size)
        if before.size > size:
            disk.truncate(fd, size)
        if sync_size or before.size != size or before.allocated < size:
            disk.sync_all(fd)
        else:
            disk.sync_data(fd)
    except BaseException:
        _close_quietly(fd)
        raise
    disk.close(fd)  # NFS reports a failed write here
    if created or sync_name:
        disk.sync_directory(os.path.dirname(path))


def create(path: str, parts: Iterable[bytes], *, mode: int | None = None) -> None:
    """Make a file that has its name only once it is whole and durable.

    A crash leaves at `path` what was there, or the whole file; and perhaps a file `path` + ``.new``
    that means nothing.
    """
    unfinished = path + ".new"
    overwrite(unfinished, parts, mode=mode)
    disk.rename(unfinished, path)
    disk.sync_directory(os.path.dirname(path))


def forget(path: str) -> None:
    """Make the next read of a file come from the medium.

    Raises `OSError` where the platform has no way to do that.
    """
    fd = _open(path)
    try:
        disk.forget(fd)
    except AttributeError:
        raise OSError(errno.ENOTSUP, "the page cache cannot be dropped on this platform") from None
    finally:
        _close_quietly(fd)


def put_aside(path: str) -> str:
    """Rename a file out of the way, durably, and return its new path. Overwrites nothing."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside, count = f"{path}.aside-{stamp}", 1
    while disk.exists(aside):
        count += 1
        aside = f"{path}.aside-{stamp}-{count}"
    disk.rename(path, aside)
    disk.sync_directory(os.path.dirname(path))
    return aside


def exists(path: str) -> bool:
    """Tell whether anything has this name, a dangling link included."""
    return disk.exists(path)


def names(directory: str) -> list[str]:
    """Return the names in a directory."""
    return disk.names(directory)


def _open(path: str, *, writing: bool = False) -> int:
    """Open an existing regular file."""
    try:
        fd = disk.open_write(path) if writing else disk.open_read(path)
    except IsADirectoryError:
        raise NotAFileError(errno.EISDIR, "a directory", path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFileError(errno.ELOOP, "a symbolic link", path) from None
        if error.errno == errno.ENXIO:
            raise NotAFileError(errno.ENXIO, "not a regular file", path) from None
        raise
    try:
        regular = disk.stat(fd).regular
    except BaseException:
        _close_quietly(fd)
        raise
    if not regular:
        _close_quietly(fd)
        raise NotAFileError(errno.EINVAL, "not a regular file", path)
    return fd


def _open_or_create(path: str, mode: int) -> tuple[int, bool]:
    try:
        return _open(path, writing=True), False
    except FileNotFoundError:
        return disk.create(path, mode), True


def _read(fd: int, size: int, offset: int) -> bytes:
    """Read exactly `size` bytes, or as many as there are."""
    data = disk.read(fd, size, offset)
    while 0 < len(data) < size:  # read(2) stops at 2 GiB, and at signals
        more = disk.read(fd, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _write(fd: int, data: bytes, offset: int) -> int:
    """Write all of `data` at `offset` and return where it ends."""
    view = memoryview(data)
    while view:
        written = disk.write(fd, view, offset)
        if written == 0:
            raise OSError(errno.EIO, "the write made no progress")
        view, offset = view[written:], offset + written
    return offset


def _close_quietly(fd: int) -> None:
    """Close a descriptor whose close cannot lose anything: it was only read, or is given up."""
    with contextlib.suppress(OSError):
        disk.close(fd)
