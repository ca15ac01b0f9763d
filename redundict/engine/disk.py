"""The system calls that a store makes: one method each. Decides nothing.

Every fault test puts another `Disk` in the place of this one (`files.disk`), so each write, sync
and close of the product can fail, tear or be lost. An open file is a `FileIO` object, which closes
itself: a raw descriptor would leak if an interrupt arrived between two lines.

Sources: open(2), fsync(2), rename(2); fcntl(2) of macOS for F_FULLFSYNC.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from io import FileIO
from typing import NamedTuple

from redundict import errors


class Stat(NamedTuple):
    """Facts from a file's inode."""

    size: int  #: Bytes.
    allocated: int  #: Bytes that the file system has set aside; negative if it cannot tell.
    modified: float  #: Seconds since the epoch.
    mode: int  #: Permission bits.
    changed: int = 0  #: When the inode last changed, nanoseconds; nobody can set it.


class Disk:
    """The system calls that a store makes."""

    def open_read(self, path: str) -> FileIO:
        """Open an existing regular file for reading."""
        self._refuse_other_kinds(path)
        return open(path, "rb", buffering=0)

    def open_write(self, path: str) -> FileIO:
        """Open an existing regular file for reading and writing."""
        seen = self._refuse_other_kinds(path)
        file = open(path, "r+b", buffering=0)  # noqa: SIM115 - the caller closes it
        if not os.path.samestat(seen, os.fstat(file.fileno())):
            file.close()
            raise OSError(errno.ELOOP, "replaced while it was opened", path)
        return file

    def create(self, path: str, mode: int) -> FileIO:
        """Create a file that must not exist, and open it for reading and writing."""
        # The opener is no Python code: an interrupt in it would leak the descriptor.
        opener = functools.partial(os.open, mode=mode)
        return open(path, "x+b", buffering=0, opener=opener)

    def _refuse_other_kinds(self, path: str) -> os.stat_result:
        """Raise `OSError` for a link, which is not followed, and for a FIFO, which would block."""
        seen = os.lstat(path)
        if stat.S_ISREG(seen.st_mode):
            return seen
        if stat.S_ISLNK(seen.st_mode):
            raise OSError(errno.ELOOP, "a symbolic link", path)
        if stat.S_ISDIR(seen.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory", path)
        raise OSError(errno.ENXIO, "not a regular file", path)

    def stat(self, file: FileIO) -> Stat:
        """Return facts from the inode."""
        found = os.fstat(file.fileno())
        return Stat(
            found.st_size,
            getattr(found, "st_blocks", -1) * 512,
            found.st_mtime,
            stat.S_IMODE(found.st_mode),
            found.st_ctime_ns,
        )

    def read(self, file: FileIO, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at `offset`; a negative one counts from the end."""
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        return file.read(size) or b""

    def write(self, file: FileIO, data: bytes | memoryview, offset: int) -> int:
        """Write at `offset`; return how many bytes were taken."""
        file.seek(offset)
        return file.write(data) or 0

    def truncate(self, file: FileIO, size: int) -> None:
        """Set the file's size."""
        file.truncate(size)

    def chmod(self, file: FileIO, mode: int) -> None:
        """Set the permission bits, where the platform has them."""
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), mode)

    def write_out(self, file: FileIO) -> None:
        """Start the writeback of content, and do not wait for its end: a hint."""
        # Linux begins to write what is dirty (Kerrisk, The Linux Programming Interface, 13.5).
        if hasattr(os, "posix_fadvise"):
            try:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError as error:
                errors.reraise_interrupt(error)

    def sync_data(self, file: FileIO) -> None:
        """Flush content, and the metadata that is needed to read it back (fdatasync)."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(file.fileno())
        else:
            self.sync_all(file)

    def sync_all(self, file: FileIO) -> None:
        """Flush content and metadata, through the drive's own cache."""
        try:
            # macOS: fsync stops at the drive's cache.
            from fcntl import F_FULLFSYNC, fcntl  # type: ignore[attr-defined,unused-ignore] # noqa: PLC0415 - not on every platform
        except ImportError:
            os.fsync(file.fileno())
            return
        try:
            fcntl(file.fileno(), F_FULLFSYNC)
        except OSError as refused:  # pragma: no cover - macOS, on a medium without F_FULLFSYNC
            if refused.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(file.fileno())

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        # Windows has no handle to sync; NTFS journals names, FlushFileBuffers writes the journal.
        # The separator tells the platform, at call time, so that a simulated Windows is believed.
        if os.sep == "\\":
            return
        descriptors: list[int] = []
        try:
            # One call of C code: an interrupt between two lines would leak the descriptor.
            descriptors.extend(map(os.open, [path], [os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)]))
            os.fsync(descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self, file: FileIO) -> None:
        """Close a file."""
        file.close()

    def forget(self, file: FileIO) -> None:
        """Drop what the page cache holds of a file and has written: a read asks the medium."""
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, over what has the name."""
        os.replace(old, new)

    def exists(self, path: str) -> bool:
        """Tell whether anything has this name."""
        return os.path.lexists(path)

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory."""
        return os.listdir(directory)
