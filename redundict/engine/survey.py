"""The look at the disk: find the slots, read their trailers, verify them.

`look` reads only the end of a slot and returns its claim. `verify` reads a slot whole. This module
turns each error of the operating system into the state of a slot, for every reader: library,
command line and scripts. It must not decide anything about slots (see `slots`).

Invariants: nothing here writes or takes a lock. A slot is "valid" only after `verify`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Final, TypeVar

from redundict import errors
from redundict.errors import Fault

from . import clock, files, places, slots, trailer
from .disk import Stat
from .layout import Copies, Layout
from .slots import Slot, SlotState

_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  #: Seconds between two looks of a reader.
_FRESH: Final = 1.0  #: Seconds since a change for which a bad slot may be a write in progress.
_STARVED: Final = 10.0  #: Seconds after which a reader gives up if it saw no sound slot.

_LARGE: Final = 8_000_000  #: Bytes of payload from which slots are verified in parallel.
_HUGE: Final = 1 << 26  #: Bytes of a slot from which it is hashed before it is read into memory.

Seen = TypeVar("Seen")


def look(slot: Slot, *, follow: bool = False) -> Slot:
    """Read the trailer of a slot; return the slot with its claim, not verified.

    Args:
        slot: The slot to look at.
        follow: True if the slot is read where a symbolic link leads to, as by a reader.

    Returns:
        The slot as it is now. An error of the file system becomes its state.

    Raises:
        NewerVersionError: If a newer version of redundict wrote it, and its digest agrees.
        StorageError: If the process has run out of descriptors or memory.

    """
    try:
        tail = files.read(slot.target or slot.path, trailer.TAIL)
    except OSError as error:
        errors.reraise_interrupt(error)
        if follow and error.errno == errno.ELOOP and not slot.target:
            followed = look(replace(slot, target=os.path.realpath(slot.path)))
            if followed.sound:  # what is bad or gone behind a link is no missing slot
                return followed
        return _unreadable(replace(slot, trailer=None), error)
    try:
        claim = trailer.parse(tail.data, tail.stat.size)
    except trailer.NewerVersion:
        return verify(slot)[0]  # the version number counts only if the digest agrees
    except trailer.TrailerError as error:
        return _invalid(slot, tail.stat, error)
    return _sound(slot, tail.stat, SlotState.CLAIMED, claim)


def is_as_known(slot: Slot) -> bool:
    """Return True if a slot still ends in its known digest, or is still missing.

    Return False if that is not certain. This costs less than `look`.
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
    """Read a slot whole and verify its digest.

    The size of a file proves nothing. So a huge slot is first hashed in pieces, and takes memory
    only if its digest agrees.

    Args:
        slot: The slot to read.

    Returns:
        The slot as it is now, and its content; None instead of the content if it does not verify.

    Raises:
        NewerVersionError: If a newer version of redundict wrote it, and its digest agrees.
        StorageError: If the process has run out of descriptors or memory.

    """
    try:
        content = files.read(slot.target or slot.path, most=_HUGE)
        if content.stat.size >= _HUGE:
            content = _read_huge(slot.target or slot.path)
        verified = trailer.verify(content.data)
    except OSError as error:
        errors.reraise_interrupt(error)
        return _unreadable(slot, error), None
    except trailer.TrailerError as error:
        return replace(_invalid(slot, content.stat, error), claimed=slot.generation), None
    except trailer.NewerVersion:
        raise errors.newer_version(slot.path) from None
    return _sound(slot, content.stat, SlotState.VALID, verified.trailer), verified


def _read_huge(path: str) -> files.Content:
    """Hash a huge slot in pieces; read it into memory if its digest agrees."""
    ending = files.ending(path, trailer.DIGEST_BYTES)
    if f"{files.digest(path, trailer.DIGEST_BYTES)}\n".encode() != ending:
        raise trailer.TrailerError(trailer.MISMATCH, Fault.DIGEST)
    return files.read(path)


def content_of(slot: Slot) -> bytes:
    """Read a slot that verified before; return its bytes if they still verify.

    Raises:
        OSError: If the file cannot be read.
        TrailerError: If the bytes do not verify, or belong to another generation now.

    """
    content = files.read(slot.path).data
    if trailer.verify(content).trailer != slot.trailer:
        raise trailer.TrailerError("it is not what it was a moment ago")
    return content


def survey(layout: Layout, *, follow: bool = False) -> list[Slot]:
    """Look at every slot of every copy, also at indexes beyond `keep`. Verify none.

    The folders may also hold slots of copies that are not in the layout. One of them may be newer,
    so they are returned as extra slots. An extra slot counts only if it has a trailer, because a
    file that is not of redundict may have the same name.

    Args:
        layout: Where to look.
        follow: True if a slot that is a symbolic link is read where it leads to.

    Returns:
        The slots of the layout, those that do not exist included, and then the extra slots.

    Raises:
        AccessError: If no folder may be listed.
        NewerVersionError: If a newer version of redundict wrote a slot.
        StorageError: If the process has run out of descriptors or memory.

    """
    kept = range(layout.keep)
    own = _own(layout, kept)
    others = _others(layout, own)
    if beyond := {index for _, _, index in others}.difference(kept):
        own = _own(layout, sorted(beyond.union(kept)))
    seen = [
        look(Slot(*place, path, SlotState.MISSING), follow=follow)
        if place[0] not in layout.away
        else _away(layout, *place)
        for path, place in own.items()
    ]
    extra = [
        look(Slot(copy, index, path, SlotState.MISSING, extra=True), follow=follow)
        for path, copy, index in others
        if path not in own
    ]
    return seen + [slot for slot in extra if slot.sound]


def survey_verified(
    layout: Layout, known: Collection[Slot] = (), *, follow: bool = False
) -> list[Slot]:
    """Look at every slot, and verify each one that has a trailer.

    Args:
        layout: Where to look.
        known: Slots that were verified already. They are returned as they are.
        follow: As in `survey`.

    Returns:
        What `survey` returns, verified.

    Raises:
        RedundictError: What `survey` raises.

    """
    before = {slot.path: replace(slot, extra=False) for slot in known}
    seen = survey(layout, follow=follow)
    verified = _verify_all([slot for slot in seen if slot.sound and slot.path not in before])
    return [
        replace(before[slot.path], extra=slot.extra)
        if slot.path in before
        else verified.get(slot.path, slot)
        for slot in seen
    ]


def _verify_all(claims: list[Slot]) -> dict[str, Slot]:
    """Verify slots; return them by path.

    Large slots are verified in parallel, since reading and hashing release Python's global lock.
    """
    claimed = sum(slot.trailer.length for slot in claims if slot.trailer)
    if claimed < _LARGE or len(claims) < 2:
        return {slot.path: verify(slot)[0] for slot in claims}
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only where it pays

    with ThreadPoolExecutor(min(len(claims), os.cpu_count() or 1)) as pool:
        return {slot.path: slot for slot in pool.map(lambda claim: verify(claim)[0], claims)}


def discover(
    path: str, copies: Copies | None = None, *, begins: bool = False, follow: bool = False
) -> tuple[Layout, list[Slot]]:
    """Find the layout of the store at `path` from its files, and verify its slots.

    The newest slot that verifies names the number of copies and generations. So a copy whose files
    are all gone is reported as missing.

    Args:
        path: The path of the store.
        copies: The number of copies or their folders, if they are known. They replace the number
            that the trailer names.
        begins: True to begin a copy in a folder of `copies` that holds nothing of the store.
        follow: As in `survey`.

    Returns:
        The layout, and every slot. If no slot verifies, the layout is that of `places.assumed`.

    Raises:
        RedundictError: What `survey` raises.
        TypeError: If `copies` is one path instead of a list.
        ValueError: If `copies` is out of bounds or names a folder twice.

    """
    layout = places.assumed(path, copies, begins=begins)
    found = survey_verified(layout, follow=follow)
    newest = next(iter(slots.by_claim(found)), None)
    if newest is None or newest.trailer is None:
        return layout, found
    claimed = places.claimed(layout, copies, newest.trailer)
    if claimed == layout:
        return layout, found
    return claimed, survey_verified(claimed, known=found, follow=follow)


def refuse_if_denied(layout: Layout, seen: Collection[Slot]) -> None:
    """Refuse to load if a slot that may not be read could hold the newest generation.

    An older generation must not be taken for the newest. A store that cannot be read must not be
    taken for a lost or an empty store (law 8).

    Args:
        layout: The layout of the store.
        seen: Every slot, as it was seen.

    Raises:
        AccessError: If every copy has a slot that may not be read, or if such a slot exists and no
            slot is sound.

    """
    denied = [slot for slot in seen if slot.denied]
    if not denied:
        return
    in_every_copy = {slot.copy for slot in denied} == set(range(layout.copies))
    if in_every_copy or not any(slot.sound for slot in seen):
        raise errors.denied(layout.path, denied[0].path, denied[0].reason)


def refuse_links(layout: Layout, seen: Iterable[Slot]) -> None:
    """Refuse to write if symbolic links lead to a newer generation than the slots hold (law 13).

    Args:
        layout: The layout of the store.
        seen: Every slot, as it was seen without following links.

    Raises:
        StorageError: If a link leads to a newer generation that verifies.

    """
    found = list(seen)
    newest = max((slot.generation for slot in found), default=0)
    for slot in found:
        if slot.fault is Fault.NOT_A_FILE and os.path.islink(slot.path):
            target = os.path.realpath(slot.path)
            if verify(replace(slot, target=target))[0].generation > newest:
                real = os.path.join(os.path.dirname(target), layout.name)
                raise errors.symbolic_links(layout.path, [slot.name], real)


def lost(layout: Layout, seen: Collection[Slot]) -> errors.RedundictError:
    """Return the error for a store in which no slot verifies. It names each slot's fault."""
    there = [slot for slot in seen if slot.state is not SlotState.MISSING]
    links = [slot for slot in there if os.path.islink(slot.path) and os.path.isfile(slot.path)]
    if links == there:
        real = os.path.join(os.path.dirname(os.path.realpath(links[0].path)), layout.name)
        return errors.symbolic_links(layout.path, [slot.name for slot in links], real)
    return errors.lost(layout.path, {slot.path: slot.reason for slot in there})


def divergence(layout: Layout, newest: Slot, others: Sequence[Slot]) -> errors.DivergedError:
    """Return the error for a store whose copies have parted.

    Args:
        layout: The layout of the store.
        newest: The newest generation. The suggested command prefers its copy.
        others: The heads of the copies that went on without it.

    """
    sides = {
        slot.letter: (slot.generation, slot.trailer.written)
        for slot in (newest, *others)
        if slot.trailer
    }
    repair = layout.command("repair", "--prefer", newest.letter)
    return errors.diverged(layout.path, others[0].name, sides, repair)


def patiently(
    attempt: Callable[[], Seen],
    slots_of: Callable[[Seen], Sequence[Slot]],
    is_whole: Callable[[Seen], bool],
) -> Seen:
    """Repeat an attempt to read as long as a writer may explain a bad slot.

    A bad slot that changed within the last second may be in the middle of a write. Damage stays, so
    this does not wait if the last change is older. It repeats for 1 second at most; if no slot was
    sound, for 10 seconds, because a fast writer may have overwritten each slot in turn.

    Args:
        attempt: Reads the slots.
        slots_of: Returns the slots of an attempt.
        is_whole: Returns True if an attempt found nothing wrong.

    Returns:
        The result of the last attempt.

    """
    wait = clock.Wait()
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        seen = attempt()
        if is_whole(seen):
            break
        found = slots_of(seen)
        limit = _FRESH if any(slot.sound for slot in found) else _STARVED
        fresh = any(clock.distance(slot.modified) < _FRESH for slot in found)
        if not fresh or wait.elapsed > limit:
            break
        wait.pause(pause)
    return seen


def _own(layout: Layout, indexes: Iterable[int]) -> dict[str, tuple[int, int]]:
    """Return the copy and index of each slot of the layout with one of `indexes`, by path."""
    return {
        layout.slot_path(copy, index): (copy, index)
        for copy in range(layout.copies)
        for index in indexes
    }


def _others(layout: Layout, known: Collection[str]) -> list[tuple[str, int, int]]:
    """Return path, copy and index of each other file in the folders that is named like a slot."""
    found = []
    prefix = f"{layout.name}."  # test it first: a folder may hold thousands of other stores
    there = [f for copy, f in enumerate(layout.folders) if copy not in layout.away]
    for folder in sorted(set(there)):
        try:
            names = files.names(folder, prefix)
        except OSError as error:
            errors.reraise_interrupt(error)
            if error.errno in files.ABSENT:
                continue
            # A newer generation may be overlooked (law 8).
            raise errors.unlisted(error, layout.path, "slot", folder) from error
        within = os.path.join(folder, "")
        others = [name for name in names if within + name not in known]
        found += [(within + n, *place) for n in others if (place := layout.parse(n))]
    return sorted(found)


def _away(layout: Layout, copy: int, index: int) -> Slot:
    """Return a slot of a copy that is away. Nothing is looked at."""
    reason = f"away: {layout.folders[copy]} holds nothing of the store; is its disk mounted?"
    path = layout.slot_path(copy, index)
    return Slot(copy, index, path, SlotState.MISSING, None, Fault.AWAY, reason)


def _sound(slot: Slot, stat: Stat, state: SlotState, claim: trailer.Trailer) -> Slot:
    place, facts = (slot.copy, slot.index, slot.path), (stat.modified, stat.changed, stat.mode)
    return Slot(
        *place,
        state,
        claim,
        None,
        "",
        *facts,
        slot.extra,
        target=slot.target,
        links=stat.links,
        owner=stat.owner,
    )


def _invalid(slot: Slot, stat: Stat, error: trailer.TrailerError) -> Slot:
    state = SlotState.TORN if error.torn else SlotState.DAMAGED
    place, facts = (slot.copy, slot.index, slot.path), (stat.modified, stat.changed, stat.mode)
    return Slot(*place, state, None, error.fault, str(error), *facts, slot.extra)


def _unreadable(slot: Slot, error: OSError) -> Slot:
    """Return the slot with the state that follows from an error of the system."""
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
