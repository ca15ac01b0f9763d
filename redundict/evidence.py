"""Evidence: tell whether a person edited a slot, and list what was put aside or left over.

A slot that was edited by hand does not verify, and yet its payload decodes. Only a format that runs
no code is used to find out. This module writes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from . import errors
from .engine import clock, files
from .engine.layout import Layout
from .engine.ledger import MOST_DECODED
from .engine.slots import Flaw, Slot
from .formats.resolve import safe_format

EDITED: Final = "edited by hand? Its payload still decodes"
_FORMAT: Final = re.compile(rb"redundict .* format=([\w.+-]+) ", re.ASCII)
_BESIDE: Final = re.compile(
    rf"(.+?)(?:({re.escape(files.ASIDE)}).*|({re.escape(files.NEW)})[0-9]*)", re.DOTALL
)
_AT_WORK: Final = 60.0  #: Seconds for which a writer may need a new file.
_WITHOUT_TRAILER: Final = ("json", "literal")  #: CSV would decode nearly any text.


def is_state(content: bytes) -> bool:
    r"""Return True if the bytes of a slot decode as a state, whatever its trailer says.

    >>> is_state(b'{"a": 1}\n'), is_state(b'{"a": 1')
    (True, False)
    """
    payload, _, ending = content.rstrip(b"\n").rpartition(b"\n")
    named = _FORMAT.match(ending)
    if not named:
        payload = content
    for name in [named[1].decode()] if named else _WITHOUT_TRAILER:
        if format := safe_format(name):
            try:
                format.decode(payload.rstrip(b"\n"))
            except errors.FormatError as error:
                errors.reraise_interrupt(error)
            else:
                return True
    return False


def reason(flaw: Flaw, aside: str | None = None) -> str:
    """Return the reason of a flaw, with the question for a person if somebody may have edited it.

    Args:
        flaw: A slot that is not as it should be.
        aside: The path to which the slot was put aside; None if it is where it was.

    """
    return f"{flaw.reason}; {EDITED}" if _is_edited(flaw.slot, aside) else flaw.reason


def _is_edited(slot: Slot, aside: str | None) -> bool:
    if not slot.is_readable_damage:
        return False
    try:
        content = files.read(aside or slot.path, most=MOST_DECODED).data
    except OSError as error:
        errors.reraise_interrupt(error)
        return False
    return is_state(content)


def put_aside(layout: Layout) -> list[str]:
    """Return the paths of the files that were put aside beside the slots of a store."""
    return [path for path, kind in _beside(layout) if kind == files.ASIDE]


def left_over(layout: Layout) -> list[str]:
    """Return the paths of the new files that killed writers left beside a store.

    A file that changed a moment ago may belong to a writer that is at work.
    """
    found = [path for path, kind in _beside(layout) if kind == files.NEW]
    modified = ((path, files.plain_modified(path)) for path in found)
    return [path for path, when in modified if when and clock.distance(when) > _AT_WORK]


def _beside(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the path of each file beside the slots that nothing reads, and what it is."""
    for folder in sorted(set(layout.folders)):
        try:
            names = files.names(folder, f"{layout.name}.")
        except OSError as error:
            errors.reraise_interrupt(error)
            continue
        for name in sorted(names):
            match = _BESIDE.fullmatch(name)
            if match and (layout.parse(match[1]) or match[1] == f"{layout.name}.copies"):
                yield os.path.join(folder, name), match[2] or match[3]
