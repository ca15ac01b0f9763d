"""What a call costs, in what is exact: Python calls, modules, frames above a flush."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import redundict

from . import inside

PACKAGE = os.path.dirname(redundict.__file__) + os.sep


def profiled(act: Callable[[], object]) -> Counter[str]:
    """Return how many functions of each module are called; of formats and the disk, none."""
    calls: Counter[str] = Counter()

    def profile(frame: object, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE):
            calls[file[len(PACKAGE) :]] += 1

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    left_out = [n for n in calls if n.startswith("formats" + os.sep) or n.endswith("disk.py")]
    return Counter({name: count for name, count in calls.items() if name not in left_out})


@pytest.fixture
def steady(request: pytest.FixtureRequest, path: str) -> Iterator[redundict.RedunDict]:
    """Return a store of 20 KB in the steady state; the parameter is how many generations stay."""
    with redundict.open(path, keep=request.param) as state:
        fill(state)
        yield state


def fill(state: redundict.RedunDict) -> None:
    state["records"] = [{"name": f"n{n}", "value": n, "share": n * 1.5} for n in range(500)]
    for state["n"] in range(8):
        state.sync()
    state["n"] = 8


@pytest.mark.parametrize(("steady", "limit"), [(2, 100), (4, 130)], indirect=["steady"])
def test_a_sync_takes_few_calls_through_few_modules(
    steady: redundict.RedunDict, limit: int
) -> None:
    """A steady sync can be read from top to bottom."""
    calls = profiled(steady.sync)
    assert sum(calls.values()) <= limit, calls
    assert len(calls) <= 10 + (limit > 100), calls


@pytest.mark.parametrize(("steady", "limit"), [(2, 220), (4, 250)], indirect=["steady"])
def test_an_opening_takes_few_calls_through_few_modules(
    steady: redundict.RedunDict, path: str, limit: int
) -> None:
    """To open a healthy store heals nothing and makes nothing that is not needed."""
    keep = 2 if limit == 220 else 4
    steady.close()
    redundict.open(path, keep=keep).close()
    opened = []
    calls = profiled(lambda: opened.append(redundict.open(path, keep=keep)))
    opened[0].close()
    assert sum(calls.values()) <= limit, calls
    assert len(calls) <= 14, calls


@pytest.mark.parametrize("steady", [2], indirect=True)
def test_a_flush_is_six_frames_below_sync(
    steady: redundict.RedunDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `sync` to the system call, a reader passes few functions."""
    between = []

    class Watched(inside.Disk):
        def sync_data(self, fd: object) -> None:
            frame, depth = sys._getframe(1), 0
            while frame.f_code.co_name != "sync" or "mapping" not in frame.f_code.co_filename:
                frame, depth = frame.f_back, depth + 1
            between.append(depth)
            super().sync_data(fd)

    inside.use_disk(monkeypatch, Watched())
    steady.sync()
    assert len(between) == 2
    assert max(between) <= 6
