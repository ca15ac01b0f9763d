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
        elif len(around) >= MAX_DEPTH and isinstance(value, dict | list | tuple):
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
        if type(value) in (dict, list, tuple):
            return None  # An item in it may be at fault, and comes next.
        try:
            encode(value)
        except Exception as why:  # noqa: BLE001 - An encoder or a __reduce__ may raise anything.
            return Objection(f"{described(value)}: {why}")
        return None

    return first_refusal(state, format, objection) or unstorable(ROOT, f"{error}", format)


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
        if isinstance(value, dict | list | tuple) and place not in seen and place[0] not in around:
            seen.add(place)
            within = around | {id(value): path}
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack += reversed([(f"{path}[{shown(key)}]", item, within) for key, item in items])


def as_state(decoded: object, format: str) -> State:
    """Return what a payload was decoded to; raise `FormatError` if it is no dict."""
    if not isinstance(decoded, dict):
        raise undecodable(format, f"it holds a {type(decoded).__name__}, not a dict")
    return decoded


def described(value: object) -> str:
    """Return a value's repr, at most 60 characters of it, and its type."""
    text = shown(value)
    return f"{text[:60]}{'...' if len(text) > 60 else ''} ({type(value).__name__})"


def shown(value: object) -> str:
    """Return a value's repr, or "..." if it has none."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - A __repr__ may raise anything; that of a long int does.
        return "..."


# --- the sentences of the formats' errors


def undecodable(format: str, why: object) -> errors.FormatError:
    """Return the error for a payload that cannot be read as `format`."""
    if isinstance(why, RecursionError):
        why = "it is nested too deeply"
    elif isinstance(why, Exception):
        why = f"{type(why).__name__}: {why}"
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
