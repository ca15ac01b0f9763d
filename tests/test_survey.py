"""`survey`: slots are verified one by one or side by side, with the same result."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import redundict
from redundict.engine import survey
from redundict.engine.layout import Layout
from redundict.engine.slots import SlotState

from . import damage


@pytest.mark.damages
@pytest.mark.parametrize("large", [0, 10**9])
def test_slots_verified_side_by_side_are_what_they_are_one_by_one(
    path: str, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    """Each slot has its own state, in the order of the copies, however many threads looked."""
    monkeypatch.setattr(survey, "_LARGE", large)
    threads: set[int] = set()
    real = survey.verify

    def verify(slot: redundict.Slot) -> object:
        threads.add(threading.get_ident())
        return real(slot)

    monkeypatch.setattr(survey, "verify", verify)
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
    monkeypatch.setattr(survey, "_LARGE", 0)
    with redundict.open(path) as state:
        state["n"] = 1

    def newer(slot: redundict.Slot) -> object:
        raise redundict.NewerVersionError("newer", path=slot.path)

    monkeypatch.setattr(survey, "verify", newer)
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
