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
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from . import durable, errors, loading, slots, survey, threads, trailer
from .history import THINNED, give_up
from .ledger import Ledger, Place
from .loading import Loaded
from .locking import WriterLock
from .slots import Layout, Slot, SlotState

if TYPE_CHECKING:
    PayloadHash = Callable[[], hashlib._Hash]  # noqa: SLF001 - as the type stubs name it

Failures = dict[str, Exception]  #: What the system said, by the path of the slot.
_LARGE: Final = 1 << 20  #: Bytes of payload whose digest is worth a thread of its own.


class Content(NamedTuple):
    """What tells whether a payload is that of the last commit."""

    length: int
    format: str
    digest: bytes  #: SHA-256 of the payload alone.


@dataclass(frozen=True, slots=True)
class Healed:
    """The slots that were bad and hold the survivor now, and those that could not be written."""

    slots: list[Slot] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)


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
        self._mode = mode
        self.ledger = Ledger(layout)
        self._content: Content | None = None  # of `generation`
        self._number = 0  # the highest that verified, or that this process tried to write
        self._started = 0  # the generation that was there when the program opened the store
        self._busy = False

    def again(self) -> Store:
        """Return a store to be opened anew in this one's place, with what must not be forgotten."""
        anew = Store(self.layout, mode=self._mode, degraded=self._degraded)
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
            return loaded, self._heal()

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
                survivor, healed = self._settle(), self._heal()
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
            failures = self._write(
                self.ledger.at(victim),
                payload,
                seal,
                survivor,
                afresh=survivor is None,
            )
            if len(failures) == self.layout.copies:
                raise self._failed(failures, survivor)
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
        """Tell whether a generation was there on opening, or is this process's own."""
        return digest == self.digest or digest in self.ledger.known

    def holds(self, payload: bytes, format: str) -> bool:
        """Tell whether this is the content of the last commit, in every copy."""
        return self.unchanged(payload, format) and self.ledger.is_complete(self.ledger.survivor())

    def refuse_if_forked(self) -> None:
        """Raise `ForkedError` in a child of the process that opened the store."""
        if self.lock.inherited:
            raise errors.ForkedError(
                "this process is a fork of the one that has the store open for writing",
                path=self.layout.path,
                safe="nothing was changed; the parent goes on",
                action="open the store in this process, once the parent has closed it, or fork "
                "before it is opened",
            )

    def release(self) -> None:
        """Let go of the lock, with a note of what is known to be on the medium."""
        settled = ""
        with contextlib.suppress(errors.RedundictError):  # the note is a help, the lock a promise
            survivor = self.ledger.survivor()
            holders = [
                p for p in self.ledger.places.values() if survivor and p.slot.holds(survivor)
            ]
            # A copy that is not ours now, and that nobody synced, may be ours to the next holder.
            if self.ledger.is_complete(survivor) and all(place.settled for place in holders):
                settled = self.ledger.note()
        self.lock.release(settled)

    def busy(self) -> errors.BusyError:
        """Return the error for a commit in the middle of another."""
        return errors.BusyError(
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse to be entered again: by a signal handler, since threads take turns (`Writer`)."""
        self.refuse_if_forked()
        if self._busy:
            raise self.busy()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _settle(self) -> Slot | None:
        """Put the survivor on the medium before anything that loads is overwritten; return it.

        Its bytes may be in the page cache only: their writer was killed before its sync; or its
        sync failed, and left pages that are marked clean, which the next sync succeeds without
        writing (Rebello et al., ATC'20). So every byte is written onto itself, and then synced. One
        copy after the other: a cut in the middle of one leaves the rest.
        """
        failures: Failures = {}
        survivor = self.ledger.survivor()
        holders = [p for p in self.ledger.places.values() if survivor and p.slot.holds(survivor)]
        for place in holders:
            if place.settled or place.slot.extra:
                continue
            try:
                durable.overwrite(place.slot.path, survey.content_of(place.slot))
            except trailer.TrailerError as error:
                place.slot = replace(
                    place.slot, state=SlotState.DAMAGED, fault=error.fault, reason=str(error)
                )
            except OSError as error:
                failures[place.slot.path] = error
            else:
                place.settle()
        if not any(place.settled or place.slot.extra for place in holders if place.slot.sound):
            if failures:
                raise self._failed(failures, survivor)
            return self._settle() if holders else None
        for path in failures:
            self.ledger.places[path].distrust()
        return self.ledger.survivor()

    def _heal(self) -> Healed:
        """Write the survivor's bytes over every bad copy of it.

        If the power goes now, what is overwritten held nothing that would load.
        """
        survivor, healed = self.ledger.survivor(), Healed()
        if survivor is None or survivor.trailer is None:
            return healed
        as_is = survivor.trailer, b""
        for place in self.ledger.at(survivor.index):
            if place.slot.holds(survivor):
                continue
            try:
                # Not before it is settled; but where it cannot be, the healed copy is what will be.
                with contextlib.suppress(errors.CommitError):
                    self._settle()
                bad, content = place.slot, survey.content_of(survivor)
            except (OSError, trailer.TrailerError) as error:
                healed.failures[place.slot.path] = error
                continue
            afresh = self.ledger.knows_nothing_durable()
            failures = self._write([place], content, lambda: as_is, survivor, afresh=afresh)
            healed.failures.update(failures)
            healed.slots.extend([] if failures else [bad])
        return healed

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

    def _write(
        self,
        places: list[Place],
        content: bytes,
        seal: Callable[[], tuple[trailer.Trailer, bytes]],
        survivor: Slot | None,
        *,
        afresh: bool,
    ) -> Failures:
        """Make slots hold `content` and the ending that seals it, durably.

        Until that is done, they are not trusted. With `afresh`, a write that is cut leaves no slot:
        where nothing else is on the medium, a torn one would be a lost store.
        """

        def ending() -> bytes:
            sealed, following = seal()
            self.ledger.known.add(sealed.digest)  # as ours, before anybody can meet it
            return following

        failures: Failures = {}
        files = []
        for place in places:
            if refusal := self._refusal(place.slot, survivor):
                failures[place.slot.path] = refusal
                continue
            files.append(
                durable.Overwriting(
                    place.slot.path,
                    content,
                    ending,
                    mode=self._mode,
                    mode_if_new=survivor.mode if survivor else None,
                    sync_size=not place.sized,
                    sync_name=not place.named,
                    afresh=afresh,
                )
            )
            place.distrust()
        failures |= durable.overwrite_all(files)
        for place in places:
            if place.slot.path not in failures:
                place.settle(slots.written(place.slot, seal()[0]))
        return failures

    def _refusal(self, slot: Slot, survivor: Slot | None) -> OSError | None:
        """Return why a slot is not written to: it is not ours, or its copy has nothing else."""
        if slot.state is SlotState.FOREIGN:
            return OSError(f"{slot.reason}; {self.layout.command('repair')} puts it aside")
        if survivor and slot.holds(survivor):  # files were swapped by hand
            home = self.ledger.places[self.layout.slot_path(slot.copy, survivor.index)].slot
            if not home.holds(survivor):
                return OSError("it is the only slot of its copy that holds the newest generation")
        return None

    # --- what is told

    def _warn(self, failures: Failures) -> None:
        if failures:
            self._degraded(
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


def _hashing(payload: bytes) -> PayloadHash:
    """Return what returns the hash of a payload; a large one is hashed meanwhile."""
    if len(payload) >= _LARGE:
        return threads.begin(lambda: hashlib.sha256(payload))
    found = hashlib.sha256(payload)
    return lambda: found


def _as_parent(survivor: Slot | None) -> str:
    return survivor.trailer.as_parent if survivor and survivor.trailer else trailer.NO_PARENT


def _listed(failures: Failures) -> str:
    return "; ".join(f"{os.path.basename(path)}: {errors.why(e)}" for path, e in failures.items())
