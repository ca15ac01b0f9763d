"""What changed between two states, by path. Pure: takes plain Python values, returns changes.

`differences` walks nested dicts and lists. It yields a `Change` for each item that was added,
removed or changed, in the order of the items. Two values are the same if they have the same type
and are equal, so ``1``, ``True`` and ``1.0`` differ. Values become text for a terminal here, too:
escaped by `plain` and of bounded length. Knows no stores.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from types import NoneType
from typing import Any, Final

Key = str | int | object
Path = tuple[Key, ...]
Pair = tuple[Key, Any, Any]  #: A key, the old value and the new value.

_PLAIN_KEY: Final = re.compile(r"[^\W\d]\w*", re.ASCII)
_SHOWN: Final = 60  #: The longest text of a value in a line, in characters.
_SHOWN_PATH: Final = 120  #: The longest text of a path, in characters.
_ALIGNED: Final = 500  #: The most items of a list that are aligned. Alignment takes quadratic time.
_JSON_DEPTH: Final = (
    200  #: The deepest level of a value that is given as JSON; deeper ones as text.
)
_JSON_BITS: Final = (
    14_000  #: The longest number that is given as JSON; Python writes no longer one.
)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_ABSENT: Final[Any] = object()
_END: Final = (_ABSENT, None, None)


class Kind(StrEnum):
    """What happened to an item."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One item that changed; of a list, named by its new index, or by the old one if removed."""

    path: Path
    kind: Kind
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Index:
    """A place in a list. A dict may have the same number as a key."""

    at: int


def differences(old: Any, new: Any) -> Iterator[Change]:
    """Yield the changes that turn `old` into `new`; nothing if they are the same.

    >>> for change in differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 5}, "d": [3]}):
    ...     print(line(change))
    a.b: 1 -> 5
    - c: 2
    + d: [3]
    """
    # The stack holds iterators, because a state may be nested deeper than Python can call. A state
    # from a pickle may contain itself, or one object in many places. So a pair of objects is not
    # walked again while it is being compared, or after it was found to be the same.
    path: list[Key] = []
    walked: set[tuple[int, int]] = set()
    pairs: list[tuple[tuple[int, int], int]] = []
    stack: list[Iterator[Pair]] = [iter([((), old, new)])]
    found = 0
    while stack:
        key, was, now = next(stack[-1], _END)
        if key is _ABSENT:
            stack.pop()
            if pairs:
                pair, before = pairs.pop()
                path.pop()
                if found > before:
                    walked.discard(pair)
            continue
        if was is now or (id(was), id(now)) in walked:
            continue
        if inside := _inside(was, now):
            pair = id(was), id(now)
            walked.add(pair)
            pairs.append((pair, found))
            path.append(key)
            stack.append(inside)
        elif not _is_same(was, now):
            found += 1
            # The first key is the root's.
            yield _change((*path, key)[1:], was, now)


def line(change: Change) -> str:
    """Return a change as one line: ``chat.width: 640 -> 800``, ``+ title: 'new'``, ``- x: 1``."""
    path = shown_path(change.path)
    if change.kind is Kind.ADDED:
        return f"+ {path}: {shown(change.new)}"
    if change.kind is Kind.REMOVED:
        return f"- {path}: {shown(change.old)}"
    return f"{path}: {shown(change.old)} -> {shown(change.new)}"


def shown_path(path: Path) -> str:
    """Return a path as a programmer would type it, with a dot before a key that is a plain word.

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
    if len(text) > _SHOWN_PATH:  # show where it begins and where it ends
        text = f"{text[: _SHOWN_PATH // 2]}...{text[3 - _SHOWN_PATH // 2 :]}"
    return text or "the state"


def shown(value: Any) -> str:
    """Return a value as a short text without control characters.

    >>> shown({"a": 1, "b": [1, 2]})
    "{'a': 1, 'b': [2 items]}"
    """
    if not isinstance(value, _CONTAINERS) or not value:
        return _brief(value)
    if isinstance(value, dict):
        return _listed(value, (f"{_brief(k)}: {_brief(v)}" for k, v in value.items()))
    return _listed(value, map(_brief, value))


def as_json(change: Change) -> dict[str, Any]:
    """Return a change as plain JSON values. A value that JSON cannot hold is given as its text."""
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
    """Return how many keys of the top level were added, removed and changed: ``+1 -2 ~3``."""
    added = removed = changed = 0
    for _, was, now in _in_dicts(old, new):
        if was is _ABSENT:
            added += 1
        elif now is _ABSENT:
            removed += 1
        else:
            changed += next(differences(was, now), None) is not None
    counts = (("+", added), ("-", removed), ("~", changed))
    return " ".join(f"{sign}{count}" for sign, count in counts if count) or "="


def _change(path: Path, old: Any, new: Any) -> Change:
    if old is _ABSENT:
        return Change(path, Kind.ADDED, new=new)
    if new is _ABSENT:
        return Change(path, Kind.REMOVED, old=old)
    return Change(path, Kind.CHANGED, old, new)


def _inside(old: Any, new: Any) -> Iterator[Pair] | None:
    """Return the pairs to compare in two dicts or two lists; None if the values are neither."""
    if type(old) is type(new) and isinstance(old, dict):
        return _in_dicts(old, new)
    if type(old) is type(new) and isinstance(old, list | tuple):
        return _in_lists(old, new)
    return None


def _in_dicts(old: dict[Any, Any], new: dict[Any, Any]) -> Iterator[Pair]:
    kept = {(type(key), key) for key in new}
    was = {(type(key), key) for key in old}
    for key, value in old.items():
        yield key, value, new[key] if (type(key), key) in kept else _ABSENT
    for key, value in new.items():
        if (type(key), key) not in was:
            yield key, _ABSENT, value


def _in_lists(old: Sequence[Any], new: Sequence[Any]) -> Iterator[Pair]:
    for low, high, start, end in _stretches(old, new):
        both = min(high - low, end - start)
        for step in range(both):
            yield Index(start + step), old[low + step], new[start + step]
        for at in range(low + both, high):
            yield Index(at), old[at], _ABSENT
        for at in range(start + both, end):
            yield Index(at), _ABSENT, new[at]


def _stretches(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the stretches of two lists that correspond, whether they are the same or not."""
    shorter, low, back = min(len(old), len(new)), 0, 0
    while low < shorter and _looks(old[low]) == _looks(new[low]):
        low += 1
    while back < shorter - low and _looks(old[-1 - back]) == _looks(new[-1 - back]):
        back += 1
    high, end = len(old) - back, len(new) - back
    yield 0, low, 0, low
    if max(high, end) - low > _ALIGNED:
        yield low, high, low, end
    else:
        was, now = list(map(_looks, old[low:high])), list(map(_looks, new[low:end]))
        # Without the heuristic for "junk", which ignores items that occur often.
        for _, a, b, c, d in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
            yield low + a, low + b, low + c, low + d
    yield high, len(old), end, len(new)


_LOOKS: Final = reprlib.Repr()  #: Makes a text of bounded length, at a bounded cost.
_LOOKS.maxlevel, _LOOKS.maxdict, _LOOKS.maxlist, _LOOKS.maxtuple = 3, 20, 20, 20
_LOOKS.maxstring = _LOOKS.maxother = 200


def _looks(item: Any) -> object:
    """Return something that is equal for equal items. Other items may share it: it only aligns."""
    if type(item) in (str, int, bool, NoneType):
        return type(item), item
    try:
        return type(item), _LOOKS.repr(item)
    except Exception:  # noqa: BLE001 - the repr of a pickled object may raise anything
        return type(item)


def _is_same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, float):
        return old == new or (math.isnan(old) and math.isnan(new))
    if isinstance(old, set | frozenset):
        return {(type(item), item) for item in old} == {(type(item), item) for item in new}
    for same in (operator.eq, lambda one, other: repr(one) == repr(other)):
        with contextlib.suppress(Exception):  # a method of a pickled object may raise anything
            return bool(same(old, new))
    return False  # two values that cannot be compared count as changed


def _listed(value: Any, parts: Iterator[str]) -> str:
    opening, closing = _brackets(value)
    text, length = [], 0
    for part in parts:
        text.append(part)
        length += len(part) + 2
        if length > _SHOWN:
            break
    more = next(parts, None) is not None
    return opening + _cut(", ".join(text)) + (", ..." if more else "") + closing


def _brief(value: Any) -> str:
    """Return a value as text; of a container, return only how many items it has."""
    if isinstance(value, _CONTAINERS) and value:
        opening, closing = _brackets(value)
        return f"{opening}{len(value)} item{'s' if len(value) > 1 else ''}{closing}"
    if isinstance(value, str | bytes | bytearray):
        value = value[: _SHOWN + 1]
    return _cut(_repr(value, _SHOWN + 1))


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):
        return "(", ")"
    return ("[", "]") if isinstance(value, list) else ("{", "}")


def _repr(value: Any, limit: int) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - it may raise anything, and an int may have too many digits
        text = f"<{type(value).__name__}>"
    return plain(text[:limit])


def plain(text: str) -> str:
    r"""Return text that is safe for a terminal: what cannot be printed is written as its escape.

    >>> print(plain("line\nfeed"))
    line\nfeed
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Return a value that JSON can hold as it is; of any other, its text, marked as such."""
    if value is None or type(value) in (str, bool):
        return value
    if type(value) is int and value.bit_length() <= _JSON_BITS:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is list and depth < _JSON_DEPTH:
        return [_jsonable(item, depth + 1) for item in value]
    if type(value) is dict and depth < _JSON_DEPTH and all(type(key) is str for key in value):
        return {key: _jsonable(item, depth + 1) for key, item in value.items()}
    return {"repr": _repr(value, 1000)}
