"""Store a dict as JSON that comes back as it was. A store uses this format by default.

orjson encodes and decodes if it is installed, because it is several times as fast. The standard
library does the rest: integers of more than 64 bits, lone surrogates, and NaN in files of other
programs. The same check comes before both, so both refuse the same states.

Invariant: a state that `encode` accepts is decoded to an equal state of the same types, by both.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final

from .refusals import (
    CHANGE,
    CONVERT_KEY,
    MAX_DEPTH,
    ROOT,
    TOO_DEEP,
    OnSubclass,
    State,
    as_state,
    convert,
    described,
    refuse_first,
    shown,
    undecodable,
    unstorable,
)
from .subclasses import plain_type, plain_value

_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG: Final = b"0" * 19  #: An integer of fewer digits fits into 64 bits.


class JsonFormat:
    """JSON text in UTF-8: str keys; dict, list, str, int, finite float, bool and None.

    Args:
        on_subclass: None refuses a subclass of these types. Otherwise its plain value is stored if
            it is equal, and this is called with the item's path and value. For a key, the path is
            that of its dict.
    """

    name = "json"

    def __init__(self, on_subclass: OnSubclass | None = None) -> None:
        self._on_subclass = on_subclass

    def encode(self, state: State) -> bytes:
        """Return the payload; see `Format.encode`."""
        try:
            plain = plain_copy(state, self._on_subclass)
        except RecursionError as error:
            raise unstorable(ROOT, "is nested too deep for this call", self.name) from error
        try:
            return _dump(plain)
        except (ValueError, RecursionError) as error:
            refuse_first(plain, self.name, _objection)
            raise unstorable(ROOT, f"{error}", self.name) from error

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`."""
        try:
            decoded = _load(payload)
        except (ValueError, RecursionError) as error:
            raise undecodable(self.name, error) from error
        return as_state(decoded, self.name)


def plain_copy(state: State, on_subclass: OnSubclass | None = None) -> State:
    """Return a copy of a state that only holds values of JSON's types.

    Each dict and list is copied by one call, before its items are looked at. The interpreter makes
    that call as a whole. So other threads may change the state meanwhile.

    Args:
        state: The dict, or an instance of a subclass of dict.
        on_subclass: See `JsonFormat`.

    Returns:
        A plain dict, in which every dict and list is a copy, too.

    Raises:
        UnstorableError: An item is of another type, not finite, nested too deep, or contains
            itself.
    """
    plain: State = _Walk(state, on_subclass).copied(dict(state))
    return plain


class _Walk:
    """One walk through one state."""

    def __init__(self, state: State, on_subclass: OnSubclass | None) -> None:
        self._on_subclass = on_subclass
        #: The containers around the present item, and the key or index that leads to each of them.
        self._above: list[tuple[object, object]] = [(None, state)]

    def copied(self, container: Any) -> Any:
        """Check a container that no other thread knows, and copy the containers in it."""
        items: Iterable[tuple[Any, Any]]
        if type(container) is dict:
            for key in container:
                if type(key) is not str:
                    container = self._with_plain_keys(container)
                    break
            items = container.items()
        else:
            items = enumerate(container)
        for step, value in items:
            kind = type(value)  # Types are compared by identity: a metaclass may define equality.
            if kind is str or kind is int or kind is bool or value is None:
                continue
            if kind is float and isfinite(value):
                continue
            container[step] = self._inner(step, value)
        return container

    def _inner(self, step: object, value: Any) -> object:
        """Return what is stored for an item that may be a container; raise if nothing can be."""
        kind = type(value)
        if kind is not dict and kind is not list:
            value = self._plain_value(step, value)
            if not isinstance(value, dict | list):
                return value
        for depth, (_, container) in enumerate(self._above, 1):
            if container is value:
                why = f"is {_path(self._above[:depth])} again, which so contains itself"
                raise unstorable(self._path_of(step), why, JsonFormat.name)
        if len(self._above) == MAX_DEPTH:
            raise unstorable(self._path_of(step), TOO_DEEP, JsonFormat.name)
        self._above.append((step, value))
        copy = self.copied(value.copy())
        self._above.pop()
        return copy

    def _plain_value(self, step: object, value: Any) -> object:
        """Return the plain value of a subclass; raise if it is none, or if none is accepted."""
        kind, why = plain_type(value), f"{described(value)} has no JSON"
        if isinstance(value, tuple):
            kind, why = list, f"{described(value)} would come back as a list"
        elif kind and not (kind is float and not isfinite(value)):
            why = f"{described(value)} would come back as a plain {kind.__name__}"
            if self._on_subclass and (plain := plain_value(value)) is not None:
                self._on_subclass(self._path_of(step), value)
                return plain
        action = convert(f"plain {kind.__name__}") if kind else CHANGE
        raise unstorable(self._path_of(step), why, JsonFormat.name, action)

    def _with_plain_keys(self, container: State) -> State:
        """Return a dict with plain str for its keys; raise if one would be another key."""
        plain: State = {}
        for key, value in container.items():
            text = key
            if type(key) is not str:
                text = plain_value(key) if self._on_subclass and plain_type(key) is str else None
            if text is None or text in plain:
                why = f"key {described(key)} would come back as a str"
                raise unstorable(_path(self._above), why, JsonFormat.name, CONVERT_KEY)
            if text is not key and self._on_subclass:
                self._on_subclass(_path(self._above), key)
            plain[text] = value
        return plain

    def _path_of(self, step: object) -> str:
        return f"{_path(self._above)}[{shown(step)}]"


def _path(steps: list[tuple[object, object]]) -> str:
    return ROOT + "".join(f"[{shown(step)}]" for step, _ in steps[1:])


@functools.cache
def _orjson() -> Any:
    """Return the module orjson, None if it is not installed."""
    try:
        import orjson  # noqa: PLC0415 - It is optional, and only this format needs it.
    except ImportError:
        return None
    return orjson


# The walk made sure that no container contains itself. To look for that again takes an eighth more.
_ENCODER: Final = json.JSONEncoder(
    check_circular=False, ensure_ascii=False, allow_nan=False, separators=(",", ":")
)
_ASCII_ENCODER: Final = json.JSONEncoder(
    check_circular=False, ensure_ascii=True, allow_nan=False, separators=(",", ":")
)


def _dump(plain: State) -> bytes:
    """Return the JSON of a copy that was checked; raise ValueError if there is none."""
    if orjson := _orjson():
        try:
            payload: bytes = orjson.dumps(plain)
        except TypeError:  # An integer has more than 64 bits, or there is a lone surrogate.
            pass
        else:
            return payload
    text = _ENCODER.encode(plain)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8. As a \u escape it comes back, unless two of them pair up.
        if _SURROGATE_PAIR.search(text):
            raise ValueError("two surrogates would come back as one character") from None
        return _ASCII_ENCODER.encode(plain).encode()


def _load(payload: bytes) -> object:
    orjson = _orjson()
    # orjson makes a float of an integer of more than 64 bits.
    if orjson is None or _LONG in payload.translate(_TO_ZERO):
        return json.loads(payload)
    try:
        return orjson.loads(payload)
    except ValueError:  # The standard library reads more: NaN, a byte order mark.
        return json.loads(payload)


def _objection(value: object) -> str:
    """Return why a plain value has no JSON, "" if it has; containers by their keys alone."""
    if isinstance(value, dict):
        return next(filter(None, map(_objection, value)), "")
    if isinstance(value, str) and _SURROGATE_PAIR.search(value):
        return f"{described(value)} holds two surrogates that would come back as one character"
    if isinstance(value, int):
        try:
            str(value)
        except ValueError as error:  # See sys.set_int_max_str_digits.
            return f"{described(value)}: {error}"
    return ""
