"""`history`: which generation is given up, and what that leaves after ten thousand commits."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

import redundict

from . import inside
from .inside import history

THINNED, give_up = history.THINNED, history.give_up

COMMITS = 10_000
MINUTE, HOUR = 60.0, 3600.0


def regular() -> list[float]:
    """Return the times of commits that come once a minute."""
    return [MINUTE * number for number in range(COMMITS)]


def bursty() -> list[float]:
    """Return the times of commits that come in bursts, a second apart, with hours in between."""
    rng = random.Random(1)
    pauses = (rng.random() * 10 * HOUR if rng.random() < 1 / 20 else 1.0 for _ in range(COMMITS))
    return list(itertools.accumulate(pauses))


def kept(times: list[float], keep: int, opened: int = 0) -> list[float]:
    """Return the ages, at the last commit, of what is kept; `opened` is kept as well."""
    held: dict[int, float] = {}
    for number, now in enumerate(times, 1):
        if len(held) == keep:
            ages = {number: now - then for number, then in held.items()}
            given_up = give_up(ages, {max(held), opened})
            assert given_up is not None
            del held[given_up]
        held[number] = now
    return [times[-1] - then for _, then in sorted(held.items(), reverse=True)]


@pytest.mark.parametrize(("keep", "factor"), [(8, 13.0), (16, 3.0)])
def test_ages_grow_by_a_bounded_factor_at_regular_times(keep: int, factor: float) -> None:
    """After ten thousand commits a minute apart, the whole week is spanned without a wide gap."""
    ages = kept(regular(), keep)
    assert ages[:2] == [0, MINUTE]
    assert ages[-1] == MINUTE * (COMMITS - 1)
    assert max(older / younger for younger, older in itertools.pairwise(ages[1:])) <= factor


def test_four_slots_keep_one_from_long_ago_and_one_in_between() -> None:
    """With the fewest slots: the newest, the one before, one in between, and the first of all."""
    ages = kept(regular(), 4)
    assert ages[:2] == [0, MINUTE]
    assert MINUTE < ages[2] < ages[3] == MINUTE * (COMMITS - 1)


@pytest.mark.parametrize("keep", [4, 8, 16])
@pytest.mark.parametrize("times", [regular, bursty])
def test_what_the_opening_started_from_always_stays(times: object, keep: int) -> None:
    """The last state that was good at start is there, however much is committed since."""
    when = times()  # type: ignore[operator]
    opened = COMMITS - 5_000
    ages = kept(when, keep, opened)
    assert when[-1] - when[opened - 1] in ages
    assert ages[:2] == [0, when[-1] - when[-2]]


@pytest.mark.parametrize("keep", [8, 16])
def test_bursts_leave_something_from_before_the_burst(keep: int) -> None:
    """However many commits a burst has, generations from before it stay, up to the oldest."""
    times = bursty()
    ages = kept([*times, *(times[-1] + HOUR + second for second in range(1000))], keep)

    assert sum(age > HOUR for age in ages) >= 4
    assert ages[-1] >= times[-1]


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    """Ages that are negative or go down count as those of the generations after them."""
    assert give_up({5: -10, 4: 100, 3: 20, 2: -5, 1: 1000}, {5}) in {2, 3, 4}


def test_where_all_are_pinned_none_is_given_up() -> None:
    """What always stays is never named; the oldest only if nothing else is left."""
    assert give_up({2: 1, 1: 2}, {1, 2}) is None
    assert give_up({3: 1, 2: 2, 1: 3}, {2, 3}) == 1


def test_a_store_keeps_what_is_spread_out(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`history="thinned"`: old generations stay, the last two and the one at opening among them."""
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    inside.set_clock(monkeypatch, lambda: clock[0])

    def commit(state: redundict.RedunDict, times: int) -> None:
        for _ in range(times):
            clock[0] += timedelta(minutes=1)
            state["n"] = state.get("n", 0) + 1
            state.sync()

    with redundict.open(path, keep=6, history=THINNED) as state:
        commit(state, 50)
    with redundict.open(path, keep=6, history=THINNED) as state:
        commit(state, 150)
        numbers = [generation.number for generation in state.generations()]
    assert numbers[:2] == [200, 199]
    assert {1, 50} <= set(numbers)
    assert len(numbers) == 6
    assert redundict.load(path, 50) == {"n": 50}


def test_a_rollback_from_outside_keeps_what_is_spread_out(path: str) -> None:
    """The slots say which history they are of, so the command line does not thin it otherwise."""
    with redundict.open(path, keep=4, history=THINNED) as state:
        for state["n"] in range(20):
            state.sync()
    for _ in range(5):
        redundict.rollback(path)
    assert [g.number for g in redundict.check(path).generations][-1] == 1


def test_slots_without_the_field_are_of_the_last_generations(path: str) -> None:
    """The field is only written where it says something."""
    with redundict.open(path, keep=2) as state:
        state["n"] = 1
    with open(f"{path}.a0", "rb") as slot:
        assert b" history=" not in slot.read()
    with redundict.open(path, keep=4, history=THINNED) as state:
        state["n"] = 2
    with open(f"{path}.a1", "rb") as slot:
        assert b" history=thinned branch=" in slot.read()


@pytest.mark.parametrize("options", [{"history": "thin"}, {"history": THINNED, "keep": 3}])
def test_a_history_that_cannot_be_is_refused(path: str, options: dict[str, object]) -> None:
    """An unknown word, or too few slots to spread anything, is an error before anything is made."""
    with pytest.raises(ValueError, match="history"):
        redundict.open(path, **options)  # type: ignore[arg-type]
    assert history.MIN_THINNED == 4
