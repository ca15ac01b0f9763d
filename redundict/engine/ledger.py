"""The ledger: everything that the writer of a store knows of its slots, in one place.

A reader looks at the slots each time. A writer must remember them. It must not trust a slot that it
could not write whole, even if the slot verifies (law 3). A generation that it has not seen before
belongs to another writer (law 5). This module must not write to any slot.

Invariant: a slot counts as durable only if its content, size and name were flushed since its bytes
last changed, by this process or by one whose lock note says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from redundict import errors
from redundict.errors import Fault

from . import slots, survey
from .layout import Layout
from .slots import Slot, SlotState


class Ledger:
    """The slots of one store as its writer knows them.

    Attributes:
        layout: The layout of the store.
        mode: The permission bits of the slots. None does not set them.
        slots: Each slot, by path.
        known: The digests of the generations that this writer has loaded or written. Any other
            digest belongs to another writer.

    """

    def __init__(self, layout: Layout, mode: int | None = None) -> None:
        self.layout = layout
        self.mode = mode
        self.slots: dict[str, Slot] = {}
        self.known: set[str] = set()
        self._beyond: list[Slot] = []  # where a writer with a greater `keep` would add a slot

    # --- updates

    def see(self, found: Iterable[Slot]) -> None:
        """Replace the whole content by slots that were read while the lock was held."""
        self.slots = {slot.path: slot for slot in found}
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
        found = list(self.slots.values())
        held = {slot.trailer.digest for slot in found if slot.trailer}
        has_unfinished = Fault.UNFINISHED in [slot.fault for slot in found]
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

    def is_durable_anywhere(self) -> bool:
        """Return True if at least one slot is known to be durable, or is an extra slot."""
        return any(slot.durable or slot.extra for slot in self.slots.values())

    def unfinished(self) -> set[str]:
        """Return the paths of the slots whose last write was not completed (law 3)."""
        return {path for path, slot in self.slots.items() if slot.is_unfinished}

    # --- other writers

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

    def refuse_if_diverged(self) -> None:
        """Raise `DivergedError` if two slots that verify hold different content as one number."""
        while pair := slots.diverged(self.slots.values()):
            # A trailer is only a claim, so verify both.
            if all(self.verify(slot).sound for slot in pair):
                raise survey.divergence(self.layout, *pair)

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

    def trust_lock_note(self, settled: str) -> None:
        """Take the slots that the note of the last holder names as durable.

        They then need no second flush. A note that names other files is ignored.

        Args:
            settled: The note of the last holder, as `note` made it.

        """
        if not settled or settled != self.note(look=False):
            return
        for slot in list(self.slots.values()):
            if slot.trailer and settled.startswith(slot.trailer.digest):
                self.put(replace(slot, durable=True))

    def distrust_all(self) -> None:
        """Take no slot for durable any more, because another writer held the lock meanwhile."""
        self.see([replace(slot, durable=False) for slot in self.slots.values()])
