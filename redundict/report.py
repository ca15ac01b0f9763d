"""Reports on what is there: `Report`, of a whole check, and `Recovery`, of what opening met.

`check` verifies every slot of every copy, never writes and takes no lock; a slot that a live writer
is at work on is looked at again, not reported. The report is the one source of what the command
line prints.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from . import errors
from .engine import files, slots, survey
from .engine.layout import COPIES, KEEP, Layout, command_line, owner
from .engine.newest import Loaded
from .engine.slots import Flaw, Generation, Slot, SlotState, StoreState
from .engine.survey import Folders
from .engine.writes import Healed
from .errors import Fault

#: Faults of a slot of which no byte was seen, from the medium or from the page cache.
_UNREAD: Final = frozenset({Fault.MISSING, Fault.NOT_A_FILE, Fault.DENIED, Fault.UNREADABLE})


@dataclass(frozen=True, slots=True)
class Report:
    """What a store is worth, slot by slot."""

    path: str
    state: StoreState
    generation: int  #: The one that loads; 0 if none does.
    slots: tuple[Slot, ...]
    flaws: dict[str, Flaw]  #: What is wrong, by the slot's file name.
    status: str  #: One sentence for a person.
    action: str | None  #: The command that comes next; None where there is nothing to do.

    @property
    def generations(self) -> list[Generation]:
        """The generations that load, newest first."""
        return slots.generations(self.slots)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found wrong on opening, and what was done about it.

    `state` is the store's as it was found, `generation` what was loaded and `written` when that was
    committed (UTC; None if nothing was loaded). `newest_lost`: an older generation than the newest
    may have been loaded. `found` maps each bad slot's file name to what was wrong with it, `healed`
    names those that were rewritten, and `failures` those that could not be, with the reason.
    """

    path: str
    state: StoreState
    generation: int
    found: dict[str, str]
    healed: tuple[str, ...]
    failures: dict[str, str]
    action: str  #: The command that shows more.
    written: datetime | None = None

    @property
    def newest_lost(self) -> bool:
        """Whether the newest generation may be gone."""
        return self.state in (StoreState.ROLLED_BACK, StoreState.LOST)

    @property
    def complete(self) -> bool:
        """Whether nothing is lost and everything that was found has been healed."""
        return not self.newest_lost and set(self.found) == set(self.healed)

    def __str__(self) -> str:
        found = "; ".join(f"{name}: {reason}" for name, reason in self.found.items())
        loaded = f"generation {self.generation} was loaded"
        if self.state is StoreState.LOST:
            loaded = "nothing was loaded, these slots were put aside"
        if self.newest_lost:
            loaded += "; a newer one may have been lost"
        healed = f"; healed: {', '.join(self.healed)}" if self.healed else ""
        failed = "; ".join(f"{name} could not be: {why}" for name, why in self.failures.items())
        check = "" if self.complete else f". Look at it with: {self.action}"
        return f"{self.path}: {self.state} ({found}): {loaded}{healed}" + (
            (failed and f"; {failed}") + check
        )


def check(
    path: str | os.PathLike[str], *, folders: Folders | None = None, cold: bool = False
) -> Report:
    """Verify every byte of every slot of the store at `path`; change nothing.

    `folders` are the copies' where they are not all beside `path`. With `cold`, the page cache of
    the slots is dropped first, so that their bytes come from the medium. Raises `NotFoundError` if
    there is no slot, `StorageError` if the page cache cannot be dropped, `AccessError` if in every
    copy there is a slot that may not be looked at, and `NewerVersionError`. Damage is not an error
    here: it is in the report.
    """
    path = os.path.abspath(os.fspath(path))
    if cold:
        _forget(survey.survey(Layout.of(path, folders or COPIES, KEEP)))
    layout, seen = survey.patiently(
        lambda: survey.discover(path, folders), lambda found: found[1], _is_healthy
    )
    if all(slot.state is SlotState.MISSING for slot in seen):
        raise not_found(path)
    survey.refuse_if_denied(layout, seen)
    survivor = next(iter(slots.by_claim(seen)), None)
    state = slots.judge(seen, survivor, layout.keep)
    if survivor is None:
        found = [slots.own_flaw(slot) for slot in seen if slot.state is not SlotState.MISSING]
    else:
        found = slots.flaws(seen, survivor, layout.keep)
    pair = slots.diverged(seen)
    return Report(
        path=path,
        state=state,
        generation=survivor.generation if survivor else 0,
        slots=tuple(seen),
        flaws={flaw.slot.name: flaw for flaw in found},
        status=_status(state, survivor, pair),
        action=_action(layout, state, pair),
    )


def _forget(seen: list[Slot]) -> None:
    for slot in seen:
        if slot.fault not in _UNREAD:
            with errors.typed(f"{slot.name} cannot be read cold", path=slot.path, slot=slot.name):
                files.forget(slot.path)


def not_found(path: str) -> errors.NotFoundError:
    """Return the error for a path at which no slot exists."""
    reason = "there is no store here"
    action = (
        "look at the path; a store is named without the .a0 of its slots, and its copies' folders "
        "are given with --folder"
    )
    store = owner(path)
    if store and any(s.sound for s in survey.survey(Layout.of(store, COPIES, KEEP))):
        reason = "this is a file of a store, and not its name"
        action = command_line("redundict", "check", store)
    elif os.path.isfile(path):
        reason = "there is a plain file here, and no store yet"
        action = command_line("redundict", "import", path, path)
    return errors.NotFoundError(reason, path=path, action=action)


def _status(state: StoreState, survivor: Slot | None, pair: tuple[Slot, Slot] | None) -> str:
    if survivor is None:
        return "No slot verifies: nothing loads."
    loads = f"generation {survivor.generation} loads"
    if pair:
        return f"The copies have diverged at generation {pair[0].generation}; {loads}."
    if state is StoreState.ROLLED_BACK:
        return f"The newest generation may be gone; {loads}."
    if state is StoreState.DEGRADED:
        return f"Nothing is lost: {loads}. Some redundancy is gone."
    return f"Every copy of every generation verifies; {loads}."


def _action(layout: Layout, state: StoreState, pair: tuple[Slot, Slot] | None) -> str | None:
    if pair:
        return layout.command("repair", "--prefer", pair[0].letter)
    if state is StoreState.LOST:
        return "restore a slot from a backup"
    return None if state is StoreState.HEALTHY else layout.command("repair")


def _is_healthy(found: tuple[Layout, list[Slot]]) -> bool:
    layout, seen = found
    survivor = next(iter(slots.by_claim(seen)), None)
    return slots.judge(seen, survivor, layout.keep) is StoreState.HEALTHY


def recovery_of(loaded: Loaded, healed: Healed | None = None) -> Recovery | None:
    """Return what was wrong with what was loaded, None if nothing was.

    Without `healed`, for a reader: a copy that is merely behind is a writer's affair.
    """
    flaws = loaded.damage() if healed is None else loaded.flaws()
    if loaded.survivor is None or not flaws:
        return None
    healed, keep = healed or Healed(), loaded.layout.keep
    return Recovery(
        path=loaded.layout.path,
        state=slots.judge(loaded.slots, loaded.survivor, keep),
        generation=loaded.survivor.generation,
        found={flaw.slot.name: flaw.reason for flaw in flaws},
        healed=tuple(slot.name for slot in healed.slots),
        failures={os.path.basename(p): errors.why(error) for p, error in healed.failures.items()},
        action=loaded.layout.command("check"),
        written=loaded.survivor.trailer.written if loaded.survivor.trailer else None,
    )


def recovery_of_lost(layout: Layout, bad: list[Slot]) -> Recovery:
    """Return what is to be told of a lost store whose slots were put aside."""
    return Recovery(
        path=layout.path,
        state=StoreState.LOST,
        generation=0,
        found={slot.name: slot.reason for slot in bad},
        healed=(),
        failures={},
        action=layout.command("check"),
    )
