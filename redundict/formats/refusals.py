"""Refuse a state that a format cannot hold, and a payload that it cannot read.

An error names the item by its path, as a person would write it in Python: `state['a'][3]['b']`.
This module knows no format. Each format says itself what it objects to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from redundict import errors

State = dict[Any, Any]
#: A format calls it with an item's path and the item's value; see `resolve.resolve`.
OnSubclass = Callable[[str, object], None]
ROOT: Final = "state"
#: A state that is nested deeper might not load where the stack is fuller, or on another Python.
MAX_DEPTH: Final = 200
CHANGE: Final = "change that item, or open the store with a format that can hold it"


class Objection(NamedTuple):
    """The reason why a format cannot hold an item, and what to do about it."""

    why: str
    action: str = CHANGE


def first_refusal(
    state: State,
    format: str,
    objection: Callable[[object], Objection | None],
    *,
    cycles: bool = True,
) -> errors.UnstorableError | None:
    """Return the error for the first item that `objection` speaks against; None if there is none.

    Args:
        state: A state that no other thread is changing.
        format: The format's name, for the message.
        objection: Takes an item and returns what the format has against it. It is asked about each
            container, and then about the items in it.
        cycles: Whether the format can hold a container that contains itself.

    Returns:
        The error. An item that is nested too deep is objected to in any case.

    """
    for path, value, around in _walk(state):
        found = objection(value)
        if id(value) in around and not cycles:
            found = Objection(f"is {around[id(value)]} again, which so contains itself")
        elif len(around) >= MAX_DEPTH and is_a(value, dict, list, tuple, set):
            found = Objection(f"is nested more than {MAX_DEPTH} deep")
        if found:
            return unstorable(path, found.why, format, found.action)
    return None


def unencodable(
    state: State, format: str, error: Exception, encode: Callable[[Any], object]
) -> errors.UnstorableError:
    """Return the error for a state at which an encoder failed; it names the first item at fault.

    Args:
        state: The state, which no other thread is changing.
        format: The format's name, for the message.
        error: The exception that the encoder raised for the state.
        encode: Takes an item and raises if the format cannot hold it.

    """

    def objection(value: object) -> Objection | None:
        if is_exactly(value, dict, list, tuple):
            return None  # An item in it may be at fault, and comes next.
        try:
            encode(value)
        except Exception as why:  # noqa: BLE001 - An encoder or a __reduce__ may raise anything.
            reraise_foreign(why)
            return Objection(f"{described(value)}: {said(why)}")
        return None

    return first_refusal(state, format, objection) or unstorable(ROOT, said(error), format)


def _walk(state: State) -> Iterator[tuple[str, object, dict[int, str]]]:
    """Yield each value with its path, and the paths of the containers around it, by id.

    A container comes before the items in it.
    """
    stack: list[tuple[str, object, dict[int, str]]] = [(ROOT, state, {})]
    seen: set[tuple[int, int]] = set()  # One container may stand in many places, at several depths.
    while stack:
        path, value, around = stack.pop()
        yield path, value, around
        place = id(value), len(around)
        if is_a(value, dict, list, tuple) and place not in seen and place[0] not in around:
            seen.add(place)
            within = around | {id(value): path}
            stack += [(f"{path}[{shown(key)}]", item, within) for key, item in _items(value)[::-1]]


def _items(container: Any) -> list[tuple[object, object]]:
    """Return the keys or indexes of a dict, list or tuple, each with its item.

    A subclass is not asked, because it may raise. One call makes the list, so no thread comes in
    between.
    """
    if is_a(container, dict):
        return list(dict.items(container))
    kind: Any = list if is_a(container, list) else tuple
    return list(enumerate(kind.__iter__(container)))


def is_a(value: object, *kinds: type) -> bool:
    """Return True if the type of a value is one of some types, or derives from one.

    `isinstance` would ask the value for its `__class__`, which may be another one, or raise.
    """
    return issubclass(type(value), kinds)


def is_exactly(value: object, *kinds: type) -> bool:
    """Return True if the type of a value is one of some types.

    Types are compared by identity, because a metaclass may define equality.
    """
    return any(type(value) is kind for kind in kinds)


def equal(one: Any, other: Any) -> bool | None:
    """Return whether two values are equal, None if their ``==`` does not tell.

    It does not if it raises, if its answer is no truth value (numpy's is an array), or if it only
    compares identities.
    """
    equality: object = type(one).__eq__
    if equality is object.__eq__:
        return None
    try:
        answer = one == other
        return None if hasattr(answer, "__len__") else bool(answer)
    except Exception as error:  # noqa: BLE001 - An __eq__ may raise anything.
        reraise_foreign(error)
        return None


def as_state(decoded: object, format: str) -> State:
    """Return what a payload was decoded to, as a plain dict.

    Raises:
        FormatError: It is no dict.

    """
    if not is_a(decoded, dict):
        raise undecodable(format, f"it holds a {kind_of(decoded)}, not a dict")
    state: Any = decoded
    return state if type(decoded) is dict else dict(dict.items(state))


def described(value: object) -> str:
    """Return a value's repr, at most 60 characters of it, and its type."""
    text = shown(value)
    return f"{text[:60]}{'...' if len(text) > 60 else ''} ({kind_of(value)})"


def kind_of(value: object) -> str:
    """Return the name of a value's type, which a metaclass cannot change."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def shown(value: object) -> str:
    """Return a value's repr, or "..." if it has none."""
    return _text(value, repr)


def said(error: Exception) -> str:
    """Return what an exception says."""
    return error.what if isinstance(error, errors.RedundictError) else _text(error, str)


def _text(value: object, convert: Callable[[object], str]) -> str:
    try:
        return str.__str__(convert(value))  # a plain str, whatever the subclass is
    except Exception as error:  # noqa: BLE001 - a __repr__ may raise anything; a long int's does
        reraise_foreign(error)
        return "..."


def reraise_foreign(error: Exception) -> None:
    """Raise an error again if neither the state nor the payload is at fault (law 15).

    Args:
        error: An error that was caught around an encoder, a decoder or a method of an item.

    Raises:
        Exception: `error`, if a signal handler raised it, or if it is a `MemoryError`.

    """
    if isinstance(error, MemoryError):
        raise error
    errors.reraise_interrupt(error)


# --- the sentences of the formats' errors


def undecodable(format: str, why: object) -> errors.FormatError:
    """Return the error for a payload that cannot be read as `format`."""
    if isinstance(why, RecursionError):
        why = "it is nested too deeply"
    elif isinstance(why, Exception):
        why = f"{type(why).__name__}: {said(why)}"
    return errors.FormatError(f"not readable as {format}: {why}")


def unstorable(item: str, why: str, format: str, action: str = CHANGE) -> errors.UnstorableError:
    """Return the error for an item that `format` would not give back as it was."""
    return errors.UnstorableError(
        f"{item}: {why}: not storable as {format}",
        safe="nothing was written; the last commit stands",
        action=action,
        item=item,
    )


def convert(kind: str, what: str = "item") -> str:
    """Return the action for an item or key that could be stored if it were of another type."""
    return f"convert that {what} to a {kind}, or open the store with a format that can hold it"
