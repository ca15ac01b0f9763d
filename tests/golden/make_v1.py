"""Makes the golden files of version 1. They were made once, and this is never run again for v1.

It is kept to show how they came to be, and as the pattern for the next version, which adds a script
and a folder of its own: the files of every version must load for ever (`tests/test_golden.py`).

    python -m tests.golden.make_v1 EMPTY_FOLDER
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import redundict
from tests.inside import trailer

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class FixedTime(datetime):
    """A clock that is a minute later each time it is asked."""

    minutes: Iterator[int]

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # noqa: ARG003
        return START + timedelta(minutes=next(cls.minutes))


def make(path: str, states: list[dict[Any, Any]], **options: Any) -> None:
    """Make a store of one generation per state."""
    FixedTime.minutes = iter(range(100))
    with (
        mock.patch.object(trailer, "datetime", FixedTime),
        redundict.open(path, **options) as store,
    ):
        for state in states:
            store.clear()
            store.update(state)
            store.sync()
    os.remove(f"{path}.lock")


def add_field(path: str, field: bytes) -> None:
    """Put a field of a later minor version into a slot, and sign it."""
    with open(path, "r+b") as file:
        slot = file.read()
        head = slot[: -trailer.DIGEST_BYTES].replace(b" sha256=", b" " + field + b" sha256=")
        head = head.replace(b"\n" * (1 + len(field)), b"", 1)  # the size stays the same
        file.seek(0)
        file.write(head + hashlib.sha256(head).hexdigest().encode() + b"\n")


def main(folder: str) -> None:
    """Make every golden store of version 1."""
    if os.listdir(folder):
        raise SystemExit(f"{folder} is not empty: golden files are made once")

    def path(name: str) -> str:
        return os.path.join(folder, name)

    nested = {"größe": [1, -2.5, 1e300, None, True, {"深": {"": []}}], "\U0001f600": "a\nb\0c"}
    make(path("unicode.json"), [{}, {"\ud800": "lone \udfff"}, nested], keep=3)
    make(path("rows.csv"), [{"a": "1,5", 'say "x"': "two\nlines", "": ""}], format="csv")
    make(path("objects.pickle"), [{(1, 2): {3}, None: b"\xff", "t": START}], format="pickle")
    make(path("kept.json"), [{"n": n} for n in range(1, 6)], keep=3)
    make(path("grown.json"), [{"x": "y" * size} for size in (3000, 4000, 40_000)])
    make(path("three.json"), [{"n": 1}, {"n": 2}], copies=3)
    make(path("later.json"), [{"n": 1}])
    for copy in "ab":
        add_field(path(f"later.json.{copy}0"), b"colour=green")


if __name__ == "__main__":
    main(*sys.argv[1:])
