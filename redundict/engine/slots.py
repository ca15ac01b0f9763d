"""Decisions about slots, as pure functions: which generation survives, which slot is the victim.

A slot is one file of one copy, `NAME.a0`: copy letter, slot index. What is known of each is a
`Slot`; everything here is decided from a collection of them, and nothing here reads or writes.
A slot is *sound* if nothing is known against it; a generation's *home* is the index at which every
copy should hold it; a *flaw* is a slot that is not as it should be.

Invariants: a victim never has the survivor's home index; a damaged trailer counts for nothing but
the wording of a report; names are hints, trailers are truth.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from redundict.errors import Fault

from .layout import LETTERS
from .trailer import NO_PARENT, Trailer


class SlotState(StrEnum):
    """What is known of one slot."""

    VALID = "valid"
    CLAIMED = "claimed"  #: Has a trailer; its digest has not been recomputed.
    TORN = "torn"  #: Ends without a trailer, as an interrupted write leaves it.
    DAMAGED = "damaged"  #: Has a trailer that its content does not bear out, or cannot be read.
    MISSING = "missing"
    FOREIGN = "foreign"  #: Not ours to touch: a link, a directory, or we may not look.


_SOUND: Final = (SlotState.VALID, SlotState.CLAIMED)


class StoreState(StrEnum):
    """What a store's slots amount to."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  #: The newest generation loads, some redundancy is gone.
    ROLLED_BACK = "rolled back"  #: The newest generation may be gone, an older one loads.
    LOST = "lost"  #: Nothing loads.


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot, and what is known of it."""

    copy: int
    index: int
    path: str
    state: SlotState
    trailer: Trailer | None = None
    fault: Fault | None = None  #: Why it is not valid.
    reason: str = ""  #: The same in words.
    modified: float = 0.0  #: When the file last changed, seconds since the epoch.
    changed: int = 0  #: When its inode last changed, nanoseconds.
    mode: int | None = None  #: Permission bits.
    extra: bool = False  #: Of a copy that is not in the layout: read, and never written.
    durable: bool = False  #: This process knows that content, size and name are on the medium.

    @property
    def letter(self) -> str:
        """The copy's letter."""
        return LETTERS[self.copy]

    @property
    def name(self) -> str:
        """The file name, without the folder."""
        return os.path.basename(self.path)

    @property
    def denied(self) -> bool:
        """Whether we may not look, so that it might hold anything, even what is newest."""
        return self.fault is Fault.DENIED

    @property
    def is_unfinished(self) -> bool:
        """Whether a write to it was not completed, so that a look at it proves nothing (law 3)."""
        return self.fault is Fault.UNFINISHED

    @property
    def sound(self) -> bool:
        """Whether nothing is known against it."""
        return self.state in _SOUND

    @property
    def generation(self) -> int:
        """The generation it holds, as far as nothing is known against it; else 0."""
        return self.trailer.generation if self.trailer and self.sound else 0

    def holds(self, other: Slot) -> bool:
        """Tell whether this slot holds the very bytes that `other` does."""
        return (
            self.sound
            and self.trailer is not None
            and other.trailer is not None
            and self.trailer.digest == other.trailer.digest
        )


def unfinished(slot: Slot) -> Slot:
    """Return a slot as one whose last write was not completed, whatever a look at it says."""
    return replace(
        slot,
        state=SlotState.TORN,
        trailer=None,
        fault=Fault.UNFINISHED,
        reason="its last write was not completed",
        durable=False,
    )


def written(slot: Slot, sealed: Trailer) -> Slot:
    """Return a slot as one that was written whole and flushed."""
    return replace(slot, state=SlotState.VALID, trailer=sealed, fault=None, reason="", durable=True)


def by_claim(slots: Iterable[Slot]) -> list[Slot]:
    """Return the sound slots in the order in which to try them: newest first, then copy A."""
    sound = [slot for slot in slots if slot.sound]
    return sorted(sound, key=lambda slot: (-slot.generation, slot.extra, slot.copy, slot.index))


def diverged(slots: Iterable[Slot]) -> tuple[Slot, Slot] | None:
    """Return two slots with the same number and different content, None if there are none."""
    first: dict[int, Slot] = {}
    for slot in by_claim(slots):
        other = first.setdefault(slot.generation, slot)
        if not slot.holds(other):
            return other, slot
    return None


def choose_victim(
    slots: Iterable[Slot], survivor: Slot | None, keep: int, give_up: int | None = None
) -> int:
    """Return the index to overwrite: an invalid one if there is one, else the oldest generation's.

    Of those that load, `give_up` goes first, if that is given. Never the survivor's home index. An
    index of which another copy holds the survivor too (files were swapped by hand) is taken only
    if there is no other; one that cannot be written, likewise.
    """
    home = survivor.index if survivor else None
    candidates = [index for index in range(keep) if index != home]
    if len(candidates) == 1:
        return candidates[0]
    own: dict[int, list[Slot]] = {index: [] for index in candidates}
    for slot in slots:
        if slot.index in own and not slot.extra:
            own[slot.index].append(slot)

    def cost(index: int) -> tuple[bool, bool, int, int, int]:
        here = own[index]
        holds_survivor = survivor is not None and any(slot.holds(survivor) for slot in here)
        unwritable = bool(here) and all(slot.state is SlotState.FOREIGN for slot in here)
        newest = max((slot.generation for slot in here), default=0)
        turn = 0 if not newest else 1 if newest == give_up else 2
        return holds_survivor, unwritable, turn, newest, index

    return min(candidates, key=cost)


def ages(slots: Iterable[Slot], keep: int, now: datetime) -> dict[int, float]:
    """Return how old the kept generations are, in seconds, by number."""
    home = {index: slot for index, slot in homes(list(slots)).items() if index < keep}
    return {
        slot.generation: (now - slot.trailer.written).total_seconds()
        for slot in home.values()
        if slot.trailer
    }


def homes(slots: Iterable[Slot]) -> dict[int, Slot]:
    """Return, by index, the slot that every copy's slot of that index should equal.

    Each generation, newest first, has its home where the first copy that holds it has it, unless a
    newer one is at home there.
    """
    own = [slot for slot in slots if not slot.extra]
    newest = by_claim(slots)[:1]  # the survivor may be in a copy that is no longer one of ours
    found: dict[int, Slot] = {}
    at_home: set[str] = set()
    for slot in newest + by_claim(own):
        if slot.trailer and slot.index not in found and slot.trailer.digest not in at_home:
            found[slot.index] = slot
            at_home.add(slot.trailer.digest)
    return found


@dataclass(frozen=True, slots=True)
class Flaw:
    """A slot that is not as it should be, and what is wrong with it."""

    slot: Slot
    fault: Fault
    reason: str

    def __str__(self) -> str:
        return self.reason


def own_flaw(slot: Slot) -> Flaw:
    """Return what is known against a slot that is not sound."""
    return Flaw(slot, slot.fault or Fault.MISSING, slot.reason)


def flaws(slots: Sequence[Slot], survivor: Slot, keep: int) -> list[Flaw]:
    """Return the slots that are not as they should be."""
    wanted = homes(slots)
    expected = _expected_indexes(slots, survivor, keep)
    found = []
    for slot in slots:
        want = wanted.get(slot.index)
        if slot.extra or (want is None and slot.index not in expected):
            continue
        if not slot.sound:
            found.append(own_flaw(slot))
        elif want and not slot.holds(want):
            behind = f"holds generation {slot.generation}, not {want.generation}"
            found.append(Flaw(slot, Fault.BEHIND, behind))
    if pair := diverged(slots):
        differs = f"differs from {pair[0].name}, of the same generation"
        found.append(Flaw(pair[1], Fault.DIVERGED, differs))
    return found


def judge(slots: Sequence[Slot], survivor: Slot | None, keep: int) -> StoreState:
    """Return what the slots of a store amount to, given the survivor among them."""
    if survivor is None:
        return StoreState.LOST
    found = [flaw.slot for flaw in flaws(slots, survivor, keep)]
    if not found:
        return StoreState.HEALTHY
    wanted = homes(slots)
    for slot in found:
        # Here, and only here, a damaged trailer is listened to: it decides how a report is worded.
        claim = slot.trailer.generation if slot.trailer else None
        unknown = claim is None and (slot.denied or slot.index not in wanted)
        if not slot.sound and (unknown or (claim or 0) > survivor.generation):
            return StoreState.ROLLED_BACK
    return StoreState.DEGRADED


def _expected_indexes(slots: Sequence[Slot], survivor: Slot, keep: int) -> set[int]:
    """Return the indexes that should hold a generation.

    Those with a file; and, unless the history is known from its beginning, those without.
    Beyond what is kept, what does not verify is not ours to judge.
    """
    own = [slot for slot in slots if not slot.extra]
    kept = max(keep, survivor.trailer.keep if survivor.trailer else 0)
    there = {slot.index for slot in own if slot.state is not SlotState.MISSING}
    oldest, parents = survivor, {s.trailer.as_parent: s for s in slots if s.sound and s.trailer}
    while oldest.trailer and oldest.trailer.parent in parents:
        oldest = parents.pop(oldest.trailer.parent)
    if oldest.trailer and oldest.trailer.parent != NO_PARENT:
        there |= set(range(oldest.trailer.keep))
    return there & set(range(kept))


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation that loads, and the slots that hold it."""

    number: int
    written: datetime
    length: int  #: Bytes of payload.
    format: str
    digest: str
    parent: str  #: The first 16 hex digits of the digest of the generation before.
    slots: tuple[Slot, ...]


def generations(slots: Iterable[Slot]) -> list[Generation]:
    """Return the generations that valid slots hold, newest first, each in its copies."""
    held: dict[str, list[Slot]] = {}
    for slot in by_claim(slots):
        if slot.state is SlotState.VALID and slot.trailer:
            held.setdefault(slot.trailer.digest, []).append(slot)
    return [
        Generation(t.generation, t.written, t.length, t.format, t.digest, t.parent, tuple(holders))
        for holders in held.values()
        if (t := holders[0].trailer)
    ]
