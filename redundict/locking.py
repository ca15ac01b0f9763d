"""One writer at a time: the one module that knows filelock.

The lock is the kernel's own on `NAME.lock` (flock, LockFileEx), so a process that dies lets go of
it; the file stays. Its holder writes who it is into it, for `LockedError`. filelock is imported
with the first lock that is taken: readers never need it. Knows no slots and no generations.
"""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from . import errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PATIENCE: Final = (0.0, 0.01, 0.05)  #: Seconds: a new holder may not have written its name yet.
_NAMES: Final = ("pid", "host", "since")


def encode_holder(pid: int, host: str, since: datetime) -> bytes:
    """Return what a holder writes into the lock file.

    The first byte is the one that Windows locks against reading, so it says nothing.
    """
    values = (pid, host, since.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return b"\n" + "".join(f"{k}={v}\n" for k, v in zip(_NAMES, values, strict=True)).encode()


def parse_holder(text: bytes) -> dict[str, str]:
    """Return the fields of a holder's note, as far as there are any.

    >>> parse_holder(encode_holder(7, "box", datetime(2026, 1, 2, tzinfo=UTC)))
    {'pid': '7', 'host': 'box', 'since': '2026-01-02T00:00:00Z'}
    >>> parse_holder(b"who knows")
    {}
    """
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    found = {name: value for name, _, value in lines if name in _NAMES and value}
    return found if found.get("pid", "").isdecimal() else {}


class WriterLock:
    """The lock of one store, free until `acquire`."""

    def __init__(self, path: str, store: str, mode: int | None = None) -> None:
        self._path = path
        self._store = store
        self._mode = mode
        self._lock: BaseFileLock | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock, waiting `timeout` seconds at most.

        Raises `LockedError` if another writer has it, `StorageError` if the lock file cannot be
        made or the file system has no locks.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - a reader never pays for it

        # thread_local: a store opened in one thread may be closed in another. A lock that only
        # looks like one (filelock's fallback where flock is missing) would not die with its holder.
        lock = FileLock(
            self._path,
            thread_local=False,
            preserve_lock_file=True,
            fallback_to_soft=False,
            on_acquired=_write_note,
            mode=-1 if self._mode is None else self._mode | 0o600,  # -1: the umask's
        )
        try:
            lock.acquire(timeout=timeout, poll_interval=0.01)
        except Timeout:
            raise self._locked() from None
        except OSError as error:
            raise errors.refusal(
                error,
                f"the lock file {self._path} cannot be taken",
                path=self._store,
                safe="nothing was changed",
                action="look at the folder's permissions and free space, or open with flag 'r'",
            ) from error
        self._lock = lock

    def release(self) -> None:
        """Let go of the lock; do nothing if it is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _locked(self) -> errors.LockedError:
        holder = _read_note(self._path)
        pid = int(holder["pid"]) if holder else None
        who = (
            f"by process {pid} on {holder['host']} since {holder['since']}" if holder else "already"
        )
        return errors.LockedError(
            f"the store is open for writing {who}",
            path=self._store,
            safe="nothing was changed",
            action="close that program, wait for it with timeout=, or open with flag 'r' to read",
            pid=pid,
            host=holder.get("host"),
            since=holder.get("since"),
        )


def _write_note(fd: int) -> None:
    note = encode_holder(os.getpid(), socket.gethostname(), datetime.now(UTC))
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
                holder = parse_holder(file.read(4096))
        except OSError:
            continue
        if len(holder) == len(_NAMES):
            return holder
    return {}
