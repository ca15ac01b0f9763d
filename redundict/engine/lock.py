"""One writer at a time: the one module that knows filelock.

The lock is the kernel's own on `NAME.lock` (flock, LockFileEx), so a process that dies lets go of
it; the file stays. Its holder writes who it is into it, for `LockedError`, and on letting go, which
generation it left settled on the medium. filelock is imported with the first lock that is taken:
readers never need it. Knows no slots.
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

_PATIENCE: Final = (0.0, 0.01, 0.05)  #: Seconds: a new holder may not have written its note yet.
_LIMIT: Final = 4096  #: Bytes of a note that are read.
_HOLDER: Final = ("pid", "host", "since")
_SETTLED: Final = "settled"


def encode_note(**fields: object) -> bytes:
    """Return what stands in a lock file.

    The first byte is the one that Windows locks against reading, so it says nothing.
    """
    return b"\n" + "".join(f"{name}={value}\n" for name, value in fields.items()).encode()


def parse_note(text: bytes) -> dict[str, str]:
    """Return the fields of a note, as far as there are any.

    >>> parse_note(encode_note(pid=7, host="box"))
    {'pid': '7', 'host': 'box'}
    >>> parse_note(b"who knows")
    {}
    """
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines if name in (*_HOLDER, _SETTLED) and value}


class WriterLock:
    """The lock of one store, free until `acquire`."""

    def __init__(self, path: str, store: str, mode: int | None = None) -> None:
        self._path = path
        self._store = store
        self._mode = mode
        self._lock: BaseFileLock | None = None
        self._fd: int | None = None
        self._pid = 0
        self._is_the_parents = False
        self.settled = ""  #: What the last holder left settled; '' if unknown.

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    @property
    def inherited(self) -> bool:
        """Whether it is the parent process's, from before a fork."""
        return self._is_the_parents or (self._lock is not None and self._pid != os.getpid())

    def leave_to_parent(self) -> None:
        """Note, in a child of fork, that the lock is its parent's, be it held at present or not."""
        self._is_the_parents = True

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock, waiting `timeout` seconds at most.

        Raises `LockedError` if another writer has it, `StorageError` if the lock file cannot be
        made or the file system has no locks.
        """
        if timeout < 0:
            raise ValueError(f"timeout must not be negative, as {timeout} is")
        from filelock import FileLock, Timeout  # noqa: PLC0415 - a reader never pays for it

        # thread_local: a store opened in one thread may be closed in another. A lock that only
        # looks like one (filelock's fallback where flock is missing) would not die with its holder.
        lock = FileLock(
            self._path,
            thread_local=False,
            preserve_lock_file=True,
            fallback_to_soft=False,
            on_acquired=self._take_note,
            mode=-1 if self._mode is None else self._mode | 0o600,  # -1: the umask's
        )
        try:
            # filelock would make the folder: what is absent may be a disk that is not mounted.
            os.stat(os.path.dirname(self._path))
            lock.acquire(timeout=timeout, poll_interval=0.01)
        except Timeout:
            raise errors.locked(self._store, _read_note(self._path)) from None
        except OSError as error:
            errors.reraise_interrupt(error)
            raise errors.lock_refused(error, self._path, self._store) from error
        self._lock = lock

    def release(self, settled: str = "") -> None:
        """Let go of the lock; do nothing if it is not held.

        `settled` names what is on the medium in every copy, if it is: the next holder need not make
        sure of that again.
        """
        if self._lock is None or self.inherited:
            return  # a child of fork has no descriptor of its own: to let go would be the parent's
        if settled and self._fd is not None:
            with contextlib.suppress(OSError):
                _write_note(self._fd, settled=settled)
        self._lock.release()
        self._lock = self._fd = None

    def _take_note(self, fd: int) -> None:
        """Read what the last holder left, and write who holds the lock now."""
        self._fd, self._pid, self.settled = fd, os.getpid(), ""
        os.lseek(fd, 0, os.SEEK_SET)
        self.settled = parse_note(os.read(fd, _LIMIT)).get(_SETTLED, "")
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with contextlib.suppress(OSError):  # a note is a help: a full disk must not stop the store
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
    """Return who holds the lock, {} if it does not say."""
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
