"""`snapshots`: equal to the state, of the same shape, and untouched by whatever follows."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redundict.snapshots import snapshot

TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=15,
)
STATES = st.dictionaries(st.text(max_size=2), TREES)


def empty(value: Any) -> None:
    """Empty every container of a tree."""
    if isinstance(value, dict):
        for inner in value.values():
            empty(inner)
        value.clear()
    elif isinstance(value, list):
        for inner in value:
            empty(inner)
        value.clear()


@given(state=STATES)
def test_a_snapshot_is_equal_and_shares_no_container(state: dict[str, Any]) -> None:
    """Whatever is done to the state afterwards, its snapshot stays as it was."""
    before = copy.deepcopy(state)
    taken = snapshot(state)
    assert taken == before
    empty(state)
    assert taken == before


def test_what_is_shared_or_cyclic_is_so_in_the_copy() -> None:
    """The shape is kept, and a cycle does not hang."""
    inner: list[Any] = [1]
    state: dict[str, Any] = {"a": inner, "b": {"again": inner}}
    state["self"] = state
    taken = snapshot(state)
    assert taken["a"] is taken["b"]["again"]
    assert taken["a"] is not inner
    assert taken["self"] is taken


def test_depth_does_not_overflow() -> None:
    """No recursion: a state may be nested deeper than Python calls."""
    state: dict[str, Any] = {}
    for _ in range(100_000):
        state = {"a": state}
    assert snapshot(state)["a"]["a"] is not state["a"]["a"]


def test_objects_of_other_types_are_taken_as_they_are() -> None:
    """Only plain dicts and lists are copied: what else there is, a format has to refuse or hold."""

    class Special(dict):  # type: ignore[type-arg]
        pass

    special, pair = Special(), ({},)
    taken = snapshot({"s": special, "p": pair})
    assert taken["s"] is special
    assert taken["p"] is pair
