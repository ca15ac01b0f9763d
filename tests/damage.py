"""Ways to damage a slot, for every test that needs one. Slots are aged.

Where something is wrong and any slot changed within the last second, a reader looks again, since a
writer may be at work. A store whose slots are all aged is not waited for.
"""

from __future__ import annotations

import os
import time

LONG_AGO = 3600


def age(path: str) -> None:
    """Make a file one that was last changed an hour ago."""
    then = time.time() - LONG_AGO
    os.utime(path, (then, then))


def flip(path: str, offset: int, bits: int = 1) -> None:
    """Flip bits of the byte at `offset` (negative: from the end)."""
    with open(path, "r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ bits]))
    age(path)


def truncate(path: str, size: int) -> None:
    """Cut a file short."""
    os.truncate(path, size)
    age(path)


def overwrite(path: str, content: bytes) -> None:
    """Replace a file's content."""
    with open(path, "wb") as file:
        file.write(content)
    age(path)


def remove(path: str) -> None:
    """Delete a file."""
    os.remove(path)


def read(path: str) -> bytes:
    """Return a file's content."""
    with open(path, "rb") as file:
        return file.read()
