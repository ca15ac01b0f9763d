#!/usr/bin/env python3
"""Gather the whole evidence that nothing is lost: one command, a progress bar, one table.

    sudo python scripts/evidence.py                # about an hour and a half
    sudo python scripts/evidence.py --scale 0.01   # a look at all of it

Exits with 1 if anything was lost, corrupt or untyped, or if a mutant got by. Without root or
without a peer, what needs it is left out, and says so. Needs `pip install '.[evidence]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import bitrot
import fuzz
import inject
import interrupts
import kill
import powercut
import powercut_disks
import pytest
from peers import PROGRAMS
from rich.console import Console
from rich.progress import Progress

CHECKOUT: Final = Path(__file__).resolve().parents[1]
KILLS: Final = 5_000
INPUTS: Final = 2_000_000
CUTS: Final = 500  #: Per program and file system.
CUTS_OF_TWO: Final = 700  #: Of a store on two disks, per file system.
REFUSALS: Final = 0.25  #: The part of all calls and errors that strace refuses.
HISTORIES: Final = 2_500  #: Of copies that come and go, for each kind; there are 48 kinds.
TESTS: Final = 65  #: Enumerations and mutants, for the bar.
OPTIONS: Final = ("-q", "-p", "no:cacheprovider", "-n=0", "-m=")  #: In this process, all tests.
Rows = list[tuple[str, int, int]]  #: What was tried, how often, and how often it went wrong.


class Tally:
    """A pytest plugin that adds up the states that the tests report."""

    def __init__(self, tick: Callable[[], object]) -> None:
        self.states = self.passed = self.failed = 0
        self._tick = tick

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one phase of a test."""
        self.failed += report.failed
        if report.failed:
            print(f"{report.nodeid}: {report.longreprtext}", file=sys.stderr)
        if report.when == "call":
            self.passed += report.passed
            self.states += sum(int(str(v)) for k, v in report.user_properties if k == "states")
            self._tick()


def tests(names: Sequence[str], tick: Callable[[], object]) -> Tally:
    """Run test files, without their output."""
    tally = Tally(tick)
    files = [str(CHECKOUT / "tests" / f"{name}.py") for name in names]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*files, *OPTIONS, f"--rootdir={CHECKOUT}"], [tally])
    return tally


def simulated(tick: Callable[[], object]) -> Rows:
    """Return what the enumerations on the simulated disk say, and those of broken redundicts."""
    cuts = tests(["test_crash_simulated"], tick)
    mutants = tests(["test_crash_mutants"], tick)
    return [
        ("crash states of the simulated disk", cuts.states, cuts.failed),
        ("mutants of redundict, each caught", mutants.passed, mutants.failed),
    ]


def separated(scale: float, tick: Callable[[], object]) -> Rows:
    """Return what histories of copies that part and meet say, in the model and on the product."""
    os.environ["REDUNDICT_HISTORIES"] = str(max(40, int(HISTORIES * scale)))
    os.environ["REDUNDICT_FAULTS"] = "2" if scale >= 1 else "1"
    model, product = (tests([name], tick) for name in ("test_lineage", "test_lineage_product"))
    return [
        ("histories of copies that part and meet, in the model", model.states, model.failed),
        ("the same on redundict, with power cuts", product.states, product.failed),
    ]


def counted(name: str, counts: dict[str, int], bad: Sequence[str]) -> Rows:
    """Return the counts of one script as a row."""
    return [(name, next(iter(counts.values())), sum(counts[what] for what in bad))]


def refused(scale: float, seed: int, progress: Progress) -> Rows:
    """Return what calls that strace refuses do; nothing if it is not here."""
    if why_not := inject.unavailable():
        print(f"left out: refused system calls ({why_not})", file=sys.stderr)
        return []
    task = progress.add_task("refused system calls", total=None)

    def tick(total: int) -> None:
        progress.update(task, total=total, advance=1)

    return counted("system calls refused", inject.run(scale, seed=seed, tick=tick), inject.BAD)


def interrupted(scale: float, seed: int, tick: Callable[[], object]) -> Rows:
    """Return what interrupts do: at each point, of real timers, and of Ctrl-C."""
    seconds, count = interrupts.SECONDS * scale, max(1, int(interrupts.COUNT * scale))
    found = interrupts.run(min(scale, 1.0), seconds, count, seed=seed, tick=tick)
    return [row for kind in found for row in counted(kind, found[kind], interrupts.BAD)]


def table(rows: Rows) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| evidence | tried | went wrong |", "|---|--:|--:|"]
    return "\n".join([*lines, *(f"| {name} | {tried:,} | {bad:,} |" for name, tried, bad in rows)])


def main() -> int:
    """Gather everything, print the tables; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the counts (1)")
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run (0)")
    args = parser.parse_args()
    os.chdir(CHECKOUT)
    kills, inputs, states = (max(1, int(n * args.scale)) for n in (KILLS, INPUTS, CUTS))
    programs = powercut.present(list(PROGRAMS))
    systems = powercut.present(list(powercut.FILE_SYSTEMS))
    why_not = powercut.unavailable()
    rows: Rows = []
    found: dict[str, Counter[str]] = {}
    with Progress(console=Console(stderr=True)) as progress:

        def bar(name: str, total: int | None) -> Callable[[], object]:
            task = progress.add_task(name, total=total)
            return lambda: progress.advance(task)

        counts = kill.run(kills, seed=args.seed, tick=bar("kills", kills))
        rows += counted("kills", counts, kill.BAD)
        counts = fuzz.run(inputs, seed=args.seed, tick=bar("hostile bytes", inputs))
        rows += counted("inputs to the slot parser", counts, fuzz.BAD)
        rows += refused(REFUSALS * args.scale, args.seed, progress)
        rows += interrupted(args.scale, args.seed, bar("interrupts", None))
        rows += simulated(bar("simulated disk, mutants", TESTS))
        rows += separated(args.scale, bar("copies that part and meet", None))
        if why_not:
            print(f"left out: power cuts on file systems ({why_not})", file=sys.stderr)
        else:
            total = len(programs) * len(systems) * states
            found = powercut.run(
                programs, systems, states, seed=args.seed, tick=bar("power cuts", total)
            )
            cuts = found["redundict"]
            rows.append(("power cuts on file systems", cuts.total(), cuts.total() - cuts["kept"]))
            states = max(1, int(CUTS_OF_TWO * args.scale))
            tick = bar("power cuts of two disks", len(systems) * states)
            cuts = powercut_disks.run(states, seed=args.seed, tick=tick)
            rows.append(("power cuts of two disks", cuts.total(), cuts.total() - cuts["kept"]))
    print(f"Python {platform.python_version()}, {platform.platform()}\n\n{table(rows)}\n")
    if found:
        print(f"{powercut.table(found)}\n")
    print(bitrot.table(bitrot.run(bitrot.programs())))
    return int(any(bad or not tried for _, tried, bad in rows))


if __name__ == "__main__":
    sys.exit(main())
