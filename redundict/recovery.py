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

from . import durable, integrity, loading, slots, survey
from .locking import WriterLock
from .slots import Layout, Slot, SlotState, StoreState
from .store import Store, divergence
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
    with nothing touched, if no slot verifies; `NotFoundError`, `LockedError`, `DivergedError`.
    """
    with _locked(path, folders, timeout) as (layout, found):
        if not slots.by_claim(found):
            raise survey.lost(layout, found)
        survey.refuse_if_denied(layout, found)
        aside: dict[str, str] = {}
        rewritten = _rewrite(_settle_divergence(layout, found, prefer, aside), aside)
        committed = _fill(layout, folders)
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

    Raises `NotFoundError` if no copy of it verifies, and what opening for writing raises.
    """
    with _locked(path, folders, timeout) as (layout, _):
        store = Store(layout)
        store.open()
        before = loading.previous(layout, store.generation) if to is None else to
        target = loading.load_locked(layout, before)
        return store.commit(target.payload, target.format, even_if_unchanged=True)


def put_aside_unverifiable(layout: Layout) -> None:
    """Rename every slot that is there and does not verify, so that a lost store can start anew."""
    for slot in survey.survey_verified(layout):
        if not slot.sound and slot.state is not SlotState.MISSING:
            durable.put_aside(slot.path)


@contextmanager
def _locked(
    path: str | os.PathLike[str], folders: Folders | None, timeout: float
) -> Iterator[tuple[Layout, list[Slot]]]:
    """Hold the store's lock, and yield what is there; never make a lock where there is no store."""
    layout, found = survey.discover(os.fspath(path), folders)
    if all(slot.state is SlotState.MISSING for slot in found):
        raise integrity.not_found(layout.path)
    lock = WriterLock(layout.lock_path, layout.path)
    lock.acquire(timeout)
    try:
        yield survey.discover(layout.path, folders)
    finally:
        lock.release()


def _settle_divergence(
    layout: Layout, found: list[Slot], prefer: str | None, aside: dict[str, str]
) -> list[Slot]:
    """Put aside, of each pair that diverged, what is not in the preferred copy."""
    while pair := slots.diverged(found):
        unwanted = [slot for slot in pair if slot.letter != prefer]
        if len(unwanted) == len(pair):
            raise divergence(layout, *pair)
        found = [_put_aside(slot, aside) if slot in unwanted else slot for slot in found]
    return found


def _rewrite(found: list[Slot], aside: dict[str, str]) -> list[str]:
    """Give each flawed slot the bytes of a sibling that verifies; return the names of those slots.

    If the power goes between the two steps, the slot is missing: its sibling still verifies.
    """
    rewritten = []
    for slot, _ in slots.flaws(found, slots.by_claim(found)[0]):
        siblings = slots.by_claim(other for other in found if other.index == slot.index)
        if slot.state is not SlotState.MISSING:
            _put_aside(slot, aside)
        if siblings:
            durable.overwrite(
                slot.path,
                [durable.read(siblings[0].path).data],
                mode_if_new=siblings[0].mode,
                sync_name=True,
            )
            rewritten.append(slot.name)
    return rewritten


def _put_aside(slot: Slot, aside: dict[str, str]) -> Slot:
    aside[slot.name] = os.path.basename(durable.put_aside(slot.path))
    return replace(slot, state=SlotState.MISSING, trailer=None, reason="put aside")


def _fill(layout: Layout, folders: Folders | None) -> int | None:
    """Commit the survivor again where a generation is gone for good; return its last number."""
    committed = None
    for _ in range(layout.keep):
        found = survey.discover(layout.path, folders)[1]
        if slots.judge(found, slots.by_claim(found)[0]) is StoreState.HEALTHY:
            break
        store = Store(layout)
        survivor, _ = store.open()
        committed = store.commit(survivor.payload, survivor.format, even_if_unchanged=True)
    return committed
