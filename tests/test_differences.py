"""`differences`: what changed between two states, complete, readable, and safe to print."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundict.cli import differences
from redundict.cli.differences import Change, Index, Kind

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=3))
KEYS = st.one_of(st.text(max_size=2), st.integers(0, 2))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
STATES = st.dictionaries(KEYS, TREES, max_size=4)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are of the same types and equal all through; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            any(type(k) is type(q) and k == q and same(v, w) for q, w in other.items())
            for k, v in one.items()
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or repr(one) == repr(other) == "nan")


def applied(old: Any, changes: list[Change]) -> Any:
    """Return `old` with the changes made: what was removed is named as it stood in the old list,
    all else as it stands in the new one."""
    removed = {c.path[0] for c in changes if len(c.path) == 1 and c.kind is Kind.REMOVED}
    added = [c for c in changes if len(c.path) == 1 and c.kind is Kind.ADDED]
    inside: dict[Any, list[Change]] = {}
    for change in changes:
        if len(change.path) > 1:
            rest = Change(change.path[1:], change.kind, change.old, change.new)
            inside.setdefault(change.path[0], []).append(rest)
    if isinstance(old, list):
        new: Any = [item for at, item in enumerate(old) if Index(at) not in removed]
        for change in added:
            new.insert(change.path[0].at, change.new)
    else:
        gone = {(type(key), key) for key in removed}
        new = {key: item for key, item in old.items() if (type(key), key) not in gone}
        new |= {change.path[0]: change.new for change in added}
    for change in (c for c in changes if len(c.path) == 1 and c.kind is Kind.CHANGED):
        new[getattr(change.path[0], "at", change.path[0])] = change.new
    for key, deeper in inside.items():
        at = getattr(key, "at", key)
        new[at] = applied(new[at], deeper)
    return new


@given(old=STATES, new=STATES)
def test_there_is_no_change_if_and_only_if_the_states_are_the_same(
    old: dict[Any, Any], new: dict[Any, Any]
) -> None:
    """Nothing is overlooked, and nothing is made up, whatever the types."""
    assert (not list(differences.differences(old, new))) == same(old, new)
    assert not list(differences.differences(old, copy.deepcopy(old)))


@given(old=STATES, new=STATES)
def test_the_changes_make_the_old_state_the_new_one(
    old: dict[Any, Any], new: dict[Any, Any]
) -> None:
    """The list of changes is complete: made one by one, they lead to the new state."""
    assert same(applied(old, list(differences.differences(old, new))), new)


@given(items=st.lists(TREES, max_size=8), data=st.data())
def test_the_changes_of_a_list_make_the_old_one_the_new_one(items: list[Any], data: Any) -> None:
    """Whatever is taken out of a list, put in and moved."""
    other = data.draw(st.lists(st.one_of(TREES, *map(st.just, items)), max_size=8))
    found = list(differences.differences({"a": items}, {"a": other}))
    assert same(applied({"a": items}, found), {"a": other})


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"chat": {"width": 640}}, {"chat": {"width": 800}}, ["chat.width: 640 -> 800"]),
        ({"a": 1}, {}, ["- a: 1"]),
        ({}, {"a": "x"}, ["+ a: 'x'"]),
        ({"a": 1}, {"a": True}, ["a: 1 -> True"]),
        ({"a": 1}, {"a": 1.0}, ["a: 1 -> 1.0"]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, ["- a[1]: 2"]),
        ({"a": [1, 3]}, {"a": [1, 2, 3]}, ["+ a[1]: 2"]),
        ({"a": [1, 2, 3]}, {"a": [9, 1, 2]}, ["+ a[0]: 9", "- a[2]: 3"]),
        ({"a": (1, 2)}, {"a": [1, 2]}, ["a: (1, 2) -> [1, 2]"]),
        ({"a": {1}}, {"a": {True}}, ["a: {1} -> {True}"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a[0].b: 1 -> 2"]),
        ({"odd key": 1}, {"odd key": 2}, ["['odd key']: 1 -> 2"]),
        ({"1": 0}, {1: 0}, ["- ['1']: 0", "+ [1]: 0"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["a: {'b': 1} -> [1]"]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
    ],
)
def test_a_change_reads_as_a_person_would_write_it(
    old: dict[Any, Any], new: dict[Any, Any], lines: list[str]
) -> None:
    """The path with dots and brackets, then what was and what is."""
    assert list(map(differences.line, differences.differences(old, new))) == lines


@given(value=TREES, key=st.text(max_size=80))
def test_a_line_is_short_and_cannot_attack_a_terminal(value: Any, key: str) -> None:
    """Whatever stands in a state, its line is bounded and holds printable characters only."""
    for change in differences.differences({}, {key: value, "esc": "\x1b[2J\r\n\u202e"}):
        text = differences.line(change)
        assert text.isprintable()
        assert len(text) < 200


def test_a_huge_value_costs_little() -> None:
    """Abbreviating does not write the whole value out first."""
    huge = {"a": "x" * 50_000_000, "b": list(range(1_000_000))}
    started = time.process_time()  # a busy machine is no failure
    lines = [differences.line(change) for change in differences.differences({}, huge)]
    assert time.process_time() - started < 0.5
    assert all(len(text) < 200 for text in lines)


@pytest.mark.parametrize("at", [0, 50_000, 100_000])
def test_an_item_put_into_a_long_list_is_one_change(at: int) -> None:
    """Wherever it is put among a hundred thousand."""
    old = list(range(100_000))
    new = [*old[:at], -1, *old[at:]]
    (change,) = differences.differences({"a": old}, {"a": new})
    assert change == Change(("a", Index(at)), Kind.ADDED, new=-1)


def test_long_lists_are_compared_in_linear_time() -> None:
    """A hundred thousand items, none where it was, take no quadratic time."""
    old = list(range(100_000))
    started = time.process_time()  # a busy machine is no failure
    found = list(differences.differences({"a": old}, {"a": old[::-1]}))
    assert time.process_time() - started < 5
    assert len(found) == len(old)


def test_depth_does_not_overflow() -> None:
    """States nested deeper than Python recurses are compared."""
    old: Any = 1
    new: Any = 2
    for _ in range(5_000):
        old, new = {"a": old}, {"a": new}
    (change,) = differences.differences({"s": old}, {"s": new})
    assert (change.old, change.new, len(change.path)) == (1, 2, 5_001)
    assert len(differences.line(change)) < 200
    (added,) = differences.differences({}, {"s": old})
    assert json.dumps(differences.as_json(added))


def looped(value: int) -> list[Any]:
    """Return a list that contains itself."""
    found: list[Any] = [value]
    found.append(found)
    return found


def shared(value: int) -> list[Any]:
    """Return a list that holds one thing in 2 ** 60 places."""
    found: list[Any] = [value]
    for _ in range(60):
        found = [found, found]
    return found


@pytest.mark.parametrize("make", [looped, shared])
def test_what_contains_itself_is_compared(make: Any) -> None:
    """A pickle may hold it: the walk comes to an end, and finds what is not the same."""
    assert not list(differences.differences({"a": make(1)}, {"a": make(1)}))
    assert next(differences.differences({"a": make(1)}, {"a": make(2)})).new == 2
    assert differences.summary({"a": make(1)}, {"a": make(2)}) == "~1"


def test_one_thing_in_two_places_is_reported_in_both() -> None:
    """That something was compared before hides no change."""
    old, new = {"x": 1}, {"x": 2}
    found = differences.differences({"a": old, "b": old}, {"a": new, "b": new})
    assert list(map(differences.line, found)) == ["a.x: 1 -> 2", "b.x: 1 -> 2"]


class Grumpy:
    """Compares and shows itself in no way."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "<grumpy>"


class Mute(Grumpy):
    """Not even that."""

    def __repr__(self) -> str:
        raise ValueError


class Point:
    """Shows nothing of what it holds."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "Point"


def test_items_that_look_the_same_are_compared_nonetheless() -> None:
    """What an item shows aligns a list, and decides nothing."""
    found = differences.differences({"a": [Point(1)]}, {"a": [Point(2), 3]})
    assert [change.path[-1] for change in found] == [Index(0), Index(1)]


@pytest.mark.parametrize(
    "value",
    [Mute(), 10**5_000, type("\x1b[2J", (Mute,), {})()],
    ids=["mute", "many digits", "odd name"],
)
def test_what_cannot_be_shown_is_no_error(value: Any) -> None:
    """In a list, in a line and in JSON, nor can its type's name attack a terminal."""
    found = list(differences.differences({"a": [value]}, {"a": [copy.copy(value), value]}))
    assert found[-1].kind is Kind.ADDED
    assert all(differences.line(change).isprintable() for change in found)
    assert json.dumps([differences.as_json(change) for change in found])


def test_what_can_be_neither_compared_nor_shown_has_changed() -> None:
    """A change is made up rather than overlooked."""
    assert list(differences.differences({"a": Mute()}, {"a": Mute()}))


def test_objects_that_do_not_compare_are_told_by_what_they_show() -> None:
    """A pickle may hold anything: it is never an error."""
    assert not list(differences.differences({"a": Grumpy()}, {"a": Grumpy()}))
    (change,) = differences.differences({"a": Grumpy()}, {"a": 1})
    assert differences.line(change) == "a: <grumpy> -> 1"


@given(old=STATES, new=STATES)
def test_as_json_is_json(old: dict[Any, Any], new: dict[Any, Any]) -> None:
    """Whatever changed can be written as strict JSON, and says what happened."""
    for change in differences.differences(old, new):
        facts = differences.as_json(change)
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts
        assert {"old", "new"} & facts.keys()
        assert facts["change"] in set(Kind)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({"a": 1, "b": 1}, {"b": 2, "c": 3, "d": 4}, "+2 -1 ~1"),
        ({"a": 1}, {"a": 1}, "="),
        ({}, {str(n): n for n in range(10)}, "+10"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "~1"),
        ({1: 0}, {True: 0}, "+1 -1"),
    ],
)
def test_a_summary_counts_the_keys_at_the_top(
    old: dict[Any, Any], new: dict[Any, Any], text: str
) -> None:
    """Added, removed and changed, those that are not zero."""
    assert differences.summary(old, new) == text
