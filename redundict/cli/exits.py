"""The one table of exit codes, for the command line and the scripts. Every help shows it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Self

from redundict import errors
from redundict.engine.slots import StoreState


class Exit(IntEnum):
    """The exit codes, the least bad first. Of several paths, the worst one counts."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member that equals its code."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "healthy, or done"
    DEGRADED = 1, "degraded: the newest generation loads, some redundancy is gone"
    ROLLED_BACK = 3, "the newest generation is lost, an older one loads"
    DIVERGED = 6, "diverged: the copies hold different states, nothing was overwritten"
    NO_STORE = 10, "there is no store"
    LOCKED = 11, "another writer has the store open"
    NEWER = 12, "written by a newer redundict"
    FAILED = 5, "the operation failed (I/O, permission, format, no such generation)"
    LOST = 4, "nothing loads"
    USAGE = 2, "wrong usage"
    INTERRUPTED = 130, "interrupted"


OF_STATE: Final = {
    StoreState.HEALTHY: Exit.OK,
    StoreState.DEGRADED: Exit.DEGRADED,
    StoreState.DIVERGED: Exit.DIVERGED,
    StoreState.ROLLED_BACK: Exit.ROLLED_BACK,
    StoreState.LOST: Exit.LOST,
}
_OF_ERROR: Final = {
    errors.LockedError: Exit.LOCKED,
    errors.NewerVersionError: Exit.NEWER,
    errors.DivergedError: Exit.DIVERGED,
    errors.LostError: Exit.LOST,
}
#: Reasons of a `NotFoundError` that concern something in a store, or a file that is not one.
_NOT_THE_STORE: Final = ("no-generation", "no-file")


def typed(error: Exception) -> errors.RedundictError:
    """Return the typed error for any error that ended a command."""
    if isinstance(error, errors.RedundictError):
        return error
    if isinstance(error, MemoryError):
        return errors.no_memory()
    return errors.stopped(error) if isinstance(error, OSError) else errors.internal(error)


def of_error(error: BaseException) -> Exit:
    """Return the exit code of an error that ended a command."""
    if isinstance(error, errors.NotFoundError) and error.reason not in _NOT_THE_STORE:
        return Exit.NO_STORE
    return next((code for kind, code in _OF_ERROR.items() if isinstance(error, kind)), Exit.FAILED)


def worst(codes: Iterable[Exit]) -> Exit:
    """Return the worst of some exit codes, by the order of the table; `OK` if there are none."""
    order = list(Exit)
    return max(codes, key=order.index, default=Exit.OK)


def as_help() -> str:
    """Return the table as the end of a help text."""
    return "exit codes:\n" + "\n".join(
        f"  {code.value:>3}  {code.meaning}" for code in sorted(Exit)
    )
