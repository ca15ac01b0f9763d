#!/usr/bin/env python3
"""Show that stores of version 0.1 live on, and that 0.1 opens stores of this version.

    git worktree add --detach /tmp/before 332eeee
    python scripts/versions.py /tmp/before .

One checkout writes a store of each kind. Then something happens to its files, or nothing. The other
checkout loads it, opens it, commits to it, rolls it back and checks it. At last the first checkout
loads the store again.

Then both open stores with a copy on each of two disks that come and go, in random order. What this
version overwrites must be older than what loads, or put aside, or was reported before. What version
0.1 took for older is not counted: it did not tell.

Each checkout works in processes of its own. The table counts the stores; exits with 1 if any of
them was not as it has to be.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

State = dict[str, Any]
Event = Callable[[str], int]  #: Does something to a store; returns what then loads.
LAST: Final = 5  #: Generations that the first checkout writes.
COMMITS: Final = 6  #: More than any store here keeps, so they overwrite every slot.


def state_of(number: int) -> State:
    """Return what generation `number` holds: every type of JSON, and more than a block of it."""
    types: list[Any] = [number, 2**70, -0.5, True, None, "ä€𐍈\u0000", {"": []}]
    return {"number": number, "types": types, "pad": f"{number}, " * 3_000}


def rows_of(number: int) -> State:
    """Return the same for CSV, which holds text only."""
    return {"number": str(number), "pad": 'a "quote",\n' * number}


KINDS: Final[dict[str, dict[str, Any]]] = {
    "keep=2": {"keep": 2},
    "keep=4, recent": {"keep": 4, "history": "recent"},
    "keep=4, thinned": {"keep": 4, "history": "thinned"},
    "one copy": {"keep": 2, "copies": 1},
    "three copies, keep=3": {"keep": 3, "copies": 3},
    "two folders, keep=2": {"keep": 2, "copies": ["here", "there"]},
    "two folders, keep=4": {"keep": 4, "copies": ["here", "there"]},
    "csv": {"keep": 2, "format": "csv"},
    "pickle": {"keep": 2, "format": "pickle"},
}  #: Options of `open`, by the name of the kind.
NO_OPTIONS: Final = ("keep=2", "keep=4, thinned")  #: Kinds that are opened without options, too.


def slots_of(path: str, number: int) -> list[str]:
    """Return the files that hold a generation, in the order of the copies."""
    mark = f" generation={number} ".encode()
    here = Path(path)
    own = sorted(here.parent.parent.glob(f"*/{here.name}.??"), key=lambda file: file.name)
    return [str(file) for file in own if mark in file.read_bytes()[-600:]]


def flip(file: str) -> None:
    """Damage one byte of the payload."""
    held = bytearray(Path(file).read_bytes())
    held[3] ^= 1
    Path(file).write_bytes(held)


def cut(file: str) -> None:
    """Leave half of a file, as a torn write does."""
    held = Path(file).read_bytes()
    Path(file).write_bytes(held[: len(held) // 2])


def undamaged(_: str) -> int:
    """Leave the store as it is; return the generation that loads."""
    return LAST


def copy_damaged(path: str) -> int:
    """Damage one byte of the newest generation in copy A."""
    flip(slots_of(path, LAST)[0])
    return LAST


def copy_gone(path: str) -> int:
    """Remove every file of copy A."""
    for number in range(1, LAST + 1):
        for file in slots_of(path, number)[:1]:
            os.remove(file)
    return LAST


def newest_torn(path: str) -> int:
    """Tear every copy of the newest generation."""
    for file in slots_of(path, LAST):
        cut(file)
    return LAST - 1


EVENTS: Final[tuple[Event, ...]] = (undamaged, copy_damaged, copy_gone, newest_torn)


class Checkout:
    """One checkout; each request is answered by a process of its own."""

    def __init__(self, path: str) -> None:
        self._environment = os.environ | {"PYTHONPATH": os.path.abspath(path)}

    def ask(self, work: str, path: str, options: dict[str, Any]) -> str:
        """Return the answer; it begins with `failed` if the library raised."""
        done = subprocess.run(  # noqa: S603 - This very script.
            [sys.executable, __file__, "--do", work, path, json.dumps(options)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() or f"failed {done.stderr.strip()}"


def do(work: str, path: str, options: dict[str, Any]) -> str:
    """Do one request with the checkout that is imported, and return the answer."""
    warnings.simplefilter("ignore")
    redundict = importlib.import_module("redundict")
    format = options.get("format", "json")
    content = rows_of if format == "csv" else state_of
    if work == "session":
        return session(redundict, path, **options)
    word = "copies" if "copies" in inspect.signature(redundict.load).parameters else "folders"
    where = {word: options["copies"]} if isinstance(options.get("copies"), list) else {}
    if work == "load":
        state = redundict.load(path, format=format, **where)
        return str(state["number"] if _is_exact(state, content) else "corrupt")
    if work == "rollback":
        return str(redundict.rollback(path, **where))
    if work == "repair":
        return str(redundict.repair(path, **where).report.state)
    if work == "check":
        return str(redundict.check(path, **where).state)
    with redundict.open(path, "c" if work == "write" else "w", **options) as state:
        if work == "write":
            for number in range(1, LAST + 1):
                state.update(content(number))
                state.sync()
            return str(state.generation)
        if work == "open":
            return f"{state['number']}" if _is_exact(dict(state), content) else "corrupt"
        began, number = state.generation, int(state["number"])
        for more in range(1, COMMITS + 1):
            state.update(content(number + more))
            state.sync()
        return str(state.generation == began + COMMITS)


def session(redundict: Any, path: str, copies: list[str], keep: int, numbers: list[int]) -> str:
    """Open a store on two disks, commit once for each number; return those of its history."""
    told = False
    try:
        state = redundict.open(path, copies=copies, keep=keep)
    except redundict.DivergedError:
        told = True
        word = "copies" if "copies" in inspect.signature(redundict.repair).parameters else "folders"
        redundict.repair(path, prefer="ab"[sum(numbers) % 2], **{word: copies})
        state = redundict.open(path, copies=copies, keep=keep)
    with state:
        for number in numbers:
            state["history"] = [*state.get("history", []), number]
            state["mark"] = f"<{number}>"
            state.sync()
        return json.dumps({"history": state.get("history", []), "told": told})


def _is_exact(state: State, content: Callable[[int], State]) -> bool:
    return repr(state) == repr(content(int(state["number"])))


def steps(
    first: Checkout, second: Checkout, path: str, trial: tuple[State, State, Event]
) -> Iterator[str]:
    """Yield what is not as it has to be.

    A trial has the options of the first checkout, those of the second one, and the event.
    """
    options, given, event = trial
    if (answer := first.ask("write", path, options)) != str(LAST):
        yield f"not written: {answer}"
        return
    number = event(path)
    if event is copy_gone:  # no list of 0.1 says that the copy does not lie in another folder
        second.ask("repair", path, given)
    # What is gone of an older generation, or of a newer one, stays gone until it is overwritten.
    mended = "healthy" if event in (undamaged, copy_damaged) else None
    # With a thinned history, 0.1 goes on without an older generation in a copy that was removed.
    complete = None if event is copy_gone else "healthy"
    expected: list[tuple[Checkout, str, str | None]] = [
        (second, "load", str(number)),
        (second, "open", str(number)),
        (second, "check", mended),
        (second, "commit", "True"),
        (second, "load", str(number + COMMITS)),
        (second, "check", complete),
        (second, "rollback", None),
        (second, "load", str(number + COMMITS - 1)),
        (first, "check", complete),
        (first, "open", str(number + COMMITS - 1)),
        (first, "commit", "True"),
        (second, "load", str(number + 2 * COMMITS - 1)),
        (second, "check", complete),
    ]
    for checkout, work, wanted in expected:
        found = checkout.ask(work, path, given if checkout is second else options)
        if found.startswith("failed") or (wanted and found != wanted):
            which = "the first" if checkout is first else "the second"
            yield f"{which} checkout, {work}: {found}, not {wanted}"


def tried(first: Checkout, second: Checkout, folder: str) -> tuple[int, list[str]]:
    """Return how many stores were tried, and what was not as it has to be."""
    count, wrong = 0, []
    for kind, named in KINDS.items():
        for event in EVENTS:
            if named.get("copies") == 1 and event is not undamaged:
                continue
            folders = [os.path.join(folder, str(count), name) for name in ("here", "there")]
            apart = isinstance(named.get("copies"), list)
            options = named | {"copies": folders} if apart else named
            for plain in (False, True) if kind in NO_OPTIONS else (False,):
                for each in folders:
                    os.makedirs(each, exist_ok=True)
                path = os.path.join(folders[0], f"{plain}.state")
                label = f"{kind}, {event.__name__}{', opened without options' * plain}"
                trial = options, {} if plain else options, event
                found = steps(first, second, path, trial)
                wrong += [f"{label}: {what}" for what in found]
                count += 1
    return count, wrong


class Disks:
    """A store with a copy on each of two disks that come and go, opened by two versions."""

    def __init__(self, folder: str, rng: random.Random) -> None:
        self.disks = [Path(folder, name) for name in ("here", "there")]
        for disk in self.disks:
            disk.mkdir()
        self.rng, self.keep = rng, rng.choice((2, 4))
        self.away: set[int] = set()
        self.tried: list[int] = []
        self.not_counted: set[int] = set()

    def arrange(self, there: set[int]) -> None:
        """Mount some disks. The mount point of the others is an empty folder."""
        for number, disk in enumerate(self.disks):
            aside = disk.with_suffix(".away")
            if number in there and number in self.away:
                shutil.rmtree(disk)
                aside.rename(disk)
                self.away.remove(number)
            elif number not in there and number not in self.away:
                disk.rename(aside)
                disk.mkdir()
                self.away.add(number)

    def held(self) -> set[int]:
        """Return the numbers of the states that lie on the disks that are there."""
        there = [disk for number, disk in enumerate(self.disks) if number not in self.away]
        content = b"".join(file.read_bytes() for disk in there for file in disk.iterdir())
        return {number for number in self.tried if b"<%d>" % number in content}

    def open(self, checkout: Checkout, *, is_old: bool, there: set[int]) -> Iterator[str]:
        """Open the store for a session; yield each state that was overwritten silently."""
        self.arrange(there)
        before, began = self.held(), len(self.tried)
        numbers = [began + 1 + more for more in range(self.rng.choice((0, 1, 1, 2, 3)))]
        self.tried += numbers
        path = str(self.disks[min(there)] / "s")
        copies = [str(disk) for disk in self.disks]
        options = {"copies": copies, "keep": self.keep, "numbers": numbers}
        answer = checkout.ask("session", path, options)
        if answer.startswith("failed"):
            yield f"{'0.1' if is_old else 'this version'}: {answer}"
            return
        history = set(json.loads(answer)["history"])
        if is_old:
            self.not_counted |= before - history
        else:
            yield from (f"{n} lost" for n in before - history - self.held() - self.not_counted)


def parted(old: Checkout, new: Checkout, histories: int) -> list[str]:
    """Return what went wrong with stores on disks that part and meet."""
    wrong = []
    for seed in range(histories):
        rng = random.Random(seed)  # noqa: S311 - a seed repeats the history
        with tempfile.TemporaryDirectory(prefix="versions-") as folder:
            disks = Disks(folder, rng)
            turns = [old, *rng.choices((old, new, new), k=7), new]
            for turn, checkout in enumerate(turns):
                there = {0, 1} if turn in (0, 8) else set(rng.choice(([0], [1], [0, 1])))
                found = disks.open(checkout, is_old=checkout is old, there=there)
                wrong += [f"history {seed}, session {turn}: {what}" for what in found]
            path, copies = str(disks.disks[0] / "s"), [str(disk) for disk in disks.disks]
            options = {"copies": copies, "keep": disks.keep, "numbers": []}
            answers = [checkout.ask("session", path, options) for checkout in (new, old)]
            if any(answer.startswith("failed") for answer in answers) or (
                json.loads(answers[0])["history"] != json.loads(answers[1])["history"]
            ):
                wrong.append(f"history {seed}: {answers[0]} and {answers[1]}")
    return wrong


def main() -> int:
    """Try both directions and print the table; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="*", metavar="CHECKOUT", help="of 0.1, and of today")
    parser.add_argument("--histories", type=int, default=200, help="of two disks (200)")
    parser.add_argument("--do", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.do:
        print(do(args.do[0], args.do[1], json.loads(args.do[2])))
        return 0
    if len(args.checkouts) != 2 or not all(Path(c, "redundict").is_dir() for c in args.checkouts):
        parser.error("name two checkouts of redundict")
    old, new = map(Checkout, args.checkouts)
    rows = ["| written by | opened by | stores | went wrong |", "|---|---|--:|--:|"]
    total = 0
    for first, second, names in ((old, new, "0.1 | this one"), (new, old, "this one | 0.1")):
        with tempfile.TemporaryDirectory(prefix="versions-") as folder:
            count, wrong = tried(first, second, folder)
        for what in wrong:
            print(f"{names}: {what}", file=sys.stderr)
        rows.append(f"| {names} | {count} | {len(wrong)} |")
        total += len(wrong)
    wrong = parted(old, new, args.histories)
    for what in wrong:
        print(f"two disks: {what}", file=sys.stderr)
    rows.append(f"| 0.1, on two disks | both in turn | {args.histories} | {len(wrong)} |")
    total += len(wrong)
    print("\n".join(rows))
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
