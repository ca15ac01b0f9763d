"""The inside of redundict, as tests know it: the one module to adapt when the engine changes.

A test reaches everything through `redundict.__all__`, the command line and the files on disk, or
through this module. No other file of the tests imports a module of the package.

Three kinds of names:

- pure modules with unit tests of their own (`trailer`, `slots`, `history`,
  `layout`, ...), as they are;
- nouns: `Disk` is the base class of each stand-in for the system calls, `Engine` is a store of
  payloads without a dict, `Found` is what a reader finds;
- verbs: `use_disk`, `fail_on`, `set_clock`, `no_patience`, `no_lock`, `kill` and the like. A verb
  that changes the package takes a `pytest.MonkeyPatch`, which undoes the change.

A mutant of `test_crash_mutants` is a law that is broken on purpose. How to break each law is
written here, under "The laws, broken".
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from io import FileIO
from types import SimpleNamespace
from typing import Any

import pytest

import redundict
from redundict import committer, errors, lifetime, mapping, recovery, transactions
from redundict.cli import exits, render
from redundict.cli.parser import main as command_line
from redundict.cli.parser import parser
from redundict.engine import (
    clock,
    disk,
    files,
    history,
    layout,
    lineage,
    lock,
    newest,
    places,
    slots,
    store,
    survey,
    trailer,
    writes,
)
from redundict.engine.disk import Disk, Stat
from redundict.engine.files import NotAFileError
from redundict.engine.layout import COPIES, KEEP, LETTERS, Layout
from redundict.engine.ledger import Ledger
from redundict.engine.lineage import NO_LINE, Head, Line, Point
from redundict.engine.lock import encode_note, parse_note
from redundict.engine.slots import Slot, SlotState
from redundict.engine.trailer import NewerVersion, Trailer, TrailerError, Verified
from redundict.formats import snapshots
from redundict.formats.strict_json import JsonFormat

__all__ = [
    "COPIES",
    "KEEP",
    "LETTERS",
    "NO_LINE",
    "Disk",
    "Engine",
    "Exit",
    "FailingDisk",
    "Found",
    "Head",
    "Layout",
    "Line",
    "NewerVersion",
    "NotAFileError",
    "Point",
    "QuickDisk",
    "Slot",
    "SlotState",
    "Stat",
    "Trailer",
    "TrailerError",
    "Verified",
    "WaitingDisk",
    "command_line",
    "commands",
    "encode_note",
    "errors",
    "exits",
    "files",
    "history",
    "layout",
    "lineage",
    "parse_note",
    "parser",
    "places",
    "slots",
    "survey",
    "trailer",
]

Exit = exits.Exit
Patch = pytest.MonkeyPatch

ONE_MODULE_EACH = {
    "fsync": disk.__name__,
    "filelock": lock.__name__,
    "pickle.loads": "redundict.formats.pickles",
}  #: A dangerous word, and the one module whose code has it.


def commands() -> dict[str, Any]:
    """Return the parser of each command, by its name."""
    (added,) = (a for a in parser()._actions if hasattr(a, "choices") and a.choices)
    return dict(added.choices)


# --- Stand-ins for the system calls


def use_disk(patch: Patch, stand_in: Disk) -> None:
    """Let every system call that a store makes go to a stand-in."""
    patch.setattr(files, "disk", stand_in)


def disk_in_use() -> Disk:
    """Return the disk to which system calls go now."""
    return files.disk


class QuickDisk(Disk):
    """A real disk that is not waited for. No power is cut where it is used."""

    def sync_data(self, fd: FileIO) -> None:
        """Do nothing."""

    def sync_all(self, fd: FileIO) -> None:
        """Do nothing."""

    def sync_directory(self, path: str) -> None:
        """Do nothing."""


class WaitingDisk(Disk):
    """A real disk of which each `sync_data` waits until `go_on` is set; `reached` tells of it."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def sync_data(self, fd: FileIO) -> None:
        """Flush, once it may."""
        self.reached.set()
        assert self.go_on.wait(20)
        super().sync_data(fd)


class FailingDisk(Disk):
    """A real disk that refuses some calls on files whose names end in one of `endings`.

    `calls` are methods of `Disk`. `error` is an errno, or what to raise. Without `endings`, the
    calls fail for every file.
    """

    def __init__(
        self, calls: str | Collection[str], error: int | BaseException, *endings: str
    ) -> None:
        self._calls = {calls} if isinstance(calls, str) else set(calls)
        self._error = error
        self._endings = endings
        self._paths: dict[FileIO, str] = {}
        self.count = 0  #: Calls that were refused.

    def _check(self, call: str, path: str) -> None:
        name = path.removesuffix(".new")  # a file that is not whole yet
        if call in self._calls and (not self._endings or name.endswith(self._endings)):
            self.count += 1
            if isinstance(self._error, BaseException):
                raise self._error
            raise OSError(self._error, os.strerror(self._error), path)

    def _opened(self, fd: FileIO, path: str) -> FileIO:
        self._paths[fd] = path
        return fd

    def open_read(self, path: str) -> FileIO:
        self._check("open_read", path)
        return self._opened(super().open_read(path), path)

    def open_write(self, path: str) -> FileIO:
        self._check("open_write", path)
        return self._opened(super().open_write(path), path)

    def create(self, path: str, mode: int) -> FileIO:
        self._check("create", path)
        return self._opened(super().create(path, mode), path)

    def stat(self, fd: FileIO) -> Stat:
        self._check("stat", self._paths[fd])
        return super().stat(fd)

    def read(self, fd: FileIO, size: int, offset: int) -> bytes:
        self._check("read", self._paths[fd])
        return super().read(fd, size, offset)

    def write(self, fd: FileIO, data: bytes | memoryview, offset: int) -> int:
        self._check("write", self._paths[fd])
        return super().write(fd, data, offset)

    def truncate(self, fd: FileIO, size: int) -> None:
        self._check("truncate", self._paths[fd])
        super().truncate(fd, size)

    def chmod(self, fd: FileIO, mode: int) -> None:
        self._check("chmod", self._paths[fd])
        super().chmod(fd, mode)

    def chown(self, fd: FileIO, user: int, group: int) -> None:
        self._check("chown", self._paths[fd])
        super().chown(fd, user, group)

    def sync_data(self, fd: FileIO) -> None:
        self._check("sync_data", self._paths[fd])
        super().sync_data(fd)

    def sync_all(self, fd: FileIO) -> None:
        self._check("sync_all", self._paths[fd])
        super().sync_all(fd)

    def sync_directory(self, path: str) -> None:
        self._check("sync_directory", path)
        super().sync_directory(path)

    def rename(self, old: str, new: str) -> None:
        self._check("rename", old)
        super().rename(old, new)


def fail_on(
    patch: Patch, calls: str | Collection[str], error: int | BaseException, *endings: str
) -> FailingDisk:
    """Use a `FailingDisk`, and return it."""
    failing = FailingDisk(calls, error, *endings)
    use_disk(patch, failing)
    return failing


SYNCS = ("sync_data", "sync_all")  #: The calls that flush a file.


def deny_plain_files(patch: Patch, denied: Callable[..., object]) -> None:
    """Let `denied` be called in place of `open`, for a file that is no slot."""
    patch.setattr(files, "open", denied, raising=False)


def overwrite(path: str, *parts: bytes, **options: Any) -> None:
    """Make a file hold `parts` durably, or raise; the options are those of `files.Overwriting`."""
    for error in files.overwrite_all([files.Overwriting(path, parts, **options)]).values():
        raise error


# --- Threads


def alone(patch: Patch, *, alone: bool = True) -> None:
    """Let an encoder find that no other thread is running, or that one is."""
    patch.setattr(snapshots, "other_threads_running", lambda: not alone)


# --- Time


class _Clock(datetime):
    """A class of which `now` asks `source`."""

    source: Callable[[], datetime]

    @classmethod
    def now(cls, _: object = None) -> datetime:  # type: ignore[override]
        return cls.source()


def set_clock(patch: Patch, now: Callable[[], datetime]) -> None:
    """Let `now` be asked for the time of each commit, and for the ages of generations."""
    patch.setattr(_Clock, "source", staticmethod(now), raising=False)
    patch.setattr(trailer, "datetime", _Clock)


def no_patience(patch: Patch) -> None:
    """Let readers wait for no writer: what looks wrong is wrong."""
    patch.setattr(survey, "_FRESH", 0.0)


def readers_clock(patch: Patch, stand_in: object) -> None:
    """Let every wait ask a `stand_in` for the time. It has `time`, `monotonic` and `sleep`."""
    patch.setattr(clock, "time", stand_in)


def stopped_clock(patch: Patch, when: datetime | None) -> None:
    """Stop every clock at a time; None is a time that `datetime` cannot hold."""

    def refuse() -> datetime:
        raise OverflowError("the year is out of range")

    seconds = when.timestamp() if when else 1e15
    stand_in = SimpleNamespace(
        time=lambda: seconds,
        monotonic=lambda: 1000.0,
        perf_counter=lambda: 1000.0,
        sleep=time.sleep,
    )
    for module in (clock, trailer, transactions, committer):
        patch.setattr(module, "time", stand_in, raising=False)
    patch.setattr(time, "perf_counter", stand_in.perf_counter)  # filelock asks it
    set_clock(patch, (lambda: when) if when else refuse)


local_time = render.local


# --- The engine: payloads, no dicts


@dataclass(frozen=True)
class Found:
    """What a reader finds: a generation, its payload, and the slots as they were seen."""

    generation: int
    payload: bytes
    slots: tuple[redundict.Slot, ...]


class Engine:
    """A store of payloads: the commit path without a dict above it."""

    def __init__(self, inner: store.Store) -> None:
        self._inner = inner
        self.found = Found(0, b"", ())  #: What `reopen` found.

    @property
    def layout(self) -> Layout:
        return self._inner.layout

    @property
    def generation(self) -> int:
        """The number that was loaded or committed last."""
        return self._inner.generation

    @property
    def next_number(self) -> int:
        """The number that the next commit takes."""
        return self._inner._number + 1

    @next_number.setter
    def next_number(self, number: int) -> None:
        self._inner._number = number - 1

    def reopen(self) -> Engine:
        """Read and heal once more, as `reload` does; return this very engine."""
        loaded, _ = self._inner.heal(self._inner.read())
        self.found = Found(loaded.generation, loaded.payload, loaded.slots)
        return self

    def commit(self, payload: bytes, *, even_if_unchanged: bool = False) -> int:
        """Commit a payload; return its number once it is durable; warn of a copy that is not."""
        outcome = self._inner.commit(payload, "json", even_if_unchanged=even_if_unchanged)
        recovery.warn_if_incomplete(self.layout.path, outcome)
        return outcome.generation

    def take_lock(self) -> None:
        self._inner.lock.acquire()

    def release(self) -> None:
        self._inner.release()

    @property
    def is_locked(self) -> bool:
        return self._inner.lock.held

    def known_durable(self) -> set[str]:
        """Return the paths of the slots that are known to be on the medium."""
        return {path for path, slot in self._inner._ledger.slots.items() if slot.durable}

    def distrusted(self) -> set[str]:
        """Return the paths of the slots to which a write was not completed."""
        return self._inner._ledger.unfinished()

    def look_again(self) -> None:
        """Look at the trailers, as a commit does before it writes."""
        self._inner._ledger.refuse_other_writers(self._inner.generation)

    def remembered(self) -> int:
        """Return how many generations the engine remembers."""
        return len(self._inner._ledger.known)


def open_store(
    path: str | Layout, copies: int = 2, keep: int = 2, *, locked: bool = False
) -> Engine:
    """Open a store of payloads for writing; not `locked`, it is as if its lock had been lost."""
    where = path if isinstance(path, Layout) else Layout.of(path, copies, keep)
    engine = Engine(store.Store(where))
    if locked:
        engine.take_lock()
    else:
        engine._inner.lock = _LostLock(where.lock_path, where.path)
    return engine.reopen()


class _LostLock(lock.WriterLock):
    """A lock that its holder takes for held, while others can take it."""

    held = True

    def release(self, settled: str = "") -> None:
        """Do nothing: it is lost."""


def engine_of(state: redundict.RedunDict[Any, Any]) -> Engine:
    """Return the engine below an open dict."""
    return Engine(state._store)


def load(where: str | Layout, generation: int | None = None, *, patiently: bool = False) -> Found:
    """Read the survivor, or `generation`; `patiently`, as a reader beside a writer does."""
    found = newest.load if patiently else newest.load_locked
    loaded = found(where if isinstance(where, Layout) else Layout.of(where, 2, 2), generation)
    return Found(loaded.generation, loaded.payload, loaded.slots)


def load_before(where: Layout, generation: int) -> Found:
    """Read the generation before `generation`."""
    return load(where, newest.previous(where, generation))


def flaws_at_a_glance(
    where: Layout, survivor: redundict.Slot, found: tuple[redundict.Slot, ...]
) -> list[redundict.Flaw]:
    """Return the flaws that a reader finds, which takes a short way where all is in order."""
    return newest.Loaded(where, survivor, b"", b"", "", found).flaws()


def decode(payload: bytes) -> Any:
    """Return the dict of a payload in JSON; that of no payload is empty."""
    return JsonFormat().decode(payload) if payload else {}


def payloads_committed(patch: Patch) -> list[bytes]:
    """Return a list to which each payload is added before it is committed."""
    seen: list[bytes] = []
    real = store.Store.commit

    def commit(inner: store.Store, payload: bytes, *args: Any, **options: Any) -> int:
        seen.append(payload)
        return real(inner, payload, *args, **options)

    patch.setattr(store.Store, "commit", commit)
    return seen


def prepared_repair(path: str) -> contextlib.AbstractContextManager[Any]:
    """Begin a repair that is shown before it is done."""
    return recovery.prepared_repair(path)


# --- Verification


def remember_what_was_judged(
    patch: Patch, remembering: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Put `remembering` around the two pure functions that judge a slot's bytes."""
    for name in ("parse", "verify"):
        patch.setattr(trailer, name, remembering(getattr(trailer, name)))


def verify_with(patch: Patch, verify: Callable[[bytes], Verified]) -> None:
    """Let `verify` judge the bytes of slots."""
    patch.setattr(trailer, "verify", verify)


def believe(content: bytes) -> Verified:
    """Judge a slot as `trailer.verify` does, without the digest."""
    claim = trailer.parse(content[-trailer.TAIL :], len(content))
    return Verified(claim, content[: claim.length], b"")


def huge_slots(patch: Patch, least: int) -> None:
    """Let slots be hashed in pieces, before they are read, from `least` bytes on."""
    patch.setattr(survey, "_HUGE", least)


def verify_side_by_side(patch: Patch, least: int) -> None:
    """Let slots be verified by several threads from `least` bytes on."""
    patch.setattr(survey, "_LARGE", least)


def watch_verification(patch: Patch, verify: Callable[[Callable[..., Any], Any], Any]) -> None:
    """Let `verify(real, slot)` be called in place of the real one, for each slot."""
    real = survey.verify
    patch.setattr(survey, "verify", lambda slot: verify(real, slot))


# --- Locks, processes, threads


def no_lock(patch: Patch) -> None:
    """Let every lock be taken at once, without a file."""
    patch.setattr(lock.WriterLock, "acquire", lambda *_: None)


def lock_of(path: str) -> lock.WriterLock:
    """Return the lock of the store at a path, not held."""
    return lock.WriterLock(f"{path}.lock", path)


def notes_passed_on(path: str, *notes: str) -> list[str]:
    """Take and release the lock at `path`, leaving each note; return what each holder was left."""
    left = []
    for note in notes:
        held = lock.WriterLock(path, path)
        held.acquire()
        left.append(held.settled)
        held.release(settled=note)
    return left


def kill(state: redundict.RedunDict[Any, Any]) -> None:
    """Leave a store as a killed process does: nothing more is saved, and the lock is free."""
    lifetime.stores.remove(state)
    engine_of(state)._inner.lock.release()


def forget(state: redundict.RedunDict[Any, Any]) -> None:
    """Let nothing be saved when a dict is dropped, or at the exit."""
    lifetime.stores.remove(state)


@contextlib.contextmanager
def background_lock_held(state: redundict.RedunDict[Any, Any]) -> Iterator[None]:
    """Hold what the background needs, as a thread of the parent may at a fork."""
    with state._background()._queue:
        yield


def commit_nothing_soon(patch: Patch) -> None:
    """Let states of `sync_soon` wait until another call commits them."""
    patch.setattr(committer.Committer, "start", lambda _: None)


def call_while_replacing(patch: Patch, function: Callable[[], object]) -> None:
    """Call a function while a state in memory is cleared and not yet filled again."""

    class Interrupted(dict[Any, Any]):
        @staticmethod
        def update(state: Any, other: Any) -> None:
            patch.undo()
            function()
            dict.update(state, other)

    patch.setattr(mapping, "dict", Interrupted, raising=False)


def without_snapshots(patch: Patch) -> None:
    """Encode the dict itself, though other threads may change it meanwhile."""
    patch.setattr(snapshots, "snapshot", dict)


def is_code_above_the_engine(file: str) -> bool:
    """Return True for the source of the dict, and of what decides who commits."""
    return file in (mapping.__file__, committer.__file__)


CLOSED = lifetime.Closed  #: What every closed dict is an instance of.


def is_code(file: str) -> bool:
    """Return True for the source of the package."""
    return file.startswith(os.path.dirname(redundict.__file__) + os.sep)


#: A line of a program: at its exit, wait 0.2 s for a transaction of another thread.
BRIEF_AT_EXIT = "import redundict.lifetime; redundict.lifetime._AT_EXIT = 0.2"
#: An expression of a program: leave `it` as an interrupt in the middle of a reload leaves it.
HALF_REPLACED = 'it._replace({}) or setattr(it, "_incoming", (None, {"n": 0}))'


# --- The laws, broken (DESIGN, section 4)


def break_law_1(patch: Patch) -> None:
    """Overwrite the slot that holds the survivor."""
    patch.setattr(
        slots, "choose_victim", lambda _, survivor, *__: survivor.index if survivor else 0
    )


def break_law_2(patch: Patch) -> None:
    """Overwrite the predecessor before the survivor is durable."""
    _make_durable_with(patch, Ledger.survivor)


def break_law_2_by_syncing_alone(patch: Patch) -> None:
    """Sync the survivor without writing its pages again: a failed sync marked them clean."""

    def make_durable(ledger: Ledger) -> redundict.Slot | None:
        for slot in list(ledger.slots.values()):
            if slot.sound and not slot.durable:
                fd = files.disk.open_write(slot.path)
                with contextlib.suppress(OSError):
                    files.disk.sync_all(fd)
                    files.disk.sync_directory(os.path.dirname(slot.path))
                files.disk.close(fd)
                ledger.put(replace(slot, durable=True))
        return ledger.survivor()

    _make_durable_with(patch, make_durable)


def _make_durable_with(patch: Patch, act: Callable[[Ledger], redundict.Slot | None]) -> None:
    for module in (store, writes):
        patch.setattr(module, "make_durable", act)


def break_law_3(patch: Patch) -> None:
    """Trust a slot of which a write or a sync failed."""
    real = files.overwrite_all

    def overwrite_all(targets: list[files.Overwriting]) -> files.Failures:
        real(targets)
        return {}

    patch.setattr(files, "overwrite_all", overwrite_all)


def write_the_first_commit_in_place(patch: Patch) -> None:
    """Write the only slots of a store under their own names, where a cut leaves nothing else."""
    real = files.Overwriting

    def in_place(*args: Any, **options: Any) -> files.Overwriting:
        made = real(*args, **options)
        made.afresh = False
        return made

    patch.setattr(files, "Overwriting", in_place)


def break_the_law_of_the_trailer(patch: Patch) -> None:
    """Believe a trailer without its digest."""
    verify_with(patch, believe)
