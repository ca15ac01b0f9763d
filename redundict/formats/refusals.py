"""Refusals: which item of a state cannot be stored, by its path, and what cannot be read.

What a format cannot give back as it was is refused with the path of the item, so that a person can
find it. Knows no format; each says what it objects to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from redundict import errors

State = dict[Any, Any]
ROOT: Final = "state"
#: What is nested deeper might not load where the stack is fuller, or on another Python.
MAX_DEPTH: Final = 200


def refuse_first(state: State, format: str, objection: Callable[[object], str]) -> None:
    """Raise for the first item that `objection` speaks against; return if there is none."""
    for path, value, depth in _walk(state):
        why = objection(value)
        if depth > MAX_DEPTH and isinstance(value, dict | list):
            why = f"is nested more than {MAX_DEPTH} deep"
        if why:
            raise unstorable(path, why, format)


def _walk(state: State) -> Iterator[tuple[str, object, int]]:
    """Yield each value with its path and depth, a container before what is in it."""
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
    """Return what was decoded; raise `FormatError` if it is no dict."""
    if not isinstance(decoded, dict):
        raise undecodable(format, f"it holds a {type(decoded).__name__}, not a dict")
    return decoded


def described(value: object) -> str:
    """Return a value as a person knows it: cut short, with its type."""
    text = shown(value)
    return f"{text[:60]}{'...' if len(text) > 60 else ''} ({type(value).__name__})"


def shown(value: object) -> str:
    """Return a value's repr, whatever that raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a __repr__ may raise anything, as an int too long does
        return "..."


def undecodable(format: str, why: object) -> errors.FormatError:
    """Return the error for what cannot be read as `format`."""
    if isinstance(why, RecursionError):
        why = "it is nested too deeply"
    elif isinstance(why, Exception):
        why = f"{type(why).__name__}: {why}"
    return errors.FormatError(f"not readable as {format}: {why}")


def unstorable(item: str, why: str, format: str) -> errors.UnstorableError:
    """Return the error for an item that `format` would not give back as it was."""
    return errors.UnstorableError(
        f"{item}: {why}: not storable as {format}",
        safe="nothing was written; the last commit stands",
        action="change that item, or open the store with a format that can hold it",
        item=item,
    )
