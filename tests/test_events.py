"""What an application is told, so that it can tell its user."""

from __future__ import annotations

import errno
import gc
import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import redundict
from redundict import EventKind

from . import damage, inside

#: The calls that begin to write to a slot.
OPENS = ("open_write", "create")
COPY_B = tuple(f".b{index}" for index in range(4))


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
        redundict.open(path, keep=2, on_event=events.append) as state,
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
    redundict.open(path, keep=2, on_event=events.append).close()
    assert [event.kind for event in events] == [EventKind.RECOVERED]
    assert events[0].recovery is not None
    assert events[0].recovery.complete


def test_healed_damage_and_a_lost_copy_are_logged_as_warnings(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the log at the usual level learns that a disk is failing."""
    two_generations(path)
    damage.flip(f"{path}.a1", 3)
    with redundict.open(path, keep=2) as state:
        os.remove(f"{path}.b0")
        os.mkdir(f"{path}.b0")
        state["n"] = 3
        with pytest.warns(redundict.RedundancyWarning):
            state.sync()
        os.rmdir(f"{path}.b0")
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == [logging.WARNING] * 2
    assert "healed: state.json.a1" in told[0][1]
    assert "not in every copy" in told[1][1]


OPEN = """
import logging, os, redundict, sys, warnings
exec(sys.argv[2])
with redundict.open(sys.argv[1], keep=2) as state:
    print("opened", dict(state))
    os.remove(sys.argv[1] + ".b1")
    os.mkdir(sys.argv[1] + ".b1")
    state["n"] = 3
    try:
        state.sync()
    except redundict.RedundancyWarning:
        print("warned")
    os.rmdir(sys.argv[1] + ".b1")
"""
AS_LOGGED, AS_WARNED, AS_ERRORS = "logging.basicConfig()", "pass", "warnings.simplefilter('error')"


@pytest.mark.parametrize(
    ("first_line", "recovered", "degraded"),
    [(AS_WARNED, 1, 1), (AS_LOGGED, 2, 2), (AS_ERRORS, 1, 0)],
    ids=["plain", "logging", "errors"],
)
def test_a_program_without_logging_is_told_each_sentence_once(
    path: str, first_line: str, recovered: int, degraded: int
) -> None:
    """Without logging, only warnings print. One that became an error is raised, or else logged."""
    two_generations(path)
    for copy in "ab":
        damage.flip(f"{path}.{copy}1", 3)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, path, first_line],
        env=os.environ | {"PYTHONPATH": str(Path(redundict.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("opened {'n': 1}\n")
    assert ("warned" in done.stdout) == (first_line == AS_ERRORS)
    assert done.stderr.count("a newer one may have been lost") == recovered
    assert done.stderr.count("is durable, but not in every copy") == degraded
    redundict.repair(path)


def test_healed_damage_prints_nothing_where_logging_is_not_configured(path: str) -> None:
    """What was mended without a loss disturbs no output of a program that did not ask for it."""
    two_generations(path)
    damage.flip(f"{path}.a1", 3)
    done = subprocess.run(
        [sys.executable, "-c", "import redundict, sys; redundict.open(sys.argv[1]).close()", path],
        env=os.environ | {"PYTHONPATH": str(Path(redundict.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""


def test_lost_redundancy_is_an_event(path: str) -> None:
    """A copy that cannot be written is told with each commit that misses it."""
    events: list[redundict.Event] = []
    with redundict.open(path, keep=2, on_event=events.append) as state:
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

    with redundict.open(path, keep=2, on_event=wrong) as state:
        assert state == {"n": 2}
    assert "a mistake" in caplog.text


def test_a_healthy_store_tells_nothing(path: str) -> None:
    """No event, where nothing happened."""
    events: list[redundict.Event] = []
    for n in range(3):
        with redundict.open(path, keep=2, on_event=events.append) as state:
            state["n"] = n
    assert events == []


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_a_callback_may_use_the_store(path: str) -> None:
    """It is called when the commit is over, so it can change the state and save it."""
    answers: list[int] = []

    def note(event: redundict.Event) -> None:
        state["noted"] = str(event.kind)
        answers.extend([state.sync(), state.sync()])

    with redundict.open(path, keep=2, on_event=note) as state:
        state.sync()
        os.mkdir(f"{path}.b1")
        state["n"] = 1
        with pytest.warns(redundict.RedundancyWarning):
            assert state.sync() == 2
        os.rmdir(f"{path}.b1")
        assert answers == [3, 3]
        assert redundict.load(path) == {"n": 1, "noted": "degraded"}
        state["n"] = 2


def test_a_callback_that_commits_is_not_told_of_its_own_commits(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a copy that stays away, to be told, to save and to be told again would never end."""
    events: list[redundict.Event] = []

    def note(event: redundict.Event) -> None:
        events.append(event)
        state["noted"] = len(events)
        state.sync()

    with redundict.open(path, keep=2, on_event=note) as state:
        inside.fail_on(monkeypatch, OPENS, errno.ENOSPC, *COPY_B)
        for state["n"] in (1, 2):
            with pytest.warns(redundict.RedundancyWarning):
                state.sync()
        assert len(events) == 2
        monkeypatch.undo()
        state["n"] = 3
        state.sync()


@pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning")
def test_a_callback_in_the_background_never_meets_a_transaction_that_waits_for_it(
    path: str,
) -> None:
    """The callback wants the dict's lock, which a thread has that waits for the background."""
    called, entering = threading.Event(), threading.Event()

    def note(event: redundict.Event) -> None:
        called.set()
        entering.wait(0.2)
        with state.lock:
            state["noted"] = str(event.kind)

    state = redundict.open(path, keep=2, on_event=note)
    state.sync()
    os.mkdir(f"{path}.b1")
    state["n"] = 1
    future = state.sync_soon()
    assert called.wait(10)

    def use() -> None:
        with state.transaction():
            state["m"] = 1
        future.result()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    os.rmdir(f"{path}.b1")
    for state["n"] in (2, 3):
        state.sync()
    state.close()


def test_a_warning_that_is_an_error_does_not_end_the_background(path: str) -> None:
    """The generation is durable and its future says so; the next one is written as well."""
    events: list[redundict.Event] = []
    with redundict.open(path, keep=2, on_event=events.append) as state:
        state.sync()
        os.mkdir(f"{path}.b1")
        state["n"] = 1
        assert state.sync_soon().result(10) == 2
        os.rmdir(f"{path}.b1")
        state["n"] = 2
        assert state.sync_soon().result(10) == 3
    assert {event.kind for event in events} == {EventKind.DEGRADED, EventKind.FAILED}


def test_the_background_does_not_keep_alive_who_is_told(path: str) -> None:
    """An application that is told by a method of its own is dropped with its store, and closed."""

    class Application:
        def __init__(self) -> None:
            self.state = redundict.open(path, autosync=100, on_event=self.told)
            self.state.sync()

        def told(self, event: redundict.Event) -> None: ...

    Application()
    gc.collect()
    redundict.open(path, timeout=10).close()
