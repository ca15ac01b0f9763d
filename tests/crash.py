"""Writers on a simulated disk, and the promise that every crash of them has to keep.

A `Writer` is a process that opens a store and commits to it. While it works, each step of the disk
is kept with what was promised by then (`Moment`). `Cuts` then opens every image that a cut may
leave at that moment; `killed` starts another writer on the page cache as it was. Time is counted in
writers and commits, so that what came about in two ways is the same to the byte, and asked once.

The promise: what loads is a generation that was committed or being committed, with exactly its
content, and never one older than the last whose commit had returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from . import inside
from .disk import FOLDER, Image, SimulatedDisk
from .inside import Layout

COARSE = 2048  #: Bytes of a sector where the states of two crashes multiply.

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)  #: Each writer has a day, each of its commits a second.

Contents = dict[int, frozenset[bytes]]  #: What each number was tried to be committed with.


def layout(copies: int = 2, keep: int = 2) -> Layout:
    """Return the layout of the simulated store."""
    return Layout.of(os.path.join(FOLDER, "s"), copies, keep)


@dataclass(frozen=True)
class Promise:
    """What a crash must not take away: the number that was returned, and what each number holds.

    `writers` is how many there were.
    """

    returned: int = 0
    contents: Contents = field(default_factory=dict)
    writers: int = 0

    def tried(self, number: int, content: bytes) -> Promise:
        both = self.contents.get(number, frozenset()) | {content}
        return replace(self, contents={**self.contents, number: both})


@dataclass(frozen=True)
class Moment:
    """A disk after one of its steps, and what was promised by then."""

    disk: SimulatedDisk
    promise: Promise

    def state(self) -> object:
        """Return what two moments have in common that cannot be told apart."""
        promise = self.promise
        held = frozenset(promise.contents.items())
        return self.disk.state(), promise.returned, held, promise.writers


class BrokenPromiseError(AssertionError):
    """A crash lost a generation, or loaded what was never committed."""


@contextmanager
def on(disk: SimulatedDisk, now: datetime | None = None) -> Iterator[None]:
    """Let the library work on a simulated disk, at a time."""
    with pytest.MonkeyPatch.context() as patch:
        inside.use_disk(patch, disk)
        if now:
            inside.set_clock(patch, lambda: now)
        yield


def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of bytes that is asked only once for each; it may raise."""
    known: dict[tuple[object, ...], tuple[Any, Exception | None]] = {}

    def asked(*args: object) -> Any:
        if args not in known:
            try:
                known[args] = function(*args), None
            except Exception as error:  # noqa: BLE001 - it is raised below
                known[args] = None, error
        result, error = known[args]
        if error:
            raise error.with_traceback(None)
        return result

    return asked


class Writer:
    """A process with a store open for writing; keeps every moment of its life."""

    def __init__(
        self, disk: SimulatedDisk, promise: Promise | None = None, where: Layout | None = None
    ) -> None:
        self.disk = disk
        self.promise = promise or Promise()
        self.promise = replace(self.promise, writers=self.promise.writers + 1)
        self.commits = 0
        self.moments = [Moment(disk.copy(), self.promise)]
        disk.on_step = lambda now: self.moments.append(Moment(now.copy(), self.promise))
        with on(disk):
            self.store = inside.open_store(where or layout())
        if found := self.store.found.generation:
            keep_promise(self.promise, found, self.store.found.payload)

    def commit(self, payload: bytes) -> None:
        """Commit; what is being committed may load from now on, and has to once this returns."""
        number = self.store.next_number
        self.promise = self.promise.tried(number, payload)
        self.commits += 1
        with on(self.disk, BEGAN + timedelta(self.promise.writers, self.commits)):
            assert self.store.commit(payload, even_if_unchanged=True) == number
        self.promise = replace(self.promise, returned=number)
        self.moments.append(Moment(self.disk.copy(), self.promise))

    def rollback(self) -> None:
        """Commit what the generation before held."""
        with on(self.disk):
            old = inside.load_before(self.store.layout, self.store.generation)
        self.commit(old.payload)


def keep_promise(promise: Promise, number: int, payload: bytes) -> None:
    """Raise if what was loaded is not what was promised."""
    if number < promise.returned:
        raise BrokenPromiseError(f"generation {promise.returned} was lost: {number} loads")
    if payload not in promise.contents.get(number, frozenset()):
        raise BrokenPromiseError(f"generation {number} loads with content it never had")


class Cuts:
    """Cuts the power at moments, and counts the states that were opened."""

    def __init__(self, where: Layout | None = None) -> None:
        self.where = where or layout()
        self.states = 0
        self._checked: set[object] = set()
        self._seen: dict[Image, tuple[int, bytes]] = {}
        self._went_on: set[tuple[Image, int]] = set()

    def check(self, moments: Iterable[Moment], *, then_commit: bool = False) -> None:
        """Cut the power at each moment, in every way; load, and perhaps commit and cut again."""
        for moment in moments:
            if (state := (moment.state(), then_commit)) in self._checked:
                continue
            self._checked.add(state)
            # An unfinished first slot is no slot: it matters only to who goes on from there.
            for image in moment.disk.images(besides=None if then_commit else ".new"):
                self.states += 1
                number, payload = self._load(image)
                if number or moment.promise.returned:
                    keep_promise(moment.promise, number, payload)
                if then_commit and (image, number) not in self._went_on:
                    self._went_on.add((image, number))
                    after = replace(moment.promise, returned=number)
                    writer = Writer(SimulatedDisk(image, COARSE), after, self.where)
                    writer.commit(b"after the cut")
                    self.check(writer.moments)

    def _load(self, image: Image) -> tuple[int, bytes]:
        if image not in self._seen:
            with on(SimulatedDisk(image)):
                loaded = inside.load(self.where)
            self._seen[image] = loaded.generation, loaded.payload
        return self._seen[image]


def killed(moments: Iterable[Moment], where: Layout, commits: int = 1) -> Iterator[Moment]:
    """Kill the writer at each moment, let another one open and commit, and yield its moments."""
    for moment in {moment.state(): moment for moment in moments}.values():
        writer = Writer(moment.disk.copy(), moment.promise, where)
        for number in range(commits):
            writer.commit(b"after the kill %d" % number)
        yield from writer.moments


class Failing:
    """Makes some calls of some methods fail: from the `first` on, `times` of them."""

    def __init__(self, calls: Collection[str], first: int, times: int, error: OSError) -> None:
        self.calls, self.first, self.times, self.error = calls, first, times, error
        self.count = 0

    @property
    def failed(self) -> bool:
        return self.count >= self.first

    def __call__(self, call: str, path: str) -> None:
        if call in self.calls:
            self.count += 1
            if self.first <= self.count < self.first + self.times:
                raise self.error


def payload(number: int, size: int = 2500) -> bytes:
    """Return a payload that differs from any other number's in every sector."""
    return (b"<%d>" % number).ljust(8, b".") * (size // 8)


def healthy(
    generations: int, where: Layout | None = None, size: int = 2500, sector: int = 1024
) -> Moment:
    """Return a store with a history, and nothing that is not on the medium."""
    writer = Writer(SimulatedDisk(sector=sector), where=where)
    for number in range(1, generations + 1):
        writer.commit(payload(number, size))
    return Moment(writer.disk.copy(), writer.promise)
