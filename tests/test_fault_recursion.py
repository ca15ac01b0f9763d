"""Hazard: the stack of Python is full at some call within a call."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import redundict

from . import inside

#: Frames that are left; a call needs fewer than the last.
HEADROOM = range(1, 60)


def nearly_full(left: int, function: Callable[[], object]) -> bool:
    """Call a function where so many frames are left; return False if that was too few."""
    depth, frame = 0, sys._getframe()
    while frame.f_back:
        depth, frame = depth + 1, frame.f_back

    def go_down(frames: int) -> None:
        if frames:
            go_down(frames - 1)
        else:
            function()

    try:
        [].pop()
    except IndexError:  # an application calls from an `except` clause, too
        return _ends_well(lambda: go_down(sys.getrecursionlimit() - depth - left - 4))


def _ends_well(call: Callable[[], object]) -> bool:
    try:
        call()
    except RecursionError:
        return False
    except redundict.UnstorableError as error:
        assert "nested too deep for this call" in str(error)  # noqa: PT017 - one of two ends
        return False
    return True


def in_a_transaction(state: Any) -> None:
    with state.transaction():
        state["inside"] = state["n"]


CALLS: dict[str, Callable[[Any], object]] = {
    "sync": lambda state: state.sync(),
    "sync_soon": lambda state: state.sync_soon().result(10),
    "reload": lambda state: state.reload(),
    "rollback": lambda state: state.rollback(),
    "modify": lambda state: state.modify(lambda it: it.update(n=it["n"] + 1)),
    "transaction": in_a_transaction,
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_full_stack_anywhere_in_a_call_leaves_the_store_usable(
    path: str, monkeypatch: pytest.MonkeyPatch, call: str, shared: bool
) -> None:
    """The error reaches the caller; then the next sync saves, and memory and disk agree."""
    inside.use_disk(monkeypatch, inside.QuickDisk())
    done = []
    with redundict.open(path, shared=shared, timeout=1) as state:
        for state["n"] in (-2, -1):
            state.sync()
        for left in HEADROOM:
            state["n"] = left
            done.append(nearly_full(left, lambda: CALLS[call](state)))
            assert type(state) is redundict.RedunDict
            state["next"] = left
            state.sync()
            assert redundict.load(path) == state
            with redundict.open(path, "r") as reader:
                assert reader == state
    assert done[-1]
    assert not done[0]
    redundict.open(path).close()


def test_a_full_stack_anywhere_in_an_opening_leaves_the_store_free(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock is left behind, and the next opening works."""
    inside.use_disk(monkeypatch, inside.QuickDisk())
    done = []
    for left in HEADROOM:
        done.append(nearly_full(left, lambda: redundict.open(path).close()))
        with redundict.open(path) as state:
            state["n"] = left
    assert done[-1]
    assert not done[0]


def test_a_full_stack_anywhere_in_a_close_leaves_it_to_be_closed_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was changed is saved by the second call at the latest, and the lock is free."""
    inside.use_disk(monkeypatch, inside.QuickDisk())
    for left in HEADROOM:
        state = redundict.open(path)
        state["n"] = left
        nearly_full(left, state.close)
        with contextlib.suppress(redundict.ClosedError):
            state.close()
        assert redundict.load(path) == {"n": left}
        redundict.open(path).close()
