#!/usr/bin/env python3
"""Let processes and threads work on one state at the same time; show that nothing is lost.

    python scripts/sharing.py              # about three minutes
    python scripts/sharing.py --scale 0.1

Processes count in one store and are killed at random. Threads move amounts between accounts.
Readers read beside a writer that never rests. Writers are forced past the lock. A commit runs in
the background. A store is opened ten thousand times. Prints a table; exits with 1 if a promise was
broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))

import redundict
from redundict.engine import files, trailer
from redundict.engine.disk import Disk

PROCESSES: Final = 8
READERS: Final = 4
KEEP: Final = 2  #: Generations of each store: as many as in every published figure.
PATIENCE: Final = 120.0  #: Seconds that a counting process waits for the lock at most.


class Row(NamedTuple):
    """What one trial showed."""

    trial: str
    found: str
    promise: str
    kept: bool


# --- processes that count


def count(path: str, me: str, share: int, reported: int) -> None:
    """Count up to a share, in steps of one, and tell of each that returned."""

    def step(state: redundict.RedunDict) -> None:
        done = state.setdefault("done", {})
        if done.get(me, 0) < reported:
            raise ValueError(f"{reported} returned, and {done.get(me, 0)} is there")
        if done.get(me, 0) < share:
            done[me] = done.get(me, 0) + 1
            state["sum"] = state.get("sum", 0) + 1

    with redundict.open(path, keep=KEEP, shared=True, timeout=PATIENCE) as state:
        while reported < share:
            state.modify(step)
            reported = state["done"][me]
            print(reported, flush=True)


class Counter:
    """A counting process, and the last number that it told."""

    def __init__(self, path: str, name: str, share: int) -> None:
        self._path, self._name, self.share = path, name, share
        self.reported = 0
        self.start()

    def start(self) -> None:
        """Start it, or start it again where it was."""
        arguments = [self._path, self._name, str(self.share), str(self.reported)]
        command = [sys.executable, __file__, "--count", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        self._thread = threading.Thread(target=self._listen, args=(self.process,))
        self._thread.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self.reported = int(line)

    def end(self) -> int:
        """Wait for its end; return how it ended."""
        self._thread.join()
        if self.process.stdout:
            self.process.stdout.close()
        return self.process.wait()


def counting(folder: str, share: int, rng: random.Random) -> Row:
    """Let processes count in one store, and kill some of them all the time."""
    path = os.path.join(folder, "count.json")
    redundict.open(path, keep=KEEP, shared=True).close()
    counters = [Counter(path, str(number), share) for number in range(PROCESSES)]
    kills, ended = 0, []
    while counters:
        time.sleep(rng.uniform(0.05, 0.3))
        victim = rng.choice(counters)
        if victim.process.poll() is None:
            victim.process.send_signal(signal.SIGKILL)
            kills += 1
        for counter in list(counters):
            if counter.process.poll() is None:
                continue
            status = counter.end()
            if status == -signal.SIGKILL and counter.reported < share:
                counter.start()
            else:
                counters.remove(counter)
                ended.append(status == 0 or counter.reported == share)
    state = redundict.load(path)
    exact = state["sum"] == sum(state["done"].values()) == share * PROCESSES
    found = f"{state['sum']:,} of {share * PROCESSES:,}, {kills} kills"
    return Row(
        f"{PROCESSES} processes, {share} increments each", found, "exact", exact and all(ended)
    )


# --- threads that move amounts


def moving(folder: str, moves: int, rng: random.Random) -> Row:
    """Let threads move amounts between two accounts; look at every generation that is written."""
    written: list[bytes] = []

    class Watched(Disk):
        def write(self, file: FileIO, data: bytes | memoryview, offset: int) -> int:
            if ".a" in os.path.basename(str(file.name)):  # One copy is enough: both are the same.
                written.append(trailer.verify(bytes(data)).payload)
            return super().write(file, data, offset)

    def move(state: redundict.RedunDict, seed: float) -> None:
        mine = random.Random(seed)  # noqa: S311 - to be repeated, not secret
        for number in range(moves):
            amount = mine.randrange(100)
            with state.transaction() if number % 2 else state.lock:
                state["one"]["sum"] -= amount
                time.sleep(0)
                state["two"]["sum"] += amount
            if number % 4 == 0:
                state.sync()

    with replaced(Watched()), redundict.open(os.path.join(folder, "move.json"), keep=KEEP) as state:
        state.update({"one": {"sum": 500}, "two": {"sum": 500}})
        workers = [threading.Thread(target=move, args=(state, rng.random())) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    sums = [state["one"]["sum"] + state["two"]["sum"] for state in map(json.loads, written)]
    wrong = sum(total != 1000 for total in sums)
    found = f"{len(sums):,} generations, {wrong} wrong"
    return Row(
        f"8 threads, {moves} moves each", found, "none wrong", len(sums) > moves and not wrong
    )


@contextmanager
def replaced(disk: Disk) -> Iterator[None]:
    """Let the library use another disk."""
    before, files.disk = files.disk, disk
    try:
        yield
    finally:
        files.disk = before


# --- readers beside a writer


def content(number: int) -> dict[str, Any]:
    """Return the one state that is ever committed under a number."""
    rng = random.Random(number)  # noqa: S311 - to be repeated, not secret
    lines = [f"{rng.random()} of {number}" for _ in range(100)]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return {"number": number, "lines": lines, "digest": digest}


def read(path: str, pause: float) -> None:
    """Read until the input ends, and say how often, and how often it was wrong."""
    asked_to_end = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        asked_to_end.set()

    threading.Thread(target=listen, daemon=True).start()
    reads = wrong = newest = 0
    state = redundict.open(path, "r")
    while not asked_to_end.is_set():
        try:
            state.reload()
            number = state["number"]
            wrong += number < newest or dict(state) != content(number)
            newest = number
        except redundict.RedundictError as error:
            print(error, file=sys.stderr)
            wrong += 1
        reads += 1
        time.sleep(pause)
    print(reads, wrong)


def reading(folder: str, seconds: float, rate: int) -> Row:
    """Commit as fast as possible, beside readers and alone by turns; compare the medians."""
    path = os.path.join(folder, f"read{rate}.json")
    number = 1
    slices: tuple[list[float], list[float]] = ([], [])
    with redundict.open(path, keep=KEEP) as state:
        state.update(content(number))
        state.sync()
        command = [sys.executable, __file__, "--read", path, str(1 / rate if rate else 0.0)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        readers = [subprocess.Popen(command, **pipes) for _ in range(READERS)]  # noqa: S603
        time.sleep(1)  # until they have started
        for turn in range(max(4, int(seconds * 2))):
            for reader in readers:
                reader.send_signal(signal.SIGCONT if turn % 2 else signal.SIGSTOP)
            until = time.perf_counter() + 0.5
            while (began := time.perf_counter()) < until:
                number += 1
                state.update(content(number))
                prepared = time.perf_counter()
                state.sync()
                slices[turn % 2].append(time.perf_counter() - prepared)
                del began
        answers = [reader.communicate("")[0].split() for reader in readers]
    reads, wrong = (sum(int(answer[i]) for answer in answers) for i in (0, 1))
    ratio = statistics.median(slices[1]) / statistics.median(slices[0])
    found = f"{number:,} commits, {reads:,} reads, {wrong} wrong; writer {ratio:.2f}"
    at = f"{rate} reads a second each" if rate else "as fast as they can"
    limit = "none wrong; writer at most 1.15" if rate else "none wrong"
    kept = wrong == 0 and reads > 0 and (ratio <= 1.15 or not rate)
    return Row(f"{READERS} readers, {at}", found, limit, kept)


# --- writers that were forced past the lock


def forcing(folder: str, rounds: int, rng: random.Random) -> Row:
    """Delete the lock under a writer, let another in, and let them commit in any order."""
    conflicts = lost = 0
    for number in range(rounds):
        path = os.path.join(folder, f"forced{number}.json")
        one = redundict.open(path, keep=KEEP)
        one["by"] = "one"
        one.sync()
        os.remove(path + ".lock")
        two = redundict.open(path, keep=KEEP)
        newest: dict[str, Any] = {"by": "one"}
        for step in range(rng.randrange(2, 6)):
            writer = rng.choice((one, two))
            writer["by"] = f"{number} {step}"
            before = slots(path)
            try:
                writer.sync()
                newest = dict(writer)
            except redundict.LockedError:  # the other one holds the file that is there now
                conflicts += 1
                lost += slots(path) != before
            lost += redundict.load(path) != newest
        for writer in (two, one):
            writer.reload()
            writer.close()
        lost += redundict.load(path) != newest
    found = f"{conflicts} refusals in {rounds} stores, {lost} overwritten"
    kept = conflicts > 0 and lost == 0
    return Row("the lock deleted, two writers", found, "nothing overwritten", kept)


def slots(path: str) -> dict[str, bytes]:
    """Return the bytes of every slot of a store."""
    names = [f"{path}.{copy}{index}" for copy in "ab" for index in "01"]
    return {name: Path(name).read_bytes() for name in names if os.path.exists(name)}


# --- a commit that nobody waits for


def handing_over(folder: str, size: int) -> Row:
    """Compare how long `sync_soon` takes with how long the encoding takes."""
    times: tuple[list[float], list[float]] = ([], [])
    with redundict.open(os.path.join(folder, "large.json"), keep=KEEP) as state:
        line = {"name": "a line of some length", "at": [1, 2.5, None], "on": True}
        state["lines"] = [dict(line) for _ in range(size // 60)]
        state.sync_soon().result()
        for number in range(15):
            state["number"] = number
            began = time.perf_counter()
            future = state.sync_soon()
            times[1].append(time.perf_counter() - began)
            future.result()
            began = time.perf_counter()
            state._options.format.encode(state)  # noqa: SLF001 - the work to compare it with
            times[0].append(time.perf_counter() - began)
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    trial = f"sync_soon() of {size / 1e6:.0f} MB, against encoding it"
    return Row(trial, f"{ratio:.2f}", "at most 1.20", ratio <= 1.2)


# --- ten thousand openings


def opening(folder: str, times: int) -> Row:
    """Open, change, sync and close, in every way, and look at what is left over."""
    path = os.path.join(folder, "open.json")
    ways: list[dict[str, Any]] = [{}, {"shared": True}, {"autosync": 60.0}, {}]

    def some(number: int) -> None:
        for n in range(number):
            with redundict.open(path, keep=KEEP, **ways[n % 4]) as state:
                state["n"] = state.get("n", 0) + 1
                state.sync_soon() if n % 4 == 3 else state.sync()

    some(max(40, times // 10))
    before = left_over()
    some(times)
    time.sleep(0.2)
    after = left_over()
    grown = [now - then for now, then in zip(after, before, strict=True)]
    found = f"handles {grown[0]:+}, threads {grown[1]:+}, memory {grown[2] / 1e6:+.1f} MB"
    kept = grown[0] <= 0 and grown[1] <= 0 and grown[2] < 4e6
    return Row(f"{times:,} times open, sync, close", found, "flat (4 MB)", kept)


def left_over() -> tuple[int, int, int]:
    """Return the process's handles, threads, and bytes of resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    counts = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    return *counts, pages * os.sysconf("SC_PAGESIZE")


def trials(folder: str, scale: float, seed: int) -> list[Callable[[], Row]]:
    """Return the trials, to be made one after the other."""
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret

    def scaled(number: int, least: int) -> int:
        return max(least, int(number * scale))

    return [
        lambda: counting(folder, scaled(500, 10), rng),
        lambda: moving(folder, scaled(500, 20), rng),
        lambda: reading(folder, 20 * scale, 50),
        lambda: reading(folder, 20 * scale, 0),
        lambda: forcing(folder, scaled(300, 10), rng),
        lambda: handing_over(folder, scaled(10_000_000, 1_000_000)),
        lambda: opening(folder, scaled(10_000, 200)),
    ]


def table(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    head = ["| trial | found | promise | kept |", "|---|---|---|---|"]
    lines = [f"| {r.trial} | {r.found} | {r.promise} | {'yes' if r.kept else 'NO'} |" for r in rows]
    return "\n".join(head + lines)


def main() -> int:
    """Make every trial; print the table; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the counts (1)")
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run (0)")
    parser.add_argument("--count", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.count:
        count(args.count[0], args.count[1], int(args.count[2]), int(args.count[3]))
        return 0
    if args.read:
        read(args.read[0], float(args.read[1]))
        return 0
    rows = []
    with tempfile.TemporaryDirectory(prefix="sharing-") as folder:
        todo = trials(folder, args.scale, args.seed)
        for done, trial in enumerate(todo):
            if sys.stderr.isatty():
                print(f"\r{done} of {len(todo)} trials", end="", file=sys.stderr, flush=True)
            rows.append(trial())
    print(f"\r{table(rows)}")
    return int(not all(row.kept for row in rows))


if __name__ == "__main__":
    sys.exit(main())
