"""The writer's lock: one process at a time may write to a store.

The lock is a lock of the operating system on the file `NAME.lock` (flock on POSIX, LockFileEx on
Windows). The system releases it when its process dies. The file stays. The holder writes a note
into the file: its process, host and time, which `LockedError` shows. On release, the note names the
newest generation if all its files are known to be durable.

Only this module knows filelock. It imports filelock when the first lock is taken, because readers
never need it. This module must not know slots.

Invariant: in a child of fork, the lock is never released. It belongs to the parent.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from redundict import errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PATIENCE: Final = (0.0, 0.01, 0.05)  #: Seconds before each look for the holder's note.
_LIMIT: Final = 4096  #: Bytes of a note that are read at most.
_HOLDER: Final = ("pid", "host", "since")
_SETTLED: Final = "settled"


def encode_note(**fields: object) -> bytes:
    """Return the content of a lock file: an empty line, then one line for each field.

    The first byte carries no information, because Windows locks it against reading.
    """
    return b"\n" + "".join(f"{name}={value}\n" for name, value in fields.items()).encode()


def parse_note(text: bytes) -> dict[str, str]:
    """Return the known fields of a note; leave out everything else.

    >>> parse_note(encode_note(pid=7, host="box"))
    {'pid': '7', 'host': 'box'}
    >>> parse_note(b"who knows")
    {}
    """
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines if name in (*_HOLDER, _SETTLED) and value}


class WriterLock:
    """The writer's lock of one store. A new object does not hold it.

    Attributes:
        settled: The note that the last holder left on release: the digest of the newest durable
            generation, and the time of its files. '' if unknown. `acquire` reads it.

    """

    def __init__(self, path: str, store: str, mode: int | None = None) -> None:
        self._path = path
        self._store = store
        self._mode = mode
        self._lock: BaseFileLock | None = None
        self._fd: int | None = None
        self._pid = 0
        self._is_the_parents = False
        self.settled = ""

    @property
    def held(self) -> bool:
        """True if this object holds the lock, or held it when the process forked."""
        return self._lock is not None

    @property
    def inherited(self) -> bool:
        """True if the lock belongs to the parent of this process, as after a fork."""
        return self._is_the_parents or (self._lock is not None and self._pid != os.getpid())

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
        from filelock import FileLock, Timeout  # noqa: PLC0415 - a reader never pays for it

        # thread_local=False: a store that one thread opened may be closed by another.
        # fallback_to_soft=False: filelock's soft lock would outlive a holder that dies.
        lock = FileLock(
            self._path,
            thread_local=False,
            preserve_lock_file=True,
            fallback_to_soft=False,
            on_acquired=self._take_note,
            mode=-1 if self._mode is None else self._mode | 0o600,  # -1: the umask's
        )
        try:
            # filelock would create a missing folder, but its disk may just not be mounted.
            os.stat(os.path.dirname(self._path))
            lock.acquire(timeout=timeout, poll_interval=0.01)
        except Timeout:
            raise errors.locked(self._store, _read_note(self._path)) from None
        except OSError as error:
            errors.reraise_interrupt(error)
            raise errors.lock_refused(error, self._path, self._store) from error
        self._lock = lock

    def release(self, settled: str = "") -> None:
        """Release the lock; do nothing if it is not held, or in a child of fork.

        Args:
            settled: Names the newest generation and its files, if all of them are durable. The next
                holder then need not flush them again. '' says that nothing is known.

        """
        if self._lock is None or self.inherited:
            return  # a child of fork shares the descriptor: this would free the parent's lock
        if settled and self._fd is not None:
            with contextlib.suppress(OSError):
                _write_note(self._fd, settled=settled)
        self._lock.release()
        self._lock = self._fd = None

    def _take_note(self, fd: int) -> None:
        """Read the note of the last holder, and replace it by a note of this process."""
        self._fd, self._pid, self.settled = fd, os.getpid(), ""
        os.lseek(fd, 0, os.SEEK_SET)
        self.settled = parse_note(os.read(fd, _LIMIT)).get(_SETTLED, "")
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with contextlib.suppress(OSError):  # the note is optional, even on a full disk
            _write_note(fd, pid=os.getpid(), host=_host(), since=since)


def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # noqa: PLC0415 - slow to import, and only for this

    return socket.gethostname()


def _write_note(fd: int, **fields: object) -> None:
    note = encode_note(**fields)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, note)
    os.ftruncate(fd, len(note))


def _read_note(path: str) -> dict[str, str]:
    """Return the note of the holder; {} if there is none.

    The file is read several times, since a new holder may not have written its note yet.
    """
    for pause in _PATIENCE:
        time.sleep(pause)
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(1)
                note = parse_note(file.read(_LIMIT))
        except OSError:
            continue
        if note.keys() >= set(_HOLDER):
            return note
    return {}
