"""What the one writer of a store knows of each slot: the only place for that knowledge.

Readers look afresh each time; a writer must not. A slot that it could not write whole is not to be
trusted, whatever a look at it says (law 3). A generation that it did not see before belongs to
another writer (law 5). Changes nothing on disk.

Invariant: a slot counts as durable only if this process, or one whose lock note says so, had its
content, size and name flushed since its bytes last changed.
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
    """The slots of one store, by path, as its writer knows them.

    Attributes:
        layout: Where the slots are.
        mode: Permission bits of the slots; None: leave them.
        slots: Each slot, by path.
        known: The digests of the generations that memory stands on: loaded, or our own.

    """

    def __init__(self, layout: Layout, mode: int | None = None) -> None:
        self.layout = layout
        self.mode = mode
        self.slots: dict[str, Slot] = {}
        self.known: set[str] = set()
        self._beyond: list[Slot] = []  # where another writer, who keeps more, would add a slot

    # --- what is seen

    def see(self, found: Iterable[Slot]) -> None:
        """Replace all that is known by `found`, which was read while the lock was held."""
        self.slots = {slot.path: slot for slot in found}
        index = 1 + max([slot.index for slot in self.slots.values()])
        self._beyond = [
            Slot(copy, index, path, SlotState.MISSING)
            for copy, path in enumerate(self.layout.paths(index))
        ]

    def accept(self) -> None:
        """Note that memory stands on the generations that the slots hold now.

        The digests of overwritten generations are dropped. An old generation that reappears is not
        a conflict. But an unfinished slot may hold one that was never durable, and look whole.
        """
        found = list(self.slots.values())
        held = {slot.trailer.digest for slot in found if slot.trailer}
        has_unfinished = Fault.UNFINISHED in [slot.fault for slot in found]
        self.known = self.known | held if has_unfinished else held

    def put(self, slot: Slot) -> Slot:
        """Note what a slot is now."""
        self.slots[slot.path] = slot
        return slot

    def verify(self, slot: Slot) -> Slot:
        """Read a slot whole, and return it as it is now."""
        now, _ = survey.verify(slot)
        return self.put(replace(now, durable=slot.durable and now.holds(slot)))

    # --- what is known

    def survivor(self) -> Slot | None:
        """Return the newest slot that verifies (law 6)."""
        for slot in slots.by_claim(self.slots.values()):
            if slot.state is SlotState.VALID or self.verify(slot).sound:
                return self.slots[slot.path]
        return None

    def holders(self, survivor: Slot | None) -> list[Slot]:
        """Return the slots that hold the survivor's bytes, those of no copy of ours included."""
        return [s for s in self.slots.values() if survivor is not None and s.holds(survivor)]

    def at(self, index: int) -> list[Slot]:
        """Return the slots with an index, one in each copy."""
        return [s for s in self.slots.values() if s.index == index and not s.extra]

    def is_complete(self, survivor: Slot | None) -> bool:
        """Tell whether every copy of the survivor is known to be on the medium."""
        return survivor is not None and all(
            slot.durable and slot.holds(survivor) for slot in self.at(survivor.index)
        )

    def is_durable_anywhere(self) -> bool:
        """Tell whether some slot is known to be on the medium."""
        return any(slot.durable or slot.extra for slot in self.slots.values())

    def unfinished(self) -> set[str]:
        """Return the paths of the slots that are not to be trusted, whatever a look says."""
        return {path for path, slot in self.slots.items() if slot.is_unfinished}

    # --- other writers

    def refuse_other_writers(self, newest: int) -> None:
        """Look at the trailers just before writing (law 5).

        Args:
            newest: The generation that was last loaded or committed. An older generation that was
                not seen before is no conflict: a disk that was away comes back with one.

        Raises:
            ConflictError: If a slot holds a generation that memory does not stand on.

        """
        is_new = False
        for was in [*self.slots.values(), *self._beyond]:
            is_known = was.trailer is None or was.trailer.digest in self.known
            if is_known and survey.is_as_known(was):
                continue
            now = survey.look(was)
            if was.is_unfinished and now.trailer and now.trailer.digest in self.known:
                continue  # our own failed write; it looks whole, and need not be on the medium
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
        """Raise `DivergedError` if two slots hold different content under one number."""
        while pair := slots.diverged(self.slots.values()):
            # Believed only once both have verified.
            if all(self.verify(slot).sound for slot in pair):
                raise survey.divergence(self.layout, *pair)

    # --- the lock note

    def note(self, *, look: bool = True) -> str:
        """Return the digest of the newest generation, and the very files that hold it.

        Without a `look`, the files are as they were last seen.

        Files that were copied or restored since have other times of change. They may be in the page
        cache only, and are not the files that the note calls durable.
        """
        survivor = self.survivor()
        if survivor is None or survivor.trailer is None:
            return ""
        holders = self.holders(survivor)
        changed = [(survey.look(slot) if look else slot).changed for slot in holders]
        return f"{survivor.trailer.digest}@{max(changed)}"

    def trust_lock_note(self, settled: str) -> None:
        """Believe the note of the last holder: what it made durable needs no second flush."""
        if not settled or settled != self.note(look=False):
            return
        for slot in list(self.slots.values()):
            if slot.trailer and settled.startswith(slot.trailer.digest):
                self.put(replace(slot, durable=True))

    def distrust_all(self) -> None:
        """Take nothing for durable any more: the lock was another writer's meanwhile."""
        self.see([replace(slot, durable=False) for slot in self.slots.values()])
