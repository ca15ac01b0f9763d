"""Store a dict as JSON that comes back as it was. A store uses this format by default.

orjson encodes and decodes if it is installed, because it is several times as fast. The standard
library does the rest: integers of more than 64 bits, lone surrogates, and NaN in files of other
programs. The same check comes before both, so both refuse the same states.

Invariant: a state that `encode` accepts is decoded to an equal state of the same types, by both.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any, Final

from redundict import errors

from .refusals import (
    MAX_DEPTH,
    ROOT,
    Objection,
    OnSubclass,
    State,
    as_state,
    convert,
    described,
    first_refusal,
    is_a,
    undecodable,
    unstorable,
)
from .snapshots import undisturbed
from .subclasses import Kinds, Told, plain_type, with_plain_values

_KINDS: Final[Kinds] = (str, int, float, dict, list)
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
            return undisturbed(state, self._encode)
        except RecursionError as error:
            errors.reraise_interrupt(error)
            raise unstorable(ROOT, "is nested too deep for this call", self.name) from error

    def _encode(self, state: State) -> bytes:
        told: Told = []
        storable = is_plain(state)
        if not storable and self._on_subclass:
            state, told = with_plain_values(state, _KINDS)
            storable = is_plain(state)
        refusal = None if storable else first_refusal(state, self.name, _objection, cycles=False)
        if refusal:
            try:
                raise refusal
            finally:
                del refusal  # its traceback refers to this frame; see `errors.detached`
        try:
            payload = _dump(state)
        except ValueError as error:
            errors.reraise_interrupt(error)
            refusal = first_refusal(state, self.name, _objection)
            raise refusal or unstorable(ROOT, f"{error}", self.name) from error
        if self._on_subclass:
            for item, value in told:
                self._on_subclass(item, value)
        return payload

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`."""
        try:
            with _collector_paused():
                decoded = _load(payload)
        except (ValueError, RecursionError) as error:
            errors.reraise_interrupt(error)
            raise undecodable(self.name, error) from error
        return as_state(decoded, self.name)


def is_plain(container: Any, depth: int = 1) -> bool:
    """Return True if every item is of JSON's types, so that JSON can give it back.

    Args:
        container: A dict or list, of exactly that type, that does not change meanwhile.
        depth: How deep it is nested; 1 for the state.

    """
    if depth > MAX_DEPTH:
        return False
    values = container
    if type(container) is dict:
        for key in container:
            if type(key) is not str:
                return False
        values = container.values()
    for value in values:
        kind = type(value)  # Types are compared by identity: a metaclass may define equality.
        if kind is str or kind is int or kind is bool or value is None:
            continue
        if kind is float and isfinite(value):
            continue
        if (kind is not dict and kind is not list) or not is_plain(value, depth + 1):
            return False
    return True


def _objection(value: Any) -> Objection | None:
    """Return why JSON cannot give a value back; of a container, only its keys are looked at."""
    if value is None or type(value) is bool:
        return None
    if is_a(value, tuple):
        return Objection(f"{described(value)} would come back as a list", convert("list"))
    kind = plain_type(value, _KINDS)
    if kind is None or (kind is float and not isfinite(value)):
        return Objection(f"{described(value)} has no JSON")
    if type(value) is not kind:
        plain = f"plain {kind.__name__}"
        return Objection(f"{described(value)} would come back as a {plain}", convert(plain))
    texts: Any = value if kind is dict else [value] if kind is str else []
    for text in texts:
        if type(text) is not str:
            why = f"key {described(text)} would come back as a str"
            return Objection(why, convert("str", "key"))
        if _SURROGATE_PAIR.search(text):
            why = "holds two surrogates that would come back as one character"
            return Objection(f"{described(text)} {why}")
    if kind is int:
        try:
            str(value)
        except ValueError as error:  # See sys.set_int_max_str_digits.
            errors.reraise_interrupt(error)
            return Objection(f"{described(value)}: {error}")
    return None


@functools.cache
def _orjson() -> Any:
    """Return the module orjson, None if it is not installed."""
    try:
        import orjson  # noqa: PLC0415 - It is optional, and only this format needs it.
    except ImportError:
        return None
    return orjson


# The check made sure that no container contains itself. To look for it again takes an eighth more.
_STRICT: Final[Any] = {"check_circular": False, "allow_nan": False, "separators": (",", ":")}
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, **_STRICT)
_ASCII_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, **_STRICT)


def _dump(plain: State) -> bytes:
    """Return the JSON of a state that was checked; raise ValueError if there is none."""
    if orjson := _orjson():
        # It refuses an integer of more than 64 bits, and a lone surrogate.
        try:
            return bytes(orjson.dumps(plain))
        except TypeError as error:
            errors.reraise_interrupt(error)
    text = _ENCODER.encode(plain)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        errors.reraise_interrupt(error)
        # A lone surrogate has no UTF-8. As a \u escape it comes back, unless two of them pair up.
        if _SURROGATE_PAIR.search(text):
            raise ValueError("two surrogates would come back as one character") from None
        return _ASCII_ENCODER.encode(plain).encode()


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector off while a payload is decoded. A decoded payload has no cycles.

    It would look at all containers again and again, and take more than half of the time if the
    payload holds many small ones.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(payload: bytes) -> object:
    orjson = _orjson()
    # orjson makes a float of an integer of more than 64 bits.
    if orjson is None or _LONG in payload.translate(_TO_ZERO):
        return json.loads(payload)
    try:
        return orjson.loads(payload)
    except ValueError as error:  # The standard library reads more: NaN, a byte order mark.
        errors.reraise_interrupt(error)
        return json.loads(payload)
