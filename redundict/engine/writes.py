"""The writes of a commit, and of the repairs that come before it.

`make_durable` and `heal` come first: the survivor may be in the page cache only, or not in every
copy. `write` is how every slot is written. Knows slots and the ledger; chooses no victim.

Invariant: nothing that loads is overwritten, but with its own bytes, before the survivor is on the
medium.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from redundict import errors

from . import files, slots, survey, trailer
from .files import Failures
from .ledger import Ledger
from .slots import Slot, SlotState
from .trailer import Trailer


@dataclass(frozen=True, slots=True)
class Healed:
    """The slots that were bad and hold the survivor now, and those that could not be written."""

    slots: list[Slot] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)


def write(
    ledger: Ledger,
    victims: Sequence[Slot],
    sealed: Trailer,
    parts: Sequence[bytes],
    survivor: Slot | None,
    *,
    afresh: bool,
) -> Failures:
    """Make slots hold `parts`, which `sealed` describes, durably.

    From its first byte until its flush has returned, a slot is not trusted (law 3), whatever
    interrupts this.

    Args:
        ledger: Notes what becomes of the slots.
        victims: The slots to write to, at most one of each copy.
        sealed: The trailer that `parts` end in.
        parts: The content of a slot.
        survivor: The newest generation, which must survive.
        afresh: Name a slot only once it is whole. Where nothing else is on the medium, a torn slot
            would be a lost store.

    Returns:
        What the system said of the slots that could not be written.

    """
    failures: Failures = {}
    writing = []
    for slot in victims:
        if refusal := _refusal(ledger, slot, survivor):
            failures[slot.path] = refusal
            continue
        mode_if_new = survivor.mode if survivor else None
        writing.append(
            files.Overwriting(slot.path, parts, ledger.mode, mode_if_new, slot.durable, afresh)
        )
        ledger.put(slots.unfinished(slot))
    failures |= files.overwrite_all(writing)
    for slot in victims:
        if slot.path not in failures:
            ledger.put(slots.written(slot, sealed))
    return failures


def make_durable(ledger: Ledger) -> Slot | None:
    """Put the survivor on the medium before its predecessor is overwritten (law 2); return it.

    Its bytes may be in the page cache only: their writer was killed before its flush; or its flush
    failed, and left pages that are marked clean, which the next flush skips (Rebello et al.,
    ATC'20). So every byte is written onto itself, and then flushed. One copy comes after the other:
    a cut in the middle of one leaves the rest.

    Raises:
        CommitError: If no copy could be written.

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
    """Write a slot's own bytes onto it, and flush them."""
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
        return {slot.path: error}
    else:
        ledger.put(replace(slot, durable=True))
    return {}


def heal(ledger: Ledger, *, older: bool = False) -> Healed:
    """Write the survivor's bytes over every bad copy of it; if `older`, the same for the others.

    Law 7: only bytes that verified are written, and what is overwritten held nothing that would
    load. Where the survivor cannot be made durable first, the healed copy will be the durable one.
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
            healed.failures[bad.path] = error
            continue
        sealed = trailer.verify(content).trailer
        afresh = not ledger.is_durable_anywhere()
        failures = write(ledger, [bad], sealed, [content], survivor, afresh=afresh)
        healed.failures.update(failures)
        healed.slots.extend([] if failures else [bad])
    return healed


def _bad_slots(ledger: Ledger, survivor: Slot, *, older: bool) -> list[tuple[Slot, Slot]]:
    """Return the slots to heal, each with a slot that holds what it should hold."""
    found = [(bad, survivor) for bad in ledger.at(survivor.index) if not bad.holds(survivor)]
    if older:
        known = list(ledger.slots.values())
        wanted = slots.homes(known)
        for flaw in slots.flaws(known, survivor, ledger.layout.keep):
            source = wanted.get(flaw.slot.index)
            if source and flaw.slot.index != survivor.index and _is_older(flaw.slot, source):
                found.append((flaw.slot, source))
    return found


def _is_older(bad: Slot, source: Slot) -> bool:
    """Tell whether a bad slot holds nothing that anybody may still want.

    It is the torn victim of an interrupted commit, or its trailer names the source's generation. A
    slot that is missing or cannot be read may hold the newest generation, and come back (law 7).
    """
    is_torn = bad.state is SlotState.TORN and not bad.is_unfinished
    return is_torn or (not bad.sound and bad.claimed == source.generation)


def _refusal(ledger: Ledger, slot: Slot, survivor: Slot | None) -> OSError | None:
    """Return why a slot is not written to: it is not ours, or its copy has nothing else."""
    if slot.state is SlotState.FOREIGN:
        return OSError(f"{slot.reason}; {ledger.layout.command('repair')} puts it aside")
    if survivor and slot.holds(survivor):  # files were swapped by hand
        home = ledger.slots[ledger.layout.slot_path(slot.copy, survivor.index)]
        if not home.holds(survivor):
            return OSError("it is the only slot of its copy that holds the newest generation")
    return None
