"""The one table of exit codes, of the command line and of the scripts; every help shows it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Self

from redundict import errors
from redundict.engine.slots import StoreState


class Exit(IntEnum):
    """The exit codes, the least bad first: of several paths, the worst one counts."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member that is its code."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "healthy, or done"
    DEGRADED = 1, "degraded: the newest generation loads, some redundancy is gone"
    ROLLED_BACK = 3, "the newest generation is lost, an older one loads"
    NO_STORE = 10, "there is no store"
    LOCKED = 11, "another writer has the store open"
    NEWER = 12, "written by a newer redundict"
    FAILED = 5, "the operation failed (I/O, permission, format)"
    LOST = 4, "nothing loads"
    USAGE = 2, "wrong usage"
    INTERRUPTED = 130, "interrupted"


OF_STATE: Final = {
    StoreState.HEALTHY: Exit.OK,
    StoreState.DEGRADED: Exit.DEGRADED,
    StoreState.ROLLED_BACK: Exit.ROLLED_BACK,
    StoreState.LOST: Exit.LOST,
}
#: The first class that an error is an instance of.
OF_ERROR: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (errors.NotFoundError, Exit.NO_STORE),
    (errors.LockedError, Exit.LOCKED),
    (errors.NewerVersionError, Exit.NEWER),
    (errors.LostError, Exit.LOST),
    (errors.RedundictError, Exit.FAILED),
    (OSError, Exit.FAILED),
    (ValueError, Exit.USAGE),  # an argument that the library refuses
)
ERRORS: Final = tuple(kind for kind, _ in OF_ERROR)


def of_error(error: BaseException) -> Exit:
    """Return the exit code of one of `ERRORS`."""
    return next(code for kind, code in OF_ERROR if isinstance(error, kind))


def worst(codes: Iterable[Exit]) -> Exit:
    """Return the worst of some exit codes, by the order of the table; `OK` if there are none."""
    order = list(Exit)
    return max(codes, key=order.index, default=Exit.OK)


def as_help() -> str:
    """Return the table as the end of a help text."""
    return "exit codes:\n" + "\n".join(
        f"  {code.value:>3}  {code.meaning}" for code in sorted(Exit)
    )
