"""The histories of the model on the product itself, in real folders that come and go."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

import redundict

from . import crash, inside
from .disk import Image, SimulatedDisk
from .lineage_model import HISTORIES

Record = Callable[[str, object], None]

pytestmark = pytest.mark.damages


class History:
    """One store on several disks. Each state lists the states from which it grew."""

    renames_at_once = True  #: A file that is put aside has one of its names at any moment.

    def __init__(self, folder: Path, copies: int, keep: int, rng: random.Random) -> None:
        self.disks = [folder / f"disk{number}" for number in range(copies)]
        self.keep, self.rng = keep, rng
        self.away: set[int] = set()
        self.returned: list[int] = []  #: The states for which `sync` has returned.
        self.given_up: set[int] = set()  #: States that a person did not prefer.
        self.made = 0
        self.counts: Counter[str] = Counter()
        for disk in self.disks:
            disk.mkdir(parents=True)

    def unmount(self, disk: int) -> None:
        """Leave an empty mount point."""
        os.rename(self.disks[disk], f"{self.disks[disk]}.away")
        self.disks[disk].mkdir()
        self.away.add(disk)

    def mount(self, disk: int) -> None:
        """Hide what was written to the mount point."""
        shutil.rmtree(self.disks[disk])
        os.rename(f"{self.disks[disk]}.away", self.disks[disk])
        self.away.remove(disk)

    def arrange(self, there: set[int]) -> None:
        for disk in range(len(self.disks)):
            if disk in there and disk in self.away:
                self.mount(disk)
            elif disk not in there and disk not in self.away:
                self.unmount(disk)

    def files(self) -> bytes:
        """Return all that lies on the disks that are there, except files that nobody finished."""
        there = [disk for n, disk in enumerate(self.disks) if n not in self.away]
        found = [file for disk in there for file in sorted(disk.iterdir()) if file.suffix != ".new"]
        return b"".join(file.read_bytes() for file in found)

    def session(self, there: set[int]) -> None:
        """Open the store at one of the disks that are there, commit, and close or be killed."""
        self.arrange(there)
        before = self.files()
        line = self.play(self.disks[self.rng.choice(sorted(there))] / "s")
        self.check(before, line)

    def check(self, before: bytes, line: set[int]) -> None:
        """Raise if something was on these disks, and is neither superseded nor there now."""
        after = self.files()
        for number in set(self.returned) - self.given_up:
            mark = self.marker(number)
            assert number in line or mark not in before or mark in after, (number, sorted(line))

    def play(self, path: Path) -> set[int]:
        """Open the store, commit, and close it; return the states from which its state grew."""
        before = self.files()
        options = {} if self.is_listed() else {"copies": self.disks}
        try:
            state = redundict.open(path, keep=self.keep, **options)
        except (redundict.NotFoundError, redundict.LostError):  # a cut left no slot here
            assert not any(self.marker(number) in before for number in self.returned)
            return set()
        except redundict.DivergedError as error:
            self.counts["diverged"] += 1
            assert self.files() == before or all(
                self.marker(n) in self.files() for n in self.returned if self.marker(n) in before
            )
            redundict.repair(path, prefer=self.rng.choice(sorted(error.copies)), **options)
            state = redundict.open(path, keep=self.keep, **options)
            if not self.renames_at_once:
                self.given_up.update(set(self.returned).difference(state.get("grew from", [])))
        self.counts["opened"] += 1
        with state:
            for _ in range(self.rng.choice((0, 1, 1, 2, 3))):
                self.made += 1
                state["grew from"] = [*state.get("grew from", []), self.made]
                state["mark"] = f"<{self.made}>"
                state.sync()
                self.returned.append(self.made)
            return set(state.get("grew from", []))

    def is_listed(self) -> bool:
        """Return True if each disk has a list, so that the path alone is enough."""
        return self.counts["opened"] > 0

    @staticmethod
    def marker(number: int) -> bytes:
        return f"<{number}>".encode()


class Moment(NamedTuple):
    """The disks while a process runs, what was returned by then, and the notes of the locks."""

    disk: SimulatedDisk
    returned: int
    locks: dict[Path, bytes]


class PowerCuts(History):
    """The same on simulated disks. The power is cut in half of the sessions, and after the others.

    The locks are real files. A cut may lose their notes. Each session empties the mount points.
    """

    renames_at_once = False

    def __init__(self, folder: Path, copies: int, keep: int, rng: random.Random) -> None:
        super().__init__(folder, copies, keep, rng)
        self.media: list[Image] = [()] * copies
        self.moments: list[Moment] = []

    def files(self) -> bytes:
        if self.moments:  # a process is running, and sees the page cache
            now = self.moments[-1].disk
            found = [(path, now.inodes[number].cache) for path, number in now.names_now.items()]
        else:
            found = list(self.mounted())
        return b"".join(content for path, content in found if not path.endswith(".new"))

    def is_listed(self) -> bool:
        return all(any(path.endswith("s.copies") for path, _ in image) for image in self.media)

    def mounted(self) -> Image:
        """Return the files of all disks that are there."""
        there = [image for n, image in enumerate(self.media) if n not in self.away]
        return tuple(chain.from_iterable(there))

    def disk(self) -> SimulatedDisk:
        """Return a disk with the files of all disks that are there."""
        disk = SimulatedDisk(self.mounted(), crash.COARSE)
        disk.folders = {str(folder) for folder in self.disks}
        return disk

    def watch(self, disk: SimulatedDisk) -> None:
        locks = {lock: lock.read_bytes() for d in self.disks for lock in d.glob("s.lock")}
        self.moments.append(Moment(disk.copy(), len(self.returned), locks))

    def cut(self, moment: Moment) -> None:
        """Leave on the disks that are there what a power cut may leave."""
        self.moments, self.returned = [], self.returned[: moment.returned]
        image = moment.disk.any_image(self.rng)
        for number, folder in enumerate(self.disks):
            lock = folder / "s.lock"
            lock.unlink(missing_ok=True)
            if number not in self.away:
                own = [file for file in image if os.path.dirname(file[0]) == str(folder)]
                self.media[number] = tuple(own)
                if lock in moment.locks and self.rng.random() < 0.5:
                    lock.write_bytes(moment.locks[lock])

    def session(self, there: set[int]) -> None:
        self.arrange(there)
        before, returned = self.files(), len(self.returned)
        path = self.disks[self.rng.choice(sorted(there))] / "s"
        disk = self.disk()
        disk.on_step = self.watch
        self.watch(disk)
        with crash.on(disk):
            self.play(path)
        self.watch(disk)
        self.cut(self.rng.choice([self.rng.choice(self.moments), self.moments[-1]]))
        line: set[int] = set()
        with crash.on(self.disk()), suppress(redundict.NotFoundError, redundict.LostError):
            line.update(redundict.load(path, copies=self.disks).get("grew from", []))
        assert line.issuperset(self.returned[returned:])
        self.check(before, line)


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("keep", [2, 4])
@pytest.mark.parametrize(
    ("kind", "histories"), [(History, 1 + HISTORIES // 10), (PowerCuts, 1 + HISTORIES // 2)]
)
def test_nothing_that_was_returned_is_overwritten_silently(
    tmp_path: Path,
    kind: type[History],
    histories: int,
    copies: int,
    keep: int,
    record_property: Record,
) -> None:
    """Disks come and go, and the power is cut: each state is superseded, reported or put aside."""
    counts: Counter[str] = Counter()
    warnings.simplefilter("ignore", redundict.RedundancyWarning)
    for seed in range(histories):
        rng = random.Random(seed)
        history = kind(tmp_path / str(seed), copies, keep, rng)
        history.session(set(range(copies)))
        for _ in range(8):
            history.session(set(rng.sample(range(copies), rng.randint(1, copies))))
        counts += history.counts
        shutil.rmtree(tmp_path / str(seed))
    assert counts["opened"] > 0
    assert counts["diverged"] > 0
    record_property("states", histories)


def test_a_week_of_restarts_without_a_disk_is_no_alarm(tmp_path: Path) -> None:
    """The disk that comes back is only behind."""
    warnings.simplefilter("ignore", redundict.RedundancyWarning)
    history = History(tmp_path, 2, 4, random.Random(1))
    history.session({0, 1})
    for _ in range(20):
        history.session({0})
    history.session({0, 1})
    assert history.counts["diverged"] == 0
    assert redundict.check(history.disks[0] / "s").state is redundict.StoreState.HEALTHY


def test_a_backup_that_was_put_back_begins_a_branch(tmp_path: Path) -> None:
    """Even if its writer first closed it unchanged: the original may go on elsewhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    with redundict.open(here / "s") as state:
        state["n"] = 0
    shutil.copytree(here, there)
    redundict.open(there / "s").close()
    for folder, numbers in ((here, range(1, 3)), (there, range(10, 14))):
        with redundict.open(folder / "s") as state:
            for state["n"] in numbers:
                state.sync()
    for slot in there.glob("s.b?"):
        shutil.copy(slot, here)
    with pytest.raises(redundict.DivergedError):
        redundict.open(here / "s")


class Interrupted(inside.QuickDisk):
    """A disk on which a process ends at one of its renames."""

    def __init__(self, renames: int) -> None:
        self.left = renames

    def rename(self, old: str, new: str) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().rename(old, new)


@pytest.mark.parametrize("renames", range(8))
def test_a_repair_that_is_interrupted_mixes_no_lines(
    tmp_path: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy with a newest slot of its own would go on, and count the other line's as older."""
    here, there = tmp_path / "one", tmp_path / "two"
    here.mkdir()
    with redundict.open(here / "s") as state:
        for state["of"] in ("both", "both again"):
            state.sync()
    shutil.copytree(here, there)
    for folder, number in ((here, 1), (there, 2)):
        with redundict.open(folder / "s") as state:
            for state["of"] in [f"{folder.name} {n}" for n in range(number)]:
                state.sync()
    for slot in here.glob("s.b?"):
        slot.unlink()
    for slot in there.glob("s.b?"):
        shutil.copy(slot, here)
    inside.use_disk(monkeypatch, Interrupted(renames))
    with suppress(KeyboardInterrupt):
        redundict.repair(here / "s", prefer="a")
    held = b"".join(slot.read_bytes() for slot in here.glob("s.b?"))
    assert not (b"two 1" in held and b"one 0" in held)
    everything = b"".join(file.read_bytes() for file in here.iterdir())
    assert b"two 0" in everything
    assert b"two 1" in everything
