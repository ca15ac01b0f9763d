"""Making slots hold what they should, durably: the writes of a commit, and the survivor's repair.

`write` is how every slot is written to: what it holds is not trusted until that is done. `settle`
and `heal` come before it, where the survivor may be in the page cache only, or not in every copy.
Knows slots and what the ledger says of them; chooses no victim.

Invariant: nothing that loads is overwritten, but with its own bytes, before the survivor is on the
medium.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from redundict import errors

from . import files as durable
from . import slots, survey, trailer
from .ledger import Ledger, Place
from .slots import Slot, SlotState

Failures = dict[str, Exception]  #: What the system said, by the path of the slot.
Seal = Callable[[], tuple[trailer.Trailer, bytes]]  #: Returns a trailer, and the bytes it ends in.


@dataclass(frozen=True, slots=True)
class Healed:
    """The slots that were bad and hold the survivor now, and those that could not be written."""

    slots: list[Slot] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)


def write(
    ledger: Ledger,
    places: list[Place],
    content: bytes,
    seal: Seal,
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
        ledger.known.add(sealed.digest)  # as ours, before anybody can meet it
        return following

    failures: Failures = {}
    files = []
    for place in places:
        if refusal := _refusal(ledger, place.slot, survivor):
            failures[place.slot.path] = refusal
            continue
        place.writing = durable.Overwriting(
            place.slot.path,
            content,
            ending,
            mode=ledger.mode,
            mode_if_new=survivor.mode if survivor else None,
            sync_size=not place.sized,
            sync_name=not place.named,
            afresh=afresh,
        )
        files.append(place.writing)
        place.distrust()
    failures |= durable.overwrite_all(files)
    for place in places:
        place.writing = None
        if place.slot.path not in failures:
            place.settle(slots.written(place.slot, seal()[0]))
    return failures


def settle(ledger: Ledger) -> Slot | None:
    """Put the survivor on the medium before anything that loads is overwritten; return it.

    Its bytes may be in the page cache only: their writer was killed before its sync; or its sync
    failed, and left pages that are marked clean, which the next sync succeeds without writing
    (Rebello et al., ATC'20). So every byte is written onto itself, and then synced. One copy after
    the other: a cut in the middle of one leaves the rest. Raises `CommitError` if none could be.
    """
    failures: Failures = {}
    survivor = ledger.survivor()
    holders = [p for p in ledger.places.values() if survivor and p.slot.holds(survivor)]
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
            raise not_written(ledger, failures, survivor)
        return settle(ledger) if holders else None
    for path in failures:
        ledger.places[path].distrust()
    return ledger.survivor()


def heal(ledger: Ledger) -> Healed:
    """Write the survivor's bytes over every bad copy of it.

    If the power goes now, what is overwritten held nothing that would load.
    """
    survivor, healed = ledger.survivor(), Healed()
    if survivor is None or survivor.trailer is None:
        return healed
    as_is = survivor.trailer, b""
    for place in ledger.at(survivor.index):
        if place.slot.holds(survivor):
            continue
        try:
            # Not before it is settled; but where it cannot be, the healed copy is what will be.
            with contextlib.suppress(errors.CommitError):
                settle(ledger)
            bad, content = place.slot, survey.content_of(survivor)
        except (OSError, trailer.TrailerError) as error:
            healed.failures[place.slot.path] = error
            continue
        afresh = ledger.knows_nothing_durable()
        failures = write(ledger, [place], content, lambda: as_is, survivor, afresh=afresh)
        healed.failures.update(failures)
        healed.slots.extend([] if failures else [bad])
    return healed


def _refusal(ledger: Ledger, slot: Slot, survivor: Slot | None) -> OSError | None:
    """Return why a slot is not written to: it is not ours, or its copy has nothing else."""
    if slot.state is SlotState.FOREIGN:
        return OSError(f"{slot.reason}; {ledger.layout.command('repair')} puts it aside")
    if survivor and slot.holds(survivor):  # files were swapped by hand
        home = ledger.places[ledger.layout.slot_path(slot.copy, survivor.index)].slot
        if not home.holds(survivor):
            return OSError("it is the only slot of its copy that holds the newest generation")
    return None


def not_written(
    ledger: Ledger, failures: Failures, survivor: Slot | None, generation: int | None = None
) -> errors.CommitError:
    """Return the error for a generation, the survivor by default, that is durable in no copy."""
    stands = survivor.generation if survivor else 0
    return errors.CommitError(
        f"no copy could be written ({listed(failures)})",
        errno=getattr(next(iter(failures.values())), "errno", None),
        path=ledger.layout.path,
        generation=stands if generation is None else generation,
        safe=f"generation {stands} stands" if survivor else "nothing was there yet",
        action="free space or mend the disk, then sync() again",
        failures={path: errors.why(error) for path, error in failures.items()},
    )


def listed(failures: Failures) -> str:
    """Return what the system said of each slot, in a line."""
    return "; ".join(f"{os.path.basename(path)}: {errors.why(e)}" for path, e in failures.items())
