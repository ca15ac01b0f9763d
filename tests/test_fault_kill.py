"""Writers that are killed in the middle of it; the long run is `scripts/kill.py`."""

from __future__ import annotations

import os

import kill
import pytest

import redundict

from . import damage


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_kill_at_any_moment_leaves_what_was_returned_or_one_more() -> None:
    """After each kill the store opens where it should, and one commit makes it healthy again."""
    counts = kill.run(120, seed=1)
    assert counts["kills"] == 120
    assert not any(counts[bad] for bad in kill.BAD)
    assert counts["caught in a commit"] > 0


def saved(path: str, numbers: int) -> None:
    with redundict.open(path) as state:
        for number in range(1, numbers + 1):
            state.clear()
            state.update(kill.content(number))
            state.sync()


@pytest.mark.parametrize(("returned", "fault"), [(4, ""), (3, ""), (5, "lost"), (2, "lost")])
def test_the_judge_sees_a_number_that_is_not_the_one(path: str, returned: int, fault: str) -> None:
    """What was returned or one more is right; less is lost, and two more cannot be."""
    saved(path, 4)
    assert kill.judge(path, 4, returned)[0] == fault


def test_the_judge_sees_content_that_is_not_the_number_s(path: str) -> None:
    """A generation with the content of another one is corrupt."""
    with redundict.open(path) as state:
        state.update(kill.content(7))
    assert kill.judge(path, 4, 1) == ("corrupt", 1)


@pytest.mark.damages
def test_a_torn_slot_is_seen_as_a_kill_in_a_commit(path: str) -> None:
    """What counts as caught is a store of which a slot is not as it should be."""
    assert not kill.is_marked(path)
    saved(path, 2)
    assert not kill.is_marked(path)
    damage.truncate(f"{path}.b1", 100)
    assert kill.is_marked(path)
