"""Repair and rollback of a store on disk, without knowing what is in it.

Both take the writer's lock. Repair writes only bytes that verified, and puts aside, under another
name, whatever it replaces. Rollback commits an old generation's payload as a new generation, so it
destroys nothing that could not be brought back by another rollback.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from . import durable, errors, integrity, loading, slots, survey
from .ledger import divergence
from .slots import Layout, Slot, SlotState
from .store import Store
from .survey import Folders


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: slot names, and where what they held was put."""

    path: str
    aside: dict[str, str]  #: The new name of what was put aside, by the slot's name.
    rewritten: tuple[str, ...]
    committed: int | None  #: The number under which the survivor was committed again, if it was.
    report: integrity.Report  #: The store as it is now.


def repair(
    path: str | os.PathLike[str],
    *,
    prefer: str | None = None,
    folders: Folders | None = None,
    timeout: float = 0.0,
) -> Repaired:
    """Make every copy of every generation whole again, from copies that verify.

    Where no copy of a generation verifies, the survivor is committed once more in its place. If
    two copies have diverged, `prefer` (a copy's letter) says which one stands. Raises `LostError`,
    with nothing touched, if no slot verifies; `NotFoundError`, `LockedError`, `DivergedError`,
    `StorageError`. If the power goes meanwhile, the survivor loads; repair again.
    """
    with _locked(path, folders, timeout) as store:
        layout, found = survey.discover(store.layout.path, folders)
        survey.refuse_if_denied(layout, found)
        if not any(slot.sound for slot in found):
            raise survey.lost(layout, found)
        aside: dict[str, str] = {}
        found = _settle_divergence(layout, found, prefer, aside)
        rewritten = _rewrite(layout, found, aside)
        committed = _fill(store)
    report = integrity.check(layout.path, folders=folders)
    return Repaired(layout.path, aside, tuple(rewritten), committed, report)


def rollback(
    path: str | os.PathLike[str],
    to: int | None = None,
    *,
    folders: Folders | None = None,
    timeout: float = 0.0,
) -> int:
    """Commit generation `to` (by default the one before the newest) again; return the new number.

    Raises `NoGenerationError` if no copy of it verifies, and what opening for writing raises.
    """
    with _locked(path, folders, timeout) as store:
        store.open()
        before = loading.previous(store.layout, store.generation) if to is None else to
        target = loading.load_locked(store.layout, before)
        return store.commit(target.payload, target.format, even_if_unchanged=True)


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
        _put_aside(slot, {})
    return integrity.recovery_of_lost(layout, bad)


@contextmanager
def _locked(
    path: str | os.PathLike[str], folders: Folders | None, timeout: float
) -> Iterator[Store]:
    """Hold the store's lock, and yield the store; never make a lock where there is no store."""
    layout, found = survey.discover(os.fspath(path), folders)
    if all(slot.state is SlotState.MISSING for slot in found):
        raise integrity.not_found(layout.path)
    store = Store(layout)
    store.lock.acquire(timeout)
    try:
        yield store
    finally:
        store.release()


def _settle_divergence(
    layout: Layout, found: list[Slot], prefer: str | None, aside: dict[str, str]
) -> list[Slot]:
    """Put aside, of each pair that diverged, what is not in the preferred copy."""
    while pair := slots.diverged(found):
        unwanted = [slot for slot in pair if slot.letter != prefer]
        if len(unwanted) != 1:
            raise divergence(layout, *pair)
        found = [_put_aside(slot, aside) if slot in unwanted else slot for slot in found]
    return found


def _rewrite(layout: Layout, found: list[Slot], aside: dict[str, str]) -> list[str]:
    """Give each flawed slot what it should hold, from a slot that verifies; return their names.

    If the power goes between the two steps, the slot is missing: another one holds the same.
    """
    rewritten = []
    wanted = slots.homes(found)
    for slot, _ in slots.flaws(found, slots.by_claim(found)[0], layout.keep):
        want = wanted.get(slot.index)
        with errors.typed(f"{slot.name} cannot be rewritten", path=layout.path, slot=slot.name):
            content = want and survey.content_of(want)
            if slot.state is not SlotState.MISSING:
                _put_aside(slot, aside)
            if want and content:
                durable.overwrite(slot.path, [content], mode_if_new=want.mode)
                rewritten.append(slot.name)
    return rewritten


def _put_aside(slot: Slot, aside: dict[str, str]) -> Slot:
    with errors.typed(f"{slot.name} cannot be put aside", path=slot.path, slot=slot.name):
        aside[slot.name] = os.path.basename(durable.put_aside(slot.path))
    return replace(slot, state=SlotState.MISSING, trailer=None, reason="put aside")


def _fill(store: Store) -> int | None:
    """Commit the survivor again where a generation is gone for good; return its last number.

    Each commit goes to a slot that is gone, since those come first: no older generation is lost.
    """
    committed = None
    loaded, _ = store.open()
    for _ in range(store.layout.keep):
        found = survey.survey_verified(store.layout)
        survivor = slots.by_claim(found)[0]
        gone = {slot.index for slot, _ in slots.flaws(found, survivor, store.layout.keep)}
        if not gone - slots.homes(found).keys():
            break
        committed = store.commit(loaded.payload, loaded.format, even_if_unchanged=True)
    return committed
