"""`differences`: what changed between two states, complete, readable, and safe to print."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundict.cli import differences
from redundict.cli.differences import Change, Kind
from redundict.formats.refusals import MAX_DEPTH

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=3))
KEYS = st.text(max_size=2)
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
            key in other and same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # unlike `==`: NaN equals NaN, and 0.0 is not -0.0


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
        new: Any = [item for at, item in enumerate(old) if at not in removed]
        for change in added:
            new.insert(change.path[0], change.new)
    else:
        new = {key: item for key, item in old.items() if key not in removed}
        new |= {change.path[0]: change.new for change in added}
    for change in (c for c in changes if len(c.path) == 1 and c.kind is Kind.CHANGED):
        new[change.path[0]] = change.new
    for key, deeper in inside.items():
        new[key] = applied(new[key], deeper)
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
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a[0].b: 1 -> 2"]),
        ({"odd key": 1}, {"odd key": 2}, ["['odd key']: 1 -> 2"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["a: {'b': 1} -> [1]"]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
        ({"a": 0.0}, {"a": -0.0}, ["a: 0.0 -> -0.0"]),
        ({"a": (1, 2)}, {"a": (1, 3)}, ["a: (1, 2) -> (1, 3)"]),
        ({"a": (1,)}, {"a": (True,)}, ["a: (1,) -> (True,)"]),
        ({"a": ()}, {"a": set()}, ["a: () -> set()"]),
        ({"a": {1}}, {"a": {1.0}}, ["a: {1} -> {1.0}"]),
        ({"a": {"x", "y"}}, {"a": {"y", "x"}}, []),
        ({"a": [(1, [2, 3])]}, {}, ["- a: [(2 items)]"]),
        ({"a": b"x"}, {"a": "x"}, ["a: b'x' -> 'x'"]),
        ({1: "x"}, {True: "x"}, ["- [1]: 'x'", "+ [True]: 'x'"]),
        ({(1, 2): {b"k": 1}}, {(1, 2): {b"k": 2}}, ["[(1, 2)][b'k']: 1 -> 2"]),
        ({None: 1j}, {None: -1j}, ["[None]: 1j -> (-0-1j)"]),
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
    huge = {"a": "x" * 50_000_000, "b": list(range(1_000_000)), "c": tuple(range(1_000_000))}
    huge |= {"d": [set(range(1_000_000))]}
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
    assert change == Change(("a", at), Kind.ADDED, new=-1)


def test_long_lists_are_compared_in_linear_time() -> None:
    """A hundred thousand items, none where it was, take no quadratic time."""
    old = list(range(100_000))
    started = time.process_time()  # a busy machine is no failure
    found = list(differences.differences({"a": old}, {"a": old[::-1]}))
    assert time.process_time() - started < 5
    assert len(found) == len(old)


def nested(leaf: Any, depth: int) -> Any:
    """Return a leaf in `depth` dicts."""
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, 300, 5_000])
def test_depth_does_not_overflow(depth: int) -> None:
    """Another program may nest its JSON deeper than a call can follow."""
    old, new = nested(1, depth), nested(True, depth)
    (change,) = differences.differences(old, new)
    assert change.path == ("a",) * min(depth, MAX_DEPTH)
    assert len(differences.line(change)) < 300
    assert json.dumps(differences.as_json(change))
    assert differences.summary(old, new) == "~1"
    (added,) = differences.differences({}, old)
    assert json.dumps(differences.as_json(added))


def test_the_same_is_the_same_below_the_deepest_level() -> None:
    """What is compared as a whole is no change, either, if it is equal."""
    assert not list(differences.differences(nested(1, 300), nested(1, 300)))


def test_items_that_look_the_same_are_compared_nonetheless() -> None:
    """What an item shows aligns a list, and decides nothing."""
    one, other = ({"b": ["x" * 500 + middle + "x" * 500]} for middle in "yz")
    found = differences.differences({"a": [one]}, {"a": [other, 3]})
    assert [change.path for change in found] == [("a", 0, "b", 0), ("a", 1)]


@given(old=STATES, new=STATES)
def test_as_json_is_json(old: dict[Any, Any], new: dict[Any, Any]) -> None:
    """Whatever changed can be written as strict JSON, and says what happened."""
    for change in differences.differences(old, new):
        facts = differences.as_json(change)
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts
        assert {"old", "new"} & facts.keys()
        assert facts["change"] in set(Kind)


@pytest.mark.parametrize(
    "value", [(1,), {1}, set(), b"x", 1j, ..., {1: 2}, {None: [1]}, [(1,), {"a": {b"k": {2}}}]]
)
def test_what_json_cannot_hold_is_given_as_its_text(value: Any) -> None:
    """A literal may hold it, as a value or in a key."""
    (change,) = differences.differences({}, {(1, "k"): {"a": value}})
    facts = differences.as_json(change)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["path"] == [{"repr": "(1, 'k')"}]
    assert "repr" in json.dumps(facts["new"])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({"a": 1, "b": 1}, {"b": 2, "c": 3, "d": 4}, "+2 -1 ~1"),
        ({"a": 1}, {"a": 1}, "="),
        ({}, {str(n): n for n in range(10)}, "+10"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "~1"),
        ({1: "x"}, {True: "x"}, "+1 -1"),
    ],
)
def test_a_summary_counts_the_keys_at_the_top(
    old: dict[Any, Any], new: dict[Any, Any], text: str
) -> None:
    """Added, removed and changed, those that are not zero."""
    assert differences.summary(old, new) == text


@pytest.mark.parametrize("seed", range(8))
def test_equal_sets_are_the_same_in_every_process(seed: int) -> None:
    """The order of a set depends on its history and on the process, and is no change."""
    program = (
        "from redundict.cli.differences import differences as d;"
        "print([*d({'a': {'x', 'y'}}, {'a': {'y', 'x'}})],"
        " [*d({'a': [{'x', 'y', 'z'}]}, {'a': [{'z', 'y', 'x'}]})])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] []\n"
