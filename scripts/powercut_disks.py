#!/usr/bin/env python3
"""Cut the power under a store with a copy on each of two disks, one of which comes and goes.

    sudo python scripts/powercut_disks.py --states 700     # for each of ext4, xfs, btrfs

A program saves states as in `powercut.py`, with a copy on each of two file systems. It is ended and
started again after every third state. The second disk is mounted or not, at random. Its mount point
is empty without it. One log has the writes and the flushes of both disks, so a cut leaves on each
what it had flushed by then, and any subset of the rest.

After the cut, the store is opened for writing with both disks, or with one of them. What loads must
not be older than the last state that had been saved while the disk was there. Then the store is
opened with both disks, and must load the last state that had been saved.

lost, corrupt, error: as in `powercut.py`. As root on Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import block_log
import powercut
from block_log import FLUSH, BlockLog, Entry, flush_of
from peers import TWO_DISKS, TwoDisks
from powercut import FILE_SYSTEMS, FLUSHES, Medium, Process, copy_sparse, mounted
from rich.console import Console
from rich.progress import Progress

SESSIONS: Final = 5  #: Of a log. Each is one process.
SAVES: Final = 3  #: States that the program saves in a session.
CUTS: Final = 50  #: States that are made of one log.
BOTH: Final = (0, 1)
AFTER: Final = (BOTH, (0,), (1,))  #: The disks that may be there when the store is opened again.


@dataclass
class Log:
    """What a program did to two disks, in the order of both, and what had been saved when."""

    name: str  #: Of the file systems.
    bases: tuple[str, ...]  #: The image of each disk before the log.
    entries: list[Entry] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)  #: The log's length as save n + 1 began.
    returned: list[int] = field(default_factory=list)  #: And as it had returned.
    on_both: list[int] = field(default_factory=list)  #: The states that were saved on both disks.

    def promise(self, cut: int, disks: tuple[int, ...]) -> tuple[int, int]:
        """Return the last state that had been saved on the disks, and the last being saved."""
        saved = bisect_right(self.returned, cut)
        if 0 not in disks:
            saved = max((number for number in self.on_both if number <= saved), default=0)
        return saved, bisect_right(self.begun, cut)


class DiskAfter:
    """The image of one disk of a log, after a cut; only ever forward."""

    def __init__(self, log: Log, disk: int, folder: str) -> None:
        os.mkdir(folder)
        base = disk * FILE_SYSTEMS[log.name].size
        own = range(base, base + FILE_SYSTEMS[log.name].size)
        recording = powercut.Recording("", log.name, log.bases[disk])
        self._places: list[int] = []
        for place, (offset, data) in enumerate(log.entries):
            if offset in own or (offset, data) == flush_of(base):
                recording.log.append((offset - base, data) if offset >= 0 else FLUSH)
                self._places.append(place)
        self._medium = Medium(recording, folder)
        self.image = os.path.join(folder, "cut")

    def cut(self, at: int, rng: random.Random) -> str:
        """Make the image that a cut leaves; return what was kept, in a word."""
        return self._medium.cut(bisect_left(self._places, at), rng, self.image)


def record(program: str, name: str, folder: str, rng: random.Random) -> Log:
    """Let a program save states on two logged disks, of which the second comes and goes."""
    system = FILE_SYSTEMS[name]
    log = Log(name, tuple(os.path.join(folder, f"base{disk}") for disk in BOTH))
    points = points_in(folder)
    with ExitStack() as stack:
        devices = []
        for disk, base in enumerate(log.bases):
            with open(base, "wb") as file:
                file.truncate(system.size)
            block_log.run(*system.make, base)
            copy_sparse(base, image := os.path.join(folder, f"image{disk}"))
            fuse, at = os.path.join(folder, f"fuse{disk}"), disk * system.size
            device = BlockLog(image, fuse, *rng.choice(FLUSHES), log=log.entries, base=at)
            devices.append(stack.enter_context(device))
        stack.enter_context(mounted(devices[0].device, points[0]))
        for session in range(SESSIONS):
            with ExitStack() as while_there:
                if is_there := session == 0 or rng.random() < 1 / 2:
                    while_there.enter_context(mounted(devices[1].device, points[1]))
                worker = while_there.enter_context(Process("work", program, path_on(points[0])))
                for number in range(1 + session * SAVES, 1 + (session + 1) * SAVES):
                    log.begun.append(len(log.entries))
                    if (answer := worker.ask(str(number))) != "saved":
                        raise RuntimeError(f"{program} on {name}: save {number}: {answer}")
                    log.returned.append(len(log.entries))
                    log.on_both += [number] * is_there
                    if rng.random() < 1 / 2:
                        powercut.neighbour_syncs(rng.choice(points[: 1 + is_there]))
                if rng.random() < 1 / 2:
                    worker.finish()
    return log


def points_in(folder: str) -> list[str]:
    """Return the folders on which the disks are mounted. Create them."""
    points = [os.path.join(folder, name) for name in TwoDisks.folders]
    for point in points:
        os.makedirs(point, exist_ok=True)
    return points


def path_on(point: str) -> str:
    """Return the path of the store on one of the disks."""
    return os.path.join(point, "state")


def trial(
    program: str, name: str, states: int, seed: int, tick: Callable[[], object] = lambda: None
) -> Iterator[tuple[str, str]]:
    """Record a program on two disks, cut the power `states` times, yield each verdict."""
    rng = random.Random(f"{program} {name} {seed}")  # noqa: S311 - to be repeated, not secret
    shared_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - images, to be fast
    for done in range(0, states, CUTS):
        with tempfile.TemporaryDirectory(prefix="powercut-", dir=shared_memory) as folder:
            log = record(TWO_DISKS + program, name, folder, rng)
            disks = [DiskAfter(log, disk, os.path.join(folder, str(disk))) for disk in BOTH]
            places = range(log.begun[0], len(log.entries) + 1)
            for at in sorted(rng.choices(places, k=min(CUTS, states - done))):
                kept = " and ".join(disk.cut(at, rng) for disk in disks)
                facts = f"{name}, cut after {at} of {len(log.entries)}, kept {kept}"
                for there in dict.fromkeys((rng.choice(AFTER), BOTH)):
                    saved, saving = log.promise(at, there)
                    answer = load(TWO_DISKS + program, disks, there, folder)
                    judged = powercut.verdict(answer, saved, saving)
                    if judged != "kept":
                        break
                yield judged, f"{facts}, disks {there}, saved {saved} of {saving}: {answer}"
                tick()


def load(program: str, disks: list[DiskAfter], there: tuple[int, ...], folder: str) -> str:
    """Open the store for writing with the disks that are there; return what was found."""
    points = points_in(folder)
    with ExitStack() as stack:
        for disk in there:
            stack.enter_context(mounted(disks[disk].image, points[disk]))
        loader = stack.enter_context(Process("load"))
        return loader.ask(f"{program}\t{path_on(points[there[0]])}")


def run(
    states: int,
    *,
    seed: int,
    tick: Callable[[], object] = lambda: None,
    program: str = "redundict",
) -> Counter[str]:
    """Cut the power `states` times on each file system; return the verdicts. Print the bad ones."""
    found: Counter[str] = Counter()
    for name in powercut.present(list(FILE_SYSTEMS)):
        for judged, facts in trial(program, name, states, seed, tick):
            found[judged] += 1
            if judged != "kept":
                print(f"{program}: {judged}: {facts}", file=sys.stderr)
    return found


def main() -> int:
    """Cut the power, print the table; return 1 if redundict kept less than everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--states", type=int, default=100, help="per file system (100)")
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run (0)")
    args = parser.parse_args()
    if why := powercut.unavailable():
        parser.error(why)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("power cuts", total=len(FILE_SYSTEMS) * args.states)
        found = run(args.states, seed=args.seed, tick=lambda: progress.advance(task))
    print(powercut.table({"redundict, on two disks": found}))
    return int(set(found) > {"kept"})


if __name__ == "__main__":
    sys.exit(main())
