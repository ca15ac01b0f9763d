"""`survey`: slots are verified one by one or side by side, with the same result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import redundict
from redundict import Slot, SlotState

from . import damage, inside
from .inside import Layout, survey


@pytest.mark.damages
@pytest.mark.parametrize("large", [0, 10**9])
def test_slots_verified_side_by_side_are_what_they_are_one_by_one(
    path: str, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    """Each slot has its own state, in the order of the copies, however many threads looked."""
    inside.verify_side_by_side(monkeypatch, large)
    threads: set[int] = set()

    def verify(real: Callable[[Slot], object], slot: Slot) -> object:
        threads.add(threading.get_ident())
        return real(slot)

    inside.watch_verification(monkeypatch, verify)
    with redundict.open(path, keep=3) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    damage.flip(f"{path}.b1", 0)
    threads.clear()
    found = survey.survey_verified(Layout.of(path, 2, 3))
    assert [slot.name[-2:] for slot in found] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert [slot.state for slot in found].count(SlotState.VALID) == 5
    assert found[4].state is SlotState.DAMAGED
    assert (threading.get_ident() in threads) == (large > 0)


def test_an_error_of_one_slot_is_raised_from_many(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a verification raises in another thread reaches the caller."""
    inside.verify_side_by_side(monkeypatch, 0)
    with redundict.open(path) as state:
        state["n"] = 1

    def newer(_: object, slot: Slot) -> object:
        raise redundict.NewerVersionError("newer", path=slot.path)

    inside.watch_verification(monkeypatch, newer)
    with pytest.raises(redundict.NewerVersionError):
        survey.survey_verified(Layout.of(path, 2, 2))


@pytest.mark.damages
def test_the_names_of_other_stores_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of thousands of stores in one folder is checked without taking their names apart."""
    path = str(tmp_path / "state.json")
    with redundict.open(path) as state:
        state["n"] = 1
    for number in range(100):
        (tmp_path / f"other{number}.json.a0").touch()
    taken, real = [], Layout.parse

    def parse(layout: Layout, name: str) -> tuple[int, int] | None:
        taken.append(name)
        return real(layout, name)

    monkeypatch.setattr(Layout, "parse", parse)
    survey.survey(Layout.of(path, 2, 2))
    assert taken == ["state.json.lock"]
