"""The commit path: a store as bytes, for its one writer. Knows slots and no dicts.

`open` loads and heals, `commit` writes the next generation to every copy, into slots that do not
hold the survivor. What a store promises rests on the order of the steps in `commit`, which reads
from top to bottom in the order in which things happen.

Invariants: a slot that the survivor depends on is never written to, but with its own bytes; before
anything that loads is overwritten, the survivor is on the medium (`_settle`); a slot of which a
write or a sync failed is not trusted until it has been written whole and synced; numbers only grow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from . import durable, errors, loading, slots, survey, trailer
from .loading import Loaded
from .locking import WriterLock
from .slots import Layout, Slot, SlotState

Failures = dict[str, Exception]  #: What the system said, by the path of the slot.


@dataclass(frozen=True, slots=True)
class Healed:
    """The slots that were bad and hold the survivor now, and those that could not be written."""

    slots: list[Slot] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)


@dataclass(slots=True)
class _Place:
    """A slot, and what this process has done to it."""

    slot: Slot
    settled: bool = False  #: Its content is on the medium.
    sized: bool = False  #: So are its size and allocation.
    named: bool = False  #: So is its name.
    distrusted: bool = False  #: A write to it was not completed, whatever it looks like.


class Store:
    """The slots of one store, for writing: take `lock` first, then `open`, then `commit`."""

    def __init__(self, layout: Layout, *, mode: int | None = None) -> None:
        self.layout = layout
        self.lock = WriterLock(layout.lock_path, layout.path, mode)
        self.generation = 0  #: The last one loaded or committed.
        self._mode = mode
        self._places: dict[str, _Place] = {}
        self._content: tuple[bytes, str] | None = None  # payload digest and format of `generation`
        self._number = 0  # the highest that verified, or that this process tried to write
        self._known: set[str] = set()  # digests that were there on opening, or are our own
        self._turn = threading.RLock()
        self._busy = False

    def again(self) -> Store:
        """Return a store to be opened anew in this one's place, with what must not be forgotten."""
        anew = Store(self.layout, mode=self._mode)
        anew.lock, anew._number = self.lock, self._number
        anew._places = {p: replace(place) for p, place in self._places.items() if place.distrusted}
        return anew

    def open(self) -> tuple[Loaded, Healed]:
        """Load; verify every copy of the survivor, and heal the bad ones. The lock must be held.

        Returns what was loaded, with the slots as they were found, and what was healed. Raises what
        `loading.load` raises, and `DivergedError` if two copies hold different content under one
        number, since healing would destroy one of them.
        """
        with self._alone():
            distrusted = set(self._places)
            loaded = loading.load_locked(self.layout, distrusted=distrusted)
            self._known = {slot.trailer.digest for slot in loaded.slots if slot.trailer}
            self._places = {
                slot.path: _Place(slot, distrusted=slot.path in distrusted) for slot in loaded.slots
            }
            self.generation = loaded.generation
            self._number = max(self._number, loaded.generation)
            if loaded.survivor is None:
                return loaded, Healed()
            self._content = loaded.payload_digest, loaded.format
            for slot in loaded.slots:
                if slot.state is SlotState.CLAIMED and slot.generation == loaded.generation:
                    self._verify(slot)
            self._refuse_if_diverged()
            loaded = replace(loaded, slots=tuple(self._slots()))
            self._take_over_from_last_holder()
            return loaded, self._heal()

    def commit(self, payload: bytes, format: str, *, even_if_unchanged: bool = False) -> int:
        """Write the next generation to every copy; return its number once it is durable.

        Content that is that of the last commit is not written again, and its number is returned.
        Warns (`RedundancyWarning`) if a copy failed, and tries that copy again the next time.
        Raises `CommitError` if every copy failed, `ConflictError` if somebody else committed
        meanwhile. If the power goes before this returns, the generation before loads, or this one.
        """
        with self._alone():
            hasher = hashlib.sha256(payload)
            content = hasher.digest(), format
            is_new = even_if_unchanged or content != self._content
            if not is_new and self._is_complete():
                return self.generation

            self._look_again()
            survivor = self._settle()
            healed = self._heal()
            if not is_new and survivor and survivor.generation == self.generation:
                self._warn(healed.failures)
                return self.generation

            self._verify_claims()
            victim = slots.choose_victim(self._slots(), survivor, self.layout.keep)
            self._refuse_overflow()
            self._number += 1
            sealed, ending = trailer.seal(
                payload,
                generation=self._number,
                format=format,
                parent=_as_parent(survivor),
                copies=self.layout.copies,
                keep=self.layout.keep,
                payload_hash=hasher,
            )
            self._content = None  # until this has succeeded, nothing is known to be unchanged
            failures: Failures = {}
            for copy in range(self.layout.copies):
                place = self._places[self.layout.slot_path(copy, victim)]
                try:
                    self._refuse_last(place.slot, survivor)
                    self._write(place, [payload, ending], sealed, survivor)
                except OSError as error:
                    failures[place.slot.path] = error
            if len(failures) == self.layout.copies:
                raise self._failed(failures, survivor)
            self.generation, self._content = self._number, content
            self._warn(failures)
            return self.generation

    def holds(self, payload: bytes, format: str) -> bool:
        """Tell whether this is the content of the last commit, in every copy."""
        content = hashlib.sha256(payload).digest(), format
        return content == self._content and self._is_complete()

    def release(self) -> None:
        """Let go of the lock, with a note of what is known to be on the medium."""
        survivor = self._survivor() if self._is_complete() else None
        self.lock.release(settled=survivor.trailer.digest if survivor and survivor.trailer else "")

    # --- the steps of opening and committing, in their order

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let other threads wait; refuse to be entered again by this one (a signal handler)."""
        with self._turn:
            if self._busy:
                raise errors.BusyError(
                    "it is in the middle of a commit, which a signal handler or a method of a "
                    "value in it interrupted to commit again",
                    path=self.layout.path,
                    safe="nothing was changed",
                    action="commit after the interrupted commit has returned",
                )
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def _refuse_if_diverged(self) -> None:
        while pair := slots.diverged(self._slots()):
            # Believed only once both have verified.
            if all(self._verify(slot).sound for slot in pair):
                raise divergence(self.layout, *pair)

    def _take_over_from_last_holder(self) -> None:
        """Believe the note of who closed the store last: what it settled needs no second time."""
        for place in self._places.values():
            slot = place.slot
            if slot.sound and slot.trailer and slot.trailer.digest == self.lock.settled:
                place.settled = place.sized = place.named = True

    def _look_again(self) -> None:
        """Look at the trailers just before writing; raise if another writer was here."""
        beyond = 1 + max(place.slot.index for place in self._places.values())
        unseen = [
            Slot(copy, beyond, self.layout.slot_path(copy, beyond), SlotState.MISSING)
            for copy in range(self.layout.copies)
        ]
        for was in [*self._slots(), *unseen]:
            now, place = survey.look(was), self._places.get(was.path)
            if now.trailer and now.state is SlotState.CLAIMED:
                is_ours = place and place.distrusted and now.trailer.digest in self._known
                if was.holds(now) or is_ours:
                    continue
                now, _ = survey.verify(now)
            is_unknown = now.trailer and now.sound and now.trailer.digest not in self._known
            # An older one is no conflict: a disk came back that had been away.
            if is_unknown and now.generation >= self.generation:
                raise self._conflict(now)
            if place:
                self._places[was.path] = _Place(now, distrusted=place.distrusted and not now.sound)
        survey.refuse_if_denied(self.layout, self._slots())

    def _settle(self) -> Slot | None:
        """Put the survivor on the medium before anything that loads is overwritten; return it.

        Its bytes may be in the page cache only: their writer was killed before its sync; or its
        sync failed, and left pages that are marked clean, which the next sync succeeds without
        writing (Rebello et al., ATC'20). So every byte is written onto itself, and then synced. One
        copy after the other: a cut in the middle of one leaves the rest.
        """
        failures: Failures = {}
        survivor = self._survivor()
        holders = [p for p in self._places.values() if survivor and p.slot.holds(survivor)]
        for place in holders:
            if place.settled or place.slot.extra:
                continue
            try:
                durable.overwrite(place.slot.path, [survey.content_of(place.slot)])
            except trailer.TrailerError as error:
                place.slot = replace(place.slot, state=SlotState.DAMAGED, reason=str(error))
            except OSError as error:
                failures[place.slot.path] = error
            else:
                place.settled = place.sized = place.named = True
        if not any(place.settled or place.slot.extra for place in holders if place.slot.sound):
            if failures:
                raise self._failed(failures, survivor)
            return self._settle() if holders else None
        for path in failures:
            self._distrust(self._places[path])
        return self._survivor()

    def _heal(self) -> Healed:
        """Write the survivor's bytes over every bad copy of it.

        If the power goes now, what is overwritten held nothing that would load.
        """
        survivor, healed = self._survivor(), Healed()
        if survivor is None or survivor.trailer is None:
            return healed
        for place in self._home_of(survivor):
            if place.slot.holds(survivor):
                continue
            try:
                # Not before it is settled; but where it cannot be, the healed copy is what will be.
                with contextlib.suppress(errors.CommitError):
                    self._settle()
                bad, content = place.slot, survey.content_of(survivor)
                self._write(place, [content], survivor.trailer, survivor)
            except (OSError, trailer.TrailerError) as error:
                healed.failures[place.slot.path] = error
            else:
                healed.slots.append(bad)
        return healed

    def _verify_claims(self) -> None:
        """Verify what was only looked at, where the choice of the victim depends on it."""
        if self.layout.keep > trailer.MIN_KEEP:
            for slot in self._slots():
                if slot.state is SlotState.CLAIMED:
                    self._verify(slot)

    def _refuse_overflow(self) -> None:
        if self._number >= trailer.MAX_GENERATION:
            raise errors.StorageError(
                f"the numbers are used up: a slot holds generation {self._number}",
                path=self.layout.path,
                safe="nothing was changed",
                action="copy the state into a new store",
            )

    def _refuse_last(self, slot: Slot, survivor: Slot | None) -> None:
        """Spare a slot that is its copy's only one of the survivor (files were swapped by hand)."""
        if survivor and slot.holds(survivor):
            home = self._places[self.layout.slot_path(slot.copy, survivor.index)].slot
            if not home.holds(survivor):
                raise OSError("it is the only slot of its copy that holds the newest generation")

    def _write(
        self, place: _Place, parts: list[bytes], sealed: trailer.Trailer, survivor: Slot | None
    ) -> None:
        """Make a slot hold `parts` durably; until that is done, it is not trusted."""
        slot, sized, named = place.slot, place.sized, place.named
        if slot.state is SlotState.FOREIGN:
            raise OSError(f"{slot.reason}; {self.layout.command('repair')} puts it aside")
        self._known.add(sealed.digest)
        self._distrust(place)
        if survivor is None:
            # A first commit that is cut must leave no slot: a torn one is damage, not emptiness.
            durable.create(slot.path, parts, mode=self._mode)
        else:
            durable.overwrite(
                slot.path,
                parts,
                mode=self._mode,
                mode_if_new=survivor.mode,
                sync_size=not sized,
                sync_name=not named,
            )
        place.slot = replace(slot, state=SlotState.VALID, trailer=sealed, reason="")
        place.settled = place.sized = place.named = True
        place.distrusted = False

    def _distrust(self, place: _Place) -> None:
        """Take a slot for torn, whatever a look at it says, until it has been written whole."""
        reason = "its last write was not completed"
        place.slot = replace(place.slot, state=SlotState.TORN, trailer=None, reason=reason)
        place.settled = place.sized = place.named = False
        place.distrusted = True

    # --- what is known

    def _slots(self) -> list[Slot]:
        return [place.slot for place in self._places.values()]

    def _survivor(self) -> Slot | None:
        """Return the newest slot that verifies, by what is known of the slots since opening."""
        for slot in slots.by_claim(self._slots()):
            if slot.state is SlotState.VALID or self._verify(slot).sound:
                return self._places[slot.path].slot
        return None

    def _verify(self, slot: Slot) -> Slot:
        self._places[slot.path].slot = survey.verify(slot)[0]
        return self._places[slot.path].slot

    def _home_of(self, survivor: Slot) -> list[_Place]:
        copies = range(self.layout.copies)
        return [self._places[self.layout.slot_path(copy, survivor.index)] for copy in copies]

    def _is_complete(self) -> bool:
        """Tell whether every copy of the last commit is known to be on the medium."""
        survivor = self._survivor()
        return survivor is not None and all(
            place.slot.holds(survivor) and place.settled for place in self._home_of(survivor)
        )

    # --- what is told

    def _warn(self, failures: Failures) -> None:
        if failures:
            errors.warn(
                f"{self.layout.path}: generation {self.generation} is durable, but not in every "
                f"copy ({_listed(failures)}). The next sync() tries again."
            )

    def _failed(self, failures: Failures, survivor: Slot | None) -> errors.CommitError:
        stands = f"generation {survivor.generation} stands" if survivor else "nothing was there yet"
        return errors.CommitError(
            f"no copy could be written ({_listed(failures)})",
            errno=getattr(next(iter(failures.values())), "errno", None),
            path=self.layout.path,
            generation=self._number,
            safe=stands,
            action="free space or mend the disk, then sync() again",
            failures={path: errors.why(error) for path, error in failures.items()},
        )

    def _conflict(self, other: Slot) -> errors.ConflictError:
        return errors.ConflictError(
            f"{other.name} holds generation {other.generation}, which this process has not seen: "
            "another writer was here",
            path=self.layout.path,
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


def _as_parent(survivor: Slot | None) -> str:
    return survivor.trailer.as_parent if survivor and survivor.trailer else trailer.NO_PARENT


def _listed(failures: Failures) -> str:
    return "; ".join(f"{os.path.basename(path)}: {errors.why(e)}" for path, e in failures.items())
