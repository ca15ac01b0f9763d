"""Whole files: read them, and overwrite and rename them durably.

The engine uses the file system only through this module and the lock. This module uses it only
through `disk`, except for files that are not slots. It must not know slots, copies or trailers.

Invariant: one thread writes all files of a call from the first byte to the last flush, so an
interrupt leaves no thread that still writes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from typing import Final, NamedTuple

from redundict import errors

from .disk import Disk, Stat

#: The medium cannot return the data. That is damage.
DAMAGE: Final = frozenset({errno.EIO, getattr(errno, "EUCLEAN", -1), getattr(errno, "EBADMSG", -1)})
#: There is no such file.
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
#: The process has run out of descriptors or memory. That is no fault of a slot.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
#: The file system cannot do it, or does not let this process: flush a folder, copy permission bits.
#: PostgreSQL and borg go on, too, if a folder cannot be flushed.
_UNSUPPORTED: Final = frozenset(
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EPERM", "EACCES", "EBADF", "EISDIR")
    if hasattr(errno, name)
)
#: This process must not write there.
READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_LARGE: Final = 1 << 16  #: Bytes from which two writes cost less than joining two parts.
_NAMES: Final = 1000  #: Names for a new file that are tried.
_PIECE: Final = 1 << 20  #: Bytes of a file that are hashed at once.
_HUGE: Final = 1 << 30  #: Bytes from which a file is tested for holes.
_PACKED: Final = 1000  #: Nothing but zeros is packed so many times more tightly.

#: What follows the name of a file in the name of a new file: see `_create_beside`.
_NUMBERED: Final = re.compile(r"\.new(?:[2-9]|[1-9][0-9]{1,2})?")
_LATEST: Final = 1 << 37  #: Seconds since the epoch that every platform can convert.

NEW: Final = ".new"  #: Follows the name of a file that is to be replaced; a number may follow it.
ASIDE: Final = ".aside-"  #: Follows the name of a slot that was put aside; the time follows it.

#: The errors of the system, by the path of the file.
Failures = dict[str, OSError]

disk = Disk()
#: Folders that the file system cannot flush, each with the reason, until they are reported.
unflushed: dict[str, str] = {}
_reported: set[str] = set()


class NotAFileError(OSError):
    """The name does not belong to a regular file. Nothing was followed or opened for writing."""


class Content(NamedTuple):
    """The bytes that were read from a file, and facts from its inode after the read."""

    data: bytes
    stat: Stat


def read(path: str, limit: int | None = None, *, most: int | None = None) -> Content:
    """Return the content of a file, or its last bytes.

    Args:
        path: The path of the file.
        limit: The number of bytes to read from the end. None reads the whole file.
        most: The size in bytes from which nothing is read. None reads a file of any size.

    Raises:
        NotAFileError: For a link, a directory or a device.
        OSError: If the system refuses.

    """
    file = open_file(path)
    try:
        if limit:
            data = _read_end(file, limit)
        else:
            size = disk.stat(file).size
            data = _read(file, size, 0) if most is None or size < most else b""
        return Content(data, disk.stat(file))  # after the read, so a write meanwhile shows in it
    finally:
        close_quietly(file)


def ending(path: str, limit: int) -> bytes:
    """Return the last `limit` bytes of a file.

    Raises:
        OSError: If the system refuses, or the file is shorter.

    """
    file = disk.open_read(path)
    try:
        return disk.read(file, limit, -limit)
    finally:
        disk.close(file)


def plain_modified(path: str) -> float | None:
    """Return the time of the last change of a file that is not a slot; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        errors.reraise_interrupt(error)
        return None
    return found.st_mtime if stat.S_ISREG(found.st_mode) else None


def read_plain(path: str) -> bytes | None:
    """Return the content of a file that is not a slot; None if it does not exist.

    Links are followed.

    Raises:
        OSError: If the system refuses, or if it is not a regular file with content. A FIFO, for
            example, would block.

    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFileError(errno.ENXIO, "not a regular file", path)
        with open(path, "rb") as file:
            _refuse_hollow(file, path)
            return file.read()
    except FileNotFoundError:
        return None


def _refuse_hollow(file: FileIO | BufferedReader, path: str) -> None:
    """Raise `OSError` for a huge file that is nearly all a hole, as truncate(1) makes it.

    To read a terabyte of zeros would take an hour. The number of allocated blocks proves nothing:
    some file systems do not count data that they have yet to place. So they are asked for holes.
    """
    size = disk.stat(file).size
    if size < _HUGE:
        return
    offset = found = 0
    try:
        while offset < size and found <= size / _PACKED:
            start = disk.next_data(file, offset)
            offset = disk.next_hole(file, start)
            found += offset - start
    except OSError as error:
        errors.reraise_interrupt(error)
        if error.errno != errno.ENXIO:  # only ENXIO says that there is no more data
            return
    if found <= size / _PACKED:
        what = f"nearly all of it is a hole: {found} of its {size} bytes are data"
        raise OSError(errno.EFBIG, what, path)


def digest(path: str, uncovered: int) -> str:
    """Return the SHA-256 of a file without its last bytes, as hex digits.

    The file is read in pieces, so this takes the same memory for a file of any size.

    Args:
        path: The path of the file.
        uncovered: The number of bytes at the end to leave out.

    Raises:
        OSError: If the system refuses, or nearly all of the file is a hole.

    """
    file, hasher, offset = open_file(path), hashlib.sha256(), 0
    try:
        _refuse_hollow(file, path)
        end = disk.stat(file).size - uncovered
        while piece := disk.read(file, max(min(_PIECE, end - offset), 0), offset):
            hasher.update(piece)
            offset += len(piece)
    finally:
        close_quietly(file)
    return hasher.hexdigest()


def forget(path: str) -> None:
    """Make the next read of a file come from the medium, not from the page cache.

    Raises:
        OSError: If the system refuses, or the platform cannot do this.

    """
    file = open_file(path)
    try:
        disk.forget(file)
    except AttributeError:
        raise OSError(errno.ENOTSUP, "the page cache cannot be dropped on this platform") from None
    finally:
        close_quietly(file)


def _read_end(file: FileIO, limit: int) -> bytes:
    """Read the last `limit` bytes, or as many as there are."""
    try:
        return disk.read(file, limit, -limit)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file is shorter
            raise
        return _read(file, limit, 0)


def _read(file: FileIO, size: int, offset: int) -> bytes:
    """Read `size` bytes, or as many as there are."""
    data = disk.read(file, size, offset)
    while 0 < len(data) < size:  # read(2) stops at 2 GiB, and at signals
        more = disk.read(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


@dataclass(slots=True)
class Overwriting:
    """The durable overwriting of one file: call `write`, then `sync`, then `close`.

    A file that does not exist is created. After a crash before `sync` has returned, the file may
    hold anything. Until then, a read may see bytes that are not on the medium. Always call `close`,
    also after an exception of `write` or `sync`.

    Attributes:
        path: The path of the file.
        parts: The content, in pieces.
        mode: The permission bits, set before content is written. None does not set them.
        mode_if_new: The permission bits of a file that is created. None leaves them to the umask.
        owner_if_new: The user and group of a file that is created, if this process may set them.
        durable: True if the size, allocation and name of the file are known to be on the medium.
            They are then flushed only if the write changes them.
        afresh: Write a new file, and give it its name only when it is whole and durable. After a
            crash, `path` is the old file or the whole new one. A file `path` + ``.new`` may remain,
            with a number after it if that name was taken. It has no meaning. A file with more than
            one hard link is always replaced in this way, because a write would change the file
            under its other names, too.
        keep_old: Put the old file aside just before the new one gets its name. So the old file
            stays where it is if there is no space for the new one. It needs `afresh`.
        aside: The new path of the old file, if it was put aside; else ''.
        signature: The facts of the file after its flush, as the function `signature` returns them.

    """

    path: str
    parts: Sequence[bytes]
    mode: int | None = None
    mode_if_new: int | None = None
    owner_if_new: tuple[int, int] | None = None
    durable: bool = False
    afresh: bool = False
    keep_old: bool = False
    aside: str = field(default="", init=False)
    signature: tuple[int, ...] = field(default=(), init=False)
    _name: str = field(default="", init=False)  # of the file until it is durable
    _file: FileIO | None = field(default=None, init=False)
    _flush_all: bool = field(default=True, init=False)
    _flush_name: bool = field(default=True, init=False)

    def write(self) -> None:
        """Write the content, and start its writeback. It is not durable yet.

        Raises:
            OSError: If the system refuses.

        """
        wanted = self.mode if self.mode is not None else self.mode_if_new
        bits, self._name = 0o666 if wanted is None else wanted, self.path
        if self.owner_if_new and self.owner_if_new != _ourselves():
            bits &= 0o700  # until it has its group
        if not self.afresh:
            file, created = _open_or_create(self.path, bits)
            self._file = file
            before = disk.stat(file)
            self.afresh = before.links > 1
        if self.afresh:
            self.close()
            file, self._name = _create_beside(self.path, bits)
            self._file, created = file, True
            before = disk.stat(file)
        if created and self.owner_if_new and self.owner_if_new != before.owner:
            is_given = self._set_owner(file, *self.owner_if_new)
            if self.mode is None and wanted is not None and not is_given:
                wanted = without_group(wanted)
        if (created or wanted == self.mode) and wanted not in (None, before.mode):
            self._set_mode(file, wanted)
        small = sum(map(len, self.parts)) < _LARGE
        size = 0
        for part in [b"".join(self.parts)] if small else self.parts:
            size = _write(file, part, size)
        disk.write_out(file)
        if before.size > size:
            disk.truncate(file, size)
        self._flush_all = not self.durable or not before.size == size <= before.allocated
        self._flush_name = not self.durable or created or self.afresh

    def _set_owner(self, file: FileIO, user: int, group: int) -> bool:
        """Set the owner, or only the group, if the system allows it; return True if it has both.

        Return True, too, if it has only the group.
        """
        try:
            try:
                disk.chown(file, user, group)
            except PermissionError as error:
                errors.reraise_interrupt(error)
                disk.chown(file, -1, group)
        except OSError as error:
            errors.reraise_interrupt(error)
            if error.errno not in _UNSUPPORTED:
                raise
            return False
        return True

    def _set_mode(self, file: FileIO, mode: int) -> None:
        """Set the permission bits. They must be set only if the caller named them.

        The system created the file with these bits or with fewer. So a copy of the bits of other
        slots can fail without harm.
        """
        try:
            disk.chmod(file, mode)
        except OSError as error:
            errors.reraise_interrupt(error)
            if self.mode is not None or error.errno not in _UNSUPPORTED:
                raise

    def sync(self) -> None:
        """Make the file durable, and close it.

        Raises:
            OSError: If the system refuses, or the file was not written. Its content is unknown.

        """
        if self._file is None:
            raise OSError(errno.EBADF, "the file was not written", self.path)
        (disk.sync_all if self._flush_all else disk.sync_data)(self._file)
        file, self._file = self._file, None
        self.signature = disk.signature(file)
        disk.close(file)  # NFS reports a failed write here
        if self.keep_old and disk.exists(self.path):  # a failed try may have put it aside
            self.aside = put_aside(self.path)
        if self.afresh:
            disk.rename(self._name, self.path)
            self._name = self.path
        if self._flush_name:
            _sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Close the file if it is still open. Its content is then unknown.

        Remove a new file that has not got its name.
        """
        if self._file is not None:
            file, self._file = self._file, None
            close_quietly(file)
        if self.afresh and self._name not in ("", self.path):
            name, self._name = self._name, ""
            remove_quietly(name)


def without_group(mode: int) -> int:
    """Return permission bits for a file whose group could not be set.

    They were meant for another group, so the group gets what everybody has.

    >>> f"{without_group(0o640):o} {without_group(0o664):o} {without_group(0o600):o}"
    '600 644 600'
    """
    return mode & ~0o070 | mode & 0o070 & (mode & 0o007) << 3


def _ourselves() -> tuple[int, int] | None:
    """Return the user and the group of the files that this process creates."""
    return (os.geteuid(), os.getegid()) if hasattr(os, "fchown") else None


def overwrite_all(files: Sequence[Overwriting]) -> Failures:
    """Write all files, then flush all files.

    All writes come before the first flush, and each write starts its writeback. The last file is
    flushed first. That flush of the drive's cache serves all files, so the others have little left
    to flush. If no descriptor was left for a file, it is written after the others are closed.

    Args:
        files: The files to overwrite, with different paths.

    Returns:
        The errors of the files that could not be written, by path. All other files are durable.

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
                    failures[file.path] = errors.detached(error)
    finally:
        for file in files:
            file.close()
    again = [f for f in files if f.path in failures and failures[f.path].errno in EXHAUSTED]
    for file in again if len(files) > 1 else ():
        del failures[file.path]
        failures |= overwrite_all([file])
    return failures


def overwrite(
    path: str,
    content: bytes,
    *,
    mode: int | None = None,
    mode_if_new: int | None = None,
    owner_if_new: tuple[int, int] | None = None,
    afresh: bool = False,
) -> None:
    """Overwrite one file durably.

    Args:
        path: The path of the file.
        content: The new content.
        mode: As in `Overwriting`.
        mode_if_new: As in `Overwriting`.
        owner_if_new: As in `Overwriting`.
        afresh: As in `Overwriting`.

    Raises:
        OSError: If the system refuses. The content of the file is unknown, unless `afresh`.

    """
    file = Overwriting(path, [content], mode, mode_if_new, owner_if_new, afresh=afresh)
    failures = overwrite_all([file])
    if failures:
        raise failures.pop(path)


def put_aside(path: str) -> str:
    """Rename a file durably to a free name beside it. Overwrite nothing.

    After a crash, the file has its old name or its new one.

    Returns:
        The new path: the old one, ``.aside-`` and the time in UTC.

    Raises:
        OSError: If the system refuses.

    """
    moment = time.gmtime(min(max(time.time(), 0), _LATEST))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", moment)
    aside, count = f"{path}{ASIDE}{stamp}", 1
    while disk.exists(aside):
        count += 1
        aside = f"{path}{ASIDE}{stamp}-{count}"
    disk.rename(path, aside)
    _sync_directory(os.path.dirname(path))
    return aside


def remove(path: str) -> None:
    """Remove a file. It may come back after a crash.

    Raises:
        OSError: If the system refuses.

    """
    disk.remove(path)


def remove_leftovers(
    path: str, is_known: Callable[[bytes], bool], *, most: int, owner: tuple[int, int] | None
) -> None:
    """Remove the new files that killed writers left beside a file, if nobody needs them.

    A file may as well belong to somebody else. So it is removed only if it is a regular file with
    one name, belongs to the user of this process or to `owner`, did not change meanwhile, and
    `is_known`. The caller holds the lock, so no writer is at work.

    Args:
        path: The path of the file that is to be replaced.
        is_known: Returns True for bytes that are needed no more.
        most: The size in bytes from which a file is left.
        owner: The user and the group of the files beside it, if they are known.

    """
    if not disk.exists(f"{path}{NEW}"):
        return
    folder, name = os.path.split(path)
    for found in names(folder, f"{name}{NEW}"):
        leftover = os.path.join(folder, found)
        facts = signature(leftover)
        try:
            data, stat = read(leftover, most=most)
        except OSError as error:
            errors.reraise_interrupt(error)
            continue
        mine = [each[0] for each in (_ourselves(), owner) if each]
        is_ours = _NUMBERED.fullmatch(found, len(name)) and stat.links == 1
        is_ours = is_ours and (stat.owner is None or stat.owner[0] in mine)
        if is_ours and stat.size == len(data) and is_known(data) and facts == signature(leftover):
            remove_quietly(leftover)


def take_unflushed() -> dict[str, str]:
    """Return the folders that the file system could not flush, each with the reason.

    No folder is returned twice, so each is reported once.
    """
    found = {}
    while unflushed:
        folder, reason = unflushed.popitem()
        found[folder] = reason
    return found


def exists(path: str) -> bool:
    """Return True if anything has this name, even a link to nothing."""
    return disk.exists(path)


def signature(path: str) -> tuple[int, ...] | None:
    """Return facts of a name that change if its file is changed or replaced; None if it is gone."""
    try:
        return disk.signature(path)
    except OSError as error:
        errors.reraise_interrupt(error)
        return None


def names(directory: str, prefix: str = "") -> list[str]:
    """Return the names in a directory that begin with a prefix, in any order.

    A file system may take ``State.json.a0`` and ``state.json.a0`` for one name. Such a name is
    returned as the prefix spells it.

    Args:
        directory: The directory.
        prefix: The beginning of the names. An empty one returns all names.

    Raises:
        OSError: If the system refuses.

    """
    spelled, size, folded = set(), len(prefix), prefix.casefold()
    for name in disk.names(directory):
        if name.startswith(prefix):
            spelled.add(name)
        elif name[:size].casefold() == folded:
            alike = prefix + name[size:]
            if disk.exists(os.path.join(directory, alike)):
                spelled.add(alike)
    return list(spelled)


def open_file(path: str, *, writing: bool = False) -> FileIO:
    """Open an existing regular file. The caller closes it.

    Args:
        path: The path of the file.
        writing: Open it for reading and writing.

    Raises:
        NotAFileError: For a link, a directory or a device.
        OSError: If the system refuses.

    """
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


def close_quietly(file: FileIO) -> None:
    """Close a file without an error. It was only read, or its content is unknown anyway."""
    try:
        disk.close(file)
    except OSError as error:
        errors.reraise_interrupt(error)


def remove_quietly(path: str) -> None:
    """Remove a file that has no meaning. It may stay."""
    try:
        disk.remove(path)
    except OSError as error:
        errors.reraise_interrupt(error)


def _sync_directory(path: str) -> None:
    """Make the names in a folder durable, if its file system can."""
    try:
        disk.sync_directory(path)
    except OSError as error:
        errors.reraise_interrupt(error)
        if error.errno not in _UNSUPPORTED:
            raise
        if path not in _reported:
            _reported.add(path)
            unflushed[path] = errors.why(error)


def _open_or_create(path: str, mode: int) -> tuple[FileIO, bool]:
    """Open a regular file for writing. Return it, and True if it was created."""
    try:
        return open_file(path, writing=True), False
    except FileNotFoundError:
        return disk.create(path, mode), True


def _create_beside(path: str, mode: int) -> tuple[FileIO, str]:
    """Create a file that is to replace `path`. Return it and its name.

    An interrupted write may have left such a file. It may as well belong to somebody else, so a
    name that is taken is not used. `remove_leftovers` removes what is safe to remove.
    """
    for count in range(1, _NAMES):
        name = f"{path}{NEW}" if count == 1 else f"{path}{NEW}{count}"
        try:
            return disk.create(name, mode), name
        except FileExistsError as error:
            errors.reraise_interrupt(error)
    raise OSError(errno.EEXIST, "every name for a new file beside it is taken", path)


def _write(file: FileIO, data: bytes, offset: int) -> int:
    """Write all of `data` at `offset`; return the offset of its end."""
    view = memoryview(data)
    while view:
        written = disk.write(file, view, offset)
        if written == 0:
            raise OSError(errno.EIO, "the write made no progress")
        view, offset = view[written:], offset + written
    return offset
