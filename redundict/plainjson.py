"""JSON that comes back as it was: the format of a store that asks for no other.

Where orjson is installed, it encodes and decodes, several times as fast; the standard library does
what orjson cannot: integers of more than 64 bits, lone surrogates, and whatever orjson would take
for something else. The check of types comes before either, so that both mean the same.

Invariant: what `encode` returns is decoded to an equal state of the same types, by both.
"""

from __future__ import annotations

import functools
import json
import math
import re
from typing import Any, Final

from .refusals import (
    MAX_DEPTH,
    ROOT,
    State,
    as_state,
    described,
    refuse_first,
    undecodable,
    unstorable,
)

_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_CONTAINERS: Final = frozenset({dict, list})
_FEW: Final = 12  #: Items up to which a loop is as fast as a call that looks at all of them.
_MANY: Final = 10_000  #: Containers after which it may be the same ones again and again.
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG: Final = b"0" * 19  #: From so many digits on, an integer may need more than 64 bits.


class JsonFormat:
    """JSON text in UTF-8: str keys; str, int, finite float, bool, None, list and dict."""

    name = "json"

    def encode(self, state: State) -> bytes:
        """Return the payload; raise `UnstorableError` if it would not decode to an equal state."""
        if (orjson := _orjson()) and _is_plain(state, keys=False):
            payload = _dump_fast(state, orjson)
            if payload is not None:
                return payload
        if not _is_plain(state):
            refuse_first(state, self.name, _objection)
        try:
            return _dump(state)
        except (ValueError, RecursionError) as error:
            refuse_first(state, self.name, _objection)
            raise unstorable(ROOT, f"{error}", self.name) from error

    def decode(self, payload: bytes) -> State:
        """Return the state; raise `FormatError` if the payload is not JSON, or no object."""
        try:
            decoded = _load(payload)
        except (ValueError, RecursionError) as error:
            raise undecodable(self.name, error) from error
        return as_state(decoded, self.name)


@functools.cache
def _orjson() -> Any:
    """Return the module orjson, None where it is not installed."""
    try:
        import orjson  # noqa: PLC0415 - an extra, and only who uses JSON pays for it
    except ImportError:
        return None
    return orjson


def _dump_fast(state: State, orjson: Any) -> bytes | None:
    """Return the payload; None if it is for the standard library to say what becomes of the state.

    orjson refuses a key that is no str, an integer of more than 64 bits, a lone surrogate. For NaN
    and infinity, which the standard library refuses, it writes null.
    """
    try:
        payload: bytes = orjson.dumps(state)
    except TypeError:
        return None
    return None if b"null" in payload and not _is_finite(state) else payload


def _dump(state: State) -> bytes:
    text = json.dumps(state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; as \u escapes they come back, unless two of them pair up.
        if _SURROGATE_PAIR.search(text):
            raise ValueError("two surrogates would come back as one character") from None
        return json.dumps(state, allow_nan=False, separators=(",", ":")).encode("ascii")


def _load(payload: bytes) -> object:
    orjson = _orjson()
    # It makes a float of an integer of more than 64 bits, without a word.
    if orjson is None or _LONG in payload.translate(_DIGITS):
        return json.loads(payload)
    try:
        return orjson.loads(payload)
    except ValueError:  # what it refuses, the standard library may know: NaN, a byte order mark
        return json.loads(payload)


def _is_plain(state: State, *, keys: bool = True) -> bool:  # noqa: C901 - calls cost a quarter more
    """Tell whether there are only JSON's own types, of values and, with `keys`, of keys.

    NaN is for the encoder. Goes down level by level, no deeper than `MAX_DEPTH`.
    """
    level: list[Any] = [state]
    many = _MANY
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for container in level:
            values = container
            if type(container) is not list:
                if keys and not _are_texts(container):
                    return False
                values = container.values()
            if len(container) > _FEW and set(map(type, values)) <= _LEAVES:
                continue
            for value in values:
                kind = type(value)
                if kind in _LEAVES:
                    continue
                if kind not in _CONTAINERS:
                    return False
                deeper.append(value)
        if not deeper:
            return True
        if len(deeper) > many:  # what contains itself doubles with every level: each is taken once
            deeper = list({id(container): container for container in deeper}.values())
            many = max(_MANY, 2 * len(deeper))
        level = deeper
    return False


def _are_texts(keys: State) -> bool:
    if len(keys) > _FEW:
        return set(map(type, keys)) == {str}
    try:
        "".join(keys)  # the fastest that refuses what is no str
    except TypeError:
        return False
    return True


def _is_finite(state: State) -> bool:
    """Tell whether every float is, in a state that does not contain itself."""
    containers: list[Any] = [state]
    for container in containers:
        for value in container if type(container) is list else container.values():
            if type(value) is float and not math.isfinite(value):
                return False
            if type(value) in _CONTAINERS:
                containers.append(value)
    return True


def _objection(value: object) -> str:
    """Say why JSON cannot give `value` back, containers by themselves; '' if it can."""
    if isinstance(value, dict):
        return next(filter(None, map(_key_objection, value)), "")
    if isinstance(value, tuple):
        return f"{described(value)} would come back as a list"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value!r} (float) has no JSON"
    if isinstance(value, str):
        return _text_objection(value)
    if isinstance(value, int):
        try:
            str(value)
        except ValueError as error:  # sys.set_int_max_str_digits
            return f"{described(value)}: {error}"
        return ""
    return "" if value is None or isinstance(value, list) else f"{described(value)} has no JSON"


def _key_objection(key: object) -> str:
    if not isinstance(key, str):
        return f"key {described(key)} would come back as a str"
    return _text_objection(key)


def _text_objection(text: str) -> str:
    if _SURROGATE_PAIR.search(text):
        return f"{described(text)} holds two surrogates that would come back as one character"
    return ""
