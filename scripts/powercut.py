#!/usr/bin/env python3
"""Cut the power under redundict and its peers, on real file systems, and see what each has lost.

    sudo python scripts/powercut.py --states 200       # ext4, xfs, btrfs; every peer installed
    sudo python scripts/powercut.py --only redundict --file-systems xfs --states 5000

A program saves states 1, 2, 3, ... on a file system of which every write and every flush is logged
(`block_log`). After some saves another program syncs a file of its own, or the kernel writes back
what is dirty, as happens on any machine; now and then the program is killed and started again. Then
the power is cut: at any write of the log; of what was not flushed by then, nothing, everything, or
any subset of the writes or of their 512-byte sectors reaches the medium. The file system is mounted
again, which replays its journal, and the program loads.

lost: it loads a state older than one of which the save had returned, or says that there is none;
corrupt: it loads a state that never was; error: it refuses to load. As root on Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

import block_log
from block_log import FLUSH, BlockLog, Entry
from peers import PROGRAMS
from rich.console import Console
from rich.progress import Progress

SECTOR: Final = 512  #: What the medium writes whole: bytes.
SAVES: Final = 12  #: States that a program saves while it is logged.
CUTS: Final = 50  #: States that are made of one log.
PATIENCE: Final = 60.0  #: Seconds for one save or load.
#: Seconds that a flush takes, and one with nothing to do: on a fast medium, and on a slow one.
FLUSHES: Final = ((0.0, 0.0), (0.002, 0.002))
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class FileSystem:
    """How to make one, and how large it has to be."""

    make: tuple[str, ...]
    size: int
    superblock: range  #: It is not mounted with a torn one, so it counts on that being whole.


FILE_SYSTEMS: Final = {
    "ext4": FileSystem(("mkfs.ext4", "-q", "-F"), 64 * MEBIBYTE, range(1024, 2048)),
    "xfs": FileSystem(("mkfs.xfs", "-q", "-f"), 320 * MEBIBYTE, range(512)),
    "btrfs": FileSystem(("mkfs.btrfs", "-q", "-f"), 160 * MEBIBYTE, range(65536, 69632)),
}
VERDICTS: Final = ("lost", "corrupt", "error")


class Process:
    """A `peers.py` process: a line in, a line out."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(Path(__file__).with_name("peers.py")), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a peer's threads die loudly
            text=True,
        )

    def ask(self, line: str) -> str:
        """Return the answer; `killed` if the process died of it or was stuck."""
        asked, answers = self._pipes()
        try:
            print(line, file=asked, flush=True)
        except BrokenPipeError:
            return "killed"
        ready, _, _ = select.select([answers], [], [], PATIENCE)
        return (answers.readline().rstrip("\n") if ready else "") or "killed"

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("a process without pipes")
        return self._process.stdin, self._process.stdout

    def finish(self) -> None:
        """Let it close what it has open, and end."""
        self._pipes()[0].close()
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill it, so that it cannot write anything more."""
        self._process.kill()
        for pipe in self._pipes():
            pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass
class Recording:
    """What a program did to a block device: the log, and what had been saved when."""

    program: str
    name: str  #: Of the file system.
    base: str  #: The image of the device before the log.
    log: list[Entry] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)  #: The log's length as save n + 1 began.
    returned: list[int] = field(default_factory=list)  #: And as it had returned.

    def promise(self, cut: int) -> tuple[int, int]:
        """Return the last state that had been saved, and the last that was being saved."""
        return bisect_right(self.returned, cut), bisect_right(self.begun, cut)


@contextmanager
def mounted(device: str, point: str) -> Iterator[None]:
    """Mount a device, or a file through a loop device."""
    loop = ("--options", "loop") if os.path.isfile(device) else ()
    block_log.run("mount", *loop, device, point)
    try:
        yield
    finally:
        block_log.run("umount", point)


def record(program: str, name: str, folder: str, rng: random.Random) -> Recording:
    """Let a program save states on a logged file system."""
    system = FILE_SYSTEMS[name]
    base, image, fuse, point = (os.path.join(folder, n) for n in ("base", "image", "fuse", "point"))
    with open(base, "wb") as file:
        file.truncate(system.size)
    block_log.run(*system.make, base)
    copy_sparse(base, image)
    os.makedirs(point, exist_ok=True)
    recording = Recording(program, name, base)
    path = store_path(point)
    with ExitStack() as stack:
        device = stack.enter_context(BlockLog(image, fuse, *rng.choice(FLUSHES)))
        stack.enter_context(mounted(device.device, point))
        os.mkdir(os.path.dirname(path))
        sync_file_system(point)
        worker = stack.enter_context(Process("work", program, path))
        for number in range(1, SAVES + 1):
            recording.begun.append(len(device.log))
            if (answer := worker.ask(str(number))) != "saved":
                raise RuntimeError(f"{program} on {name}: save {number}: {answer}")
            recording.returned.append(len(device.log))
            rng.choice((nothing, neighbour_syncs, neighbour_syncs, sync_file_system))(point)
            if rng.random() < 1 / 6:  # the program is killed, and started again
                worker.kill()
                worker = stack.enter_context(Process("work", program, path))
        worker.kill()
        recording.log = list(device.log)  # what unmounting writes is no part of it
    return recording


def store_path(point: str) -> str:
    """Return where the programs keep their state."""
    return os.path.join(point, "folder", "state")


def nothing(_: str) -> None:
    """Let what is dirty stay in the page cache."""


def neighbour_syncs(point: str) -> None:
    """Let another program sync a file of its own: the journal is written, no other data need be."""
    fd = os.open(os.path.join(point, "neighbour"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        os.write(fd, b"a line of a log\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(point: str) -> None:
    """Write back what is dirty, as the kernel does after some seconds."""
    block_log.run("sync", "--file-system", point)


def copy_sparse(source: str, target: str) -> None:
    """Copy a file, holes as holes."""
    with open(source, "rb") as old, open(target, "wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while at < size:
            try:
                start = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                break  # nothing but a hole to the end
            at = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            while start < at:
                start += os.copy_file_range(old.fileno(), new.fileno(), at - start, start, start)


class Medium:
    """The image of a recording's device, as far as its log has been flushed; only ever forward."""

    def __init__(self, recording: Recording, folder: str) -> None:
        self._log = recording.log
        self._superblock = FILE_SYSTEMS[recording.name].superblock
        self._path = os.path.join(folder, "medium")
        self._done = 0
        copy_sparse(recording.base, self._path)

    def cut(self, at: int, rng: random.Random, image: str) -> str:
        """Make the image that a cut after `at` entries leaves; return what was kept, in a word."""
        flushed = max(
            (i for i in range(self._done, at) if self._log[i] == FLUSH), default=self._done
        )
        self._write(self._path, self._log[self._done : flushed])
        self._done = flushed
        copy_sparse(self._path, image)
        kept = rng.choice(("none", "all", "some", "some", "torn", "torn"))
        pending = [entry for entry in self._log[flushed:at] if entry != FLUSH]
        self._write(image, list(_subset(pending, kept, self._superblock, rng)))
        return kept

    @staticmethod
    def _write(path: str, entries: list[Entry]) -> None:
        fd = os.open(path, os.O_WRONLY)
        try:
            for entry in entries:
                if entry != FLUSH:
                    os.pwrite(fd, entry[1], entry[0])
        finally:
            os.close(fd)


def _subset(
    pending: list[Entry], kept: str, superblock: range, rng: random.Random
) -> Iterator[Entry]:
    """Yield what reaches the medium of the writes that were not flushed."""
    lucky = False
    for offset, data in pending:
        if kept == "all" or (kept == "some" and rng.random() < 1 / 2):
            yield offset, data
        elif kept == "torn":
            for at in range(0, len(data), SECTOR):
                if offset + at not in superblock[SECTOR:]:
                    lucky = rng.random() < 1 / 2
                if lucky:
                    yield offset + at, data[at : at + SECTOR]


def verdict(answer: str, saved: int, saving: int) -> str:
    """Return what an answer of `peers.py load` amounts to, where state `saved` was promised."""
    kind, _, rest = answer.partition(",")[0].partition(" ")
    if kind == "corrupt" or (kind == "generation" and int(rest) > saving):
        return "corrupt"
    if kind != "generation":
        return "error"
    return "lost" if int(rest) < saved else "kept"


def cut_often(
    recording: Recording, states: int, folder: str, rng: random.Random, tick: Callable[[], object]
) -> Iterator[tuple[str, str]]:
    """Cut the power `states` times; yield each verdict and what it rests on."""
    medium = Medium(recording, folder)
    image, point = os.path.join(folder, "cut"), os.path.join(folder, "point")
    first = recording.begun[0]
    loader = Process("load")
    try:
        for at in sorted(rng.choices(range(first, len(recording.log) + 1), k=states)):
            kept = medium.cut(at, rng, image)
            saved, saving = recording.promise(at)
            with mounted(image, point):
                answer = loader.ask(f"{recording.program}\t{store_path(point)}")
                if not answer.startswith("generation"):  # it may have left files open, or died
                    loader.kill()
                    loader = Process("load")
            facts = f"{recording.name}, cut after {at} of {len(recording.log)}, kept {kept}, "
            yield verdict(answer, saved, saving), facts + f"saved {saved} of {saving}: {answer}"
            tick()
    finally:
        loader.kill()


def trial(
    program: str, name: str, states: int, seed: int, tick: Callable[[], object] = lambda: None
) -> Iterator[tuple[str, str]]:
    """Record one program on one file system, cut the power `states` times, yield each verdict."""
    rng = random.Random(f"{program} {name} {seed}")  # noqa: S311 - to be repeated, not secret
    shared_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - images, to be fast
    for done in range(0, states, CUTS):
        with tempfile.TemporaryDirectory(prefix="powercut-", dir=shared_memory) as folder:
            recording = record(program, name, folder, rng)
            yield from cut_often(recording, min(CUTS, states - done), folder, rng, tick)


def unavailable() -> str:
    """Say why this machine cannot do it; nothing if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    missing = [m for m in ("/dev/fuse", "/dev/loop-control") if not os.path.exists(m)]
    missing += [c for c in ("losetup", "mount", "mkfs.ext4") if shutil.which(c) is None]
    return f"needs {', '.join(missing)}" if missing else ""


def installed() -> dict[str, str]:
    """Return, by name, why a file system or a program cannot be tried; nothing if it can."""
    absent = {
        name: "" if shutil.which(s.make[0]) else s.make[0] for name, s in FILE_SYSTEMS.items()
    }
    return absent | {name: program.absent() for name, program in PROGRAMS.items()}


def table(found: dict[str, Counter[str]]) -> str:
    """Return the verdicts by program, as a table in Markdown."""
    rows = [f"| program | states | {' | '.join(VERDICTS)} |", "|---|--:|--:|--:|--:|"]
    for program, counts in found.items():
        cells = [f"{counts.total():,}", *(f"{counts[v]:,}" for v in VERDICTS)]
        rows.append(f"| {program} | {' | '.join(cells)} |")
    return "\n".join(rows)


def run(
    programs: Sequence[str],
    systems: Sequence[str],
    states: int,
    *,
    seed: int,
    tick: Callable[[], object] = lambda: None,
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Counter[str]]:
    """Try each program on each file system; return the verdicts. `tell` is told the bad ones."""
    found: dict[str, Counter[str]] = {program: Counter() for program in programs}
    for program in programs:
        for system in systems:
            for judged, facts in trial(program, system, states, seed, tick):
                found[program][judged] += 1
                if judged != "kept":
                    tell(f"{program}: {judged}: {facts}")
    return found


def main() -> int:
    """Try the programs, print the table; return 1 if redundict kept less than everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--states", type=int, default=100, help="per program and file system (100)")
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="a program (all)")
    parser.add_argument("--file-systems", nargs="+", choices=FILE_SYSTEMS, default=[*FILE_SYSTEMS])
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run (0)")
    parser.add_argument("--verbose", action="store_true", help="print what each bad state rests on")
    args = parser.parse_args()
    if why := unavailable():
        parser.error(why)
    programs, systems = present(args.only or list(PROGRAMS)), present(args.file_systems)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("power cuts", total=len(programs) * len(systems) * args.states)

        def tell(bad: str) -> None:
            if args.verbose or bad.startswith("redundict:"):
                print(bad, file=sys.stderr)

        found = run(
            programs,
            systems,
            args.states,
            seed=args.seed,
            tick=lambda: progress.advance(task),
            tell=tell,
        )
    print(table(found))
    return int(not is_kept(found))


def present(names: Sequence[str]) -> list[str]:
    """Return those of the programs or file systems that are installed; say which are not."""
    absent = installed()
    for name in names:
        if absent[name]:
            print(f"left out: {name} ({absent[name]} is not installed)", file=sys.stderr)
    return [name for name in names if not absent[name]]


def is_kept(found: dict[str, Counter[str]]) -> bool:
    """Tell whether redundict kept everything."""
    return all(set(found[name]) <= {"kept"} for name in found if name == "redundict")


if __name__ == "__main__":
    sys.exit(main())
