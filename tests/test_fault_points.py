"""Hazard: an exception at any point where Python runs a signal handler.

The long run is `scripts/interrupts.py`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import interrupts
import pytest
from interrupts import AtPoint, AtTime, LimitError

import redundict

from . import inside

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """Put the handlers of signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGUSR1)}
    yield
    gc.collect()  # what a test left open, while warnings of it are ignored
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", interrupts.TRIALS)
def test_an_exception_at_a_sample_of_points_reaches_the_caller_and_costs_nothing(name: str) -> None:
    """Nothing is swallowed, hangs, is lost or leaks, and the next call works."""
    faults = list(interrupts.served(name, 0.02, 0))
    assert len(faults) >= 2 * len(interrupts.RAISED)  # each exception at several points
    assert not [fault for fault in faults if fault and not fault.startswith("in filelock")]


@pytest.mark.exhaustive
def test_real_timers_and_ctrl_c_cost_nothing() -> None:
    """Some seconds of timers, and some Ctrl-C around a block."""
    for what, amount in (("timers", 2.0), ("Ctrl-C", 100)):
        faults = list(interrupts.served(what, amount, 0))
        assert len(faults) > 20
        assert not [fault for fault in faults if fault and not fault.startswith("in filelock")]


@pytest.mark.parametrize("kind", interrupts.RAISED)
@pytest.mark.parametrize("number", [1, 50, 200])
def test_a_sync_that_is_interrupted_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], number: int
) -> None:
    """The exception reaches the caller, and the next sync saves."""
    inside.no_patience(monkeypatch)
    point = AtPoint(number, kind)
    assert not interrupts.go_on(str(tmp_path), interrupts.ACTS["sync"], kind, point)
    assert point.came


@pytest.mark.parametrize("kind", interrupts.HANDLED)
def test_a_timer_meets_the_call_or_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """Either way the exception reaches the caller."""
    inside.no_patience(monkeypatch)
    for number, seconds in enumerate((1e-6, 1e-4, 1e-3, 1e-2)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        timer = AtTime(seconds, kind)
        assert not interrupts.go_on(str(folder), interrupts.ACTS["sync"], kind, timer)
        assert timer.came


@pytest.mark.parametrize(
    ("call", "points"),
    [
        (lambda: None, 1),
        (lambda: len(""), 2),
        (lambda: [len(""), len("")], 3),
    ],
)
def test_the_points_are_the_beginnings_of_functions_and_the_ends_of_c_functions(
    call: Any, points: int
) -> None:
    """Beyond the last point, nothing is raised."""
    for number in range(1, points + 2):
        point = AtPoint(number, LimitError)
        error = interrupts.caught(call, point)
        assert point.came == (number <= points)
        assert type(error) is (LimitError if point.came else type(None))


def test_a_loop_that_calls_nothing_has_points() -> None:
    """Ctrl-C ends it."""
    code = compile("while True: pass", f"{os.sep}redundict{os.sep}loop.py", "exec")
    error = interrupts.caught(lambda: exec(code), AtPoint(99, KeyboardInterrupt))
    assert type(error) is KeyboardInterrupt


@pytest.mark.parametrize("kind", interrupts.RAISED)
def test_a_swallowed_exception_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """A library that catches everything is found out."""
    sync = redundict.RedunDict.sync

    def careless(state: redundict.RedunDict) -> int:
        try:
            return sync(state)
        except BaseException:  # noqa: BLE001 - on purpose
            return 0

    monkeypatch.setattr(redundict.RedunDict, "sync", careless)
    trial = interrupts.Act(lambda it: it.sync(), interrupts.SAVED)
    assert interrupts.go_on(str(tmp_path), trial, kind, AtPoint(99, kind)) == "swallowed"


def test_an_exception_that_becomes_another_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a library that raises its own error in its place."""
    sync = redundict.RedunDict.sync

    def careless(state: redundict.RedunDict) -> int:
        try:
            return sync(state)
        except LimitError:
            raise redundict.CommitError("it failed") from None

    monkeypatch.setattr(redundict.RedunDict, "sync", careless)
    trial = interrupts.Act(lambda it: it.sync(), interrupts.SAVED)
    found = interrupts.go_on(str(tmp_path), trial, LimitError, AtPoint(99, LimitError))
    assert found.startswith("replaced by CommitError")


def test_a_change_that_the_block_loses_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that does not save what was changed has lost it."""

    def careless(state: redundict.RedunDict, *_: object) -> None:
        state._release()

    monkeypatch.setattr(redundict.RedunDict, "__exit__", careless)
    monkeypatch.setattr(interrupts, "prepared", prepared)
    trial = interrupts.Act(lambda it: it.changed(), interrupts.SAVED)
    found = interrupts.leave(str(tmp_path), trial, LimitError, AtPoint(5, LimitError))
    assert found.startswith("lost: memory 3, disk 2")


def prepared(folder: str) -> str:
    path = os.path.join(folder, "state.json")
    state = redundict.open(path)
    for state["n"] in (1, 2):
        state.sync()
    state.close()
    return path


def test_a_leaked_descriptor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that leaves a descriptor open is found out."""
    kept = []
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # the trial sets its own

    def careless(*_: object) -> str:
        kept.append(open("/dev/null"))  # noqa: SIM115 - on purpose
        return ""

    trial = (careless, interrupts.ACTS["sync"])
    monkeypatch.setitem(interrupts.TRIALS, "careless", trial)
    assert interrupts.tried("careless", LimitError, interrupts.Never()).startswith("leaked")
    kept[0].close()
