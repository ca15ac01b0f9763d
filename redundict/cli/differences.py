"""What changed between two states, by path. Pure: takes plain Python values, returns changes.

`differences` walks nested dicts and lists, as JSON, CSV and literals hold them. It yields a
`Change` for each item that was added, removed or changed, in the order of the items. Two values or
keys are the same if they have the same type and are equal, so ``1``, ``True`` and ``1.0`` differ.
Values become text for a terminal here, too: escaped by `plain` and of bounded length. Knows no
stores.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any, Final

from redundict.formats.refusals import MAX_DEPTH

Path = tuple[Any, ...]  #: The keys of dicts and the indexes of lists that lead to an item.
Pair = tuple[Any, Any, Any]  #: A key, the old value and the new value.

_PLAIN_KEY: Final = re.compile(r"[^\W\d]\w*", re.ASCII)
_SHOWN: Final = 60  #: The longest text of a value in a line, in characters.
_SHOWN_PATH: Final = 120  #: The longest text of a path, in characters.
_ALIGNED: Final = 500  #: The most items of a list that are aligned. Alignment takes quadratic time.
_ABSENT: Final[Any] = object()
_BRACKETS: Final = {dict: ("{", "}"), set: ("{", "}"), list: ("[", "]"), tuple: ("(", ")")}


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


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[Change]:
    """Yield the changes that turn `old` into `new`; nothing if they are the same.

    Items below `MAX_DEPTH` levels, which only other programs write, are compared as a whole.

    >>> for change in differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 5}, "d": [3]}):
    ...     print(line(change))
    a.b: 1 -> 5
    - c: 2
    + d: [3]
    """
    if type(old) is type(new) and isinstance(old, dict | list) and len(path) < MAX_DEPTH:
        pairs = _in_dicts(old, new) if isinstance(old, dict) else _in_lists(old, new)
        for key, was, now in pairs:
            yield from differences(was, now, (*path, key))
    elif old is _ABSENT:
        yield Change(path, Kind.ADDED, new=new)
    elif new is _ABSENT:
        yield Change(path, Kind.REMOVED, old=old)
    elif not _is_same(old, new):
        yield Change(path, Kind.CHANGED, old, new)


def summary(old: dict[Any, Any], new: dict[Any, Any]) -> str:
    """Return how many keys of the top level were added, removed and changed: ``+1 -2 ~3``."""
    kinds = {
        _name(change.path[0]): change.kind if len(change.path) == 1 else Kind.CHANGED
        for change in differences(old, new)
    }
    counts = Counter(kinds.values())
    signs = {"+": counts[Kind.ADDED], "-": counts[Kind.REMOVED], "~": counts[Kind.CHANGED]}
    return " ".join(f"{sign}{count}" for sign, count in signs.items() if count) or "="


def line(change: Change) -> str:
    """Return a change as one line: ``chat.width: 640 -> 800``, ``+ title: 'new'``, ``- x: 1``."""
    path = shown_path(change.path)
    if change.kind is Kind.ADDED:
        return f"+ {path}: {shown(change.new)}"
    if change.kind is Kind.REMOVED:
        return f"- {path}: {shown(change.old)}"
    return f"{path}: {shown(change.old)} -> {shown(change.new)}"


def as_json(change: Change) -> dict[str, Any]:
    """Return a change as plain JSON values. A value that JSON cannot hold is given as its text."""
    path = [key if type(key) in (str, int) else {"repr": repr(key)} for key in change.path]
    facts: dict[str, Any] = {"path": path, "shown": shown_path(change.path)}
    facts["change"] = str(change.kind)
    if change.kind is not Kind.ADDED:
        facts["old"] = _jsonable(change.old)
    if change.kind is not Kind.REMOVED:
        facts["new"] = _jsonable(change.new)
    return facts


def shown_path(path: Path) -> str:
    """Return a path as a programmer would type it, with a dot before a key that is a plain word.

    >>> shown_path(("chat", "recent", 0, "odd key", "7"))
    "chat.recent[0]['odd key']['7']"
    """
    text = ""
    for key in path:
        if isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
            text += f".{_cut(key)}" if text else _cut(key)
        else:
            text += f"[{shown(key)}]"
    if len(text) > _SHOWN_PATH:  # show where it begins and where it ends
        text = f"{text[: _SHOWN_PATH // 2]}...{text[3 - _SHOWN_PATH // 2 :]}"
    return text


def shown(value: Any) -> str:
    """Return a value as a short text without control characters.

    >>> shown({"a": 1, "b": [1, 2]})
    "{'a': 1, 'b': [2 items]}"
    """
    # More than `_SHOWN` items do not fit.
    if isinstance(value, dict):
        items = itertools.islice(value.items(), _SHOWN)
        return "{" + _cut(", ".join(f"{_brief(key)}: {_brief(item)}" for key, item in items)) + "}"
    if isinstance(value, list | tuple | set) and value:
        opening, closing = _BRACKETS[type(value)]
        ordered = sorted(value, key=_text) if isinstance(value, set) else value
        text = ", ".join(map(_brief, itertools.islice(ordered, _SHOWN)))
        text += "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"{opening}{_cut(text)}{closing}"
    return _brief(value)


def plain(text: str) -> str:
    r"""Return text that is safe for a terminal: what cannot be printed is written as its escape.

    >>> print(plain("line\nfeed"))
    line\nfeed
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _in_dicts(old: dict[Any, Any], new: dict[Any, Any]) -> Iterator[Pair]:
    before, after = ({_name(key): (key, dct[key]) for key in dct} for dct in (old, new))
    for name, (key, _) in (before | after).items():
        yield key, before.get(name, (key, _ABSENT))[1], after.get(name, (key, _ABSENT))[1]


def _name(key: object) -> object:
    """Return what tells a key from others. The keys 1 and True are equal; their texts are not."""
    return key if type(key) is str else (repr(key),)


def _in_lists(old: list[Any], new: list[Any]) -> Iterator[Pair]:
    for low, high, start, end in _stretches(list(map(_looks, old)), list(map(_looks, new))):
        pairs = itertools.zip_longest(old[low:high], new[start:end], fillvalue=_ABSENT)
        for step, (was, now) in enumerate(pairs):
            yield step + (low if now is _ABSENT else start), was, now


def _stretches(old: list[object], new: list[object]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the stretches of two lists that correspond, whether they are the same or not."""
    low = _alike(old, new)
    back = _alike(reversed(old[low:]), reversed(new[low:]))
    high, end = len(old) - back, len(new) - back
    yield 0, low, 0, low
    if max(high, end) - low > _ALIGNED:
        yield low, high, low, end
    else:
        # Without the heuristic for "junk", which ignores items that occur often.
        matcher = SequenceMatcher(None, old[low:high], new[low:end], autojunk=False)
        for _, a, b, c, d in matcher.get_opcodes():
            yield low + a, low + b, low + c, low + d
    yield high, len(old), end, len(new)


def _alike(old: Iterable[object], new: Iterable[object]) -> int:
    """Return how many items at the beginning are equal."""
    return sum(1 for _ in itertools.takewhile(bool, map(operator.eq, old, new)))


_LOOKS: Final = reprlib.Repr()  #: Makes a text of bounded length, at a bounded cost.
_LOOKS.maxlevel, _LOOKS.maxdict, _LOOKS.maxlist, _LOOKS.maxstring = 3, 20, 20, 200


def _looks(item: Any) -> object:
    """Return something that is equal for equal items. Other items may share it: it only aligns."""
    return (type(item), item) if isinstance(item, str | int) else _LOOKS.repr(item)


def _is_same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, str | bytes | int):
        return bool(old == new)
    try:
        return _text(old) == _text(new)  # unlike `==`, it tells 1 from True, and 0.0 from -0.0
    except RecursionError:
        return False  # two values that cannot be compared count as changed


def _text(value: Any) -> str:
    """Return the text of a value; that of a set does not depend on the order of its items."""
    if isinstance(value, set):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join([f'{key!r}: {_text(item)}' for key, item in value.items()])}}}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_text, value))})"
    return repr(value)


def _brief(value: Any) -> str:
    """Return a value as text; of a container, return only how many items it has."""
    if isinstance(value, dict | list | tuple | set) and value:
        opening, closing = _BRACKETS[type(value)]
        return f"{opening}{len(value)} item{'s' * (len(value) > 1)}{closing}"
    if isinstance(value, str | bytes):
        value = value[: _SHOWN + 1]
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _jsonable(value: Any, depth: int = 1) -> Any:
    """Return a value with a text, marked as such, for what JSON cannot hold: NaN, great depth."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    is_plain = isinstance(value, dict) and all(type(key) is str for key in value)
    if not is_plain and not isinstance(value, list):
        return {"repr": repr(value)}
    if depth > MAX_DEPTH:
        return {"repr": _brief(value)}
    if isinstance(value, list):
        return [_jsonable(item, depth + 1) for item in value]
    return {key: _jsonable(item, depth + 1) for key, item in value.items()}
