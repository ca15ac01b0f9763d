"""All errors: their types, their attributes, and one named constructor for each sentence.

Every error says what happened (`what`, and `reason` as a stable token for programs), where (`path`,
`slot`, `generation`), what is `safe`, and what to run next (`action`). Each also derives from the
built-in exception that a caller without knowledge of redundict would catch. Each can be pickled, so
a worker process may raise it.

The code that detects a fault decides; the wording is here. This module knows no files, no formats
and no other module of the package.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import CodeType, TracebackType
from typing import Any, ClassVar, Final

UNTOUCHED: Final = "nothing was changed"
NOT_EMPTY: Final = "nothing was changed, and the store is not taken for empty"


class Fault(StrEnum):
    """What can be wrong with a slot: tokens for programs. Their meaning never changes."""

    MISSING = "missing"
    EMPTY = "empty"  #: 0 bytes.
    NUL = "nul"  #: Nothing but NUL bytes at its end.
    NO_TRAILER = "no-trailer"  #: Cut short, or something follows the trailer.
    BAD_TRAILER = "bad-trailer"  #: A trailer that contradicts itself or the file.
    DIGEST = "digest-mismatch"  #: The content is not the content that was written.
    UNFINISHED = "unfinished"  #: Its last write was not completed.
    UNREADABLE = "unreadable"  #: The medium answered with an error.
    DENIED = "denied"  #: The permissions do not allow a look.
    NOT_A_FILE = "not-a-file"  #: A link, a directory or a device.
    BEHIND = "behind"  #: Holds another generation than the other copies do.
    DIVERGED = "diverged"  #: Differs from another slot of the same generation.


# --- the types


class RedundictError(Exception):
    """Base of all errors of this package.

    Each attribute but `what` and `reason` is None where it does not apply.

    Attributes:
        what: What happened, in words.
        reason: The same as a token that never changes its meaning.
        path: The store.
        slot: A slot's file name.
        generation: A generation's number.
        safe: What is not lost.
        action: What to run or to do next.

    """

    REASON: ClassVar[str] = "failed"  #: The token of an error that is made without one.
    SAFE: ClassVar[str | None] = None  #: What is safe, if the error does not say it.
    ACTION: ClassVar[str | None] = None  #: What to do next, if the error does not say it.

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
    """The operating system refused to read or to write; `errno` says why."""

    REASON = "storage"
    SAFE = UNTOUCHED

    def __init__(self, what: str, *, errno: int | None = None, **facts: Any) -> None:
        super().__init__(what, **facts)
        self.errno = errno


class AccessError(StorageError, PermissionError):
    """The permissions do not allow a look at a slot that may hold the newest generation."""

    REASON = "denied"
    SAFE = NOT_EMPTY


class CommitError(StorageError):
    """No copy of the new generation is durable; the generation before it is untouched.

    `failures` maps the path of each copy's slot to the system's message.
    """

    REASON = "not-written"
    failures: dict[str, str]


class LockedError(RedundictError, TimeoutError):
    """A writer has the store open. `pid`, `host` and `since` name it, if it left a note."""

    REASON = "locked"
    SAFE = UNTOUCHED
    ACTION = "close that program, wait for it with timeout=, or open with flag 'r' to read"
    pid: int | None
    host: str | None
    since: str | None


class ConflictError(RedundictError, RuntimeError):
    """Another writer has committed to the store; nothing was overwritten."""

    REASON = "conflict"
    SAFE = "nothing was overwritten"
    ACTION = "reload() to take the other writer's state, and make the change again"


class DivergedError(ConflictError):
    """Two copies hold different content under one generation number; nothing was overwritten."""

    REASON = "diverged"
    SAFE = "both are as they were; nothing was overwritten"


class LostError(RedundictError, ValueError):
    """Slots exist and none verifies; `slots` maps each slot's path to its fault in words."""

    REASON = "lost"
    SAFE = "nothing was overwritten; every slot is as it was found"
    ACTION = (
        "restore a slot from a backup. Only to start anew: open it with flag 'n', which puts these "
        "slots aside"
    )
    slots: dict[str, str]


class NewerVersionError(RedundictError, ValueError):
    """A newer redundict wrote a slot; this version neither reads nor overwrites it."""

    REASON = "newer-version"
    SAFE = UNTOUCHED
    ACTION = "pip install --upgrade redundict"


class FormatError(RedundictError, ValueError):
    """The payload is not in the format that was asked for."""

    REASON = "format"
    SAFE = UNTOUCHED


class UnstorableError(FormatError, TypeError):
    """The format cannot give the state back as it is; `item` is the path of the offending item."""

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
    """The call cannot be made at this moment: the store is in the middle of something.

    `reason` says in the middle of what: ``inside`` a transaction, ``failed-inside`` one of which a
    part failed, ``other-task`` has a transaction, ``busy`` with a commit in this very thread, or
    ``forked`` from the process that opened the store.
    """

    REASON = "inside"
    SAFE = UNTOUCHED
    ACTION = "call it again later"


class RedundancyWarning(UserWarning):
    """The newest state is safe, but not in as many copies as were asked for."""


# --- the sentences: opening and reading


def no_store(path: str, *, what: str | None = None, action: str | None = None) -> NotFoundError:
    """Return the error for a path at which no slot exists."""
    look = "look at the path; a store is named without the .a0 of its slots, and the folders of "
    look += "its copies are given with --copies"
    return NotFoundError(what or "there is no store here", path=path, action=action or look)


def no_generation(path: str, what: str, generation: int, log: str) -> NotFoundError:
    """Return the error for a generation that does not exist; `log` is the command to run."""
    facts: dict[str, Any] = {"path": path, "generation": generation, "action": log}
    return NotFoundError(what, reason="no-generation", **facts)


def no_folder(path: str, folder: str) -> NotFoundError:
    """Return the error for a copy's folder that is absent: its disk may not be mounted."""
    what = f"no copy has a slot, and the folder {folder} does not exist"
    action = f"mount or make {folder}, then try again"
    return NotFoundError(what, reason="no-folder", path=path, safe=NOT_EMPTY, action=action)


def lost(path: str, reasons: Mapping[str, str]) -> LostError:
    """Return the error for a store in which no slot verifies; `reasons` are by slot path."""
    return LostError(f"no slot verifies ({_listed(reasons)})", path=path, slots=dict(reasons))


def newer_version(path: str) -> NewerVersionError:
    """Return the error for a slot that a newer redundict wrote."""
    name = os.path.basename(path)
    return NewerVersionError(f"{name} was written by a newer redundict", path=path, slot=name)


def denied(path: str, slot_path: str, why: str) -> AccessError:
    """Return the error for a slot that may hold the newest generation and cannot be looked at."""
    name = os.path.basename(slot_path)
    action = f"make {slot_path} readable, then try again"
    return AccessError(f"{name} {why}", path=path, slot=name, action=action)


def exhausted(error: OSError, path: str) -> RedundictError:
    """Return the error for a process that has no descriptor or memory left to open a slot."""
    name = os.path.basename(path)
    action = "close files that this program holds open, then try again"
    return refused(error, f"{name} cannot be opened", path=path, slot=name, action=action)


def unlisted(error: OSError, path: str, hidden: str) -> RedundictError:
    """Return the error for a folder that cannot be listed; `hidden` may be in it."""
    doing = f"the folder cannot be listed, so that a {hidden} may be overlooked"
    return refused(error, doing, path=path, action="make the folder readable, then try again")


def wrong_format(path: str, stored: str, wanted: str | None = None, **facts: Any) -> FormatError:
    """Return the error for a payload of another format than the one that was asked for."""
    instead = f", not as {wanted}" if wanted else ""
    facts.setdefault("safe", "nothing was changed, and nothing was decoded")
    facts.setdefault("action", f"pass format={stored!r}, if you trust its writer")
    return FormatError(f"it is stored as {stored}{instead}", path=path, **facts)


def plain_file_refused(error: OSError, path: str) -> RedundictError:
    """Return the error for the recipe's plain file, if it cannot be read."""
    doing, action = "the plain file there cannot be read", "make it readable, or move it away"
    return refused(error, doing, path=path, safe=NOT_EMPTY, action=action)


# --- the sentences: the lock and other writers


def locked(path: str, note: Mapping[str, str]) -> LockedError:
    """Return the error for a store that a writer has open; `note` is what the lock file says."""
    pid = int(note["pid"]) if note.get("pid", "").isdecimal() else None
    host, since = note.get("host"), note.get("since")
    holder = f"by process {pid} on {host} since {since}" if pid else "already"
    what = f"the store is open for writing {holder}"
    return LockedError(what, path=path, pid=pid, host=host, since=since)


def opened_twice(path: str) -> LockedError:
    """Return the error for an open store of which `__init__` is called again."""
    what = "this very object has the store open already"
    action = "call redundict.open() to make another object, once this one is closed"
    facts: dict[str, Any] = {"pid": os.getpid(), "host": None, "since": None}
    return LockedError(what, reason="open-already", path=path, action=action, **facts)


def lock_refused(error: OSError, lock_path: str, path: str) -> RedundictError:
    """Return the error for a lock file that cannot be made or locked."""
    action = "look at the folder's permissions and free space, or open with flag 'r'"
    return refused(error, f"the lock file {lock_path} cannot be taken", path=path, action=action)


def conflict(path: str, slot: str, generation: int) -> ConflictError:
    """Return the error for a generation that this process has not seen."""
    what = f"{slot} holds generation {generation}, which this process has not seen: another writer "
    return ConflictError(what + "was here", path=path, slot=slot, generation=generation)


def diverged(path: str, one: str, other: str, generation: int, repair: str) -> DivergedError:
    """Return the error for two slots with one number and different content."""
    what = f"{one} and {other} hold different content as generation {generation}; the copy that is "
    what += "not preferred will be put aside"
    return DivergedError(what, path=path, slot=other, generation=generation, action=repair)


# --- the sentences: committing


def not_written(
    path: str, failures: Mapping[str, OSError], generation: int, stands: int
) -> CommitError:
    """Return the error for a generation that is durable in no copy; `stands` is the survivor."""
    reasons = {slot: why(error) for slot, error in failures.items()}
    return CommitError(
        f"no copy could be written ({_listed(reasons)})",
        errno=next(iter(failures.values())).errno,
        path=path,
        generation=generation,
        safe=f"generation {stands} stands" if stands else "nothing was there yet",
        action="free space or mend the disk, then sync() again",
        failures=reasons,
    )


def not_in_every_copy(path: str, generation: int, failures: Mapping[str, OSError]) -> str:
    """Return the warning for a generation that is durable, but not in every copy."""
    listed = _listed({slot: why(error) for slot, error in failures.items()})
    what = f"{path}: generation {generation} is durable, but not in every copy ({listed})."
    return f"{what} The next sync() tries again."


def numbers_used_up(path: str, generation: int) -> StorageError:
    """Return the error for a store that has no greater number to give."""
    what = f"the numbers are used up: a slot holds generation {generation}"
    return StorageError(what, path=path, action="copy the state into a new store")


def busy(path: str) -> TransactionError:
    """Return the error for a call that interrupts a commit in its own thread."""
    what = "it is in the middle of a commit, which a signal handler or a method of a value in it "
    action = "call it after the interrupted commit has returned"
    return TransactionError(what + "interrupted", reason="busy", path=path, action=action)


def forked(path: str) -> TransactionError:
    """Return the error for a child of the process that opened the store."""
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
    """Return the error for a commit in the middle of a transaction."""
    what = "a transaction is going on in this thread, and commits at its end"
    safe, action = "nothing was committed", "call it after the transaction"
    return TransactionError(what, path=path, safe=safe, action=action)


def other_task(path: str) -> TransactionError:
    """Return the error for a task that begins a transaction while another task has one."""
    what = "another task of this thread has a transaction going on"
    action = "write `async with`, which waits for the end of the other transaction"
    return TransactionError(what, reason="other-task", path=path, action=action)


def failed_inside(path: str, generation: int) -> TransactionError:
    """Return the error for a transaction of which a part failed."""
    what = "a transaction inside this one failed, so nothing of it is committed"
    safe = f"generation {generation} stands, and memory is as it was committed"
    action = "make the changes again"
    return TransactionError(what, reason="failed-inside", path=path, safe=safe, action=action)


def lock_held_at_exit(path: str) -> TransactionError:
    """Return the error for a store that a thread holds while the interpreter exits."""
    what = "it is not saved: a thread holds its lock, and may be changing it"
    safe, action = "the last commit stands", "end the thread before the program ends"
    return TransactionError(what, reason="held", path=path, safe=safe, action=action)


# --- turning what the system says into an error


def why(error: BaseException) -> str:
    """Return what went wrong; in the words of the operating system if it said it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{os.path.basename(path)}: {reason}" for path, reason in reasons.items())


def refused(error: Exception, doing: str, **facts: Any) -> RedundictError:
    """Return the typed error for what the operating system refused while `doing`."""
    facts = {"safe": UNTOUCHED, **facts}
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{doing}: {why(error)}", reason="no-file", **facts)
    kind = AccessError if isinstance(error, PermissionError) else StorageError
    return kind(f"{doing}: {why(error)}", errno=getattr(error, "errno", None), **facts)


@contextmanager
def typed(doing: str, **facts: Any) -> Iterator[None]:
    """Turn what the operating system refuses while `doing`, or a bad slot, into a typed error."""
    try:
        yield
    except RedundictError:
        raise
    except (OSError, ValueError) as error:
        reraise_interrupt(error)
        raise refused(error, doing, **facts) from error


def reraise_interrupt(error: Exception) -> None:
    """Raise `error` again if a signal handler raised it: then no medium failed (law 15).

    A handler's `TimeoutError` is an `OSError`, too. It is recognised by the handler's frame in the
    traceback, which begins at the call that was interrupted.
    """
    foreign = _foreign_codes(error.__traceback__)
    if foreign and not foreign.isdisjoint(_handlers()):
        raise error


def _foreign_codes(trace: TracebackType | None) -> set[CodeType]:
    """Return the code of each frame in a traceback that is not of this package."""
    found = set()
    while trace is not None:
        if not _is_ours(trace.tb_frame.f_globals.get("__name__", "")):
            found.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    return found


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
    """Issue a warning at the line outside this package that led here."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - as warnings itself finds the caller's frame
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

NAME_THE_KIND: Final = "name what it is with --kind"


def not_importable(file: str, what: str) -> FormatError:
    """Return the error for a file that is not what it was taken for."""
    return FormatError(what, path=file, action=NAME_THE_KIND)


def imported_as(path: str, stored: str, wanted: str) -> FormatError:
    """Return the error for a store of another format than the one to import into it."""
    action = f"add --format {stored}, or import into another store"
    return wrong_format(path, stored, wanted, safe=UNTOUCHED, action=action)


def pickle_refused(file: str, kind: str) -> FormatError:
    """Return the error for a file that is known to hold pickles, which were not allowed."""
    what = f"{kind} holds pickles, and loading a pickle runs the code in it"
    safe, action = "nothing was loaded", "add --allow-pickle, if you trust its writer"
    return FormatError(what, reason="pickle", path=file, safe=safe, action=action)


def not_text(file: str, item: str) -> FormatError:
    """Return the error for an item of a dbm that is not text."""
    what = f"{item} is not text. A shelf has pickles as its values"
    action = "if it is a shelf, add --allow-pickle"
    return FormatError(what, path=file, safe="nothing was loaded", action=action)


def table_unclear(file: str, wanted: str | None, tables: list[str]) -> FormatError:
    """Return the error for a database in which the table to import is not clear."""
    what = f"it has no table {wanted!r}" if wanted else "it has not exactly one table"
    what = f"{what}; its tables are {tables}"
    return FormatError(what, reason="table", path=file, action="name a table with --table")


def written_meanwhile(file: str) -> StorageError:
    """Return the error for a database that changed each time it was copied."""
    what, action = "it is being written to", "stop the program that has it open, then try again"
    return StorageError(what, reason="written-meanwhile", path=file, action=action)
