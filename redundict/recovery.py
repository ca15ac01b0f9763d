"""Repair and rollback of a store on disk, without knowing what is in it.

Both take the writer's lock, prepare what they are going to do as an object that can be shown, and
then do that: a dry run stops in between, so it cannot lie. Repair writes only bytes that verified,
and puts aside, under another name, whatever it replaces. Rollback commits an old generation's
payload as a new generation, so it destroys nothing that another rollback could not bring back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from . import errors
from . import report as integrity
from .engine import files, newest, slots, survey
from .engine.layout import Copies, Layout
from .engine.newest import Loaded
from .engine.slots import Slot, SlotState
from .engine.store import Outcome, Store
from .errors import Fault
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: slot names, and where what they held was put."""

    path: str
    aside: dict[str, str]  #: The new name of what was put aside, by the slot's name.
    rewritten: tuple[str, ...]
    committed: int | None  #: The number under which the survivor was committed again, if it was.
    report: integrity.Report  #: The store as it is now.


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair is going to do, while the lock is held."""

    aside: tuple[Slot, ...]  #: Slots that are to be put aside.
    rewrite: tuple[tuple[Slot, Slot], ...]  #: Slots that are to be rewritten, and from which.
    gone: int  #: How many generations no slot holds any more: the survivor is committed again.
    _store: Store = field(repr=False)
    _copies: Copies | None = None

    def do(self) -> Repaired:
        """Do it: put aside, rewrite, commit.

        A slot is put aside just before it is rewritten, and is there again once it is durable: if
        the power goes in between, it is missing, and another one holds the same.
        """
        layout, put = self._store.layout, {slot.path: slot for slot in self.aside}
        aside: dict[str, str] = {}
        for slot, source in self.rewrite:
            with _blamed(slot, "cannot be rewritten"):
                content = survey.content_of(source)
                if slot.path in put:
                    aside[slot.name] = _put_aside(put.pop(slot.path))
                files.overwrite(slot.path, content, mode_if_new=source.mode, afresh=True)
        for slot in put.values():
            aside[slot.name] = _put_aside(slot)
        loaded, _ = self._store.heal(self._store.read())
        committed = None
        if self.gone:  # one commit fills one gap: of what else is gone, nothing is claimed any more
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
    """What a rollback is going to do, while the lock is held."""

    newest: Loaded
    target: Loaded  #: What is to be committed again.
    _store: Store = field(repr=False)

    def do(self) -> int:
        """Do it; return the number of the new generation."""
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

    Where no copy of a generation verifies, the survivor is committed once more in its place; if
    several are gone, once in place of them all, as the beginning of a new history. If two copies
    have diverged, `prefer` (a copy's letter) says which one stands. Raises `LostError`, with
    nothing touched, if no slot verifies; `NotFoundError`, `LockedError`, `DivergedError`,
    `StorageError`. If the power goes meanwhile, the survivor loads; repair again.
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
    """Commit generation `to` (by default the one before the newest) again; return the new number.

    Raises `NotFoundError` if no copy of it verifies or if it is the newest, and what opening
    for writing raises.
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
    """Hold the lock, and say what `repair` would do; nothing is changed but by `Repair.do`."""
    with _locked(path, copies, timeout) as store:
        layout, found = survey.discover(store.layout.path, copies)
        survey.refuse_if_denied(layout, found)
        if not any(slot.sound for slot in found):
            raise survey.lost(layout, found)
        aside, found = _settle_divergence(layout, found, prefer)
        rewrite, wanted, without = [], slots.homes(found), set()
        for flaw in slots.flaws(found, slots.by_claim(found)[0], layout.keep):
            slot = flaw.slot
            if slot.state is not SlotState.MISSING:
                aside.append(slot)
            if source := wanted.get(slot.index):
                rewrite.append((slot, source))
            else:
                without.add(slot.path)
        left = [_as_missing(slot) if slot.path in without else slot for slot in found]
        flaws = slots.flaws(left, slots.by_claim(left)[0], layout.keep)
        gone = {flaw.slot.index for flaw in flaws} - wanted.keys()
        yield Repair(tuple(aside), tuple(rewrite), len(gone), store, copies)


@contextmanager
def prepared_rollback(
    path: str | os.PathLike[str],
    to: int | None = None,
    *,
    copies: Copies | None = None,
    timeout: float = 0.0,
) -> Iterator[Rollback]:
    """Hold the lock, and say what `rollback` would commit; nothing is changed but by `Rollback.do`.

    Raises what `rollback` raises.
    """
    with _locked(path, copies, timeout) as store:
        layout = store.layout
        latest = newest.load_locked(layout)
        if pair := slots.diverged(survey.survey_verified(layout)):
            raise survey.divergence(layout, *pair)
        yield Rollback(latest, rollback_target(layout, latest.generation, to), store)


def rollback_target(layout: Layout, present: int, to: int | None = None) -> Loaded:
    """Return the generation to roll back to: `to`, or the one before the `present` one.

    The lock is held.

    Raises:
        NotFoundError: If it does not load, or is the present one already.

    """
    if to == present:  # to commit it again would only push out an older one
        raise newest.no_generation(layout, f"generation {to} is the newest already", to)
    before = newest.previous(layout, present) if to is None else to
    return newest.load_locked(layout, before)


def commit_again(store: Stored, target: Loaded) -> Outcome:
    """Commit an older generation as a new one: the only rollback there is."""
    return store.commit(target.payload, target.format, even_if_unchanged=True)


def warn_if_incomplete(path: str, outcome: Outcome) -> None:
    """Warn of the copies that a commit did not reach."""
    if outcome.failures:
        errors.warn(errors.not_in_every_copy(path, outcome.generation, outcome.failures))


def put_lost_aside(layout: Layout) -> integrity.Recovery | None:
    """Rename the slots of a lost store, so that it can start anew; touch no other store's.

    Returns what was put aside, None if the store was not lost.
    """
    found = survey.survey_verified(layout)
    survey.refuse_if_denied(layout, found)
    bad = [slot for slot in found if slot.state is not SlotState.MISSING]
    if not bad or any(slot.sound for slot in bad):
        return None
    for slot in bad:
        _put_aside(slot)
    return integrity.recovery_of_lost(layout, bad)


@contextmanager
def _locked(path: str | os.PathLike[str], copies: Copies | None, timeout: float) -> Iterator[Store]:
    """Hold the store's lock, and yield the store; never make a lock where there is no store."""
    layout, found = survey.discover(os.fspath(path), copies)
    if all(slot.state is SlotState.MISSING for slot in found):
        raise integrity.not_found(layout.path)
    store = Store(layout)
    store.lock.acquire(timeout)
    try:
        yield store
    finally:
        store.release()


def _settle_divergence(
    layout: Layout, found: list[Slot], prefer: str | None
) -> tuple[list[Slot], list[Slot]]:
    """Return, of each pair that diverged, what is not in the preferred copy; and what stays."""
    aside: list[Slot] = []
    while pair := slots.diverged(found):
        unwanted = [slot for slot in pair if slot.letter != prefer]
        if len(unwanted) != 1:
            raise survey.divergence(layout, *pair)
        aside += unwanted
        found = [_as_missing(slot) if slot in unwanted else slot for slot in found]
    return aside, list(found)


def _as_missing(slot: Slot) -> Slot:
    return replace(
        slot, state=SlotState.MISSING, trailer=None, fault=Fault.MISSING, reason="put aside"
    )


def _put_aside(slot: Slot) -> str:
    with _blamed(slot, "cannot be put aside"):
        return os.path.basename(files.put_aside(slot.path))


def _blamed(slot: Slot, what: str) -> AbstractContextManager[None]:
    return errors.typed(f"{slot.name} {what}", path=slot.path, slot=slot.name)
