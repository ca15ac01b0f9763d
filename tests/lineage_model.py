"""A model of the lineage: random histories of copies that come and go, against the true tree.

Each copy is away for any run of sessions. A crash may fall between the copies of one commit, and a
write may fail. The writer of the model decides with the code of the package. The truth is the set
of ancestors of each generation, which no writer sees.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .inside import Head, Line, lineage

LETTERS = "abc"
Following = Callable[..., Line]


@dataclass(frozen=True)
class Generation:
    """A generation, and what is true of it."""

    number: int
    name: str  #: Unique; it stands for the digest.
    line: Line
    ancestors: frozenset[str]

    def grew_from(self, other: Generation) -> bool:
        return other.name in self.ancestors


@dataclass
class World:
    """The copies of one store, and what happened to them."""

    rng: random.Random
    copies: int
    keep: int
    faults: float = 0.04
    following: Following = lineage.following
    judge: Callable[..., object] = lineage.judge
    disks: list[dict[int, Generation]] = field(default_factory=list)
    returned: set[str] = field(default_factory=set)  #: Names of acknowledged generations.
    note: str = ""  #: The generation that the lock note names.
    names: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, sessions: int, present: Callable[[World, int], set[int]]) -> Counter[str]:
        """Play sessions; return how many ended how."""
        self.disks = [{} for _ in range(self.copies)]
        for number in range(sessions):
            there = set(range(self.copies)) if number == 0 else present(self, number)
            Session(self, there).play()
            if self.counts["silent loss"]:
                break
        return self.counts

    def heads(self, there: set[int]) -> dict[int, Generation]:
        """Return the newest generation of each copy, the newest of all first."""
        found = {
            c: max(self.disks[c].values(), key=lambda g: g.number) for c in there if self.disks[c]
        }
        return dict(sorted(found.items(), key=lambda item: (-item[1].number, item[0])))


@dataclass
class Session:
    """One opening of the store for writing."""

    world: World
    there: set[int]
    survivor: Generation | None = None
    is_own: bool = False
    continues: bool = False
    fresh: str = ""

    def play(self) -> None:
        if not self._open():
            return
        for _ in range(self.world.rng.choice((0, 1, 1, 2, 3))):
            if not self._commit():
                return
        self.world.note = self.survivor.name if self.survivor else ""

    def _open(self) -> bool:
        """Judge the copies and heal them. Return False if the store cannot be opened."""
        world = self.world
        heads = world.heads(self.there)
        note, world.note = world.note, ""
        if not heads:  # every copy that has the store is away
            return not any(world.disks)
        judged = world.judge({c: Head(g.number, g.name, g.line) for c, g in heads.items()})
        self.survivor = newest = heads[judged.newest]  # type: ignore[attr-defined]
        others = [g for g in heads.values() if not newest.grew_from(g)]
        if judged.parted:  # type: ignore[attr-defined]
            world.counts["diverged" if others else "false alarm"] += 1
            for copy in judged.parted:  # type: ignore[attr-defined]
                world.disks[copy].clear()  # a person prefers the newest, and the rest is put aside
        elif any(g.name in world.returned for g in others):
            world.counts["silent loss"] += 1
            return False
        else:
            same = {g.name for g in heads.values()} == {newest.name}
            self.continues = note == newest.name and same and len(heads) == len(self.there)
            world.counts["opened"] += 1
        self.fresh = "".join(LETTERS[c] for c in sorted(self.there) if not world.disks[c])
        index = next(i for i, g in world.disks[judged.newest].items() if g is newest)  # type: ignore[attr-defined]
        for copy in self.there:
            world.disks[copy][index] = newest
        return True

    def _commit(self) -> bool:
        """Write the next generation. Return False if the process is killed in between."""
        world, before = self.world, self.survivor
        world.names += 1
        name = str(world.names)
        new = Generation(
            before.number + 1 if before else 1,
            name,
            self._line(before),
            (before.ancestors if before else frozenset()) | {name},
        )
        victim = self._victim(before)
        for copy in sorted(self.there):
            if world.rng.random() < world.faults:
                return False
            world.disks[copy][victim] = new
        world.returned.add(name)
        self.survivor, self.is_own, self.continues = new, True, True
        return True

    def _line(self, before: Generation | None) -> Line:
        absent = set(range(self.world.copies)) - self.there
        without = "".join(LETTERS[copy] for copy in sorted(absent))
        if before is None:
            return Line(lineage.new_branch(), without)
        confirmed = ""
        if self.is_own:
            left_out = before.line.without + without + self.fresh
            confirmed = "".join(c for c, _ in before.line.away if c not in left_out)
        line = self.world.following(
            before.line,
            before.number,
            branch=lineage.new_branch(),
            goes_on=self.continues and without == before.line.without,
            without=without,
            fresh="" if self.is_own else self.fresh,
            confirmed=confirmed,
        )
        return lineage.encode(line, 260).line

    def _victim(self, before: Generation | None) -> int:
        def newest(index: int) -> int:
            held = [
                self.world.disks[c][index].number
                for c in self.there
                if index in self.world.disks[c]
            ]
            return max(held, default=0)

        free = [
            index
            for index in range(self.world.keep)
            if not any(self.world.disks[c].get(index) is before and before for c in self.there)
        ]
        return min(free, key=newest)


def any_set(world: World, _: int) -> set[int]:
    """Let any copies be there, at least one."""
    return set(world.rng.sample(range(world.copies), world.rng.randint(1, world.copies)))


def usb(world: World, _: int) -> set[int]:
    """Let the first copy be there always, and all others now and then."""
    return set(range(world.copies)) if world.rng.random() < 0.3 else {0}


def away_for_a_week(world: World, number: int) -> set[int]:
    """Let one copy be away for seven days of ten restarts each, and come back."""
    return set(range(world.copies)) if number < 3 or number > 73 else set(range(world.copies - 1))


def campaign(
    histories: int,
    copies: int,
    keep: int,
    present: Callable[[World, int], set[int]],
    sessions: int = 14,
    first_seed: int = 0,
    **options: object,
) -> Counter[str]:
    """Play many histories; return how many sessions ended how."""
    total: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + histories):
        world = World(random.Random(seed), copies, keep, **options)  # type: ignore[arg-type]
        total += world.run(sessions, present)
    return total
