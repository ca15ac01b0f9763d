#!/usr/bin/env python3
"""Kill a writer with SIGKILL at random moments, thousands of times, and open what it leaves.

    python scripts/kill.py --count 5000

A store lives through twenty of them. A process opens it, commits state after state of ever
different size, and reports each number that `sync` returned; after some milliseconds it is killed.
The store then has to open at the last number that was returned or one later, with exactly the
content that this number was given; and after one more commit, every copy of every generation has to
verify.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))

import redundict
from redundict.engine import slots, survey

LIFE: Final = 0.03  #: Seconds that a writer lives at most.
DEATHS: Final = 20  #: Kills that one store lives through.
KEEP: Final = (2, 4)  #: Generations that stores keep, by turns: the fewest, and the default.
BAD: Final = ("lost", "corrupt", "not healed", "untyped")
_NUMBER: Final = struct.Struct("<Q")


def content(number: int) -> dict[str, Any]:
    """Return the state that is committed under `number`: up to 60 KB, of every size class."""
    rng = random.Random(number)  # noqa: S311 - to be repeated, not secret
    return {"number": number, "pad": f"{number:08}" * rng.choice((1, 100, 600, 1500, 7500))}


def write(path: str, keep: int, reports: int) -> None:
    """Commit for ever; close and open again now and then."""
    while True:
        with redundict.open(path, keep=keep) as state:
            for _ in range(7):
                number = state.generation + 1
                state.clear()
                state.update(content(number))
                if state.sync() != number:
                    raise ValueError("the number is not the one after the last")
                os.write(reports, _NUMBER.pack(number))


def killed(path: str, keep: int, life: float) -> int:
    """Let a writer live for so many seconds; return the last number it reported, 0 if none."""
    reading, reports = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            write(path, keep, reports)
        finally:
            os._exit(1)
    os.close(reports)
    time.sleep(life)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        reported = pipe.read()
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the writer ended by itself")
    last = reported[-_NUMBER.size :]
    return _NUMBER.unpack(last)[0] if last else 0


def judge(path: str, keep: int, returned: int) -> tuple[str, int]:
    """Open, commit, check; return what is wrong, and the number that is there now."""
    with redundict.open(path, keep=keep) as state:
        found = state.generation
        if not returned <= found <= returned + 1:
            return "lost", found
        if found and state != content(found):
            return "corrupt", found
        state["number"] = 0
        number = state.sync() + 1  # known only now: numbers skip what may come back
        state.update(content(number))
        if state.sync() != number:
            return "not healed", number
    healthy = redundict.check(path).state is redundict.StoreState.HEALTHY
    return "" if healthy else "not healed", number


def is_marked(path: str) -> bool:
    """Tell whether a commit was interrupted, without waiting for the writer to finish it."""
    layout, found = survey.discover(path)
    survivor = next(iter(slots.by_claim(found)), None)
    state = slots.judge(found, survivor, layout.keep)
    return survivor is not None and state is not slots.StoreState.HEALTHY


def trials(folder: str, count: int, seed: int) -> Iterator[str]:
    """Kill `count` writers; yield of each whether it was caught in a commit, and what is wrong."""
    warnings.simplefilter("ignore", redundict.RedundancyWarning)
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret
    path, promise = "", 0
    for trial in range(count):
        if trial % DEATHS == 0:
            path, promise = os.path.join(folder, f"{trial}.json"), 0
        life, keep = rng.random() * LIFE, KEEP[trial // DEATHS % 2]
        returned = killed(path, keep, life) or promise
        try:
            marked = is_marked(path)
            fault, promise = judge(path, keep, returned)
        except Exception as error:  # noqa: BLE001 - of whatever type: it is what is looked for
            marked, fault = True, f"untyped {error!r}"
        if fault:
            print(f"trial {trial}, lived {life}: {fault}, {returned} returned", file=sys.stderr)
        yield f"{'marked' if marked else 'clean'} {fault}"


def run(count: int, *, seed: int, tick: Callable[[], object] = lambda: None) -> dict[str, int]:
    """Kill `count` writers; return how many, how many kills left a mark, and what went wrong."""
    counts = {"kills": 0, **dict.fromkeys(BAD, 0), "caught in a commit": 0}
    # Of its own, because a process with threads (a progress bar) must not fork.
    command = [sys.executable, __file__, "--serve", "--count", str(count), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            mark, _, fault = line.strip().partition(" ")
            counts["kills"] += 1
            counts["caught in a commit"] += mark == "marked"
            if fault:
                counts[next((bad for bad in BAD if fault.startswith(bad)), "untyped")] += 1
            tick()
    if process.returncode or counts["kills"] != count:
        raise RuntimeError("the trials ended early")
    return counts


def main() -> int:
    """Run the trials with a progress bar, print the counts; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="how many kills (1000)")
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run, nearly (0)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        with tempfile.TemporaryDirectory(prefix="kill-") as folder:
            for line in trials(folder, args.count, args.seed):
                print(line, flush=True)
        return 0
    from rich.console import Console  # noqa: PLC0415 - the process that forks does not need it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("kills", total=args.count)
        counts = run(args.count, seed=args.seed, tick=lambda: progress.advance(task))
    for name, number in counts.items():
        print(f"{name}: {number}")
    return int(any(counts[bad] for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
