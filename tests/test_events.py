"""What an application is told, so that it can tell its user."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta

import pytest

import redundict
from redundict import EventKind

from . import damage


def two_generations(path: str) -> None:
    with redundict.open(path) as state:
        for state["n"] in (1, 2):
            state.sync()


@pytest.mark.damages
def test_a_restored_state_is_an_event_that_says_from_when(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An application can say "your settings were restored from 10:42"."""
    two_generations(path)
    for copy in "ab":
        damage.flip(f"{path}.{copy}1", 3)
    events: list[redundict.Event] = []
    caplog.set_level(logging.INFO)
    with (
        pytest.warns(redundict.RedundancyWarning),
        redundict.open(path, on_event=events.append) as state,
    ):
        assert state == {"n": 1}
        (event,) = events
        assert (event.kind, event.path, event.error) == (EventKind.RECOVERED, path, None)
        assert event.recovery is state.recovery
        assert event.recovery is not None
        assert event.recovery.newest_lost
        assert event.recovery.written is not None
        assert timedelta(0) < datetime.now(UTC) - event.recovery.written < timedelta(minutes=1)
        assert "generation 1 was loaded" in event.message
        assert caplog.messages == [event.message]


def test_a_healed_copy_is_an_event_and_no_warning(path: str) -> None:
    """What was mended without a loss is told, and nobody is warned of it."""
    two_generations(path)
    damage.flip(f"{path}.a1", 3)
    events: list[redundict.Event] = []
    redundict.open(path, on_event=events.append).close()
    assert [event.kind for event in events] == [EventKind.RECOVERED]
    assert events[0].recovery is not None
    assert events[0].recovery.complete


def test_lost_redundancy_is_an_event(path: str) -> None:
    """A copy that cannot be written is told with each commit that misses it."""
    events: list[redundict.Event] = []
    with redundict.open(path, on_event=events.append) as state:
        state["n"] = 1
        state.sync()
        os.mkdir(f"{path}.b1")
        state["n"] = 2
        with pytest.warns(redundict.RedundancyWarning):
            state.sync()
        assert [event.kind for event in events] == [EventKind.DEGRADED]
        assert "b1" in events[0].message
        os.rmdir(f"{path}.b1")


def test_a_callback_that_raises_is_logged_and_costs_nothing(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in telling must not keep the store from being opened."""
    two_generations(path)
    damage.flip(f"{path}.a1", 3)

    def wrong(_: redundict.Event) -> None:
        raise KeyError("a mistake")

    with redundict.open(path, on_event=wrong) as state:
        assert state == {"n": 2}
    assert "a mistake" in caplog.text


def test_a_healthy_store_tells_nothing(path: str) -> None:
    """No event, where nothing happened."""
    events: list[redundict.Event] = []
    for n in range(3):
        with redundict.open(path, on_event=events.append) as state:
            state["n"] = n
    assert events == []
