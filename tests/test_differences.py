"""`differences`: what changed between two states, complete, readable, and safe to print."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundict import differences
from redundict.differences import Change, Index, Kind

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
    """Return `old` with the changes made to it: removals first, from behind, then the rest."""
    root = [copy.deepcopy(old)]

    def holder(path: tuple[Any, ...]) -> tuple[Any, Any]:
        at: Any = root
        keys: list[Any] = [0, *(k.at if isinstance(k, Index) else k for k in path)]
        for key in keys[:-1]:
            at = at[key]
        return at, keys[-1]

    for change in changes:
        inside, key = holder(change.path)
        if change.kind is Kind.CHANGED:
            inside[key] = copy.deepcopy(change.new)
        elif change.kind is Kind.REMOVED:
            del inside[key]
        elif isinstance(inside, list):
            inside.insert(key, copy.deepcopy(change.new))
        else:
            inside[key] = copy.deepcopy(change.new)
    return root[0]


@given(old=STATES, new=STATES)
def test_there_is_no_change_if_and_only_if_the_states_are_the_same(
    old: dict[Any, Any], new: dict[Any, Any]
) -> None:
    """Nothing is overlooked, and nothing is made up, whatever the types."""
    assert (not list(differences.differences(old, new))) == same(old, new)
    assert not list(differences.differences(old, copy.deepcopy(old)))


DICTS = st.recursive(
    SCALARS, lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=4), max_leaves=12
)


@given(old=st.dictionaries(st.text(max_size=2), DICTS), new=st.dictionaries(st.text(), DICTS))
def test_the_changes_make_the_old_state_the_new_one(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    """The list of changes is complete: made one by one, they lead to the new state."""
    assert same(applied(old, list(differences.differences(old, new))), new)


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
    started = time.perf_counter()
    lines = [differences.line(change) for change in differences.differences({}, huge)]
    assert time.perf_counter() - started < 0.5
    assert all(len(text) < 200 for text in lines)


def test_long_lists_are_compared_in_linear_time() -> None:
    """A hundred thousand items with one inserted in front take no quadratic time."""
    old = list(range(100_000))
    started = time.perf_counter()
    found = list(differences.differences({"a": old}, {"a": [-1, *old]}))
    assert time.perf_counter() - started < 5
    assert found[-1].kind is Kind.ADDED


def test_depth_does_not_overflow() -> None:
    """States nested deeper than Python recurses are compared."""
    old: Any = 1
    new: Any = 2
    for _ in range(5_000):
        old, new = {"a": old}, {"a": new}
    (change,) = differences.differences({"s": old}, {"s": new})
    assert (change.old, change.new, len(change.path)) == (1, 2, 5_001)


class Grumpy:
    """Compares and shows itself in no way."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "<grumpy>"


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
    ],
)
def test_a_summary_counts_the_keys_at_the_top(
    old: dict[str, Any], new: dict[str, Any], text: str
) -> None:
    """Added, removed and changed, those that are not zero."""
    assert differences.summary(old, new) == text
