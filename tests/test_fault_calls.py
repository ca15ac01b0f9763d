"""Every call of the seam fails in turn, on copy A, on B, on both: nothing is lost, all is typed."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import durable, loading
from redundict.slots import Layout

from . import damage

FAULTS = {
    "open_read": [errno.EIO, errno.EACCES, errno.EMFILE, errno.EINTR],
    "open_write": [errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE],
    "create": [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE],
    "stat": [errno.EIO],
    "read": [errno.EIO, errno.EINTR],
    "write": [errno.ENOSPC, errno.EIO, errno.EINTR],
    "truncate": [errno.EIO, errno.EROFS],
    "chmod": [errno.EROFS, errno.EACCES],
    "sync_data": [errno.EIO, errno.ENOSPC],
    "sync_all": [errno.EIO, errno.ENOSPC],
    "sync_directory": [errno.EIO],
    "close": [errno.EIO, errno.ENOSPC],
    "rename": [errno.EIO, errno.ENOSPC, errno.EACCES],
    "names": [errno.EIO, errno.EACCES],
}
COPIES = {"A": (".a",), "B": (".b",), "both": (".a", ".b")}
ALWAYS = 10**9
SMALL, LARGE = 10, 20_000  # bytes: of another size class


@dataclass
class FaultyDisk(durable.Disk):
    """A real disk of which some calls fail: those of one method on some copies, from `first` on."""

    method: str
    number: int
    copies: tuple[str, ...]
    first: int
    times: int
    calls: int = 0
    handles: dict[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.calls >= self.first

    def fail(self, method: str, path: str) -> None:
        name = os.path.basename(path)
        of_copy = any(f"state.json{copy}" in name for copy in self.copies) or name == "folder"
        if method == self.method and of_copy:
            self.calls += 1
            if self.first <= self.calls < self.first + self.times:
                raise OSError(self.number, os.strerror(self.number), path)

    def open_read(self, path: str) -> int:
        self.fail("open_read", path)
        return self._opened(super().open_read(path), path)

    def open_write(self, path: str) -> int:
        self.fail("open_write", path)
        return self._opened(super().open_write(path), path)

    def create(self, path: str, mode: int) -> int:
        self.fail("create", path)
        return self._opened(super().create(path, mode), path)

    def stat(self, fd: int) -> durable.Stat:
        self.fail("stat", self.handles[fd])
        return super().stat(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self.fail("read", self.handles[fd])
        return super().read(fd, size, offset)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Take half of it, as a full disk does, before it refuses the rest."""
        if len(data) > 1:
            return super().write(fd, data[: len(data) // 2], offset)
        self.fail("write", self.handles[fd])
        return super().write(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self.fail("truncate", self.handles[fd])
        super().truncate(fd, size)

    def chmod(self, fd: int, mode: int) -> None:
        self.fail("chmod", self.handles[fd])
        super().chmod(fd, mode)

    def sync_data(self, fd: int) -> None:
        self.fail("sync_data", self.handles[fd])
        super().sync_data(fd)

    def sync_all(self, fd: int) -> None:
        self.fail("sync_all", self.handles[fd])
        super().sync_all(fd)

    def sync_directory(self, path: str) -> None:
        self.fail("sync_directory", path)
        super().sync_directory(path)

    def close(self, fd: int) -> None:
        """Close the descriptor whatever it says, as Linux does."""
        path = self.handles.pop(fd)
        super().close(fd)
        self.fail("close", path)

    def rename(self, old: str, new: str) -> None:
        self.fail("rename", old)
        super().rename(old, new)

    def names(self, directory: str) -> list[str]:
        self.fail("names", directory)
        return super().names(directory)

    def _opened(self, fd: int, path: str) -> int:
        self.handles[fd] = path
        return fd


def content(number: int, size: int = SMALL) -> dict[str, Any]:
    return {"number": number, "pad": "x" * size}


class Trial:
    """A store, what was tried to be saved in it, and what `sync` has returned for."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.path = str(folder / "state.json")
        self.options = options
        self.promised = 0
        self.tried: list[dict[str, Any]] = [{}]
        self.state: redundict.RedunDict | None = None

    def open(self) -> redundict.RedunDict:
        if self.state is None:
            self.state = redundict.open(self.path, **self.options)
            if self.state.recovery and self.state.recovery.newest_lost:
                self.promised = 0  # both copies are bad, and the program was told
        return self.state

    def save(self, size: int = SMALL) -> None:
        """Open if need be, change, sync."""
        number = len(self.tried)
        self.tried.append(content(number, size))
        state = self.open()
        state.update(content(number, size))
        state.sync()
        self.promised = number

    def save_again(self) -> None:
        """Save, now that the fault is gone."""
        if self.state and self.state.recovery and self.state.recovery.newest_lost:
            # What could not be read may be back, and must not be overwritten unseen.
            self.state.reload()
        self.save()

    def close(self) -> None:
        if self.state is not None:
            self.state.close()
            self.state = None

    def look(self) -> None:
        """What a reader loads was tried to be saved, and is no older than what was promised."""
        loaded = loading.load_locked(Layout.of(self.path, 2, 2))
        found = redundict.serializers.JsonFormat().decode(loaded.payload) if loaded.payload else {}
        assert max(n for n, tried in enumerate(self.tried) if tried == found) >= self.promised


Scenario = Callable[[Trial], None]


def first_save(trial: Trial) -> None:
    trial.save()


def second_save(trial: Trial) -> None:
    trial.save()


def same_size(trial: Trial) -> None:
    trial.save()
    trial.save()


def growing(trial: Trial) -> None:
    trial.save(LARGE)


def shrinking(trial: Trial) -> None:
    trial.save()


def healing(trial: Trial) -> None:
    trial.open()
    trial.save()


def rolling_back(trial: Trial) -> None:
    state = trial.open()
    trial.tried.append(trial.tried[-2])
    state.rollback()
    trial.promised = len(trial.tried) - 1
    trial.save()


def closing(trial: Trial) -> None:
    state = trial.open()
    number = len(trial.tried)
    trial.tried.append(content(number))
    state.update(content(number))
    trial.close()
    trial.promised = number


#: What happens under the fault; what the store is like before it; how it is opened.
SCENARIOS: list[tuple[Scenario, list[int], str, dict[str, Any]]] = [
    (first_save, [], "", {"mode": 0o600}),
    (second_save, [SMALL], "", {}),
    (same_size, [SMALL] * 3, "", {}),
    (growing, [SMALL] * 3, "", {"mode": 0o640}),
    (shrinking, [LARGE] * 3, "", {}),
    (healing, [SMALL] * 3, "a", {}),
    (healing, [SMALL] * 3, "b", {}),
    (rolling_back, [SMALL] * 3, "", {}),
    (closing, [SMALL] * 3, "", {}),
]


def prepared(folder: Path, sizes: list[int], rotten: str, options: dict[str, Any]) -> Trial:
    """Return a store with a history, its newest slot of one copy rotten, closed or open."""
    trial = Trial(folder, options)
    for size in sizes:
        trial.save(size)
    if rotten:
        trial.close()
        damage.flip(f"{trial.path}.{rotten}{(len(sizes) - 1) % 2}", 3)
    return trial


def under_fault(trial: Trial, scenario: Scenario, disk: FaultyDisk) -> None:
    """Let the scenario meet the fault; whatever is raised is typed and names the store."""
    real = durable.disk
    durable.disk = disk
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", redundict.RedundancyWarning)
            scenario(trial)
    except redundict.RedundictError as error:
        assert trial.path in str(error)
        assert isinstance(error.reason, str)
    finally:
        durable.disk = real
    assert not disk.handles, "a file handle leaks"


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", FAULTS)
@pytest.mark.parametrize(
    ("scenario", "sizes", "rotten", "options"),
    SCENARIOS,
    ids=[f"{scenario.__name__}{rotten}" for scenario, _, rotten, _ in SCENARIOS],
)
def test_a_call_that_fails_is_typed_and_costs_nothing(
    tmp_path: Path,
    method: str,
    scenario: Scenario,
    sizes: list[int],
    rotten: str,
    options: dict[str, Any],
) -> None:
    """The survivor loads, no handle leaks, and the next sync succeeds and leaves all healthy."""
    numbers = itertools.count()
    for number, copies in itertools.product(FAULTS[method], COPIES.values()):
        for first, times in [(1, ALWAYS), *((first, 1) for first in range(1, 100))]:
            disk = FaultyDisk(method, number, copies, first, times)
            folder = tmp_path / str(next(numbers)) / "folder"
            trial = prepared(folder, sizes, rotten, options)
            under_fault(trial, scenario, disk)
            trial.look()
            trial.save_again()
            trial.look()
            trial.close()
            report = redundict.check(trial.path)
            assert report.state is redundict.StoreState.HEALTHY
            assert redundict.load(trial.path) == trial.tried[-1]
            shutil.rmtree(folder)
            if times == 1 and not disk.failed:
                break
