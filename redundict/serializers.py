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
import json
import math
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from . import errors, trailer

State = dict[Any, Any]
_ROOT: Final = "state"


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
    if format is json or format is pickle:
        return _BY_NAME[format.__name__]()
    return ObjectFormat(format)


def by_trailer_name(name: str) -> Format | None:
    """Return the format that a trailer names, if its payload may be decoded unasked."""
    return _BY_NAME[name]() if name in (JsonFormat.name, CsvFormat.name) else None


class JsonFormat:
    """JSON text in UTF-8: str keys; str, int, finite float, bool, None, list and dict."""

    name = "json"

    def encode(self, state: State) -> bytes:
        if not _is_plain(state):
            _refuse_first(state, self.name, _json_objection)
        try:
            return _dump_json(state)
        except (ValueError, RecursionError) as error:
            _refuse_first(state, self.name, _json_objection)
            raise _unstorable(_ROOT, f"{error}", self.name) from error

    def decode(self, payload: bytes) -> State:
        try:
            decoded = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise _undecodable(self.name, error) from error
        return _as_state(decoded, self.name)


class CsvFormat:
    """CSV text in UTF-8, one ``key,value`` row per item, both of them str."""

    name = "csv"

    def encode(self, state: State) -> bytes:
        for key, value in state.items():
            objection = _csv_objection(key) or _csv_objection(value)
            if objection:
                raise _unstorable(f"{_ROOT}[{_shown(key)}]", objection, self.name)
        text = io.StringIO(newline="")
        # Not "\n": Python before 3.13 quotes a "\r" only if the line terminator has one.
        csv.writer(text, lineterminator="\r\n").writerows(state.items())
        return text.getvalue().encode()

    def decode(self, payload: bytes) -> State:
        try:
            rows = list(csv.reader(io.StringIO(payload.decode(), newline=""), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise _undecodable(self.name, error) from error
        if any(len(row) != 2 for row in rows):
            raise _undecodable(self.name, "a row has not exactly two fields")
        state = dict(rows)
        if len(state) != len(rows):
            raise _undecodable(self.name, "a key stands there twice")
        return state


class PickleFormat:
    """Pickle: any state that pickles. Loading runs code: only ever chosen by name."""

    name = "pickle"

    def encode(self, state: State) -> bytes:
        try:
            return pickle.dumps(dict(state), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            # A __reduce__ may raise anything; whatever it is, the state cannot be stored.
            _refuse_first(state, self.name, _pickle_objection)
            raise _unstorable(_ROOT, f"{error}", self.name) from error

    def decode(self, payload: bytes) -> State:
        try:
            return _as_state(pickle.loads(payload), self.name)  # noqa: S301 - asked for by name
        except errors.FormatError:
            raise
        except Exception as error:
            # Unpickling may raise anything (pickle's documentation names only examples).
            raise _undecodable(self.name, error) from error


class ObjectFormat:
    """Any object with ``dumps``/``loads`` or ``dump``/``load``: a module, or the caller's own.

    What it promises is not known, so each encode is decoded again and compared: a tuple that comes
    back as a list is refused. Its name in the trailer is the module's or the class's.
    """

    def __init__(self, target: Any) -> None:
        name = getattr(target, "__name__", type(target).__name__)
        self.name = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:64]
        if not trailer.is_format_name(self.name):
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
            difference = next(_differences(dict(state), back, _ROOT), None)
        except Exception as error:
            _refuse_first(state, self.name, self._objection)
            raise _unstorable(_ROOT, f"{error}", self.name) from error
        if difference:
            raise _unstorable(*difference, self.name)
        return payload

    def decode(self, payload: bytes) -> State:
        try:
            return _as_state(self._loads(payload.decode() if self._is_text else payload), self.name)
        except errors.FormatError:
            raise
        except Exception as error:
            raise _undecodable(self.name, error) from error

    def _objection(self, value: object) -> str:
        if isinstance(value, dict | list | tuple):
            return ""  # the offender is inside, or there is none
        try:
            self._dumps({"": value})
        except Exception as error:  # noqa: BLE001 - a foreign encoder may raise anything
            return f"{_described(value)}: {error}"
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
        raise _undecodable(format.name, "it is empty or filled with NUL bytes")
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


def _dump_json(state: State) -> bytes:
    text = json.dumps(state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; as \u escapes they come back, unless two of them pair up.
        if _SURROGATE_PAIR.search(text):
            raise ValueError("two surrogates would come back as one character") from None
        return json.dumps(state, allow_nan=False, separators=(",", ":")).encode("ascii")


#: What is nested deeper might not load where the stack is fuller, or on another Python.
MAX_DEPTH: Final = 200
_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_PLAIN_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_PLAIN: Final = _PLAIN_LEAVES | {dict, list}


def _is_plain(state: State) -> bool:
    """Tell at the speed of C whether there are only JSON's own types; NaN is for the encoder.

    Goes down level by level, not by recursion, and no deeper than `MAX_DEPTH`.
    """
    level: list[Any] = [dict.copy(state)]
    for _ in range(MAX_DEPTH):
        deeper: dict[int, Any] = {}
        for container in level:
            values = container
            if type(container) is dict:
                if not set(map(type, container)) <= {str}:
                    return False
                values = container.values()
            types = set(map(type, values))
            if types <= _PLAIN_LEAVES:
                continue
            if not types <= _PLAIN:
                return False
            deeper |= {id(value): value for value in values if type(value) in (dict, list)}
        if not deeper:
            return True
        level = list(deeper.values())
    return False


def _json_objection(value: object) -> str:
    """Say why JSON cannot give `value` back, containers by themselves; '' if it can."""
    if isinstance(value, dict):
        return next(filter(None, map(_json_key_objection, value)), "")
    if isinstance(value, tuple):
        return f"{_described(value)} would come back as a list"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value!r} (float) has no JSON"
    if isinstance(value, str):
        return _text_objection(value)
    if isinstance(value, int):
        try:
            str(value)
        except ValueError as error:  # sys.set_int_max_str_digits
            return f"{_described(value)}: {error}"
        return ""
    return "" if value is None or isinstance(value, list) else f"{_described(value)} has no JSON"


def _json_key_objection(key: object) -> str:
    if not isinstance(key, str):
        return f"key {_described(key)} would come back as a str"
    return _text_objection(key)


def _text_objection(text: str) -> str:
    if _SURROGATE_PAIR.search(text):
        return f"{_described(text)} holds two surrogates that would come back as one character"
    return ""


def _csv_objection(value: object) -> str:
    if not isinstance(value, str):
        return f"{_described(value)} would come back as a str"
    if len(value) > csv.field_size_limit():
        return f"{_described(value)} is longer than csv.field_size_limit()"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{_described(value)}: {error}"
    return ""


def _pickle_objection(value: object) -> str:
    if type(value) in (dict, list, tuple):
        return ""  # the offender is inside, or there is none
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - a __reduce__ may raise anything
        return f"{_described(value)}: {error}"
    return ""


def _refuse_first(state: State, format: str, objection: Callable[[object], str]) -> None:
    """Raise for the first item that `objection` speaks against; return if there is none."""
    for path, value, depth in _walk(state):
        why = objection(value)
        if depth > MAX_DEPTH and isinstance(value, dict | list):
            why = f"is nested more than {MAX_DEPTH} deep"
        if why:
            raise _unstorable(path, why, format)


def _walk(state: State) -> Iterator[tuple[str, object, int]]:
    """Yield each value with its path and depth, a container before what is in it."""
    stack: list[tuple[str, object, int]] = [(_ROOT, state, 1)]
    seen: set[int] = set()
    while stack:
        path, value, depth = stack.pop()
        yield path, value, depth
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack += reversed([(f"{path}[{_shown(k)}]", v, depth + 1) for k, v in items])


def _differences(given: object, back: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield the items that did not come back equal, with their paths."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key in back:
                yield from _differences(value, back[key], f"{path}[{_shown(key)}]")
            else:
                yield path, f"key {_described(key)} does not come back"
        if len(back) > len(given):
            yield path, "comes back with more keys"
    elif isinstance(given, list | tuple) and type(given) is type(back):
        if len(given) != len(back):
            yield path, f"comes back with {len(back)} items"
        for index, (value, other) in enumerate(zip(given, back, strict=False)):
            yield from _differences(value, other, f"{path}[{index}]")
    elif not _same(given, back):
        yield path, f"{_described(given)} comes back as {_described(back)}"


def _same(given: object, back: object) -> bool:
    if given is back or given == back:
        return True
    if isinstance(given, float) and isinstance(back, float):
        return math.isnan(given) and math.isnan(back)
    # Objects that define no equality cannot be compared; that they are of one type has to do.
    return type(given) is type(back) and type(given).__eq__ is object.__eq__


def _as_state(decoded: object, format: str) -> State:
    if not isinstance(decoded, dict):
        raise _undecodable(format, f"it holds a {type(decoded).__name__}, not a dict")
    return decoded


def _writes_text(dump: Callable[..., Any]) -> bool:
    try:
        dump({}, io.BytesIO())
    except TypeError:
        return True
    return False


def _described(value: object) -> str:
    shown = _shown(value)
    return f"{shown[:60]}{'...' if len(shown) > 60 else ''} ({type(value).__name__})"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a __repr__ may raise anything, as an int too long does
        return "..."


def _undecodable(format: str, why: object) -> errors.FormatError:
    if isinstance(why, RecursionError):
        why = "it is nested too deeply"
    elif isinstance(why, Exception):
        why = f"{type(why).__name__}: {why}"
    return errors.FormatError(f"not readable as {format}: {why}")


def _unstorable(item: str, why: str, format: str) -> errors.UnstorableError:
    return errors.UnstorableError(
        f"{item}: {why}: not storable as {format}",
        safe="nothing was written; the last commit stands",
        action="change that item, or open the store with a format that can hold it",
        item=item,
    )
