"""Decisions about slots, as pure functions: the survivor, the victim, the flaws.

A slot is one file of one copy. Its name `NAME.a0` holds the letter of the copy and the index. A
`Slot` records what is known of a slot. All functions here decide from a collection of slots. This
module must not read or write any file.

A slot is *sound* if it has a trailer and no fault is known. The *home* of a generation is the index
at which every copy should hold it. The *head* of a copy is its newest sound slot. A *flaw* is a
slot that is not as it should be.

Invariants: a victim never has the survivor's home index. The trailer of a damaged slot decides
nothing; it only words a report. File names are hints, and trailers are the truth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from redundict.errors import Fault

from . import lineage
from .layout import LETTERS
from .lineage import NO_LINE, Head, Judgement, Line
from .trailer import NO_PARENT, Trailer

#: Faults of a torn slot that holds nothing, or whose content this process knows.
_WORTHLESS: Final = frozenset({Fault.EMPTY, Fault.NUL, Fault.UNFINISHED})


class SlotState(StrEnum):
    """What is known of one slot."""

    VALID = "valid"
    CLAIMED = "claimed"  #: Its trailer was read; its digest was not verified.
    TORN = "torn"  #: Ends without a trailer, as after an interrupted write.
    DAMAGED = "damaged"  #: Its trailer does not match its content, or it cannot be read.
    MISSING = "missing"
    FOREIGN = "foreign"  #: Never written: a link, a directory, or a file that may not be read.


class StoreState(StrEnum):
    """The state of a store, as its slots show it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  #: The newest generation loads, but some slot is not as it should be.
    DIVERGED = "diverged"  #: The copies hold different states, and neither grew from the other.
    ROLLED_BACK = "rolled back"  #: An older generation loads; the newest one may be gone.
    LOST = "lost"  #: Nothing loads.


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot, and what is known of it.

    Invariant: it has a trailer if and only if no fault is known.
    """

    copy: int
    index: int
    path: str
    state: SlotState
    trailer: Trailer | None = None  #: The trailer of a sound slot; else None.
    fault: Fault | None = None  #: The token for its fault.
    reason: str = ""  #: The fault in words.
    modified: float = 0.0  #: Time of the last change of the file, seconds since the epoch.
    changed: int = 0  #: Time of the last change of the inode, nanoseconds.
    mode: int | None = None  #: Permission bits.
    extra: bool = False  #: Its copy is not in the layout. It is read and never written.
    durable: bool = False  #: Its content, size and name are known to be on the medium.
    claimed: int = 0  #: The generation that a damaged trailer named. It only words reports.
    target: str = ""  #: The path to which it leads, if it is a symbolic link that was followed.
    links: int = 1  #: Names of the file. A write through one of several would change all.
    owner: tuple[int, int] | None = None  #: The user and group of the file.

    @property
    def letter(self) -> str:
        """The letter of its copy."""
        return LETTERS[self.copy]

    @property
    def name(self) -> str:
        """The file name, without the folder."""
        return os.path.basename(self.path)

    @property
    def denied(self) -> bool:
        """True if it may not be read. It could hold anything, even the newest generation."""
        return self.fault is Fault.DENIED

    @property
    def is_readable_damage(self) -> bool:
        """True if it does not verify, but holds bytes that no failed write of ours explains."""
        return self.state in (SlotState.TORN, SlotState.DAMAGED) and self.fault not in _WORTHLESS

    @property
    def is_unfinished(self) -> bool:
        """True if its last write was not completed. A look at it then proves nothing (law 3)."""
        return self.fault is Fault.UNFINISHED

    @property
    def sound(self) -> bool:
        """True if it has a trailer and no fault is known."""
        return self.trailer is not None

    @property
    def generation(self) -> int:
        """The number of its generation; 0 if it is not sound."""
        return self.trailer.generation if self.trailer else 0

    @property
    def line(self) -> Line:
        """The lineage of its generation."""
        return self.trailer.line if self.trailer else NO_LINE

    def holds(self, other: Slot) -> bool:
        """Return True if both slots are sound and hold the same bytes, by their digests."""
        mine, others = self.trailer, other.trailer
        return mine is not None and others is not None and mine.digest == others.digest


def unfinished(slot: Slot) -> Slot:
    """Return a slot as torn, because its last write was not completed."""
    return replace(
        slot,
        state=SlotState.TORN,
        trailer=None,
        fault=Fault.UNFINISHED,
        reason="its last write was not completed",
        durable=False,
    )


def written(slot: Slot, sealed: Trailer, mode_if_new: int | None) -> Slot:
    """Return a slot as valid and durable, after it was written whole and flushed."""
    mode = mode_if_new if slot.mode is None else slot.mode
    slot = replace(slot, state=SlotState.VALID, trailer=sealed, mode=mode, links=1)
    return replace(slot, fault=None, reason="", durable=True)


def by_claim(slots: Iterable[Slot]) -> list[Slot]:
    """Return the sound slots in the order in which to try them (law 6).

    The newest generation comes first. Among equals, copy A comes first and extra slots come last.
    """
    order = [
        ((-slot.trailer.generation, slot.extra, slot.copy, slot.index), number, slot)
        for number, slot in enumerate(slots)
        if slot.trailer
    ]
    return [slot for _, _, slot in sorted(order)]


def are_in_order(slots: Sequence[Slot]) -> bool:
    """Return True if every slot is as it should be.

    Every slot is sound. Each index has one generation, the same in every copy, and no two indexes
    have the same number. The generation before the newest one is there. Then `flaws` would find
    nothing, but this takes less time.
    """
    held, indexes, numbers, newest = set(), set(), set(), None
    for slot in slots:
        if slot.trailer is None or slot.extra or slot.links > 1 or slot.target:
            return False
        held.add((slot.index, slot.trailer.digest))
        indexes.add(slot.index)
        numbers.add(slot.trailer.generation)
        if newest is None or slot.trailer.generation > newest.generation:
            newest = slot.trailer
    if newest is None or not len(held) == len(indexes) == len(numbers):
        return False
    for _, digest in held:
        if digest.startswith(newest.parent):
            return True
    return newest.parent == NO_PARENT


def heads(slots: Iterable[Slot]) -> dict[int, Slot]:
    """Return the newest sound slot of each copy that has one, by copy; the newest comes first.

    A copy of extra slots counts only if it holds the newest generation of all.
    """
    found: dict[int, Slot] = {}
    for slot in by_claim(slots):
        if not (slot.extra and found):
            found.setdefault(slot.copy, slot)
    return found


def judge_heads(heads: Mapping[int, Slot]) -> Judgement[int]:
    """Find the copies that are behind the newest generation, and those that have parted (law 6).

    Args:
        heads: The head of each copy. At least one.

    """
    return lineage.judge(
        {
            copy: Head(slot.generation, slot.trailer.digest, slot.line)
            for copy, slot in heads.items()
            if slot.trailer
        }
    )


def parted(slots: Iterable[Slot]) -> tuple[Slot, list[Slot]] | None:
    """Return the newest head, and the heads of the copies that went on without it (law 6).

    Return None if there is no such copy.
    """
    found = heads(slots)
    if len({slot.trailer.digest for slot in found.values() if slot.trailer}) < 2:
        return None
    judged = judge_heads(found)
    others = [slot for copy, slot in found.items() if copy in judged.parted]
    return (found[judged.newest], others) if others else None


def strange(slots: Sequence[Slot]) -> list[Slot]:
    """Return the sound slots that hold something from which the newest generation did not grow.

    They are put aside before they are overwritten (law 6). The slots of a copy that has parted are
    not among them, because nothing of it may be overwritten.

    Args:
        slots: Every slot of a store that has a sound slot.

    """
    found = heads(slots)
    judged = judge_heads(found)
    doubtful = judged.parted | judged.presumed
    line = [slot for slot in by_claim(slots) if slot.copy not in doubtful]
    odd = _unrelated(line, slots) or _restored(found[judged.newest], slots)
    line = [slot for slot in line if slot not in odd]
    for copy in judged.presumed:
        if not any(slot.holds(found[copy]) for slot in line):
            own = [slot for slot in by_claim(slots) if slot.copy == copy]
            odd += [slot for slot in own if not any(slot.holds(other) for other in line)]
    return odd


def _unrelated(line: Sequence[Slot], slots: Sequence[Slot]) -> list[Slot]:
    """Return the slots of `line` that hold another content than a generation of the line.

    One number has two contents, or a slot holds another generation than its index should and no
    head of a copy covers it.
    """
    tops = heads(line).values()
    numbers = {slot.generation: slot for slot in _ancestry(line)}
    wanted = homes(slots)
    odd = []
    for slot in line:
        is_away_from_home = not slot.holds(wanted.get(slot.index, slot))
        if not slot.holds(numbers.setdefault(slot.generation, slot)) or (
            is_away_from_home
            and not any(h.line.covers(h.generation, slot.line, slot.generation) for h in tops)
        ):
            odd.append(slot)
    return odd


def _ancestry(line: Sequence[Slot]) -> list[Slot]:
    """Return the newest slot, the one that it names as its parent, and so on."""
    children = {slot.trailer.as_parent: slot for slot in reversed(line) if slot.trailer}
    found = [line[0]]
    while (last := found[-1].trailer) and last.parent in children:
        found.append(children.pop(last.parent))
    return found


def _restored(newest: Slot, slots: Sequence[Slot]) -> list[Slot]:
    """Return the slots that were put in the place of the generation before the newest one.

    A commit never overwrites that generation. So if the copy of the newest generation is whole and
    does not hold it, some file was replaced after the newest one was written.
    """
    parent = newest.trailer.parent if newest.trailer else NO_PARENT
    own = [slot for slot in slots if slot.copy == newest.copy and not slot.extra]
    if parent == NO_PARENT or not all(slot.sound for slot in own):
        return []
    if any(slot.trailer.as_parent == parent for slot in slots if slot.trailer):
        return []
    return [s for s in by_claim(slots) if not s.holds(newest) and s.changed > newest.changed]


def choose_victim(
    slots: Iterable[Slot],
    survivor: Slot | None,
    keep: int,
    give_up: Callable[[dict[int, Trailer]], int | None] | None = None,
    spare: int = 0,
    avoided: Collection[int] = (),
) -> int:
    """Choose the index to overwrite: one without a generation, or else that of an old one (law 1).

    Args:
        slots: The slots of a store.
        survivor: The newest generation that verifies; None in an empty store. Its home index is
            never chosen. An index at which some other slot holds the survivor (files were swapped
            by hand) is chosen only if there is no other. The same holds for an index at which no
            slot can be written.
        keep: The number of indexes.
        give_up: Takes the newest trailer of each index, and returns the number of the generation to
            overwrite. By default, the oldest is overwritten.
        spare: The number of a generation that is overwritten only if there is no other.
        avoided: Indexes that are chosen only if there is no other.

    Returns:
        The index. The slots of all copies at this index are the victims.

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
        is_unwritable = index in unwritable - writable or index in avoided
        is_bad_choice = index in with_survivor, is_unwritable
        costs.append((*is_bad_choice, bool(spare) and number == spare, turn, number, index))
    if survivor and survivor.index < keep:
        del costs[survivor.index]
    return min(costs)[-1]


def homes(slots: Iterable[Slot]) -> dict[int, Slot]:
    """Return, by index, a slot whose content every copy should hold at that index.

    Take the generations from the newest to the oldest. The home of a generation is the index at
    which the first copy holds it, unless a newer generation has its home there.
    """
    found: dict[int, Slot] = {}
    at_home: set[str] = set()
    # An extra slot counts only if it is the survivor.
    for number, slot in enumerate(by_claim(slots)):
        if slot.trailer is None or (slot.extra and number):
            continue
        if slot.index not in found and slot.trailer.digest not in at_home:
            found[slot.index] = slot
            at_home.add(slot.trailer.digest)
    return found


@dataclass(frozen=True, slots=True)
class Flaw:
    """A slot that is not as it should be.

    Attributes:
        slot: The slot.
        fault: The token for its fault.
        reason: The fault in words.

    """

    slot: Slot
    fault: Fault
    reason: str

    def __str__(self) -> str:
        return self.reason


def own_flaw(slot: Slot) -> Flaw:
    """Return the flaw of a slot that is not sound, as the look at it found it."""
    return Flaw(slot, slot.fault or Fault.MISSING, slot.reason)


def flaws(slots: Sequence[Slot], survivor: Slot, keep: int) -> list[Flaw]:
    """Return the slots that are not as they should be, each with its fault.

    A slot is bad if it is not sound, if it holds another generation than its index should, or if
    the newest generation did not grow from it. A missing slot is no flaw if the store is too young
    to have filled it.

    Args:
        slots: Every slot of a store.
        survivor: The newest generation among them.
        keep: The number of indexes.

    """
    expected = _expected_indexes(slots, survivor, keep)
    newest, others = parted(slots) or (survivor, [])
    apart = {slot.copy for slot in others}
    wanted = homes(slot for slot in slots if slot.copy not in apart)
    odd = {slot.path for slot in strange(slots)}
    apart_from = f"went on separately from {newest.name}, generation {newest.generation}"
    found = [Flaw(slot, Fault.DIVERGED, apart_from) for slot in others]
    for slot in slots:
        want = wanted.get(slot.index)
        if slot.extra or (want is None and slot.index not in expected):
            continue
        if not slot.sound:
            found.append(own_flaw(slot))
        elif slot.path in odd:
            unlike = f"generation {newest.generation} did not grow from what it holds"
            found.append(Flaw(slot, Fault.DIVERGED, unlike))
        elif want and not slot.holds(want) and slot.copy not in apart:
            behind = f"holds generation {slot.generation}, not {want.generation}"
            found.append(Flaw(slot, Fault.BEHIND, behind))
        elif slot.target:
            found.append(Flaw(slot, Fault.NOT_A_FILE, f"a symbolic link to {slot.target}"))
        elif slot.links > 1:
            linked = f"the file has {slot.links} names (hard links), so damage to one reaches all"
            found.append(Flaw(slot, Fault.LINKED, linked))
    return found


def judge(
    slots: Sequence[Slot], survivor: Slot | None, keep: int, misses_noted: bool = False
) -> StoreState:
    """Return the state of a store.

    Args:
        slots: Every slot of the store.
        survivor: The newest generation that verifies; None if none does.
        keep: The number of indexes.
        misses_noted: True if a lock note names a newer generation than any slot.

    """
    if survivor is None:
        return StoreState.LOST
    found = [flaw.slot for flaw in flaws(slots, survivor, keep)]
    if found and parted(slots):
        return StoreState.DIVERGED
    if misses_noted:
        return StoreState.ROLLED_BACK
    if not found:
        return StoreState.HEALTHY
    wanted = homes(slots)
    for slot in found:
        # The number that a bad slot claimed counts here only. It decides the wording of a report.
        unknown = not slot.claimed and (slot.denied or slot.index not in wanted)
        if not slot.sound and (unknown or slot.claimed > survivor.generation):
            return StoreState.ROLLED_BACK
    return StoreState.DEGRADED


def _expected_indexes(slots: Sequence[Slot], survivor: Slot, keep: int) -> set[int]:
    """Return the indexes that should hold a generation.

    An index with a file is expected. An index without a file is expected, unless the slots show the
    history from its first generation on. An index beyond `keep` is not judged.
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
    """One generation that loads, and the slots that hold it.

    The facts are those of its trailer, which was verified.
    """

    number: int
    written: datetime
    length: int  #: Bytes of payload.
    format: str
    digest: str
    parent: str  #: The first 16 hex digits of the digest of the generation before it.
    slots: tuple[Slot, ...]


def generations(slots: Iterable[Slot]) -> list[Generation]:
    """Return the generations that valid slots hold, newest first, each with its slots."""
    held: dict[str, list[Slot]] = {}
    for slot in by_claim(slots):
        if slot.state is SlotState.VALID and slot.trailer:
            held.setdefault(slot.trailer.digest, []).append(slot)
    return [
        Generation(t.generation, t.written, t.length, t.format, t.digest, t.parent, tuple(holders))
        for holders in held.values()
        if (t := holders[0].trailer)
    ]
