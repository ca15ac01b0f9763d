"""A dict whose every sync is durable, checksummed, kept in two copies, and can be rolled back.

>>> import redundict, tempfile, os
>>> path = os.path.join(tempfile.mkdtemp(), "state.json")
>>> with redundict.open(path) as state:
...     state["chat"] = {"width": 640, "height": 480}
...     state.sync()
1
>>> redundict.load(path)
{'chat': {'width': 640, 'height': 480}}
>>> redundict.check(path).state
<StoreState.HEALTHY: 'healthy'>
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing costs more to import than all the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from .decoding import load
    from .errors import (
        AccessError,
        BusyError,
        ClosedError,
        CommitError,
        ConflictError,
        DivergedError,
        Fault,
        ForkedError,
        FormatError,
        LockedError,
        LostError,
        NewerVersionError,
        NoGenerationError,
        NotFoundError,
        ReadOnlyError,
        RedundancyWarning,
        RedundictError,
        StorageError,
        TransactionError,
        UnstorableError,
    )
    from .events import Event, EventKind
    from .integrity import Recovery, Report, check
    from .mapping import RedunDict
    from .permadict import PermaDict
    from .recovery import Repaired, repair, rollback
    from .slots import Flaw, Generation, Slot, SlotState, StoreState

    open = RedunDict  #: As in dbm and shelve: ``redundict.open(path, flag)``.

__version__ = "0.1.0"

#: From the ground up. A module is imported with the first name that is used of it or above it.
_MODULES = (
    "errors",
    "slots",
    "integrity",
    "events",
    "recovery",
    "decoding",
    "mapping",
    "permadict",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            home = vars(importlib.import_module(f".{module}", __name__))
            if name in home:
                globals()[name] = home[name]
                return home[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AccessError",
    "BusyError",
    "ClosedError",
    "CommitError",
    "ConflictError",
    "DivergedError",
    "Event",
    "EventKind",
    "Fault",
    "Flaw",
    "ForkedError",
    "FormatError",
    "Generation",
    "LockedError",
    "LostError",
    "NewerVersionError",
    "NoGenerationError",
    "NotFoundError",
    "PermaDict",
    "ReadOnlyError",
    "Recovery",
    "RedunDict",
    "RedundancyWarning",
    "RedundictError",
    "Repaired",
    "Report",
    "Slot",
    "SlotState",
    "StorageError",
    "StoreState",
    "TransactionError",
    "UnstorableError",
    "check",
    "load",
    "open",
    "repair",
    "rollback",
]
