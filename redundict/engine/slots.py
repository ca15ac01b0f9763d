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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

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


class StoreState(StrEnum):
    """What a store's slots amount to."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  #: The newest generation loads, some redundancy is gone.
    ROLLED_BACK = "rolled back"  #: The newest generation may be gone, an older one loads.
    LOST = "lost"  #: Nothing loads.


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot, and what is known of it.

    It has a trailer as long as nothing is known against it, and none from then on.
    """

    copy: int
    index: int
    path: str
    state: SlotState
    trailer: Trailer | None = None  #: What a sound slot holds; None for any other slot.
    fault: Fault | None = None  #: Why it is not valid.
    reason: str = ""  #: The same in words.
    modified: float = 0.0  #: When the file last changed, seconds since the epoch.
    changed: int = 0  #: When its inode last changed, nanoseconds.
    mode: int | None = None  #: Permission bits.
    extra: bool = False  #: Of a copy that is not in the layout: read, and never written.
    durable: bool = False  #: This process knows that content, size and name are on the medium.
    claimed: int = 0  #: The generation that a damaged trailer names; it only words reports.

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
        return self.trailer is not None

    @property
    def generation(self) -> int:
        """The generation it holds, as far as nothing is known against it; else 0."""
        return self.trailer.generation if self.trailer else 0

    def holds(self, other: Slot) -> bool:
        """Tell whether this slot holds the very bytes that `other` does."""
        mine, others = self.trailer, other.trailer
        return mine is not None and others is not None and mine.digest == others.digest


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
    order = [
        ((-slot.trailer.generation, slot.extra, slot.copy, slot.index), number, slot)
        for number, slot in enumerate(slots)
        if slot.trailer
    ]
    return [slot for _, _, slot in sorted(order)]


def are_in_order(slots: Sequence[Slot]) -> bool:
    """Return True if every slot is as it should be, as the slots of a healthy store are.

    Every slot is sound, and each index has one generation in every copy, and another than the other
    indexes. Then nothing has diverged, and `flaws` would find nothing; this takes less time.
    """
    held, indexes, numbers = set(), set(), set()
    for slot in slots:
        if slot.trailer is None or slot.extra:
            return False
        held.add((slot.index, slot.trailer.digest))
        indexes.add(slot.index)
        numbers.add(slot.trailer.generation)
    return len(held) == len(indexes) == len(numbers)


def diverged(slots: Iterable[Slot]) -> tuple[Slot, Slot] | None:
    """Return two slots with the same number and different content, None if there are none."""
    first: dict[int, Slot] = {}
    for slot in by_claim(slots):
        other = first.setdefault(slot.generation, slot)
        if not slot.holds(other):
            return other, slot
    return None


def choose_victim(
    slots: Iterable[Slot],
    survivor: Slot | None,
    keep: int,
    give_up: Callable[[dict[int, Trailer]], int | None] | None = None,
) -> int:
    """Return the index to overwrite: an invalid one if there is one, else an old generation's.

    Args:
        slots: The slots of a store.
        survivor: The newest generation. Its home index is never returned. An index of which another
            copy holds the survivor too (files were swapped by hand) is returned only if there is no
            other; one that cannot be written, likewise.
        keep: How many indexes there are.
        give_up: Takes the newest trailer of each index, and returns the number of the generation
            that goes first. By default, that is the oldest.

    """
    newest: dict[int, Trailer] = {}
    writable: set[int] = set()
    unwritable: set[int] = set()
    with_survivor: set[int] = set()
    for slot in slots:
        if slot.extra or slot.index >= keep:
            continue
        (unwritable if slot.state is SlotState.FOREIGN else writable).add(slot.index)
        if survivor and slot.holds(survivor):
            with_survivor.add(slot.index)
        known = newest.get(slot.index)
        if slot.trailer and not (known and known.generation > slot.trailer.generation):
            newest[slot.index] = slot.trailer
    given_up = give_up(newest) if give_up and len(newest) == keep else None
    costs = []
    for index in range(keep):
        number = newest[index].generation if index in newest else 0
        turn = 0 if not number else 1 if number == given_up else 2
        costs.append((index in with_survivor, index in unwritable - writable, turn, number, index))
    if survivor and survivor.index < keep:
        del costs[survivor.index]
    return min(costs)[-1]


def homes(slots: Iterable[Slot]) -> dict[int, Slot]:
    """Return, by index, the slot that every copy's slot of that index should equal.

    Each generation, newest first, has its home where the first copy that holds it has it, unless a
    newer one is at home there.
    """
    found: dict[int, Slot] = {}
    at_home: set[str] = set()
    # The survivor may be in a copy that is no longer one of ours.
    for number, slot in enumerate(by_claim(slots)):
        if slot.trailer is None or (slot.extra and number):
            continue
        if slot.index not in found and slot.trailer.digest not in at_home:
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
        unknown = not slot.claimed and (slot.denied or slot.index not in wanted)
        if not slot.sound and (unknown or slot.claimed > survivor.generation):
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
    oldest, parents = survivor, {s.trailer.as_parent: s for s in slots if s.trailer}
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
