#!/usr/bin/env python3
"""Compare the speed of two checkouts of redundict in one run.

    git worktree add --detach /tmp/before 332eeee
    python scripts/paired.py /tmp/before . --folder /dev/shm /var/tmp

Each checkout answers in a process of its own. The rounds alternate between the two, and every other
round begins with the other one. So whatever else the machine does slows both alike. Both
checkouts keep two generations in two copies, and encode with `json`, even if orjson is installed.

The tables show medians, and the ratio of the medians. The check of the types is a part of each
sync and of `close`. It is measured alone as well, and subtracted in the rows "without the check".
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

from bench_rounds import state_of

SIZES: Final = {"1 KB": 1_000, "20 KB": 20_000, "1 MB": 1_000_000}
WORKS: Final = ("save", "check", "unchanged sync", "open and close", "load")
CHECKED: Final = ("save", "unchanged sync", "open and close")  #: Each checks the types once.
INSIDE: Final = 100_000  #: Bytes that a process handles in one round, or else one call.
MOST: Final = 20  #: Calls of one round at most.
Medians = dict[str, list[tuple[float, float]]]  #: Seconds before and after, of each round.


class Checkout:
    """A process that works with one checkout."""

    def __init__(self, checkout: str, folder: str) -> None:
        environment = os.environ | {"PYTHONPATH": os.path.abspath(checkout)}
        command = [sys.executable, __file__, "--serve", folder]
        self._process = subprocess.Popen(  # noqa: S603 - This very script.
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, work: str, size: str) -> float:
        """Return the median seconds of some calls; each takes `work` at `size`."""
        requests, answers = self._pipes()
        print(f"{work}\t{size}", file=requests, flush=True)
        if not (answer := answers.readline()):
            raise RuntimeError(f"the process ended at {work} of {size}")
        return float(answer)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("a process without pipes")
        return self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes():
            pipe.close()
        self._process.wait()


class Worker:
    """Two stores of one size: one stays open, the other is opened and closed."""

    def __init__(self, folder: str, size: int) -> None:
        self._redundict = importlib.import_module("redundict")
        self._state = state_of(size)
        self._key = next(iter(self._state))
        self._number = 0
        self._idle = os.path.join(folder, f"idle{size}")
        self._open = self._opened(os.path.join(folder, f"open{size}"))
        with self._opened(self._idle):
            self.works: dict[str, Callable[[], object]] = {
                "save": self._open.sync,
                "check": check_of(self._state),
                "unchanged sync": self._open.sync,
                "open and close": self._open_and_close,
                "load": self._load,
            }

    def _opened(self, path: str) -> Any:
        opened = self._redundict.open(path, copies=2, keep=2)
        for self._number in range(4):  # Every slot exists and has its size.
            opened.update(self._state, number=self._number)
            opened.sync()
        return opened

    def _open_and_close(self) -> None:
        self._redundict.open(self._idle, copies=2, keep=2).close()

    def _load(self) -> None:
        self._redundict.load(self._idle)

    def seconds(self, work: str, calls: int) -> float:
        """Return the median seconds of some calls."""
        times = []
        for _ in range(calls):
            if work == "save":
                self._number += 1
                self._open[self._key] = {"name": "changed", "at": [self._number * 0.5]}
            began = time.perf_counter()
            self.works[work]()
            times.append(time.perf_counter() - began)
        return statistics.median(times)


def check_of(state: dict[str, Any]) -> Callable[[], object]:
    """Return the call that checks the types of a state, in this version or in 0.1."""
    try:
        strict_json = importlib.import_module("redundict.formats.strict_json")
    except ImportError:
        plainjson = importlib.import_module("redundict.plainjson")
        return lambda: plainjson._is_plain(state)  # noqa: SLF001 - Version 0.1 has no other name.
    return lambda: strict_json.is_plain(state)


def serve(folder: str) -> None:
    """Answer requests until the input ends."""
    sys.modules["orjson"] = None  # type: ignore[assignment]  # An import of it fails now.
    workers: dict[str, Worker] = {}
    for line in sys.stdin:
        work, _, size = line.rstrip("\n").partition("\t")
        if size not in workers:
            workers[size] = Worker(folder, SIZES[size])
        calls = min(max(INSIDE // SIZES[size], 1), MOST)
        print(workers[size].seconds(work, calls), flush=True)


def measured(checkouts: list[str], folder: str, rounds: int) -> Medians:
    """Return the seconds of both checkouts, by work and size."""
    found: Medians = {f"{work} of {size}": [] for size in SIZES for work in WORKS}
    with ExitStack() as stack:
        both = []
        for checkout in checkouts:
            its_own = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
            both.append(stack.enter_context(Checkout(checkout, its_own)))
        for size in SIZES:
            for number in range(-1, rounds):  # The first round warms up and does not count.
                for work in WORKS:
                    order = both if number % 2 else both[::-1]
                    took = {process: process.ask(work, size) for process in order}
                    if number >= 0:
                        found[f"{work} of {size}"].append((took[both[0]], took[both[1]]))
    return found


def table(folder: str, found: Medians) -> str:
    """Return the medians in milliseconds and their ratios, in Markdown."""
    lines = [f"| {folder} | before, ms | after, ms | after / before |", "|---|--:|--:|--:|"]
    for name, pairs in found.items():
        before, after = map(statistics.median, zip(*pairs, strict=True))
        lines.append(_row(name, before, after))
        work, _, size = name.partition(" of ")
        if work in CHECKED:
            checks = zip(*found[f"check of {size}"], strict=True)
            check_before, check_after = map(statistics.median, checks)
            label = f"{name}, without the check"
            lines.append(_row(label, before - check_before, after - check_after))
    return "\n".join(lines)


def _row(name: str, before: float, after: float) -> str:
    return f"| {name} | {before * 1e3:.3f} | {after * 1e3:.3f} | {after / before:.2f} |"


def main() -> int:
    """Compare the two checkouts and print a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="*", metavar="CHECKOUT", help="before, and after")
    parser.add_argument("--folder", nargs="+", default=[tempfile.gettempdir()], help="for stores")
    parser.add_argument("--rounds", type=int, default=60, help="of each work at each size (60)")
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return 0
    if len(args.checkouts) != 2 or not all(Path(c, "redundict").is_dir() for c in args.checkouts):
        parser.error("name two checkouts of redundict")
    print(f"Python {platform.python_version()}, {platform.platform()}, {args.rounds} rounds")
    for folder in args.folder:
        print(f"\n{table(folder, measured(args.checkouts, folder, args.rounds))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
