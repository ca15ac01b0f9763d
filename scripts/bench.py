#!/usr/bin/env python3
"""Measure redundict and its peers side by side: same file system, same states, paired rounds.

    python scripts/bench.py                       # some minutes, in the folder for temporaries
    python scripts/bench.py --folder /mnt/xfs --sizes 1000 20000 --plot docs
    sudo python scripts/bench.py --slow-flush 5   # on an ext4 whose flush takes 5 ms

Every round asks each contestant once, in random order, so that what the machine does meanwhile
meets all alike; medians count, and ratios of medians. Who does not sync is marked, and no ratio
counts against it. Contestants that are not installed are left out, and named.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import block_log
import powercut
from contestants import CONTESTANTS, Contestant, Redundict, State, missing
from plot import Series, svg

from redundict import plainjson, threads

SIZES: Final = (1_000, 20_000, 200_000, 1_000_000, 10_000_000)
BUDGET: Final = 20_000_000  #: Bytes that one contestant saves at one size, in all rounds.
PATIENCE: Final = 2.0  #: Seconds after which a contestant that is slow has had rounds enough.
TOO_SLOW: Final = 300.0  #: Milliseconds a save, from which a peer sits the larger sizes out.
Times = dict[str, list[float]]


def records(count: int) -> State:
    """Return records of some 100 bytes, ten values in each: what costs an encoder most per byte."""
    return {
        f"item{n:07}": {
            "name": f"thing number {n}",
            "at": [n % 640, n * 1.5],
            "seen": n % 3 == 0,
            "tags": ["a", "b", str(n)],
        }
        for n in range(count)
    }


def messages(count: int) -> State:
    """Return records of some 450 bytes, most of it text."""
    text = "what somebody wrote to somebody else, and got an answer to "
    return {f"item{n:07}": {"at": n * 1.5, "text": f"{n}: {text * 7}"} for n in range(count)}


SHAPES: Final = {"records": (records, 104), "messages": (messages, 467)}  #: And bytes per item.


def state_of(size: int, shape: str = "records") -> State:
    """Return a state of about `size` bytes of JSON."""
    make, each = SHAPES[shape]
    return make(max(1, size // each))


def median(times: list[float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(times) * 1e3


def rounds(calls: Mapping[str, Callable[[], object]], count: int, rng: random.Random) -> Times:
    """Make every call so often, in random order, and return how long each took."""
    times: Times = {name: [] for name in calls}
    for _ in range(count):
        for name in rng.sample(list(calls), len(calls)):
            if sum(times[name]) > PATIENCE and len(times[name]) > 2:
                continue
            began = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - began)
    return times


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
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret
    state, count = state_of(size, shape), max(5, min(200, BUDGET // size))
    keys = list(state)
    with ExitStack() as stack:
        here = [stack.enter_context(contestant(kind, folder, state)) for kind in kinds]
        for thread in set(threading.enumerate()) - {threading.current_thread()}:
            threads._harmless.add(thread)  # noqa: SLF001 - a peer's own: no reason for snapshots
        stored = len(json.dumps(state, separators=(",", ":")))
        floor = Floor(folder, -(-stored // 4096) * 4096)
        stack.callback(floor.close)
        payload = json.dumps(state).encode()

        def save_changed(c: Contestant) -> None:
            state[rng.choice(keys)] = {"name": "changed", "at": [rng.random()]}
            c.save(state)

        found = {
            "save": rounds(
                {c.name: functools.partial(save_changed, c) for c in here}
                | {
                    "floor": floor.save,
                    "one flush": lambda: floor.save(1),
                    "json.dumps": lambda: json.dumps(state).encode(),
                    "sha256": lambda: hashlib.sha256(payload).digest(),
                    "check": lambda: plainjson._is_plain(state),  # noqa: SLF001 - a part of a save
                },
                count,
                rng,
            )
        }

        def change_one(c: Contestant) -> None:
            key = rng.choice(keys)
            state[key] = {"name": "changed", "at": [rng.random()]}
            c.change(state, key)

        found["change"] = rounds(
            {c.name: functools.partial(change_one, c) for c in here},
            count,
            rng,
        )
        for c in here:
            c.save(state)
        unchanged: dict[str, Callable[[], object]] = {
            c.name: c.sync for c in here if isinstance(c, Redundict)
        }
        found["no change"] = rounds(unchanged, count, rng)
        loads: dict[str, Callable[[], object]] = {c.name: c.load for c in here}
        file = os.path.join(folder, "payload")
        Path(file).write_bytes(payload)

        def read_digest_parse() -> None:
            content = Path(file).read_bytes()
            hashlib.sha256(content).digest()
            json.loads(content)

        loads["read + digest + json.loads"] = read_digest_parse
        found["load"] = rounds(loads, max(3, count // 4), rng)
        for c in here:
            if c.load() != state:
                raise RuntimeError(f"{c.name} did not load what it saved")
    return found


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


# --- what is exact, or not a matter of size


def flushes(kind: type[Contestant], folder: str) -> tuple[float, float]:
    """Return the flushes and the KB written per save of 20 KB, counted by strace."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import bench, contestants\n"
        "kind = next(k for k in contestants.CONTESTANTS if k.__name__ == sys.argv[2])\n"
        "state = bench.state_of(20_000); c = kind(sys.argv[3])\n"
        "for n in range(5): c.save({**state, 'n': n})\n"
        "import os; os.write(2, b'=begin=')\n"
        "for n in range(10): c.save({**state, 'n': 100 + n})\n"
        "os.write(2, b'=end='); os._exit(0)"
    )
    with tempfile.TemporaryDirectory(dir=folder) as there:
        trace = os.path.join(there, "trace")
        calls = "write,pwrite64,writev,pwritev,fsync,fdatasync,msync,sync_file_range,rename"
        command = ["strace", "-f", "-o", trace, "-e", f"trace={calls}", sys.executable, "-c"]
        here = str(Path(__file__).parent)
        work = [*command, program, here, kind.__name__, there]
        subprocess.run(work, check=True, capture_output=True)  # noqa: S603
        text = Path(trace).read_text().split("=begin=")[1].split("=end=")[0]
    lines = [line.split(None, 1)[1] for line in text.splitlines() if " " in line]
    synced = sum(line.startswith(("fsync", "fdatasync", "msync")) for line in lines)
    written = [
        int(line.rpartition("= ")[2])
        for line in lines
        if "write" in line.partition("(")[0] and line.rpartition("= ")[2].isdigit()
    ]
    return synced / 10, sum(written) / 10 / 1e3


def peak(size: int, *, fast: bool) -> float:
    """Return the peak of memory that a save needs above the dict, in payloads."""
    program = (
        "import sys, resource; sys.path.insert(0, sys.argv[1]); import bench, redundict, tempfile\n"
        "from redundict import plainjson\n"
        "if sys.argv[3] == '0': plainjson._orjson = lambda: None\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    s = redundict.open(folder + '/s'); s['a'] = 1; s.sync()\n"
        "    s.update(bench.state_of(int(sys.argv[2]))); before = peak(); s.sync()\n"
        "    import os; used = peak() - before\n"
        "    print(used / max(g.length for g in s.generations()))\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(size), str(int(fast))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def starting(*programs: str) -> list[float]:
    """Return the median seconds that Python takes for each program, in paired rounds."""

    def start(program: str) -> None:
        command = [sys.executable, *program.split("|")]
        checkout = Path(__file__).resolve().parents[1]
        subprocess.run(command, check=True, capture_output=True, cwd=checkout)  # noqa: S603

    calls = {program: functools.partial(start, program) for program in programs}
    times = rounds(calls, 25, random.Random(0))  # noqa: S311 - an order
    return [statistics.median(times[program]) for program in programs]


def items(count: int = 200_000) -> float:
    """Return what setting and getting costs, against a subclass of dict that adds nothing."""

    class Plain(dict[Any, Any]):
        """Nothing."""

    def use(mapping: dict[Any, Any]) -> None:
        for n in range(count):
            mapping["key"] = n
            mapping["key"]

    with tempfile.TemporaryDirectory() as folder:
        state = Redundict(folder)
        calls = {"ours": lambda: use(state._state), "plain": lambda: use(Plain())}  # noqa: SLF001
        times = rounds(calls, 15, random.Random(0))  # noqa: S311 - an order
        state.close()
    return median(times["ours"]) / median(times["plain"])


# --- what is told


def crossover(ours: dict[int, float], theirs: dict[int, float]) -> float | None:
    """Return the size up to which our cost is the lower one; None if it never is.

    Between two sizes, both costs are taken for straight lines on logarithmic scales; infinity if
    ours is the lower one at every size.
    """
    before = None
    for size in sorted(ours.keys() & theirs.keys()):
        ratio = ours[size] / theirs[size]
        if ratio > 1:
            if before is None:
                return None
            smaller, lower = before
            part = math.log(1 / lower) / math.log(ratio / lower)
            return float(smaller * (size / smaller) ** part)
        before = size, ratio
    return float("inf")


def table(work: str, found: dict[int, dict[str, Times]], kinds: list[type[Contestant]]) -> str:
    """Return the medians of one work, in milliseconds, as a table in Markdown."""
    sizes = list(found)
    unsafe = {kind.name for kind in kinds if not kind.durable}
    names = dict.fromkeys(name for size in sizes for name in found[size][work])
    rows = [f"| {work}, ms | {' | '.join(shown(size) for size in sizes)} |"]
    rows.append("|---|" + "--:|" * len(sizes))
    for name in names:
        times = [found[size][work].get(name) for size in sizes]
        cells = [f"{median(t):.3g}" if t else "" for t in times]
        mark = " (does not sync)" if name in unsafe else ""
        rows.append(f"| {name}{mark} | {' | '.join(cells)} |")
    return "\n".join(rows)


def shown(size: float) -> str:
    """Return a number of bytes as a person says it."""
    if size == float("inf"):
        return "every size measured"
    for unit, name in ((1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def bounds(found: dict[int, dict[str, Times]]) -> list[tuple[str, float, float]]:
    """Return the promises that the measured times can be held against: name, ratio, bound."""
    rows = []
    recipe, fast = "durable recipe", "durable recipe, orjson"
    for size, limit in ((1_000, 0.75), (20_000, 0.75), (200_000, 1.0)):
        if size not in found:
            continue
        m = {name: median(times) for name, times in found[size]["save"].items()}
        rows.append((f"save of {shown(size)} / {recipe}", m["redundict"] / m[recipe], limit))
        parts = m["check"] + m["json.dumps"] + m["sha256"] + m["floor"]
        label = f"save of {shown(size)} / (check + dumps + digest + floor)"
        rows.append((label, m["redundict"] / parts, 1.3))
        if fast in m:
            rows.append((f"save of {shown(size)} / {fast}", m["redundict, orjson"] / m[fast], 0.75))
    for size, works in found.items():
        if size >= 200_000:
            m = {name: median(times) for name, times in works["save"].items()}
            no_change = median(works["no change"]["redundict"])
            parts = m["check"] + m["json.dumps"] + m["sha256"]
            label = f"no change in {shown(size)} / (check + dumps + digest)"
            rows.append((label, no_change / parts, 1.1))
            m = {name: median(times) for name, times in works["load"].items()}
            label = f"load of {shown(size)} / (read + digest + parse)"
            rows.append((label, m["redundict"] / m["read + digest + json.loads"], 1.1))
    if 10_000_000 in found and fast in found[10_000_000]["save"]:
        m = {name: median(times) for name, times in found[10_000_000]["save"].items()}
        rows.append((f"save of 10 MB / {fast}", m["redundict, orjson"] / m[fast], 1.0))
    return rows


def report(found: dict[int, dict[str, Times]], kinds: list[type[Contestant]]) -> str:
    """Return every table."""
    parts = [table(work, found, kinds) for work in ("save", "change", "no change", "load")]
    lines = ["| one key changed: redundict is ahead of | up to |", "|---|---|"]
    ours = costs(found, "change", "redundict, orjson") or costs(found, "change", "redundict")
    for kind in kinds:
        if issubclass(kind, Redundict):
            continue
        size = crossover(ours, costs(found, "change", kind.name))
        lines.append(f"| {kind.name} | {'no size' if size is None else shown(size)} |")
    parts.append("\n".join(lines))
    lines = ["| bound | measured | at most | met |", "|---|--:|--:|---|"]
    for name, ratio, limit in bounds(found):
        lines.append(f"| {name} | {ratio:.2f} | {limit} | {'yes' if ratio <= limit else 'no'} |")
    return "\n\n".join([*parts, "\n".join(lines)])


def costs(found: dict[int, dict[str, Times]], work: str, name: str) -> dict[int, float]:
    """Return one contestant's medians by size."""
    return {size: median(t[work][name]) for size, t in found.items() if name in t[work]}


def single_figures(folder: str, kinds: list[type[Contestant]]) -> str:
    """Return the tables of what does not depend on the size."""
    version = starting("-c|pass", "-m|redundict|--version")
    imports = starting("-c|import json, hashlib, typing, logging", "-c|import redundict", "-c|pass")
    rows = [
        ("get and set / empty subclass of dict", items(), 1.05),
        ("redundict --version / python -c pass", version[1] / version[0], 2.0),
        (
            "import redundict / import json, hashlib, typing, logging",
            (imports[1] - imports[2]) / (imports[0] - imports[2]),
            1.3,
        ),
        ("peak memory of a save of 100 MB, json / payload", peak(100_000_000, fast=False), 2.2),
        ("the same, orjson / payload", peak(100_000_000, fast=True), 1.1),
    ]
    lines = ["| bound | measured | at most | met |", "|---|--:|--:|---|"]
    for name, ratio, limit in rows:
        lines.append(f"| {name} | {ratio:.2f} | {limit} | {'yes' if ratio <= limit else 'no'} |")
    if shutil.which("strace"):
        lines += ["", "| save of 20 KB | flushes | KB written |", "|---|--:|--:|"]
        for kind in kinds:
            synced, written = flushes(kind, folder)
            lines.append(f"| {kind.name} | {synced:.1f} | {written:.1f} |")
    return "\n".join(lines)


def plots(found: dict[int, dict[str, Times]], kinds: list[type[Contestant]], folder: str) -> None:
    """Write one picture of the cost against the size for each work."""
    for work, title in (("save", "Saving the whole state"), ("change", "Changing one key")):
        series = [
            Series(kind.name, costs(found, work, kind.name), dashed=not kind.durable)
            for kind in kinds
        ]
        text = svg(f"{title}, in milliseconds (dashed: does not sync)", series, shown)
        Path(folder, f"bench_{work}.svg").write_text(text)


@contextmanager
def slow_disk(milliseconds: float) -> Iterator[str]:
    """Yield a folder on an ext4 whose flush takes so long."""
    if why := powercut.unavailable():
        raise SystemExit(why)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, ExitStack() as stack:
        image, fuse, point = (os.path.join(folder, name) for name in ("image", "fuse", "point"))
        with open(image, "wb") as file:
            file.truncate(1 << 30)
        block_log.run("mkfs.ext4", "-q", "-F", image)
        os.mkdir(point)
        device = block_log.BlockLog(image, fuse, milliseconds / 1e3)
        stack.enter_context(device)
        stack.enter_context(powercut.mounted(device.device, point))
        yield point


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
        "--single", action="store_true", help="what does not depend on the size, too"
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
    found: dict[int, dict[str, Times]] = {}
    with ExitStack() as stack:
        if args.slow_flush:
            base = stack.enter_context(slow_disk(args.slow_flush))
        else:
            base = stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder))
        present = kinds
        for done, size in enumerate(sorted(args.sizes)):
            if sys.stderr.isatty():
                line = f"\r{done} of {len(args.sizes)} sizes"
                print(line, end="", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=base) as folder:
                found[size] = measure(folder, size, args.shape, present, args.seed)
            saves = found[size]["save"]
            present = [kind for kind in present if median(saves[kind.name]) < TOO_SLOW]
            gc.collect()
        print(f"\rPython {platform.python_version()}, {platform.platform()}, {args.shape}\n")
        print(report(found, kinds))
        if args.single:
            print(f"\n{single_figures(base, kinds)}")
    if args.json:
        medians = {
            size: {
                work: {name: median(t) for name, t in times.items()}
                for work, times in works.items()
            }
            for size, works in found.items()
        }
        Path(args.json).write_text(json.dumps(medians, indent=1))
    if args.plot:
        plots(found, kinds, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
