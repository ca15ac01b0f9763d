"""The commit path: one store as bytes, for its whole life. Knows slots and no dicts.

`read` returns the newest generation and changes nothing. `heal` makes it this store's own and
repairs its copies. `commit` writes the next generation into slots that do not hold the survivor.
The promise of a store rests on the order of the steps in `commit`, which reads from top to bottom
in the order in which things happen. The laws are those of docs/durability.md.

Invariants: a slot that the survivor depends on is never written to, but with its own bytes. Before
anything that loads is overwritten, the survivor is durable. Numbers only grow. One thread writes a
commit from its first byte to its last flush, and no code of a user runs in here.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from redundict import errors

from . import newest, slots, trailer
from .files import Failures
from .history import THINNED, give_up
from .layout import Layout
from .ledger import Ledger
from .lock import WriterLock
from .newest import Loaded
from .slots import Generation, Slot, SlotState
from .trailer import Trailer
from .writes import Healed, heal, make_durable, write


class Outcome(NamedTuple):
    """What came of a commit: the durable generation, and the slots that could not be written."""

    generation: int
    failures: Failures


class _Content(NamedTuple):
    """What tells whether a payload is the payload of the last commit."""

    length: int
    format: str
    digest: bytes  #: SHA-256 of the payload alone.


class Store:
    """The slots of one path: `acquire`, then `read` and `heal`, then `commit`, then `release`.

    One thread at a time may call it.

    Attributes:
        layout: Where the slots are.
        lock: The lock that keeps other writers away.
        generation: The number that was last loaded or committed; 0 before the first.
        digest: Its digest.

    """

    def __init__(self, layout: Layout, *, mode: int | None = None) -> None:
        self.layout = layout
        self.lock = WriterLock(layout.lock_path, layout.path, mode)
        self.generation = 0
        self.digest = ""
        self._ledger = Ledger(layout, mode)
        self._committed: _Content | None = None  # of `generation`; None: memory holds another
        self._number = 0  # the highest that verified, or that this process tried to write
        self._at_opening = 0  # the generation that was there when the program opened the store

    # --- opening

    def acquire(self, timeout: float) -> None:
        """Take the lock, if it is not held; raise `LockedError` after `timeout` seconds."""
        self.refuse_in_child()
        if not self.lock.held:
            self.lock.acquire(timeout)
            if self._ledger.slots and self.lock.settled != self._ledger.note():
                self._ledger.distrust_all()

    def read(self, generation: int | None = None) -> Loaded:
        """Return the newest generation, or `generation`; change nothing.

        Without the lock, a slot that a writer is at work on is looked at again.
        """
        if self.lock.held:
            unfinished = self._ledger.unfinished()
            return newest.load_locked(self.layout, generation, distrusted=unfinished)
        return newest.load(self.layout, generation)

    def heal(self, found: Loaded) -> tuple[Loaded, Healed | None]:
        """Stand on a generation that was read; with the lock, rewrite every bad copy of it.

        Args:
            found: What `read` returned. If the lock was held then, it is held still.

        Returns:
            `found` with every copy of the survivor verified, and the slots that were healed; a
            reader, who has no lock, heals none.

        Raises:
            DivergedError: If two copies hold different content under one number; healing would
                destroy one of them. The store then stands on what it stood on before.

        """
        healed = None
        if self.lock.held:
            self._ledger.see(found.slots)
            for slot in found.slots:
                if slot.state is SlotState.CLAIMED and slot.generation == found.generation:
                    self._ledger.verify(slot)
            found = replace(found, slots=tuple(self._ledger.slots.values()))
            self._ledger.trust_lock_note(self.lock.settled)
            self._number = max(self._number, found.generation)
            if not slots.are_in_order(found.slots):
                self._ledger.refuse_if_diverged()
                self._number = max(self._number, found.generation + found.unseen())
                healed = heal(self._ledger, older=True)  # law 10
        self._stand_on(found)  # law 14: nothing raises from here on
        return found, healed

    def _stand_on(self, found: Loaded) -> None:
        content = _Content(len(found.payload), found.format, found.payload_digest)
        self._ledger.accept()
        self._at_opening = self._at_opening or found.generation
        # An unfinished slot may hold a newer generation that a crash would bring back.
        is_newest = found.survivor is not None and not self._ledger.unfinished()
        self._committed = content if is_newest else None
        self.generation, self.digest = found.generation, found.digest

    # --- committing

    def commit(
        self,
        payload: bytes,
        format: str,
        *,
        even_if_unchanged: bool = False,
        begins_history: bool = False,
    ) -> Outcome:
        """Write the next generation to every copy; return once it is durable in one of them.

        If the power goes before this returns, the generation before loads, or this one.

        Args:
            payload: The encoded state.
            format: The name of its format.
            even_if_unchanged: Write it although it is what was last loaded or committed.
            begins_history: Name no parent, so that no generation before it will be missed.

        Returns:
            The durable generation, and what the system said of each copy that is not.

        Raises:
            CommitError: If no copy could be written; the generation before is untouched.
            ConflictError: If another writer has committed; nothing was overwritten.

        """
        self.refuse_in_child()
        payload_hash = hashlib.sha256(payload)
        content = _Content(len(payload), format, payload_hash.digest())
        is_new = even_if_unchanged or content != self._committed
        if not is_new and self._ledger.is_complete(self._ledger.survivor()):
            return Outcome(self.generation, {})
        self._ledger.refuse_other_writers(self.generation)  # law 5
        survivor, unhealed = self._ledger.survivor(), Failures()
        if not self._ledger.is_complete(survivor):
            survivor = make_durable(self._ledger)  # law 2
            unhealed = heal(self._ledger).failures  # law 7: only from bytes that verified
        if not is_new and survivor and survivor.generation == self.generation:
            return Outcome(self.generation, unhealed)
        victims = self._choose_victims(survivor)  # law 1
        origin = None if begins_history else survivor
        sealed, ending = self._seal(payload, payload_hash, format, origin)  # laws 4, 12
        self._ledger.known.add(sealed.digest)  # it is ours, before anybody can meet it
        self._committed = None  # until this has succeeded, nothing is known to be unchanged
        failures = write(  # law 3: no slot is trusted until it is whole and flushed
            self._ledger,
            victims,
            sealed,
            (payload, ending),
            survivor,
            afresh=survivor is None,
        )
        if len(failures) == len(victims):
            stands = survivor.generation if survivor else 0
            raise errors.not_written(self.layout.path, failures, self._number, stands)
        self._ledger.accept()  # law 14: nothing raises from here on
        self._committed = content
        self.generation, self.digest = sealed.generation, sealed.digest
        return Outcome(self.generation, failures)

    def _choose_victims(self, survivor: Slot | None) -> list[Slot]:
        """Return the slots to overwrite, one in each copy: bad slots, or an old generation."""
        keep = self.layout.keep
        if keep > trailer.MIN_KEEP:  # with two, there is no choice
            for slot in list(self._ledger.slots.values()):
                if slot.state is SlotState.CLAIMED:
                    self._ledger.verify(slot)
        is_thinned = survivor is not None and self.layout.history == THINNED
        index = slots.choose_victim(
            self._ledger.slots.values(), survivor, keep, self._give_up if is_thinned else None
        )
        return self._ledger.at(index)

    def _give_up(self, kept: dict[int, Trailer]) -> int | None:
        """Return the generation whose absence leaves the others best spread out over time."""
        now = datetime.now(UTC)
        ages = {t.generation: (now - t.written).total_seconds() for t in kept.values()}
        return give_up(ages, {max(ages), self._at_opening})

    def _seal(
        self, payload: bytes, payload_hash: hashlib._Hash, format: str, origin: Slot | None
    ) -> tuple[Trailer, bytes]:
        """Return the next trailer, and what follows the payload; all is hashed by now (law 12)."""
        return trailer.seal(
            payload,
            generation=self._take_number(),
            format=format,
            parent=origin.trailer.as_parent if origin and origin.trailer else trailer.NO_PARENT,
            copies=len(self.layout.folders),
            keep=self.layout.keep,
            history=self.layout.history,
            payload_hash=payload_hash,
        )

    def _take_number(self) -> int:
        """Return a number above all that verified in any copy and all that were tried (law 4)."""
        if self._number >= trailer.MAX_GENERATION:
            raise errors.numbers_used_up(self.layout.path, self._number)
        self._number += 1
        return self._number

    # --- what is asked of it

    def is_committed(self, payload: bytes, format: str) -> bool:
        """Tell whether this payload is what was last loaded or committed."""
        last = self._committed
        if last is None or (last.length, last.format) != (len(payload), format):
            return False
        return last.digest == hashlib.sha256(payload).digest()

    def is_complete(self) -> bool:
        """Tell whether every copy of the newest generation is known to be on the medium."""
        return self._ledger.is_complete(self._ledger.survivor())

    def forget_content(self) -> None:
        """Let the next commit write, whatever its payload: memory is not what was read."""
        self._committed = None

    def has_changed(self) -> bool:
        """Tell whether another process has committed since; read trailers only, take no lock."""
        claim = newest.newest_claim(self.layout)
        if claim is None or claim.digest == self.digest:
            return False
        # Our own failed commit may look whole. An older generation may have been restored.
        return claim.digest not in self._ledger.known or claim.generation < self.generation

    def generations(self) -> list[Generation]:
        """Return the generations that load, newest first, from a full verification."""
        return newest.generations(self.layout)

    def is_held(self) -> bool:
        """Tell whether the lock is held."""
        return self.lock.held

    def refuse_in_child(self) -> None:
        """Raise `TransactionError` in a child of the process that opened the store."""
        if self.lock.inherited:
            raise errors.forked(self.layout.path)

    # --- the end

    def release(self) -> None:
        """Let go of the lock, with a note of what is known to be on the medium."""
        if not self.lock.held or self.lock.inherited:
            return
        settled = ""
        try:
            # The note is a help. To let go of the lock is a promise.
            with contextlib.suppress(errors.RedundictError):
                survivor = self._ledger.survivor()
                # A copy that is not ours now, and was not flushed, may be the next holder's.
                holders = self._ledger.holders(survivor)
                if self._ledger.is_complete(survivor) and all(slot.durable for slot in holders):
                    settled = self._ledger.note()
        finally:
            self.lock.release(settled)

    def begin_as_child(self) -> None:
        """Leave the lock to the parent process, in a child of fork."""
        self.lock.leave_to_parent()
