"""The lineage: copies that part and meet, in a model whose truth is known, and its parts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from . import lineage_model as model
from .inside import Head, Line, Point, lineage

X, Y, Z = "aaaaaaaa", "bbbbbbbb", "cccccccc"


@pytest.mark.parametrize(("copies", "keep"), [(2, 2), (2, 4), (3, 2), (3, 4)])
@pytest.mark.parametrize("present", [model.any_set, model.usb])
def test_no_acknowledged_generation_is_overwritten_silently(
    copies: int, keep: int, present: Callable[[model.World, int], set[int]]
) -> None:
    """Whatever is away whenever, and wherever a crash falls."""
    counts = model.campaign(400, copies, keep, present)
    assert counts["silent loss"] == 0
    assert counts["opened"] > 1000


@pytest.mark.parametrize("copies", [2, 3])
def test_a_copy_that_was_away_for_a_week_is_no_alarm(copies: int) -> None:
    """Seventy restarts without a disk, then it is back: it is only behind."""
    counts = model.campaign(60, copies, 4, model.away_for_a_week, sessions=76)
    assert counts["false alarm"] == counts["silent loss"] == counts["diverged"] == 0


def test_every_short_history_of_two_copies_loses_nothing() -> None:
    """All sequences of which copies are there, six sessions long."""
    for sets in itertools.product([{0}, {1}, {0, 1}], repeat=6):
        world = model.World(random.Random(1), 2, 2, faults=0.0)
        counts = world.run(7, lambda _, number, sets=sets: set(sets[number - 1]))
        assert counts["silent loss"] == counts["false alarm"] == 0, sets


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
        ({"following": no_points}, model.away_for_a_week, 76, "false alarm"),
    ],
)
def test_the_model_sees_a_rule_that_is_too_weak(
    options: dict[str, Any],
    present: Callable[[model.World, int], set[int]],
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
