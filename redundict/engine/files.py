"""Whole files, read and durably overwritten: how system calls become a fact on a medium.

The rest of the package reaches the system only through this module, and this module only through
`disk`. Knows nothing of slots, copies or trailers.

Invariant: one thread writes all files of one call from the first byte to the last flush, so an
interrupt leaves no thread at work.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from typing import Final, NamedTuple

from redundict import errors

from .disk import Disk, Stat

#: The medium answered that the data is gone. That is damage, not a refusal.
DAMAGE: Final = frozenset({errno.EIO, getattr(errno, "EUCLEAN", -1), getattr(errno, "EBADMSG", -1)})
#: There is no such file.
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
#: The process has run out of descriptors or memory. That says nothing about any slot.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_LARGE: Final = 1 << 16  #: Bytes from which two writes are cheaper than joining two parts.

#: What the system said, by the path of the file.
Failures = dict[str, OSError]

disk = Disk()


class NotAFileError(OSError):
    """The name belongs to no regular file; nothing was followed or opened for writing."""


class Content(NamedTuple):
    """Bytes that were read from a file, and its inode after the read."""

    data: bytes
    stat: Stat


def read(path: str, limit: int | None = None) -> Content:
    """Return a file's content, or its last `limit` bytes.

    Raises:
        NotAFileError: For a link, a directory or a device.
        OSError: What the system raises.

    """
    file = _open(path)
    try:
        data = _read_end(file, limit) if limit else _read(file, disk.stat(file).size, 0)
        return Content(data, disk.stat(file))  # after the read: a write meanwhile shows in it
    finally:
        _close_quietly(file)


def ending(path: str, limit: int) -> bytes:
    """Return the last `limit` bytes of a file.

    Raises:
        OSError: What the system raises, and if there are fewer bytes.

    """
    file = disk.open_read(path)
    try:
        return disk.read(file, limit, -limit)
    finally:
        disk.close(file)


def read_plain(path: str) -> bytes | None:
    """Return the content of a file that is no slot, links followed; None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@dataclass(slots=True)
class Overwriting:
    """A file that is to hold `parts`, one after the other, durably; it is created if absent.

    Until `sync` has returned, the file may hold anything, and what a read of it sees need not be on
    the medium. `close` has to follow, whatever `write` and `sync` raise.

    Attributes:
        path: The file.
        parts: Its content.
        mode: Permission bits, set before there is content. None: leave them.
        mode_if_new: Permission bits of a file that is created. None: the umask decides.
        durable: The file's size, allocation and name are known to be on the medium, so they are
            flushed only if the write changes them.
        afresh: Give the file its name only once it is whole and durable. A crash then leaves at
            `path` the file that was there, or the whole new file; and perhaps a file `path` +
            ``.new`` that means nothing.

    """

    path: str
    parts: Sequence[bytes]
    mode: int | None = None
    mode_if_new: int | None = None
    durable: bool = False
    afresh: bool = False
    _file: FileIO | None = field(default=None, init=False)
    _flush_all: bool = field(default=True, init=False)
    _flush_name: bool = field(default=True, init=False)

    @property
    def _name(self) -> str:
        return self.path + ".new" if self.afresh else self.path

    def write(self) -> None:
        """Write the content, and start its writeback."""
        wanted = self.mode if self.mode is not None else self.mode_if_new
        self._file, created = _open_or_create(self._name, 0o666 if wanted is None else wanted)
        before = disk.stat(self._file)
        if (created or wanted == self.mode) and wanted not in (None, before.mode):
            disk.chmod(self._file, wanted)
        small = sum(map(len, self.parts)) < _LARGE
        size = 0
        for part in [b"".join(self.parts)] if small else self.parts:
            size = _write(self._file, part, size)
        disk.write_out(self._file)
        if before.size > size:
            disk.truncate(self._file, size)
        self._flush_all = not self.durable or not before.size == size <= before.allocated
        self._flush_name = not self.durable or created or self.afresh

    def sync(self) -> None:
        """Make the file durable, and close it."""
        if self._file is None:
            raise OSError(errno.EBADF, "the file was not written", self.path)
        (disk.sync_all if self._flush_all else disk.sync_data)(self._file)
        file, self._file = self._file, None
        disk.close(file)  # NFS reports a failed write here
        if self.afresh:
            disk.rename(self._name, self.path)
        if self._flush_name:
            disk.sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Close the file if it is still open; its content is then unknown."""
        if self._file is not None:
            file, self._file = self._file, None
            _close_quietly(file)


def overwrite_all(files: Sequence[Overwriting]) -> Failures:
    """Write all files, then flush them; return the failures. The other files are durable.

    All writes come before the first flush, and each write starts its writeback. So one flush of the
    drive's cache serves all: the last file is flushed first, and then the others have little left
    to flush. A file for which no descriptor was left is tried again once the others are closed.
    """
    failures: Failures = {}
    steps = [(file, file.write) for file in files]
    steps += [(file, file.sync) for file in reversed(files)]
    try:
        for file, step in steps:
            if file.path not in failures:
                try:
                    step()
                except OSError as error:
                    errors.reraise_interrupt(error)
                    failures[file.path] = error
    finally:
        for file in files:
            file.close()
    again = [f for f in files if f.path in failures and failures[f.path].errno in EXHAUSTED]
    for file in again if len(files) > 1 else ():
        del failures[file.path]
        failures |= overwrite_all([file])
    return failures


def overwrite(
    path: str, content: bytes, *, mode_if_new: int | None = None, afresh: bool = False
) -> None:
    """Make a file hold `content` durably, or raise `OSError`; see `Overwriting`."""
    file = Overwriting(path, [content], mode_if_new=mode_if_new, afresh=afresh)
    for error in overwrite_all([file]).values():
        raise error


def forget(path: str) -> None:
    """Make the next read of a file come from the medium.

    Raises:
        OSError: What the system raises, and if the platform has no way to do that.

    """
    file = _open(path)
    try:
        disk.forget(file)
    except AttributeError:
        raise OSError(errno.ENOTSUP, "the page cache cannot be dropped on this platform") from None
    finally:
        _close_quietly(file)


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


def _open(path: str, *, writing: bool = False) -> FileIO:
    """Open an existing regular file."""
    try:
        return disk.open_write(path) if writing else disk.open_read(path)
    except IsADirectoryError:
        raise NotAFileError(errno.EISDIR, "a directory", path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFileError(errno.ELOOP, "a symbolic link", path) from None
        if error.errno == errno.ENXIO:
            raise NotAFileError(errno.ENXIO, "not a regular file", path) from None
        raise


def _open_or_create(path: str, mode: int) -> tuple[FileIO, bool]:
    """Open a regular file for writing; tell whether it was created."""
    try:
        return _open(path, writing=True), False
    except FileNotFoundError:
        return disk.create(path, mode), True


def _read_end(file: FileIO, limit: int) -> bytes:
    """Read the last `limit` bytes, or as many as there are."""
    try:
        return disk.read(file, limit, -limit)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file is shorter
            raise
        return _read(file, limit, 0)


def _read(file: FileIO, size: int, offset: int) -> bytes:
    """Read exactly `size` bytes, or as many as there are."""
    data = disk.read(file, size, offset)
    while 0 < len(data) < size:  # read(2) stops at 2 GiB, and at signals
        more = disk.read(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _write(file: FileIO, data: bytes, offset: int) -> int:
    """Write all of `data` at `offset` and return where it ends."""
    view = memoryview(data)
    while view:
        written = disk.write(file, view, offset)
        if written == 0:
            raise OSError(errno.EIO, "the write made no progress")
        view, offset = view[written:], offset + written
    return offset


def _close_quietly(file: FileIO) -> None:
    """Close a file whose close cannot lose anything: it was only read, or its write is given up."""
    try:
        disk.close(file)
    except OSError as error:
        errors.reraise_interrupt(error)
