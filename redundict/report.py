"""Reports: `Report`, the result of a check, and `Recovery`, which says what opening a store met.

`check` verifies every slot of every copy. It writes nothing and takes no lock. A slot that a live
writer may be changing is looked at again before it is reported. The command line prints these
objects and finds out nothing about a store itself. Knows no dicts and no formats.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from . import errors, evidence
from .engine import files, newest, places, slots, survey
from .engine.layout import Copies, Layout, command_line, owner
from .engine.newest import Loaded
from .engine.slots import Flaw, Generation, Slot, SlotState, StoreState
from .engine.writes import Healed
from .errors import Fault

#: Faults of a slot from which no byte was read.
_UNREAD: Final = frozenset({Fault.MISSING, Fault.NOT_A_FILE, Fault.DENIED, Fault.UNREADABLE})
_MOST: Final = 4  #: Slots that a sentence names.


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a store, slot by slot.

    Attributes:
        path: The store.
        state: Whether it is healthy, degraded, rolled back or lost.
        generation: The number of the generation that loads; 0 if none does.
        slots: Every slot of every copy.
        flaws: What is wrong, by the slot's file name.
        status: One sentence for a person.
        action: The command to run next; None if there is nothing to do.
        aside: The paths of the files that were put aside. Nothing reads them.
        leftovers: The paths of the files that killed writers left, or that have such a name.
            Nothing reads them.

    """

    path: str
    state: StoreState
    generation: int
    slots: tuple[Slot, ...]
    flaws: dict[str, Flaw]
    status: str
    action: str | None
    aside: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()

    @property
    def generations(self) -> list[Generation]:
        """The generations that load, newest first."""
        return slots.generations(self.slots)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was wrong with a store when it was opened, and what was done about it.

    Attributes:
        path: The store.
        state: The state in which the store was found.
        generation: The number of the generation that was loaded; 0 if none was.
        found: What was wrong, in words, by the slot's file name.
        action: The command that shows more.
        healed: The file names of the slots that were rewritten.
        failures: Why a slot could not be rewritten, by its file name.
        written: When the loaded generation was committed (UTC); None if nothing was loaded.
        aside: The new path of each slot that was put aside before it was rewritten, by its file
            name.

    """

    path: str
    state: StoreState
    generation: int
    found: dict[str, str]
    action: str
    healed: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    written: datetime | None = None
    aside: dict[str, str] = field(default_factory=dict)

    @property
    def newest_lost(self) -> bool:
        """Whether the newest generation may be gone."""
        return self.state in (StoreState.ROLLED_BACK, StoreState.LOST)

    @property
    def newest_doubtful(self) -> bool:
        """Whether there may be another state than the loaded one that somebody wants."""
        return self.newest_lost or self.state is StoreState.DIVERGED

    @property
    def complete(self) -> bool:
        """Whether nothing is lost and every bad slot has been healed."""
        return not self.newest_doubtful and set(self.found) == set(self.healed)

    def __str__(self) -> str:
        found = "; ".join(f"{name}: {reason}" for name, reason in self.found.items())
        loaded = f"generation {self.generation} was loaded"
        if self.state is StoreState.LOST:
            loaded = "nothing was loaded, these slots were put aside"
        if self.newest_lost:
            loaded += "; a newer one may have been lost"
        healed = f"; healed: {', '.join(self.healed)}" if self.healed else ""
        failed = "".join(f"; {name} could not be: {why}" for name, why in self.failures.items())
        failed += "".join(
            f"; {name} was put aside as {os.path.basename(new)}" for name, new in self.aside.items()
        )
        check = "" if self.complete else f". Look at it with: {self.action}"
        return f"{self.path}: {self.state} ({found}): {loaded}{healed}{failed}{check}"


def check(
    path: str | os.PathLike[str], *, copies: Copies | None = None, cold: bool = False
) -> Report:
    """Verify every byte of every slot of the store at `path`, and change nothing.

    Takes no lock, so a writer may have the store open. Damage is not an error: the report names it.

    Args:
        path: The store, without a slot's ending.
        copies: How many copies there should be, or the folder of each. None asks the newest slot,
            and looks beside `path`.
        cold: Drop the slots from the page cache first, so that every byte comes from the medium.

    Returns:
        The state of the store and of each slot, and the command to run next.

    Raises:
        NotFoundError: There is no slot. The error says what lies at `path` instead.
        AccessError: The permissions hide a slot that may hold the newest generation.
        NewerVersionError: A newer redundict wrote a slot.
        StorageError: The page cache cannot be dropped, or a folder cannot be listed.

    """
    path = places.assumed(os.fsdecode(path), copies).path
    if cold:
        _forget(survey.survey(places.assumed(path, copies)))
    layout, found = survey.patiently(
        lambda: _look(path, copies),
        lambda seen: seen[1].slots,
        lambda seen: seen[1].state is StoreState.HEALTHY,
    )
    if all(slot.state is SlotState.MISSING for slot in found.slots):
        raise not_found(path)
    survey.refuse_if_denied(layout, found.slots)
    return found


def _look(path: str, copies: Copies | None) -> tuple[Layout, Report]:
    noted = newest.read_noted_in_all(places.assumed(path, copies))
    layout, seen = survey.discover(path, copies, follow=True)
    survivor = next(iter(slots.by_claim(seen)), None)
    misses_noted = noted.generation > max((slot.generation for slot in seen), default=0)
    state = _state(layout, slots.judge(seen, survivor, layout.keep, misses_noted))
    if survivor is None:
        found = [slots.own_flaw(slot) for slot in seen if slot.state is not SlotState.MISSING]
    else:
        found = slots.flaws(seen, survivor, layout.keep)
    found = [replace(flaw, reason=evidence.reason(flaw)) for flaw in found]
    status, action = _advice(layout, state, survivor, seen, found)
    if misses_noted and state is StoreState.ROLLED_BACK:
        status = f"{status} The lock file {errors.misses_noted(*noted)}."
    if places.is_elsewhere(layout, survivor, seen):
        action = errors.copies_unlisted(layout.path, layout.command("repair")).action
    return layout, Report(
        path=layout.path,
        state=state,
        generation=survivor.generation if survivor else 0,
        slots=tuple(seen),
        flaws={flaw.slot.name: flaw for flaw in found},
        status=status,
        action=action,
        aside=tuple(evidence.put_aside(layout)),
        leftovers=tuple(evidence.left_over(layout)),
    )


def _state(layout: Layout, judged: StoreState) -> StoreState:
    """Return the state of a store. It is not healthy if nobody knows where its copies are."""
    is_whole = judged is StoreState.HEALTHY and not (layout.doubt or layout.away)
    return StoreState.DEGRADED if judged is StoreState.HEALTHY and not is_whole else judged


def _forget(seen: list[Slot]) -> None:
    for slot in seen:
        if slot.fault not in _UNREAD:
            with errors.typed(f"{slot.name} cannot be read cold", path=slot.path, slot=slot.name):
                files.forget(slot.path)


def not_found(path: str) -> errors.NotFoundError:
    """Return the error for a path at which no slot exists; it says what is there instead."""
    if error := file_of_a_store(path):
        return error
    if os.path.isfile(path):
        return errors.plain_file(path, command_line("redundict", "import", path, path))
    return errors.no_store(path)


def file_of_a_store(path: str) -> errors.NotFoundError | None:
    """Return the error for a path that is the name of a slot or of a lock; None for any other."""
    store = owner(path)
    if store and any(slot.sound for slot in survey.survey(places.assumed(store))):
        return errors.file_of_a_store(path, command_line("redundict", "check", store))
    return None


def _advice(
    layout: Layout,
    state: StoreState,
    survivor: Slot | None,
    seen: list[Slot],
    found: list[Flaw],
) -> tuple[str, str | None]:
    """Return one sentence about the store, and the command to run next."""
    if survivor is None:
        return "No slot verifies: nothing loads.", "restore a slot from a backup"
    loads, repair = f"generation {survivor.generation} loads", layout.command("repair")
    if apart := slots.parted(seen):
        error = survey.divergence(layout, *apart)
        return f"{error.what[0].upper()}{error.what[1:]}; {loads}.", error.action
    if layout.doubt:
        return f"It is not known where all copies are: {layout.doubt}; {loads}.", (
            errors.give_copies(os.path.dirname(layout.path))
        )
    if layout.away:
        away = ", ".join(layout.folders[copy] for copy in sorted(layout.away))
        action = f"mount the disk of {away}; only if it is lost, begin a new copy there: "
        action += layout.command("repair", begins=True)
        doubt = "The newest generation may be there" if state is StoreState.ROLLED_BACK else ""
        what = f"A copy is away: {away} holds nothing of the store. {doubt}".strip(" .")
        return f"{what}; {loads}.", action
    edited = _listed(flaw for flaw in found if evidence.EDITED in flaw.reason)
    edit = f" The edit in {edited} does not load; a repair puts it aside." if edited else ""
    if state is StoreState.ROLLED_BACK:
        if denied := _listed(flaw for flaw in found if flaw.slot.denied):
            doubt = f"This user may not read {denied}. A newer generation may be there; {loads}."
            return doubt, f"make {denied} readable for this user, then check again"
        return f"The newest generation may be gone; {loads}.{edit}", repair
    if all(slot.target for slot in seen if slot.sound):
        real = os.path.join(os.path.dirname(survivor.target), layout.name)
        links = f"Some slots are symbolic links, which a writer does not follow; {loads}."
        return links, command_line("redundict", "check", real)
    if state is StoreState.DEGRADED:
        if strange := _listed(flaw for flaw in found if flaw.fault is Fault.DIVERGED):
            doubt = f"It did not grow from the content of {strange}."
            why = "Was half of a backup restored? A repair puts that aside."
            return f"G{loads[1:]}. {doubt} {why}{edit}", repair
        joined = any(flaw.fault is Fault.LINKED for flaw in found)
        link = " A repair gives each slot a file of its own." if joined else ""
        return f"Nothing is lost: {loads}. Some redundancy is gone.{edit}{link}", repair
    return f"Every copy of every generation verifies; {loads}.", None


def _listed(flaws: Iterable[Flaw]) -> str:
    """Return the names of the slots of some flaws, but not of too many; '' if there are none."""
    names = [flaw.slot.name for flaw in flaws]
    more = [f"{len(names) - _MOST} more"] if len(names) > _MOST else []
    return " and ".join(names[:_MOST] + more)


def recovery_of(loaded: Loaded, healed: Healed | None = None) -> Recovery | None:
    """Return what was wrong with the store that was loaded; None if nothing was.

    `healed` is the work of a writer. Without it, for a reader, a copy that is only behind does not
    count: a writer may be about to write it.
    """
    flaws = loaded.damage() if healed is None else loaded.flaws()
    doubt = loaded.layout.doubt
    if loaded.survivor is None or not (flaws or doubt or loaded.misses_noted):
        return None
    healed = healed or Healed()
    found = {
        flaw.slot.name: evidence.reason(flaw, healed.aside.get(flaw.slot.path)) for flaw in flaws
    }
    if doubt:
        found[os.path.basename(loaded.layout.list_path)] = doubt
    if loaded.misses_noted:
        name = os.path.basename(loaded.layout.lock_path)
        found[name] = errors.misses_noted(*loaded.noted)
    return Recovery(
        path=loaded.layout.path,
        state=_state(loaded.layout, loaded.state()),
        generation=loaded.survivor.generation,
        found=found,
        healed=tuple(slot.name for slot in healed.slots),
        failures={os.path.basename(p): errors.why(error) for p, error in healed.failures.items()},
        action=loaded.layout.command("check"),
        written=loaded.survivor.trailer.written if loaded.survivor.trailer else None,
        aside={os.path.basename(path): new for path, new in healed.aside.items()},
    )


def recovery_of_lost(layout: Layout, bad: list[Slot]) -> Recovery:
    """Return what was wrong with a lost store, given the slots that were put aside."""
    return Recovery(
        path=layout.path,
        state=StoreState.LOST,
        generation=0,
        found={slot.name: slot.reason for slot in bad},
        action=layout.command("check"),
    )
