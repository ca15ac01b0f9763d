"""Lineage: tell whether another copy is only older, or holds something else (law 6).

A *branch* is a run of generations that went to the same set of copies. Each generation carries a
`Line`: its branch, the copies that it was not written for, and the points at which earlier branches
ended. From the heads of all copies, `judge` finds the copies that are behind and those that have
parted. This module is pure. It must not know slots, files or trailers.

Invariant: a copy counts as behind only if its newest generation is an ancestor of the newest one,
or if version 0.1 wrote one of them, which named no branch. Such a copy is only *presumed* behind.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

NO_BRANCH: Final = "00000000"  #: The branch of every generation of version 0.1.
FORKS: Final = 6  #: Earlier branches that a line names.
_POINTS: Final = 3  #: Points that a line names for each copy that is away.
_BRANCH: Final = re.compile(r"[0-9a-f]{8}")
_WITHOUT: Final = re.compile(r"-|[a-z]{1,26}")
_POINT: Final = re.compile(r"(?:([a-z])/)?([0-9a-f]{8}):(0|[1-9][0-9]{0,17})")


def new_branch() -> str:
    """Return a name for a new branch. Of a billion names, two are hardly ever equal."""
    while (name := os.urandom(4).hex()) == NO_BRANCH:
        pass
    return name


class Point(NamedTuple):
    """A generation, by its branch and number."""

    branch: str
    number: int


@dataclass(frozen=True, slots=True)
class Line:
    """The lineage that a generation carries.

    Attributes:
        branch: The branch of the generation, 8 hex digits.
        without: The letters of the copies that it was not written for.
        forks: The last generations of the branches before it, the newest first.
        away: For a copy that is away, the points from which it can be recognised, by its letter:
            the generation at which it was last whole, the fork before that, and the first fork
            after it.

    """

    branch: str = NO_BRANCH
    without: str = ""
    forks: tuple[Point, ...] = ()
    away: tuple[tuple[str, Point], ...] = ()

    def covers(self, number: int, other: Line, others_number: int) -> bool:
        """Return True if a generation of another line is an ancestor of one of this line.

        Args:
            number: The number of the generation of this line.
            other: The line of the other generation.
            others_number: Its number.

        """
        if other.branch == self.branch:
            return others_number <= number
        if self.branch == NO_BRANCH:  # version 0.1 committed after this version
            return others_number < number
        points = [*self.forks, *(point for _, point in self.away)]
        return any(p.branch == other.branch and others_number <= p.number for p in points)


NO_LINE: Final = Line()


class Head(NamedTuple):
    """The newest generation of a copy."""

    number: int
    digest: str
    line: Line


class Judgement(NamedTuple, Generic[Key]):
    """What the heads of the copies say.

    Attributes:
        newest: The copy with the newest generation; among equals, the first one.
        presumed: The copies that are behind if version 0.1 is right, which proves nothing.
        parted: The copies that hold something else.

    """

    newest: Key
    presumed: frozenset[Key]
    parted: frozenset[Key]


def judge(heads: Mapping[Key, Head]) -> Judgement[Key]:
    """Compare the heads of all copies with the newest one.

    A copy that is behind vouches for the copies that its own head covers.

    Args:
        heads: The head of each copy that has one, in the order of the copies. At least one.

    """
    newest = max(heads, key=lambda copy: heads[copy].number)
    top = heads[newest]
    parted = {c for c, h in heads.items() if h.number == top.number and h.digest != top.digest}
    unproved = [copy for copy in heads if copy not in parted]
    proved: list[Key] = [newest]
    presumed: set[Key] = set()
    for vouching in proved:  # it grows
        for copy in [c for c in unproved if c not in proved]:
            ours, head = heads[vouching], heads[copy]
            is_other = ours.number == head.number and ours.digest != head.digest
            if not is_other and ours.line.covers(ours.number, head.line, head.number):
                proved.append(copy)
                by_name = NO_BRANCH not in (ours.line.branch, head.line.branch)
                if ours.digest != head.digest and (vouching in presumed or not by_name):
                    presumed.add(copy)
    return Judgement(
        newest, frozenset(presumed), frozenset([*parted, *unproved]).difference(proved)
    )


def following(
    before: Line,
    number: int,
    *,
    branch: str,
    goes_on: bool,
    without: str = "",
    fresh: str = "",
    confirmed: str = "",
) -> Line:
    """Return the line of the generation that follows another one.

    Args:
        before: The line of the survivor.
        number: The number of the survivor.
        branch: The name of a new branch, for the case that one begins.
        goes_on: True if the commit continues the survivor's branch.
        without: The letters of the copies that the generation is not written for.
        fresh: The letters of the copies that had no generation when the store was opened. A disk
            that was not mounted may come back in their place.
        confirmed: The letters of the copies that this process found whole again. Nothing has to be
            remembered for them.

    """
    away: dict[str, tuple[Point, ...]] = {}
    for letter, point in before.away:
        away[letter] = (*away.get(letter, ()), point)
    here = (Point(before.branch, number), *before.forks[:1])
    for letter in fresh:
        away[letter] = _unique(*away.get(letter, ()), *here)
    for letter in without:
        if letter not in away or letter not in before.without:
            away[letter] = _unique(*away.get(letter, ())[:1], *here)
        elif not goes_on:  # it may have got the survivor all the same
            away[letter] = _unique(*away[letter], here[0])
    for letter in confirmed:
        away.pop(letter, None)
    forks = before.forks if goes_on else (here[0], *before.forks)[:FORKS]
    points = tuple((letter, point) for letter in sorted(away) for point in away[letter])
    return Line(before.branch if goes_on else branch, without, forks, points)


def _unique(*points: Point) -> tuple[Point, ...]:
    return tuple(dict.fromkeys(points))[:_POINTS]


class Encoded(NamedTuple):
    """A line as the fields of a trailer, with a space before each, and the line that they name."""

    text: str
    line: Line


@functools.lru_cache(maxsize=16)  # most commits continue the line
def encode(line: Line, room: int) -> Encoded:
    """Return a line as the fields of a trailer; '' for `NO_LINE`.

    If there is not enough room, the oldest forks are left out first, and the points of absent
    copies last. That can cost a false alarm, never data.

    >>> forks, away = (Point("00c0ffee", 7),), (("b", Point("00c0ffee", 5)),)
    >>> encode(Line("1a2b3c4d", "b", forks, away), 99).text
    ' branch=1a2b3c4d without=b from=00c0ffee:7,b/00c0ffee:5'

    Args:
        line: The line.
        room: The number of bytes that the fields may take.

    """
    if line.branch == NO_BRANCH:
        return Encoded("", NO_LINE)
    forks = [f"{p.branch}:{p.number}" for p in line.forks]
    away = [f"{letter}/{p.branch}:{p.number}" for letter, p in line.away]
    while True:
        text = f" branch={line.branch} without={line.without or '-'}"
        if forks or away:
            text += f" from={','.join(forks + away)}"
        if len(text) <= room or not (forks or away):
            kept = replace(line, forks=line.forks[: len(forks)], away=line.away[: len(away)])
            return Encoded(text, kept)
        (forks or away).pop()


def decode(branch: str, without: str, points: str) -> Line:
    """Return the line that the fields of a trailer name.

    Args:
        branch: The value of the field ``branch``.
        without: The value of ``without``.
        points: The value of ``from``; '' if it is missing.

    Raises:
        ValueError: If a value is not well-formed.

    """
    found = [_POINT.fullmatch(point) for point in points.split(",")] if points else []
    if not _BRANCH.fullmatch(branch) or not _WITHOUT.fullmatch(without) or None in found:
        raise ValueError(f"the lineage is {branch!r} {without!r} {points!r}")
    named = [(m[1], Point(m[2], int(m[3]))) for m in found if m]
    return Line(
        branch,
        without.removeprefix("-"),
        tuple(point for letter, point in named if letter is None),
        tuple((letter, point) for letter, point in named if letter is not None),
    )
