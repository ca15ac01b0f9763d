"""Repair and rollback of a store on disk.

Both take the writer's lock. Both prepare an object that lists every step, and then do these steps.
A dry run shows the same object and stops, so it shows exactly the steps that a real run would take.
This module must not decode a payload.

Invariants: repair writes only bytes that verified (law 7). It puts aside whatever it replaces.
Rollback commits the payload of an old generation as a new generation, so a second rollback can undo
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from . import errors, evidence
from . import report as integrity
from .engine import files, newest, slots, survey
from .engine.layout import Copies, Layout
from .engine.newest import Loaded
from .engine.slots import Slot, SlotState
from .engine.store import Outcome, Store
from .engine.writes import remove_leftovers, thin_out_aside
from .errors import Fault
from .stored import Stored

#: Faults of a read, which may not come again.
_UNREAD: Final = {Fault.UNREADABLE, Fault.DENIED, Fault.NOT_A_FILE, Fault.MISSING}


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of a repair."""

    path: str
    aside: dict[str, str]  #: The new name of each file that was put aside, by slot name.
    rewritten: tuple[str, ...]  #: The names of the slots that were rewritten.
    committed: int | None  #: The number of the survivor if it was committed again; else None.
    report: integrity.Report  #: The state of the store after the repair.


@dataclass(frozen=True, slots=True)
class Repair:
    """The steps of a repair. They are valid while the lock is held."""

    aside: tuple[Slot, ...]  #: The slots to put aside.
    rewrite: tuple[tuple[Slot, Slot], ...]  #: The slots to rewrite, each with its source.
    gone: int  #: Indexes whose generation no slot holds. If any, the survivor is committed again.
    above: (
        int  #: The highest number, if the copies have parted. The survivor is committed above it.
    )
    _store: Store = field(repr=False)
    _copies: Copies | None = None

    def do(self) -> Repaired:
        """Put slots aside, rewrite slots, and commit the survivor again if generations are gone.

        A slot is put aside just before it is rewritten. If the power fails in between, the slot is
        missing, and its source still holds the same generation. So the survivor loads after a crash
        at any point, and the repair can run again. The newest slots come first, so that a copy that
        has parted never stands with the newest slot of one line and older slots of another.

        Returns:
            The result, with the state of the store after the repair.

        Raises:
            StorageError: If a slot cannot be put aside or rewritten.
            CommitError: If the survivor is committed again and no copy could be written.
            ConflictError: If another process wrote to the store in spite of the lock.

        """
        layout, unwanted = self._store.layout, {slot.path for slot in self.aside}
        sources = {slot.path: source for slot, source in self.rewrite}
        steps = {slot.path: slot for slot, _ in self.rewrite} | {s.path: s for s in self.aside}
        aside: dict[str, str] = {}
        for slot in sorted(steps.values(), key=lambda slot: -slot.generation):
            source = sources.get(slot.path)
            with _blamed(slot, "cannot be rewritten" if source else "cannot be put aside"):
                content = survey.content_of(source) if source else b""
                if slot.path in unwanted:
                    aside[slot.name] = _put_aside(slot)
                if source:
                    remove_leftovers(slot.path, [source], source)
                    mode, owner = source.mode, source.owner
                    files.overwrite(
                        slot.path, content, mode_if_new=mode, owner_if_new=owner, afresh=True
                    )
        loaded, _ = self._store.heal(self._store.read())
        committed = None
        if self.gone or self.above:  # one commit fills one gap; with more, it names no parent
            self._store.number_above(self.above)
            outcome = self._store.commit(
                loaded.payload,
                loaded.format,
                even_if_unchanged=True,
                begins_history=self.gone > 1,
            )
            warn_if_incomplete(layout.path, outcome)
            committed = outcome.generation
        report = integrity.check(layout.path, copies=self._copies)
        rewritten = tuple(slot.name for slot, _ in self.rewrite)
        return Repaired(layout.path, aside, rewritten, committed, report)


@dataclass(frozen=True, slots=True)
class Rollback:
    """The step of a rollback. It is valid while the lock is held."""

    newest: Loaded  #: The present generation.
    target: Loaded  #: The generation to commit again.
    _store: Store = field(repr=False)

    def do(self) -> int:
        """Commit the target as a new generation.

        If the power fails before this returns, the present generation loads, or the new one.

        Returns:
            The number of the new generation.

        Raises:
            CommitError: If no copy could be written. The present generation is untouched.
            ConflictError: If another process wrote to the store in spite of the lock.
            DivergedError: If the copies have parted.

        """
        self._store.heal(self._store.read())
        outcome = commit_again(self._store, self.target)
        warn_if_incomplete(self._store.layout.path, outcome)
        return outcome.generation


def repair(
    path: str | os.PathLike[str],
    *,
    prefer: str | None = None,
    copies: Copies | None = None,
    timeout: float = 0.0,
) -> Repaired:
    """Make every copy of every generation whole again, from copies that verify.

    If no copy of a generation verifies, the survivor is committed again in its place. If several
    generations are gone, the survivor is committed once, as the first generation of a new history.
    If the power fails meanwhile, the survivor loads. Then run the repair again.

    Args:
        path: The path of the store.
        prefer: The letter of the copy that stands if the copies have parted. Every other copy that
            holds something else is put aside whole. The state that stands is committed again, with
            a number above all others.
        copies: The number of copies or their folders. None finds it from the files beside `path`.
        timeout: Seconds to wait for the lock.

    Returns:
        The slots that were put aside and rewritten, and the state of the store afterwards.

    Raises:
        LostError: If no slot verifies. Nothing was changed.
        NotFoundError: If there is no store. Nothing was changed.
        LockedError: If another process holds the lock after `timeout` seconds.
        AccessError: If every copy has a slot that may not be read.
        DivergedError: If the copies have parted and `prefer` does not name one of them.
        StorageError: If a slot cannot be put aside or rewritten.
        CommitError: If the survivor could not be committed again.

    """
    with prepared_repair(path, prefer=prefer, copies=copies, timeout=timeout) as prepared:
        return prepared.do()


def rollback(
    path: str | os.PathLike[str],
    to: int | None = None,
    *,
    copies: Copies | None = None,
    timeout: float = 0.0,
) -> int:
    """Commit an older generation again, as a new one.

    If the power fails before this returns, the present generation loads, or the new one.

    Args:
        path: The path of the store.
        to: The number of the generation. None takes the one before the newest.
        copies: The number of copies or their folders. None finds it from the files beside `path`.
        timeout: Seconds to wait for the lock.

    Returns:
        The number of the new generation.

    Raises:
        NotFoundError: If there is no store, if no copy of the generation verifies, or if it is the
            newest already.
        LostError: If no slot verifies.
        LockedError: If another process holds the lock after `timeout` seconds.
        AccessError: If every copy has a slot that may not be read.
        DivergedError: If the copies have parted.
        CommitError: If no copy could be written. The present generation is untouched.

    """
    with prepared_rollback(path, to, copies=copies, timeout=timeout) as prepared:
        return prepared.do()


@contextmanager
def prepared_repair(
    path: str | os.PathLike[str],
    *,
    prefer: str | None = None,
    copies: Copies | None = None,
    timeout: float = 0.0,
) -> Iterator[Repair]:
    """Take the lock, and prepare a repair. Only `Repair.do` changes anything.

    Args:
        path: The path of the store.
        prefer: The letter of the copy that stands if the copies have parted.
        copies: The number of copies or their folders. None finds it from the files beside `path`.
        timeout: Seconds to wait for the lock.

    Yields:
        The steps of the repair.

    Raises:
        RedundictError: What `repair` raises before it changes anything.

    """
    with _locked(path, copies, timeout, begins=True) as store:
        layout, found = survey.discover(store.layout.path, copies, begins=True)
        if any(slot.fault in _UNREAD for slot in found):  # look twice before it is put aside
            layout, found = survey.discover(store.layout.path, copies, begins=True)
        survey.refuse_if_denied(layout, found)
        survey.refuse_links(layout, found)
        if not any(slot.sound for slot in found):
            raise survey.lost(layout, found)
        highest = max(slot.generation for slot in found)
        aside, found = _settle_divergence(layout, found, prefer)
        noted = store.lock.noted.generation
        above = max(highest, noted) if aside or noted > highest else 0
        odd = {slot.path for slot in slots.strange(found)}  # nothing may be made from them
        wanted = slots.homes(slot for slot in found if slot.path not in odd)
        rewrite, without = [], set()
        for flaw in slots.flaws(found, slots.by_claim(found)[0], layout.keep):
            slot = flaw.slot
            if slot.copy in layout.away:
                continue
            if slot.state is not SlotState.MISSING and flaw.fault is not Fault.LINKED:
                aside.append(slot)
            source = slot if flaw.fault is Fault.LINKED else wanted.get(slot.index)
            if source:
                rewrite.append((slot, source))
            else:
                without.add(slot.path)
        left = [_as_missing(slot) if slot.path in without else slot for slot in found]
        flaws = slots.flaws(left, slots.by_claim(left)[0], layout.keep)
        gone = {flaw.slot.index for flaw in flaws} - wanted.keys()
        yield Repair(tuple(aside), tuple(rewrite), len(gone), above, store, copies)


@contextmanager
def prepared_rollback(
    path: str | os.PathLike[str],
    to: int | None = None,
    *,
    copies: Copies | None = None,
    timeout: float = 0.0,
) -> Iterator[Rollback]:
    """Take the lock, and prepare a rollback. Only `Rollback.do` changes anything.

    Args:
        path: The path of the store.
        to: The number of the generation. None takes the one before the newest.
        copies: The number of copies or their folders. None finds it from the files beside `path`.
        timeout: Seconds to wait for the lock.

    Yields:
        The present generation, and the one to commit again.

    Raises:
        RedundictError: What `rollback` raises before it changes anything.

    """
    with _locked(path, copies, timeout) as store:
        layout = store.layout
        latest = newest.load_locked(layout)
        if pair := slots.parted(survey.survey_verified(layout)):
            raise survey.divergence(layout, *pair)
        yield Rollback(latest, rollback_target(layout, latest.generation, to), store)


def rollback_target(layout: Layout, present: int, to: int | None = None) -> Loaded:
    """Load the generation to roll back to, while this process holds the lock.

    Args:
        layout: The layout of the store.
        present: The number of the present generation.
        to: The number to load. None loads the generation before the present one.

    Raises:
        NotFoundError: If the generation does not load, or is the present one.

    """
    if to == present:  # a commit of it would only overwrite an older generation
        raise newest.no_generation(layout, f"generation {to} is the newest already", to)
    before = newest.previous(layout, present) if to is None else to
    return newest.load_locked(layout, before)


def commit_again(store: Stored, target: Loaded) -> Outcome:
    """Commit an older generation as a new one. Every rollback does this.

    Args:
        store: The store, with its lock held.
        target: The generation to commit again.

    Returns:
        The durable generation, and the slots that could not be written.

    Raises:
        CommitError: If no copy could be written. The present generation is untouched.
        ConflictError: If another process has committed.

    """
    # The target must outlive a rollback that fails.
    return store.commit(
        target.payload, target.format, even_if_unchanged=True, spare=target.generation
    )


def warn_if_incomplete(path: str, outcome: Outcome) -> None:
    """Warn of each copy that a commit could not write; the others are durable."""
    if outcome.failures:
        errors.warn(errors.not_in_every_copy(path, outcome.generation, outcome.failures))


def put_lost_aside(layout: Layout) -> integrity.Recovery | None:
    """Put aside every slot of a lost store, so that a new store can begin at its path.

    Args:
        layout: The layout of the store.

    Returns:
        The slots that were put aside; None if the store is not lost. Then nothing was changed.

    Raises:
        AccessError: If no slot is sound, and one may not be read.
        StorageError: If a slot cannot be put aside.

    """
    found = survey.survey_verified(layout)
    survey.refuse_if_denied(layout, found)
    survey.refuse_links(layout, found)
    bad = [slot for slot in found if slot.state is not SlotState.MISSING]
    if not bad or any(slot.sound for slot in bad):
        return None
    for slot in bad:
        _put_aside(slot)
    return integrity.recovery_of_lost(layout, bad)


@contextmanager
def _locked(
    path: str | os.PathLike[str], copies: Copies | None, timeout: float, *, begins: bool = False
) -> Iterator[Store]:
    """Hold the lock of a store that exists, and yield the store.

    If there is no store, no lock file is created.
    """
    layout, found = survey.discover(os.fsdecode(path), copies, begins=begins)
    if all(slot.state is SlotState.MISSING for slot in found):
        raise integrity.not_found(layout.path)
    store = Store(layout, is_state=evidence.is_state)
    try:
        store.acquire(timeout)
        yield store
    except BaseException:
        store.abandon()
        raise
    else:
        store.release()


def _settle_divergence(
    layout: Layout, found: list[Slot], prefer: str | None
) -> tuple[list[Slot], list[Slot]]:
    """Return the slots of the copies that are not on the line of the preferred copy, and the rest.

    Every slot of such a copy is put aside, since its older slots may be of its own branch, too.
    """
    pair = slots.parted(found)
    if pair is None:
        return [], found
    heads = slots.heads(found)
    preferred = next((copy for copy, slot in heads.items() if slot.letter == prefer), None)
    if preferred is None:
        raise survey.divergence(layout, *pair)
    stands = heads[preferred]
    line = {
        copy: head
        for copy, head in heads.items()
        if head.holds(stands)
        or stands.line.covers(stands.generation - 1, head.line, head.generation)
    }
    parted = heads.keys() - line - {preferred}
    unwanted = [slot for slot in found if slot.copy in parted]
    aside = [slot for slot in unwanted if slot.state is not SlotState.MISSING]
    return aside, [_as_missing(slot) if slot in aside else slot for slot in found]


def _as_missing(slot: Slot) -> Slot:
    return replace(
        slot, state=SlotState.MISSING, trailer=None, fault=Fault.MISSING, reason="put aside"
    )


def _put_aside(slot: Slot) -> str:
    with _blamed(slot, "cannot be put aside"):
        aside = files.put_aside(slot.path)
    thin_out_aside(slot.path)
    return os.path.basename(aside)


def _blamed(slot: Slot, what: str) -> AbstractContextManager[None]:
    return errors.typed(f"{slot.name} {what}", path=slot.path, slot=slot.name)
