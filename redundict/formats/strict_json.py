"""JSON that comes back as it was: the format of a store that asks for no other.

Where orjson is installed, it encodes and decodes, several times as fast; the standard library does
what orjson cannot: integers of more than 64 bits, lone surrogates, and whatever orjson would take
for something else. The check of types comes before either, so that both mean the same.

Invariant: what `encode` returns is decoded to an equal state of the same types, by both.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import json
import math
import re
import sys
from collections.abc import Collection, Iterator
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
_TEXT: Final = frozenset({str})
_FLOAT: Final = frozenset({float})
_DICT: Final = frozenset({dict})
_CONTAINERS: Final = frozenset({dict, list})
_PLAIN: Final = frozenset({str, int, float, bool, type(None)}) | _CONTAINERS
_DOUBT: Final[list[Any]] = [()]  #: In the place of values that may not be plain: one that is not.
_MANY: Final = 512  #: Values that are looked at together: few enough for the processor's caches.
_MANY_INSIDE: Final = 32 * _MANY  #: Values of several containers that are listed together: 128 KB.
_ENOUGH: Final = 64  #: From so many containers on, it pays to bring together what is of one type.
_MAY_HIDE: Final = sys.version_info >= (3, 13)  #: An object's dict may, from the collector.
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG: Final = b"0" * 19  #: From so many digits on, an integer may need more than 64 bits.


class JsonFormat:
    """JSON text in UTF-8: str keys; str, int, finite float, bool, None, list and dict."""

    name = "json"

    def __init__(self) -> None:
        self._is_ascii = True  # whatever was encoded until now

    def encode(self, state: State) -> bytes:
        """Return the payload; raise `UnstorableError` if it would not decode to an equal state."""
        if (orjson := _orjson()) and _is_plain(state, finite=True):
            payload = _dump_fast(state, orjson)
            if payload is not None:
                return payload
        is_plain = _is_plain(state)
        if not is_plain:
            refuse_first(state, self.name, _objection)
        try:
            # What is plain does not contain itself: to look for that costs a fifth of the time.
            return self._dump(state, check_circular=not is_plain)
        except (TypeError, ValueError, RecursionError) as error:  # a type may say that it is str
            refuse_first(state, self.name, _objection)
            raise unstorable(ROOT, f"{error}", self.name) from error

    def _dump(self, state: State, *, check_circular: bool) -> bytes:
        if self._is_ascii:
            # Up to a fifth faster; and where nothing needed a \u escape, it is the same text.
            text = _encoder(check_circular=check_circular, ensure_ascii=True).encode(state)
            if "\\u" not in text:
                return text.encode()
            self._is_ascii = False
            del text  # which may be large
        return _dump(state, check_circular=check_circular)

    def decode(self, payload: bytes) -> State:
        """Return the state; raise `FormatError` if the payload is not JSON, or no object."""
        try:
            with _no_collections():
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
    """Return the payload of a state that was checked; None if orjson has no JSON for it.

    That is so of an integer of more than 64 bits, and of a lone surrogate. Unchecked, it writes a
    list for a tuple, null for NaN, and ends the interpreter over tuples that are nested deeply.
    """
    try:
        payload: bytes = orjson.dumps(state)
    except TypeError:
        return None
    return payload


def _dump(state: State, *, check_circular: bool) -> bytes:
    text = _encoder(check_circular=check_circular).encode(state)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; as \u escapes they come back, unless two of them pair up.
        if _SURROGATE_PAIR.search(text):
            raise ValueError("two surrogates would come back as one character") from None
        return _encoder(check_circular=check_circular, ensure_ascii=True).encode(state).encode()


@functools.cache
def _encoder(*, check_circular: bool, ensure_ascii: bool = False) -> json.JSONEncoder:
    return json.JSONEncoder(
        check_circular=check_circular,
        ensure_ascii=ensure_ascii,
        allow_nan=False,
        separators=(",", ":"),
    )


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Keep the collector off what is decoded: that has no cycles, and it takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(payload: bytes) -> object:
    orjson = _orjson()
    # It makes a float of an integer of more than 64 bits, without a word.
    if orjson is None or _LONG in payload.translate(_DIGITS):
        return json.loads(payload)
    try:
        return orjson.loads(payload)
    except ValueError:  # what it refuses, the standard library may know: NaN, a byte order mark
        return json.loads(payload)


def _is_plain(state: State, *, finite: bool = False) -> bool:
    """Tell whether there are only JSON's own types, keys of str and, if `finite`, such floats.

    Looks at many values in one call. May return False for what is plain, so whoever is told so
    looks again, at each value and slowly.
    """
    if not _are_texts(state):
        return False
    unseen: list[tuple[Iterator[list[Any]], int]] = [(_portions(state.values()), 1)]  # with depth
    while unseen:
        portions, depth = unseen[-1]
        for values in portions:
            kinds = _kinds(values)
            if not kinds <= _PLAIN:
                return False
            if finite and float in kinds and not _are_finite(_only(_FLOAT, values, kinds)):
                return False
            if not kinds.isdisjoint(_CONTAINERS):
                if depth == MAX_DEPTH:
                    return False
                unseen.append((_inside(_only(_CONTAINERS, values, kinds), kinds), depth + 1))
                break
        else:
            unseen.pop()
    return True


def _kinds(values: Collection[Any]) -> set[type]:
    try:
        return set(map(type, values))
    except TypeError:  # a metaclass may leave a type without a hash
        return {object}


def _portions(values: Collection[Any]) -> Iterator[list[Any]]:
    if len(values) <= _MANY:
        return iter([list(values)])
    source = iter(values)
    return iter(lambda: list(itertools.islice(source, _MANY)), [])


def _only(wanted: frozenset[type], values: list[Any], kinds: set[type]) -> list[Any]:
    """Return those of the wanted types, of values of these types."""
    return values if kinds <= wanted else [value for value in values if type(value) in wanted]


def _inside(containers: list[Any], kinds: set[type]) -> Iterator[list[Any]]:
    """Yield the values in dicts and lists; `_DOUBT` where not every key is seen to be a str.

    What the collector says that they refer to are their values, and the keys as well only of a dict
    that has, or had, a key that is no str; which the count shows, where nothing hides.
    """
    count = sum(map(len, containers))
    if count <= _MANY_INSIDE:
        values = gc.get_referents(*containers)
        if len(values) != count or (_MAY_HIDE and dict in kinds and _hide(containers, kinds)):
            yield _DOUBT
        elif len(containers) < _ENOUGH:
            for place in range(0, count, _MANY):
                yield values[place : place + _MANY]
        else:
            # Where records are alike, what has the same place in each is of the same type.
            width = count // len(containers) or 1
            for place in range(width):
                yield values[place::width]
    elif len(containers) > 1:
        half = len(containers) // 2
        yield from _inside(containers[:half], kinds)
        yield from _inside(containers[half:], kinds)
    elif type(containers[0]) is list:
        yield from _portions(containers[0])
    elif _are_texts(containers[0]):
        yield from _portions(containers[0].values())
    else:
        yield _DOUBT


def _hide(containers: list[Any], kinds: set[type]) -> bool:
    """Tell whether the collector does not see into one of the dicts, as into `vars` of an object.

    It would be as many values short as it has too many where there are keys that are no str.
    """
    return not all(map(gc.get_referents, filter(None, _only(_DICT, containers, kinds))))


def _are_texts(keys: State) -> bool:
    return _kinds(keys) <= _TEXT


def _are_finite(floats: list[float]) -> bool:
    """Tell whether every float is; perhaps not, where they are too large to be added up."""
    return math.isfinite(sum(floats))


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
