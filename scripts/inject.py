#!/usr/bin/env python3
"""Let strace refuse each system call of a store in turn, and look at what is left.

    python scripts/inject.py               # every call and every error, about ten minutes
    python scripts/inject.py --scale 0.01  # a sample

A process does one thing with a store: open it, sync, roll back, repair, close and so on. A first
run counts the system calls that touch the store. Then each of them fails in turn, once or from then
on, with EIO, ENOSPC, EINTR, EACCES, EINVAL and ESTALE. The kernel never sees such a call.

Counts what must not be: an older state without a report, an empty state, a store that does not
load, an error that is not a `RedundictError`, a process that hangs, a second try that fails after
one failed call, and a store that one more commit and a repair do not make healthy. Needs Linux and
strace.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))

from kill import content

import redundict
from redundict.engine import survey

ERRORS: Final = ("EIO", "ENOSPC", "EINTR", "EACCES", "EINVAL", "ESTALE")
KEEP: Final = (2, 4)  #: Generations that the stores keep, by turns.
BEFORE: Final = 6  #: The number of the newest generation before the call.
PATIENCE: Final = 20.0  #: Seconds after which a process is said to hang.
BAD: Final = ("older", "empty", "lost", "corrupt", "untyped", "hung", "stuck", "not healed")
_TRACED: Final = 77_777_777  #: What getppid() returns to a process as soon as strace traces it.
_ROOM: Final = 1 << 14  #: Bytes of shared memory for the answer of a process.
_MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - flushes cost nothing

State = redundict.RedunDict[str, Any]


class Phase(NamedTuple):
    """One thing that a process does with a store.

    Attributes:
        store: Makes the store: None if there is none before.
        prepare: Is called before calls fail; its result goes to `act`.
        act: Is called while calls fail. It returns the state in memory, if there is one.
        after: The number of the state that is on disk once `act` has returned.

    """

    store: Callable[[str, int], None] | None
    prepare: Callable[[str, int], Any]
    act: Callable[[Any], object]
    after: int = BEFORE

    @property
    def before(self) -> int:
        """The number of the state before; 0 if there is none."""
        return BEFORE if self.store else 0


class Case(NamedTuple):
    """One call that is refused."""

    phase: str
    keep: int
    call: str
    number: int  #: The how manyth call of this name fails.
    error: str
    lasting: bool  #: All calls of this name fail from then on.


# --- stores


def fill(state: State, number: int) -> State:
    """Put the state with this number into a dict."""
    state.clear()
    state.update(content(number))
    return state


def whole(path: str, keep: int) -> None:
    """Make a store that was closed."""
    with redundict.open(path, keep=keep) as state:
        for number in range(1, BEFORE + 1):
            fill(state, number).sync()


def killed(path: str, keep: int) -> None:
    """Make a store whose writer was killed between two commits."""
    if (pid := os.fork()) == 0:
        state = redundict.open(path, keep=keep)
        for number in range(1, BEFORE + 1):
            fill(state, number).sync()
        os._exit(0)
    os.waitpid(pid, 0)


def degraded(path: str, keep: int) -> None:
    """Make a store with one copy of the newest generation rotten, and one of an older one torn."""
    whole(path, keep)
    newest, older = redundict.check(path).generations[:2]
    with open(newest.slots[1].path, "r+b") as file:
        file.seek(1)
        file.write(b"\0")
    os.truncate(older.slots[0].path, 100)


# --- phases


def opened(path: str, keep: int) -> State:
    """Open a store and change nothing."""
    return redundict.open(path, keep=keep)


def changed(path: str, keep: int) -> State:
    """Open a store, and change it in memory."""
    return fill(redundict.open(path, keep=keep), BEFORE + 1)


def shared(path: str, keep: int) -> State:
    """Open a store that others may write to, and change it in memory."""
    return fill(redundict.open(path, keep=keep, shared=True), BEFORE + 1)


def arguments(path: str, keep: int) -> tuple[str, int]:
    """Prepare nothing."""
    return path, keep


def synced(state: State) -> State:
    """Commit."""
    state.sync()
    return state


def rolled_back(state: State) -> State:
    """Commit the generation before again."""
    state.rollback()
    return state


def modified(state: State) -> State:
    """Commit a change of the newest state."""
    state.modify(lambda newest: fill(newest, BEFORE + 1))
    return state


def in_transaction(state: State) -> State:
    """Commit several changes as one."""
    with state.transaction():
        fill(state, BEFORE + 1)
    return state


def repaired(given: tuple[str, int]) -> None:
    """Repair a store."""
    redundict.repair(given[0])


PHASES: Final = {
    "open": Phase(whole, arguments, lambda it: opened(*it)),
    "open after a kill": Phase(killed, arguments, lambda it: opened(*it)),
    "open a degraded store": Phase(degraded, arguments, lambda it: opened(*it)),
    "open a new store": Phase(None, arguments, lambda it: opened(*it), 0),
    "load": Phase(whole, arguments, lambda it: redundict.load(it[0])),
    "load a degraded store": Phase(degraded, arguments, lambda it: redundict.load(it[0])),
    "check": Phase(degraded, arguments, lambda it: redundict.check(it[0]) and None),
    "sync": Phase(whole, changed, synced, BEFORE + 1),
    "sync after a kill": Phase(killed, changed, synced, BEFORE + 1),
    "sync a shared store": Phase(whole, shared, synced, BEFORE + 1),
    "the first sync": Phase(None, changed, synced, BEFORE + 1),
    "an unchanged sync": Phase(whole, opened, synced),
    "modify": Phase(whole, shared, modified, BEFORE + 1),
    "transaction": Phase(whole, opened, in_transaction, BEFORE + 1),
    "rollback": Phase(whole, opened, rolled_back, BEFORE - 1),
    "rollback of a path": Phase(
        whole, arguments, lambda it: redundict.rollback(it[0]) and None, BEFORE - 1
    ),
    "repair": Phase(degraded, arguments, repaired),
    "close": Phase(whole, changed, lambda it: it.close(), BEFORE + 1),
    "an unchanged close": Phase(whole, opened, lambda it: it.close()),
    "close a shared store": Phase(whole, shared, lambda it: it.close(), BEFORE + 1),
}


# --- the process whose calls fail


def numbered(state: dict[str, Any]) -> int:
    """Return the number of a state, 0 for an empty one, -1 for one that never was."""
    number: int = state.get("number", 0)
    return number if state == (content(number) if number else {}) else -1


def tried(act: Callable[[Any], object], given: object) -> dict[str, Any]:
    """Act once; return what came of it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            state = act(given)
        except BaseException as error:  # noqa: BLE001 - of whatever type: it is what is looked for
            typed = isinstance(error, redundict.RedundictError)
            return {"error": f"{error!r}"[:1000], "typed": typed, "told": True}
    recovery = getattr(state, "recovery", None)
    seen = numbered(state) if isinstance(state, dict) else None
    return {"error": "", "number": seen, "told": bool(told or recovery)}


def serve(phase: Phase, path: str, keep: int, answer: mmap.mmap, ready: int) -> None:
    """Act, and act again if that failed; leave what came of it in shared memory."""
    sys.unraisablehook = lambda _: None  # a store that is dropped may not be saved either
    given = phase.prepare(path, keep)
    os.close(ready)
    while os.getppid() != _TRACED:
        pass
    first = tried(phase.act, given)
    again = tried(phase.act, given) if first["error"] else None
    answer.write(json.dumps([first, again]).encode())
    os._exit(0)


def traced(phase: Phase, path: str, keep: int, log: str, inject: str) -> list[Any] | None:
    """Let a process act under strace; return what came of it, or None if it hung."""
    answer = mmap.mmap(-1, _ROOM)
    reading, ready = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            serve(phase, path, keep, answer, ready)
        finally:
            os._exit(1)
    os.close(ready)
    os.read(reading, 1)
    os.close(reading)
    # -y names the file of each descriptor.
    command = ["strace", "-qq", "-y", "-s", "0", "-o", log, "-p", str(pid)]
    command += ["-e", f"inject=getppid:retval={_TRACED}", *inject.split()]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: S603
    try:
        _, complaint = tracer.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        tracer.communicate()
        os.waitpid(pid, 0)
        return None
    if tracer.returncode:
        os.kill(pid, signal.SIGKILL)
        raise RuntimeError(f"strace: {complaint.decode()}")
    os.waitpid(pid, 0)
    written = answer[:].rstrip(b"\0")
    return list(json.loads(written)) if written else [{"error": "it died", "typed": False}, None]


def unavailable() -> str:
    """Return why no call can be refused here; '' if it can."""
    if sys.platform != "linux" or not shutil.which("strace"):
        return "strace is not installed"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() and scope.exists() and int(scope.read_text()):
        return "strace needs root here"
    command = ["strace", "-qq", "-o", os.devnull, "-e", "inject=getppid:retval=7", "true"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    return "strace may not trace here" if done.returncode else ""


# --- cases


@contextmanager
def store(phase: Phase, keep: int, folder: str) -> Iterator[str]:
    """Make the store of a phase in a folder of its own; yield its path."""
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        path = os.path.join(inner, "state.json")
        if phase.store:
            phase.store(path, keep)
        yield path


def calls(phase: Phase, keep: int, folder: str) -> Iterator[tuple[str, int]]:
    """Yield each system call that touches the store: its name, and its number among its like."""
    counts: Counter[str] = Counter()
    with store(phase, keep, folder) as path:
        log = path + ".strace"
        traced(phase, path, keep, log, "")
        for line in Path(log).read_text().splitlines():
            if found := re.match(r"(\w+)\(", line):
                counts[found[1]] += 1
                if os.path.dirname(path) in line:
                    yield found[1], counts[found[1]]


def cases(folder: str) -> list[Case]:
    """Return every case."""
    found = []
    for name, phase in PHASES.items():
        for keep in KEEP:
            for call, number in calls(phase, keep, folder):
                for error in ERRORS:
                    found.append(Case(name, keep, call, number, error, lasting=False))
                    if error != "EINTR":  # Python calls again, as it should, without end
                        found.append(Case(name, keep, call, number, error, lasting=True))
    return found


def refuse(case: Case, folder: str) -> str:
    """Refuse one call; return what is wrong, '' if nothing is."""
    phase = PHASES[case.phase]
    when = f"{case.number}{'+' if case.lasting else ''}"
    inject = f"-e trace=getppid,{case.call} -e inject={case.call}:error={case.error}:when={when}"
    with store(phase, case.keep, folder) as path:
        result = traced(phase, path, case.keep, path + ".strace", inject)
        return "hung" if result is None else judge(case, path, result)


def judge(case: Case, path: str, result: list[Any]) -> str:
    """Return what is wrong with what a process did and left behind; '' if nothing is."""
    phase, (first, again) = PHASES[case.phase], result
    last = again or first
    for tried in (first, again):
        if tried and tried["error"] and not tried["typed"]:
            return f"untyped {tried['error']}"
        if tried and not tried["error"] and (fault := misread(phase, tried)):
            return fault
    # A descriptor whose close() the kernel never sees stays open, and with it the lock.
    if last["error"] and not case.lasting and case.call != "close":
        return f"stuck {last['error']}"
    # A rollback that failed twice may have gone back twice.
    twice = {BEFORE - 2} if phase.after < BEFORE and again else set()
    allowed = {phase.before, phase.after} | twice if last["error"] else {phase.after}
    fault = left(path, case.keep, allowed)
    return fault and f"{fault} {[it and it['error'] for it in result]}"


def misread(phase: Phase, tried: dict[str, Any]) -> str:
    """Return what is wrong with the state that a call loaded or kept; '' if nothing is."""
    number = tried["number"]
    if number is None or number == phase.after:
        return ""
    if number == -1:
        return "corrupt in memory"
    if number == 0:
        return "empty in memory"
    return "" if tried["told"] else f"older in memory: {number}, and nothing was said"


def left(path: str, keep: int, allowed: set[int]) -> str:
    """Load, open, commit and repair; return what is wrong with the store; '' if nothing is."""
    try:
        number = numbered(redundict.load(path))
    except redundict.NotFoundError:
        number = 0
    except redundict.RedundictError as error:
        return f"lost {error!r}"
    if number == -1:
        return "corrupt on disk"
    if number not in allowed:
        return f"{'older' if number else 'empty'} on disk: {number}, and not one of {allowed}"
    with redundict.open(path, keep=keep) as opened:
        if numbered(opened) != number:
            return "older: what loads does not open"
        fill(opened, BEFORE + 2)
    if not is_healthy(path):
        redundict.repair(path)  # a repair that failed may have put a slot aside
    return "" if is_healthy(path) else "not healed"


def is_healthy(path: str) -> bool:
    """Return True if every copy of every generation verifies."""
    return redundict.check(path).state is redundict.StoreState.HEALTHY


def trials(folder: str, scale: float, seed: int) -> Iterator[tuple[Case | int, str]]:
    """Yield how many cases there are; then each case, and what is wrong."""
    warnings.simplefilter("ignore", redundict.RedundancyWarning)
    survey._FRESH = 0.0  # type: ignore[misc]  # noqa: SLF001 - no other writer is at work
    for phase in PHASES.values():  # once without a tracer: later nothing is imported
        with store(phase, KEEP[0], folder) as path:
            tried(phase.act, phase.prepare(path, KEEP[0]))
    every = cases(folder)
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret
    chosen = rng.sample(every, max(1, round(len(every) * min(scale, 1.0))))
    yield len(chosen), ""
    for case in chosen:
        try:
            yield case, refuse(case, folder)
        except Exception as error:  # noqa: BLE001 - of whatever type: it is what is looked for
            yield case, f"untyped {error!r}"


def run(
    scale: float, *, seed: int, tick: Callable[[int], object] = lambda _: None
) -> dict[str, int]:
    """Refuse calls; return how many, and what went wrong.

    Args:
        scale: The part of all cases to try.
        seed: Chooses them.
        tick: Is called with the number of cases, and then after each case.

    """
    counts = {"calls refused": 0, **dict.fromkeys(BAD, 0)}
    # Of its own, because a process with threads (a progress bar) must not fork.
    command = [sys.executable, __file__, "--serve", "--scale", str(scale), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        total = int(process.stdout.readline() or 0) if process.stdout else 0
        tick(total)
        for line in process.stdout or ():
            counts["calls refused"] += 1
            if fault := line.strip():
                counts[next((bad for bad in BAD if fault.startswith(bad)), "untyped")] += 1
            tick(total)
    if process.returncode or counts["calls refused"] != total:
        raise RuntimeError("the trials ended early")
    return counts


def main() -> int:
    """Run the trials with a progress bar, print the counts; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of all cases (1)")
    parser.add_argument("--seed", type=int, default=0, help="to choose other cases (0)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        with tempfile.TemporaryDirectory(prefix="inject-", dir=_MEMORY) as folder:
            for case, fault in trials(folder, args.scale, args.seed):
                if fault:
                    print(f"{case}: {fault}", file=sys.stderr)
                print(case if isinstance(case, int) else fault, flush=True)
        return 0
    if why_not := unavailable():
        print(why_not, file=sys.stderr)
        return 2
    from rich.console import Console  # noqa: PLC0415 - the process that forks does not need it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("calls refused", total=None)
        counts = run(
            args.scale, seed=args.seed, tick=lambda n: progress.update(task, total=n, advance=1)
        )
    for name, number in counts.items():
        print(f"{name}: {number}")
    return int(any(counts[bad] for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
