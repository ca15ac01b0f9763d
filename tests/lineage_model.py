"""A model of the lineage: histories of copies that come and go, against the true tree.

A history is a sequence of sessions. Each copy is away for any run of them, and its mount point is
an empty folder then, into which a repair or version 0.1 may write. A write may fail, tear, or
succeed without a word; a crash may fall between any two writes. A store may be cloned, begun anew,
repaired with another copy preferred, or opened by version 0.1. The writer of the model decides with
the code of the package. The truth is the set of ancestors of each generation, which no writer sees.

A loss is an acknowledged generation that is overwritten, although the newest generation did not
grow from it and nobody was told. Nothing in this module reads or writes a file.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol, TypeVar

from .inside import Head, Line, Slot, SlotState, Trailer, lineage, slots, trailer

#: Histories of each kind that are played; the evidence asks for more.
HISTORIES = int(os.environ.get("REDUNDICT_HISTORIES", "40"))
#: Writes that may fail in a history if all histories are played. With 2, it takes six minutes.
FAULTS = int(os.environ.get("REDUNDICT_FAULTS", "1"))

T = TypeVar("T")
LETTERS = "abc"
COMMITS = (1, 0, 1, 2, 3)  #: Of a session.
OK = "ok"
#: A write fails and leaves the old content, half of the new, or all of it; or the power goes.
WRITES = ("fails", "torn", "whole, but fails", "crash", "torn, and crash")
Following = Callable[..., Line]
Present = Callable[[random.Random, int, int], set[int]]  #: Which disks are there in a session.


class Choices(Protocol):
    """What happens in a history."""

    def choice(self, options: Sequence[T], /) -> T:
        """Return one of several things that may happen."""

    def fate(self) -> str:
        """Return the outcome of a write."""


class AnyChoices(random.Random):
    """Random choices."""

    faults = 0.04  #: The part of all writes that fail.

    def fate(self) -> str:
        return OK if self.random() >= self.faults else self.choice(WRITES)


class EveryChoice:
    """Every sequence of choices, one after the other: `again` goes on to the next one."""

    def __init__(self, faults: int) -> None:
        self._most = faults  #: Writes of a history that may fail.
        self._path: list[tuple[int, int]] = []  # what was chosen, of how many
        self.restart()

    def restart(self) -> None:
        """Begin the history that `again` chose."""
        self._at, self._faults = 0, self._most

    def choice(self, options: Sequence[T], /) -> T:
        if self._at == len(self._path):
            self._path.append((0, len(options)))
        chosen, _ = self._path[self._at]
        self._at += 1
        return options[chosen]

    def fate(self) -> str:
        if not self._faults:
            return OK
        chosen = self.choice((OK, *WRITES))
        self._faults -= chosen != OK
        return chosen

    def again(self) -> bool:
        """Choose the next history; return False if there is none."""
        while self._path:
            chosen, options = self._path.pop()
            if chosen + 1 < options:
                self._path.append((chosen + 1, options))
                return True
        return False


@dataclass(frozen=True)
class Generation:
    """A generation, and what is true of it."""

    number: int
    name: str  #: Unique; it stands for the digest.
    parent: str  #: The name of the generation before it.
    line: Line
    ancestors: frozenset[str]  #: Its own name is among them.

    def grew_from(self, other: Generation) -> bool:
        return other.name in self.ancestors

    def as_slot(self, copy: int, index: int, changed: int) -> Slot:
        """Return a slot that holds this generation."""
        written, keep = datetime(2026, 1, 1, tzinfo=UTC), 2
        facts = self.number, 0, "json", written, self.parent, len(LETTERS), keep, self.name, {}
        sealed = Trailer(*facts, line=self.line)
        path = f"s.{LETTERS[copy]}{index}"
        return Slot(copy, index, path, SlotState.VALID, sealed, changed=changed)


@dataclass
class Place:
    """A folder: the slots of one copy, and the lock with its note."""

    slots: dict[int, Generation | None] = field(default_factory=dict)  #: None for a torn slot.
    changed: dict[int, int] = field(default_factory=dict)  #: The time of each slot's last change.
    settled: str = ""  #: The generation that the note calls settled.
    noted: int = 0  #: The highest number that the note names.
    has_begun: bool = False  #: A store is here; else it counts as a disk that is away.

    def copied(self, now: int) -> Place:
        """Return a copy of all files. Its note names other files, so it calls nothing settled."""
        changed = dict.fromkeys(self.slots, now)
        return Place(dict(self.slots), changed, "", self.noted, self.has_begun)

    def sound(self) -> dict[int, Generation]:
        return {index: g for index, g in self.slots.items() if g}

    def holds(self, wanted: Generation) -> bool:
        return wanted in self.slots.values()


@dataclass
class World:
    """The copies of one store, and what happened to them."""

    choose: Choices
    copies: int
    keep: int
    following: Following = lineage.following
    judge: Callable[..., object] = lineage.judge
    disks: list[Place] = field(default_factory=list)
    beneath: list[Place] = field(default_factory=list)  #: The folders onto which disks are mounted.
    mounted: set[int] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)  #: Names of acknowledged generations.
    told: set[str] = field(default_factory=set)  #: Those put aside, or given up by a person.
    given_up: set[str] = field(default_factory=set)  #: Those that version 0.1 took for older ones.
    names: count[int] = field(default_factory=lambda: count(1))
    clock: count[int] = field(default_factory=lambda: count(1))
    counts: Counter[str] = field(default_factory=Counter)
    twin: World | None = None

    def __post_init__(self) -> None:
        self.disks = [Place() for _ in range(self.copies)]
        self.beneath = [Place() for _ in range(self.copies)]
        self.mounted = set(range(self.copies))

    def place(self, copy: int) -> Place:
        """Return what a process sees of a copy."""
        return self.disks[copy] if copy in self.mounted else self.beneath[copy]

    def run(self, steps: Sequence[tuple[set[int], str]]) -> Counter[str]:
        """Play steps, each with the disks that are there; return how many ended how."""
        for there, event in steps:
            self.mounted = set(there)
            if event == "clone":
                self._clone()
            elif event == "swap":
                self._swap()
            elif event == "0.1":
                OldSession(self, "begins").play()
            else:
                Session(self, event).play()
            if self.counts["silent loss"]:
                break
        return self.counts

    def _clone(self) -> None:
        """Copy every file of the store to another machine."""
        self.twin = World(self.choose, self.copies, self.keep, self.following, self.judge)
        self.twin.names, self.twin.clock, self.twin.counts = self.names, self.clock, self.counts
        self.twin.returned, self.twin.told = self.returned, self.told
        self.twin.given_up = self.given_up
        self.twin.disks = [self.place(copy).copied(next(self.clock)) for copy in range(self.copies)]

    def _swap(self) -> None:
        """Let the other machine go on; then put one copy of it in the place of one of ours."""
        if self.twin:
            self.twin.run([(set(range(self.copies)), "open")] * self.choose.choice((1, 2)))
            copy = self.choose.choice(sorted(self.mounted))
            self.told.update(g.name for g in self.disks[copy].sound().values())
            self.disks[copy] = self.twin.disks[copy].copied(next(self.clock))


class KilledError(Exception):
    """The process ends between two writes."""


@dataclass
class Session:
    """One opening of the store for writing.

    Its event is "open", "anew" (flag n), or "begins": a repair that writes to every folder.
    """

    world: World
    event: str = "open"

    def play(self) -> None:
        """Open the store, commit, and close it; or be killed."""
        world = self.world
        self.places = [world.place(copy) for copy in range(world.copies)]
        everywhere = self.event == "begins" or not any(place.has_begun for place in self.places)
        self.there = [c for c, place in enumerate(self.places) if everywhere or place.has_begun]
        self.survivor: Generation | None = None
        self.distrusted: set[tuple[int, int]] = set()  # slots whose last write was not completed
        self.is_own = self.continues = self.has_preferred = False
        self.branch, self.fresh = lineage.new_branch(), ""
        notes = [self.places[copy].settled for copy in self.there]
        self.settled = notes[0] if len(set(notes)) == 1 else ""
        self.number = max(self.places[copy].noted for copy in self.there)
        try:
            if self._open():
                for _ in range(self._commits()):
                    self._commit()
                self._close()
        except KilledError:
            pass

    def _commits(self) -> int:
        if self.event == "begins":  # a repair
            return int(self.has_preferred)
        return self.world.choose.choice(COMMITS)

    def heads(self) -> dict[int, Generation]:
        """Return the newest generation of each copy, the newest of all first."""
        found = {
            copy: max(sound.values(), key=lambda g: g.number)
            for copy in self.there
            if (sound := self.places[copy].sound())
        }
        return dict(sorted(found.items(), key=lambda item: (-item[1].number, item[0])))

    # --- opening

    def _open(self) -> bool:
        """Judge the copies and heal them. Return False if the store cannot be opened."""
        heads = self.heads()
        is_new = len(self.there) == self.world.copies and not self.number
        if not (heads or is_new or self.event == "anew"):
            return False
        for copy in self.there:
            self.places[copy].has_begun, self.places[copy].settled = True, ""
        if heads:
            self._judge(heads)
            self._heal(older=True)
        return True

    def _judge(self, heads: dict[int, Generation]) -> None:
        world = self.world
        judged = world.judge({c: Head(g.number, g.name, g.line) for c, g in heads.items()})
        newest = heads[judged.newest]  # type: ignore[attr-defined]
        others = [g for g in heads.values() if not newest.grew_from(g)]
        if judged.parted:  # type: ignore[attr-defined]
            world.counts["diverged" if others else "false alarm"] += 1
            self.event = "begins"
            newest = self._prefer(heads)
        else:
            world.counts["opened"] += 1
            first = self.places[self.there[0]].slots
            in_order = all(self.places[c].slots == first for c in self.there)
            self.continues = self.settled == newest.name and in_order
            self._find_evidence()
        self.survivor = newest
        self.number = max(self.number, *(g.number for g in heads.values()))
        if self.event != "begins":
            bare = [copy for copy in self.there if not self.places[copy].sound()]
            self.fresh = "".join(LETTERS[copy] for copy in bare)

    def _prefer(self, heads: dict[int, Generation]) -> Generation:
        """Let a person prefer a copy; put aside every other one that is not on its line."""
        self.has_preferred = True
        chosen = heads[self.world.choose.choice(list(heads))]
        for copy, head in heads.items():
            covered = chosen.line.covers(chosen.number - 1, head.line, head.number)
            if head is not chosen and not covered:
                self.world.told.update(g.name for g in self.places[copy].sound().values())
                self.places[copy].slots.clear()
        self._find_evidence()
        return chosen

    def _find_evidence(self) -> None:
        """Find what is put aside before it is overwritten."""
        found = [
            generation.as_slot(copy, index, self.places[copy].changed[index])
            for copy in self.there
            for index, generation in self.places[copy].sound().items()
        ]
        self.world.told.update(slot.trailer.digest for slot in slots.strange(found) if slot.trailer)

    def _heal(self, *, older: bool = False) -> set[int]:
        """Write the survivor to each copy that lacks it; return the copies where that failed."""
        before = self.survivor
        if before is None:
            return set()
        home = self._home(before)
        wrong = [c for c in self.there if not self._holds(c, home, before)]
        failed = {copy for copy in wrong if not self._write(copy, home, before)}
        for index in range(self.world.keep) if older and wrong else ():
            held = [self.places[c].slots.get(index) for c in self.there]
            found = max((g for g in held if g), key=lambda g: g.number, default=None)
            for copy in self.there:
                if found and not self.places[copy].slots.get(index):
                    self._write(copy, index, found)
        return failed

    # --- committing

    def _commit(self) -> None:
        """Write the next generation to every copy that is there."""
        before = self.survivor
        unhealed = self._heal()
        absent = set(range(self.world.copies)) - set(self.there)
        line = self._line(before, "".join(LETTERS[c] for c in sorted(absent | unhealed)))
        victim = self._victim(before)
        self.number += 1
        name = f"{next(self.world.names):016}"
        ancestors = (before.ancestors if before else frozenset()) | {name}
        parent = before.name if before else trailer.NO_PARENT
        new = Generation(self.number, name, parent, line, ancestors)
        written = [copy for copy in self.there if self._write(copy, victim, new)]
        if not written:
            return
        self.world.returned.add(name)
        meant = [copy for copy in self.there if LETTERS[copy] not in line.without]
        self.continues = set(meant) <= set(written)
        self.survivor, self.is_own = new, True
        if line.branch == self.branch:
            self.branch = lineage.new_branch()
        if len(written) < len(self.there):
            for copy in self.there:
                self.places[copy].noted = new.number

    def _line(self, before: Generation | None, without: str) -> Line:
        if before is None:
            return Line(self.branch, without)
        confirmed = ""
        if self.is_own:
            left_out = before.line.without + without + self.fresh
            confirmed = "".join(c for c, _ in before.line.away if c not in left_out)
        as_before = self.continues and without == before.line.without
        line = self.world.following(
            before.line,
            before.number,
            branch=self.branch,
            goes_on=as_before and before.line.branch != lineage.NO_BRANCH,
            without=without,
            fresh="" if self.is_own else self.fresh,
            confirmed=confirmed,
        )
        return lineage.encode(line, 260).line

    def _victim(self, before: Generation | None) -> int:
        """Return the index to overwrite: a bad one, or an old one that is not the survivor's."""

        def cost(index: int) -> tuple[bool, int]:
            known = [self._trusted(copy, index) for copy in self.there]
            numbers = [g.number for g in known if g]
            return before in known and before is not None, max(numbers, default=0)

        indexes = [i for i in range(self.world.keep) if before is None or i != self._home(before)]
        return min(indexes, key=cost)

    def _home(self, wanted: Generation) -> int:
        held = [self.places[copy].slots for copy in self.there]
        return next(index for each in held for index, g in each.items() if g is wanted)

    def _trusted(self, copy: int, index: int) -> Generation | None:
        if (copy, index) in self.distrusted:
            return None
        return self.places[copy].slots.get(index)

    def _holds(self, copy: int, index: int, wanted: Generation) -> bool:
        return self._trusted(copy, index) is wanted

    def _write(self, copy: int, index: int, new: Generation) -> bool:
        """Write a generation to a slot; return False if that fails."""
        fate = self.world.choose.fate()
        if fate == "crash":
            raise KilledError
        place = self.places[copy]
        if fate != "fails":
            self._overwriting(place.slots.get(index), new)
            place.slots[index] = None if "torn" in fate else new
            place.changed[index] = next(self.world.clock)
        self.distrusted.add((copy, index))
        if fate == "torn, and crash":
            raise KilledError
        if fate == OK:
            self.distrusted.discard((copy, index))
        return fate == OK

    def _overwriting(self, old: Generation | None, new: Generation) -> None:
        """Count a generation that is lost, if nobody was told."""
        world = self.world
        if old and old.name in world.returned and old.name not in world.told:
            newest = self.survivor
            if not new.grew_from(old) and not (newest and newest.grew_from(old)):
                by_old = old.name in world.given_up
                world.counts["given up by 0.1" if by_old else "silent loss"] += 1

    def _close(self) -> None:
        """Note the newest generation, and whether the next session may continue its branch."""
        newest = self.survivor
        if newest is None:
            return
        home = self._home(newest)
        meant = [c for c in self.there if LETTERS[c] not in newest.line.without]
        is_settled = self.continues and all(self._holds(c, home, newest) for c in meant)
        for copy in self.there:
            self.places[copy].noted = max(newest.number, self.places[copy].noted)
            self.places[copy].settled = newest.name if is_settled else ""


@dataclass
class OldSession(Session):
    """A session of version 0.1: the highest number wins, and no lineage is written."""

    def _judge(self, heads: dict[int, Generation]) -> None:
        self.survivor = next(iter(heads.values()))
        self.number = self.survivor.number
        held = [g for copy in self.there for g in self.places[copy].sound().values()]
        self.world.given_up.update(g.name for g in held if not self.survivor.grew_from(g))

    def _commits(self) -> int:
        return self.world.choose.choice(COMMITS)

    def _line(self, before: Generation | None, without: str) -> Line:
        return lineage.NO_LINE

    def _overwriting(self, old: Generation | None, new: Generation) -> None:
        """Count nothing: what version 0.1 overwrites is not ours to save."""


def steps_of(
    choose: random.Random,
    copies: int,
    sessions: int,
    present: Present,
    events: Sequence[str] = ("open",),
    old: int = 0,
) -> list[tuple[set[int], str]]:
    """Return random steps: the disks that are there, and what happens.

    Every disk is there at first. The first `old` sessions are of version 0.1.
    """
    return [
        (
            present(choose, copies, number) if number else set(range(copies)),
            "0.1" if number < old else choose.choice(events) if number else "open",
        )
        for number in range(sessions)
    ]


def any_set(choose: random.Random, copies: int, _: int) -> set[int]:
    """Let any copies be there, at least one."""
    return set(choose.sample(range(copies), choose.randint(1, copies)))


def usb(choose: random.Random, copies: int, _: int) -> set[int]:
    """Let the first copy be there always, and all others now and then."""
    return set(range(copies)) if choose.random() < 0.3 else {0}


def away_for_a_week(_: random.Random, copies: int, number: int) -> set[int]:
    """Let one copy be away for seven days of ten restarts each, and come back."""
    return set(range(copies)) if number < 3 or number > 73 else set(range(copies - 1))


def campaign(
    histories: int,
    copies: int,
    keep: int,
    present: Present,
    sessions: int = 14,
    events: Sequence[str] = ("open",),
    old: int = 0,
    faults: float = AnyChoices.faults,
    **rules: Any,
) -> Counter[str]:
    """Play many random histories; return how many sessions ended how."""
    total: Counter[str] = Counter()
    for seed in range(histories):
        choose = AnyChoices(seed)
        choose.faults = faults
        steps = steps_of(choose, copies, sessions, present, events, old)
        counts = World(choose, copies, keep, **rules).run(steps)
        if counts["silent loss"] or counts["false alarm"]:
            counts[f"first bad seed {seed}"] = 1
        total += counts
    return total
