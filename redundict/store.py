"""The commit path: a store as bytes, for its one writer. Knows slots and no dicts.

`open` loads and heals, `commit` writes the next generation to every copy, into slots that do not
hold the survivor. What a store promises rests on the order of the steps in `commit`, which reads
from top to bottom in the order in which things happen.

Invariants: a slot that the survivor depends on is never written to, but with its own bytes; before
anything is overwritten, the survivor is on the medium (`_settle`); a slot of which a write or a
sync failed is not trusted until it has been written whole and synced; numbers only grow.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass, field, replace

from . import durable, errors, loading, slots, survey, trailer
from .loading import Loaded
from .locking import WriterLock
from .slots import Layout, Slot, SlotState

Key = tuple[int, int]  #: Copy and index.
Failures = dict[str, OSError]  #: What the system said, by the path of the slot.


@dataclass(frozen=True, slots=True)
class Healed:
    """The slots that were bad and hold the survivor now, and those that could not be written."""

    slots: list[Slot] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)


class Store:
    """The slots of one store, for writing: take `lock` first, then `open`, then `commit`."""

    def __init__(self, layout: Layout, *, mode: int | None = None) -> None:
        self.layout = layout
        self.lock = WriterLock(layout.lock_path, layout.path, mode)
        self.generation = 0  #: The last one loaded or committed.
        self._mode = mode
        self._slots: dict[Key, Slot] = {}
        self._content: tuple[bytes, str] | None = None  # payload digest and format of `generation`
        self._number = 0  # the highest that verified, or that this process tried to write
        self._known: set[str] = set()  # digests that were there on opening, or are our own
        self._doubted: dict[str, str] = {}  # slot path -> digest of a write that was not completed
        self._synced: set[str] = set()  # slots of which this process put the content on the medium
        self._named: set[str] = set()  # ... and the name

    def open(self) -> tuple[Loaded, Healed]:
        """Load; verify every copy of the survivor, and heal the bad ones. The lock must be held.

        Returns what was loaded, with the slots as they were found, and what was healed. Raises what
        `loading.load` raises, and `DivergedError` if two copies hold different content under one
        number, since healing would destroy one of them.
        """
        loaded = loading.load_locked(self.layout)
        self._slots = {(slot.copy, slot.index): slot for slot in loaded.slots}
        self._known = {slot.trailer.digest for slot in loaded.slots if slot.trailer}
        self._doubted, self._synced, self._named = {}, set(), set()
        self.generation, self._content = loaded.generation, None
        self._number = max(self._number, self.generation)
        if loaded.survivor is None:
            return loaded, Healed()
        self._content = loaded.payload_digest, loaded.format
        for slot in loaded.slots:
            if slot.state is SlotState.CLAIMED and slot.generation == self.generation:
                self._verify(slot)
        self._refuse_if_diverged()
        found = tuple(self._slots.values())
        return replace(loaded, slots=found), self.heal()

    def _verify(self, slot: Slot) -> Slot:
        now, _ = survey.verify(slot)
        self._slots[slot.copy, slot.index] = now
        return now

    def _refuse_if_diverged(self) -> None:
        while pair := slots.diverged(self._slots.values()):
            # Believed only once both have verified.
            if all(self._verify(slot).sound for slot in pair):
                raise divergence(self.layout, *pair)

    def survivor(self) -> Slot | None:
        """Return the newest slot that verifies, by what is known of the slots since opening."""
        for slot in slots.by_claim(self._slots.values()):
            if slot.state is SlotState.VALID or self._verify(slot).sound:
                return self._slots[slot.copy, slot.index]
        return None

    def forget(self) -> None:
        """Commit at the next `commit` in any case, even what is there already."""
        self._content = None

    def heal(self) -> Healed:
        """Write the survivor's bytes over every bad copy of it.

        If the power goes now, what is overwritten held nothing that would load, and the survivor
        is read from a slot that is not written to.
        """
        survivor, healed = self.survivor(), Healed()
        if survivor is None or survivor.trailer is None:
            return healed
        content = b""
        for copy in range(self.layout.copies):
            bad = self._slots[copy, survivor.index]
            if bad.holds(survivor):
                continue
            try:
                content = content or _content_of(survivor)
                self._write(bad, [content], survivor.trailer, survivor.mode)
            except OSError as error:
                healed.failures[bad.path] = error
            else:
                healed.slots.append(bad)
        return healed

    def commit(self, payload: bytes, format: str, *, even_if_unchanged: bool = False) -> int:
        """Write the next generation to every copy; return its number once it is durable.

        Content that is that of the last commit is not written again, and its number is returned.
        Warns (`RedundancyWarning`) if a copy failed, and tries that copy again the next time.
        Raises `CommitError` if every copy failed, `ConflictError` if somebody else committed
        meanwhile. If the power goes before this returns, the generation before loads, or this one.
        """
        hasher = hashlib.sha256(payload)
        content = hasher.digest(), format
        if content == self._content and not even_if_unchanged:
            self._retry_failed_copies()
            return self.generation

        self._look_again()
        survivor = self._settle()
        self.heal()
        victim = slots.choose_victim(self._slots.values(), survivor, self.layout.keep)
        self._number += 1
        sealed, ending = trailer.seal(
            payload,
            generation=self._number,
            format=format,
            parent=survivor.trailer.as_parent
            if survivor and survivor.trailer
            else trailer.NO_PARENT,
            copies=self.layout.copies,
            keep=self.layout.keep,
            payload_hash=hasher,
        )
        self._content = None  # until this has succeeded, no content is known to be the newest
        failures: Failures = {}
        for copy in range(self.layout.copies):
            slot = self._slots[copy, victim]
            try:
                self._refuse_last(slot, survivor)
                self._write(slot, [payload, ending], sealed, survivor.mode if survivor else None)
            except OSError as error:
                failures[slot.path] = error
        if len(failures) == self.layout.copies:
            raise self._failed(failures, survivor)
        self.generation, self._content = self._number, content
        self._warn(failures)
        return self.generation

    def _look_again(self) -> None:
        """Look at the trailers just before writing; raise if another writer was here."""
        beyond = 1 + max(index for _, index in self._slots)
        for copy, index in [*self._slots, *((copy, beyond) for copy in range(self.layout.copies))]:
            was, now = self._slots.get((copy, index)), survey.look(self.layout, copy, index)
            if now.trailer and now.state is SlotState.CLAIMED:
                if (was and was.holds(now)) or self._doubted.get(now.path) == now.trailer.digest:
                    continue
                now, _ = survey.verify(now)
            if now.trailer and now.sound and now.trailer.digest not in self._known:
                raise self._conflict(now)
            if was:
                self._slots[copy, index] = now
                self._synced.discard(now.path)
        survey.refuse_if_denied(self.layout, self._slots.values())

    def _settle(self) -> Slot | None:
        """Put the survivor on the medium, content and names, before anything is overwritten.

        Its bytes may be in the page cache only: their writer was killed before its sync, or its
        sync failed. One copy after the other, so that a cut in the middle of one leaves the rest.
        """
        survivor = self.survivor()
        failures: Failures = {}
        holders = [slot for slot in self._slots.values() if survivor and slot.holds(survivor)]
        for slot in holders:
            try:
                if slot.path not in self._synced:
                    durable.rewrite(slot.path)
                    self._synced.add(slot.path)
                if slot.path not in self._named:
                    self._sync_names(self.layout.folders[slot.copy])
            except OSError as error:
                failures[slot.path] = error
        if holders and len(failures) == len(holders):
            raise self._failed(failures, survivor)
        for slot in holders:
            if slot.path in failures and slot.trailer:
                self._doubted[slot.path] = slot.trailer.digest
                self._distrust(slot)
        return self.survivor()

    def _sync_names(self, folder: str) -> None:
        durable.sync_directory(folder)
        for slot in self._slots.values():
            if slot.state is not SlotState.MISSING and self.layout.folders[slot.copy] == folder:
                self._named.add(slot.path)

    def _distrust(self, slot: Slot) -> None:
        """Take a slot for torn, whatever a look at it says, until it has been written whole."""
        self._synced.discard(slot.path)
        self._slots[slot.copy, slot.index] = replace(
            slot, state=SlotState.TORN, trailer=None, reason="its last write was not completed"
        )

    def _write(
        self, slot: Slot, parts: list[bytes], sealed: trailer.Trailer, mode: int | None
    ) -> None:
        """Make a slot hold `parts` durably; until that is done, it is not trusted."""
        if slot.state is SlotState.FOREIGN:
            raise OSError(f"not ours to write to: {slot.reason}")
        self._known.add(sealed.digest)
        self._doubted[slot.path] = sealed.digest
        self._distrust(slot)
        durable.overwrite(
            slot.path,
            parts,
            mode=self._mode,
            mode_if_new=mode,
            sync_name=slot.path not in self._named,
        )
        valid = replace(slot, state=SlotState.VALID, trailer=sealed, reason="")
        self._slots[slot.copy, slot.index] = valid
        self._synced.add(slot.path)
        self._named.add(slot.path)
        del self._doubted[slot.path]

    def _retry_failed_copies(self) -> None:
        if self._doubted:
            self._look_again()
            self._warn(self.heal().failures)

    def _refuse_last(self, slot: Slot, survivor: Slot | None) -> None:
        """Spare a slot that is its copy's only one of the survivor (files were swapped by hand)."""
        if survivor and slot.holds(survivor):
            home = self._slots[slot.copy, survivor.index]
            if not home.holds(survivor):
                raise OSError(
                    f"{slot.name} is the only slot of this copy that holds the newest generation"
                )

    def _warn(self, failures: Failures) -> None:
        if failures:
            warnings.warn(
                f"{self.layout.path}: generation {self.generation} is durable, but not in every "
                f"copy ({_listed(failures)}). The next sync() tries again.",
                errors.RedundancyWarning,
                stacklevel=2,
            )

    def _failed(self, failures: Failures, survivor: Slot | None) -> errors.CommitError:
        return errors.CommitError(
            f"no copy could be written ({_listed(failures)})",
            errno=next(iter(failures.values())).errno,
            path=self.layout.path,
            generation=self._number,
            safe=f"generation {survivor.generation} stands"
            if survivor
            else "nothing was there before",
            action="free space or mend the disk, then sync() again; the state is still in memory",
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


def _content_of(slot: Slot) -> bytes:
    content = durable.read(slot.path).data
    try:
        if trailer.verify(content).trailer == slot.trailer:
            return content
    except trailer.TrailerError:
        pass
    raise OSError(f"{slot.name} is not what it was a moment ago")


def _listed(failures: Failures) -> str:
    return "; ".join(f"{os.path.basename(path)}: {errors.why(e)}" for path, e in failures.items())
