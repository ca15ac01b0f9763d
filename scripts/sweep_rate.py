#!/usr/bin/env python3
"""Measure `redundict check` over many stores: its rate beside sha256sum's, and its memory.

    python scripts/sweep_rate.py               # a few minutes, 900 MB in a temporary folder
    python scripts/sweep_rate.py --stores 200 --rounds 3

Stores of 100 KB in nested folders are checked, and the same files are given to sha256sum, in rounds
that take turns, with two processes on the same two CPUs for both. Then the peak of resident memory,
of the main process and of the largest other one, of a check of a quarter of the stores and of all.
Ends with two tables; exits with 1 if a promise broke.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

import redundict

PROCESSES: Final = 2
CHECK: Final = [sys.executable, str(ROOT / "scripts" / "integrity_check.py"), "--quiet"]
SHA256SUM: Final = "find \"$0\" -name '*.[ab][01]' -print0 | xargs -0 -P{} -n64 sha256sum"
LEAST: Final = 0.7  #: Of sha256sum's rate.
MOST: Final = 4.0  #: MB that four times as many stores may take more.


class Peak(NamedTuple):
    """Peaks of resident memory, in MB."""

    main: float
    other: float  #: Of the largest other process.


def make(folder: str, stores: int, size: int, seed: int = 0) -> list[str]:
    """Make stores of two generations of about `size` bytes, at most 100 in each subfolder."""
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret
    for number in range(stores):
        place = os.path.join(folder, f"{number % 5}", f"{number // 5 % 5}")
        os.makedirs(place, exist_ok=True)
        with redundict.open(os.path.join(place, f"{number}.json"), keep=2) as state:
            for state["n"] in (1, 2):
                state["text"] = rng.randbytes(size // 2).hex()
                state.sync()
    return [str(path) for path in Path(folder).rglob("*.[ab][01]")]


def seconds(command: Sequence[str]) -> float:
    """Return how long a command takes, given that it succeeds."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    return time.perf_counter() - began


def rounds(folder: str, count: int) -> list[tuple[float, float]]:
    """Return the seconds that check and sha256sum took in each round; they take turns to begin."""
    commands = [[*CHECK, folder], ["sh", "-c", SHA256SUM.format(PROCESSES), folder]]
    for command in commands:  # so that both find the files in the page cache
        seconds(command)
    found = []
    for number in range(count):
        order = commands if number % 2 == 0 else commands[::-1]
        took = [seconds(command) for command in order]
        found.append((took[0], took[1]) if number % 2 == 0 else (took[1], took[0]))
    return found


def peak(paths: Sequence[str]) -> Peak:
    """Return the peaks of a check's processes; what a process had at its end is what counts."""
    with subprocess.Popen([*CHECK, *paths], stdout=subprocess.DEVNULL) as check:  # noqa: S603
        peaks: dict[int, float] = {}
        while check.poll() is None:
            for pid in family(check.pid):
                peaks[pid] = max(peaks.get(pid, 0.0), high_water(pid))
            time.sleep(0.01)
    main = peaks.pop(check.pid, 0.0)
    return Peak(main, max(peaks.values(), default=0.0))


def family(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [pid] + [member for child in children for member in family(int(child))]


def high_water(pid: int) -> float:
    """Return the most resident memory that a process has had, in MB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kilobytes = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(next(kilobytes, "0")) * 1024 / 1e6


def rates(took: Sequence[tuple[float, float]], megabytes: float) -> tuple[str, float]:
    """Return the table of the rates, and the median of their ratios."""
    ratio = statistics.median(sha / check for check, sha in took)
    columns = [sorted(megabytes / each for each in column) for column in zip(*took, strict=True)]
    lines = ["| program | MB/s, median | least | most |", "|---|--:|--:|--:|"]
    for name, column in zip(("redundict check", "sha256sum"), columns, strict=True):
        median = statistics.median(column)
        lines.append(f"| {name} | {median:.0f} | {column[0]:.0f} | {column[-1]:.0f} |")
    return "\n".join(lines), ratio


def memory(few: Peak, many: Peak, counts: tuple[int, int]) -> str:
    """Return the table of the peaks."""
    lines = ["| stores | main process, MB | largest other process, MB |", "|--:|--:|--:|"]
    lines += [
        f"| {count:,} | {found.main:.1f} | {found.other:.1f} |"
        for count, found in zip(counts, (few, many), strict=True)
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure; print the tables; return 1 if a promise broke."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stores", type=int, default=2000, help="how many (2,000)")
    parser.add_argument("--size", type=int, default=100_000, help="bytes of each (100,000)")
    parser.add_argument("--rounds", type=int, default=7, help="of check and of sha256sum (7)")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSES])
    with tempfile.TemporaryDirectory(prefix="sweep-rate-") as folder:
        few, many = os.path.join(folder, "few"), os.path.join(folder, "many")
        quarter = max(args.stores // 4, 1)
        make(few, quarter, args.size)
        files = make(many, args.stores - quarter, args.size) + list(
            map(str, Path(few).rglob("*.[ab][01]"))
        )
        megabytes = sum(os.path.getsize(file) for file in files) / 1e6
        table, ratio = rates(rounds(folder, args.rounds), megabytes)
        peaks = peak([few]), peak([few, many])
    print(f"{args.stores:,} stores, {len(files):,} slots, {megabytes:.0f} MB\n\n{table}\n")
    print(f"{memory(*peaks, (quarter, args.stores))}\n")
    grown = max(now - then for then, now in zip(*peaks, strict=True))
    print(f"ratio, median of {args.rounds} rounds: {ratio:.2f} (at least {LEAST})")
    print(f"memory: {grown:+.1f} MB (at most {MOST:+.1f})")
    return int(ratio < LEAST or grown > MOST)


if __name__ == "__main__":
    sys.exit(main())
