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

from .engine.slots import Flaw, Generation, Slot, SlotState, StoreState
from .errors import (
    AccessError,
    ClosedError,
    CommitError,
    ConflictError,
    DivergedError,
    Fault,
    FormatError,
    LockedError,
    LostError,
    NewerVersionError,
    NotFoundError,
    PathError,
    ReadOnlyError,
    RedundancyWarning,
    RedundictError,
    StorageError,
    TransactionError,
    UnstorableError,
)
from .events import Event, EventKind
from .loading import load
from .mapping import RedunDict, open  # noqa: A004 - as in dbm and shelve
from .permadict import PermaDict
from .recovery import Repaired, repair, rollback
from .report import Recovery, Report, check

__version__ = "0.2.0"

__all__ = [
    "AccessError",
    "ClosedError",
    "CommitError",
    "ConflictError",
    "DivergedError",
    "Event",
    "EventKind",
    "Fault",
    "Flaw",
    "FormatError",
    "Generation",
    "LockedError",
    "LostError",
    "NewerVersionError",
    "NotFoundError",
    "PathError",
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
