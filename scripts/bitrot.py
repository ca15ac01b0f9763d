#!/usr/bin/env python3
"""Damage what redundict and its peers saved, after a clean close, and see what each then loads.

    sudo python scripts/bitrot.py                 # without root, the full disk is left out

Each program saves a few states and closes. Then one thing is done to one of its files: to each file
that holds the newest state in turn, and a bit is flipped in each place where a value of it stands.
The worst of what it loads counts. In the rows "both copies" the same is done to every such file of
redundict at once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import IntEnum
from typing import Final

import block_log
from peers import PROGRAMS, content
from powercut import Process, installed, mounted, store_path, unavailable
from rich.console import Console
from rich.progress import track

STATES: Final = 5  #: Saved before the damage.
BOTH: Final = "redundict, both copies"
MEBIBYTE: Final = 1 << 20


class Outcome(IntEnum):
    """What loading amounts to, the worst last."""

    INTACT = 0
    PREVIOUS = 1  #: The state before, and the program says so.
    ERROR = 2
    KILLED = 3
    OLDER = 4  #: An older state, without a word.
    EMPTY = 5
    WRONG = 6

    def __str__(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Outcome.INTACT: "intact",
    Outcome.PREVIOUS: "the one before, said so",
    Outcome.ERROR: "error",
    Outcome.KILLED: "interpreter killed",
    Outcome.OLDER: "silently older",
    Outcome.EMPTY: "silently empty",
    Outcome.WRONG: "wrong data",
}

Damage = Callable[[bytes, int], bytes]  #: Of a file's content, given where a value stands.


def flip(held: bytes, at: int) -> bytes:
    """Flip one bit of the value."""
    return held[:at] + bytes([held[at] ^ 2]) + held[at + 1 :]


DAMAGES: Final[dict[str, Damage]] = {
    "one bit flipped": flip,
    "all NUL": lambda held, _: bytes(len(held)),
    "0 bytes": lambda _, __: b"",
    "cut in half": lambda held, _: held[: len(held) // 2],
}
FULL: Final = "disk full in a save"


def value() -> bytes:
    """Return a value of the newest state, as every program's file holds it."""
    return str(content(STATES)["k7"]).encode()


def places(path: str) -> Iterator[tuple[str, int]]:
    """Yield each file of a store that holds the newest state, and each place of a value in it."""
    for folder, _, names in os.walk(os.path.dirname(path)):
        for name in sorted(names):
            file = os.path.join(folder, name)
            with open(file, "rb") as opened:
                held = opened.read()
            at = held.find(value())
            while at >= 0:
                yield file, at
                at = held.find(value(), at + 1)


def save(program: str, path: str) -> None:
    """Save the states and close."""
    os.makedirs(os.path.dirname(path))
    with Process("work", program, path) as worker:
        for number in range(1, STATES + 1):
            if (answer := worker.ask(str(number))) != "saved":
                raise RuntimeError(f"{program}: {answer}")
        worker.finish()


def load(program: str, path: str, newest: int = STATES) -> Outcome:
    """Return what a new process makes of the store."""
    with Process("load") as loader:
        answer = loader.ask(f"{program}\t{path}")
    kind, _, rest = answer.partition(" ")
    if kind != "generation":
        return {"killed": Outcome.KILLED, "corrupt": Outcome.WRONG}.get(kind, Outcome.ERROR)
    number, _, said = rest.partition(",")
    if int(number) in (newest, 0):
        return Outcome.INTACT if int(number) else Outcome.EMPTY
    return Outcome.PREVIOUS if said and int(number) == newest - 1 else Outcome.OLDER


def damaged(program: str, damage: Damage, folder: str) -> Outcome:
    """Return the worst of what is loaded after the damage in each place."""
    name = "redundict" if program == BOTH else program
    whole = os.path.join(folder, "whole")
    save(name, store_path(whole))
    each = list(places(store_path(whole)))
    if not each:
        raise RuntimeError(f"{program}: the newest state stands nowhere")
    outcomes = []
    for chosen in [each] if program == BOTH else [[place] for place in each]:
        trial = os.path.join(folder, "trial")
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(whole, trial)
        for file, at in chosen:
            target = os.path.join(trial, os.path.relpath(file, whole))
            with open(target, "r+b") as opened:
                held = opened.read()
                opened.seek(0)
                opened.truncate()
                opened.write(damage(held, at))
        outcomes.append(load(name, store_path(trial)))
    return max(outcomes)


def full_disk(program: str, folder: str) -> Outcome:
    """Return what is loaded once a save met a full disk, and there is room again."""
    name = "redundict" if program == BOTH else program
    image, point = os.path.join(folder, "image"), os.path.join(folder, "point")
    with open(image, "wb") as file:
        file.truncate(16 * MEBIBYTE)
    block_log.run("mkfs.ext4", "-q", "-F", image)
    os.mkdir(point)
    with ExitStack() as stack:
        stack.enter_context(mounted(image, point))
        path = store_path(point)
        save(name, path)
        filler = os.path.join(point, "filler")
        fill(filler)
        with Process("work", name, path) as worker:
            # Larger than all before it, so that nobody gets by with the room that is there.
            saved = worker.ask(str(STATES * 4)) == "saved"
        os.remove(filler)
        # A save that failed may have arrived whole all the same.
        return min(load(name, path, n) for n in (STATES * 4, *([] if saved else [STATES])))


def fill(path: str) -> None:
    """Leave no byte free."""
    with open(path, "wb", buffering=0) as file:
        size = MEBIBYTE
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
        os.fsync(file.fileno())


def table(found: dict[str, list[str]]) -> str:
    """Return the outcomes by program, as a table in Markdown."""
    heads = [*DAMAGES, FULL]
    rows = [f"| program | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    rows += [f"| {program} | {' | '.join(cells)} |" for program, cells in found.items()]
    return "\n".join(rows)


def run(programs: list[str]) -> dict[str, list[str]]:
    """Try every damage on each program; return the outcomes in words."""
    found: dict[str, list[str]] = {}
    for program in track(programs, "bitrot", console=Console(stderr=True)):
        found[program] = []
        for damage in DAMAGES.values():
            with tempfile.TemporaryDirectory(prefix="bitrot-") as folder:
                found[program].append(str(damaged(program, damage, folder)))
        with tempfile.TemporaryDirectory(prefix="bitrot-") as folder:
            found[program].append("-" if unavailable() else str(full_disk(program, folder)))
    return found


def programs() -> list[str]:
    """Return the rows of the table: what is installed."""
    absent = installed()
    there = [name for name in PROGRAMS if not absent[name] and name != "redundict, unsynced"]
    return ["redundict", BOTH, *(name for name in there if name != "redundict")]


def main() -> int:
    """Print the table; return 1 if redundict lost anything."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    found = run(programs())
    print(table(found))
    good = {str(Outcome.INTACT), "-"}
    return int(not set(found["redundict"]) <= good)


if __name__ == "__main__":
    sys.exit(main())
