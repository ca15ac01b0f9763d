"""Many stores: finds them in folders, however deep, and checks them side by side.

Results come out in the order in which the stores were found, one at a time, so a hundred thousand
stores take no more memory than a few. Processes do the work and not threads, because most of a
check holds Python's global lock. Never writes.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redundict import errors, report
from redundict.engine import files, places, survey
from redundict.engine.layout import SLOT, Copies
from redundict.engine.slots import SlotState

from . import exits

if TYPE_CHECKING:
    from concurrent.futures import Future

_ALONE: Final = 0.3  #: Seconds of work before other processes are started.
_BATCH: Final = 16  #: Stores that are given to a process at once.
_AHEAD: Final = 3  #: Batches under way for each process.


@dataclass(frozen=True, slots=True)
class Checked:
    """The result for one store: a report, or the error that ended its check."""

    path: str
    result: report.Report | errors.RedundictError

    @property
    def exit(self) -> exits.Exit:
        """The exit code that fits."""
        if isinstance(self.result, errors.RedundictError):
            return exits.of_error(self.result)
        return exits.OF_STATE[self.result.state]


def find(paths: Iterable[str], copies: Copies | None = None) -> Iterator[str]:
    """Yield the stores that `paths` name, each once: stores themselves, or folders to be searched.

    A store with copies in several of the folders is yielded where it is found first.
    A folder without a store is yielded, too, so that its check reports an error. So is a folder
    below it that cannot be listed. A foreign file that is only named like a slot is passed over,
    and links to folders are not followed.
    """
    seen = set[frozenset[str]]()
    for path in _named(paths, copies):
        if files.exists(f"{path}.copies"):
            if (everywhere := _everywhere(path)) in seen:
                continue
            seen.add(everywhere)
        yield path


def _everywhere(path: str) -> frozenset[str]:
    """Return the paths of a store in the folders of its copies."""
    try:
        layout = places.assumed(path)
    except errors.RedundictError:
        return frozenset([os.path.realpath(path)])  # its check says what is wrong
    return frozenset(os.path.realpath(os.path.join(f, layout.name)) for f in layout.folders)


def _named(paths: Iterable[str], copies: Copies | None) -> Iterator[str]:
    for path in paths:
        is_name = os.path.basename(path) not in ("", ".", "..")
        if not os.path.isdir(path) or (is_name and _is_store(path, copies)):
            yield path
            continue
        inside = _below(path)
        first = next(inside, None)
        yield from itertools.chain([os.path.abspath(path) if first is None else first], inside)


def check_all(
    paths: Iterable[str], check: Callable[[str], Checked], workers: int | None = None
) -> Iterator[Checked]:
    """Check each store; yield the results in the same order.

    Args:
        paths: The stores.
        check: Checks one store: `check_one`, or a partial of it.
        workers: The number of processes. By default there is one for each processor, as soon as
            the work takes more than a moment.

    """
    workers = workers or _processors()
    remaining, started = iter(paths), time.monotonic()
    for path in remaining:
        yield check(path)
        if workers > 1 and time.monotonic() - started > _ALONE:
            break
    yield from _in_processes(remaining, check, workers)


def _processors() -> int:
    """Return how many processors this process may use: a container may have two of sixty-four."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_one(path: str, *, copies: Copies | None = None, cold: bool = False) -> Checked:
    """Check a store; return an error instead of raising it."""
    try:
        return Checked(path, report.check(path, copies=copies, cold=cold))
    except errors.NotFoundError as error:
        return Checked(path, _why_unlisted(path) or error)
    except errors.RedundictError as error:
        return Checked(path, error)
    except OSError as error:
        return Checked(path, errors.unreadable(error, os.path.abspath(path)))
    except MemoryError:
        return Checked(path, errors.no_memory(os.path.abspath(path)))


def size(path: str, copies: Copies | None = None) -> int:
    """Return about how many bytes a check of a store reads."""
    try:
        layout, found = places.assumed(path, copies), 0
    except errors.RedundictError:
        return 0  # its check says what is wrong
    for slot in itertools.chain.from_iterable(map(layout.paths, range(layout.keep))):
        with suppress(OSError):
            found += os.lstat(slot).st_size
    return found


def _in_processes(
    paths: Iterator[str], check: Callable[[str], Checked], workers: int
) -> Iterator[Checked]:
    batches = iter(lambda: list(itertools.islice(paths, _BATCH)), [])
    first = next(batches, None)
    if first is None:
        return
    import multiprocessing  # noqa: PLC0415 - only where there is enough to do
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        under_way: deque[Future[list[Checked]]] = deque()
        for batch in itertools.chain([first], batches):
            under_way.append(pool.submit(_check_batch, check, batch))
            if len(under_way) >= workers * _AHEAD:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()


def _check_batch(check: Callable[[str], Checked], paths: list[str]) -> list[Checked]:
    return list(map(check, paths))


def _below(folder: str) -> Iterator[str]:
    """Yield the stores in a folder and below it, each once, in the order of their names.

    Folders that cannot be listed come last: their check reports it.
    """
    unlisted: list[str] = []

    def refused(error: OSError) -> None:
        if error.errno not in files.ABSENT:  # a folder that is gone by now hides nothing
            unlisted.append(error.filename)

    for parent, folders, names in os.walk(folder, onerror=refused):
        folders.sort()
        found = Counter(match[1] for match in map(SLOT.fullmatch, names) if match)
        for name, count in sorted(found.items()):
            path = os.path.join(parent, name)
            if count > 1 or f"{name}.lock" in names or _is_store(path, None):
                yield path
    yield from unlisted


def _why_unlisted(path: str) -> errors.RedundictError | None:
    """Return the error for a folder that cannot be listed: a store in it may be overlooked."""
    if os.path.isdir(path):
        try:
            files.names(path)
        except OSError as error:
            return errors.unlisted(error, os.path.abspath(path), "store")
    return None


def _is_store(path: str, copies: Copies | None) -> bool:
    """Return True if a store has a slot with a trailer here, even a bad one."""
    if os.path.basename(path) in ("", os.curdir, os.pardir):
        return False  # a folder
    try:
        seen = survey.survey(places.assumed(path, copies))
    except (errors.RedundictError, OSError):
        return True  # its check says what is wrong
    return any(slot.sound or slot.state is SlotState.DAMAGED for slot in seen)
