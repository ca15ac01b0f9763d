"""What changed between two states, by path. Pure: plain Python values in, changes and text out.

`differences` walks nested dicts and lists and yields a `Change` for each item that was added,
removed or changed, in the order in which they stand. Two values are the same if they are of one
type and equal, so that ``1``, ``True`` and ``1.0`` differ. Text for a terminal is escaped and cut
to a bounded length here. Knows no stores.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any, Final

Key = str | int | object
Path = tuple[Key, ...]

_PLAIN_KEY: Final = re.compile(r"[^\W\d]\w*", re.ASCII)
_SHOWN: Final = 60  #: Characters of a value in a line.
_ALIGNED: Final = 500  #: Items of a list up to which insertions are looked for.


class Kind(StrEnum):
    """What became of an item."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One item that is not as it was; an item of a list is named by where it is, or was."""

    path: Path
    kind: Kind
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Index:
    """A place in a list, to tell it from the key of a dict."""

    at: int


def differences(old: Any, new: Any) -> Iterator[Change]:
    """Yield what has to be done to `old` to make it `new`; nothing if they are the same.

    >>> for change in differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 5}, "d": [3]}):
    ...     print(line(change))
    a.b: 1 -> 5
    - c: 2
    + d: [3]
    """
    # A stack of iterators, not of calls: a state may be nested deeper than Python recurses.
    stack: list[Iterator[Change | tuple[Path, Any, Any]]] = [iter([((), old, new)])]
    while stack:
        for found in stack[-1]:
            if isinstance(found, Change):
                yield found
            elif inside := _inside(*found):
                stack.append(inside)
                break
            elif not _is_same(found[1], found[2]):
                yield Change(found[0], Kind.CHANGED, found[1], found[2])
        else:
            stack.pop()


def line(change: Change) -> str:
    """Return a change as one line: ``chat.width: 640 -> 800``, ``+ title: 'new'``, ``- x: 1``."""
    path = shown_path(change.path)
    if change.kind is Kind.ADDED:
        return f"+ {path}: {shown(change.new)}"
    if change.kind is Kind.REMOVED:
        return f"- {path}: {shown(change.old)}"
    return f"{path}: {shown(change.old)} -> {shown(change.new)}"


def shown_path(path: Path) -> str:
    """Return a path as it would be typed, with a dot before a key that is a plain word.

    >>> shown_path(("chat", "recent", Index(0), "odd key", 7))
    "chat.recent[0]['odd key'][7]"
    """
    text = ""
    for key in path:
        if isinstance(key, Index):
            text += f"[{key.at}]"
        elif isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
            text += f".{_cut(key)}" if text else _cut(key)
        else:
            text += f"[{shown(key)}]"
    return text or "the state"


def shown(value: Any) -> str:
    """Return a value as a short text without control characters.

    >>> shown({"a": 1, "b": [1, 2]})
    "{'a': 1, 'b': [2 items]}"
    """
    if isinstance(value, dict) and value:
        parts = (f"{_brief(k)}: {_brief(v)}" for k, v in value.items())
        return _listed("{", parts, "}")
    if isinstance(value, list | tuple) and value:
        return _listed("[", (_brief(item) for item in value), "]")
    return _brief(value)


def as_json(change: Change) -> dict[str, Any]:
    """Return a change as plain JSON values; what JSON cannot hold is given as its text."""
    facts: dict[str, Any] = {
        "path": [key.at if isinstance(key, Index) else _jsonable(key) for key in change.path],
        "shown": shown_path(change.path),
        "change": str(change.kind),
    }
    if change.kind is not Kind.ADDED:
        facts["old"] = _jsonable(change.old)
    if change.kind is not Kind.REMOVED:
        facts["new"] = _jsonable(change.new)
    return facts


def summary(old: dict[Any, Any], new: dict[Any, Any]) -> str:
    """Return how many keys were added, removed and changed, at the top: ``+1 -2 ~3``."""
    added = sum(key not in old for key in new)
    removed = sum(key not in new for key in old)
    changed = sum(
        next(differences(old[key], new[key]), None) is not None for key in new if key in old
    )
    counts = (("+", added), ("-", removed), ("~", changed))
    return " ".join(f"{sign}{count}" for sign, count in counts if count) or "="


def _inside(path: Path, old: Any, new: Any) -> Iterator[Change | tuple[Path, Any, Any]] | None:
    """Return what to compare within two dicts or two lists, None if they are neither."""
    if type(old) is type(new) and isinstance(old, dict):
        return _in_dicts(path, old, new)
    if type(old) is type(new) and isinstance(old, list | tuple):
        return _in_lists(path, old, new)
    return None


def _in_dicts(
    path: Path, old: dict[Any, Any], new: dict[Any, Any]
) -> Iterator[Change | tuple[Path, Any, Any]]:
    kept = {(type(key), key) for key in new}
    was = {(type(key), key) for key in old}
    for key, value in old.items():
        if (type(key), key) in kept:
            yield (*path, key), value, new[key]
        else:
            yield Change((*path, key), Kind.REMOVED, old=value)
    for key, value in new.items():
        if (type(key), key) not in was:
            yield Change((*path, key), Kind.ADDED, new=value)


def _in_lists(
    path: Path, old: list[Any] | tuple[Any, ...], new: list[Any] | tuple[Any, ...]
) -> Iterator[Change | tuple[Path, Any, Any]]:
    for low, high, start, end in _stretches(old, new):
        both = min(high - low, end - start)
        for step in range(both):
            yield (*path, Index(start + step)), old[low + step], new[start + step]
        for at in range(low + both, high):
            yield Change((*path, Index(at)), Kind.REMOVED, old=old[at])
        for at in range(start + both, end):
            yield Change((*path, Index(at)), Kind.ADDED, new=new[at])


def _stretches(old: Any, new: Any) -> Iterable[tuple[int, int, int, int]]:
    """Return the stretches of two lists that stand for each other and are not the same."""
    if len(old) == len(new) or max(len(old), len(new)) > _ALIGNED:
        return [(0, len(old), 0, len(new))]
    # Without "junk": an item that is there often is as good as any other.
    matcher = SequenceMatcher(None, _texts(old), _texts(new), autojunk=False)
    return [(a, b, c, d) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]


def _texts(items: Iterable[Any]) -> list[str]:
    """Return a text for each item that is the same for the same items only."""
    texts = []
    for item in items:
        try:
            texts.append(f"{type(item).__name__} {item!r}")
        except RecursionError:
            texts.append(f"{type(item).__name__} at {id(item)}")
    return texts


def _is_same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, float):
        return old == new or (math.isnan(old) and math.isnan(new))
    try:
        return bool(old == new)
    except Exception:  # noqa: BLE001 - an object of a pickle may compare in any way
        return repr(old) == repr(new)


def _listed(opening: str, parts: Iterator[str], closing: str) -> str:
    text, length = [], 0
    for part in parts:
        text.append(part)
        length += len(part) + 2
        if length > _SHOWN:
            break
    more = next(parts, None) is not None
    return opening + _cut(", ".join(text)) + (", ..." if more else "") + closing


def _brief(value: Any) -> str:
    """Return a value as a text, a container as how many items it has."""
    if isinstance(value, dict | list | tuple | set | frozenset) and value:
        count = f"{len(value)} item{'s' if len(value) > 1 else ''}"
        return f"{{{count}}}" if isinstance(value, dict) else f"[{count}]"
    if isinstance(value, str | bytes):
        value = value[: _SHOWN + 1]
    return _cut(_printable(value))


def _printable(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - likewise; and an int may have too many digits to show
        return f"<{type(value).__name__}>"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _jsonable(value: Any) -> Any:
    """Return a value if JSON holds it as it is, else its text, marked as one."""
    if value is None or type(value) in (str, bool, int):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is list:
        return [_jsonable(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _jsonable(item) for key, item in value.items()}
    return {"repr": "".join(itertools.islice(_printable(value), 1000))}
