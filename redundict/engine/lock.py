"""The writer's lock: one process at a time may write to a store.

The lock is a lock of the operating system on the file `NAME.lock` (flock on POSIX, LockFileEx on
Windows). The system releases it when its process dies. The file stays, unless the opening that
created it fails. The holder writes a note into the file: its process, host and time, which
`LockedError` shows. The note also names the newest durable generation and the copies that hold it:
on release, and after a commit that missed a copy. So a later opening learns of a generation that it
cannot see, for example because a disk is away.

Only this module knows filelock. It imports filelock when the first lock is taken, because readers
never need it. This module must not know slots.

Invariants: in a child of fork, the lock is never released. It belongs to the parent. No thread
waits for a lock that it holds itself. No byte is written to a file that is not a lock of ours.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import re
import stat
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from redundict import errors

from . import clock, files, trailer

_PATIENCE: Final = (0.0, 0.01, 0.05)  #: Seconds before each look for the holder's note.
_POLL: Final = 0.01  #: Seconds between two tries to take the lock.
_REPLACED: Final = 100  #: How often in a row the lock file may be another one than a moment ago.
#: flock is not implemented, or not enabled: NFS without lockd, Lustre without ``-o flock``.
_NO_LOCKS: Final = frozenset(
    getattr(errno, name)
    for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")
    if hasattr(errno, name)
)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_JITTER: Final = (0.005, 0.05)  #: Seconds between two tries to take the locks of all folders.
_LIMIT: Final = 4096  #: Bytes of a note that are read at most.
_HOLDER: Final = ("pid", "host", "since")
_SETTLED: Final = "settled"
_FIELDS: Final = (*_HOLDER, "token", _SETTLED, "generation", "copies")


class Noted(NamedTuple):
    """The newest durable generation that a lock note names."""

    generation: int = 0  #: Its number; 0 if the note names none.
    copies: str = ""  #: The letters of the copies that held it.


NOTHING_NOTED: Final = Noted()


def encode_note(**fields: object) -> bytes:
    """Return the content of a lock file: an empty line, then one line for each field.

    The first byte carries no information, because Windows locks it against reading.
    """
    return b"\n" + "".join([f"{name}={value}\n" for name, value in fields.items()]).encode()


def parse_note(text: bytes) -> dict[str, str]:
    """Return the known fields of a note; leave out everything else.

    >>> parse_note(encode_note(pid=7, host="box"))
    {'pid': '7', 'host': 'box'}
    >>> parse_note(b"who knows")
    {}
    """
    lines = [line.partition("=") for line in text.decode("utf-8", "replace").splitlines()]
    return {name: value for name, _, value in lines if name in _FIELDS and value}


def noted(note: Mapping[str, str]) -> Noted:
    """Return the generation that a note names.

    >>> noted({"generation": "7", "copies": "ab"}).generation, noted({"pid": "1"}).generation
    (7, 0)
    """
    number = note.get("generation", "")
    if not _NUMBER.fullmatch(number):
        return Noted()
    return Noted(int(number), note.get("copies", ""))


def read_note(path: str) -> dict[str, str]:
    """Return the fields of the note in a lock file, without the lock; {} if it cannot be read."""
    return parse_note(_read(path))


def read_noted(path: str) -> Noted:
    """Return the generation that the note in a lock file names, without the lock.

    Args:
        path: The path of the lock file. If it cannot be read, its note names nothing.

    """
    return noted(read_note(path))


class WriterLock:
    """The writer's lock of one store. A new object does not hold it.

    Attributes:
        settled: The note that the last holder left on release: the digest of the newest durable
            generation, and the time of its files. '' if unknown. `acquire` reads it.
        noted: The newest durable generation that the note of the last holder names.
        has_created: True if the lock file did not exist before.

    """

    def __init__(self, path: str, store: str, mode: int | None = None) -> None:
        self.path = path
        self._store = store
        self._mode = mode
        self._lock: Any = None  # filelock's; made once
        self._made_in = 0  # the process that made it: a child of fork needs one of its own
        self._fd: int | None = None
        self._pid = 0  # the process that takes or holds the lock; 0 if none does
        self._thread: Callable[[], object] = lambda: None  # the thread that took it
        self._file: tuple[int, int] | None = None  # the identity of the file that was locked
        self._folder: tuple[int, int] | None = None  # the identity of its folder
        self._is_the_parents = False
        self.has_created = False
        self._refusal = ""  # what is wrong with the file that was locked; '' for a lock of ours
        self._holder: dict[str, object] = {}  # the note that names this process
        self.settled = ""
        self.noted = Noted()

    @property
    def held(self) -> bool:
        """True if this object holds the lock, or held it when the process forked."""
        if self._lock is None or self._pid == 0:
            return False
        return self._lock.is_locked or self._pid != os.getpid()

    @property
    def inherited(self) -> bool:
        """True if the lock belongs to the parent of this process, as after a fork."""
        return self._is_the_parents or self._pid not in (0, os.getpid())

    def leave_to_parent(self) -> None:
        """Note in a child of fork that the lock belongs to the parent, held or not."""
        self._is_the_parents = True

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock, and write a note that names this process.

        Args:
            timeout: Seconds to wait for another holder; 0 does not wait.

        Raises:
            LockedError: If another writer still holds the lock after `timeout` seconds.
            StorageError: If the lock file cannot be created, or the file system has no locks.
            ValueError: If `timeout` is negative.

        """
        if timeout < 0:
            raise ValueError(f"timeout must not be negative, as {timeout} is")
        lock = self._file_lock()
        self._pid = os.getpid()  # first: an interrupt must not lose a lock that was taken
        try:
            self._wait_for(lock, timeout)
        except OSError as error:
            errors.reraise_interrupt(error)
            if isinstance(error, errors.RedundictError):
                raise
            if error.errno in _NO_LOCKS and error.filename is None:  # flock refused, not open
                raise errors.no_locks(error, self.path, self._store) from error
            raise errors.lock_refused(error, self.path, self._store) from error
        finally:
            if not lock.is_locked:
                self._pid = 0
        # Not its number, which a later thread may get again.
        self._thread = weakref.ref(threading.current_thread())
        if self._file:
            _holders[self._file] = self

    def is_in_place(self) -> bool:
        """Return True if the lock is held, and its file is still the one at its path.

        Raises:
            StorageError: If the system does not let this process look.

        """
        try:
            return self._fd is not None and self._file == _identity(self.path)
        except OSError as error:
            errors.reraise_interrupt(error)
            raise errors.lock_refused(error, self.path, self._store) from error

    def take_again(self) -> None:
        """Lock the file that is now at the path, if its folder is the one that was opened (law 5).

        On a network file system the number of an inode can change. So write a new token into the
        file that is locked. If it appears at the path, the file is the same.

        Raises:
            StorageError: If the folder is another one: it was renamed, replaced or mounted over.
            LockedError: If another writer holds the new file.

        """
        if self._fd is not None:
            self._holder["token"] = token = os.urandom(8).hex()
            _write_note(self._fd, **self._holder, **_named(self.noted))
            if parse_note(_read(self.path)).get("token") == token:
                self._file = _identity(self.path)
                return
        folder = os.path.dirname(self.path)
        try:
            found = os.stat(folder)  # it may be a link to the folder that was opened
        except (FileNotFoundError, NotADirectoryError) as error:
            errors.reraise_interrupt(error)
            raise errors.moved(self._store) from error
        except OSError as error:
            errors.reraise_interrupt(error)
            raise errors.lock_refused(error, self.path, self._store) from error
        if (found.st_dev, found.st_ino) != self._folder:
            raise errors.moved(self._store)
        self.release()
        self.acquire()

    def write_noted(self, found: Noted | None) -> None:
        """Name a durable generation in the note, while the lock is held.

        Args:
            found: The generation, and the copies that hold it. None changes nothing.

        """
        if found and self._fd is not None and not self.inherited:
            self.noted = max(found, self.noted)
            _write_note(self._fd, **self._holder, **_named(self.noted))

    def give_to(self, owner: tuple[int, int] | None, mode: int | None) -> None:
        """Give a lock file that this object created the owner and the mode of the slots.

        Args:
            owner: The user and the group of the slots, if they are known.
            mode: The permission bits of the slots.

        """
        if self.has_created and self._fd is not None and owner:
            _give(self._fd, owner, mode)
            self._file = _identity(self._fd)

    def release(
        self, settled: str = "", found: Noted | None = None, *, abandoned: bool = False
    ) -> None:
        """Release the lock; do nothing if it is not held, or in a child of fork.

        Args:
            settled: Names the newest generation and its files, if all of them are durable. The next
                holder then need not flush them again. '' says that nothing is known.
            found: The newest durable generation. None leaves the one that the note names.
            abandoned: The opening failed. Remove the lock file if this object created it, or else
                put back the note that the last holder left.

        Raises:
            StorageError: If the system refuses. Call it again.

        """
        if self._lock is None or self._pid == 0 or self.inherited:
            return  # a child of fork shares the descriptor: this would free the parent's lock
        settled = self.settled if abandoned else settled
        # Forget the descriptor first: after an interrupt, it may be closed and name another file.
        fd, self._fd = self._fd, None
        try:
            if abandoned and self.has_created:
                _remove(self.path, fd)  # while it is held, so that nobody else can hold it
            elif fd is not None and (settled or found or self.noted.generation):
                facts = {_SETTLED: settled} if settled else {}
                # A newer generation that no slot holds may come back with its disk.
                _write_note(fd, **facts, **_named(max(found or self.noted, self.noted)))
        finally:
            try:
                self._lock.release()
            except OSError as error:
                errors.reraise_interrupt(error)
                if self._lock.is_locked:
                    raise errors.lock_kept(error, self.path, self._store) from error
            self._pid = 0

    def _file_lock(self) -> Any:
        """Return filelock's object. It is not held."""
        if self._lock is not None and self._made_in == os.getpid():
            return self._lock
        # thread_local=False: a store that one thread opened may be closed by another.
        # fallback_to_soft=False: filelock's soft lock would outlive a holder that dies.
        # It refers to this object weakly. In a cycle, only the collector would release it.
        self._made_in = os.getpid()
        self._lock = _file_lock_class()(
            self.path,
            thread_local=False,
            preserve_lock_file=True,
            fallback_to_soft=False,
            close_error_policy="raise",  # it may be the exception of a signal handler
            on_acquired=functools.partial(_take_note, weakref.ref(self)),
            mode=-1 if self._mode is None else self._mode | 0o600,  # -1: the umask's
        )
        self._lock.holder = weakref.ref(self)
        return self._lock

    def _wait_for(self, lock: Any, timeout: float) -> None:
        # filelock would create a missing folder, but its disk may just not be mounted.
        folder = os.stat(os.path.dirname(self.path))
        self._folder = folder.st_dev, folder.st_ino
        wait = None
        while not self._try(lock):
            # Not filelock's own wait, which does not end if the clock stands still.
            wait = wait or clock.Wait()
            left = timeout - wait.elapsed
            if left <= 0 or self.would_wait_for_itself():
                note = _read_note(self.path)
                is_here = (note.get("pid"), note.get("host")) == (f"{os.getpid()}", _host())
                raise errors.locked(self._store, note, is_here=is_here)
            wait.pause(min(_POLL, left))

    def is_held_by_this_thread(self) -> bool:
        """Return True if this thread took this lock, and it is still held."""
        is_here = self._pid == os.getpid() and self._thread() is threading.current_thread()
        return is_here and self.held

    def would_wait_for_itself(self) -> bool:
        """Return True if this thread holds the lock file through another object."""
        file = _identity(self.path)
        holder = _holders.get(file) if file else None
        return holder is not None and holder.is_held_by_this_thread()

    def _try(self, lock: Any) -> bool:
        """Try to take the lock. Return True if it is held now.

        A failed opening of another process may remove the file that was just opened or locked. Such
        a file protects nothing, so the file that has the name now is tried.
        """
        for _ in range(_REPLACED):
            before = _identity(self.path)
            self.has_created = before is None
            self._refuse_other_kinds()
            try:
                lock.acquire(timeout=0)
            except TimeoutError as error:
                errors.reraise_interrupt(error)
                if error.errno is not None:  # of the file system, and not filelock's own
                    raise
                if before is not None and before == _identity(self.path):
                    return False
                continue
            except OSError as error:
                errors.reraise_interrupt(error)
                # ENOLCK may pass, so another process may hold the file. Then it has a note.
                if before is None and error.errno in _NO_LOCKS and _is_empty(self.path):
                    _remove(self.path, None)
                raise
            if self._refusal:
                self._let_go(lock)
                raise errors.foreign_lock(self.path, self._refusal, self._store)
            if self._file == _identity(self.path) and not self._is_linked():
                return True
            self._let_go(lock)
        raise OSError(errno.ESTALE, "it is replaced again and again", self.path)

    def _let_go(self, lock: Any) -> None:
        """Release a file that is not the lock. Forget its descriptor first."""
        self._fd = self._file = None
        lock.release()

    def _refuse_other_kinds(self) -> None:
        """Raise if something other than a regular file has the name of the lock."""
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder"}
        if not stat.S_ISREG(mode):
            what = kinds.get(stat.S_IFMT(mode), "not a regular file")
            raise errors.foreign_lock(self.path, what, self._store)

    def _is_linked(self) -> bool:
        """Return True if the lock file has several names; then put a new file in its place.

        The file under its other name must not change. It may be in a snapshot.
        """
        if self._fd is None or os.fstat(self._fd).st_nlink < 2:
            return False
        was = os.fstat(self._fd)
        copy = f"{self.path}.{os.urandom(8).hex()}"
        fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _give(fd, (was.st_uid, was.st_gid), stat.S_IMODE(was.st_mode))
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(fd, os.read(self._fd, _LIMIT))
            os.replace(copy, self.path)
        except BaseException:
            _remove(copy, None)
            raise
        finally:
            os.close(fd)
        return True

    def take_note(self, fd: int) -> None:
        """Read the note of the last holder, and replace it by a note of this process.

        Nothing is written to a file that is not a lock of ours, or has several names.
        """
        self._fd, self.settled, self.noted, self._refusal = fd, "", Noted(), ""
        self._file = _identity(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        left = os.read(fd, _LIMIT)
        self.has_created = self.has_created and not left  # otherwise another process was faster
        note = parse_note(left)
        if left.strip(b"\0\n") and not (left.startswith(b"\n") and note):
            self._refusal = "a file of another program"
        elif os.fstat(fd).st_nlink < 2:
            self.settled, self.noted = note.get(_SETTLED, ""), noted(note)
            self._holder = {"pid": os.getpid(), "host": _host(), "since": trailer.stamp()}
            self._holder["token"] = os.urandom(8).hex()
            _write_note(fd, **self._holder, **_named(self.noted))


#: The last object of this process that locked a file, by the identity of the file.
_holders: weakref.WeakValueDictionary[tuple[int, int], WriterLock] = weakref.WeakValueDictionary()


def acquire_all(locks: Sequence[WriterLock], timeout: float) -> list[WriterLock]:
    """Take the locks of all folders of a store, or none of them.

    If one is refused, all are released, and after a pause of random length all are tried again. So
    two writers that begin in different folders do not wait for each other for ever. A folder that
    this process may not write to is left out, unless it is the only one.

    Args:
        locks: The locks, the one beside the path of the store first.
        timeout: Seconds to wait for another holder; 0 does not wait.

    Returns:
        The locks that are held.

    Raises:
        LockedError: If another writer still holds one after `timeout` seconds.
        StorageError: If a lock file cannot be created or locked.

    """
    wait = clock.Wait()
    while True:
        held: list[WriterLock] = []
        try:
            for lock in locks:
                try:
                    lock.acquire(0.0 if held else max(timeout - wait.elapsed, 0.0))
                    held.append(lock)
                except errors.StorageError as error:
                    is_last = lock is locks[-1] and not held
                    if error.errno not in files.READ_ONLY or is_last:
                        raise
        except errors.LockedError:
            _abandon(held)
            if wait.elapsed >= timeout or any(lock.would_wait_for_itself() for lock in locks):
                raise
            wait.pause(random.uniform(*_JITTER))  # noqa: S311 - not a secret
        except BaseException:
            _abandon(held)
            raise
        else:
            return held


def _abandon(held: Sequence[WriterLock]) -> None:
    for lock in reversed(held):
        lock.release(abandoned=True)


def _take_note(holder: weakref.ref[WriterLock], fd: int) -> None:
    if lock := holder():
        lock.take_note(fd)


@functools.cache
def _file_lock_class() -> Any:
    """Return the class of filelock's objects. filelock is imported here, and nowhere else."""
    from filelock import FileLock  # noqa: PLC0415 - a reader never pays for it

    class ProcessLock(FileLock):
        """A lock that only its `WriterLock` releases.

        filelock forces the release of all locks in an exit handler. Exit handlers that run later
        may still use the store.
        """

        holder: Callable[[], WriterLock | None] = lambda: None

        def release(self, force: bool = False) -> None:
            holder = self.holder()
            if not (force and holder and holder.held):
                super().release(force)

    return ProcessLock


def _give(fd: int, owner: tuple[int, int], mode: int | None) -> None:
    """Set owner and mode of a file, or only group and mode, if the system allows it."""
    if not hasattr(os, "fchown"):
        return
    found = os.fstat(fd)
    if owner != (found.st_uid, found.st_gid) and not _give_away(fd, *owner):
        mode = None if mode is None else files.without_group(mode)
    try:
        if mode is not None and mode | 0o600 != stat.S_IMODE(found.st_mode):
            os.fchmod(fd, mode | 0o600)
    except OSError as error:
        errors.reraise_interrupt(error)


def _give_away(fd: int, user: int, group: int) -> bool:
    """Set the owner of a file, or else its group. Return True if it has the group."""
    for owner in (user, -1):
        try:
            os.fchown(fd, owner, group)
        except OSError as error:
            errors.reraise_interrupt(error)
        else:
            return True
    return False


def _named(found: Noted) -> dict[str, object]:
    """Return the fields of a note that name a generation."""
    if not found.generation:
        return {}
    return {"generation": found.generation, "copies": found.copies}


def _identity(file: str | int) -> tuple[int, int] | None:
    """Return the device and inode of a file; None if there is no such file."""
    try:
        found = os.lstat(file) if isinstance(file, str) else os.fstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except OSError as error:
        errors.reraise_interrupt(error)
        return False


def _remove(path: str, fd: int | None) -> None:
    """Remove a lock file; leave it if the system refuses, as Windows does while it is open.

    Args:
        path: The path of the file.
        fd: The descriptor of the file to remove. If another file has the path, it stays.

    """
    try:
        if fd is None or _identity(fd) == _identity(path):
            os.unlink(path)
    except OSError as error:
        errors.reraise_interrupt(error)


def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # noqa: PLC0415 - slow to import, and only for this

    return socket.gethostname()


def _write_note(fd: int, **fields: object) -> None:
    """Write a note, unless the system refuses: it is optional, for example on a full disk."""
    note = encode_note(**fields)
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, note)
        os.ftruncate(fd, len(note))
    except OSError as error:
        errors.reraise_interrupt(error)


def _read_note(path: str) -> dict[str, str]:
    """Return the note of the holder; {} if there is none.

    The file is read several times, since a new holder may not have written its note yet.
    """
    for pause in _PATIENCE:
        time.sleep(pause)
        note = parse_note(_read(path))
        if note.keys() >= set(_HOLDER):
            return note
    return {}


def _read(path: str) -> bytes:
    """Return the content of a lock file after its first byte, which Windows locks; b"" if none."""
    try:
        file = files.open_file(path)
        try:
            return files.disk.read(file, _LIMIT, 1)
        finally:
            files.close_quietly(file)
    except OSError as error:
        errors.reraise_interrupt(error)
        return b""
