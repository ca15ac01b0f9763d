"""The load path: find the newest generation that verifies, by one rule for every reader.

Loading reads every trailer first and then the newest payload. It reads another slot only if that
payload does not verify (law 10). This module must not know dicts or formats, and it takes no lock.

Invariants: loading raises, instead of returning an older generation, if every copy has a slot that
may not be read. A store counts as empty only if no slot of any copy exists (law 8).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from redundict import errors
from redundict.errors import Fault

from . import files, slots, survey
from .layout import Layout
from .lock import NOTHING_NOTED, Noted, read_noted
from .slots import Flaw, Generation, Slot, SlotState, StoreState
from .trailer import Trailer

#: Faults of a slot whose content may come back, for example with its disk.
_AWAY: Final = {Fault.MISSING, Fault.AWAY, Fault.UNREADABLE, Fault.DENIED, Fault.NOT_A_FILE}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A generation that was loaded, and every slot as it was seen.

    Attributes:
        layout: Where the slots are.
        survivor: The slot that was loaded. None if no slot of any copy exists.
        payload: Its payload; empty if there is no survivor.
        payload_digest: SHA-256 of the payload alone.
        format: The name of the payload's format.
        slots: Every slot. Slots that were not read whole are not verified.
        noted: The newest durable generation that a lock note names. If no slot holds it, it may be
            in a copy that is away.

    """

    layout: Layout
    survivor: Slot | None
    payload: bytes
    payload_digest: bytes
    format: str
    slots: tuple[Slot, ...]
    noted: Noted = NOTHING_NOTED

    @property
    def generation(self) -> int:
        """The number of the loaded generation; 0 if there is none."""
        return self.survivor.generation if self.survivor else 0

    @property
    def digest(self) -> str:
        """The digest of the loaded slot; '' if there is none."""
        return self.survivor.trailer.digest if self.survivor and self.survivor.trailer else ""

    @property
    def is_empty(self) -> bool:
        """True if no slot of any copy exists, as in a store that was never written."""
        return all(slot.state is SlotState.MISSING for slot in self.slots)

    @property
    def misses_noted(self) -> bool:
        """True if a lock note names a newer generation than any slot that was seen."""
        number = self.noted.generation
        return number > self.generation and all(slot.generation < number for slot in self.slots)

    def flaws(self) -> list[Flaw]:
        """Return the slots that are not as they should be, each with its fault."""
        if self.survivor is None:
            return [slots.own_flaw(s) for s in self.slots if s.state is not SlotState.MISSING]
        if slots.are_in_order(self.slots):
            return []
        return slots.flaws(self.slots, self.survivor, self.layout.keep)

    def unseen(self) -> int:
        """Return how many newer generations may exist that cannot be read at present.

        A disk or a permission may come back later, and its slots with it. Their numbers are used
        already, so a commit must choose a number above them (law 4).
        """
        if self.survivor is None or not any(flaw.fault in _AWAY for flaw in self.flaws()):
            return 0
        keep = self.layout.keep
        lost = slots.judge(self.slots, self.survivor, keep) is StoreState.ROLLED_BACK
        return keep if lost else 0

    def state(self) -> StoreState:
        """Return the state of the store."""
        return slots.judge(self.slots, self.survivor, self.layout.keep, self.misses_noted)

    def damage(self) -> list[Flaw]:
        """Return the flaws that matter to a reader, and that no commit in progress explains.

        A sound slot with an older generation is left out, unless the newest one did not grow from
        it. A writer may be about to overwrite it.
        """
        return [
            flaw
            for flaw in self.flaws()
            if flaw.fault is not Fault.LINKED
            and (flaw.fault is not Fault.BEHIND or flaw.slot.generation >= self.generation)
        ]


def load(layout: Layout, generation: int | None = None) -> Loaded:
    """Load the survivor, or `generation`, without the lock.

    Another process may be committing. If a slot looks bad and was changed within the last second,
    the slots are read again.

    Args:
        layout: Where the slots are.
        generation: The number to load. None loads the newest generation that verifies.

    Returns:
        The generation, with every slot as it was seen. If no slot exists, it is empty.

    Raises:
        LostError: If slots exist and none verifies.
        NotFoundError: If no slot holds `generation`, or if a folder of an empty store is missing.
        AccessError: If every copy has a slot that may not be read, or if none that may is sound.
        NewerVersionError: If a newer version of redundict wrote a slot.
        StorageError: If the process has run out of descriptors or memory.

    """
    loaded = survey.patiently(
        lambda: _load(layout, generation, follow=True),
        lambda seen: seen.slots,
        lambda seen: not seen.damage(),
    )
    return _refuse_lost(loaded, generation)


def load_locked(
    layout: Layout,
    generation: int | None = None,
    *,
    distrusted: Collection[str] = (),
    noted: Noted | None = None,
    anew: bool = False,
) -> Loaded:
    """Load the survivor, or `generation`, while this process holds the lock.

    No other process can be committing, so each slot is looked at only once.

    Args:
        layout: Where the slots are.
        generation: The number to load. None loads the newest generation that verifies.
        distrusted: Paths of slots whose last write was not completed. They count as torn, even if
            they verify (law 3).
        noted: The generation that the note of the last holder of the lock names. None reads it.
        anew: True if a store without any slot begins anew, whatever the note names.

    Returns:
        What `load` returns.

    Raises:
        RedundictError: What `load` raises.

    """
    return _refuse_lost(_load(layout, generation, distrusted, noted), generation, anew=anew)


def _load(
    layout: Layout,
    generation: int | None,
    distrusted: Collection[str] = (),
    noted: Noted | None = None,
    *,
    follow: bool = False,
) -> Loaded:
    # Before the slots: a commit in between must not look like a lost generation.
    noted = noted or read_noted_in_all(layout)
    seen = {slot.path: slot for slot in survey.survey(layout, follow=follow)}
    for path in seen.keys() & distrusted:
        seen[path] = slots.unfinished(seen[path])
    survey.refuse_if_denied(layout, seen.values())
    for claim in slots.by_claim(seen.values()):
        if generation in (None, claim.generation):
            slot, verified = survey.verify(claim)
            seen[slot.path] = slot
            if verified and generation in (None, slot.generation):
                content = verified.payload, verified.payload_digest, verified.trailer.format
                return Loaded(layout, slot, *content, tuple(seen.values()), noted)
    survey.refuse_if_denied(layout, seen.values())
    return Loaded(layout, None, b"", b"", "", tuple(seen.values()), noted)


def _refuse_lost(loaded: Loaded, generation: int | None, *, anew: bool = False) -> Loaded:
    layout = loaded.layout
    if loaded.survivor:
        return loaded
    if not loaded.is_empty:
        if generation is not None and any(slot.sound for slot in loaded.slots):
            raise no_generation(layout, f"no slot holds generation {generation}", generation)
        raise survey.lost(layout, loaded.slots)
    if layout.away:
        folders = ", ".join(layout.folders[copy] for copy in sorted(layout.away))
        raise errors.copies_away(layout.path, folders, f"{layout.name}.copies")
    for folder in layout.folders:
        if not files.exists(folder):
            raise errors.no_folder(layout.path, folder)
    if loaded.noted.generation and not anew:
        raise errors.gone(layout.path, *loaded.noted)
    return loaded


def read_noted_in_all(layout: Layout) -> Noted:
    """Return the newest generation that a lock note in any folder of a store names."""
    return max(map(read_noted, layout.lock_paths()))


def newest_claim(layout: Layout) -> Trailer | None:
    """Return the newest trailer, unverified; None if there is none. Read no payload."""
    claims = slots.by_claim(survey.survey(layout, follow=True))
    return claims[0].trailer if claims else None


def generations(layout: Layout) -> list[Generation]:
    """Read and verify every slot; return the generations that load, newest first."""
    return slots.generations(survey.survey_verified(layout, follow=True))


def previous(layout: Layout, generation: int) -> int:
    """Return the number of the newest generation that loads and is older than `generation`.

    Raises:
        NotFoundError: If there is none.

    """
    for older in generations(layout):
        if older.number < generation:
            return older.number
    raise no_generation(layout, f"there is no generation before {generation}", generation)


def no_generation(layout: Layout, reason: str, generation: int) -> errors.NotFoundError:
    """Return the error for a generation that no slot holds, with the command that lists them.

    Args:
        layout: The layout of the store.
        reason: The sentence of the error.
        generation: The number that no slot holds.

    """
    return errors.no_generation(layout.path, reason, generation, layout.command("log"))
