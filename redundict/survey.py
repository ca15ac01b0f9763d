"""What is on disk now: looks at slots, verifies them, and changes nothing.

A look costs one small read a slot and yields a claim; only `verify` reads a slot whole. What the
operating system answers is turned into a slot's state here, once for every reader: library,
command line and scripts. Chooses nothing (see `slots`) and takes no lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Final, TypeVar

from . import durable, errors, slots, trailer
from .slots import Layout, Slot, SlotState

_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  #: Seconds between a reader's looks.
_FRESH: Final = 1.0  #: Seconds for which a slot that does not verify may be one being written.
_STARVED: Final = 10.0  #: Seconds after which a reader gives up that never saw a whole slot.

Seen = TypeVar("Seen")
Folders = Sequence[str | os.PathLike[str]]


def look(layout: Layout, copy: int, index: int) -> Slot:
    """Return what a slot claims.

    Raises `NewerVersionError`, and `StorageError` if the process is out of handles or memory.
    """
    path = layout.slot_path(copy, index)
    slot = Slot(copy, index, path, SlotState.MISSING, reason="missing")
    try:
        tail = durable.read(path, trailer.LIMIT)
    except OSError as error:
        return _unreadable(slot, error)
    slot = replace(slot, modified=tail.stat.modified, mode=tail.stat.mode)
    try:
        claim = trailer.parse(tail.data, tail.stat.size)
    except trailer.NewerVersion:
        return verify(slot)[0]  # a version is believed only with its digest
    except trailer.TrailerError as error:
        return _invalid(slot, error)
    return replace(slot, state=SlotState.CLAIMED, trailer=claim, reason="")


def verify(slot: Slot) -> tuple[Slot, trailer.Verified | None]:
    """Read a slot whole; return it as it is now, with its content if that verifies.

    Raises as `look` does.
    """
    try:
        content = durable.read(slot.path)
    except OSError as error:
        return _unreadable(slot, error), None
    slot = replace(slot, modified=content.stat.modified, mode=content.stat.mode)
    try:
        verified = trailer.verify(content.data)
    except trailer.TrailerError as error:
        return _invalid(slot, error), None
    except trailer.NewerVersion:
        raise errors.NewerVersionError(
            f"{slot.name} was written by a newer redundict",
            path=slot.path,
            slot=slot.name,
            safe="nothing was changed",
            action="pip install --upgrade redundict",
        ) from None
    return replace(slot, state=SlotState.VALID, trailer=verified.trailer, reason=""), verified


def survey(layout: Layout) -> list[Slot]:
    """Look at every slot of every copy, those beyond `keep` included; verify none."""
    indexes = set(range(layout.keep)) | {index for _, index in _on_disk(layout)}
    return [look(layout, copy, index) for copy in range(layout.copies) for index in sorted(indexes)]


def survey_verified(layout: Layout) -> list[Slot]:
    """Look at every slot of every copy, and verify each that has a trailer."""
    return [verify(slot)[0] if slot.sound else slot for slot in survey(layout)]


def layout_of(path: str, folders: Folders | None = None) -> Layout:
    """Return the layout of the store at `path`, as far as the names of its files tell.

    `folders` are the copies', where they are not all beside `path`.
    """
    if folders is not None:
        return Layout.of(path, folders, trailer.MIN_KEEP)
    layout = Layout.of(path, len(slots.LETTERS), trailer.MIN_KEEP)
    copies = 1 + max((copy for copy, _ in _on_disk(layout)), default=0)
    return replace(layout, folders=layout.folders[:copies])


def discover(path: str, folders: Folders | None = None) -> tuple[Layout, list[Slot]]:
    """Return the layout of the store at `path`, from its files alone, and its slots, verified.

    How many copies and generations there should be is what the newest slot that verifies says, so
    that a copy of which every file is gone is missed.
    """
    layout = layout_of(path, folders)
    found = survey_verified(layout)
    newest = next(iter(slots.by_claim(found)), None)
    if newest is None or newest.trailer is None:
        return layout, found
    copies = layout.copies if folders else max(layout.copies, newest.trailer.copies)
    layout = Layout.of(layout.path, folders or copies, newest.trailer.keep)
    seen = {(slot.copy, slot.index) for slot in found}
    return layout, found + [s for s in survey(layout) if (s.copy, s.index) not in seen]


def refuse_if_denied(layout: Layout, seen: Iterable[Slot]) -> None:
    """Raise `AccessError` if no copy could be looked at in full.

    What was not seen may be what is newest: an older generation must not pass for it, and no store
    that cannot be read may pass for an empty one.
    """
    denied = [slot for slot in seen if slot.denied]
    if {slot.copy for slot in denied} == set(range(layout.copies)):
        raise errors.AccessError(
            f"{denied[0].name} {denied[0].reason}",
            path=layout.path,
            slot=denied[0].name,
            safe="nothing was changed, and the store is not taken for empty",
            action=f"make {denied[0].path} readable, then try again",
        )


def lost(layout: Layout, seen: Iterable[Slot]) -> errors.LostError:
    """Return the error for a store of which nothing verifies."""
    reasons = {slot.path: slot.reason for slot in seen if slot.state is not SlotState.MISSING}
    listed = "; ".join(f"{os.path.basename(path)}: {reason}" for path, reason in reasons.items())
    return errors.LostError(
        f"no slot verifies ({listed})",
        path=layout.path,
        safe="nothing was overwritten; every slot is as it was found",
        action=f"{layout.command('check')}; restore a slot from a backup, or start anew with "
        "flag 'n', which puts these slots aside first",
        slots=reasons,
    )


def patiently(attempt: Callable[[], Seen], slots_of: Callable[[Seen], Iterable[Slot]]) -> Seen:
    """Repeat `attempt` while what it saw may be a writer at work, and return what it saw last.

    A slot that does not verify and changed within the last second may be one that is being
    written. Damage stays, so nothing is waited for where the damage is older than that; a reader
    that saw no whole slot at all (the writer was faster) waits longer.
    """
    started = time.monotonic()
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        seen = attempt()
        found = list(slots_of(seen))
        bad = [slot for slot in found if slot.state in (SlotState.TORN, SlotState.DAMAGED)]
        limit = _FRESH if any(slot.sound for slot in found) else _STARVED
        fresh = any(abs(time.time() - slot.modified) < _FRESH for slot in bad)
        if not fresh or time.monotonic() - started > limit:
            return seen
        time.sleep(pause)
    raise AssertionError("unreachable: the pauses do not end")


def _on_disk(layout: Layout) -> set[tuple[int, int]]:
    """Return the copies and indexes that the names in the copies' folders stand for."""
    found = set()
    for copy, folder in enumerate(layout.folders):
        try:
            names = durable.names(folder)
        except OSError:
            continue  # looking at the slots themselves says what is wrong
        found |= {key for name in names if (key := layout.parse(name)) and key[0] == copy}
    return found


def _invalid(slot: Slot, error: trailer.TrailerError) -> Slot:
    state = SlotState.TORN if error.torn else SlotState.DAMAGED
    return replace(slot, state=state, reason=str(error))


def _unreadable(slot: Slot, error: OSError) -> Slot:
    """Turn the system's refusal into the slot's state."""
    why = errors.why(error)
    if isinstance(error, durable.NotAFileError):
        return replace(slot, state=SlotState.FOREIGN, reason=why)
    if error.errno in durable.ABSENT:
        return replace(slot, state=SlotState.MISSING, trailer=None, reason="missing")
    if error.errno in durable.DAMAGE:
        return replace(slot, state=SlotState.DAMAGED, reason=f"cannot be read: {why}")
    if error.errno in durable.EXHAUSTED:
        raise errors.refusal(
            error,
            f"{slot.name} cannot be opened",
            path=slot.path,
            slot=slot.name,
            safe="nothing was changed",
            action="close files that this program holds open, then try again",
        ) from error
    return replace(
        slot, state=SlotState.FOREIGN, reason=f"may not be looked at: {why}", denied=True
    )
