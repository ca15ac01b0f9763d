"""All errors: their types, their attributes, and one named constructor for each sentence.

Every error names the event (`what` for people, `reason` as a token for programs), the place
(`path`, `slot`, `generation`), the data that is `safe`, and the next `action`. Each also derives
from the built-in exception that fits, so a caller that does not know redundict can catch it.

The code that detects a fault decides which error to raise. This module contains the wording. It
must not know files, formats or any other module of the package.

Invariants: a `reason` never changes its meaning. Every error can be pickled, so a worker process
can raise it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from errno import EACCES, EDQUOT, ENOMEM, ENOSPC, EPERM, EROFS
from types import CodeType, FrameType, TracebackType
from typing import Any, ClassVar, Final

UNTOUCHED: Final = "nothing was changed"
STANDS: Final = "the last generation that was committed stands"
NOT_EMPTY: Final = "nothing was changed, and the store is not taken for empty"


class Fault(StrEnum):
    """The faults of a slot, as tokens for programs. Their meaning never changes."""

    MISSING = "missing"
    AWAY = "away"  #: Its folder holds nothing of the store. Its disk may not be mounted.
    EMPTY = "empty"  #: 0 bytes.
    NUL = "nul"  #: It ends in NUL bytes only.
    NO_TRAILER = "no-trailer"  #: It was cut short, or something follows the trailer.
    BAD_TRAILER = "bad-trailer"  #: The trailer contradicts itself or the file.
    DIGEST = "digest-mismatch"  #: The content does not match the digest.
    UNFINISHED = "unfinished"  #: Its last write was not completed.
    UNREADABLE = "unreadable"  #: The medium answered with an error.
    DENIED = "denied"  #: The permissions do not allow a read.
    NOT_A_FILE = "not-a-file"  #: It is a link, a directory or a device.
    BEHIND = "behind"  #: It holds another generation than its index should.
    LINKED = "hard-link"  #: The file has a second name. A write to one would change both.
    DIVERGED = "diverged"  #: It holds something else than the newest generation grew from.


# --- the types


class RedundictError(Exception):
    """The base of all errors of this package.

    Each attribute except `what` and `reason` is None if it does not apply.

    Attributes:
        what: The event, as a sentence.
        reason: The event, as a token that never changes its meaning.
        path: The path of the store.
        slot: The file name of a slot.
        generation: The number of a generation.
        safe: The data that is not lost.
        action: The command to run, or the next thing to do.

    """

    REASON: ClassVar[str] = "failed"  #: The default of `reason`.
    SAFE: ClassVar[str | None] = None  #: The default of `safe`.
    ACTION: ClassVar[str | None] = None  #: The default of `action`.

    def __init__(
        self,
        what: str,
        *,
        reason: str | None = None,
        path: str | None = None,
        slot: str | None = None,
        generation: int | None = None,
        safe: str | None = None,
        action: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason or self.REASON
        self.path = path
        self.slot = slot
        self.generation = generation
        self.safe = safe or self.SAFE
        self.action = action or self.ACTION
        for name, value in details.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        rest = [f"Safe: {self.safe}."] if self.safe else []
        rest += [f"Next: {self.action}"] if self.action else []
        return " ".join([f"{where}{self.what}.", *rest])

    def __reduce__(self) -> tuple[Any, ...]:
        facts = dict(self.__dict__)
        # OSError keeps errno outside __dict__.
        number = getattr(self, "errno", None)
        if number is not None:
            facts["errno"] = number
        return _rebuild, (type(self), facts)


def _rebuild(kind: type[RedundictError], facts: dict[str, Any]) -> RedundictError:
    return kind(**facts)


class NotFoundError(RedundictError, FileNotFoundError, LookupError):
    """The store, or the generation that was asked for, does not exist."""

    REASON = "no-store"
    SAFE = UNTOUCHED


class StorageError(RedundictError, OSError):
    """The operating system refused to read or to write. `errno` holds its error number.

    With the reason ``copies``, it is not known in which folders the copies are.
    """

    REASON = "storage"
    SAFE = UNTOUCHED

    def __init__(self, what: str, *, errno: int | None = None, **facts: Any) -> None:
        super().__init__(what, **facts)
        self.errno = errno


class AccessError(StorageError, PermissionError):
    """The permissions do not allow a read of a slot that may hold the newest generation."""

    REASON = "denied"
    SAFE = NOT_EMPTY


class CommitError(StorageError):
    """No copy of the new generation is durable. The generation before it is untouched.

    Attributes:
        failures: The message of the system for each slot, by path.

    """

    REASON = "not-written"
    failures: dict[str, str]


class LockedError(RedundictError, TimeoutError):
    """Another writer has the store open.

    The attributes come from its note in the lock file. They are None if there is none.

    Attributes:
        pid: The number of its process.
        host: The name of its machine.
        since: The time at which it took the lock, in UTC.

    """

    REASON = "locked"
    SAFE = UNTOUCHED
    ACTION = (
        "close that program, wait for it with timeout= (--timeout), or open with flag 'r' to read"
    )
    pid: int | None
    host: str | None
    since: str | None


class ConflictError(RedundictError, RuntimeError):
    """Another writer has committed to the store. Nothing was overwritten."""

    REASON = "conflict"
    SAFE = "nothing was overwritten"
    ACTION = "reload() to take the other writer's state, and make the change again"


class DivergedError(ConflictError):
    """Two copies went on separately, so neither is only older. Nothing was overwritten.

    Attributes:
        copies: The newest number of each copy that went on, by its letter.

    """

    REASON = "diverged"
    SAFE = "both are as they were; nothing was overwritten"
    copies: Mapping[str, int]


class LostError(RedundictError, ValueError):
    """Slots exist, and none verifies. Nothing was overwritten.

    Attributes:
        slots: The fault of each slot in words, by path.

    """

    REASON = "lost"
    SAFE = "nothing was overwritten; every slot is as it was found"
    ACTION = (
        "restore a slot from a backup. Only to start anew: open it with flag 'n', which puts these "
        "slots aside"
    )
    slots: dict[str, str]


class PathError(RedundictError, ValueError):
    """No store can have this path."""

    REASON = "bad-path"
    SAFE = UNTOUCHED


class NewerVersionError(RedundictError, ValueError):
    """A newer version of redundict wrote a slot. This version neither reads nor overwrites it."""

    REASON = "newer-version"
    SAFE = UNTOUCHED
    ACTION = "pip install --upgrade redundict"


class FormatError(RedundictError, ValueError):
    """The payload has another format than the one that `format` names."""

    REASON = "format"
    SAFE = UNTOUCHED


class UnstorableError(FormatError, TypeError):
    """The format cannot store the state so that it loads unchanged.

    Attributes:
        item: The path of the value in the state, such as ``state['chat']['width']``.

    """

    REASON = "unstorable"
    item: str


class ReadOnlyError(RedundictError, PermissionError):
    """The store was opened with flag 'r' and cannot be written."""

    REASON = "read-only"
    SAFE = UNTOUCHED
    ACTION = "open it with flag 'w' to write"


class ClosedError(RedundictError, ValueError):
    """The store is closed."""

    REASON = "closed"
    ACTION = "open it again"


class TransactionError(RedundictError, RuntimeError):
    """The call is not possible in the present state of the store.

    `reason` names that state:

    - ``inside``: this thread is inside a transaction, which commits at its end.
    - ``failed-inside``: an inner transaction failed, so the outer one cannot commit.
    - ``other-task``: another task of this thread has a transaction.
    - ``busy``: the call interrupts a commit of the same thread.
    - ``forked``: this process is a fork of the process that opened the store.
    - ``held``: a thread holds the lock of the dict at exit.
    """

    REASON = "inside"
    SAFE = UNTOUCHED
    ACTION = "call it again later"


class RedundancyWarning(UserWarning):
    """The newest state is durable, but not in every copy."""


# --- the sentences: opening and reading


def no_store(path: str, *, what: str | None = None, action: str | None = None) -> NotFoundError:
    """Return the error for a path at which no slot exists."""
    look = "look at the path; a store is named without the .a0 of its slots, and the folders of "
    look += "its copies are given with --copies"
    return NotFoundError(what or "there is no store here", path=path, action=action or look)


def bad_path(path: str, why: str, action: str) -> PathError:
    """Return the error for a path that no store can have."""
    return PathError(f"no store can have the path {path!r}: {why}", action=action)


def symbolic_links(path: str, names: Sequence[str], real: str) -> StorageError:
    """Return the error for a store whose slots are symbolic links; `real` is where they lead."""
    what = f"{', '.join(names)}: a symbolic link. A writer does not follow links"
    action = f"open {real}, where the links lead, or open this path with flag 'r' to read"
    return StorageError(what, reason="symbolic-link", path=path, action=action)


def pickle_behind_link(path: str, slot: str, target: str) -> StorageError:
    """Return the error for a pickle that a symbolic link leads to."""
    what = f"{slot} is a symbolic link to {target}, and a pickle is not loaded through a link"
    action = "open the store at the path to which the link leads, if you trust its writer"
    return StorageError(what, reason="symbolic-link", path=path, slot=slot, action=action)


def newer_plain_file(path: str, command: str) -> str:
    """Return the warning for a plain file that is newer than the store at the same path."""
    what = f"{path}: there is a plain file that is newer than the store and holds something else. "
    what += "An older version of the program may have written it. It was not loaded. "
    return f"{what}To take its content: {command}"


def no_generation(path: str, what: str, generation: int, log: str) -> NotFoundError:
    """Return the error for a generation that no slot holds; `log` is the command to run."""
    facts: dict[str, Any] = {"path": path, "generation": generation, "action": log}
    return NotFoundError(what, reason="no-generation", **facts)


def no_folder(path: str, folder: str) -> NotFoundError:
    """Return the error for a missing folder of a copy. Its disk may not be mounted."""
    what = f"no copy has a slot, and the folder {folder} does not exist"
    action = f"mount or make {folder}, then try again"
    return NotFoundError(what, reason="no-folder", path=path, safe=NOT_EMPTY, action=action)


def gone(path: str, generation: int, copies: str) -> LostError:
    """Return the error for a store without any slot, whose lock note names a generation."""
    what = f"there is no slot, and yet the lock file names generation {generation}"
    where = f" in the copies {', '.join(copies)}" if copies else ""
    action = "mount the disk of its copies, name their folders with copies= (--copies), or restore "
    action += "a slot from a backup. Only to start anew: open it with flag 'n'"
    return LostError(
        f"{what}{where}", reason="gone", path=path, safe=NOT_EMPTY, action=action, slots={}
    )


def misses_noted(generation: int, copies: str) -> str:
    """Return the reason of a store whose lock note names a newer generation than any slot."""
    copy = "copy" if len(copies) == 1 else "copies"
    where = f", which {copy} {' and '.join(copies)} held" if copies else ""
    return f"names generation {generation}{where}, but no slot holds it"


def give_copies(folder: str) -> str:
    """Return the advice to name the folders of all copies."""
    call = f"copies=[{folder!r}, ...]"
    return f"open it with {call}, or repair it with --copies FOLDER for each copy"


def copies_unknown(path: str, doubt: str) -> StorageError:
    """Return the error for a store whose list of the copies does not count."""
    what, action = f"it is not known where the copies are: {doubt}", give_copies(_folder(path))
    return StorageError(what, reason="copies", path=path, safe=UNTOUCHED, action=action)


def copies_unlisted(path: str, repair: str) -> StorageError:
    """Return the error for a store of version 0.1 that lacks a copy, and nothing says where it is.

    Args:
        path: The path of the store.
        repair: The command that makes the copy again beside the path.

    """
    what = "a copy is absent, and no list says whether it lies in another folder"
    action = f"{give_copies(_folder(path))}. If all copies lie here: {repair}"
    return StorageError(what, reason="copies", path=path, safe=UNTOUCHED, action=action)


def copies_away(path: str, folders: str, lists: str) -> NotFoundError:
    """Return the error for a store of which no slot is found, while a copy is away."""
    what = f"no copy has a slot, and {folders} holds nothing of the store"
    action = f"mount its disk, then try again; to begin anew, remove {lists}"
    return NotFoundError(what, reason="no-folder", path=path, safe=NOT_EMPTY, action=action)


def not_listed(error: OSError, path: str, file: str) -> RedundictError:
    """Return the error for a list of the copies that cannot be written."""
    doing, action = f"{file} cannot be written", "look at the file and its folder, then try again"
    return refused(error, doing, path=path, action=action)


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def lost(path: str, reasons: Mapping[str, str]) -> LostError:
    """Return the error for a store in which no slot verifies; `reasons` are by slot path."""
    return LostError(f"no slot verifies ({_listed(reasons)})", path=path, slots=dict(reasons))


def newer_version(path: str) -> NewerVersionError:
    """Return the error for a slot that a newer version of redundict wrote."""
    name = os.path.basename(path)
    return NewerVersionError(f"{name} was written by a newer redundict", path=path, slot=name)


def denied(path: str, slot_path: str, why: str) -> AccessError:
    """Return the error for a slot that may hold the newest generation and may not be read."""
    name = os.path.basename(slot_path)
    action = f"make {slot_path} readable, then try again"
    return AccessError(f"{name} {why}", path=path, slot=name, action=action)


def exhausted(error: OSError, path: str) -> RedundictError:
    """Return the error for a process that has run out of descriptors or memory."""
    name = os.path.basename(path)
    action = "close files that this program holds open, then try again"
    return refused(error, f"{name} cannot be opened", path=path, slot=name, action=action)


def no_memory(path: str | None = None) -> StorageError:
    """Return the error for a file that does not fit into memory."""
    what, action = "there is not enough memory", "end other programs, then try again"
    return StorageError(what, reason="memory", errno=ENOMEM, path=path, action=action)


def unlisted(error: OSError, path: str, hidden: str, folder: str = "") -> RedundictError:
    """Return the error for a folder that cannot be listed. A file of kind `hidden` may be in it."""
    named = f" {folder}" if folder else ""
    doing = f"the folder{named} cannot be listed, so that a {hidden} may be overlooked"
    return refused(error, doing, path=path, action="make the folder readable, then try again")


def wrong_format(
    path: str, stored: str, wanted: str | None = None, *, own: bool = False, **facts: Any
) -> FormatError:
    """Return the error for a payload that has the format `stored` instead of `wanted`.

    Args:
        path: The path of the store.
        stored: The name of the format in the trailer.
        wanted: The name of the format that the caller named; None if it named none.
        own: True if it is a format of the application, so that its name alone does not find it.
        **facts: More arguments of the error.

    """
    instead = f", not as {wanted}" if wanted else ""
    facts.setdefault("safe", "nothing was changed, and nothing was decoded")
    how = f"the object that wrote {stored} as format=" if own else f"format={stored!r}"
    facts.setdefault("action", f"in Python, pass {how}, if you trust its writer")
    return FormatError(f"it is stored as {stored}{instead}", path=path, **facts)


MEND_PLAIN_FILE: Final = (
    "mend the file, pass its format as format=, or move the file away to start with an empty store"
)


def plain_file_refused(error: OSError, path: str) -> RedundictError:
    """Return the error for a plain file of the recipe that cannot be read."""
    doing, action = "the plain file there cannot be read", "make it readable, or move it away"
    return refused(error, doing, path=path, safe=NOT_EMPTY, action=action)


# --- the sentences: the lock and other writers


def locked(path: str, note: Mapping[str, str], *, is_here: bool = False) -> LockedError:
    """Return the error for a store that a writer has open.

    Args:
        path: The path of the store.
        note: The note in the lock file.
        is_here: True if the note names this process.

    """
    pid = int(note["pid"]) if note.get("pid", "").isdecimal() else None
    host, since = note.get("host"), note.get("since")
    holder = f"by process {pid} on {host} since {since}" if pid else "already"
    what = f"the store is open for writing {holder}"
    facts: dict[str, Any] = {"path": path, "pid": pid, "host": host, "since": since}
    if is_here:
        what = f"this very process (number {pid}) has the store open for writing since {since}"
        facts["action"] = "use the dict that has it open, or call close() on that first"
        facts["reason"] = "open-already"
    return LockedError(what, **facts)


def opened_twice(path: str) -> LockedError:
    """Return the error for a second call of `__init__` on an open store."""
    what = "this very object has the store open already"
    action = "call redundict.open() to make another object, once this one is closed"
    facts: dict[str, Any] = {"pid": os.getpid(), "host": None, "since": None}
    return LockedError(what, reason="open-already", path=path, action=action, **facts)


def lock_refused(error: OSError, lock_path: str, path: str) -> RedundictError:
    """Return the error for a lock file that cannot be created or locked."""
    action = "look at the folder's permissions and free space, or open with flag 'r'"
    return refused(error, f"the lock file {lock_path} cannot be taken", path=path, action=action)


def foreign_lock(lock_path: str, what: str, path: str) -> StorageError:
    """Return the error for a file at the name of the lock that is not one; `what` is its kind."""
    return StorageError(
        f"the lock file {lock_path} is {what}, and not the lock of this store",
        reason="foreign-lock",
        path=path,
        safe="nothing was changed; that file is as it was",
        action="move that file away, or give the store another name",
    )


def moved(path: str) -> StorageError:
    """Return the error for an open store whose folder is not the one that was opened."""
    what = "the folder of the store is not the one that was opened: it was renamed, replaced or "
    return StorageError(
        what + "mounted over",
        reason="moved",
        path=path,
        safe="nothing was written; the last commit is in the folder that was opened",
        action="bring that folder back and call sync() again, or open the store at its new path",
    )


def lock_kept(error: OSError, lock_path: str, path: str) -> RedundictError:
    """Return the error for a lock that cannot be released."""
    safe, action = "the last commit", "close it again, or end the program, which releases the lock"
    doing = f"the lock file {lock_path} cannot be unlocked"
    return StorageError(
        f"{doing}: {why(error)}", errno=error.errno, path=path, safe=safe, action=action
    )


def no_locks(error: OSError, lock_path: str, path: str) -> RedundictError:
    """Return the error for a file system on which no file can be locked."""
    what = f"the file system does not lock files, so {lock_path} keeps no second writer out"
    action = (
        "mount it with locks (NFS: lockd, Lustre: -o flock), put the store on a local disk, or "
    )
    action += "open with flag 'r' to read"
    return refused(error, what, reason="no-locks", path=path, action=action)


def conflict(path: str, slot: str, generation: int) -> ConflictError:
    """Return the error for a generation that another writer has committed."""
    what = f"{slot} holds generation {generation}, which this process has not seen: another writer "
    return ConflictError(what + "was here", path=path, slot=slot, generation=generation)


def overtaken(conflict: ConflictError) -> str:
    """Return the warning for a store that is closed unchanged after another writer's commit."""
    return f"{conflict.path}: {conflict.what}. This process had nothing to save."


def diverged(
    path: str, slot: str, sides: Mapping[str, tuple[int, datetime]], repair: str
) -> DivergedError:
    """Return the error for a store whose copies have parted.

    Args:
        path: The path of the store.
        slot: The name of the newest slot of a copy that is not the suggested one.
        sides: The newest generation of each copy that has parted, and the time at which it was
            written, by the letter of the copy. The copy with the newest generation comes first.
        repair: The command that prefers it.

    """
    listed = " and ".join(
        f"copy {letter} holds generation {number} of {written:%Y-%m-%d %H:%M:%S} UTC"
        for letter, (number, written) in sides.items()
    )
    what = f"the copies went on separately: {listed}. Compare them first. "
    return DivergedError(
        what + "The copy that you name with --prefer stands, the files of the others are put aside",
        path=path,
        slot=slot,
        generation=next(iter(sides.values()))[0],
        action=repair,
        copies={letter: number for letter, (number, _) in sides.items()},
    )


# --- the sentences: committing


def not_written(
    path: str, failures: Mapping[str, OSError], generation: int, stands: int
) -> CommitError:
    """Return the error for a commit that failed in every copy.

    Args:
        path: The path of the store.
        failures: The error of each slot, by path.
        generation: The number that the commit tried to write.
        stands: The number of the survivor; 0 if there is none.

    """
    reasons = {slot: why(error) for slot, error in failures.items()}
    return CommitError(
        f"no copy could be written ({_listed(reasons)})",
        errno=next(iter(failures.values())).errno,
        path=path,
        generation=generation,
        safe=f"generation {stands} stands" if stands else "nothing was there yet",
        action=f"{_remedy(failures)}, then try again",
        failures=reasons,
    )


def _remedy(failures: Mapping[str, OSError]) -> str:
    """Return what mends the errors of a commit: space, permissions or the disk."""
    numbers = {error.errno for error in failures.values()}
    if not numbers.isdisjoint((EACCES, EPERM, EROFS)):
        return "make the slots and their folder writable for this user"
    if not numbers.isdisjoint((ENOSPC, EDQUOT)):
        return "free space"
    return "look at the disk"


def not_in_every_copy(path: str, generation: int, failures: Mapping[str, OSError]) -> str:
    """Return the warning for a generation that is not durable in every copy."""
    listed = _listed({slot: why(error) for slot, error in failures.items()})
    what = f"{path}: generation {generation} is durable, but not in every copy ({listed})."
    return f"{what} The next sync() tries again. To mend it: {_remedy(failures)}."


def was_put_aside(slot: str, aside: str) -> str:
    """Return the log message for a slot that was put aside before a commit took its place."""
    what = f"{slot}: it did not verify, or the newest generation did not grow from it. It was put "
    return f"{what}aside as {aside}, and nothing reads it there."


def unflushed(folder: str, reason: str) -> str:
    """Return the log message for a folder whose names the file system cannot flush."""
    what = f"{folder}: its file system cannot flush a folder ({reason}). After a power cut, files "
    return f"{what}that were created shortly before may be missing."


def no_thread(path: str, error: Exception) -> RedundictError:
    """Return the error for automatic commits that have no thread."""
    what = f"autosync is not running, because no thread can be started ({error})"
    safe, action = (
        "every sync() works",
        "end other threads, then call sync_soon(), which starts it",
    )
    return RedundictError(what, reason="no-thread", path=path, safe=safe, action=action)


def numbers_used_up(path: str, generation: int) -> StorageError:
    """Return the error for a store that holds the greatest possible number."""
    what = f"the numbers are used up: a slot holds generation {generation}"
    return StorageError(what, path=path, action="copy the state into a new store")


def busy(path: str) -> TransactionError:
    """Return the error for a call that interrupts a commit of its own thread."""
    what = "it is in the middle of a commit, which a signal handler or a method of a value in it "
    action = "call it after the interrupted commit has returned"
    return TransactionError(what + "interrupted", reason="busy", path=path, action=action)


def forked(path: str) -> TransactionError:
    """Return the error for a fork of the process that opened the store."""
    what = "this process is a fork of the process that has the store open for writing"
    safe = "nothing was changed; the parent goes on"
    action = "open the store in this process, once the parent has closed it, or fork before it is "
    return TransactionError(what, reason="forked", path=path, safe=safe, action=action + "opened")


# --- the sentences: the dict


def read_only(path: str) -> ReadOnlyError:
    """Return the error for a change to a store that was opened with flag 'r'."""
    return ReadOnlyError("it was opened with flag 'r'", path=path)


def closed(path: str) -> ClosedError:
    """Return the error for a store that is used after `close`."""
    return ClosedError("the store is closed", path=path)


def inside_transaction(path: str) -> TransactionError:
    """Return the error for a commit inside a transaction."""
    what = "a transaction is going on in this thread, and commits at its end"
    safe, action = "nothing was committed", "call it after the transaction"
    return TransactionError(what, path=path, safe=safe, action=action)


def other_task(path: str) -> TransactionError:
    """Return the error for a task that begins a transaction while another task has one."""
    what = "another task of this thread has a transaction going on"
    action = "write `async with`, which waits for the end of the other transaction"
    return TransactionError(what, reason="other-task", path=path, action=action)


def begun_already(path: str) -> TransactionError:
    """Return the error for a transaction object that is entered again before its end."""
    what = "this transaction has begun already"
    action = "call state.transaction() for each `with` block"
    return TransactionError(what, path=path, action=action)


def failed_inside(path: str, generation: int) -> TransactionError:
    """Return the error for a transaction whose inner transaction failed."""
    what = "a transaction inside this one failed, so nothing of it is committed"
    safe = f"generation {generation} stands, and memory is as it was committed"
    action = "make the changes again"
    return TransactionError(what, reason="failed-inside", path=path, safe=safe, action=action)


def lock_held_at_exit(path: str) -> TransactionError:
    """Return the error for a store whose lock a thread holds at exit."""
    what = "it is not saved: a thread holds its lock, and may be changing it"
    safe, action = "the last commit stands", "end the thread before the program ends"
    return TransactionError(what, reason="held", path=path, safe=safe, action=action)


def copy_not_saved(path: str) -> TransactionError:
    """Return the error for a child of fork whose copy of a store holds changes."""
    what = "this process is a fork of the process that has the store open, so it cannot save the "
    what += "changes in its copy"
    safe = "the last commit; the parent process saves its own state"
    action = "make the changes in the parent process, or open the store in this one"
    return TransactionError(what, reason="forked", path=path, safe=safe, action=action)


def not_saved_at_exit(failures: Sequence[Exception]) -> RedundictError:
    """Return the error for stores that could not be saved when the program ended."""
    listed = "\n".join(f"- {error}" for error in failures)
    return RedundictError(f"not saved at exit:\n{listed}\n", reason="not-saved")


# --- errors of the operating system


def why(error: BaseException) -> str:
    """Return an error in words, if possible in those of the operating system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{os.path.basename(path)}: {reason}" for path, reason in reasons.items())


def refused(error: Exception, doing: str, **facts: Any) -> RedundictError:
    """Return the typed error for an error of the operating system.

    Args:
        error: The error of the operating system, or a `ValueError` of a bad slot.
        doing: The beginning of the sentence, such as "a0 cannot be read".
        **facts: More arguments of the typed error.

    """
    facts = {"safe": UNTOUCHED, **facts}
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{doing}: {why(error)}", reason="no-file", **facts)
    kind = AccessError if isinstance(error, PermissionError) else StorageError
    return kind(f"{doing}: {why(error)}", errno=getattr(error, "errno", None), **facts)


@contextmanager
def typed(doing: str, **facts: Any) -> Iterator[None]:
    """Turn an `OSError` or `ValueError` of the block into a typed error.

    Args:
        doing: The beginning of the sentence, such as "a0 cannot be read".
        **facts: More arguments of the typed error.

    Raises:
        RedundictError: In place of the error. An error that is typed already goes on.

    """
    try:
        yield
    except RedundictError:
        raise
    except (OSError, ValueError) as error:
        reraise_interrupt(error)
        raise refused(error, doing, **facts) from error


def detached(error: OSError) -> OSError:
    """Return an error without its traceback, to keep it in a variable.

    A traceback refers to the frames of all callers. A variable in one of them would be a cycle. It
    would keep a dropped store alive, and its lock held, until the garbage collector runs.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def reraise_interrupt(error: Exception) -> None:
    """Raise an error again if a signal handler raised it, so that it counts as no failure (law 15).

    The `TimeoutError` of a handler is an `OSError`, but no medium failed. The handler's frame in
    the traceback shows where the error came from. The traceback begins at the interrupted call.

    Args:
        error: An error that was caught.

    """
    foreign = _foreign_frames(error.__traceback__)
    if any(_has_frame_argument(frame) for frame in foreign) or (
        foreign and not _handlers().isdisjoint(frame.f_code for frame in foreign)
    ):
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame; see `detached`


def _foreign_frames(trace: TracebackType | None) -> list[FrameType]:
    """Return the frames in a traceback that are outside this package."""
    found = []
    while trace is not None:
        if not _is_ours(trace.tb_frame.f_globals.get("__name__", "")):
            found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


def _has_frame_argument(frame: FrameType) -> bool:
    """Return True if a function got a number and a frame. Python calls signal handlers so."""
    code, variables = frame.f_code, frame.f_locals
    values = [variables.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & inspect.CO_VARARGS:
        rest = variables.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount])
        values += rest if type(rest) is tuple else ()
    pairs = itertools.pairwise(map(type, values))  # `isinstance` would ask the value
    return any(issubclass(number, int) and frame is FrameType for number, frame in pairs)


def _handlers() -> set[CodeType]:
    """Return the code of each signal handler that is written in Python."""
    found = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        method = getattr(handler, "__func__", handler)
        if callable(handler) and not hasattr(method, "__code__"):
            method = type(handler).__call__
        if hasattr(method, "__code__"):
            found.add(method.__code__)
    return found


def warn(message: str, kind: type[Warning] = RedundancyWarning) -> None:
    """Issue a warning that points to the caller's line outside this package."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - `warnings` finds the caller's frame in this way
    while frame.f_back and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module == __package__ or module.startswith(f"{__package__}.")


# --- the sentences: the command line


def file_of_a_store(path: str, check: str) -> NotFoundError:
    """Return the error for the path of a slot or a lock; `check` is the command for its store."""
    return no_store(path, what="this is a file of a store, and not its name", action=check)


def plain_file(path: str, import_it: str) -> NotFoundError:
    """Return the error for a path at which only a plain file lies; `import_it` is a command."""
    return no_store(path, what="there is a plain file here, and no store yet", action=import_it)


def unreadable(error: Exception, path: str) -> StorageError:
    """Return the error for a file that cannot be read; a missing file is not a missing store."""
    what, action = f"it cannot be read: {why(error)}", "look at the path and at its permissions"
    return StorageError(what, errno=getattr(error, "errno", None), path=path, action=action)


def stopped(error: OSError) -> RedundictError:
    """Return the error for a command that the operating system stopped."""
    where = f" at {error.filename}" if error.filename else ""
    action = "look at the disk of the output and at the folder of the store, then try again"
    return refused(error, f"the command could not go on{where}", safe=STANDS, action=action)


def internal(error: Exception) -> RedundictError:
    """Return the error for a fault of redundict, of which a traceback was printed."""
    what = f"this is a fault of redundict: {type(error).__name__}: {error}"
    action = "report it, with the traceback above, to the authors of redundict"
    return RedundictError(what, reason="internal", safe=STANDS, action=action)


def extra_missing(command: str, module: str, install: str) -> RedundictError:
    """Return the error for a command that needs a module; `install` is the command to get it."""
    what = f"{command} needs the module {module}"
    return RedundictError(what, reason="extra-missing", safe=UNTOUCHED, action=install)


_NO_EXPORT: Final = {
    "no-folder": ("is in no folder that exists", "name another file, or make the folder"),
    "own-file": ("belongs to the store itself", "name another file"),
    "not-a-file": ("is there already, and is no plain file", "name another file"),
    "exists": ("is there already", "name another file, or add --force"),
}


def export_refused(path: str, file: str, reason: str) -> StorageError:
    """Return the error for a file to which no payload may be exported."""
    why, action = _NO_EXPORT[reason]
    safe = "nothing was written"
    return StorageError(f"{file} {why}", reason=reason, path=path, safe=safe, action=action)


def export_failed(error: Exception, path: str, file: str) -> RedundictError:
    """Return the error for a file to which a payload could not be exported."""
    safe, action = "the file is as it was", "look at the folder's permissions and free space"
    return refused(error, f"{file} cannot be written", path=path, safe=safe, action=action)


def generation_gone(path: str, generation: int) -> NotFoundError:
    """Return the error for a generation that was overwritten since it was listed."""
    what = f"generation {generation} is no longer there"
    return no_generation(path, what, generation, "press c to check again")


# --- the sentences: importing

MEND_OR_NAME: Final = "mend the file, or name what it is with --kind, or with another --kind"


def not_importable(file: str, what: str) -> FormatError:
    """Return the error for a file that does not have the assumed kind."""
    return FormatError(what, path=file, action=MEND_OR_NAME)


def imported_as(path: str, stored: str, wanted: str) -> FormatError:
    """Return the error for an import into a store that has another format."""
    action = f"add --format {stored}, or import into another store"
    return wrong_format(path, stored, wanted, safe=UNTOUCHED, action=action)


def pickle_refused(file: str, kind: str) -> FormatError:
    """Return the error for a file that holds pickles, which the user did not allow."""
    what = f"{kind} holds pickles, and loading a pickle runs the code in it"
    safe, action = "nothing was loaded", "add --allow-pickle, if you trust its writer"
    return FormatError(what, reason="pickle", path=file, safe=safe, action=action)


def not_text(file: str, item: str) -> FormatError:
    """Return the error for an item of a dbm that is not text."""
    what = f"{item} is not text. A shelf has pickles as its values"
    action = "if it is a shelf, add --allow-pickle"
    return FormatError(what, path=file, safe="nothing was loaded", action=action)


def table_unclear(file: str, wanted: str | None, tables: list[str]) -> FormatError:
    """Return the error for a database that does not have exactly one table to import."""
    what = f"it has no table {wanted!r}" if wanted else "it has not exactly one table"
    what = f"{what}; its tables are {tables}"
    return FormatError(what, reason="table", path=file, action="name a table with --table")


def written_meanwhile(file: str) -> StorageError:
    """Return the error for a database that changed each time it was copied."""
    what, action = "it is being written to", "stop the program that has it open, then try again"
    return StorageError(what, reason="written-meanwhile", path=file, action=action)
