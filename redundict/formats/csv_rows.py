"""Store a dict of texts as CSV rows.

Invariant: a state that `encode` accepts is decoded to an equal state; every key and value is
exactly a str.
"""

from __future__ import annotations

import csv
import io

from redundict import errors

from .refusals import ROOT, OnSubclass, State, convert, described, shown, undecodable, unstorable
from .subclasses import Told, plain_value


class CsvFormat:
    """CSV text in UTF-8: one ``key,value`` row for each item, both of them str.

    Args:
        on_subclass: None refuses a subclass of str. Otherwise its plain text is stored, and this
            is called with the item's path and the key or value.

    """

    name = "csv"

    def __init__(self, on_subclass: OnSubclass | None = None) -> None:
        self._on_subclass = on_subclass

    def encode(self, state: State) -> bytes:
        """Return the payload; see `Format.encode`."""
        told: Told = []
        rows = [(self._text(k, k, told), self._text(k, v, told)) for k, v in dict(state).items()]
        if self._on_subclass and len(dict(rows)) != len(rows):
            raise unstorable(ROOT, "two of its keys would come back as one", self.name)
        text = io.StringIO(newline="")
        # Not "\n": Python before 3.13 quotes a "\r" only if the line terminator has one.
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        payload = text.getvalue().encode()
        if self._on_subclass:
            for item, value in told:
                self._on_subclass(item, value)
        return payload

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`."""
        try:
            rows = list(csv.reader(io.StringIO(payload.decode(), newline=""), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            errors.reraise_interrupt(error)
            raise undecodable(self.name, error) from error
        if any(len(row) != 2 for row in rows):
            raise undecodable(self.name, "a row has not exactly two fields")
        state = dict(rows)
        if len(state) != len(rows):
            raise undecodable(self.name, "a key stands there twice")
        return state

    def _text(self, key: object, value: object, told: Told) -> str:
        """Return a key, or the value under it, as a plain str; raise if it would change."""
        text = value
        if type(text) is not str and self._on_subclass:
            text = plain_value(text, (str,))
        if type(text) is not str:
            why = f"{described(value)} would come back as a str"
            raise unstorable(_item(key), why, self.name, convert("str"))
        if len(text) > csv.field_size_limit():
            why = f"{described(value)} is longer than csv.field_size_limit()"
            raise unstorable(_item(key), why, self.name)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            errors.reraise_interrupt(error)
            raise unstorable(_item(key), f"{described(value)}: {error}", self.name) from error
        if text is not value:
            told.append((_item(key), value))
        return text


def _item(key: object) -> str:
    return f"{ROOT}[{shown(key)}]"
