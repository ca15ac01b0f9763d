"""The commit path: one store as bytes, for its whole life.

`read` returns the newest generation and changes nothing. `heal` adopts it and repairs its copies.
`commit` writes the next generation into slots that do not hold the survivor. The promise of a store
depends on the order of the steps in `commit`. They stand there in the order in which they run. The
laws are those of docs/durability.md. This module must not know dicts or formats.

Invariants: a slot that holds the survivor is overwritten only with its own bytes. The survivor is
durable before any slot that loads is overwritten. Numbers only grow. One thread writes a commit
from its first byte to its last flush. No code of the user runs in this module.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from redundict import errors
from redundict.errors import Fault

from . import files, lineage, newest, places, slots, survey, trailer
from .files import Failures
from .history import THINNED, give_up
from .layout import LETTERS, Layout
from .ledger import NEW_BRANCH, Ledger
from .lineage import Line
from .lock import WriterLock, acquire_all
from .newest import Loaded
from .slots import Generation, Slot, SlotState
from .trailer import Trailer
from .writes import Healed, heal, make_durable, write


class Outcome(NamedTuple):
    """The outcome of a commit.

    Attributes:
        generation: The number of the durable generation.
        failures: The errors of the slots that could not be written, by path.
        aside: The new path of each slot that was put aside first.

    """

    generation: int
    failures: Failures
    aside: Mapping[str, str] = MappingProxyType({})

    @property
    def is_silent(self) -> bool:
        """True if there is nothing to report."""
        return not self.failures and not self.aside and not files.unflushed


class _Content(NamedTuple):
    """The facts by which an unchanged payload is recognised."""

    length: int
    format: str
    digest: bytes  #: SHA-256 of the payload alone.


class Store:
    """The slots of one path.

    Call `acquire`, then `read` and `heal`, then `commit` any number of times, then `release`. Only
    one thread may call it at a time.

    Attributes:
        layout: The layout of the store.
        lock: The lock that keeps other writers out.
        generation: The number that was last loaded or committed; 0 before the first.
        digest: The digest of that generation; '' before the first.

    """

    def __init__(
        self,
        layout: Layout,
        *,
        mode: int | None = None,
        is_state: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self.layout = layout
        self._locks = [WriterLock(p, layout.path, mode) for p in layout.lock_paths()]
        self.lock = self._locks[0]  # the one beside the path
        self._held = self._locks[:1]  # those that this store holds, or lost to a foreign file
        self.generation = 0
        self.digest = ""
        self._ledger = Ledger(layout, mode, is_state)
        self._committed: _Content | None = None  # of `generation`; None: the next commit must write
        self._number = 0  # the highest that verified or that this process tried to write
        self._at_opening = 0  # the generation that the first load found
        self._is_own = False  # this object wrote the survivor
        self._branch = lineage.new_branch()  # the next new branch; a failed commit may have used it
        self._continues = False  # the next commit continues the survivor's branch (law 6)
        self._fresh = ""  # the letters of the copies that had no generation at opening

    # --- opening

    def acquire(self, timeout: float) -> None:
        """Take the lock if it is not held. If it is held, look whether its file is still there.

        If another writer held it meanwhile, no slot counts as durable any more.

        Args:
            timeout: Seconds to wait for another holder.

        Raises:
            LockedError: If another writer still holds it after `timeout` seconds.
            StorageError: If the lock file cannot be created or locked, if the folder of the store
                is another one than the one that was opened, or if it is not known where the copies
                are.
            TransactionError: In a fork of the process that opened the store.

        """
        self.refuse_in_child()
        if self.layout.doubt:
            raise errors.copies_unknown(self.layout.path, self.layout.doubt)
        if self.lock.held:
            for lock in self._held:
                if not lock.is_in_place():  # law 5
                    lock.take_again()
                    self._ledger.distrust_all()
                    self._continues = False
                    self._give(lock)
        else:
            self._lock_all(timeout)
            for lock in self._held if self._ledger.slots else ():
                if lock.has_created:
                    self._give(lock)
            settled = self.lock.settled.removesuffix(NEW_BRANCH)
            if self._ledger.slots and settled != self._ledger.note():
                self._ledger.distrust_all()

    def _lock_all(self, timeout: float) -> None:
        """Lock each folder. Note the copies that may only be read."""
        if len(self._locks) == 1:
            self.lock.acquire(timeout)
            return
        for copy, folder in enumerate(self.layout.folders):
            if copy not in self.layout.away and not files.exists(folder):
                raise errors.no_folder(self.layout.path, folder)
        held = acquire_all(self._locks, timeout)
        folders = {os.path.dirname(lock.path) for lock in held}
        self._ledger.read_only = frozenset(
            copy
            for copy, folder in enumerate(self.layout.folders)
            if copy not in self.layout.away and folder not in folders
        )
        self._held, self.lock = held, held[0]
        settled = {lock.settled for lock in held}
        self.lock.settled = settled.pop() if len(settled) == 1 else ""
        self.lock.noted = max(lock.noted for lock in held)

    def _give(self, lock: WriterLock) -> None:
        """Give a lock file that this store created the owner and the mode of the slots."""
        if survivor := self._ledger.survivor():
            mode = self._ledger.mode
            lock.give_to(survivor.owner, survivor.mode if mode is None else mode)

    def read(self, generation: int | None = None, *, anew: bool = False) -> Loaded:
        """Load the newest generation, or `generation`; change nothing.

        Without the lock, a slot that a writer may be writing is read again.

        Args:
            generation: The number to load. None loads the newest generation that verifies.
            anew: True if a store without any slot begins anew, whatever the lock note names.

        Returns:
            The generation and every slot. If no slot exists, it is empty.

        Raises:
            RedundictError: As `newest.load` raises it.

        """
        if self.lock.held:
            unfinished = self._ledger.unfinished()
            return newest.load_locked(
                self.layout,
                generation,
                distrusted=unfinished,
                noted=self.lock.noted,
                anew=anew,
            )
        return newest.load(self.layout, generation)

    def heal(self, found: Loaded) -> tuple[Loaded, Healed | None]:
        """Adopt a generation that was read. If the lock is held, heal its copies (law 10).

        Args:
            found: The result of `read`. If the lock was held then, it must still be held.

        Returns:
            `found` with every copy of the survivor verified, and the slots that were healed. The
            second value is None if all slots were in order, or if the lock is not held.

        Raises:
            DivergedError: If the copies went on separately. Healing would destroy one of them.
                Nothing was adopted.
            StorageError: If it is not known where a copy is, or only a link leads to the newest
                generation.

        """
        healed, self._fresh = None, ""
        if self.lock.held:
            self._ledger.see(found.slots)
            number = found.generation
            for slot in found.slots:
                if slot.state is SlotState.CLAIMED and slot.generation == number:
                    self._ledger.verify(slot)
            found = replace(found, slots=tuple(self._ledger.slots.values()))
            self._continues = self._ledger.trust_lock_note(self.lock.settled)
            for lock in self._held:
                if lock.has_created:
                    self._give(lock)
            self._number = max(self._number, found.generation, found.noted.generation)
            if not slots.are_in_order(found.slots):
                healed = self._heal(found)
            if self.layout.listed:
                places.write(self.layout, found.survivor, self._ledger.mode)
        self._stand_on(found)  # law 14: nothing raises from here on
        return found, healed

    def _heal(self, found: Loaded) -> Healed:
        """Refuse if the copies have parted; otherwise heal what is not as it should be."""
        survey.refuse_links(self.layout, found.slots)  # law 13
        self._ledger.refuse_if_parted()  # law 6
        self._continues = self._continues and not any(
            flaw.fault is not Fault.AWAY for flaw in found.flaws()
        )
        there = slots.heads(found.slots)
        if places.is_elsewhere(self.layout, found.survivor, found.slots):
            repair = self.layout.command("repair")
            raise errors.copies_unlisted(self.layout.path, repair)
        missing = set(range(self.layout.copies)) - self.layout.away - there.keys()
        self._fresh = "".join(LETTERS[copy] for copy in sorted(missing)) if there else ""
        self._number = max(self._number, found.generation + found.unseen())
        if found.survivor:
            self._ledger.find_evidence(found.survivor)  # law 7
        healed = heal(self._ledger, older=True)  # law 10
        healed.aside.update(self._ledger.take_aside())
        return healed

    def _stand_on(self, found: Loaded) -> None:
        content = _Content(len(found.payload), found.format, found.payload_digest)
        self._ledger.accept()
        self._at_opening = self._at_opening or found.generation
        # An unfinished slot may hold a newer generation that a crash would bring back.
        is_newest = found.survivor is not None and not self._ledger.unfinished()
        self._committed = content if is_newest else None
        self.generation, self.digest = found.generation, found.digest
        self._is_own = False

    # --- committing

    def commit(
        self,
        payload: bytes,
        format: str,
        *,
        even_if_unchanged: bool = False,
        begins_history: bool = False,
        spare: int = 0,
    ) -> Outcome:
        """Write the next generation to every copy; return when it is durable in at least one.

        If the power fails before this returns, the generation before it loads, or this one. If the
        payload is unchanged and every copy is durable, nothing is written.

        Args:
            payload: The encoded state.
            format: The name of its format.
            even_if_unchanged: Write the payload even if it was last loaded or committed.
            begins_history: Name no parent, so that no earlier generation is reported as missing.
            spare: The number of a generation to overwrite only if there is no other.

        Returns:
            The durable generation, and the errors of the copies that could not be written.

        Raises:
            CommitError: If no copy could be written. The generation before is untouched.
            ConflictError: If another writer has committed. Nothing was overwritten.
            StorageError: If the numbers of generations are used up.
            TransactionError: In a fork of the process that opened the store.

        """
        self.refuse_in_child()
        payload_hash = hashlib.sha256(payload)
        facts = _Content(len(payload), format, payload_hash.digest())
        is_new = even_if_unchanged or facts != self._committed
        if not is_new and self._ledger.is_untouched():
            return Outcome(self.generation, {})
        self._ledger.refuse_other_writers(self.generation)  # law 5
        survivor, unhealed = self._ledger.survivor(), Failures()
        if not self._ledger.is_complete(survivor):
            survivor = make_durable(self._ledger)  # law 2
            unhealed = heal(self._ledger).failures  # law 7: only from bytes that verified
        if not is_new and survivor and survivor.generation == self.generation:
            return Outcome(self.generation, unhealed)
        victims = self._choose_victims(survivor, spare)  # law 1
        line = self._next_line(survivor, unhealed)  # law 6
        origin = None if begins_history else survivor
        sealed, ending = self._seal(payload, payload_hash, format, origin, line)  # laws 4, 12
        self._ledger.known.add(sealed.digest)  # it is ours, before it is on disk
        self._committed = None  # until this succeeds, the next commit must write
        content = sealed, (payload, ending), survivor
        failures = write(self._ledger, victims, *content)  # law 3: no slot is trusted before
        if len(failures) == len(victims) and self._ledger.evidence.intersection(failures):
            victims = self._choose_victims(survivor, spare, spare_evidence=True)  # law 7: no space
            failures = write(self._ledger, victims, *content)
        if len(failures) == len(victims):
            stands = survivor.generation if survivor else 0
            raise errors.not_written(self.layout.path, failures, self._number, stands)
        self._ledger.accept()  # law 14: nothing raises from here on
        self._committed = facts
        self._continues = not failures or self._reached_all(victims, failures, line)
        self._is_own = True
        if line.branch == self._branch:
            self._branch = lineage.new_branch()
        self.generation, self.digest = sealed.generation, sealed.digest
        if failures:
            for lock in self._held:
                lock.write_noted(self._ledger.noted())
        aside = self._ledger.take_aside() if self._ledger.aside else {}
        return Outcome(self.generation, failures, aside)

    def _next_line(self, survivor: Slot | None, unhealed: Failures) -> Line:
        """Return the lineage of the next generation."""
        without = self._ledger.letters_without(unhealed)
        if survivor is None or survivor.trailer is None:
            return Line(self._branch, without)
        before = survivor.trailer.line
        written_for = before.without, survivor.trailer.copies
        as_before = self._continues and written_for == (without, len(self.layout.folders))
        goes_on = as_before and before.branch != lineage.NO_BRANCH
        if goes_on and not before.away:
            return before
        confirmed = ""
        if self._is_own:
            absent = before.without + without + self._fresh
            confirmed = "".join(letter for letter, _ in before.away if letter not in absent)
        return lineage.following(
            before,
            survivor.generation,
            branch=self._branch,
            goes_on=goes_on,
            without=without,
            fresh="" if self._is_own else self._fresh,
            confirmed=confirmed,
        )

    def _reached_all(self, victims: list[Slot], failures: Failures, line: Line) -> bool:
        """Return True if every copy was written for which the generation was meant."""
        return all(s.path not in failures or s.letter in line.without for s in victims)

    def _choose_victims(
        self, survivor: Slot | None, spare: int, *, spare_evidence: bool = False
    ) -> list[Slot]:
        """Return the slots to overwrite, one in each copy: bad slots, or an old generation."""
        keep = self.layout.keep
        for slot in list(self._ledger.slots.values()):
            if slot.state is SlotState.CLAIMED:  # it may be damaged, or edited by hand
                self._ledger.verify(slot)
        is_thinned = survivor is not None and self.layout.history == THINNED
        give_up = functools.partial(self._give_up, spare) if is_thinned else None
        found, avoided = self._ledger.slots, set[int]()
        if spare_evidence:
            evidence = self._ledger.evidence
            avoided = {slot.index for path, slot in found.items() if path in evidence}
        index = slots.choose_victim(found.values(), survivor, keep, give_up, spare, avoided)
        return self._ledger.at(index)

    def _give_up(self, spare: int, kept: dict[int, Trailer]) -> int | None:
        """Return the generation to overwrite so that the others are spread out over time."""
        now = trailer.now()
        ages = {t.generation: (now - t.written).total_seconds() for t in kept.values()}
        return give_up(ages, {max(ages), self._at_opening, spare})

    def _seal(
        self,
        payload: bytes,
        payload_hash: hashlib._Hash,
        format: str,
        origin: Slot | None,
        line: Line,
    ) -> tuple[Trailer, bytes]:
        """Return the next trailer, and the bytes after the payload. Hash all bytes (law 12)."""
        return trailer.seal(
            payload,
            generation=self._take_number(),
            format=format,
            parent=origin.trailer.as_parent if origin and origin.trailer else trailer.NO_PARENT,
            copies=len(self.layout.folders),
            keep=self.layout.keep,
            history=self.layout.history,
            line=line,
            payload_hash=payload_hash,
        )

    def _take_number(self) -> int:
        """Return a number above all that verified in any copy, and all that were tried (law 4)."""
        if self._number >= trailer.MAX_GENERATION:
            raise errors.numbers_used_up(self.layout.path, self._number)
        self._number += 1
        return self._number

    # --- questions

    def number_above(self, number: int) -> None:
        """Make the next commit take a number above this one (law 4), on a new branch."""
        self._number = max(self._number, number)
        self._continues = False

    def is_committed(self, payload: bytes, format: str) -> bool:
        """Return True if this payload was last loaded or committed."""
        last = self._committed
        if last is None or (last.length, last.format) != (len(payload), format):
            return False
        return last.digest == hashlib.sha256(payload).digest()

    @property
    def length(self) -> int:
        """The bytes of the payload that was last loaded or committed; 0 if they are not known."""
        return self._committed.length if self._committed else 0

    def is_complete(self) -> bool:
        """Return True if every copy of the newest generation is known to be durable."""
        return self._ledger.is_complete(self._ledger.survivor())

    def is_kept(self) -> bool:
        """Return True if no slot lost the newest generation, or a newer one was committed (law 5).

        This takes no lock.
        """
        if self._ledger.are_there(self._ledger.holders(self._ledger.survivor())):
            return True
        claim = newest.newest_claim(self.layout)
        return claim is not None and claim.generation > self.generation

    def forget_content(self) -> None:
        """Make the next commit write its payload even if it is unchanged."""
        self._committed = None

    def has_changed(self) -> bool:
        """Return True if another process has committed since the last load or commit.

        This reads only trailers and takes no lock.
        """
        claim = newest.newest_claim(self.layout)
        if claim is None or claim.digest == self.digest:
            return False
        # Our own failed commit may look whole. An older generation may have been restored.
        return claim.digest not in self._ledger.known or claim.generation < self.generation

    def generations(self) -> list[Generation]:
        """Read and verify every slot; return the generations that load, newest first."""
        return newest.generations(self.layout)

    def is_held(self) -> bool:
        """Return True if the lock is held."""
        return self.lock.held

    def is_inherited(self) -> bool:
        """Return True in a fork of the process that opened the store."""
        return self.lock.inherited

    def refuse_in_child(self) -> None:
        """Raise `TransactionError` in a fork of the process that opened the store."""
        if self.lock.inherited:
            raise errors.forked(self.layout.path)

    # --- the end

    def release(self) -> None:
        """Release the lock; do nothing if it is not held, or in a child of fork.

        If every copy of the newest generation is durable, a note in the lock file says so. The next
        writer then need not flush it again. The note also says whether it may continue the branch.
        """
        if not self.lock.held or self.lock.inherited:
            return
        settled, found = "", None
        try:
            # The note is optional. The release of the lock is a promise.
            with contextlib.suppress(errors.RedundictError):
                survivor = self._ledger.survivor()
                found = self._ledger.noted()
                # An extra slot was not flushed, and the next holder's layout may include it.
                holders = self._ledger.holders(survivor)
                if self._ledger.is_settled(survivor) and all(slot.durable for slot in holders):
                    settled = self._ledger.note() + ("" if self._continues else NEW_BRANCH)
        finally:
            with contextlib.ExitStack() as releasing:  # all of them, whatever one raises
                for lock in self._locks:
                    releasing.callback(lock.release, settled, found)

    def abandon(self) -> None:
        """Release the lock after a failed opening, and remove the lock file if it is new."""
        for lock in reversed(self._locks):
            lock.release(abandoned=True)

    def begin_as_child(self) -> None:
        """Leave the lock to the parent process, in a child of fork."""
        for lock in self._locks:
            lock.leave_to_parent()
