"""The writes of a commit: make the survivor durable, heal its copies, write the victims.

`make_durable` and `heal` run first, because the survivor may be in the page cache only, or not in
every copy. `write` then writes slots of any kind. This module must not choose a victim.

Invariant: before the survivor is durable, a slot that loads is overwritten only with its own bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from redundict import errors
from redundict.errors import Fault

from . import files, slots, survey, trailer
from .files import Failures
from .ledger import Ledger
from .lineage import NO_BRANCH
from .slots import Slot, SlotState
from .trailer import Trailer

_ASIDE: Final = 3  #: Damaged files that stay for each slot after they were put aside.


@dataclass(frozen=True, slots=True)
class Healed:
    """The result of `heal`.

    Attributes:
        slots: The slots that were bad and were rewritten, as they were before.
        failures: The errors of the slots that could not be written, by path.
        aside: The new path of each slot that was put aside first.

    """

    slots: list[Slot] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)


def write(
    ledger: Ledger,
    victims: Sequence[Slot],
    sealed: Trailer,
    parts: Sequence[bytes],
    survivor: Slot | None,
    *,
    afresh: bool = False,
) -> Failures:
    """Write the same content to slots and flush it.

    The ledger records each slot as unfinished before its first byte is written, and as durable
    after its flush (law 3). So no interrupt leaves a trusted slot that is not whole.

    Args:
        ledger: Records the new state of each slot.
        victims: The slots to write, at most one of each copy.
        sealed: The trailer at the end of `parts`.
        parts: The content of a slot, in pieces.
        survivor: The newest generation that verifies, which must survive. None if there is none.
            Then a torn slot would be a lost store, so new files are written.
        afresh: Write a new file, and give it the slot's name only when it is whole.

    Returns:
        The errors of the slots that could not be written, by path.

    """
    failures: Failures = {}
    writing = []
    mode_if_new, owner = (survivor.mode, survivor.owner) if survivor else (None, None)
    for slot in victims:
        if refusal := _refusal(ledger, slot, survivor):
            failures[slot.path] = refusal
            continue
        keep_old = bool(ledger.evidence or slot.trailer is None) and ledger.is_wanted(slot)
        if keep_old:  # also if this write fails
            ledger.evidence.add(slot.path)
        is_new = afresh or keep_old or survivor is None
        if is_new or slot.links > 1:
            remove_leftovers(slot.path, ledger.slots.values(), survivor)
        facts = ledger.mode, mode_if_new, owner, slot.durable, is_new, keep_old
        writing.append(files.Overwriting(slot.path, parts, *facts))
        ledger.put(slots.unfinished(slot))
    failures |= files.overwrite_all(writing)
    for file in writing:
        ledger.signatures[file.path] = file.signature
        if file.aside:
            ledger.aside[file.path] = file.aside
            thin_out_aside(file.path)
    for slot in victims:
        if slot.path not in failures:
            ledger.put(slots.written(slot, sealed, mode_if_new))
            ledger.evidence.discard(slot.path)
    return failures


def remove_leftovers(path: str, known: Iterable[Slot], survivor: Slot | None) -> None:
    """Remove what killed writers left beside a slot, if it holds nothing that is not known.

    A leftover is removed if its bytes are the beginning of a slot that verifies, or if it is a
    whole slot from which the survivor grew. Anything else may belong to somebody, and stays: also
    the torn rest of a generation that was never committed, because nothing proves what it is.

    Args:
        path: The path of the slot.
        known: The slots of the store. Those that verify count.
        survivor: The newest generation that verifies; None if there is none.

    """
    if not files.exists(f"{path}{files.NEW}"):
        return
    sound = [slot for slot in known if slot.sound]
    sizes = [facts[2] for slot in sound if (facts := files.signature(slot.path))]

    def is_known(data: bytes) -> bool:
        is_part = bool(data) and any(_begins(slot, data) for slot in sound)
        return is_part or _is_superseded(data, survivor)

    owner = survivor.owner if survivor else None
    files.remove_leftovers(path, is_known, most=max(sizes, default=0) + 1, owner=owner)


def _begins(slot: Slot, data: bytes) -> bool:
    """Return True if a slot verifies and begins with some bytes."""
    try:
        return survey.content_of(slot).startswith(data)
    except trailer.TrailerError:
        return False
    except OSError as error:
        errors.reraise_interrupt(error)
        return False


def _is_superseded(data: bytes, survivor: Slot | None) -> bool:
    """Return True if some bytes are a whole slot from which the survivor grew."""
    try:
        found = trailer.verify(data).trailer
    except (trailer.TrailerError, trailer.NewerVersion):
        return False
    if survivor is None or NO_BRANCH in (found.line.branch, survivor.line.branch):
        return False
    return survivor.line.covers(survivor.generation, found.line, found.generation)


def thin_out_aside(path: str) -> None:
    """Remove damaged files that were put aside for a slot, if there are more than three.

    The newest three stay, and of equal ones the oldest. A file that verifies is never removed,
    since it may be of another branch (law 7).

    Args:
        path: The path of the slot.

    """
    folder, name = os.path.split(path)
    try:
        aside = sorted(files.names(folder, name + files.ASIDE))
        kept: dict[str, str] = {}
        for candidate in (os.path.join(folder, each) for each in aside):
            if not survey.verify(Slot(0, 0, candidate, SlotState.MISSING))[0].sound:
                digest = files.digest(candidate, 0)
                if digest in kept:
                    files.remove(candidate)
                else:
                    kept[digest] = candidate
        for candidate in list(kept.values())[:-_ASIDE]:
            files.remove(candidate)
    except (OSError, errors.NewerVersionError) as error:  # the next time will do
        errors.reraise_interrupt(error)


def make_durable(ledger: Ledger) -> Slot | None:
    """Make the survivor durable before its predecessor is overwritten (law 2).

    The survivor may be in the page cache only. Its writer may have been killed before the flush. Or
    the flush failed and left pages that are marked clean, which the next flush skips (Rebello et
    al., ATC'20). So every byte is written again and then flushed. The copies are written one after
    the other. If the power fails during one of them, the others are whole.

    Args:
        ledger: Names the survivor, and records the new state of its slots.

    Returns:
        The survivor; None if no slot verifies.

    Raises:
        CommitError: If no copy of it could be written.

    """
    while (survivor := ledger.survivor()) is not None:
        failures: Failures = {}
        for slot in ledger.holders(survivor):
            if not (slot.durable or slot.extra):
                failures |= _rewrite(ledger, slot)
        holders = ledger.holders(survivor)
        if any(slot.durable or slot.extra for slot in holders):
            for path in failures:
                ledger.put(slots.unfinished(ledger.slots[path]))
            break
        if failures:
            number = survivor.generation
            raise errors.not_written(ledger.layout.path, failures, number, number)
    return ledger.survivor()


def _rewrite(ledger: Ledger, slot: Slot) -> Failures:
    """Write the bytes of a slot onto themselves, and flush them."""
    if slot.links > 1:
        remove_leftovers(slot.path, [slot], slot)
    try:
        files.overwrite(slot.path, survey.content_of(slot))
    except trailer.TrailerError as error:
        ledger.put(
            replace(
                slot, state=SlotState.DAMAGED, trailer=None, fault=error.fault, reason=f"{error}"
            )
        )
    except OSError as error:
        errors.reraise_interrupt(error)
        return {slot.path: errors.detached(error)}
    else:
        ledger.put(replace(slot, durable=True))
    return {}


def heal(ledger: Ledger, *, older: bool = False) -> Healed:
    """Rewrite every bad copy of the survivor from a copy that verifies (law 7).

    First make the survivor durable. If that fails, go on: the copy that is written next will be the
    durable one. If the power fails meanwhile, the survivor still loads from the other copy.

    Args:
        ledger: Names the slots, and records their new state.
        older: Also rewrite bad copies of older generations (law 10).

    Returns:
        The slots that were healed, and those that could not be written.

    """
    survivor, healed = ledger.survivor(), Healed()
    if survivor is None or not _bad_slots(ledger, survivor, older=older):
        return healed
    with contextlib.suppress(errors.CommitError):
        make_durable(ledger)
    survivor = ledger.survivor()
    for bad, source in _bad_slots(ledger, survivor, older=older) if survivor else ():
        try:
            content = survey.content_of(source)
        except trailer.TrailerError as error:
            healed.failures[bad.path] = OSError(str(error))
            continue
        except OSError as error:
            errors.reraise_interrupt(error)
            healed.failures[bad.path] = errors.detached(error)
            continue
        sealed = trailer.verify(content).trailer
        is_returning = bad.letter in survivor.line.without if survivor else False
        afresh = is_returning or not ledger.is_durable_anywhere()
        failures = write(ledger, [bad], sealed, [content], survivor, afresh=afresh)
        healed.failures.update(failures)
        healed.slots.extend([] if failures else [bad])
    return healed


def _bad_slots(ledger: Ledger, survivor: Slot, *, older: bool) -> list[tuple[Slot, Slot]]:
    """Return the slots to heal, each with a slot that holds the right content."""
    found = [
        (bad, survivor)
        for bad in ledger.at(survivor.index)
        if not bad.holds(survivor) or bad.links > 1
    ]
    if older:
        known = list(ledger.slots.values())
        wanted = slots.homes(known)
        for flaw in slots.flaws(known, survivor, ledger.layout.keep):
            bad, source = flaw.slot, wanted.get(flaw.slot.index)
            if bad.index == survivor.index:
                continue
            if flaw.fault is Fault.LINKED:
                found.append((bad, bad))  # written again, it has one name
            elif source and _is_older(bad, source):
                found.append((bad, source))
    return found


def _is_older(bad: Slot, source: Slot) -> bool:
    """Return True if a bad slot cannot hold a newer state, so it may be overwritten.

    Such a slot is missing, or the torn victim of an interrupted commit, or its trailer names the
    generation of the source. A slot that is unreadable may come back with the newest generation.
    """
    is_torn = bad.state is SlotState.TORN and not bad.is_unfinished
    is_torn = is_torn or bad.fault is Fault.MISSING
    return is_torn or (not bad.sound and bad.claimed == source.generation)


def _refusal(ledger: Ledger, slot: Slot, survivor: Slot | None) -> OSError | None:
    """Return an error for a slot that must not be written; None for any other slot.

    Its copy is away, it is not ours, or it is the only slot of its copy that holds the survivor.
    """
    if slot.copy in ledger.read_only:
        return OSError(errno.EROFS, "its folder cannot be locked for writing", slot.path)
    if slot.copy in ledger.layout.away:
        return OSError(f"away: {os.path.dirname(slot.path)} held nothing at opening")
    if slot.state is SlotState.FOREIGN:
        return OSError(f"{slot.reason}; {ledger.layout.command('repair')} puts it aside")
    if survivor and slot.holds(survivor):  # files were swapped by hand
        home = ledger.slots[ledger.layout.slot_path(slot.copy, survivor.index)]
        if not home.holds(survivor):
            return OSError("it is the only slot of its copy that holds the newest generation")
    return None
