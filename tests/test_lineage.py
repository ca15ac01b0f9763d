"""The lineage: copies that part and meet, in a model whose truth is known, and its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from . import lineage_model as model
from .inside import NO_LINE, Head, Line, Point, lineage, slots, trailer
from .lineage_model import FAULTS, HISTORIES

Record = Callable[[str, object], None]
X, Y, Z = "aaaaaaaa", "bbbbbbbb", "cccccccc"


NEW = ("open",) * 8
EVENTS: dict[str, tuple[tuple[str, ...], int]] = {
    "open": (NEW, 0),
    "anew, repair": ((*NEW, "anew", "begins"), 0),
    "clones": ((*NEW, "clone", "swap"), 0),
    "begun by 0.1": (NEW, 3),
    "0.1 in between": ((*NEW, "0.1"), 0),
    "all": ((*NEW, "anew", "begins", "clone", "swap", "0.1"), 2),
}  #: What may happen, and the first sessions that are of version 0.1.


@pytest.mark.parametrize("events", EVENTS)
@pytest.mark.parametrize(("copies", "keep"), [(2, 2), (2, 4), (3, 2), (3, 4)])
@pytest.mark.parametrize("present", [model.any_set, model.usb])
def test_no_acknowledged_generation_is_overwritten_silently(
    copies: int, keep: int, present: model.Present, events: str, record_property: Record
) -> None:
    """Whatever is away whenever, wherever a crash falls, and whoever else writes."""
    kinds, old = EVENTS[events]
    counts = model.campaign(HISTORIES, copies, keep, present, 14, kinds, old)
    assert counts["silent loss"] == 0, counts
    assert counts["opened"] > 6 * HISTORIES
    record_property("states", HISTORIES)


@pytest.mark.parametrize("events", ["open", "clones"])
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("present", [model.any_set, model.usb])
def test_an_alarm_is_always_true(copies: int, present: model.Present, events: str) -> None:
    """Unless version 0.1 wrote in between, or a repair wrote where a disk was not mounted."""
    counts = model.campaign(HISTORIES, copies, 2, present, 14, EVENTS[events][0])
    assert counts["false alarm"] == 0, counts
    assert counts["diverged"] > 0


@pytest.mark.parametrize("copies", [2, 3])
def test_a_copy_that_was_away_for_a_week_is_no_alarm(copies: int) -> None:
    """Seventy restarts without a disk, then it is back: it is only behind."""
    counts = model.campaign(HISTORIES, copies, 4, model.away_for_a_week, 76, faults=0)
    assert counts["false alarm"] == counts["silent loss"] == counts["diverged"] == 0
    counts = model.campaign(HISTORIES, copies, 4, model.away_for_a_week, 76, faults=0.1)
    assert counts["false alarm"] == counts["silent loss"] == 0, counts


@pytest.mark.exhaustive
@pytest.mark.parametrize("sessions", [3, 4])
def test_every_short_history_of_two_copies_loses_nothing(
    sessions: int, record_property: Record
) -> None:
    """Every order in which two disks come and go, and every write that may fail in it."""
    choices = model.EveryChoice(FAULTS if sessions == 3 else FAULTS - 1)
    there: list[set[int]] = [{0, 1}, {0}, {1}]
    counts: Counter[str] = Counter()
    while True:
        choices.restart()
        world = model.World(choices, 2, 2)
        steps = [({0, 1}, "open"), *((choices.choice(there), "open") for _ in range(sessions - 1))]
        counts += world.run(steps)
        counts["histories"] += 1
        if not choices.again():
            break
    assert counts["silent loss"] == counts["false alarm"] == 0
    assert counts["diverged"] > 0
    record_property("states", counts["histories"])


def numbers_only(heads: dict[int, Head]) -> object:
    """Take every lower number for an older state, as version 0.1 did."""
    judged = lineage.judge(heads)
    return judged._replace(parted=frozenset())


def never_a_new_branch(before: Line, number: int, **facts: Any) -> Line:
    """Go on with the branch even if a copy is away."""
    return replace(before, without=facts["without"])


def no_points(before: Line, number: int, **facts: Any) -> Line:
    """Remember nothing of copies that are away."""
    return replace(lineage.following(before, number, **facts), away=())


@pytest.mark.parametrize(
    ("options", "present", "sessions", "found"),
    [
        ({"judge": numbers_only}, model.any_set, 14, "silent loss"),
        ({"following": never_a_new_branch}, model.any_set, 14, "silent loss"),
        ({"following": no_points, "faults": 0.1}, model.away_for_a_week, 76, "false alarm"),
    ],
)
def test_the_model_sees_a_rule_that_is_too_weak(
    options: dict[str, Any],
    present: model.Present,
    sessions: int,
    found: str,
) -> None:
    """A check that cannot fail would prove nothing."""
    assert model.campaign(60, 2, 2, present, sessions, **options)[found] > 0


def test_a_copy_that_is_behind_vouches_for_others() -> None:
    """The newest line need not name a branch that another copy's head names."""
    heads = {
        0: Head(9, "d9", Line(Z, forks=(Point(Y, 7),))),
        1: Head(6, "d6", Line(Y, forks=(Point(X, 3),))),
        2: Head(3, "d3", Line(X)),
    }
    assert lineage.judge(heads).parted == frozenset()
    assert lineage.judge({k: v for k, v in heads.items() if k != 1}).parted == {2}


@pytest.mark.parametrize("number", [1, 7])
def test_one_number_with_two_contents_has_parted(number: int) -> None:
    """Equal branches prove nothing then."""
    heads = {0: Head(7, "d", Line(X)), 1: Head(number, "d", Line(X)), 2: Head(number, "e", Line(X))}
    assert (2 in lineage.judge(heads).parted) == (number == 7)


def test_a_line_is_written_and_read() -> None:
    """What a trailer names is what is read from it."""
    line = Line(X, "bc", (Point(Y, 10**18 - 1),), (("b", Point(Z, 3)), ("c", Point(Y, 1))))
    text = lineage.encode(line, 300).text
    fields = dict(word.split("=") for word in text.split())
    assert lineage.decode(fields["branch"], fields["without"], fields["from"]) == line


@pytest.mark.parametrize("room", [40, 60, 100, 150, 400])
def test_the_oldest_forks_are_dropped_first_and_absent_copies_last(room: int) -> None:
    """A full trailer can cost a false alarm, and never data."""
    forks = tuple(Point(f"{n:08x}", 10**17) for n in range(6))
    line = Line(X, "b", forks, (("b", Point(Y, 10**17)),))
    text, kept = lineage.encode(line, room)
    assert len(text) <= room
    assert kept.forks == forks[: len(kept.forks)]
    assert not kept.forks or kept.away == line.away


@pytest.mark.parametrize(
    ("branch", "without", "points"),
    [
        ("xyz", "-", ""),
        (X.upper(), "-", ""),
        (X, "", ""),
        (X, "B", ""),
        (X, "-", "nonsense"),
        (X, "-", f"{Y}:01"),
        (X, "-", f"{Y}:1,"),
        (X, "-", f"1/{Y}:1"),
    ],
)
def test_a_lineage_that_is_not_well_formed_is_refused(
    branch: str, without: str, points: str
) -> None:
    """A trailer is damaged if a field of it is."""
    with pytest.raises(ValueError, match="lineage"):
        lineage.decode(branch, without, points)


def grown(count: int, line: Line, parent: model.Generation | None = None) -> list[model.Generation]:
    """Return generations that grew from another one, the oldest first."""
    found: list[model.Generation] = []
    for _ in range(count):
        number, name = (parent.number, parent.name) if parent else (0, trailer.NO_PARENT)
        own = f"{line.branch}{number + 1:08}"
        parent = model.Generation(number + 1, own, name, line, frozenset())
        found.append(parent)
    return found


def test_what_version_01_left_of_a_parted_copy_is_put_aside() -> None:
    """It took the higher number for the newer state, and wrote over one slot of the other."""
    (root,) = grown(1, Line(X))
    ours, theirs = grown(3, Line(Y), root), grown(2, Line(Z), root)
    (newest,) = grown(1, NO_LINE, ours[-1])
    held = [newest, *ours], [newest, *theirs, ours[-1]]
    found = [g.as_slot(copy, i, 0) for copy in (0, 1) for i, g in enumerate(held[copy])]
    assert {slot.path for slot in slots.strange(found)} == {"s.b1", "s.b2"}


def test_a_copy_is_no_part_of_the_line_because_another_holds_a_remnant_of_it() -> None:
    """The remnant is not on the line itself."""
    parted = grown(4, Line(X))
    line = grown(6, NO_LINE)
    held = parted[1:], line[2:], [parted[2], parted[3], *line[4:]]
    found = [g.as_slot(copy, i, 0) for copy in range(3) for i, g in enumerate(held[copy])]
    assert {slot.path for slot in slots.strange(found)} == {"s.a0", "s.a1", "s.a2", "s.c0", "s.c1"}


def test_a_copy_that_was_written_against_expectation_is_recognised_later() -> None:
    """It could not be healed, got the generation all the same, and then its disk went away."""
    line, number = Line(X), 2
    line = lineage.following(line, number, branch=Y, goes_on=False, without="b")
    held = Head(3, "d3", line)
    for number in range(3, 12):
        branch = f"{number:08x}"
        line = lineage.following(line, number, branch=branch, goes_on=False, without="b")
    assert lineage.judge({0: Head(12, "d12", line), 1: held}).parted == frozenset()
