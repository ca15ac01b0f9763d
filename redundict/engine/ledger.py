"""The ledger: everything that the writer of a store knows of its slots, in one place.

A reader looks at the slots each time. A writer must remember them. It must not trust a slot that it
could not write whole, even if the slot verifies (law 3). A generation that it has not seen before
belongs to another writer (law 5). This module must not write to any slot.

Invariant: a slot counts as durable only if its content, size and name were flushed since its bytes
last changed, by this process or by one whose lock note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from redundict import errors
from redundict.errors import Fault

from . import files, slots, survey
from .layout import LETTERS, Layout
from .lock import Noted
from .slots import Slot, SlotState, StoreState

#: The end of a note after which a new branch begins. The files may exist twice, for example because
#: a backup was restored or a copy was made again, and its writer committed nothing since.
NEW_BRANCH: Final = " new branch"
MOST_DECODED: Final = 1 << 26  #: Bytes from which a damaged slot is not decoded.


class Ledger:
    """The slots of one store as its writer knows them.

    Attributes:
        layout: The layout of the store.
        mode: The permission bits of the slots. None does not set them.
        slots: Each slot, by path.
        known: The digests of the generations that this writer has loaded or written. Any other
            digest belongs to another writer.
        evidence: The paths of the slots that somebody may still want, although they are not as they
            should be. They are put aside before they are overwritten (laws 6 and 7).
        read_only: The numbers of the copies whose folders cannot be locked. They are only read.
        absent: The numbers of the copies that are away, and of copies that are no longer ours.
        signatures: The facts of each file when it was last known to hold its slot, by path.
        aside: The new path of each slot that was put aside since `take_aside` was called.

    """

    def __init__(
        self,
        layout: Layout,
        mode: int | None = None,
        is_state: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self.layout = layout
        self.mode = mode
        self.slots: dict[str, Slot] = {}
        self.known: set[str] = set()
        self.evidence: set[str] = set()
        self.absent = layout.away
        self.read_only: frozenset[int] = frozenset()
        self.aside: dict[str, str] = {}
        self._is_state = is_state
        self.signatures: dict[str, tuple[int, ...]] = {}
        self._beyond: list[Slot] = []  # where a writer with a greater `keep` would add a slot

    # --- updates

    def see(self, found: Iterable[Slot]) -> None:
        """Replace the whole content by slots that were read while the lock was held."""
        self.slots = {slot.path: slot for slot in found}
        extra = [slot.copy for slot in self.slots.values() if slot.extra]
        self.absent = self.layout.away.union(self.read_only, extra)
        index = 1 + max([slot.index for slot in self.slots.values()])
        self._beyond = [
            Slot(copy, index, path, SlotState.MISSING)
            for copy, path in enumerate(self.layout.paths(index))
        ]

    def accept(self) -> None:
        """Take the generations that the slots hold now as known.

        Drop the digests of overwritten generations. An old generation that reappears is not a
        conflict, so they are not needed. But keep them while a slot is unfinished: it may hold one
        of them and verify, although it was never durable.
        """
        held, has_unfinished = set(), False
        for slot in self.slots.values():
            if slot.trailer:
                held.add(slot.trailer.digest)
            elif slot.fault is Fault.UNFINISHED:
                has_unfinished = True
        self.known = self.known | held if has_unfinished else held

    def put(self, slot: Slot) -> Slot:
        """Record the new state of a slot; return the slot."""
        self.slots[slot.path] = slot
        return slot

    def verify(self, slot: Slot) -> Slot:
        """Read a slot whole and verify it. Record it, and return it as it is now.

        Raises:
            NewerVersionError: If a newer version of redundict wrote it.
            StorageError: If the process has run out of descriptors or memory.

        """
        now, _ = survey.verify(slot)
        return self.put(replace(now, durable=slot.durable and now.holds(slot)))

    # --- questions

    def survivor(self) -> Slot | None:
        """Return the newest slot that verifies (law 6); None if none does."""
        for slot in slots.by_claim(self.slots.values()):
            if slot.state is SlotState.VALID or self.verify(slot).sound:
                return self.slots[slot.path]
        return None

    def holders(self, survivor: Slot | None) -> list[Slot]:
        """Return the slots that hold the survivor's bytes, extra slots included."""
        return [s for s in self.slots.values() if survivor is not None and s.holds(survivor)]

    def at(self, index: int) -> list[Slot]:
        """Return the slots with this index, one for each copy."""
        return [s for s in self.slots.values() if s.index == index and not s.extra]

    def is_complete(self, survivor: Slot | None) -> bool:
        """Return True if every copy of the survivor is known to be durable."""
        return survivor is not None and all(
            slot.durable and slot.holds(survivor) for slot in self.at(survivor.index)
        )

    def is_settled(self, survivor: Slot | None) -> bool:
        """Return True if the survivor is durable in every copy for which it was written."""
        return survivor is not None and all(
            slot.durable and slot.holds(survivor)
            for slot in self.at(survivor.index)
            if slot.letter not in survivor.line.without
        )

    def is_durable_anywhere(self) -> bool:
        """Return True if at least one slot is known to be durable, or is an extra slot."""
        return any(slot.durable or slot.extra for slot in self.slots.values())

    def letters_without(self, unhealed: Collection[str]) -> str:
        """Return the letters of the copies for which the next generation is not written.

        They are absent, or they do not hold the survivor.

        Args:
            unhealed: The paths of the slots that should hold the survivor and could not be healed.

        """
        if not unhealed and not self.absent:
            return ""
        copies = self.absent.union([self.slots[path].copy for path in unhealed])
        return "".join([LETTERS[copy] for copy in sorted(copies)])

    def unfinished(self) -> set[str]:
        """Return the paths of the slots whose last write was not completed (law 3)."""
        return {path for path, slot in self.slots.items() if slot.is_unfinished}

    # --- other writers

    def is_untouched(self) -> bool:
        """Return True if the survivor is durable in every copy, and is still there (law 5).

        A file whose inode did not change is not read.
        """
        survivor = self.survivor()
        if survivor is None or not self.is_complete(survivor):
            return False
        return self.are_there(self.at(survivor.index))

    def are_there(self, known: Iterable[Slot]) -> bool:
        """Return True if each of these slots is as it was last known to be (law 5)."""
        for slot in known:
            found = files.signature(slot.path)
            if found is None or found != self.signatures.get(slot.path):
                if found is None or not survey.is_as_known(slot):
                    return False
                self.signatures[slot.path] = found
        return True

    def refuse_other_writers(self, newest: int) -> None:
        """Look at the trailers again just before a write (law 5).

        Args:
            newest: The generation that was last loaded or committed. An older generation that was
                not seen before is not a conflict. A disk that was away may come back with one.

        Raises:
            ConflictError: If a slot holds a generation that this writer has not seen.
            AccessError: If a slot that may hold the newest generation may not be read any more.

        """
        is_new = False
        for was in [*self.slots.values(), *self._beyond]:
            is_known = was.trailer is None or was.trailer.digest in self.known
            if is_known and survey.is_as_known(was):
                continue
            now = survey.look(was)
            if was.is_unfinished and now.trailer and now.trailer.digest in self.known:
                continue  # a failed write of this process; it may not be durable
            if now.state is SlotState.CLAIMED and not was.holds(now):
                now, _ = survey.verify(now)
            is_known = now.trailer is None or now.trailer.digest in self.known
            if not is_known and now.generation >= newest:
                raise errors.conflict(self.layout.path, now.name, now.generation)
            if was.path in self.slots and not was.holds(now):
                self.put(now if now.sound or not was.is_unfinished else was)
                is_new = True
        if is_new:
            survey.refuse_if_denied(self.layout, self.slots.values())
            self.refuse_if_parted()
            if survivor := self.survivor():
                self.find_evidence(survivor)

    def refuse_if_parted(self) -> None:
        """Raise `DivergedError` if a copy went on without the newest generation (law 6)."""
        while found := slots.parted(self.slots.values()):
            newest, others = found
            # A trailer is only a claim, so verify all.
            if all(self.verify(slot).sound for slot in (newest, *others)):
                raise survey.divergence(self.layout, newest, others)

    # --- evidence

    def find_evidence(self, survivor: Slot) -> None:
        """Find the slots to put aside before they are overwritten (laws 6 and 7).

        They may hold the newest state, or something else than the newest generation grew from.

        Args:
            survivor: The newest generation that verifies.

        """
        found = list(self.slots.values())
        self.evidence |= {slot.path for slot in slots.strange(found)}
        if slots.judge(found, survivor, self.layout.keep) is StoreState.ROLLED_BACK:
            self.evidence |= {slot.path for slot in found if slot.is_readable_damage}

    def is_wanted(self, slot: Slot) -> bool:
        """Return True if a slot must be put aside before it is overwritten (law 7).

        It is evidence, or it does not verify and its payload still decodes, as after an edit by
        hand.
        """
        if slot.path in self.evidence:
            return slot.state is not SlotState.MISSING
        if not slot.is_readable_damage:
            return False
        try:
            content = files.read(slot.path, most=MOST_DECODED).data
        except OSError as error:
            errors.reraise_interrupt(error)
            return False
        return self._is_state(content)

    def take_aside(self) -> dict[str, str]:
        """Return the new path of each slot that was put aside since the last call."""
        taken, self.aside = self.aside, {}
        return taken

    # --- the lock note

    def note(self, *, look: bool = True) -> str:
        """Return the text by which a lock note names the newest generation and its files.

        The text holds the digest and the latest ctime of the files. Files that were copied or
        restored since have another ctime. They may be in the page cache only, so such a note does
        not call them durable.

        Args:
            look: Read the ctime from the files now, not from the last look.

        Returns:
            The text; '' if there is no survivor.

        """
        survivor = self.survivor()
        if survivor is None or survivor.trailer is None:
            return ""
        holders = self.holders(survivor)
        changed = [(survey.look(slot) if look else slot).changed for slot in holders]
        return f"{survivor.trailer.digest}@{max(changed)}"

    def noted(self) -> Noted | None:
        """Return the newest durable generation for a lock note; None if none is durable."""
        durable = [s for s in self.slots.values() if s.durable and s.trailer and not s.extra]
        if not durable:
            return None
        number = max(slot.generation for slot in durable)
        letters = {slot.letter for slot in durable if slot.generation == number}
        return Noted(number, "".join(sorted(letters)))

    def trust_lock_note(self, settled: str) -> bool:
        """Take the slots that the note of the last holder names as durable.

        They then need no second flush. A note that names other files is ignored.

        Args:
            settled: The note of the last holder, as `note` made it, perhaps with `NEW_BRANCH`.

        Returns:
            True if the next generation may continue the branch of the newest one (law 6).

        """
        if not settled or settled.removesuffix(NEW_BRANCH) != self.note(look=False):
            return False
        for slot in list(self.slots.values()):
            if slot.trailer and settled.startswith(slot.trailer.digest):
                self.put(replace(slot, durable=True))
        return not settled.endswith(NEW_BRANCH)

    def distrust_all(self) -> None:
        """Take no slot for durable any more, because another writer held the lock meanwhile."""
        self.see([replace(slot, durable=False) for slot in self.slots.values()])
