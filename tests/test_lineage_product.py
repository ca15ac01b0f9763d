"""The histories of the model on the product itself, in real folders that come and go."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections import Counter
from pathlib import Path

import pytest

import redundict

pytestmark = pytest.mark.damages


class History:
    """One store on several disks. Each state lists the states from which it grew."""

    def __init__(self, folder: Path, copies: int, keep: int, rng: random.Random) -> None:
        self.disks = [folder / f"disk{number}" for number in range(copies)]
        self.keep, self.rng = keep, rng
        self.away: set[int] = set()
        self.returned: list[int] = []  #: The states for which `sync` has returned.
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
        """Return all that lies on the disks that are there."""
        there = [disk for n, disk in enumerate(self.disks) if n not in self.away]
        return b"".join(f.read_bytes() for disk in there for f in sorted(disk.iterdir()))

    def session(self, there: set[int]) -> None:
        """Open the store at one of the disks that are there, commit, and close or be killed."""
        self.arrange(there)
        path = self.disks[self.rng.choice(sorted(there))] / "s"
        before = self.files()
        options = {"copies": self.disks} if self.counts["opened"] == 0 else {}
        try:
            state = redundict.open(path, keep=self.keep, **options)
        except redundict.DivergedError as error:
            self.counts["diverged"] += 1
            assert self.files() == before or all(
                self.marker(n) in self.files() for n in self.returned if self.marker(n) in before
            )
            redundict.repair(path, prefer=self.rng.choice(sorted(error.copies)))
            state = redundict.open(path, keep=self.keep)
        self.counts["opened"] += 1
        with state:
            for _ in range(self.rng.choice((0, 1, 1, 2, 3))):
                number = len(self.returned) + 1
                state["grew from"] = [*state.get("grew from", []), number]
                state["mark"] = f"<{number}>"
                state.sync()
                self.returned.append(number)
            line = set(state.get("grew from", []))
        after = self.files()
        for number in self.returned:  # what was on these disks is superseded, or is still there
            mark = self.marker(number)
            assert number in line or mark not in before or mark in after, (number, sorted(line))

    @staticmethod
    def marker(number: int) -> bytes:
        return f"<{number}>".encode()


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("keep", [2, 4])
def test_nothing_that_was_returned_is_overwritten_silently(
    tmp_path: Path, copies: int, keep: int
) -> None:
    """Two or three disks come and go: each state is superseded, reported or put aside."""
    counts: Counter[str] = Counter()
    warnings.simplefilter("ignore", redundict.RedundancyWarning)
    for seed in range(int(os.environ.get("REDUNDICT_HISTORIES", "6"))):
        rng = random.Random(seed)
        history = History(tmp_path / str(seed), copies, keep, rng)
        history.session(set(range(copies)))
        for _ in range(8):
            history.session(set(rng.sample(range(copies), rng.randint(1, copies))))
        counts += history.counts
        shutil.rmtree(tmp_path / str(seed))
    assert counts["opened"] > 0
    assert counts["diverged"] > 0


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
