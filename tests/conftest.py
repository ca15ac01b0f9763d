"""What every test shares: a path for a store, and an integrity check of what it leaves behind."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import redundict

from . import inside
from .crash import remembering

hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is no failure
hypothesis.settings.register_profile("brief", deadline=None, max_examples=25)  # on a second Python
hypothesis.settings.load_profile("suite")

_SLOT = re.compile(r"(.+)\.[a-z]\d+")


def pytest_sessionstart() -> None:
    """Let Ctrl-C be heard, which tests send: what a shell runs in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare every collection of garbage the modules, which stay: many tests ask for one."""
    gc.collect()
    gc.freeze()


def stores_below(folder: str) -> set[str]:
    """Return the paths of the stores in a folder, however deep."""
    found = set()
    for parent, _, names in os.walk(folder):
        found |= {os.path.join(parent, m[1]) for name in names if (m := _SLOT.fullmatch(name))}
    return found


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a path for a store; nothing is there yet."""
    return str(tmp_path / "state.json")


@pytest.fixture
def writes_noted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Return what begins to note how many bytes each write to a disk has."""
    written: list[int] = []

    class Noting(inside.Disk):
        def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            written.append(len(data))
            return super().write(fd, data, offset)

    def begin() -> list[int]:
        inside.use_disk(monkeypatch, Noting())
        return written

    return begin


@pytest.fixture
def slots_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the two pure functions that judge a slot's bytes once for each of them."""
    inside.remember_what_was_judged(monkeypatch, remembering)


@pytest.fixture(autouse=True)
def every_store_left_behind_is_healthy(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[None]:
    """Check each store below `tmp_path` on teardown.

    A test marked `damages` leaves damage on purpose; even then a check raises typed errors only.
    """
    yield
    if "fs" in request.fixturenames:  # pyfakefs: the files are gone with its file system
        return
    for left in stores_below(str(tmp_path)):
        try:
            with pytest.MonkeyPatch.context() as patch:
                inside.no_patience(patch)  # no writer is at work any more
                report = redundict.check(left)
        except redundict.RedundictError:
            assert request.node.get_closest_marker("damages"), f"{left} cannot be checked"
            continue
        if not request.node.get_closest_marker("damages"):
            assert report.state is redundict.StoreState.HEALTHY, report
