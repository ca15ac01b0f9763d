"""Reports and errors as text for a person. Pure: takes the library's objects, returns strings.

Every text that may hold a path or a stored value goes through `plain`, so nothing in a file or in
its name can control the terminal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from redundict import errors
from redundict.engine import trailer
from redundict.engine.slots import StoreState

from . import records
from .differences import plain, shown
from .exits import Exit

if TYPE_CHECKING:
    from redundict.recovery import Repair, Repaired
    from redundict.report import Report

    from .sweep import Checked

_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_SPREAD: Final = 60  #: Characters of the line that draws how generations are spread out.


def failure(error: errors.RedundictError) -> str:
    """Return an error as three lines: what happened, what is safe and what to do next.

    The command stands alone on its line, ready to be pasted. A line without content is left out.

    >>> from redundict.errors import ClosedError
    >>> print(failure(ClosedError("the store is closed", path="s.json", action="open it again")))
    error: s.json: the store is closed
    next: open it again
    """
    what = f"{error.path}: {error.what}" if error.path else error.what
    facts = (("error", what), ("safe", error.safe), ("next", error.action))
    return "\n".join(f"{label}: {plain(fact)}" for label, fact in facts if fact)


def checked(found: Checked) -> str:
    """Return what a check found: the report of a store, or the error that ended the check."""
    result = found.result
    return failure(result) if isinstance(result, errors.RedundictError) else report(result)


def report(checked: Report) -> str:
    """Return a report as a labelled head and a table of slots."""
    folders = {slot.path.removesuffix(slot.name) for slot in checked.slots}
    rows = [("slot", "generation", "written", "bytes", "format", "state")]
    for slot in checked.slots:
        name = slot.name if len(folders) == 1 else slot.path
        why = checked.flaws.get(slot.name)
        state = f"{slot.state}: {why}" if why and why.reason != slot.state else str(slot.state)
        facts = ("-", "-", "-", "-")
        if slot.trailer and slot.sound:
            t = slot.trailer
            facts = (str(t.generation), local(t.written), str(t.length), t.format)
        rows.append((name, *facts, state))
    aside = [f"put aside: {plain(path)}" for path in checked.aside]
    aside += [f"left over: {plain(path)}" for path in checked.leftovers]
    return "\n".join([head(checked), "", table(rows), *([""] if aside else []), *aside])


def head(checked: Report) -> str:
    """Return the state of a store and what to do about it, in labelled lines."""
    facts = (checked.path, str(checked.state), checked.status, checked.action)
    labelled = zip(("store", "state", "status", "action"), facts, strict=True)
    return "\n".join(f"{label:>7}: {plain(fact)}" for label, fact in labelled if fact)


def counted(codes: Mapping[Exit, int]) -> str:
    """Return how many stores have which exit code.

    >>> counted({Exit.OK: 1998, Exit.LOST: 2})
    '2,000 stores: 1,998 healthy, 2 lost'
    """
    words = {code: code.name.lower().replace("_", " ") for code in Exit} | {Exit.OK: "healthy"}
    found = (f"{codes[code]:,} {word}" for code, word in words.items() if codes.get(code))
    return f"{sum(codes.values()):,} stores: {', '.join(found)}"


def log(checked: Report, changes: Mapping[int, str], now: datetime | None = None) -> str:
    """Return the generations as a table, newest first, and how they are spread out over time."""
    now = now or trailer.now()
    generations = checked.generations
    health = [records.copies(checked, g) for g in generations]
    letters = sorted({letter for copies in health for letter in copies})
    rows = [("generation", "written", "age", "bytes", "format", *letters, "changes")]
    for g, copies in zip(generations, health, strict=True):
        facts = (str(g.number), local(g.written), age((now - g.written).total_seconds()))
        state = (copies.get(letter, "-") for letter in letters)
        rows.append((*facts, str(g.length), g.format, *state, changes.get(g.number, "")))
    lines = [table(rows)]
    if checked.state is not StoreState.HEALTHY:  # a generation that does not load has no line
        lines = [head(checked), "", *lines]
    if len(generations) > 2:
        lines += ["", spread([(now - g.written).total_seconds() for g in generations])]
    return "\n".join(lines)


def spread(ages: Sequence[float]) -> str:
    """Return a line with a mark for each age in seconds, on a logarithmic scale.

    >>> spread([1, 60, 3600, 86400])
    'now |*--------------------*---------------------*---------------*| 1 d ago'
    """
    youngest, oldest = max(min(ages), 1.0), max(*ages, 2.0)
    line = ["-"] * _SPREAD
    for each in ages:
        along = math.log(max(each, youngest) / youngest) / math.log(oldest / youngest or 2)
        line[round(along * (_SPREAD - 1))] = "*"
    return f"now |{''.join(line)}| {age(oldest)} ago"


def age(seconds: float) -> str:
    """Return a span of time in its largest unit.

    >>> age(59), age(150), age(7200), age(200000), age(-3)
    ('59 s', '2 min', '2 h', '2 d', '0 s')
    """
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return "0 s"


def local(when: datetime) -> str:
    """Return a time in the time zone of this machine; in UTC if the system cannot convert it."""
    try:
        there = when.astimezone()
    except (OSError, OverflowError, ValueError):  # Windows, from the year 3001 on
        there = when
    return there.strftime("%Y-%m-%d %H:%M:%S %Z").rstrip()


def payload(content: bytes, format: str) -> str:
    """Return a payload as lines that are safe for a terminal."""
    if format == "json":
        try:
            return json.dumps(json.loads(content), indent=2, ensure_ascii=True)
        except (ValueError, RecursionError):
            return shown(content)
    if format in ("csv", "literal"):
        line_end = "\r\n" if format == "csv" else "\n"
        return "\n".join(map(plain, content.decode("utf-8", "replace").split(line_end)))
    return f"({len(content)} bytes of {format}; a pipe or a file gets them unchanged)"


def repaired(done: Repaired) -> str:
    """Return what a repair did, line by line, and the report of the store as it is now."""
    lines = [f"put aside {plain(name)} as {plain(new)}" for name, new in done.aside.items()]
    lines += [f"rewrote {plain(name)} from a copy that verifies" for name in done.rewritten]
    if done.committed:
        lines.append(f"committed the state that loads once more, as generation {done.committed}")
    return "\n".join([*(lines or ["nothing to repair"]), "", report(done.report)])


def plan(prepared: Repair) -> str:
    """Return what a repair would do, line by line."""
    lines = [f"would put aside {plain(slot.name)}" for slot in prepared.aside]
    lines += [
        f"would rewrite {plain(slot.name)} from {plain(source.name)}"
        if source is not slot
        else f"would give {plain(slot.name)} a file of its own"
        for slot, source in prepared.rewrite
    ]
    if prepared.gone or prepared.above:
        lines.append("would commit the state that loads once more")
    return "\n".join([*(lines or ["nothing to repair"]), "Nothing was changed."])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, each as wide as its widest cell; the first row is the heading.

    >>> print(table([("a", "long"), ("wide", "b")]))
    a     long
    wide  b
    """
    rows = [tuple(map(plain, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in padded)
