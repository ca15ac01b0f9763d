"""The system calls of a store: one method for each. This module must not decide anything.

Every fault test replaces the `Disk` at `files.disk`, so each write, sync and close of a store can
fail, tear or be lost.

Invariant: an open file is a `FileIO` object, which closes itself. A raw descriptor would leak if an
interrupt arrived between two lines.

Sources: open(2), fsync(2), rename(2); fcntl(2) of macOS for F_FULLFSYNC.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from io import BufferedReader, FileIO
from typing import Any, Final, NamedTuple

from redundict import errors

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
#: On macOS, fsync does not flush the cache of the drive. This command does; None elsewhere.
_FULL_FLUSH: Final = getattr(fcntl, "F_FULLFSYNC", None)


class Stat(NamedTuple):
    """Facts from the inode of a file."""

    size: int  #: Bytes.
    allocated: int  #: Bytes that the file system has allocated; negative if unknown.
    modified: float  #: Time of the last change of the content, seconds since the epoch.
    mode: int  #: Permission bits.
    changed: int = 0  #: Time of the last change of the inode, nanoseconds. No program can set it.
    links: int = 1  #: Names of the file.
    owner: tuple[int, int] | None = None  #: Its user and group; None if the platform has none.


class Disk:
    """The system calls of a store. Every method raises `OSError` if the system refuses."""

    def open_read(self, path: str) -> FileIO:
        """Open an existing regular file for reading. Do not follow a link."""
        self._refuse_other_kinds(path)
        return open(path, "rb", buffering=0)

    def open_write(self, path: str) -> FileIO:
        """Open an existing regular file for reading and writing. Do not follow a link.

        Raises:
            OSError: If the system refuses, or the file was replaced while it was opened.

        """
        seen = self._refuse_other_kinds(path)
        file = open(path, "r+b", buffering=0)  # noqa: SIM115 - the caller closes it
        if not os.path.samestat(seen, os.fstat(file.fileno())):
            file.close()
            raise OSError(errno.ELOOP, "replaced while it was opened", path)
        return file

    def create(self, path: str, mode: int) -> FileIO:
        """Create a file that does not exist, and open it for reading and writing.

        Args:
            path: The path of the file.
            mode: The permission bits, which the umask reduces.

        """
        # The opener is C code. In Python code, an interrupt would leak the descriptor.
        opener = functools.partial(os.open, mode=mode)
        return open(path, "x+b", buffering=0, opener=opener)

    def _refuse_other_kinds(self, path: str) -> os.stat_result:
        """Raise `OSError` for everything but a regular file. A FIFO, for example, would block."""
        seen = os.lstat(path)
        if stat.S_ISREG(seen.st_mode):
            return seen
        if stat.S_ISLNK(seen.st_mode):
            raise OSError(errno.ELOOP, "a symbolic link", path)
        if stat.S_ISDIR(seen.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory", path)
        raise OSError(errno.ENXIO, "not a regular file", path)

    def stat(self, file: FileIO | BufferedReader) -> Stat:
        """Return facts from the inode of an open file."""
        found = os.fstat(file.fileno())
        return Stat(
            found.st_size,
            getattr(found, "st_blocks", -1) * 512,
            found.st_mtime,
            stat.S_IMODE(found.st_mode),
            found.st_ctime_ns,
            found.st_nlink,
            (found.st_uid, found.st_gid) if hasattr(os, "fchown") else None,
        )

    def signature(self, file: str | FileIO) -> tuple[int, ...]:
        """Return facts of a file, or of a path, that change if the file is changed or replaced."""
        found = os.lstat(file) if isinstance(file, str) else os.fstat(file.fileno())
        facts = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        return (*facts, found.st_nlink)

    def read(self, file: FileIO, size: int, offset: int) -> bytes:
        """Read bytes.

        Args:
            file: The open file.
            size: The number of bytes to read at most.
            offset: The position of the first byte. A negative one counts from the end.

        """
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        return file.read(size) or b""

    def next_data(self, file: FileIO | BufferedReader, offset: int) -> int:
        """Return the position of the next data from `offset` on, past a hole (lseek, SEEK_DATA)."""
        return self._seek(file, offset, "SEEK_DATA")

    def next_hole(self, file: FileIO | BufferedReader, offset: int) -> int:
        """Return the position of the next hole from `offset` on, or of the end (SEEK_HOLE)."""
        return self._seek(file, offset, "SEEK_HOLE")

    def _seek(self, file: FileIO | BufferedReader, offset: int, what: str) -> int:
        if not hasattr(os, what):
            raise OSError(errno.ENOTSUP, f"{what} is not known on this platform")
        return os.lseek(file.fileno(), offset, getattr(os, what))

    def write(self, file: FileIO, data: bytes | memoryview, offset: int) -> int:
        """Write bytes. They are not durable yet.

        Args:
            file: The open file.
            data: The bytes.
            offset: The position of the first byte.

        Returns:
            The number of bytes that were written. It may be less than the length of `data`.

        """
        file.seek(offset)
        return file.write(data) or 0

    def truncate(self, file: FileIO, size: int) -> None:
        """Set the size of a file, in bytes."""
        file.truncate(size)

    def chmod(self, file: FileIO, mode: int) -> None:
        """Set the permission bits; do nothing if the platform cannot."""
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), mode)

    def chown(self, file: FileIO, user: int, group: int) -> None:
        """Set the owner of a file; -1 leaves the user or the group as it is."""
        os.fchown(file.fileno(), user, group)

    def write_out(self, file: FileIO) -> None:
        """Start the writeback of a file, and do not wait for it. This is only a hint."""
        # On Linux, this starts the writeback of dirty pages (Kerrisk, The Linux Programming
        # Interface, 13.5).
        if hasattr(os, "posix_fadvise"):
            try:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError as error:
                errors.reraise_interrupt(error)

    def sync_data(self, file: FileIO) -> None:
        """Flush the content of a file, and the metadata that a read needs (fdatasync)."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(file.fileno())
        else:
            self.sync_all(file)

    def sync_all(self, file: FileIO) -> None:
        """Flush the content and metadata of a file, through the cache of the drive."""
        if _FULL_FLUSH is None:
            os.fsync(file.fileno())
            return
        try:
            fcntl.fcntl(file.fileno(), _FULL_FLUSH)
        except OSError as refused:  # pragma: no cover - macOS, on a medium without F_FULLFSYNC
            if refused.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(file.fileno())

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        # Windows cannot sync a directory. NTFS journals names, and FlushFileBuffers writes the
        # journal. The separator is tested at each call, so that tests can simulate Windows.
        if os.sep == "\\":
            return
        descriptors: list[int] = []
        try:
            # One call of C code, because an interrupt between two lines would leak a descriptor.
            descriptors.extend(map(os.open, [path], [os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)]))
            os.fsync(descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self, file: FileIO) -> None:
        """Close a file. Some file systems report a failed write only here."""
        file.close()

    def forget(self, file: FileIO) -> None:
        """Drop the clean pages of a file from the page cache, so a read asks the medium."""
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, and replace a file that has the new name. It is not durable yet."""
        os.replace(old, new)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def exists(self, path: str) -> bool:
        """Return True if anything has this name, even a link to nothing."""
        return os.path.lexists(path)

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, in any order."""
        return os.listdir(directory)
