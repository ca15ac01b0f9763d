"""`slots`: which generation survives, which slot is the victim, and what is wrong with the rest."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redundict import Fault, Slot, SlotState, StoreState

from .inside import LETTERS, Line, Point, Trailer, slots, trailer

VALID, CLAIMED, TORN = SlotState.VALID, SlotState.CLAIMED, SlotState.TORN
DAMAGED, MISSING, FOREIGN = SlotState.DAMAGED, SlotState.MISSING, SlotState.FOREIGN
HEALTHY, DEGRADED, DIVERGED = StoreState.HEALTHY, StoreState.DEGRADED, StoreState.DIVERGED
ROLLED_BACK, LOST = StoreState.ROLLED_BACK, StoreState.LOST
UNSOUND = {"?": TORN, "!": DAMAGED, "-": MISSING, "#": FOREIGN}


def claim(generation: int, keep: int = 2, fork: str = "") -> Trailer:
    """Return the trailer of a generation whose parent is the one before; a fork differs from it."""
    digest = f"{generation:x}{fork}".rjust(16, "0") * 4
    parent = f"{generation - 1:x}".rjust(16, "0") if generation > 1 else trailer.NO_PARENT
    return Trailer(
        generation,
        10,
        "json",
        datetime(2026, 1, 1, tzinfo=UTC),
        parent,
        2,
        keep,
        digest,
        unknown={},
    )


def store(*copies: str, keep: int = 2) -> list[Slot]:
    """Return a store's slots from one line per copy, `"1 2"`: what each slot holds.

    `?` torn, `!` damaged, `-` missing, `#` foreign; `!3` damaged with a trailer that claims
    generation 3; `3f` another generation 3 than `3`; `~3` claimed; `*3` of a copy that is not ours.
    `3/y<x1` is of branch y, which began after generation 1 of branch x; without a branch, version
    0.1 wrote it.
    """
    found = []
    for copy, line in enumerate(copies):
        for index, word in enumerate(line.split()):
            name = f"s.{LETTERS[copy]}{index}"
            found.append(_slot(word, copy, index, name, keep))
    return found


def _slot(word: str, copy: int, index: int, name: str, keep: int) -> Slot:
    sign, word = (word[0], word[1:]) if not word[0].isdigit() else ("", word)
    digits, _, branch = word.partition("/")
    trailer = claim(int(digits.rstrip("f")), keep, "f" * digits.endswith("f")) if digits else None
    if trailer and branch:
        own, _, fork = branch.partition("<")
        forks = (Point(fork[0] * 8, int(fork[1:])),) if fork else ()
        trailer = replace(trailer, line=Line(own * 8, forks=forks))
    if sign in UNSOUND:
        claimed = trailer.generation if trailer else 0
        return Slot(copy, index, name, UNSOUND[sign], reason=UNSOUND[sign].value, claimed=claimed)
    return Slot(copy, index, name, CLAIMED if sign == "~" else VALID, trailer, extra=sign == "*")


def survivor(found: list[Slot]) -> Slot | None:
    return next(iter(slots.by_claim(found)), None)


# -- the survivor


@pytest.mark.parametrize(
    ("copies", "order"),
    [
        (["1 2", "1 2"], "s.a1 s.b1 s.a0 s.b0"),
        (["2 1", "2 1"], "s.a0 s.b0 s.a1 s.b1"),
        (["~1 ~2", "~1 ~2"], "s.a1 s.b1 s.a0 s.b0"),
        (["1 1", "1 1"], "s.a0 s.a1 s.b0 s.b1"),
        (["1 2", "3 2"], "s.b0 s.a1 s.b1 s.a0"),
        (["9 10"], "s.a1 s.a0"),
        (["? !9", "- #"], ""),
        (["!3 2", "1 ?"], "s.a1 s.b0"),
        (["*3 2", "3 2"], "s.b0 s.a0 s.a1 s.b1"),
    ],
)
def test_the_newest_comes_first_and_copy_a_first_of_equals(copies: list[str], order: str) -> None:
    """One order for every reader: by number, then by copy; what is unsound is not tried."""
    assert [slot.name for slot in slots.by_claim(store(*copies))] == order.split()


@pytest.mark.parametrize(
    ("word", "sound", "generation"),
    [("3", True, 3), ("~3", True, 3), ("!3", False, 0), ("?", False, 0), ("#", False, 0)],
)
def test_a_damaged_trailer_claims_nothing(word: str, sound: bool, generation: int) -> None:
    """A number in a damaged trailer proves nothing."""
    (slot,) = store(word)
    assert (slot.sound, slot.generation) == (sound, generation)


def test_a_slot_says_which_it_is() -> None:
    """Its copy's letter, and its file's name without the folder."""
    slot = Slot(1, 10, os.path.join("folder", "s.b10"), MISSING)
    assert (slot.letter, slot.name) == ("b", "s.b10")


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("3 3", True),
        ("3 ~3", True),
        ("3 3f", False),
        ("3 2", False),
        ("!3 3", False),
        ("? ?", False),
    ],
)
def test_a_slot_holds_another_by_content(words: str, same: bool) -> None:
    """Equal digests, in a slot against which nothing is known."""
    one, other = store(words)
    assert one.holds(other) is same


@pytest.mark.parametrize(
    ("copies", "apart"),
    [
        (["1 2", "1 2"], []),
        (["1 2", "1 ?"], []),
        (["1 2", "2 1"], []),
        (["1 2", "1 !2f"], []),
        (["1 2", "- -"], []),
        (["1f 2", "1 2"], []),
        (["1 2", "1 2f"], ["s.b1"]),
        (["1 2", "2f 1"], ["s.b0"]),
        (["1 ~2", "1 ~2f"], ["s.b1"]),
        # With branches: a copy is only behind if the newest generation names its branch.
        (["1/x 2/x", "1/x ?"], []),
        (["3/y<x1 2/x", "- 1/x"], []),
        (["3/y<x2 2/x", "1/x 2/x"], []),
        (["3/y<x1 2/y<x1", "1/x 2f/x"], ["s.b1"]),
        (["3/y<x1 -", "2/z<x1 1/x"], ["s.b0"]),
        (["3/y<x1 -", "2/z<x1 -", "1/x -"], ["s.b0"]),
        (["4/z<y2 -", "2/y<x1 -", "1/x -"], []),
        (["2/y<x1 -", "3/z<x1 -", "*9/q -"], ["s.b0", "s.a0"]),
        (["2/x -", "1/x -", "*1/q -"], []),
    ],
)
def test_a_copy_that_is_not_on_the_line_has_parted(copies: list[str], apart: list[str]) -> None:
    """A copy is behind only if the newest generation grew from its head."""
    found = slots.parted(store(*copies))
    assert [slot.name for slot in (found or (None, []))[1]] == apart


@pytest.mark.parametrize(
    ("copies", "odd"),
    [
        (["1 2", "1 2"], []),
        (["1 2", "- -"], []),
        # One number, two contents: the parent of the newest generation is the right one.
        (["1f 2", "1 2"], ["s.a0"]),
        (["1 2", "1f 2"], ["s.b0"]),
        (["2 2f", "2 2"], ["s.a1"]),
        # By numbers, version 0.1 took this for an older state. Numbers prove nothing.
        (["3 2", "1 2"], []),
        (["5 4", "1 2"], ["s.b1", "s.b0"]),
        # An older file of another branch lies at an index of the line.
        (["4/x 3/x", "4/x 2/x"], []),
        (["4/x 3/x", "4/x 2f/q"], ["s.b1"]),
        # The slots of a copy that has parted are not overwritten anyway.
        (["3/y<x1 -", "2/z<x1 1/x"], []),
    ],
)
def test_what_the_newest_did_not_grow_from_is_put_aside_first(
    copies: list[str], odd: list[str]
) -> None:
    """A slot is overwritten at once only if its content is known to be superseded."""
    assert [slot.name for slot in slots.strange(store(*copies))] == odd


def test_a_file_in_the_place_of_the_parent_was_restored() -> None:
    """If the generation before the newest one is gone, a later file took its place."""
    found = store("1 3", "1 3")
    found = [replace(slot, changed=9 if slot.index == 0 else 5) for slot in found]
    assert [slot.name for slot in slots.strange(found)] == ["s.a0", "s.b0"]
    assert not slots.are_in_order(found)
    assert {flaw.fault for flaw in slots.flaws(found, found[1], 2)} == {Fault.DIVERGED}


# -- the victim


@pytest.mark.parametrize(
    ("copies", "keep", "victim"),
    [
        (["- -", "- -"], 2, 0),
        (["1 -", "1 -"], 2, 1),
        (["1 2", "1 2"], 2, 0),
        (["3 2", "3 2"], 2, 1),
        (["4 2 3", "4 2 3"], 3, 1),
        (["2 3 4", "2 3 4"], 3, 0),
        # An invalid one comes before any that verifies.
        (["? 2 3", "? 2 3"], 3, 0),
        (["1 ? 3", "1 ! 3"], 3, 1),
        (["1 - 3", "1 - 3"], 3, 1),
        (["1 !9 3", "1 !9 3"], 3, 1),
        # An index is as new as the best of its slots.
        (["? 2 3", "1 2 3"], 3, 0),
        (["1 ? 3", "1 ? 3"], 3, 1),
        (["? 2 4", "3 2 4"], 3, 1),
        # The survivor is in one copy only.
        (["1 2", "1 ?"], 2, 0),
        (["1 ?", "1 2"], 2, 0),
        (["? ?", "? 2"], 2, 0),
        # Files were swapped by hand: no index where any copy has the survivor, if it can be helped.
        (["2 3 1", "3 2 1"], 3, 2),
        (["1 2", "2 1"], 2, 0),
        (["2 1", "1 2"], 2, 1),
        (["3 3 2", "3 3 2"], 3, 2),
        # An index that cannot be written comes last.
        (["# 1 2", "# 1 2"], 3, 1),
        (["# 1 2", "? 1 2"], 3, 0),
        (["# 2", "# 2"], 2, 0),
        # Fewer are kept than there were: what lies beyond is left alone.
        (["1 2 3", "1 2 3"], 2, 0),
        (["2 1 3", "2 1 3"], 2, 1),
        (["2 3 1", "2 3 1"], 2, 0),
        # More are kept than there were.
        (["1 2", "1 2"], 3, 2),
        # A copy that is no longer ours is not looked at.
        (["1 2", "1 2", "*3"], 2, 1),
        (["1 2 4", "1 2 4", "*3"], 3, 0),
    ],
)
def test_the_victim_is_what_is_least_missed(copies: list[str], keep: int, victim: int) -> None:
    """An invalid slot if there is one, else the oldest generation; never where the survivor is."""
    found = store(*copies, keep=keep)
    assert slots.choose_victim(found, survivor(found), keep) == victim


WORDS = st.sampled_from(["1", "2", "3", "3f", "~2", "?", "!3", "-", "#"])


@given(
    st.integers(2, 4).flatmap(
        lambda n: st.lists(
            st.lists(WORDS, min_size=n, max_size=n).map(" ".join), min_size=1, max_size=3
        )
    ),
    st.integers(2, 5),
)
@example(["3 3", "3 3"], 2)
def test_no_victim_has_the_survivors_home(copies: list[str], keep: int) -> None:
    """Whatever is there, the index is one that is kept, and not where the survivor was found."""
    found = store(*copies, keep=keep)
    best = survivor(found)
    victim = slots.choose_victim(found, best, keep)
    assert victim in range(keep)
    assert best is None or victim != best.index
    free = [
        i for i in range(keep) if not any(s.index == i and best and s.holds(best) for s in found)
    ]
    assert victim in (free or range(keep))


# -- what is wrong


@pytest.mark.parametrize(
    ("copies", "keep", "state", "flaws"),
    [
        (["1 -", "1 -"], 2, HEALTHY, {}),
        (["1 2", "1 2"], 2, HEALTHY, {}),
        (["3 2", "3 2"], 2, HEALTHY, {}),
        (["1 2 -", "1 2 -"], 3, HEALTHY, {}),
        (["4 2 3", "4 2 3"], 3, HEALTHY, {}),
        (["9 8"], 2, HEALTHY, {}),
        # One copy of the newest is gone.
        (["1 2", "1 ?"], 2, DEGRADED, {"s.b1": "torn"}),
        (["1 !2", "1 2"], 2, DEGRADED, {"s.a1": "damaged"}),
        (["1 2", "1 -"], 2, DEGRADED, {"s.b1": "missing"}),
        (["1 2", "1 #"], 2, DEGRADED, {"s.b1": "foreign"}),
        (["3 2", "1 2"], 2, DEGRADED, {"s.b0": "holds generation 1, not 3"}),
        # A copy is gone altogether.
        (["3 2", "- -"], 2, DEGRADED, {"s.b0": "missing", "s.b1": "missing"}),
        # An older generation is gone; its trailer says that it was older.
        (["!1 2", "!1 2"], 2, DEGRADED, {"s.a0": "damaged", "s.b0": "damaged"}),
        # The newest may be gone.
        (["? 2", "? 2"], 2, ROLLED_BACK, {"s.a0": "torn", "s.b0": "torn"}),
        (["!3 2", "!3 2"], 2, ROLLED_BACK, {"s.a0": "damaged", "s.b0": "damaged"}),
        (["!3 2", "- 2"], 2, ROLLED_BACK, {"s.a0": "damaged", "s.b0": "missing"}),
        (["- 2", "- 2"], 2, ROLLED_BACK, {"s.a0": "missing", "s.b0": "missing"}),
        (["# 2", "# 2"], 2, ROLLED_BACK, {"s.a0": "foreign", "s.b0": "foreign"}),
        # ... also where its own parent is still there, with more than two kept.
        (["5 6 -", "5 6 -"], 3, ROLLED_BACK, {"s.a2": "missing", "s.b2": "missing"}),
        (["4 - 6", "4 - 6"], 3, ROLLED_BACK, {"s.a1": "missing", "s.b1": "missing"}),
        # Nothing loads.
        (["? ?", "? ?"], 2, LOST, None),
        (["- -", "- -"], 2, LOST, None),
        (["!2 #", "- ?"], 2, LOST, None),
        # Fewer are kept than there were: what is beyond and does not verify is not judged.
        (["4 5 !3", "4 5 -"], 2, HEALTHY, {}),
        # What lies in a copy that is no longer ours is not judged either.
        (["1 2", "1 2", "*1 *1"], 2, HEALTHY, {}),
        # The copies have parted.
        (["1 2", "1 2f"], 2, DIVERGED, None),
    ],
)
def test_a_store_is_judged_by_what_is_there(
    copies: list[str], keep: int, state: StoreState, flaws: dict[str, str] | None
) -> None:
    """Young stores are healthy; what is gone is told, and whether it may have been the newest."""
    found = store(*copies, keep=keep)
    best = survivor(found)
    assert slots.judge(found, best, keep) is state
    if best and flaws is not None:
        assert {f.slot.name: f.reason for f in slots.flaws(found, best, keep)} == flaws


def test_a_copy_that_has_parted_is_a_flaw() -> None:
    """The head of the copy that is not read is named, and nothing else of it."""
    found = store("1/x 2/x", "1f/y 2f/y")
    best = survivor(found)
    assert best
    (flaw,) = slots.flaws(found, best, 2)
    assert (flaw.slot.name, flaw.reason) == (
        "s.b1",
        "went on separately from s.a1, generation 2",
    )


def test_what_may_not_be_looked_at_may_be_the_newest() -> None:
    """An older generation does not pass for the newest while a slot cannot be read."""
    found = store("1 2", "1 2")
    found[0] = Slot(0, 0, "s.a0", FOREIGN, fault=Fault.DENIED, reason="may not be looked at")
    assert slots.judge(found, survivor(found), 2) is ROLLED_BACK


@pytest.mark.parametrize(
    ("copies", "homes"),
    [
        (["1 2", "1 2"], {0: "s.a0", 1: "s.a1"}),
        (["? 2", "1 2"], {0: "s.b0", 1: "s.a1"}),
        (["1 2", "3 2"], {0: "s.b0", 1: "s.a1"}),
        (["1 2", "2 1"], {0: "s.a0", 1: "s.a1"}),
        (["? ?", "? -"], {}),
        (["1 2", "1 2", "*3 -"], {0: "s.c0", 1: "s.a1"}),
    ],
)
def test_every_index_has_one_content_that_all_copies_should_hold(
    copies: list[str], homes: dict[int, str]
) -> None:
    """The newest that verifies there, read from the first copy that has it."""
    assert {i: slot.name for i, slot in slots.homes(store(*copies)).items()} == homes


def test_generations_are_listed_newest_first_with_their_slots() -> None:
    """What was only looked at does not count, and a fork is a generation of its own."""
    found = store("1 3 ~4", "1 3f ?", keep=3)
    listed = [(g.number, [s.name for s in g.slots]) for g in slots.generations(found)]
    assert listed == [(3, ["s.a1"]), (3, ["s.b1"]), (1, ["s.a0", "s.b0"])]
    (newest, *_) = slots.generations(found)
    assert (newest.length, newest.format, newest.written.year) == (10, "json", 2026)
    assert (newest.digest, newest.parent) == (claim(3).digest, claim(2).as_parent)
