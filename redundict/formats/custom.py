"""Formats: a dict to bytes and back, and an honest refusal where it would not come back equal.

`resolve` turns what a caller names (``"json"``, ``"csv"``, ``"pickle"``, or an object with
``dumps``/``loads`` or ``dump``/``load``) into a `Format`. A format never returns something other
than what it was given: `encode` raises `UnstorableError` with the path of the offending item
first. Pickle is never tried on bytes unless the caller asked for it by name.

Knows dicts and bytes; no files, no slots.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import pickle
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, Protocol

from redundict import errors

from .refusals import (
    ROOT,
    State,
    as_state,
    described,
    refuse_first,
    shown,
    undecodable,
    unstorable,
)
from .strict_json import JsonFormat


class Format(Protocol):
    """What the rest of the package asks of a format."""

    name: str  #: Stands in the trailer.

    def encode(self, state: State) -> bytes:
        """Return the payload; raise `UnstorableError` if it would not decode to an equal state."""
        ...

    def decode(self, payload: bytes) -> State:
        """Return the state; raise `FormatError` if the payload is not in this format."""
        ...


def resolve(format: object) -> Format:
    """Return the `Format` for a name, a module or an object.

    Raises `ValueError` for an unknown name, `TypeError` for an object without a fitting pair of
    functions.

    >>> resolve("json").encode({"a": [1, None]})
    b'{"a":[1,null]}'
    """
    if isinstance(format, str):
        if format not in _BY_NAME:
            raise ValueError(f"unknown format {format!r}: known are {', '.join(sorted(_BY_NAME))}")
        return _BY_NAME[format]()
    name = getattr(format, "__name__", None)
    if isinstance(format, ModuleType) and name in ("json", "pickle"):
        return _BY_NAME[name]()
    return ObjectFormat(format)


def by_trailer_name(name: str) -> Format | None:
    """Return the format that a trailer names, if its payload may be decoded unasked."""
    return _BY_NAME[name]() if name in (JsonFormat.name, CsvFormat.name) else None


class CsvFormat:
    """CSV text in UTF-8, one ``key,value`` row per item, both of them str."""

    name = "csv"

    def encode(self, state: State) -> bytes:
        for key, value in state.items():
            objection = _csv_objection(key) or _csv_objection(value)
            if objection:
                raise unstorable(f"{ROOT}[{shown(key)}]", objection, self.name)
        text = io.StringIO(newline="")
        # Not "\n": Python before 3.13 quotes a "\r" only if the line terminator has one.
        csv.writer(text, lineterminator="\r\n").writerows(state.items())
        return text.getvalue().encode()

    def decode(self, payload: bytes) -> State:
        try:
            rows = list(csv.reader(io.StringIO(payload.decode(), newline=""), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise undecodable(self.name, error) from error
        if any(len(row) != 2 for row in rows):
            raise undecodable(self.name, "a row has not exactly two fields")
        state = dict(rows)
        if len(state) != len(rows):
            raise undecodable(self.name, "a key stands there twice")
        return state


class PickleFormat:
    """Pickle: any state that pickles. Loading runs code: only ever chosen by name."""

    name = "pickle"

    def encode(self, state: State) -> bytes:
        try:
            return pickle.dumps(dict(state), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            # A __reduce__ may raise anything; whatever it is, the state cannot be stored.
            refuse_first(state, self.name, _pickle_objection)
            raise unstorable(ROOT, f"{error}", self.name) from error

    def decode(self, payload: bytes) -> State:
        try:
            return as_state(pickle.loads(payload), self.name)  # noqa: S301 - asked for by name
        except errors.FormatError:
            raise
        except Exception as error:
            # Unpickling may raise anything (pickle's documentation names only examples).
            raise undecodable(self.name, error) from error


class ObjectFormat:
    """Any object with ``dumps``/``loads`` or ``dump``/``load``: a module, or the caller's own.

    What it promises is not known, so each encode is decoded again and compared: a tuple that comes
    back as a list is refused. Its name in the trailer is the module's or the class's.
    """

    def __init__(self, target: Any) -> None:
        name = getattr(target, "__name__", type(target).__name__)
        self.name = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:64]
        if not self.name:
            raise ValueError(f"{name!r} cannot name a format")
        if callable(getattr(target, "dumps", None)) and callable(getattr(target, "loads", None)):
            self._dumps, self._loads = target.dumps, target.loads
            self._is_text = isinstance(self._dumps({}), str)
        elif callable(getattr(target, "dump", None)) and callable(getattr(target, "load", None)):
            self._is_text = _writes_text(target.dump)
            self._dumps, self._loads = self._through_files(target.dump, target.load)
        else:
            raise TypeError(f"format {target!r} has neither dumps and loads nor dump and load")

    def encode(self, state: State) -> bytes:
        # A foreign encoder, or the state's own __eq__, may raise anything; nothing was written yet.
        try:
            encoded = self._dumps(dict(state))
            payload: bytes = encoded.encode() if self._is_text else bytes(encoded)
            back = self.decode(payload)
            difference = next(_differences(dict(state), back, ROOT), None)
        except Exception as error:
            refuse_first(state, self.name, self._objection)
            raise unstorable(ROOT, f"{error}", self.name) from error
        if difference:
            raise unstorable(*difference, self.name)
        return payload

    def decode(self, payload: bytes) -> State:
        try:
            return as_state(self._loads(payload.decode() if self._is_text else payload), self.name)
        except errors.FormatError:
            raise
        except Exception as error:
            raise undecodable(self.name, error) from error

    def _objection(self, value: object) -> str:
        if isinstance(value, dict | list | tuple):
            return ""  # the offender is inside, or there is none
        try:
            self._dumps({"": value})
        except Exception as error:  # noqa: BLE001 - a foreign encoder may raise anything
            return f"{described(value)}: {error}"
        return ""

    def _through_files(
        self, dump: Callable[..., Any], load: Callable[..., Any]
    ) -> tuple[Callable[[State], Any], Callable[[Any], Any]]:
        kind: Any = io.StringIO if self._is_text else io.BytesIO

        def dumps(state: State) -> Any:
            file = kind()
            dump(state, file)
            return file.getvalue()

        return dumps, lambda encoded: load(kind(encoded))


_BY_NAME: Final[dict[str, Callable[[], Format]]] = {
    kind.name: kind for kind in (JsonFormat, CsvFormat, PickleFormat)
}


def read_plain(content: bytes, format: Format) -> State:
    """Return the state in a plain file that the PermaDict recipe left.

    The recipe tried one loader after the other, so a file may be in another format than the one it
    is opened with. Here: the format asked for, then JSON, then CSV with exactly two fields a row.
    Never pickle, unless it is the one asked for. Raises `FormatError` if none fits; an empty file
    fits none, since that is what a crash makes of a good one.
    """
    if not content.strip(b"\0 \t\r\n"):
        raise undecodable(format.name, "it is empty or filled with NUL bytes")
    candidates: list[Format] = [JsonFormat(), CsvFormat()]
    if format.name not in (JsonFormat.name, CsvFormat.name):
        candidates.insert(0, format)
    # What a crash makes of a JSON file is never taken for CSV: half of it would pass for a row.
    start = content.removeprefix(codecs.BOM_UTF8).lstrip()
    if b"\0" in content or start.startswith((b"{", b"[")):
        candidates = [candidate for candidate in candidates if candidate.name != CsvFormat.name]
    objections = []
    for candidate in candidates:
        try:
            return candidate.decode(content)
        except errors.FormatError as error:
            objections.append(error.reason)
    raise errors.FormatError("; ".join(objections))


def _csv_objection(value: object) -> str:
    if not isinstance(value, str):
        return f"{described(value)} would come back as a str"
    if len(value) > csv.field_size_limit():
        return f"{described(value)} is longer than csv.field_size_limit()"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{described(value)}: {error}"
    return ""


def _pickle_objection(value: object) -> str:
    if type(value) in (dict, list, tuple):
        return ""  # the offender is inside, or there is none
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - a __reduce__ may raise anything
        return f"{described(value)}: {error}"
    return ""


def _differences(given: object, back: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield the items that did not come back equal, with their paths."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key in back:
                yield from _differences(value, back[key], f"{path}[{shown(key)}]")
            else:
                yield path, f"key {described(key)} does not come back"
        if len(back) > len(given):
            yield path, "comes back with more keys"
    elif isinstance(given, list | tuple) and type(given) is type(back):
        if len(given) != len(back):
            yield path, f"comes back with {len(back)} items"
        for index, (value, other) in enumerate(zip(given, back, strict=False)):
            yield from _differences(value, other, f"{path}[{index}]")
    elif not _same(given, back):
        yield path, f"{described(given)} comes back as {described(back)}"


def _same(given: object, back: object) -> bool:
    if given is back or given == back:
        return True
    if isinstance(given, float) and isinstance(back, float):
        return math.isnan(given) and math.isnan(back)
    # Objects that define no equality cannot be compared; that they are of one type has to do.
    return type(given) is type(back) and type(given).__eq__ is object.__eq__


def _writes_text(dump: Callable[..., Any]) -> bool:
    try:
        dump({}, io.BytesIO())
    except TypeError:
        return True
    return False
