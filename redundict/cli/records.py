"""Reports as plain JSON values, for programs: one record for each store.

Numbers are numbers, times are UTC in ISO 8601, faults are the tokens of `errors.Fault`.
`docs/record.schema.json` describes the records. `SCHEMA` grows with every change that could break a
program. Made from the objects that `render` prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from redundict import errors

from . import differences, exits

if TYPE_CHECKING:
    from redundict.engine.slots import Generation, Slot
    from redundict.engine.trailer import Trailer
    from redundict.report import Report

    from .differences import Change
    from .sweep import Checked

SCHEMA: Final = 2
Record = dict[str, Any]


def checked(found: Checked) -> Record:
    """Return the record of one store of a check."""
    if not isinstance(found.result, errors.RedundictError):
        return _report(found.result)
    return _of("check", found.path) | {"exit": found.exit, "error": failure(found.result)}


def log(report: Report, changes: Mapping[int, str]) -> Record:
    """Return the record of a store's history, newest first."""
    return _of("log", report.path) | {
        "exit": exits.OF_STATE[report.state],
        "generations": [
            _content(g.number, g) | {"copies": copies(report, g), "changes": changes.get(g.number)}
            for g in report.generations
        ],
    }


def diff(path: str, old: int, new: int, changes: Iterable[Change]) -> Record:
    """Return the record of what changed between two generations."""
    listed = [differences.as_json(change) for change in changes]
    return _of("diff", path) | {"exit": 0, "old": old, "new": new, "changes": listed}


def failure(error: errors.RedundictError) -> Record:
    """Return an error as a record; `reason` is a token, `what` the sentence."""
    facts = {name: getattr(error, name) for name in ("reason", "what", "safe", "action")}
    return {"type": type(error).__name__} | facts


def copies(report: Report, generation: Generation) -> dict[str, str]:
    """Return the health of each copy of a generation, by its letter: `valid`, or the fault.

    A copy that holds another generation in its place, as it should, is left out.
    """
    holding = {slot.letter for slot in generation.slots}
    home = generation.slots[0].index
    health = {}
    for slot in report.slots:
        if slot.letter in holding:
            health[slot.letter] = "valid"
        elif slot.index == home:
            flaw = report.flaws.get(slot.name)
            if fault := flaw.fault if flaw else slot.fault:
                health[slot.letter] = str(fault)
    return dict(sorted(health.items()))


def _of(command: str, path: str) -> Record:
    return {"redundict": command, "schema": SCHEMA, "path": path}


def _report(report: Report) -> Record:
    return _of("check", report.path) | {
        "exit": exits.OF_STATE[report.state],
        "state": str(report.state),
        "generation": report.generation or None,
        "status": report.status,
        "action": report.action,
        "aside": list(report.aside),
        "leftovers": list(report.leftovers),
        "slots": [_slot(report, slot) for slot in report.slots],
    }


def _slot(report: Report, slot: Slot) -> Record:
    flaw = report.flaws.get(slot.name)
    claim = slot.trailer if slot.sound else None
    return {
        "name": slot.name,
        "path": slot.path,
        "copy": slot.letter,
        "index": slot.index,
        "state": str(slot.state),
        "fault": str(flaw.fault) if flaw else None,
        "reason": flaw.reason if flaw else None,
    } | _content(claim.generation if claim else None, claim)


def _content(number: int | None, held: Generation | Trailer | None) -> Record:
    return {
        "generation": number,
        "written": held.written.isoformat() if held else None,
        "length": held.length if held else None,
        "format": held.format if held else None,
        "sha256": held.digest if held else None,
    }
