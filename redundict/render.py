"""Reports as text for a person. Pure: takes the library's objects, returns strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .integrity import Report
    from .recovery import Repaired
    from .slots import Generation

TIME = "%Y-%m-%d %H:%M:%S UTC"


def report(checked: Report) -> str:
    """Return a report as a labelled head and a table of slots."""
    head = [("store", checked.path), ("state", str(checked.state)), ("status", checked.status)]
    if checked.action:
        head.append(("action", checked.action))
    folders = {slot.path.removesuffix(slot.name) for slot in checked.slots}
    rows = [("slot", "generation", "written", "bytes", "format", "state")]
    for slot in checked.slots:
        shown = slot.name if len(folders) == 1 else slot.path
        why = checked.flaws.get(slot.name)
        state = f"{slot.state}: {why}" if why and why.reason != slot.state else str(slot.state)
        facts = ("-", "-", "-", "-")
        if slot.trailer and slot.sound:
            t = slot.trailer
            facts = (str(t.generation), f"{t.written:{TIME}}", str(t.length), t.format)
        rows.append((shown, *facts, state))
    return "\n".join([*(f"{label:>7}: {text}" for label, text in head), "", table(rows)])


def log(generations: Sequence[Generation]) -> str:
    """Return the generations as a table, newest first."""
    rows = [("generation", "written", "bytes", "format", "in copies")]
    for g in generations:
        copies = " ".join(sorted({slot.letter for slot in g.slots}))
        rows.append((str(g.number), f"{g.written:{TIME}}", str(g.length), g.format, copies))
    return table(rows)


def repaired(done: Repaired) -> str:
    """Return what a repair did, a line for each thing, and the report of the store as it is now."""
    lines = [f"put aside {name} as {new}" for name, new in done.aside.items()]
    lines += [f"rewrote {name} from a copy that verifies" for name in done.rewritten]
    if done.committed:
        lines.append(f"committed the newest state that loads again, as generation {done.committed}")
    return "\n".join([*(lines or ["nothing to repair"]), "", report(done.report)])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, each as wide as its widest cell; the first row is the heading.

    >>> print(table([("a", "long"), ("wide", "b")]))
    a     long
    wide  b
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in padded)
