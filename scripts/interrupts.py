#!/usr/bin/env python3
"""Interrupt each call of a store at each point where Python runs a signal handler.

    python scripts/interrupts.py                                  # every point, half an hour
    python scripts/interrupts.py --scale 0.02 --seconds 5 --count 200

Three trials. (1) An exception is raised at each point of each call in turn: a signal handler raises
one of its own or `TimeoutError`, Ctrl-C raises `KeyboardInterrupt`, and Python itself raises
`MemoryError` or `RecursionError`. (2) A real timer goes off at a random time in or after the call.
(3) A process is sent a real SIGINT at a random time around its ``with`` block.

CPython does not run a handler between any two instructions. It runs it where a function begins,
after a call of C code or of a class, and where a loop jumps back. A signal that arrives at any
line is handled at the next such point. So (1) goes through all those points, in the frames of
redundict, filelock and the standard library. A `sys.setprofile` function finds them. It sends the
signal to its own process, so that the traceback has the handler's frame.

Two outcomes are no fault. Python itself prints and drops an exception in a destructor or in the
callback of a weak reference, which have no caller. A format may answer a `RecursionError` with a
slower way or with its own error, because that is how it finds a state that is nested too deep.
One is counted apart: filelock drops what is raised in its destructor, and a `TimeoutError` while it
looks at its file or closes it. It leaks its descriptor if it is interrupted just before it closes
it. By then it has released the lock.

Counts what must not be: an exception that did not reach the caller or that became another one; a
process that hangs; a next call that fails; memory that disagrees with the disk; a change in a
``with`` block that is lost; a descriptor or lock that leaks; an interrupt that is reported as
damage. Needs POSIX.
"""

from __future__ import annotations

import argparse
import atexit
import dis
import faulthandler
import gc
import itertools
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, Self

sys.path.append(str(Path(__file__).resolve().parents[1]))

import redundict
from redundict.engine import survey

KEEP: Final = 2  #: Generations of each store: the fewest, so the most is at risk.
PATIENCE: Final = 30.0  #: Seconds after which a call is said to hang.
SECONDS: Final = 600.0  #: Of real timers.
COUNT: Final = 10_000  #: Of real Ctrl-C.
ROUNDS: Final = 8  #: Changes in the block that Ctrl-C interrupts, at most.
BAD: Final = ("swallowed", "replaced", "hung", "later", "disagree", "lost", "leaked", "damage")
_MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - flushes cost nothing
_NUMBER: Final = struct.Struct("<q")
_JUMP: Final = dis.opmap["JUMP_BACKWARD"]
_BEGIN: Final = dis.opmap["RESUME"]

State = redundict.RedunDict[str, Any]


class LimitError(Exception):
    """What the handler of an application raises, like the soft time limit of a task queue."""


HANDLED: Final = (LimitError, TimeoutError, KeyboardInterrupt)  #: Raised by signal handlers.
RAISED: Final = (*HANDLED, MemoryError, RecursionError)


# --- two ways to interrupt


class AtPoint:
    """Raise an exception at one point of what runs inside the ``with`` block.

    Attributes:
        came: True once it was raised.
        place: Where.

    """

    def __init__(self, number: int, kind: type[BaseException]) -> None:
        self.came, self.place = False, ""
        self._left = number
        self._kind = kind

    def __enter__(self) -> Self:
        is_ctrl_c = self._kind is KeyboardInterrupt
        signal.signal(signal.SIGUSR1, signal.default_int_handler if is_ctrl_c else self._handle)
        sys._getframe().f_trace_opcodes = True  # noqa: SLF001 - for 3.12, before it traces
        sys.settrace(self._trace)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        sys.settrace(None)

    def wait(self) -> None:
        """Return at once, since the call is over."""

    def _handle(self, *_: object) -> None:
        raise self._kind

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        """Find the loops that jump back, in the code of redundict and filelock."""
        if event == "call" and not _is_traced(frame.f_code.co_filename):
            return None
        if event in ("call", "line"):  # Python 3.13 takes it from the first line on
            frame.f_trace_opcodes, frame.f_trace_lines = True, event == "call"
        elif event == "opcode" and _instruction(frame) == _JUMP:
            self._pass(frame)
        return self._trace

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        """Find the functions that begin, and the calls that have returned."""
        if frame.f_code.co_filename == __file__:
            return
        if event == "call":
            is_point = _instruction(frame) == _BEGIN
        elif event == "return":  # a class was called, and `__init__` has not raised
            is_init = frame.f_code.co_name == "__init__"
            is_point = is_init and dis.opname[_instruction(frame)].startswith("RETURN")
        else:
            is_point = event == "c_return"
        if is_point:
            self._pass(frame)

    def _pass(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left > 0 or self.came:
            return
        sys.setprofile(None)
        sys.settrace(None)
        self.came, self.place = True, _place(frame)
        if self._kind in HANDLED:
            signal.raise_signal(signal.SIGUSR1)
        raise self._kind


class AtTime:
    """Raise an exception of a signal handler after some seconds.

    Attributes:
        came: True once it was raised.
        place: Where.

    """

    def __init__(self, seconds: float, kind: type[BaseException]) -> None:
        self.came, self.place = False, ""
        self._seconds = seconds
        self._kind = kind

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def wait(self) -> None:
        """Wait for the signal, if the call was over before."""
        while not self.came:
            time.sleep(1e-4)  # if a thread got the signal, a loop that calls nothing never sees it

    def _handle(self, _: int, frame: FrameType | None) -> None:
        self.came, self.place = True, _place(frame)
        raise self._kind


class Never:
    """Raise nothing; measure how long the call takes.

    Attributes:
        seconds: That the call took.

    """

    came, place, seconds = False, "", 0.0

    def __enter__(self) -> Self:
        self.seconds = -time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()

    def wait(self) -> None:
        """Return at once, since nothing comes."""


Interrupt = AtPoint | AtTime | Never


def _instruction(frame: FrameType) -> int:
    return frame.f_code.co_code[frame.f_lasti]


def _is_traced(path: str) -> bool:
    return f"{os.sep}redundict{os.sep}" in path or f"{os.sep}filelock{os.sep}" in path


def _place(frame: FrameType | None) -> str:
    """Return where a frame is, and where that is in the package."""
    found = []
    while frame is not None and frame.f_code.co_filename != __file__:
        *_, package, folder, name = ("", "", *frame.f_code.co_filename.split(os.sep))
        found.append(f"{package}/{folder}/{name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


# --- calls to interrupt


class Act(NamedTuple):
    """A call, and the states that it may leave.

    Attributes:
        call: The call.
        states: Pairs of the numbers that memory and disk may have after an interrupt. As after a
            crash, the disk may hold what an interrupted commit wrote. The next call ends that.
        options: For `redundict.open`.

    """

    call: Callable[[State], object]
    states: frozenset[tuple[int, int]]
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


def change(state: State) -> None:
    """Change what `modify` and a transaction change."""
    state["n"] = 4


def in_transaction(state: State) -> None:
    """Commit a change in a transaction."""
    with state.transaction():
        change(state)


def sync_soon(state: State) -> None:
    """Commit in the background, and wait."""
    state.sync_soon().result()


SAVED: Final = frozenset({(3, 2), (3, 3)})  # 2 is on disk before, and 3 in memory
LOADED: Final = frozenset({(3, 2), (2, 2)})
CHANGED: Final = LOADED | {(2, 4), (4, 4)}
SHARED: Final = {"shared": True}
ACTS: Final = {
    "sync": Act(lambda it: it.sync(), SAVED),
    "sync, shared": Act(lambda it: it.sync(), SAVED, SHARED),
    "sync_soon": Act(sync_soon, SAVED),
    "close": Act(lambda it: it.close(), SAVED),
    "reload": Act(lambda it: it.reload(), LOADED),
    "rollback": Act(lambda it: it.rollback(), frozenset({(3, 2), (3, 1), (1, 1)})),
    "modify": Act(lambda it: it.modify(change), CHANGED),
    "modify, shared": Act(lambda it: it.modify(change), CHANGED, SHARED),
    "transaction": Act(in_transaction, SAVED | {(3, 4), (4, 4)}),
}


def prepared(folder: str) -> str:
    """Make a store with the states 1 and 2; return its path."""
    path = os.path.join(folder, "state.json")
    with redundict.open(path, keep=KEEP) as state:
        for state["n"] in (1, 2):
            state.sync()
    return path


def caught(call: Callable[[], object], interrupt: Interrupt) -> BaseException | None:
    """Return what a call raised while it was interrupted; None if nothing."""
    try:
        with interrupt:
            call()
            interrupt.wait()
    except BaseException as error:  # noqa: BLE001 - of whatever type: it is what is looked for
        return error.with_traceback(None)
    return None


def arrived(error: BaseException | None, kind: type[BaseException], interrupt: Interrupt) -> str:
    """Return what is wrong with what reached the caller; '' if nothing is."""
    is_answered = kind is RecursionError and "formats/" in interrupt.place
    if type(error) is (kind if interrupt.came else type(None)):
        return ""
    if error is None:
        return "" if is_answered or kind in _dropped else "swallowed"
    is_answered = is_answered and isinstance(error, redundict.FormatError)
    return "" if is_answered else f"replaced by {error!r}"


def go_on(folder: str, act: Act, kind: type[BaseException], interrupt: Interrupt) -> str:
    """Interrupt a call; go on with the store. Return what is wrong."""
    path = prepared(folder)
    state: State = redundict.open(path, keep=KEEP, **act.options)
    state["n"] = 3
    error = caught(lambda: act.call(state), interrupt)
    if fault := arrived(error, kind, interrupt):
        return fault
    if fault := disagreement(act, state, path, came=interrupt.came):
        return fault
    if is_open(state):
        state["after"] = 1
        state.sync()
        if redundict.load(path) != dict(state) or "after" not in state:
            return f"later: memory {dict(state)}, disk {redundict.load(path)}"
    state.close()
    return ""


def leave(folder: str, act: Act, kind: type[BaseException], interrupt: Interrupt) -> str:
    """Interrupt a call inside a ``with`` block, and leave the block. Return what is wrong."""
    path = prepared(folder)
    error = None
    try:
        with redundict.open(path, keep=KEEP, **act.options) as state:
            state["n"] = 3
            if error := caught(lambda: act.call(state), interrupt):
                raise error  # noqa: TRY301 - it leaves the block
    except BaseException as raised:  # noqa: BLE001 - of whatever type: it is what is looked for
        if raised is not error:
            return f"replaced by {raised!r} at the end of the block"
    if fault := arrived(error, kind, interrupt):
        return fault
    memory, disk = dict.get(state, "n"), redundict.load(path)["n"]
    return "" if memory == disk else f"lost: memory {memory}, disk {disk}"


def enter(folder: str, _: Act, kind: type[BaseException], interrupt: Interrupt) -> str:
    """Interrupt `open`, and open again. Return what is wrong."""
    path = prepared(folder)
    opened: list[State] = []
    error = caught(lambda: opened.append(redundict.open(path, keep=KEEP)), interrupt)
    if fault := arrived(error, kind, interrupt):
        return fault
    while opened:
        opened.pop().close()
    with redundict.open(path, keep=KEEP) as state:
        found = state["n"]
    return "" if found == 2 else f"lost: {found}"


def around(folder: str, _: Act, kind: type[BaseException], interrupt: Interrupt) -> str:
    """Interrupt a whole ``with`` block. Return what is wrong."""
    path, changed = prepared(folder), 2

    def block() -> None:
        nonlocal changed
        with redundict.open(path, keep=KEEP) as state:
            state["n"] = 3
            changed = 3

    error = caught(block, interrupt)
    if fault := arrived(error, kind, interrupt):
        return fault
    if isinstance(error, redundict.FormatError):
        return ""  # the program was told that the state was refused
    disk = redundict.load(path)["n"]
    return "" if disk in (changed, 3) else f"lost: {changed} in memory, {disk} on disk"


def is_open(state: State) -> bool:
    """Return True if a dict is not closed."""
    return type(state) is redundict.RedunDict


def disagreement(act: Act, state: State, path: str, *, came: bool) -> str:
    """Return how memory and disk disagree after a call; '' if they do not."""
    found = dict.get(state, "n"), redundict.load(path)["n"]
    is_whole = found in act.states and (came or found[0] == found[1])
    return "" if is_whole else f"disagree: memory {found[0]}, disk {found[1]}"


Trial = Callable[[str, Act, type[BaseException], Interrupt], str]
#: Each trial with each call that it interrupts.
TRIALS: Final[dict[str, tuple[Trial, Act]]] = {
    "open": (enter, ACTS["sync"]),
    "a with block": (around, ACTS["sync"]),
    **{name: (go_on, act) for name, act in ACTS.items()},
    **{f"{name}, in a with block": (leave, act) for name, act in ACTS.items()},
}


_dropped: list[type[BaseException] | None] = []  #: Exceptions that had no caller.


def tried(name: str, kind: type[BaseException], interrupt: Interrupt) -> str:
    """Make one trial; return what is wrong, '' if nothing is."""
    trial, act = TRIALS[name]
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    gc.collect()  # nothing of an earlier trial is collected in this one
    _dropped.clear()
    sys.unraisablehook = lambda it: _dropped.append(it.exc_type)
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        before = len(os.listdir("/dev/fd"))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                fault = trial(folder, act, kind, interrupt)
            except Exception as error:  # noqa: BLE001 - of whatever type: it is what is looked for
                fault = f"later: {error!r}"
        if damage := [it for it in told if it.category is redundict.RedundancyWarning]:
            fault = fault or f"damage: {damage[0].message}"
        if not fault and len(os.listdir("/dev/fd")) > before:
            fault = "leaked: a descriptor"
        if not fault:
            fault = reopened(os.path.join(folder, "state.json"))
    faulthandler.cancel_dump_traceback_later()
    if fault in ("swallowed", "leaked: a descriptor") and "filelock/" in interrupt.place:
        fault = f"in filelock: {fault}"
    return fault and f"{fault} ({kind.__name__} in {name} at {interrupt.place})"


def reopened(path: str) -> str:
    """Open a store once more; return what is wrong, '' if nothing is."""
    try:
        redundict.open(path, keep=KEEP).close()
    except redundict.LockedError:
        return "leaked: the lock"
    healthy = redundict.check(path).state is redundict.StoreState.HEALTHY
    return "" if healthy else "later: the store is not healthy"


# --- the trials


def at_points(name: str, step: int, first: int) -> Iterator[str]:
    """Interrupt a call at every so many points; yield what is wrong at each."""
    tried(name, LimitError, Never())  # later nothing is imported
    for kind in RAISED:
        for number in itertools.count(1 + first % step, step):
            interrupt = AtPoint(number, kind)
            fault = tried(name, kind, interrupt)
            if not interrupt.came and not fault:
                break
            yield fault


def at_times(seconds: float, rng: random.Random) -> Iterator[str]:
    """Interrupt calls at random times for some seconds; yield what is wrong after each."""
    lasts = {}
    for name in [*TRIALS, *TRIALS]:  # the second time, nothing is imported
        usual = Never()
        if fault := tried(name, LimitError, usual):
            raise RuntimeError(fault)
        lasts[name] = usual.seconds
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        name, kind = rng.choice(list(TRIALS)), rng.choice(HANDLED)
        yield tried(name, kind, AtTime(rng.uniform(1e-6, 1.2 * lasts[name]), kind))


# --- Ctrl-C


def victim(path: str, first: int, reports: mmap.mmap) -> None:
    """Change a dict in a ``with`` block, and report each change."""
    with redundict.open(path, keep=KEEP) as state:
        for number in range(first, first + ROUNDS):
            state["n"] = number
            reports[: _NUMBER.size] = _NUMBER.pack(number)
            if number % 4 == 1:
                state.sync()
            elif number % 4 == 2:
                with state.transaction():
                    state["m"] = number
            elif number % 4 == 3:
                state.sync_soon()


def live(path: str, first: int, reports: mmap.mmap) -> int:
    """Be a program that Ctrl-C ends; return how it ended: 0 by itself, 1 by Ctrl-C, 2 otherwise."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        victim(path, first, reports)
        ended = 0
    except KeyboardInterrupt:
        ended = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    redundict.open(path, keep=KEEP).close()  # the lock is free
    atexit._run_exitfuncs()  # noqa: SLF001 - as at the end of a program
    return ended


def pressed(path: str, first: int, seconds: float) -> tuple[int, int]:
    """Press Ctrl-C after some seconds; return the last number reported, and how it ended."""
    reports = mmap.mmap(-1, mmap.PAGESIZE)
    if (pid := os.fork()) == 0:
        ended = 2
        try:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            ended = live(path, first, reports)
        except BaseException as error:  # noqa: BLE001 - of whatever type: it is what is looked for
            print(f"{error!r}", file=sys.stderr)
        finally:
            os._exit(ended)
    time.sleep(seconds)
    os.kill(pid, signal.SIGINT)
    _, status = os.waitpid(pid, 0)
    return _NUMBER.unpack(reports[: _NUMBER.size])[0], os.waitstatus_to_exitcode(status)


def at_keys(count: int, rng: random.Random) -> Iterator[str]:
    """Press Ctrl-C so many times around a ``with`` block; yield what is wrong after each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the process is ready
    folder = tempfile.mkdtemp(dir=_MEMORY)  # no object that removes it when a process exits
    try:
        path, number, lasts, met = prepared(folder), 2, 0.1, 0
        while met < count:
            reported, ended = pressed(path, number + 1, rng.uniform(0, lasts))
            least, number = max(reported, number), redundict.load(path)["n"]
            lasts *= 1.02 if ended else 0.9  # it ended by itself: the key came too late
            if ended not in (0, 1):
                yield f"later: the process ended with {ended}"
            elif number not in (least, least + 1):
                yield f"lost: {number} on disk, {least} in memory"
            elif ended:
                yield ""
            met += ended != 0
    finally:
        shutil.rmtree(folder)


def trials(what: str, amount: float, seed: int) -> Iterator[str]:
    """Yield what is wrong after each interrupt of one kind of trial."""
    warnings.simplefilter("ignore", redundict.RedundancyWarning)
    gc.freeze()
    gc.disable()
    survey._FRESH = 0.0  # type: ignore[misc]  # noqa: SLF001 - no other writer is at work
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not secret
    if what == "timers":
        yield from at_times(amount, rng)
    elif what == "Ctrl-C":
        yield from at_keys(int(amount), rng)
    else:
        yield from at_points(what, max(1, round(1 / amount)), seed)


def run(
    scale: float,
    seconds: float,
    count: int,
    *,
    seed: int,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, dict[str, int]]:
    """Make all trials; return for each of three kinds how many, and what went wrong.

    Args:
        scale: The part of the points at which calls are interrupted.
        seconds: How long real timers interrupt calls.
        count: How often Ctrl-C is pressed.
        seed: To repeat a run, nearly.
        tick: Is called after each trial.

    """
    amounts: dict[str, dict[str, float]] = {
        "interrupts at points": dict.fromkeys(TRIALS, scale),
        "interrupts by timers": {"timers": seconds},
        "Ctrl-C": {"Ctrl-C": count},
    }
    found = {}
    for kind, each in amounts.items():
        counts = found[kind] = {"tried": 0, **dict.fromkeys((*BAD, "in filelock"), 0)}
        for what, amount in each.items():
            for fault in served(what, amount, seed):
                counts["tried"] += fault != "hung"
                if fault:
                    counts[next((it for it in counts if fault.startswith(it)), "later")] += 1
                tick()
    return found


def served(what: str, amount: float, seed: int) -> Iterator[str]:
    """Make the trials of one kind in a process; yield what is wrong after each."""
    command = [sys.executable, __file__, "--serve", what, "--scale", str(amount)]
    command += ["--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            yield line.strip()
    if process.returncode:  # the process ended itself, because it hung
        yield "hung"


def main() -> int:
    """Make the trials with a progress bar, print the counts; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the points (1)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timers (600)")
    parser.add_argument("--count", type=int, default=COUNT, help="how many Ctrl-C (10,000)")
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run, nearly (0)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        for fault in trials(args.serve, args.scale, args.seed):
            if fault:
                print(fault, file=sys.stderr, flush=True)
            print(fault, flush=True)
        return 0
    from rich.console import Console  # noqa: PLC0415 - the process that is interrupted has none
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("interrupts", total=None)
        found = run(
            args.scale,
            args.seconds,
            args.count,
            seed=args.seed,
            tick=lambda: progress.advance(task),
        )
    for kind, counts in found.items():
        print(f"{kind}: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    return int(any(counts[bad] for counts in found.values() for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
