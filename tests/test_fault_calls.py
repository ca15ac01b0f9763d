"""Every call of the seam fails in turn, on copy A, on B, on both: nothing is lost, all is typed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bitrot
import block_log
import powercut
import pytest

import redundict

from . import damage, inside
from .conftest import stores_below
from .inside import QuickDisk

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
class FaultyDisk(QuickDisk):
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

    def stat(self, fd: int) -> inside.Stat:
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
            self.state = redundict.open(self.path, **self.options, keep=2)
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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", redundict.RedundancyWarning)
                try:
                    self.state.reload()
                except redundict.DivergedError as error:  # what is back went on separately
                    self.close()
                    redundict.repair(self.path, prefer=next(iter(error.copies)))
        self.save()

    def close(self) -> None:
        if self.state is not None:
            self.state.close()
            self.state = None

    def look(self) -> None:
        """What a reader loads was tried to be saved, and is no older than what was promised."""
        found = inside.decode(inside.load(self.path).payload)
        assert max(n for n, tried in enumerate(self.tried) if tried == found) >= self.promised


@dataclass(frozen=True)
class Scenario:
    """What happens under a fault, and the store to which it happens."""

    act: Callable[[Trial], None]
    sizes: tuple[int, ...] = (SMALL, SMALL, SMALL)  #: What was saved before.
    rotten: str = ""  #: The copy whose newest slot is damaged.
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.act.__name__}_{self.rotten}" if self.rotten else self.act.__name__

    def prepared(self, folder: Path) -> Trial:
        """Return the store; closed if it was damaged."""
        trial = Trial(folder, self.options)
        for size in self.sizes:
            trial.save(size)
        if self.rotten:
            trial.close()
            damage.flip(f"{trial.path}.{self.rotten}{(len(self.sizes) - 1) % 2}", 3)
        return trial


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


SCENARIOS = [
    Scenario(first_save, (), options={"mode": 0o666}),
    Scenario(second_save, (SMALL,)),
    Scenario(same_size),
    Scenario(growing, options={"mode": 0o606}),
    Scenario(shrinking, (LARGE, LARGE, LARGE)),
    Scenario(healing, rotten="a"),
    Scenario(healing, rotten="b"),
    Scenario(rolling_back),
    Scenario(closing),
]


def under_fault(trial: Trial, scenario: Scenario, disk: FaultyDisk) -> None:
    """Let the scenario meet the fault; whatever is raised is typed and names the store."""
    raised: redundict.RedundictError | None = None
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", redundict.RedundancyWarning)
        inside.use_disk(patch, disk)
        try:
            scenario.act(trial)
        except redundict.RedundictError as error:
            raised = error
    assert raised is None or trial.path in str(raised)
    assert not disk.handles, "a file handle leaks"


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_a_call_that_fails_is_typed_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, scenario: Scenario
) -> None:
    """The survivor loads, no handle leaks, and the next sync succeeds and leaves all healthy."""
    inside.use_disk(monkeypatch, QuickDisk())
    for disk in faulty_disks(method):
        trial = scenario.prepared(tmp_path / "folder")
        under_fault(trial, scenario, disk)
        trial.look()
        trial.save_again()
        trial.look()
        trial.close()
        assert redundict.check(trial.path).state is redundict.StoreState.HEALTHY
        assert redundict.load(trial.path) == trial.tried[-1]
        shutil.rmtree(tmp_path / "folder")


def faulty_disks(method: str) -> Iterator[FaultyDisk]:
    """Yield disks on which all calls fail, with each error; and on which each call fails once."""
    for copies in COPIES.values():
        for number in FAULTS[method]:
            yield FaultyDisk(method, number, copies, 1, ALWAYS)
        for first in itertools.count(1):
            disk = FaultyDisk(method, FAULTS[method][0], copies, first, 1)
            yield disk
            if not disk.failed:
                break


@pytest.mark.parametrize("method", FAULTS)
def test_every_call_is_made_by_some_scenario(tmp_path: Path, method: str) -> None:
    """No fault of the table is one that never happens."""
    made = 0
    for number, scenario in enumerate(SCENARIOS):
        disk = FaultyDisk(method, 0, COPIES["both"], ALWAYS, 0)
        trial = scenario.prepared(tmp_path / str(number) / "folder")
        under_fault(trial, scenario, disk)
        made += disk.calls
        trial.close()
    assert made > 0


def test_what_could_not_be_read_is_not_overwritten_unseen(path: str) -> None:
    """A newest generation that comes back after it was taken for lost is a conflict, no victim."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    damage.flip(f"{path}.a0", 3)
    disk = FaultyDisk("read", errno.EIO, COPIES["B"], 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        inside.use_disk(patch, disk)
        with pytest.warns(redundict.RedundancyWarning, match="rolled back"):
            state = redundict.open(path, keep=2)
    assert state == {"n": 2}
    state["n"] = 4
    with pytest.raises(redundict.ConflictError):
        state.sync()
    assert state.reload() == 3
    assert state == {"n": 3}
    state.close()


def test_numbers_skip_what_may_come_back(path: str) -> None:
    """If the newest generation cannot be read, its number is not reused, and it is not lost."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    damage.flip(f"{path}.b0", 3)
    disk = FaultyDisk("open_read", errno.EACCES, COPIES["A"], 1, ALWAYS)
    with pytest.MonkeyPatch.context() as patch:
        inside.use_disk(patch, disk)
        with pytest.warns(redundict.RedundancyWarning), redundict.open(path, keep=2) as state:
            state["n"] = 4
            assert state.sync() > 3
    with pytest.warns(redundict.RedundancyWarning, match="went on separately"):
        assert redundict.load(path) == {"n": 4}
    with pytest.raises(redundict.DivergedError):
        redundict.open(path, keep=2)
    redundict.repair(path, prefer="a")
    assert redundict.load(path) == {"n": 3}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of an ext4 of 8 MiB, on a loop device."""
    if why := powercut.unavailable():
        pytest.skip(why)
    image, point = tmp_path / "image", tmp_path / "point"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    block_log.run("mkfs.ext4", "-q", "-F", str(image))
    point.mkdir()
    with powercut.mounted(str(image), str(point)):
        yield point
        for left in stores_below(str(point)):
            assert redundict.check(left).state is redundict.StoreState.HEALTHY


def test_a_commit_that_fits_its_slot_succeeds_on_a_full_ext4(small_disk: Path) -> None:
    """With not one block free, what fits is committed, and what does not leaves what there was."""
    path, filler = str(small_disk / "state.json"), str(small_disk / "filler")
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        bitrot.fill(filler)
        assert os.statvfs(small_disk).f_bavail == 0
        for state["n"] in (3, 4, 5):
            state.sync()
        state["pad"] = "x" * LARGE
        with pytest.raises(redundict.CommitError, match="No space left") as caught:
            state.sync()
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.path == path
        assert redundict.load(path) == {"n": 5}
        del state["pad"]
        state["n"] = 6
        state.sync()
        assert redundict.load(path) == {"n": 6}
        os.remove(filler)
        state["pad"] = "x" * LARGE
        state.sync()
    assert redundict.load(path) == {"n": 6, "pad": "x" * LARGE}


def test_a_store_is_opened_and_read_on_a_full_ext4(small_disk: Path) -> None:
    """Neither the lock nor its note need a free block, nor does rolling back."""
    path = str(small_disk / "state.json")
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
    bitrot.fill(str(small_disk / "filler"))
    with redundict.open(path, keep=2) as state:
        assert state == {"n": 2}
        state.rollback()
    assert redundict.load(path) == {"n": 1}


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_an_error_and_no_older_state(
    path: str, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The newest generation may lie in a slot that only the list of the folder shows."""

    class Unlisted(inside.Disk):
        def names(self, directory: str) -> list[str]:
            raise OSError(error, os.strerror(error), directory)

    with redundict.open(path, keep=4) as state:
        for state["n"] in range(1, 7):
            state.sync()
    for read in (redundict.load, redundict.check, redundict.open, redundict.repair):
        with monkeypatch.context() as patch, pytest.raises(redundict.StorageError):
            inside.use_disk(patch, Unlisted())
            read(path)
    assert redundict.load(path) == {"n": 6}


@pytest.mark.parametrize(
    "error", [errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM]
)
@pytest.mark.parametrize("broken", ["one", "two"])
def test_a_folder_that_cannot_be_listed_for_a_moment_hides_no_newer_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: int
) -> None:
    """Every folder counts: the newest generation may be in the one that fails."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    path = str(folders[0] / "state.json")
    failing: list[str] = []

    class Unlisted(inside.Disk):
        def names(self, directory: str) -> list[str]:
            if directory in failing:
                raise OSError(error, os.strerror(error), directory)
            return super().names(directory)

    with redundict.open(path, keep=4, copies=folders) as state:
        for state["n"] in range(1, 7):
            state.sync()
    inside.use_disk(monkeypatch, Unlisted())
    for read in (redundict.load, redundict.check, redundict.open, redundict.repair):
        failing.append(str(tmp_path / broken))
        with pytest.raises(redundict.StorageError, match="cannot be listed") as caught:
            read(path, copies=folders)
        assert str(tmp_path / broken) in str(caught.value)
        failing.clear()
    with redundict.open(path, copies=folders) as state:
        assert (state, state.recovery) == ({"n": 6}, None)
    shutil.rmtree(folders[1])  # each folder alone is half a store
    shutil.rmtree(folders[0])


def test_a_folder_that_does_not_exist_is_not_listed_and_is_no_error(tmp_path: Path) -> None:
    """A copy on a disk that is not mounted stops no reader of the other copy."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    path = str(folders[0] / "state.json")
    with redundict.open(path, copies=folders) as state:
        state["n"] = 1
    os.rename(folders[1], tmp_path / "unmounted")
    assert redundict.load(path, copies=folders) == {"n": 1}
    os.rename(tmp_path / "unmounted", folders[1])
    shutil.rmtree(folders[1])  # each folder alone is half a store
    shutil.rmtree(folders[0])


class FailingOnce(inside.FailingDisk):
    """A disk of which one call fails once: the one with this number, counted from 0."""

    def __init__(self, call: str, error: int, number: int) -> None:
        super().__init__(call, error)
        self._number = number

    def _check(self, call: str, path: str) -> None:
        if call in self._calls:
            self.count += 1
            if self.count == self._number + 1:
                super()._check(call, path)


@pytest.mark.usefixtures("no_writer_is_waited_for")
@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EINTR])
@pytest.mark.parametrize("call", ["open_read", "read", "stat"])
def test_a_read_that_fails_once_does_not_make_repair_put_the_newest_generation_aside(
    path: str, monkeypatch: pytest.MonkeyPatch, error: int, call: str
) -> None:
    """What could not be read is looked at twice, or the repair is refused."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
    for slot in (".a0", ".a1", ".b0", ".b1"):
        damage.age(path + slot)
    damage.flip(path + ".b1", 3)
    for number in range(30):
        with monkeypatch.context() as patch:
            inside.use_disk(patch, FailingOnce(call, error, number))
            with contextlib.suppress(redundict.RedundictError):
                redundict.repair(path)
        assert redundict.load(path) == {"n": 2}
        if redundict.check(path).state is redundict.StoreState.HEALTHY:
            damage.flip(path + ".b1", 3)
    redundict.repair(path)


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_a_reader_that_gets_an_older_generation_is_warned(path: str) -> None:
    """`load` returns a plain dict. So a warning says that a newer generation may be lost."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
    for slot in ("a1", "b1"):
        damage.flip(f"{path}.{slot}", 3)
    with pytest.warns(redundict.RedundancyWarning, match="generation 1"):
        assert redundict.load(path) == {"n": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert redundict.load(path) == {"n": 1}  # a warning that is an error is logged
        assert redundict.load(path, 1) == {"n": 1}  # this one was asked for
    redundict.repair(path)
