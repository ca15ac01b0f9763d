"""What is on disk now: looks at slots, verifies them, and changes nothing.

A look costs one small read a slot and yields a claim; only `verify` reads a slot whole. What the
operating system answers is turned into a slot's state here, once for every reader: library,
command line and scripts. Chooses nothing (see `slots`) and takes no lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Final, TypeVar

from redundict import errors
from redundict.errors import Fault

from . import files, slots, trailer
from .disk import Stat
from .layout import Copies, Layout
from .slots import Slot, SlotState

_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  #: Seconds between a reader's looks.
_FRESH: Final = 1.0  #: Seconds for which what looks wrong may be a writer at work.
_STARVED: Final = 10.0  #: Seconds after which a reader gives up that never saw a whole slot.

_LARGE: Final = 8_000_000  #: Bytes of payload from which slots are verified side by side.

Seen = TypeVar("Seen")


def look(slot: Slot) -> Slot:
    """Return what a slot claims now.

    Raises `NewerVersionError`, and `StorageError` if the process is out of handles or memory.
    """
    try:
        tail = files.read(slot.path, trailer.TAIL)
    except OSError as error:
        errors.reraise_interrupt(error)
        return _unreadable(replace(slot, trailer=None), error)
    try:
        claim = trailer.parse(tail.data, tail.stat.size)
    except trailer.NewerVersion:
        return verify(slot)[0]  # believed only with its digest
    except trailer.TrailerError as error:
        return _invalid(slot, tail.stat, error)
    return _sound(slot, tail.stat, SlotState.CLAIMED, claim)


def is_as_known(slot: Slot) -> bool:
    """Tell whether a slot still ends in the digest that it was known by, or still is not there.

    Says True only where that is certain; costs less than a look.
    """
    if slot.state is SlotState.MISSING:
        return not files.exists(slot.path)
    if slot.trailer is None:
        return False
    try:
        ending = files.ending(slot.path, trailer.DIGEST_BYTES)
    except OSError as error:
        errors.reraise_interrupt(error)
        return False
    return ending == f"{slot.trailer.digest}\n".encode()


def verify(slot: Slot) -> tuple[Slot, trailer.Verified | None]:
    """Read a slot whole; return it as it is now, with its content if that verifies.

    Raises as `look` does.
    """
    try:
        content = files.read(slot.path)
    except OSError as error:
        errors.reraise_interrupt(error)
        return _unreadable(slot, error), None
    try:
        verified = trailer.verify(content.data)
    except trailer.TrailerError as error:
        return replace(_invalid(slot, content.stat, error), claimed=slot.generation), None
    except trailer.NewerVersion:
        raise errors.newer_version(slot.path) from None
    return _sound(slot, content.stat, SlotState.VALID, verified.trailer), verified


def content_of(slot: Slot) -> bytes:
    """Return the bytes of a slot that verified, once they verify again.

    Raises `OSError` if they cannot be read, `TrailerError` if they are not what they were.
    """
    content = files.read(slot.path).data
    if trailer.verify(content).trailer != slot.trailer:
        raise trailer.TrailerError("it is not what it was a moment ago")
    return content


def survey(layout: Layout) -> list[Slot]:
    """Look at every slot of every copy, those beyond `keep` included; verify none.

    What lies beside them, of copies that the layout does not have, is looked at as well: it may be
    newer. It counts only if it has a trailer, since a stranger's file may have such a name.
    """
    kept = range(layout.keep)
    own = _own(layout, kept)
    others = _others(layout, own)
    if beyond := {index for _, _, index in others}.difference(kept):
        own = _own(layout, sorted(beyond.union(kept)))
    seen = [look(Slot(*place, path, SlotState.MISSING)) for path, place in own.items()]
    extra = [
        look(Slot(copy, index, path, SlotState.MISSING, extra=True))
        for path, copy, index in others
        if path not in own
    ]
    return seen + [slot for slot in extra if slot.sound]


def survey_verified(layout: Layout, known: Collection[Slot] = ()) -> list[Slot]:
    """Look at every slot and verify each that has a trailer, but for those `known` already."""
    before = {slot.path: replace(slot, extra=False) for slot in known}
    seen = survey(layout)
    verified = _verify_all([slot for slot in seen if slot.sound and slot.path not in before])
    return [
        replace(before[slot.path], extra=slot.extra)
        if slot.path in before
        else verified.get(slot.path, slot)
        for slot in seen
    ]


def _verify_all(claims: list[Slot]) -> dict[str, Slot]:
    """Verify slots, large ones side by side: reading and hashing hold no lock of Python's."""
    claimed = sum(slot.trailer.length for slot in claims if slot.trailer)
    if claimed < _LARGE or len(claims) < 2:
        return {slot.path: verify(slot)[0] for slot in claims}
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only where it pays

    with ThreadPoolExecutor(min(len(claims), os.cpu_count() or 1)) as pool:
        return {slot.path: slot for slot in pool.map(lambda claim: verify(claim)[0], claims)}


def discover(path: str, copies: Copies | None = None) -> tuple[Layout, list[Slot]]:
    """Return the layout of the store at `path`, from its files alone, and its slots, verified.

    How many copies and generations there should be is what the newest slot that verifies says, so
    that a copy of which every file is gone is missed. `copies` says it instead, if it is given.
    """
    layout = Layout.assumed(path, copies)
    found = survey_verified(layout)
    newest = next(iter(slots.by_claim(found)), None)
    if newest is None or newest.trailer is None:
        return layout, found
    claimed = Layout.claimed(path, copies, newest.trailer)
    if claimed == layout:
        return layout, found
    return claimed, survey_verified(claimed, known=found)


def refuse_if_denied(layout: Layout, seen: Collection[Slot]) -> None:
    """Raise `AccessError` if no copy could be looked at in full, or nothing that could is sound.

    What was not seen may be what is newest: an older generation must not pass for it, and no store
    that cannot be read may pass for a lost or an empty one.
    """
    denied = [slot for slot in seen if slot.denied]
    if not denied:
        return
    in_every_copy = {slot.copy for slot in denied} == set(range(layout.copies))
    if in_every_copy or not any(slot.sound for slot in seen):
        raise errors.denied(layout.path, denied[0].path, denied[0].reason)


def lost(layout: Layout, seen: Collection[Slot]) -> errors.LostError:
    """Return the error for a store of which nothing verifies."""
    return errors.lost(
        layout.path, {s.path: s.reason for s in seen if s.state is not SlotState.MISSING}
    )


def divergence(layout: Layout, one: Slot, other: Slot) -> errors.DivergedError:
    """Return the error for two slots with one number and different content."""
    return errors.diverged(
        layout.path,
        one.name,
        other.name,
        one.generation,
        layout.command("repair", "--prefer", one.letter),
    )


def patiently(
    attempt: Callable[[], Seen],
    slots_of: Callable[[Seen], Sequence[Slot]],
    is_whole: Callable[[Seen], bool],
) -> Seen:
    """Repeat `attempt` while what it saw may be a writer at work, and return what it saw last.

    What is not whole and changed within the last second may be in the middle of being written.
    Damage stays, so nothing is waited for where the last change is older; a reader that saw no
    sound slot at all (the writer was faster) waits longer.
    """
    started = time.monotonic()
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        seen = attempt()
        if is_whole(seen):
            break
        found = slots_of(seen)
        limit = _FRESH if any(slot.sound for slot in found) else _STARVED
        fresh = any(abs(time.time() - slot.modified) < _FRESH for slot in found)
        if not fresh or time.monotonic() - started > limit:
            break
        time.sleep(pause)
    return seen


def _own(layout: Layout, indexes: Iterable[int]) -> dict[str, tuple[int, int]]:
    """Return copy and index of each of the layout's own slots with such an index, by path."""
    return {
        layout.slot_path(copy, index): (copy, index)
        for copy in range(layout.copies)
        for index in indexes
    }


def _others(layout: Layout, known: Collection[str]) -> list[tuple[str, int, int]]:
    """Return path, copy and index of what else in the copies' folders could be a slot, by name."""
    found, refused = [], None
    prefix = f"{layout.name}."  # first, since a folder may hold thousands of other stores
    folders = sorted(set(layout.folders))
    for folder in folders:
        try:
            names = files.names(folder)
        except PermissionError as error:
            errors.reraise_interrupt(error)
            refused = error
            folders = [other for other in folders if other != folder]
            continue
        except OSError as error:
            errors.reraise_interrupt(error)
            continue  # looking at the slots themselves says what is wrong
        within = os.path.join(folder, "")
        others = [n for n in names if n.startswith(prefix) and within + n not in known]
        found += [(within + n, *place) for n in others if (place := layout.parse(n))]
    if refused and not folders:
        raise errors.unlisted(refused, layout.path, "slot") from refused
    return sorted(found)


def _sound(slot: Slot, stat: Stat, state: SlotState, claim: trailer.Trailer) -> Slot:
    place, facts = (slot.copy, slot.index, slot.path), (stat.modified, stat.changed, stat.mode)
    return Slot(*place, state, claim, None, "", *facts, slot.extra)


def _invalid(slot: Slot, stat: Stat, error: trailer.TrailerError) -> Slot:
    state = SlotState.TORN if error.torn else SlotState.DAMAGED
    place, facts = (slot.copy, slot.index, slot.path), (stat.modified, stat.changed, stat.mode)
    return Slot(*place, state, None, error.fault, str(error), *facts, slot.extra)


def _unreadable(slot: Slot, error: OSError) -> Slot:
    """Turn the system's refusal into the slot's state."""
    slot = replace(slot, trailer=None, durable=False, claimed=slot.generation)
    if error.errno in files.ABSENT:
        return replace(slot, state=SlotState.MISSING, fault=Fault.MISSING, reason="missing")
    why = errors.why(error)
    if isinstance(error, files.NotAFileError):
        return replace(slot, state=SlotState.FOREIGN, fault=Fault.NOT_A_FILE, reason=why)
    reason = f"cannot be read: {why}"
    if error.errno in files.DAMAGE:
        return replace(slot, state=SlotState.DAMAGED, fault=Fault.UNREADABLE, reason=reason)
    if error.errno in files.EXHAUSTED:
        raise errors.exhausted(error, slot.path) from error
    return replace(slot, state=SlotState.FOREIGN, fault=Fault.DENIED, reason=reason)
