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

from . import ASKED_FOR, ROOT, inside
from .crash import remembering
from .disk import Image, SimulatedDisk

# A busy machine is no failure, so there is no deadline.
hypothesis.settings.register_profile("brief", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.load_profile("brief")

_SLOT = re.compile(r"(.+)\.[a-z]\d+")


def pytest_configure() -> None:
    """Refuse to test the checkout in place of the package that is installed."""
    is_checkout = Path(redundict.__file__).resolve().parent == ROOT / "redundict"
    if is_checkout and not ASKED_FOR:
        raise pytest.UsageError(
            f"redundict is imported from {redundict.__file__}, and is not installed: "
            "run pip install '.[test]'"
        )


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
def simulate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Image], SimulatedDisk]:
    """Return a function that puts a simulated disk with some files in place of the real one.

    Writers on such a disk, and the moments of their lives, are in `crash`.
    """

    def put_in_place(image: Image) -> SimulatedDisk:
        disk = SimulatedDisk(image)
        inside.use_disk(monkeypatch, disk)
        return disk

    return put_in_place


@pytest.fixture
def no_writer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let readers take a slot that is damaged for damaged at once, though it changed just now."""
    inside.no_patience(monkeypatch)


@pytest.fixture
def slots_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the two pure functions that judge a slot's bytes once for each of them."""
    inside.remember_what_was_judged(monkeypatch, remembering)


@pytest.fixture(autouse=True)
def in_another_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run each test in a folder of its own, so that its child processes do not find the checkout.

    `python -c` looks for modules in the folder that it is started in.
    """
    if "fs" not in request.fixturenames:  # pyfakefs has folders of its own
        monkeypatch.chdir(tmp_path)


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
