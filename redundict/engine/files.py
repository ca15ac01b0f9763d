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
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .threads import error_of, side_by_side

#: The medium answered, and the answer is that the data is gone: damage, not a refusal.
DAMAGE: Final = frozenset({errno.EIO, getattr(errno, "EUCLEAN", -1), getattr(errno, "EBADMSG", -1)})
#: There is no such file.
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
#: The process has run out of something: says nothing about any slot.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class NotAFileError(OSError):
    """What has the name is not a regular file; it was neither followed nor opened for writing."""


class Stat(NamedTuple):
    """What a file's inode says."""

    regular: bool
    size: int  #: Bytes.
    allocated: (
        int  #: Bytes that the file system has set aside for it; negative where it cannot tell.
    )
    modified: float  #: Seconds since the epoch.
    mode: int  #: Permission bits.
    changed: int = 0  #: When the inode last changed, nanoseconds; nobody can set it.


class Content(NamedTuple):
    """Bytes read from a file, and what its inode said once they were read."""

    data: bytes
    stat: Stat


_LARGE: Final = 1 << 16  #: Bytes.
#: Seconds that a flush takes where two that meet are worth a thread.
_WORTH_A_THREAD: Final = 0.001
_TIMES: Final = 100  #: Before it is asked again whether they are.


class Disk:
    """The system calls that a store makes, one method each: the seam of every fault test."""

    _together = 0  # how many times more files are flushed at the same time

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
        return Stat(
            stat.S_ISREG(found.st_mode),
            found.st_size,
            getattr(found, "st_blocks", -1) * 512,
            found.st_mtime,
            stat.S_IMODE(found.st_mode),
            found.st_ctime_ns,
        )

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at `offset`; a negative one counts from the end."""
        os.lseek(fd, offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
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

    def write_out(self, fd: int) -> None:
        """Begin to write content to the medium, and do not wait until it is there: a hint."""
        # Linux begins to write what is dirty (Kerrisk, The Linux Programming Interface, 13.5).
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

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

    def overwrite_all(self, files: Sequence[Overwriting]) -> list[Exception | None]:
        """Write and sync the files; return what failed.

        All are written before the first is synced, and that is the last: once it is there, so are
        the others, which `write_out` sent before it, and its flush leaves nothing to do for theirs.
        Where theirs take long even so (on another medium, or if a flush always does), they are made
        at the same time for a while: like one with several queues, and no slower with one.
        """
        if self._together > 0 and len(files) > 1:
            self._together -= 1
            errors = side_by_side([file.overwrite for file in files])
        else:
            errors = self._overwrite_in_turn(files)
        for n, file in enumerate(files):
            if getattr(errors[n], "errno", None) in EXHAUSTED:
                errors[n] = error_of(file.overwrite)  # the others are closed now
        return errors

    def _overwrite_in_turn(self, files: Sequence[Overwriting]) -> list[Exception | None]:
        try:
            errors = [error_of(file.write) for file in files]
            for n, file in reversed(list(enumerate(files))):
                began = time.perf_counter()
                errors[n] = errors[n] or error_of(file.sync)
                took = time.perf_counter() - began
        finally:
            for file in files:
                file.close()
        if len(files) > 1 and not files[0].sync_size and took > _WORTH_A_THREAD:
            self._together = _TIMES
        return errors

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
    fd, before = _open(path)
    try:
        size = before.size
        start = 0 if limit is None else max(size - limit, 0)
        data = _read(fd, size - start, start)
        return Content(data, disk.stat(fd))  # after the read: a write meanwhile shows in it
    finally:
        _close_quietly(fd)


def ending(path: str, limit: int) -> bytes:
    """Return the last `limit` bytes of what has this name, be it a file or not.

    Raises `OSError`, also if there are not so many.
    """
    fd = disk.open_read(path)
    try:
        return disk.read(fd, limit, -limit)
    finally:
        disk.close(fd)


def read_plain(path: str) -> bytes | None:
    """Return the content of a file that is no slot, links followed; None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@dataclass(slots=True)
class Overwriting:
    """A file that is to hold `content` and `ending()`, durably; it is created if it is absent.

    `ending` is called once a large content is on its way, by as many threads as there are files.
    `mode` (permission bits) is set before any content is there; without it, `mode_if_new` is, on a
    file that is created; without both, the umask decides. `sync_size` and `sync_name` may be False
    where the file's size and allocation, and its name, are known to be on the medium already; what
    changes of them is synced in any case. If `afresh`, the file has its name only once it is whole
    and durable: a crash leaves at `path` what was there, or the whole file; and perhaps a file
    `path` + ``.new`` that means nothing.

    Until `sync` has returned, the file may hold anything, and what a read of it sees need not be on
    the medium. `close` has to follow, whatever `write` and `sync` raise; `overwrite` is all of it.
    """

    path: str
    content: bytes
    ending: Callable[[], bytes] = bytes
    mode: int | None = None
    mode_if_new: int | None = None
    sync_size: bool = True
    sync_name: bool = True
    afresh: bool = False
    _name: str = ""  # what it is called meanwhile
    _fd: int = -1
    # A signal handler, which interrupts a write, may give it up in its own thread.
    _guard: Any = field(default_factory=threading.RLock, repr=False, compare=False)
    _is_given_up: bool = False

    def overwrite(self) -> None:
        """Write it, make it durable and close it, in whichever thread; unless it was given up."""
        with self._guard:
            if self._is_given_up:
                raise OSError(errno.ECANCELED, "an interrupted commit")
            try:
                self.write()
                self.sync()
            finally:
                self.close()

    def give_up(self) -> None:
        """Return once no thread writes it, nor will: an interrupt may have left one at it."""
        self._is_given_up = True
        with self._guard:
            pass

    def write(self) -> None:
        """Write the content and the ending."""
        wanted = self.mode if self.mode is not None else self.mode_if_new
        self._name = self.path + ".new" if self.afresh else self.path
        self._fd, before = _open_or_create(self._name, 0o666 if wanted is None else wanted)
        created = before is None
        before = before or disk.stat(self._fd)
        if (created or wanted == self.mode) and wanted not in (None, before.mode):
            disk.chmod(self._fd, wanted)
        # One call is cheaper than two; of a large state, another copy in memory is not.
        if len(self.content) < _LARGE:
            size = _write(self._fd, self.content + self.ending(), 0)
        else:
            size = _write(self._fd, self.content, 0)
            size = _write(self._fd, self.ending(), size)
        disk.write_out(self._fd)
        if before.size > size:
            disk.truncate(self._fd, size)
        self.sync_name |= created or self.afresh
        self.sync_size |= not before.size == size <= before.allocated

    def sync(self) -> None:
        """Make it durable."""
        (disk.sync_all if self.sync_size else disk.sync_data)(self._fd)
        fd, self._fd = self._fd, -1
        disk.close(fd)  # NFS reports a failed write here
        if self.afresh:
            disk.rename(self._name, self.path)
        if self.sync_name:
            disk.sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Close it, if it is open still: what it holds then is anybody's guess."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            _close_quietly(fd)


def overwrite_all(files: Sequence[Overwriting]) -> dict[str, Exception]:
    """Write and sync each file; return what went wrong, by path. The others are durable."""
    errors = disk.overwrite_all(files)
    return {file.path: error for file, error in zip(files, errors, strict=True) if error}


def overwrite(path: str, content: bytes, **options: Any) -> None:
    """Make a file hold `content` durably, or raise; see `Overwriting` for the options."""
    for error in overwrite_all([Overwriting(path, content, **options)]).values():
        raise error


def forget(path: str) -> None:
    """Make the next read of a file come from the medium.

    Raises `OSError` where the platform has no way to do that.
    """
    fd, _ = _open(path)
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


def _open(path: str, *, writing: bool = False) -> tuple[int, Stat]:
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
        found = disk.stat(fd)
    except BaseException:
        _close_quietly(fd)
        raise
    if not found.regular:
        _close_quietly(fd)
        raise NotAFileError(errno.EINVAL, "not a regular file", path)
    return fd, found


def _open_or_create(path: str, mode: int) -> tuple[int, Stat | None]:
    """Open a regular file for writing; without a `Stat` if it was created."""
    try:
        return _open(path, writing=True)
    except FileNotFoundError:
        return disk.create(path, mode), None


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
