"""Evidence: tell whether a person edited a slot, and list the files that were put aside.

A slot that was edited by hand does not verify, and yet its payload decodes. Only a format that runs
no code is used to find out. This module writes nothing.
"""

from __future__ import annotations

import os
import re
from typing import Final

from . import errors
from .engine import files
from .engine.layout import Layout
from .engine.ledger import MOST_DECODED
from .engine.slots import Flaw, Slot
from .formats.resolve import safe_format

EDITED: Final = "edited by hand? Its payload still decodes"
_FORMAT: Final = re.compile(rb"redundict .* format=([\w.+-]+) ", re.ASCII)
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
    found = []
    for folder in sorted(set(layout.folders)):
        try:
            names = files.names(folder, f"{layout.name}.")
        except OSError as error:
            errors.reraise_interrupt(error)
            continue
        aside = [name.partition(files.ASIDE)[::2] for name in names if files.ASIDE in name]
        found += [
            os.path.join(folder, name + files.ASIDE + when)
            for name, when in sorted(aside)
            if layout.parse(name)
        ]
    return found
