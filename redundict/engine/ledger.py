"""What the one writer knows of each slot, and what it has done to it.

Readers look afresh each time; a writer must not: what it could not write whole is not to be trusted
whatever it looks like, and what it did not see before is somebody else's. Changes nothing on disk.

Invariant: a slot counts as settled only if this process, or one whose note says so, had its
content, size and name synced since its bytes last changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from redundict import errors

from . import files as durable
from . import slots, survey
from .layout import Layout
from .newest import Loaded
from .slots import Slot, SlotState
from .threads import wait_for


@dataclass(slots=True)
class Place:
    """A slot, and what this process has done to it."""

    slot: Slot
    settled: bool = False  #: Its content is on the medium.
    sized: bool = False  #: So are its size and allocation.
    named: bool = False  #: So is its name.
    distrusted: bool = False  #: A write to it was not completed, whatever it looks like.
    writing: durable.Overwriting | None = None  #: What has not returned, for all that is known.

    def distrust(self) -> None:
        """Take the slot for torn, whatever a look at it says, until it has been written whole."""
        self.slot = slots.unfinished(self.slot)
        self.settled = self.sized = self.named = False
        self.distrusted = True

    def settle(self, slot: Slot | None = None) -> None:
        """Note that the slot is on the medium, as it was or with what was written to it now."""
        self.slot = slot or self.slot
        self.settled = self.sized = self.named = True
        self.distrusted = False


class Ledger:
    """The slots of a store, by path, as its writer knows them."""

    def __init__(self, layout: Layout, mode: int | None = None) -> None:
        self.layout = layout
        self.mode = mode  #: Permission bits of the slots; None: those that they have.
        self.places: dict[str, Place] = {}
        self._paths: dict[int, list[str]] = {}  # by index, one in each copy
        self.known: set[str] = set()  #: Digests that were seen in a slot, or are our own.
        self._beyond: list[Slot] = []  # where another writer, who keeps more, may add a slot

    def again(self) -> Ledger:
        """Return a ledger to begin anew with: only what is not to be trusted is remembered.

        And whose it is: what was written there and not synced may look whole, and is no conflict.
        """
        anew = Ledger(self.layout, self.mode)
        anew.places = {path: replace(p) for path, p in self.places.items() if p.distrusted}
        anew.known = set(self.known) if anew.places else set()
        return anew

    def stop_writing(self) -> None:
        """Let nothing be written any more that an interrupted commit left to a thread."""
        places = [place for place in self.places.values() if place.writing]
        wait_for([place.writing.give_up for place in places if place.writing])
        for place in places:
            place.writing = None

    def doubt(self, other: Ledger) -> None:
        """Distrust what another ledger of this store, that is given up, came to distrust."""
        for path, place in other.places.items():
            if place.distrusted and path in self.places:
                self.places[path].distrust()

    def forget_overwritten(self) -> None:
        """Forget the digests that no slot holds any more: what is older is never a conflict."""
        if any(place.distrusted for place in self.places.values()):
            return  # which may hold, whole to look at, what was never durable
        self.known = {slot.trailer.digest for slot in self.slots() if slot.trailer and slot.sound}

    def unsettle(self) -> None:
        """Take nothing for settled any more: the lock was another's meanwhile."""
        for place in self.places.values():
            place.settled = place.sized = place.named = False

    def enter(self, loaded: Loaded) -> None:
        """Begin with what was seen on opening."""
        distrusted = self.places.keys()
        # What a damaged trailer claims was not seen: its sibling may be readable again later.
        self.known |= {slot.trailer.digest for slot in loaded.slots if slot.trailer and slot.sound}
        self.places = {
            slot.path: Place(slot, distrusted=slot.path in distrusted) for slot in loaded.slots
        }
        self._paths = {slot.index: self.layout.paths(slot.index) for slot in loaded.slots}
        index = 1 + max(self._paths)
        self._beyond = [
            Slot(copy, index, path, SlotState.MISSING)
            for copy, path in enumerate(self.layout.paths(index))
        ]

    def slots(self) -> list[Slot]:
        """Return the slots as they are known now."""
        return [place.slot for place in self.places.values()]

    def verify(self, slot: Slot) -> Slot:
        """Read a slot whole, and return it as it is now."""
        self.places[slot.path].slot = survey.verify(slot)[0]
        return self.places[slot.path].slot

    def survivor(self) -> Slot | None:
        """Return the newest slot that verifies."""
        for slot in slots.by_claim(self.slots()):
            if slot.state is SlotState.VALID or self.verify(slot).sound:
                return self.places[slot.path].slot
        return None

    def at(self, index: int) -> list[Place]:
        """Return the places with an index, one in each copy."""
        return [self.places[path] for path in self._paths[index]]

    def is_complete(self, survivor: Slot | None) -> bool:
        """Tell whether every copy of the newest generation is known to be on the medium."""
        return survivor is not None and all(
            place.slot.holds(survivor) and place.settled for place in self.at(survivor.index)
        )

    def knows_nothing_durable(self) -> bool:
        """Tell whether there is no slot that is known to be on the medium."""
        return not any(place.settled or place.slot.extra for place in self.places.values())

    def refuse_if_diverged(self) -> None:
        """Raise `DivergedError` if two slots hold different content under one number."""
        while pair := slots.diverged(self.slots()):
            # Believed only once both have verified.
            if all(self.verify(slot).sound for slot in pair):
                raise divergence(self.layout, *pair)

    def take_over(self, settled: str) -> None:
        """Believe the note of who closed the store last: what it settled needs no second time."""
        if not settled or settled != self.note():
            return
        for place in self.places.values():
            slot = place.slot
            if slot.sound and slot.trailer and settled.startswith(slot.trailer.digest):
                place.settle()

    def note(self) -> str:
        """Return what names the newest generation and the very files that hold it.

        Files that were copied or restored since have other times of change: they may be in the page
        cache only, and are not those of which a note says that they are settled.
        """
        survivor = self.survivor()
        if survivor is None or survivor.trailer is None:
            return ""
        holders = [slot for slot in self.slots() if slot.holds(survivor)]
        changed = max(survey.look(slot).changed for slot in holders)
        return f"{survivor.trailer.digest}@{changed}"

    def look_again(self, newest: int) -> None:
        """Look at the trailers just before writing; raise `ConflictError` at another writer's.

        `newest` is the generation last loaded or committed: an older one that was not seen before
        is no conflict, since a disk that had been away comes back with one.
        """
        is_new = False
        for was in [*self.slots(), *self._beyond]:
            if survey.is_as_known(was):
                continue
            now, place = survey.look(was), self.places.get(was.path)
            if now.trailer and now.state is SlotState.CLAIMED:
                if place and place.distrusted and now.trailer.digest in self.known:
                    place.distrust()  # as before, even if it could not be read meanwhile
                    continue
                if was.holds(now):
                    continue
                now, _ = survey.verify(now)
            is_unknown = now.trailer and now.sound and now.trailer.digest not in self.known
            if is_unknown and now.generation >= newest:
                raise conflict(self.layout, now)
            if place:
                self.places[was.path] = Place(now, distrusted=place.distrusted and not now.sound)
            is_new = True
        if is_new:
            survey.refuse_if_denied(self.layout, self.slots())


def conflict(layout: Layout, other: Slot) -> errors.ConflictError:
    """Return the error for a generation that this process has not seen."""
    return errors.ConflictError(
        f"{other.name} holds generation {other.generation}, which this process has not seen: "
        "another writer was here",
        path=layout.path,
        slot=other.name,
        generation=other.generation,
        safe="nothing was overwritten",
        action="reload() to take the other's state, and make the change again",
    )


def divergence(layout: Layout, one: Slot, other: Slot) -> errors.DivergedError:
    """Return the error for two slots with one number and different content."""
    return errors.DivergedError(
        f"{one.name} and {other.name} hold different content as generation {one.generation}",
        path=layout.path,
        slot=other.name,
        generation=one.generation,
        safe="both are as they were; nothing was overwritten",
        action=f"{layout.command('repair', '--prefer', one.letter)} (or {other.letter}; what is "
        "not preferred is put aside)",
    )
