#!/usr/bin/env python3
"""Measure redundict and its peers side by side: same file system, same states, paired rounds.

    python scripts/bench.py                       # some minutes, in the folder for temporaries
    python scripts/bench.py --folder /mnt/xfs --sizes 1000 20000 --plot docs
    sudo python scripts/bench.py --slow-flush 5   # on an ext4 whose flush takes 5 ms
    sudo python scripts/bench.py --slow-flush 5 --idle-flush 0.1  # less if there is nothing to do
    python scripts/bench.py --single              # only what does not depend on the size

Programs that do not sync are marked, and no ratio counts against them. Programs that are not
installed are named and left out. `bench_rounds` measures times, `bench_exact` counts flushes and
bytes, and `bench_report` makes the tables. Needs `pip install '.[evidence]'`.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import importlib
import json
import os
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Final

import bench_exact
import bench_report
import block_log
import powercut
from bench_report import FLOOR, FLUSH, Found, shown
from bench_rounds import SHAPES, Times, median, rounds, state_of
from contestants import (
    CONTESTANTS,
    Contestant,
    FastOnTwoDisks,
    FastRedundict,
    OnTwoDisks,
    Redundict,
    State,
    missing,
)
from rich.console import Console
from rich.progress import Progress

from redundict.formats import snapshots, strict_json

SIZES: Final = (1_000, 20_000, 200_000, 1_000_000, 10_000_000, 100_000_000)
BUDGET: Final = 20_000_000  #: Bytes that one contestant saves at one size, in all rounds.
TOO_SLOW: Final = 300.0  #: Milliseconds a save, from which a peer sits the larger sizes out.


class Floor:
    """The bare system calls: as many bytes as redundict writes, into two files, and two flushes."""

    def __init__(self, folder: str, size: int) -> None:
        self.data = os.urandom(size)
        names = [os.path.join(folder, f"floor{n}") for n in range(2)]
        self._fds = [os.open(name, os.O_RDWR | os.O_CREAT, 0o600) for name in names]
        for fd in self._fds:
            os.write(fd, self.data)
            os.fsync(fd)

    def save(self, copies: int = 2) -> None:
        """Write and flush, one after the other."""
        for fd in self._fds[:copies]:
            os.pwrite(fd, self.data, 0)
            os.fdatasync(fd)

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds:
            os.close(fd)


def measure(
    folder: str, size: int, shape: str, kinds: list[type[Contestant]], seed: int
) -> dict[str, Times]:
    """Return the times of every contestant and of the floor, by work, at one size."""
    # Some peers have threads, and the bar has one. None of them changes the state.
    snapshots.other_threads_running = lambda: False
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret
    state, count = state_of(size, shape), max(5, min(200, BUDGET // size))
    with ExitStack() as stack:
        here = [stack.enter_context(contestant(kind, folder, state)) for kind in kinds]
        payload = json.dumps(state, separators=(",", ":")).encode()
        floor = Floor(folder, -(-len(payload) // 4096) * 4096)
        stack.callback(floor.close)
        keys = list(state)

        by_name, changed = {c.name: c for c in here}, [""]

        def prepare(name: str) -> None:
            changed[0] = rng.choice(keys)
            state[changed[0]] = {"name": "changed", "at": [rng.random()]}
            if name in by_name:
                by_name[name].take(state)

        def change(c: Contestant) -> None:
            c.change(state, changed[0])

        parts = parts_of_a_save(state, payload) | {
            FLOOR: floor.save,
            FLUSH: functools.partial(floor.save, 1),
        }
        saves: dict[str, Work] = {c.name: functools.partial(c.save_taken, state) for c in here}
        found = {"save": rounds(saves | parts, count, rng, prepare)}
        changes: dict[str, Work] = {c.name: functools.partial(change, c) for c in here}
        found["change"] = rounds(changes, count, rng, prepare)
        for c in here:
            c.save(state)
        unchanged: dict[str, Work] = {c.name: c.sync for c in here if isinstance(c, Redundict)}
        found["no change"] = rounds(unchanged | parts_of_a_save(state, payload), count, rng)
        loads: dict[str, Work] = {c.name: c.load for c in here}
        loads["read + digest + json.loads"] = reading(os.path.join(folder, "payload"), payload)
        found["load"] = rounds(loads, max(3, count // 4), rng)
        for c in here:
            if c.load() != state:
                raise RuntimeError(f"{c.name} did not load what it saved")
    return found


Work = Callable[[], object]


def parts_of_a_save(state: State, payload: bytes) -> dict[str, Work]:
    """Return what a save consists of, but for the writing."""
    parts: dict[str, Work] = {
        "json.dumps": lambda: json.dumps(state).encode(),
        "sha256": lambda: hashlib.sha256(payload).digest(),
        "check": functools.partial(strict_json.is_plain, state),
    }
    if not missing(FastRedundict):
        parts["orjson.dumps"] = functools.partial(importlib.import_module("orjson").dumps, state)
    return parts


def reading(file: str, payload: bytes) -> Work:
    """Return what loads a payload with nothing around it."""
    Path(file).write_bytes(payload)

    def read_digest_parse() -> None:
        content = Path(file).read_bytes()
        hashlib.sha256(content).digest()
        json.loads(content)

    return read_digest_parse


@contextmanager
def contestant(kind: type[Contestant], folder: str, state: State) -> Iterator[Contestant]:
    """Open a contestant in a folder of its own, with a state in it, and close it."""
    its_own = os.path.join(folder, kind.__name__)
    os.mkdir(its_own)
    opened = kind(its_own)
    for _ in range(3):
        opened.save(state)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(its_own, ignore_errors=True)


@contextmanager
def slow_disk(milliseconds: float, idle: float) -> Iterator[str]:
    """Yield a folder on an ext4 whose flush takes so long, or `idle` after one with no write."""
    if why := powercut.unavailable():
        raise SystemExit(why)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, ExitStack() as stack:
        image, fuse, point = (os.path.join(folder, name) for name in ("image", "fuse", "point"))
        with open(image, "wb") as file:
            file.truncate(1 << 30)
        block_log.run("mkfs.ext4", "-q", "-F", image)
        os.mkdir(point)
        # In a process of its own: its thread must not share the lock of this interpreter.
        seconds = [str(ms / 1e3) for ms in (milliseconds, idle)]
        command = [sys.executable, block_log.__file__, image, fuse, *seconds]
        server = stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, text=True))  # noqa: S603
        if server.stdout is None:
            raise ValueError("a process without pipes")
        device = server.stdout.readline().strip()
        stack.enter_context(powercut.mounted(device, point))
        yield point


def single_figures(folder: str, kinds: list[type[Contestant]]) -> str:
    """Return the tables of what does not depend on the size."""
    version = bench_exact.starting("-c|pass", "-m|redundict|--version")
    imports = bench_exact.starting(
        "-c|import json, hashlib, typing, logging", "-c|import redundict", "-c|pass"
    )
    size = 100_000_000
    rows = [
        ("get and set / empty subclass of dict", bench_exact.items(), 1.05),
        ("redundict --version / python -c pass", version[1] / version[0], 2.0),
        (
            "import redundict / import json, hashlib, typing, logging",
            (imports[1] - imports[2]) / (imports[0] - imports[2]),
            1.3,
        ),
    ]
    for kind, limit in ((Redundict, 2.2), (FastRedundict, 1.1)):
        if not missing(kind):
            memory = bench_exact.peak(kind, folder, size) / size
            rows.append((f"memory of a save of 100 MB, {kind.name} / payload", memory, limit))
    return "\n\n".join([bench_report.met(rows), bench_exact.counts(kinds, folder)])


def main() -> int:
    """Measure, print the tables, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where to write (the folder for temporaries)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="bytes of JSON")
    parser.add_argument("--shape", choices=SHAPES, default="records", help="of the state (records)")
    parser.add_argument("--only", nargs="+", help="contestants, by class")
    parser.add_argument(
        "--slow-flush", type=float, metavar="MS", help="on an ext4 with slow flushes"
    )
    parser.add_argument(
        "--idle-flush", type=float, metavar="MS", help="where nothing is to be flushed (as slow)"
    )
    parser.add_argument(
        "--single", action="store_true", help="what does not depend on the size, and nothing else"
    )
    parser.add_argument("--json", metavar="FILE", help="write the medians, in milliseconds")
    parser.add_argument("--plot", metavar="FOLDER", help="write the plots")
    parser.add_argument("--seed", type=int, default=0, help="of the order (0)")
    args = parser.parse_args()
    chosen = [kind for kind in CONTESTANTS if not args.only or kind.__name__ in args.only]
    for kind in chosen:
        if missing(kind):
            print(f"left out: {kind.name} ({missing(kind)} is not installed)", file=sys.stderr)
    kinds = [kind for kind in chosen if not missing(kind)]
    print(f"Python {platform.python_version()}, {platform.platform()}, {args.shape}\n")
    with ExitStack() as stack:
        if args.slow_flush:
            idle = args.slow_flush if args.idle_flush is None else args.idle_flush
            base, OnTwoDisks.other = (
                stack.enter_context(slow_disk(args.slow_flush, idle)) for _ in range(2)
            )
            kinds = [OnTwoDisks, FastOnTwoDisks, *kinds]
        else:
            base = stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder))
        if args.single:
            print(single_figures(base, kinds))
            return 0
        found = measured(base, args.sizes, args.shape, kinds, args.seed)
    print(bench_report.report(found, kinds))
    if args.json:
        Path(args.json).write_text(json.dumps(medians(found), indent=1))
    if args.plot:
        bench_report.plots(found, kinds, args.plot, "_slow_flush" if args.slow_flush else "")
    return 0


def measured(
    base: str, sizes: list[int], shape: str, kinds: list[type[Contestant]], seed: int
) -> Found:
    """Return the times at every size, smallest first; a peer that is too slow sits the rest out."""
    found: Found = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(sizes))
        for size in sorted(sizes):
            progress.update(task, description=shown(size))
            with tempfile.TemporaryDirectory(dir=base) as folder:
                found[size] = measure(folder, size, shape, kinds, seed)
            saves = found[size]["save"]
            kinds = [kind for kind in kinds if median(saves[kind.name]) < TOO_SLOW or kind.stays]
            gc.collect()
            progress.advance(task)
    return found


def medians(found: Found) -> dict[int, dict[str, dict[str, float]]]:
    """Return the medians, in milliseconds, as they are written for programs."""
    return {
        size: {
            work: {name: median(times) for name, times in named.items()}
            for work, named in works.items()
        }
        for size, works in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
