"""What can go wrong, as types: one base class, each error with the facts a person needs at night.

Every error says what happened and where (`path`, `slot`, `generation`, `reason`), what is `safe`,
and what to run next (`action`). Each also derives from the built-in exception that a caller without
knowledge of redundict would catch, and each survives pickling (a worker process may raise it).

Knows no files, no formats and no other module of the package.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What may be wrong with a slot: tokens for programs, which never change their meaning."""

    MISSING = "missing"
    EMPTY = "empty"  #: 0 bytes.
    NUL = "nul"  #: Nothing but NUL bytes at its end.
    NO_TRAILER = "no-trailer"  #: Cut short, or something follows the trailer.
    BAD_TRAILER = "bad-trailer"  #: A trailer that contradicts itself or the file.
    DIGEST = "digest-mismatch"  #: The content is not what was written.
    UNFINISHED = "unfinished"  #: Its last write was not completed.
    UNREADABLE = "unreadable"  #: The medium answered with an error.
    DENIED = "denied"  #: We may not look.
    NOT_A_FILE = "not-a-file"  #: A link, a directory or a device.
    BEHIND = "behind"  #: Holds another generation than the other copies do.
    DIVERGED = "diverged"  #: Differs from another slot of the same generation.


class RedundictError(Exception):
    """Base of all errors of this package.

    Attributes: `reason` (what happened), `path` (the store), `slot` (a slot's file name),
    `generation` (a number), `safe` (what is not lost), `action` (what to run next); each is None
    where it does not apply.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str | None = None,
        slot: str | None = None,
        generation: int | None = None,
        safe: str | None = None,
        action: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.slot = slot
        self.generation = generation
        self.safe = safe
        self.action = action
        for name, value in details.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        rest = [f"Safe: {self.safe}."] if self.safe else []
        rest += [f"Next: {self.action}"] if self.action else []
        return " ".join([f"{where}{self.reason}.", *rest])

    def __reduce__(self) -> tuple[Any, ...]:
        facts = dict(self.__dict__)
        # OSError keeps errno outside __dict__.
        number = getattr(self, "errno", None)
        if number is not None:
            facts["errno"] = number
        return _rebuild, (type(self), facts)


def _rebuild(kind: type[RedundictError], facts: dict[str, Any]) -> RedundictError:
    return kind(**facts)


class NotFoundError(RedundictError, FileNotFoundError):
    """No slot of any copy exists, and what was asked for needs one."""


class NoGenerationError(RedundictError, LookupError):
    """The store is there, and the generation that was asked for is not."""


class StorageError(RedundictError, OSError):
    """The operating system refused to read or write; `errno` says why."""

    def __init__(self, reason: str, *, errno: int | None = None, **facts: Any) -> None:
        super().__init__(reason, **facts)
        self.errno = errno


class AccessError(StorageError, PermissionError):
    """A slot may not be looked at, so it may hold what is newest: nothing is loaded past it."""


class CommitError(StorageError):
    """No copy of the new generation is durable; the generation before it is untouched.

    `failures` maps each copy's slot path to what the operating system said.
    """

    failures: dict[str, str]


class LockedError(RedundictError, TimeoutError):
    """Another writer has the store open: `pid`, `host` and `since` say who, if it left a note."""

    pid: int | None
    host: str | None
    since: str | None


class ConflictError(RedundictError, RuntimeError):
    """Somebody else committed to the store meanwhile; nothing was overwritten."""


class DivergedError(ConflictError):
    """Two copies hold different content under one generation number; nothing was overwritten."""


class LostError(RedundictError, ValueError):
    """Slots exist and none verifies; `slots` maps each slot's path to what is wrong with it."""

    slots: dict[str, str]


class NewerVersionError(RedundictError, ValueError):
    """A slot was written by a newer redundict; this one neither reads nor overwrites it."""


class FormatError(RedundictError, ValueError):
    """The payload is not in the format it was to be decoded with."""


class UnstorableError(FormatError, TypeError):
    """The format cannot give the state back as it is; `item` is the path of the offending item."""

    item: str


class ReadOnlyError(RedundictError, PermissionError):
    """The store was opened with flag 'r' and cannot be written."""


class ClosedError(RedundictError, ValueError):
    """The store is closed."""


class TransactionError(RedundictError, RuntimeError):
    """It cannot be done inside a transaction; or one inside this one failed, and so this one."""


class BusyError(RedundictError, RuntimeError):
    """The store is in the middle of a commit, in this very thread."""


class ForkedError(RedundictError, RuntimeError):
    """The store was opened by the parent process before a fork; only the parent may write it."""


class RedundancyWarning(UserWarning):
    """The newest state is safe, but not in as many copies as were asked for."""


def warn(message: str) -> None:
    """Issue a `RedundancyWarning` at the line outside this package that led here."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - as warnings itself finds the caller's frame
    while frame.f_back and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RedundancyWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module == __package__ or module.startswith(f"{__package__}.")


def why(error: Exception) -> str:
    """Return what went wrong, if the operating system said it, in its words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def typed(doing: str, **facts: Any) -> Iterator[None]:
    """Turn what the operating system refuses while `doing`, or a bad slot, into a typed error."""
    try:
        yield
    except RedundictError:
        raise
    except (OSError, ValueError) as error:
        raise refusal(error, doing, **facts) from error


def refusal(error: Exception, doing: str, **facts: Any) -> RedundictError:
    """Return the typed error for what the operating system refused while `doing`."""
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{doing}: {why(error)}", **facts)
    kind = AccessError if isinstance(error, PermissionError) else StorageError
    return kind(f"{doing}: {why(error)}", errno=getattr(error, "errno", None), **facts)
