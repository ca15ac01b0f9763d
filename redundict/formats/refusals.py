"""Refuse a state that a format cannot hold, and a payload that it cannot read.

An error names the item by its path, as a person would write it in Python: `state['a'][3]['b']`.
This module knows no format. Each format says itself what it objects to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from redundict import errors

State = dict[Any, Any]
#: A format calls it with an item's path and the item's value; see `resolve.resolve`.
OnSubclass = Callable[[str, object], None]
ROOT: Final = "state"
#: A state that is nested deeper might not load where the stack is fuller, or on another Python.
MAX_DEPTH: Final = 200


def refuse_first(state: State, format: str, objection: Callable[[object], str]) -> None:
    """Raise for the first item that `objection` speaks against; return if there is none.

    Args:
        state: A state that no other thread is changing.
        format: The format's name, for the message.
        objection: Takes an item and returns why it cannot be stored, or "". It is asked about each
            container, and then about the items in it.

    Raises:
        UnstorableError: An item was objected to, or is nested too deep.

    """
    for path, value, depth in _walk(state):
        why = objection(value)
        if depth > MAX_DEPTH and isinstance(value, dict | list):
            why = TOO_DEEP
        if why:
            raise unstorable(path, why, format)


def _walk(state: State) -> Iterator[tuple[str, object, int]]:
    """Yield each value with its path and depth, a container before the items in it."""
    stack: list[tuple[str, object, int]] = [(ROOT, state, 1)]
    seen: set[int] = set()
    while stack:
        path, value, depth = stack.pop()
        yield path, value, depth
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack += reversed([(f"{path}[{shown(k)}]", v, depth + 1) for k, v in items])


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

TOO_DEEP: Final = f"is nested more than {MAX_DEPTH} deep"
CHANGE: Final = "change that item, or open the store with a format that can hold it"


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
