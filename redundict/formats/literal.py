"""Store a dict as a Python literal. A person can read it, and to decode it runs no code.

`encode` checks and writes in one pass, and takes a copy of each container on the way. So the item
that is written is the item that was checked, whatever other threads do.

Invariant: a state that `encode` accepts is decoded to an equal state of the same types, on every
Python. Equal states give the same payload if their dicts have the same order.
"""

from __future__ import annotations

import ast
from math import copysign, isfinite, isnan
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
from .subclasses import Kinds, Told, plain_type, with_plain_values

_KINDS: Final[Kinds] = (str, int, float, complex, bytes, dict, list, tuple, set)
_INFINITE: Final = "1e999"  #: Too large for a float, so it is read as infinity.


class LiteralFormat:
    """A dict display in UTF-8, one line for each item of the state; `ast.literal_eval` reads it.

    It holds None, bool, int, float but NaN, complex, str, bytes, Ellipsis, tuple, list, set and
    dict, and keys of such types.

    Args:
        on_subclass: None refuses a subclass of these types. Otherwise its plain value is stored if
            it is equal, and this is called with the item's path and value. For a key, or an item of
            a set, the path is that of the container.

    """

    name = "literal"

    def __init__(self, on_subclass: OnSubclass | None = None) -> None:
        self._on_subclass = on_subclass

    def encode(self, state: State) -> bytes:
        """Return the payload; see `Format.encode`."""
        try:
            return self._encode(state)
        except RecursionError as error:
            errors.reraise_interrupt(error)
            raise unstorable(ROOT, "is nested too deep for this call", self.name) from error

    def _encode(self, state: State) -> bytes:
        told: Told = []
        if self._on_subclass:
            state, told = with_plain_values(state, _KINDS)
        try:
            text = _dict(dict(state), 1, ",\n ")
        except _NoLiteralError as error:
            refusal = first_refusal(state, self.name, _objection, cycles=False)
            why = f"an item has no literal, or is nested more than {MAX_DEPTH} deep"
            raise refusal or unstorable(ROOT, why, self.name) from error
        if self._on_subclass:
            for item, value in told:
                self._on_subclass(item, value)
        return text.encode()

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`. No code in the payload runs."""
        try:
            decoded = ast.literal_eval(payload.decode())
        except (ValueError, TypeError, SyntaxError, RecursionError) as error:
            errors.reraise_interrupt(error)
            raise undecodable(self.name, error) from error
        except MemoryError as error:  # The parser's own limit, or the machine's memory.
            errors.reraise_interrupt(error)
            why = "it is nested too deeply, or it needs more memory than there is"
            raise undecodable(self.name, why) from error
        return as_state(decoded, self.name)


class _NoLiteralError(Exception):
    """A value has no literal."""


def _literal(value: Any, depth: int) -> str:
    """Return the literal of a value.

    Args:
        value: The value.
        depth: How deep it is nested, if it is a container; 1 for the state.

    Raises:
        _NoLiteralError: It has none, or holds a value that has none.

    """
    kind = type(value)  # Types are compared by identity: a metaclass may define equality.
    if kind is str or kind is bool or value is None or kind is bytes:
        return repr(value)
    if kind is int or kind is float or kind is complex:
        return _number(value)
    if value is ...:
        return "..."
    if depth > MAX_DEPTH:
        raise _NoLiteralError
    return _container(value, depth)


def _container(value: Any, depth: int) -> str:
    kind = type(value)
    if kind is dict:
        return _dict(value.copy(), depth, ", ")
    if kind is list:
        return f"[{', '.join([_literal(item, depth + 1) for item in value.copy()])}]"
    if kind is tuple:
        items = [_literal(item, depth + 1) for item in value]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if kind is set:
        # A set has another order in each process. An unchanged state needs the same payload.
        items = sorted([_literal(item, depth + 1) for item in value.copy()])
        return f"{{{', '.join(items)}}}" if items else "set()"
    raise _NoLiteralError


def _dict(items: dict[Any, Any], depth: int, separator: str) -> str:
    within = depth + 1
    pairs = [f"{_literal(key, within)}: {_literal(item, within)}" for key, item in items.items()]
    return f"{{{separator.join(pairs)}}}"


def _number(value: Any) -> str:
    if type(value) is float:
        return _float(value)
    if type(value) is complex:
        return _complex(value)
    try:
        return repr(value)
    except ValueError as error:  # See sys.set_int_max_str_digits.
        errors.reraise_interrupt(error)
        raise _NoLiteralError from error


def _float(value: float) -> str:
    if isfinite(value):
        return repr(value)
    if isnan(value):
        raise _NoLiteralError
    return _INFINITE if value > 0 else f"-{_INFINITE}"


def _complex(value: complex) -> str:
    """Return a literal that keeps the signs of zeros, for which there is not always one.

    A literal has an imaginary part only. A real part is added, and 0.0 + -0.0 is 0.0. No
    parentheses: the parser counts them as a level.
    """
    real, imaginary = _float(value.real), _float(abs(value.imag))
    is_negative = copysign(1, value.imag) < 0
    if value.real == 0 and is_negative == (copysign(1, value.real) < 0):
        return f"{'-' if is_negative else ''}{imaginary}j"
    if real == "-0.0" or (is_negative and value.imag == 0):
        raise _NoLiteralError
    return f"{real}{'-' if is_negative else '+'}{imaginary}j"


def _objection(value: Any) -> Objection | None:
    """Return why a value has no literal; of a container, only keys and items of sets count."""
    kind = plain_type(value, _KINDS)
    if kind is not None and type(value) is not kind and type(value) is not bool:
        plain = f"plain {kind.__name__}"
        return Objection(f"{described(value)} would come back as a {plain}", convert(plain))
    if kind is dict or kind is set:
        what = "key" if kind is dict else "its item"
        for key in value.copy():
            if found := _objection_to_key(key):
                return Objection(f"{what} {found.why}", found.action)
    elif kind is not list and kind is not tuple and not _has_literal(value):
        return Objection(f"{described(value)} has no literal")
    return None


def _objection_to_key(key: Any) -> Objection | None:
    """Return why a key, or an item of a set, has no literal."""
    if found := _objection(key):
        return found
    parts = key if is_a(key, tuple) else ()
    for part in parts:
        if found := _objection_to_key(part):
            return Objection(f"{described(key)}: {found.why}", found.action)
    return None


def _has_literal(value: Any) -> bool:
    try:
        _literal(value, 1)
    except _NoLiteralError:
        return False
    return True
