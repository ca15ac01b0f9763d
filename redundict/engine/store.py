"""The commit path: a store as bytes, for its one writer. Knows slots and no dicts.

`open` loads and heals, `commit` writes the next generation to every copy, into slots that do not
hold the survivor. What a store promises rests on the order of the steps in `commit`, which reads
from top to bottom in the order in which things happen.

Invariants: a slot that the survivor depends on is never written to, but with its own bytes; before
anything that loads is overwritten, the survivor is on the medium (`settle`); a slot of which a
write or a sync failed is not trusted until it has been written whole and synced; numbers only grow.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from redundict import errors

from . import newest as loading
from . import slots, threads, trailer
from .history import THINNED, give_up
from .layout import Layout
from .ledger import Ledger
from .lock import WriterLock
from .newest import Loaded
from .slots import Slot, SlotState
from .writes import Failures, Healed, heal, listed, not_written, settle, write

if TYPE_CHECKING:
    PayloadHash = Callable[[], hashlib._Hash]  # noqa: SLF001 - as the type stubs name it

_LARGE: Final = 1 << 20  #: Bytes of payload whose digest is worth a thread of its own.


class Content(NamedTuple):
    """What tells whether a payload is that of the last commit."""

    length: int
    format: str
    digest: bytes  #: SHA-256 of the payload alone.


class Store:
    """The slots of one store, for writing: take `lock` first, then `open`, then `commit`."""

    def __init__(
        self,
        layout: Layout,
        *,
        mode: int | None = None,
        degraded: Callable[[str], object] = errors.warn,
    ) -> None:
        self.layout = layout
        self._degraded = degraded  # is told, in a sentence, what is not in every copy
        self.lock = WriterLock(layout.lock_path, layout.path, mode)
        self.generation = 0  #: The last one loaded or committed.
        self.digest = ""  #: Its digest.
        self.ledger = Ledger(layout, mode)
        self._content: Content | None = None  # of `generation`
        self._number = 0  # the highest that verified, or that this process tried to write
        self._started = 0  # the generation that was there when the program opened the store
        self._busy = False

    def again(self) -> Store:
        """Return a store to be opened anew in this one's place, with what must not be forgotten."""
        if self._busy:
            raise self.busy()
        self._stop_writing()
        anew = Store(self.layout, mode=self.ledger.mode, degraded=self._degraded)
        anew.lock, anew._number = self.lock, self._number
        anew._started = self._started
        anew.ledger = self.ledger.again()
        return anew

    def open(self) -> tuple[Loaded, Healed]:
        """Load; verify every copy of the survivor, and heal the bad ones. The lock must be held.

        Returns what was loaded, with the slots as they were found, and what was healed. Raises what
        `loading.load` raises, and `DivergedError` if two copies hold different content under one
        number, since healing would destroy one of them.
        """
        with self._alone():
            loaded = loading.load_locked(self.layout, distrusted=self.ledger.places.keys())
            self.ledger.enter(loaded)
            self.generation, self.digest = loaded.generation, loaded.digest
            self._started = self._started or loaded.generation
            self._number = max(self._number, loaded.generation)
            if loaded.survivor is None:
                return loaded, Healed()
            self._content = Content(len(loaded.payload), loaded.format, loaded.payload_digest)
            for slot in loaded.slots:
                if slot.state is SlotState.CLAIMED and slot.generation == loaded.generation:
                    self.ledger.verify(slot)
            self.ledger.refuse_if_diverged()
            loaded = replace(loaded, slots=tuple(self.ledger.slots()))
            self._number = max(self._number, loaded.generation + loaded.unseen())
            self.ledger.take_over(self.lock.settled)
            return loaded, heal(self.ledger)

    def commit(
        self,
        payload: bytes,
        format: str,
        *,
        even_if_unchanged: bool = False,
        begins_history: bool = False,
    ) -> int:
        """Write the next generation to every copy; return its number once it is durable.

        Content that is that of the last commit is not written again, and its number is returned.
        If it `begins_history`, it names no parent, so that nothing before it will be missed.
        Warns (`RedundancyWarning`) if a copy failed, and tries that copy again the next time.
        Raises `CommitError` if every copy failed, `ConflictError` if somebody else committed
        meanwhile. If the power goes before this returns, the generation before loads, or this one.
        """
        with self._alone():
            payload_hash = _hashing(payload)
            is_new = even_if_unchanged or not self._is_content(payload, format, payload_hash)
            if not is_new and self.ledger.is_complete(self.ledger.survivor()):
                return self.generation

            self.ledger.look_again(self.generation)
            survivor, healed = self.ledger.survivor(), Healed()
            if not self.ledger.is_complete(survivor):
                survivor, healed = settle(self.ledger), heal(self.ledger)
            if not is_new and survivor and survivor.generation == self.generation:
                self._warn(healed.failures)
                return self.generation

            self._verify_claims()
            victim = self._choose_victim(survivor)
            self._refuse_overflow()
            self._number += 1
            draft = trailer.draft(
                len(payload),
                generation=self._number,
                format=format,
                parent=_as_parent(None if begins_history else survivor),
                copies=self.layout.copies,
                keep=self.layout.keep,
                history=self.layout.history,
            )
            seal = functools.cache(lambda: draft.seal(payload_hash()))
            self._content = None  # until this has succeeded, nothing is known to be unchanged
            failures = write(
                self.ledger,
                self.ledger.at(victim),
                payload,
                seal,
                survivor,
                afresh=survivor is None,
            )
            if len(failures) == self.layout.copies:
                raise not_written(self.ledger, failures, survivor, self._number)
            self.generation, self.digest = self._number, seal()[0].digest
            self._content = Content(len(payload), format, payload_hash().digest())
            self.ledger.forget_overwritten()
            self._warn(failures)
            return self.generation

    def forget_content(self) -> None:
        """Let the next commit write, whatever its content: memory is not what was loaded."""
        self._content = None

    def unchanged(self, payload: bytes, format: str) -> bool:
        """Tell whether this is the content that was loaded or committed last."""
        return self._is_content(payload, format, lambda: hashlib.sha256(payload))

    def _is_content(self, payload: bytes, format: str, payload_hash: PayloadHash) -> bool:
        """Tell whether a payload is the last commit's, by its length alone if that tells."""
        last = self._content
        if last is None or (last.length, last.format) != (len(payload), format):
            return False
        return last.digest == payload_hash().digest()

    def knows(self, digest: str) -> bool:
        """Tell whether a generation was seen in a slot that holds it still, or is our own."""
        return digest == self.digest or digest in self.ledger.known

    def holds(self, payload: bytes, format: str) -> bool:
        """Tell whether this is the content of the last commit, in every copy."""
        return self.unchanged(payload, format) and self.ledger.is_complete(self.ledger.survivor())

    def refuse_if_forked(self) -> None:
        """Raise `ForkedError` in a child of the process that opened the store."""
        if self.lock.inherited:
            raise errors.TransactionError(
                "this process is a fork of the one that has the store open for writing",
                path=self.layout.path,
                safe="nothing was changed; the parent goes on",
                action="open the store in this process, once the parent has closed it, or fork "
                "before it is opened",
            )

    def release(self) -> None:
        """Let go of the lock, with a note of what is known to be on the medium."""
        settled = ""
        try:
            self._stop_writing()
            with contextlib.suppress(errors.RedundictError):  # the note helps, the lock is promised
                survivor = self.ledger.survivor()
                places = self.ledger.places.values()
                holders = [p for p in places if survivor and p.slot.holds(survivor)]
                # A copy that is not ours now, and that nobody synced, may be the next holder's.
                if self.ledger.is_complete(survivor) and all(place.settled for place in holders):
                    settled = self.ledger.note()
        finally:
            self.lock.release(settled)

    def busy(self) -> errors.TransactionError:
        """Return the error for a commit in the middle of another."""
        return errors.TransactionError(
            "it is in the middle of a commit, which a signal handler or a method of a value in it "
            "interrupted to commit again",
            path=self.layout.path,
            safe="nothing was changed",
            action="commit after the interrupted commit has returned",
        )

    def interrupted(self) -> errors.CommitError:
        """Return the error for whoever waits for a commit that another thread gave up."""
        return errors.CommitError(
            "the thread that was committing this state, and its own, was interrupted",
            path=self.layout.path,
            safe=f"generation {self.generation} stands",
            action="sync() again",
        )

    # --- the steps of opening and committing, in their order

    def _stop_writing(self) -> None:
        """Give up what an interrupted commit left to a thread, if it is not going on still.

        A signal handler may be in the middle of it. A child of fork has none of the threads.
        """
        if not self._busy and not self.lock.inherited:
            self.ledger.stop_writing()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse to be entered again: by a signal handler, since threads take turns (`Writer`)."""
        self.refuse_if_forked()
        if self._busy:
            raise self.busy()
        self._busy = True
        try:
            self.ledger.stop_writing()
            yield
        finally:
            self._busy = False

    def _verify_claims(self) -> None:
        """Verify what was only looked at, where the choice of the victim depends on it."""
        if self.layout.keep > trailer.MIN_KEEP:
            for slot in self.ledger.slots():
                if slot.state is SlotState.CLAIMED:
                    self.ledger.verify(slot)

    def _choose_victim(self, survivor: Slot | None) -> int:
        """Return the index to overwrite."""
        found, keep, given_up = self.ledger.slots(), self.layout.keep, None
        if survivor and self.layout.history == THINNED:
            pinned = {survivor.generation, self._started}
            given_up = give_up(slots.ages(found, keep, datetime.now(UTC)), pinned)
        return slots.choose_victim(found, survivor, keep, given_up)

    def _refuse_overflow(self) -> None:
        if self._number >= trailer.MAX_GENERATION:
            raise errors.StorageError(
                f"the numbers are used up: a slot holds generation {self._number}",
                path=self.layout.path,
                safe="nothing was changed",
                action="copy the state into a new store",
            )

    # --- what is told

    def _warn(self, failures: Failures) -> None:
        if failures:
            self._degraded(
                f"{self.layout.path}: generation {self.generation} is durable, but not in every "
                f"copy ({listed(failures)}). The next sync() tries again."
            )


def _hashing(payload: bytes) -> PayloadHash:
    """Return what returns the hash of a payload; a large one is hashed meanwhile."""
    if len(payload) >= _LARGE:
        return threads.begin(lambda: hashlib.sha256(payload))
    found = hashlib.sha256(payload)
    return lambda: found


def _as_parent(survivor: Slot | None) -> str:
    return survivor.trailer.as_parent if survivor and survivor.trailer else trailer.NO_PARENT
