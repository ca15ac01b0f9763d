"""Many stores: finds them in folders, however deep, and checks them side by side.

What is found comes out in the order in which it was found, one at a time, so that a hundred
thousand stores take no more memory than a few. Processes and not threads, since what a check does
beside hashing holds Python's lock. Never writes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from redundict import errors
from redundict import report as integrity
from redundict.engine import files as durable
from redundict.engine import slots, survey
from redundict.engine.layout import COPIES, KEEP, SLOT, Layout
from redundict.engine.survey import Folders
from redundict.report import Report

_ALONE: Final = 0.3  #: Seconds of work that are not worth another process.
_BATCH: Final = 16  #: Stores that a process is given at once.
_AHEAD: Final = 3  #: Batches for each process that are under way.


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one store: a report, or the error that there was instead."""

    path: str
    report: Report | None
    error: errors.RedundictError | OSError | ValueError | None = None


@dataclass(frozen=True, slots=True)
class How:
    """How each store is checked."""

    folders: Folders | None = None
    cold: bool = False


def find(paths: Iterable[str], folders: Folders | None = None) -> Iterator[str]:
    """Yield the stores that `paths` name: stores themselves, or folders to be searched.

    A folder without a store in it is yielded as well, for its error, and so is one below it that
    cannot be listed. A stranger's file that is only named like a slot is passed over; links to
    folders are not followed.
    """
    for path in paths:
        if not os.path.isdir(path) or _is_store(path, folders):
            yield path
            continue
        inside = _below(path)
        first = next(inside, None)
        yield from itertools.chain([path if first is None else first], inside)


def check_all(paths: Iterable[str], how: How, workers: int | None = None) -> Iterator[Checked]:
    """Check each store, and yield what came of it in the same order.

    `workers` is how many processes do it; by default one for each processor, once it takes more
    than a moment.
    """
    workers = workers or _processors()
    remaining, started = iter(paths), time.monotonic()
    for path in remaining:
        yield check_one(path, how)
        if workers > 1 and time.monotonic() - started > _ALONE:
            break
    yield from _in_processes(remaining, how, workers)


def _processors() -> int:
    """Return how many processors this process may use: a container may have two of sixty-four."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_one(path: str, how: How) -> Checked:
    """Check a store; an error is returned, not raised."""
    try:
        try:
            return Checked(path, integrity.check(path, folders=how.folders, cold=how.cold))
        except errors.NotFoundError:
            _refuse_unlisted(path)
            raise
    except (errors.RedundictError, OSError, ValueError) as error:
        return Checked(path, None, error)


def size(path: str, folders: Folders | None = None) -> int:
    """Return how many bytes a check of a store is going to read, about."""
    layout = Layout.of(path, folders or COPIES, KEEP)
    found = 0
    for place in (layout.slot_path(c, i) for c in range(layout.copies) for i in range(layout.keep)):
        try:
            found += os.stat(place, follow_symlinks=False).st_size
        except OSError:
            continue
    return found


def _in_processes(paths: Iterator[str], how: How, workers: int) -> Iterator[Checked]:
    first = list(itertools.islice(paths, _BATCH))
    if not first:
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        under_way: deque[Future[list[Checked]]] = deque()
        batch = first
        while batch or under_way:
            while batch and len(under_way) < workers * _AHEAD:
                under_way.append(pool.submit(_check_batch, batch, how))
                batch = list(itertools.islice(paths, _BATCH))
            yield from under_way.popleft().result()


def _check_batch(paths: list[str], how: How) -> list[Checked]:
    return [check_one(path, how) for path in paths]


def _below(folder: str) -> Iterator[str]:
    """Yield the stores in a folder and below it, each once, in the order of their names.

    Folders that cannot be listed come last: a check says so of them.
    """
    unlisted: list[str] = []

    def refused(error: OSError) -> None:
        if error.errno not in durable.ABSENT:  # one that is gone by now hides nothing
            unlisted.append(error.filename)

    for parent, folders, names in os.walk(folder, onerror=refused):
        folders.sort()
        found: dict[str, int] = {}
        for name in names:
            if match := SLOT.fullmatch(name):
                found[match[1]] = found.get(match[1], 0) + 1
        for name, count in sorted(found.items()):
            path = os.path.join(parent, name)
            if count > 1 or f"{name}.lock" in names or _is_store(path, None):
                yield path
    yield from unlisted


def _refuse_unlisted(path: str) -> None:
    """Raise for a folder that cannot be listed: no folder may pass for one without a store."""
    if os.path.isdir(path):
        with errors.typed(
            "the folder cannot be listed, so that a store may be overlooked",
            path=os.path.abspath(path),
            safe="nothing was changed",
            action="make the folder readable, then try again",
        ):
            durable.names(path)


def _is_store(path: str, folders: Folders | None) -> bool:
    """Tell whether some slot of a store is there that has a trailer, even a bad one."""
    try:
        seen = survey.survey(Layout.of(path, folders or COPIES, KEEP))
    except (errors.RedundictError, OSError):
        return True  # the check says what is wrong
    return any(slot.sound or slot.state is slots.SlotState.DAMAGED for slot in seen)
