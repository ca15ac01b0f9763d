"""The load path: the newest generation that verifies, for every reader alike. Takes no lock.

Trailers first, then the newest payload; the next copy is read only if that one fails. Invariants:
an older generation never passes silently for one that could not be read, and no store is taken for
empty unless no slot of any copy exists.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from redundict import errors
from redundict.errors import Fault

from . import files, slots, survey
from .layout import Layout
from .slots import Flaw, Generation, Slot, SlotState, StoreState
from .trailer import Trailer

#: What is wrong with a slot whose content may be there again some day.
_AWAY: Final = {Fault.MISSING, Fault.UNREADABLE, Fault.DENIED, Fault.NOT_A_FILE}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The survivor (None: no slot of any copy exists), and every slot as it was seen."""

    layout: Layout
    survivor: Slot | None
    payload: bytes
    payload_digest: bytes
    format: str
    slots: tuple[Slot, ...]

    @property
    def generation(self) -> int:
        """The number of what was loaded, 0 if there is nothing."""
        return self.survivor.generation if self.survivor else 0

    @property
    def digest(self) -> str:
        """The digest of what was loaded, '' if there is nothing."""
        return self.survivor.trailer.digest if self.survivor and self.survivor.trailer else ""

    @property
    def is_empty(self) -> bool:
        """Whether there is no slot of any copy: a store that was never written."""
        return all(slot.state is SlotState.MISSING for slot in self.slots)

    def flaws(self) -> list[Flaw]:
        """Return what is wrong with the slots."""
        if self.survivor is None:
            return [slots.own_flaw(s) for s in self.slots if s.state is not SlotState.MISSING]
        if slots.are_in_order(self.slots):
            return []
        return slots.flaws(self.slots, self.survivor, self.layout.keep)

    def unseen(self) -> int:
        """Return how many newer generations there may be that only cannot be read at present.

        A medium, a permission or a disk may come back, with numbers that were given already.
        """
        if self.survivor is None or not any(flaw.fault in _AWAY for flaw in self.flaws()):
            return 0
        keep = self.layout.keep
        lost = slots.judge(self.slots, self.survivor, keep) is StoreState.ROLLED_BACK
        return keep if lost else 0

    def damage(self) -> list[Flaw]:
        """Return the flaws, but for copies that are merely behind: a writer may be at work."""
        return [
            flaw
            for flaw in self.flaws()
            if not flaw.slot.sound or flaw.slot.generation >= self.generation
        ]


def load(layout: Layout, generation: int | None = None) -> Loaded:
    """Return the survivor's payload, or that of `generation`.

    Raises `LostError` if slots exist and none verifies, `NotFoundError` if none holds
    `generation`, `AccessError` if every copy has a slot that cannot be read for lack of permission,
    and `NewerVersionError`. A slot that a writer is at work on is looked at again.
    """
    loaded = survey.patiently(
        lambda: _load(layout, generation), lambda seen: seen.slots, lambda seen: not seen.damage()
    )
    return _refuse_lost(loaded, generation)


def load_locked(
    layout: Layout, generation: int | None = None, *, distrusted: Collection[str] = ()
) -> Loaded:
    """Do what `load` does, for the writer: nobody else can be at work on a slot.

    The slots at the `distrusted` paths are taken for torn, whatever they look like.
    """
    return _refuse_lost(_load(layout, generation, distrusted), generation)


def _load(layout: Layout, generation: int | None, distrusted: Collection[str] = ()) -> Loaded:
    seen = {slot.path: slot for slot in survey.survey(layout)}
    for path in seen.keys() & distrusted:
        seen[path] = slots.unfinished(seen[path])
    survey.refuse_if_denied(layout, seen.values())
    for claim in slots.by_claim(seen.values()):
        if generation in (None, claim.generation):
            slot, verified = survey.verify(claim)
            seen[slot.path] = slot
            if verified and generation in (None, slot.generation):
                content = verified.payload, verified.payload_digest, verified.trailer.format
                return Loaded(layout, slot, *content, tuple(seen.values()))
    survey.refuse_if_denied(layout, seen.values())
    return Loaded(layout, None, b"", b"", "", tuple(seen.values()))


def _refuse_lost(loaded: Loaded, generation: int | None) -> Loaded:
    layout = loaded.layout
    if loaded.survivor:
        return loaded
    if not loaded.is_empty:
        if generation is not None and any(slot.sound for slot in loaded.slots):
            raise no_generation(layout, f"no slot holds generation {generation}", generation)
        raise survey.lost(layout, loaded.slots)
    for folder in layout.folders:
        if not files.exists(folder):
            raise errors.no_folder(layout.path, folder)
    return loaded


def newest_claim(layout: Layout) -> Trailer | None:
    """Return the newest trailer, None if there is none; read no payload."""
    claims = slots.by_claim(survey.survey(layout))
    return claims[0].trailer if claims else None


def generations(layout: Layout) -> list[Generation]:
    """Verify every slot and return the generations that load, newest first."""
    return slots.generations(survey.survey_verified(layout))


def previous(layout: Layout, generation: int) -> int:
    """Return the number of the generation before `generation`; raise `NotFoundError`."""
    for older in generations(layout):
        if older.number < generation:
            return older.number
    raise no_generation(layout, f"there is no generation before {generation}", generation)


def no_generation(layout: Layout, reason: str, generation: int) -> errors.NotFoundError:
    """Return the error for a generation that does not exist."""
    return errors.no_generation(layout.path, reason, generation, layout.command("log"))
